"""Bytes that were made to hurt whoever decodes them, and a judge of what decoding them gives."""

from __future__ import annotations

import dataclasses
import random
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import Any, NamedTuple
from uuid import UUID

import msgpack
import numpy as np
import pyarrow as pa
import pydantic

from perdure.runtime.control import Control, Next, decode_control, encode_control
from perdure.runtime.failures import Failure, decode_failure, encode_failure
from perdure.stores.codec import Codec, Opaque
from perdure.stores.deltas import Delta, apply_deltas, decode_delta, encode_delta
from perdure.stores.encryption import EncryptedVault
from perdure.stores.errors import StoreError
from perdure.stores.keys import Keyring
from perdure.stores.segment_codec import decode_batch, decode_segment, encode_segment
from perdure.stores.segments import Kind, Row
from perdure.stores.vault import PlainVault
from tests.stores.values import (
    ARRAYS,
    ARROW,
    CLASSES,
    CODEC,
    FRAMES,
    LOOSE,
    POLARS,
    SCALARS,
    SERIES,
    Color,
    Frozen,
    Plain,
    Point,
    Right,
)

VIEWER = Codec(opaque=True)
PLACE = ("message", "thread", "id")
VAULT = EncryptedVault(Keyring.generate("k"), allow_plaintext=True)
PLAIN = PlainVault()


class Target(NamedTuple):
    """Something that decodes bytes from a store."""

    decode: Callable[[bytes], Any]
    seeds: tuple[bytes, ...]
    """What it is meant to decode."""


# -- what may come out ---------------------------------------------------------------------------------------------

_ALLOWED = frozenset(
    {
        *(type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range),
        *(datetime, date, time, timedelta, Decimal, Fraction, UUID, Opaque, Delta, Control, Next, Failure, Row),
        *CLASSES,
    }
)
_LIBRARIES = frozenset({"numpy", "pandas", "polars", "pyarrow"})


def judge(value: Any) -> None:
    """Fails where a value, or anything in it, is of a class that was never allowed."""
    todo, seen = [value], 0
    while todo and seen < 20_000:
        seen += 1
        one = todo.pop()
        kind = type(one)
        if kind.__module__.partition(".")[0] in _LIBRARIES or isinstance(one, PurePath | tzinfo):
            continue
        assert kind in _ALLOWED, f"{kind} came out of stored bytes"
        if isinstance(one, Enum):
            continue
        if isinstance(one, dict):
            todo += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            todo += one
        elif isinstance(one, pydantic.BaseModel):
            todo += [one.__dict__, one.__pydantic_extra__, one.__pydantic_private__]
        elif dataclasses.is_dataclass(one):
            todo += [getattr(one, field.name, None) for field in dataclasses.fields(one)]


def attempt(target: Target, data: bytes) -> bool:
    """Whether `data` decodes. Fails by whatever is neither an allowed value nor an error of the stores."""
    try:
        value = target.decode(data)
    except StoreError:
        return False
    judge(value)
    return True


# -- the targets ---------------------------------------------------------------------------------------------------


def _value(encoding: int, codec: Codec = CODEC) -> Callable[[bytes], Any]:
    return lambda data: codec.decode(encoding, data)


def _delta(data: bytes) -> list[Any]:
    delta = decode_delta(CODEC, 0, data)
    changed: list[Any] = [delta]
    for base in ([1, 2, 3], {"a": 1}, {1, "x"}, frozenset({2}), "text", b"bytes", 5):
        try:
            changed.append(apply_deltas(base, [delta, delta]))
        except StoreError:
            continue
    return changed


def sealed(flags: int, size: int, body: bytes) -> bytes:
    """A segment with a right checksum around whatever is in it."""
    rest = struct.pack("<BQ", flags, size) + body
    return b"PRDS" + struct.pack("<BI", 2, zlib.crc32(rest)) + rest


def _segment(data: bytes) -> Any:
    """Of its bytes only flags, size and body are hostile; with a wrong checksum nothing would be looked at."""
    (size,) = struct.unpack("<Q", data[1:9].ljust(8, b"\0"))
    whole = sealed(data[0] if data else 0, size, data[9:])
    try:
        decode_batch(whole)
    except StoreError:
        pass
    thread_id, rows = decode_segment(whole)
    return thread_id, tuple(rows)


_ROWS = [Row(Kind.VALUE, seq, f"channel{seq}", seq, seq - 1, "node", 0, b"payload" * 9) for seq in range(1, 5)]
_CONTROL = Control(1, 7, 0, 1, "loop", 3, 1.5, "v", (Next("a#0", "a", True),), {"j": ("x",)}, {"c": 4}, (("a", "a"),))
RICH = {
    "a": [Plain(Point(1, {2, 3})), LOOSE(a=Color.RED, x=Right.READ), Frozen(Decimal("1.5"))],
    "t": datetime(2020, 1, 1),
    "u": {UUID(int=5): Fraction(1, 3), (1, (2.5,)): 2**80},
    "n": np.arange(4),
    "s": np.float32(1),
    "p": pa.array([1, 2]),
}


def _targets() -> Mapping[str, Target]:
    payloads: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    for value in (RICH, list(RICH.items()), *SCALARS, *ARRAYS, *FRAMES, *SERIES, *POLARS, *ARROW):
        encoding, payload = CODEC.encode(value)
        payloads[encoding].append(payload)
    rows = (encode_segment("thread", _ROWS), encode_segment("thread", []), encode_segment("t", _ROWS[:1]))
    deltas = [Delta(0, [1, "x"]), Delta(1, [{"b": 2}, ["a"]]), Delta(2, {7}), Delta(3, "more"), Delta(4, 2**70)]
    deltas.append(Delta(5, [[(0, "new")], [1], ["last"]]))
    return {
        **{f"value {encoding}": Target(_value(encoding), tuple(seeds)) for encoding, seeds in payloads.items()},
        "opaque": Target(_value(0, VIEWER), tuple(payloads[0])),
        "delta": Target(_delta, tuple(encode_delta(CODEC, each)[1] for each in deltas)),
        "segment": Target(_segment, tuple(data[9:] for data in rows)),
        "control": Target(lambda data: decode_control(data, "here"), (encode_control(_CONTROL),)),
        "failure": Target(decode_failure, (encode_failure(Failure(type="T", message="m", traceback="t" * 40)),)),
        "encrypted": Target(lambda data: bytes(VAULT.open(PLACE, data)), (VAULT.seal(PLACE, b"data" * 9),)),
        "plain": Target(lambda data: bytes(PLAIN.open(PLACE, data)), (PLAIN.seal(PLACE, b"data" * 9),)),
    }


TARGETS = _targets()


# -- mutations -----------------------------------------------------------------------------------------------------

_LENGTHS = (b"\xdd\x7f\xff\xff\xff", b"\xdf\x00\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xff" * 8, b"\xff\xff\xff\x7f")


def mutated(luck: random.Random, data: bytes, other: bytes) -> bytes:
    """`data` with bits flipped, parts cut out, doubled, replaced by parts of `other`, or lengths blown up."""
    changed = bytearray(data)
    for _ in range(luck.randint(1, 4)):
        at = luck.randrange(len(changed) + 1)
        match luck.randrange(8):
            case 0 | 1 if changed:
                changed[at % len(changed)] = luck.choice([0, 1, 0x7F, 0x80, 0xFF, luck.randrange(256)])
            case 2 if changed:
                changed[at % len(changed)] ^= 1 << luck.randrange(8)
            case 3:
                del changed[at : at + luck.randint(1, 16)]
            case 4:
                changed[at:at] = changed[at : at + luck.randint(1, 16)]
            case 5:
                start = luck.randrange(len(other) + 1)
                part = other[start : start + luck.randint(1, 200)]
                changed[at : at + (len(part) if luck.random() < 0.5 else 0)] = part
            case 6:
                part = luck.choice(_LENGTHS)
                changed[at : at + len(part)] = part
            case _:
                number = struct.pack("<q", luck.choice([-1, 0, 2**31 - 1, 2**40, -(2**63), luck.randrange(2**20)]))
                at -= at % 8
                changed[at : at + 8] = number
    return bytes(changed)


def mutations(luck: random.Random, rounds: int) -> Iterator[tuple[str, bytes]]:
    """So many (name of a target, bytes for it)."""
    names = list(TARGETS)
    everything = [seed for target in TARGETS.values() for seed in target.seeds]
    for _ in range(rounds):
        name = luck.choice(names)
        yield name, mutated(luck, luck.choice(TARGETS[name].seeds), luck.choice(everything))


# -- bombs ---------------------------------------------------------------------------------------------------------


def ipc(array: Any, kind: bytes, facts: object = None, **options: Any) -> bytes:
    """A stream that claims to be a value of `kind`; `array` may be a list of batches' columns."""
    arrays = array if isinstance(array, list) else [array]
    schema = pa.schema([("value", arrays[0].type)])
    name = {} if facts is None else {b"perdure.name": CODEC.encode(facts)[1]}
    schema = schema.with_metadata({b"perdure.kind": kind, **name})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for one in arrays:
            writer.write_batch(pa.RecordBatch.from_arrays([one], schema=schema))
    return bytes(sink.getvalue())


def numpy_payload(described: object, shape: object, body: bytes = b"") -> bytes:
    """A numpy array's header and bytes, whatever they say."""
    header: bytes = msgpack.packb([described, shape, False])
    head = struct.pack("<I", len(header)) + header
    return head + bytes(-len(head) % 64) + body


def _ext(code: int, data: bytes = b"") -> msgpack.ExtType:
    return msgpack.ExtType(code, data)


def _deep(opening: bytes, depth: int = 200_000) -> bytes:
    return opening * depth


def _many_views(kind: pa.DataType, count: int, text: bytes) -> Any:
    views = struct.pack("<i4sii", len(text), text[:4], 0, 0) * count
    return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(views), pa.py_buffer(text)])


def _expanding_arrays() -> Iterator[tuple[str, Any]]:
    """Few bytes that become many where each cell gets a copy of what it refers to."""
    count, text = 20_000, b"x" * 200_000
    zeros = pa.array([0] * count, pa.int32())
    words = pa.DictionaryArray.from_arrays(zeros, pa.array([text.decode()]))
    inner = pa.array(range(50_000), pa.int32())
    yield "string views", _many_views(pa.string_view(), count, text)
    yield "binary views", _many_views(pa.binary_view(), count, text)
    yield "words", words
    yield "lists of words", pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), words)
    list_view: Any = pa.ListViewArray
    yield "list views", list_view.from_arrays(zeros, pa.array([len(inner)] * count, pa.int32()), inner)
    yield "dictionary of lists", pa.DictionaryArray.from_arrays(zeros, pa.array([inner.to_pylist()]))
    yield "runs", pa.RunEndEncodedArray.from_arrays(pa.array([count], pa.int32()), pa.array([text.decode()]))
    yield "runs of nothing", pa.RunEndEncodedArray.from_arrays(pa.array([2**31 - 1], pa.int32()), pa.nulls(1))
    yield "nulls", pa.nulls(2**31 - 1)
    yield "batches of nulls", [pa.nulls(1 << 23)] * 500
    unions = pa.UnionArray.from_dense(pa.array([0] * count, pa.int8()), zeros, [pa.array([text.decode()])])
    yield "unions", unions
    yield "no width", pa.Array.from_buffers(pa.binary(0), 2**31 - 1, [None, pa.py_buffer(b"")])
    empty = pa.Array.from_buffers(pa.list_(pa.null(), 2**30), 1, [None], children=[pa.nulls(2**30)])
    yield "wide rows", empty


def _bent(kind: bytes, facts: object) -> Iterator[tuple[str, bytes]]:
    """Sound arrays of which the numbers were then made to point outside."""
    numbers = pa.array([71, 72, 73])
    words = pa.DictionaryArray.from_arrays(pa.array([0, 1, 1, 0], pa.int32()), pa.array(["a", "b"]))
    runs: Any = pa.RunEndEncodedArray.from_arrays(pa.array([3, 7], pa.int32()), pa.array([1, 2]))
    tags = pa.array([0, 1, 1], pa.int8())
    unions = pa.UnionArray.from_dense(tags, pa.array([0, 0, 1], pa.int32()), [numbers, numbers])
    view = struct.pack("<i4sii", 20, b"abcd", 0, 3)
    views = pa.Array.from_buffers(pa.string_view(), 1, [None, pa.py_buffer(view), pa.py_buffer(b"abcabcd" * 9)])
    bent: tuple[tuple[str, Any, bytes, bytes], ...] = (
        *(
            (f"{name} to {end}", array, struct.pack("<3i", 0, 2, 3), struct.pack("<3i", 0, end, end))
            for name, array in (
                ("texts", pa.array(["ab", "c"])),
                ("lists", pa.ListArray.from_arrays(pa.array([0, 2, 3], pa.int32()), numbers)),
            )
            for end in (2**31 - 1, -5, 1 << 20)
        ),
        ("words", words, struct.pack("<4i", 0, 1, 1, 0), struct.pack("<4i", 2**31 - 1, -7, 5, 2)),
        ("runs back", runs, struct.pack("<2i", 3, 7), struct.pack("<2i", 7, 3)),
        ("runs to nowhere", runs, struct.pack("<2i", 3, 7), struct.pack("<2i", 3, 2**31 - 1)),
        ("tags", unions, b"\0\1\1", b"\0\x7f\x80"),
        ("places", unions, struct.pack("<3i", 0, 0, 1), struct.pack("<3i", 0, -1, 2**31 - 1)),
        ("views", views, view, struct.pack("<i4sii", 2**30, b"abcd", 9, 2**30)),
        ("negative views", views, view, struct.pack("<i4sii", -20, b"abcd", -1, -3)),
        ("invalid text", pa.array(["ab", "c"]), b"abc", b"\xff\xfe\xc0"),
        (
            "dates",
            pa.array([71, 72], pa.timestamp("s")),
            struct.pack("<2q", 71, 72),
            struct.pack("<2q", 2**62, -(2**63)),
        ),
        ("zone", pa.array([1], pa.timestamp("s", "Europe/Paris")), b"Europe/Paris", b"../../etc/pw"),
    )
    for name, array, sound, hostile in bent:
        payload = ipc(array, kind, facts)
        assert sound in payload, f"{name}: nothing was bent"
        yield name, payload.replace(sound, hostile)


def bombs() -> Iterator[tuple[str, str, bytes]]:
    """(name, target, bytes)."""
    for opening in (b"\x91", b"\x81", b"\x81\xa1a", b"\xdc\x00\x01", b"\x92\xc7\x00\x01", b"\xdd\x00\x00\x00\x01"):
        for name in ("value 0", "opaque", "delta", "control", "failure"):
            yield f"deep {opening!r}", name, _deep(opening)
    control = msgpack.unpackb(encode_control(_CONTROL))
    for place in range(len(control) + 1):
        for hostile in (b"\xdd\x7f\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", _deep(b"\x91"), b"\xa2\xff\xfe", b"\xc1"):
            fields = [msgpack.packb(field) for field in control]
            fields[place : place + 1] = [hostile]
            yield f"control {place}", "control", bytes([0x90 + len(fields)]) + b"".join(fields)
    yield "failure of no text", "failure", b"\x82\xa4type\xa2\xff\xfe\xa7message\xa1a"
    yield "failure with a deep stranger", "failure", b"\x83\xa4type\xa1a\xa7message\xa1a\xa1z" + _deep(b"\x91")
    for opening in (
        b"\xdd\x7f\xff\xff\xff",
        b"\xdf\x7f\xff\xff\xff",
        b"\xdd\x00\x0f\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
    ):
        for name in ("value 0", "delta", "control", "failure"):
            yield f"announced {opening!r}", name, opening * 20_000
    prime, luck = 2**61 - 1, random.Random(5)
    numbers = [_ext(32, (index * prime).to_bytes(12, "big")) for index in range(1, 60_000)]
    yield "colliding set", "value 0", msgpack.packb([_ext(2), *numbers])
    yield "colliding frozenset", "value 0", msgpack.packb([_ext(3), *numbers])
    pairs = b"".join(msgpack.packb(number) + b"\x00" for number in numbers)
    yield "colliding dict", "value 0", b"\xdf" + struct.pack(">I", len(numbers)) + pairs
    yield (
        "slow fraction",
        "value 0",
        msgpack.packb([_ext(4), _ext(32, b"\1" + luck.randbytes(400_000)), _ext(32, b"\1" + luck.randbytes(400_000))]),
    )
    yield "long decimal", "value 0", msgpack.packb([_ext(2), _ext(40, b"9" * 2_000_000)])
    yield "large decimal", "value 0", msgpack.packb([_ext(2), _ext(40, b"1E999999999999999999")])
    yield "endless range", "value 0", msgpack.packb([_ext(5), 0, 2**63, 1])
    yield "timestamp", "value 0", msgpack.packb(msgpack.Timestamp(2**33, 5))
    yield "zone of another folder", "value 0", msgpack.packb(_ext(39, b"Z../../../etc/passwd"))
    yield "zone that is a folder", "value 0", msgpack.packb(_ext(39, b"ZEurope"))
    for described, shape in (
        ("<U0", [2**60]),
        ("|V0", [2**40]),
        ("<i8", [2**62, 2**62]),
        ("<i8", [-1]),
        ("<i8", [0] * 65),
        (["<i1", [2**40]], [0]),
        ("O", [1]),
        ([["O", [1]], [1]], [1]),
        ("i4," * 50_000, [0]),
    ):
        yield f"numpy {str(described)[:9]} {str(shape)[:9]}", "value 2", numpy_payload(described, shape, bytes(8))
    nested: Any = "<i1"
    for _ in range(900):
        nested = [nested, [1]]
    yield "numpy nested", "value 2", numpy_payload(nested, [1], b"\0")
    for name, array in _expanding_arrays():
        for kind, facts in _KINDS:
            yield f"expanding {name} as {kind!r}", "value 1", ipc(array, kind, facts)
    for kind, facts in _KINDS:
        for name, payload in _bent(kind, facts):
            yield f"bent {name} as {kind!r}", "value 1", payload
    for compression in ("zstd", "lz4"):
        yield f"Arrow {compression}", "value 1", ipc(pa.array(np.zeros(5_000_000)), b"array", compression=compression)
    yield "columns again and again", "value 1", ipc(pa.array(["x"]), b"pandas.frame", [None, [0] * 100_000])
    body = pa.compress(bytes(1 << 20), "zstd", asbytes=True)
    for size in (2**62, 2**31 - 1, 1 << 22, (1 << 20) - 1, 0):
        yield f"segment of {size}", "segment", b"\x01" + struct.pack("<Q", size) + body
    yield (
        "zstd of nothing but zeros",
        "segment",
        b"\x01" + struct.pack("<Q", 1 << 26) + pa.compress(bytes(1 << 26), "zstd", asbytes=True),
    )


_KINDS: tuple[tuple[bytes, object], ...] = (
    (b"array", None),
    (b"chunked", None),
    (b"table", None),
    (b"pandas.frame", [None, []]),
    (b"pandas.frame", [None, [0]]),
    (b"pandas.series", ["name", [0]]),
    (b"polars.frame", None),
)
