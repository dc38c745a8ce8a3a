"""Damaged and hostile bytes end in `Corrupt` or `DisallowedType`: no crash, no hang, no claim on memory."""

from __future__ import annotations

import struct
import time as clock
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from perdure.stores.codec import Codec, Encoding
from perdure.stores.errors import Corrupt, DisallowedType, Unencodable
from tests.stores.values import (
    ARRAYS,
    ARROW,
    CLASSES,
    CODEC,
    FRAMES,
    LOOSE,
    POLARS,
    SERIES,
    Color,
    Frozen,
    Plain,
    Point,
    Right,
)


def attempt(encoding: int, payload: bytes) -> None:
    for codec in (CODEC, Codec(opaque=True)):
        try:
            value = codec.decode(encoding, payload)
        except (Corrupt, DisallowedType):
            continue
        assert "Marker(" not in _shown(value)


def _shown(value: Any) -> str:
    try:
        return repr(value)[:10_000]
    except (Exception, pl.exceptions.PanicException):
        return ""  # such as a date in the year 100,000: Arrow holds it, Python does not


@given(st.sampled_from([*Encoding, 9]), st.binary(max_size=200))
@settings(deadline=None, max_examples=500)
@example(0, b"\xc7\x00\x01")
@example(0, b"\x92\x01\xc7\x00\x01")
@example(0, b"\x92\xc7\x00\x01\xc7\x00\x02")
@example(0, b"\x81\xc7\x00\x01\x01")
def test_arbitrary_bytes(encoding: int, payload: bytes) -> None:
    attempt(encoding, payload)


LEAVES = st.builds(msgpack.ExtType, st.integers(0, 46), st.binary(max_size=20))
MARKS = st.integers(1, 11).map(lambda code: msgpack.ExtType(code, b""))
NAMES = st.sampled_from([f"{cls.__module__}:{cls.__qualname__}" for cls in CLASSES])
TREES = st.recursive(
    st.one_of(st.none(), st.integers(-5, 5), st.text(max_size=4), st.binary(max_size=9), LEAVES, MARKS, NAMES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(MARKS, inner, inner).map(list),
        st.tuples(
            MARKS, NAMES, st.dictionaries(st.sampled_from(["a", "b", "n", "x", "__class__", "__dict__"]), inner)
        ).map(list),
        st.tuples(MARKS, NAMES, st.dictionaries(st.text(max_size=2), inner), inner, inner, inner).map(list),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
    max_leaves=10,
)


@given(TREES)
@settings(deadline=None, max_examples=600, suppress_health_check=[HealthCheck.too_slow])
def test_well_formed_nonsense(tree: Any) -> None:
    attempt(0, msgpack.packb(tree))


RICH = {
    "a": [Plain(Point(1, {2, 3})), LOOSE(a=Color.RED, x=Right.READ), Frozen(Decimal("1.5"))],
    "t": datetime(2020, 1, 1, tzinfo=ZoneInfo("Europe/Paris")),
    "u": UUID(int=5),
    "n": np.arange(4),
    "s": np.float32(1),
    "p": pa.array([1, 2]),
}


@pytest.fixture(scope="module")
def seeds() -> list[tuple[int, bytes]]:
    return [CODEC.encode(value) for value in (RICH, *ARRAYS, *FRAMES, *SERIES, *POLARS, *ARROW)]


def test_cut_short(seeds: list[tuple[int, bytes]]) -> None:
    for encoding, payload in seeds[:4]:
        for end in range(0, len(payload), 1 + len(payload) // 300):
            with pytest.raises(Corrupt):
                CODEC.decode(encoding, payload[:end])
    with pytest.raises(Corrupt):
        CODEC.decode(0, CODEC.encode(RICH)[1] + b"\0")


@pytest.mark.parametrize(
    "payload",
    [
        b"\xdd\x7f\xff\xff\xff" * 1000,
        b"\xdd\x00\x0f\xff\xff" * 200_000,
        b"\xdf\x7f\xff\xff\xff" * 1000,
        b"\x91" * 5_000_000,
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x92" * 900 + b"\x01" * 10,
    ],
    ids=["arrays", "many arrays", "maps", "deep", "str", "ext", "short"],
)
def test_announced_sizes_claim_no_memory(payload: bytes) -> None:
    start = clock.monotonic()
    with pytest.raises(Corrupt):
        CODEC.decode(0, payload)
    assert clock.monotonic() - start < 2


def ipc(batch: pa.RecordBatch, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def test_compressed_arrow_bodies_are_refused() -> None:
    """A hundred bytes of zstd could become any number of gigabytes."""
    kind = {"perdure.kind": "batch"}
    batch = pa.record_batch({"a": pa.array(np.zeros(100_000))}).replace_schema_metadata(kind)
    assert isinstance(CODEC.decode(1, ipc(batch)), pa.RecordBatch)
    words = pa.record_batch({"a": pa.array(["x" * 1000] * 9).dictionary_encode()}).replace_schema_metadata(kind)
    for each in (batch, words):
        with pytest.raises(Corrupt, match="compressed"):
            CODEC.decode(1, ipc(each, compression="zstd"))


def test_rows_without_bytes_are_bounded() -> None:
    nulls = pa.Array.from_buffers(pa.null(), 2**31 - 1, [None])
    arrays: list[Any] = [
        nulls,
        pa.RunEndEncodedArray.from_arrays(pa.array([2**31 - 1], pa.int64()), pa.array([1])),
        pa.StructArray.from_arrays([nulls], ["x"]),
    ]
    for array in arrays:
        with pytest.raises(Unencodable, match="claims"):
            CODEC.encode([array])
        batch = pa.record_batch({"value": array}).replace_schema_metadata({"perdure.kind": "array"})
        with pytest.raises(Corrupt, match="claims"):
            CODEC.decode(1, ipc(batch))


def test_an_array_of_pointers_is_never_made() -> None:
    for described in (
        "O",
        [["O"], [2]],
        {"names": ["a"], "formats": ["O"], "offsets": [0], "itemsize": 8, "aligned": False},
    ):
        header = msgpack.packb([described, [1], False])
        payload = struct.pack("<I", len(header)) + header
        payload += bytes(-len(payload) % 64) + b"A" * 8
        with pytest.raises(Corrupt):
            CODEC.decode(Encoding.NUMPY, payload)
