"""Rows: what a commit is made of, and the segment of bytes that the rows of one commit are kept as.

A segment is one Arrow record batch in Arrow's IPC form, without its schema, behind a small header:

    magic "PRDS" | version u8 | CRC-32 of all that follows | flags u8 | size of the batch before compression u64 | batch

A commit writes one, most often of a single small row, and building ten Arrow arrays took longer than all the rest.
As the schema never changes, neither does the batch's metadata but for its numbers, so it is put together here (and
taken apart, with every number checked); `decode_batch` leaves that to Arrow.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from enum import IntEnum
from itertools import accumulate, pairwise, repeat
from operator import add
from typing import Any, NamedTuple

import pyarrow as pa

from .errors import Corrupt, NewerFormat, StoreMisuse


class Kind(IntEnum):
    """What a row holds. Numbers are stored: never reuse one."""

    CHECKPOINT = 0
    """A checkpoint's control record (step, run, next tasks, versions of the channels)."""
    VALUE = 1
    """A channel's whole value."""
    DELTA = 2
    """A closed operation on the channel's value at version `prev`."""
    SNAPSHOT = 3
    """A channel's whole value, written where a delta would have done, so that reads stay short."""
    WRITE = 4
    """What a node returned for a channel, where the channel's own row does not tell it."""
    SEND = 5
    """The argument of a task that is still to run; `channel` is the task's path."""
    RESULT = 6
    """The result of one task of an unfinished step; `channel` is the task's path."""
    INTERRUPT = 7
    """The interrupts at which a task stopped; `channel` is the task's path."""
    ANSWER = 8
    """Answers that a task's interrupts were given; `channel` is the task's path."""
    PASS = 9
    """A static breakpoint was passed."""
    OPTIONS = 10
    """Options of the run, where a resume changed them."""


class Row(NamedTuple):
    """One row of a commit."""

    kind: int
    checkpoint: int
    """Seq of the commit that wrote it."""
    channel: str
    version: int
    """Seq at which the channel got this value; for other kinds, that of the checkpoint they belong to."""
    prev: int
    """For a delta: version of the value that it changes. Otherwise the channel's version before, 0 for none."""
    writer: str
    """Path of the task that wrote it, empty for the engine itself."""
    encoding: int
    """How the payload is encoded (codec.Encoding)."""
    payload: bytes
    namespace: str = ""
    """Empty for the root graph; subgraphs will have theirs."""


_FIELDS: tuple[tuple[str, pa.DataType], ...] = (
    ("thread", pa.utf8()),
    ("namespace", pa.utf8()),
    ("checkpoint", pa.int64()),
    ("channel", pa.utf8()),
    ("version", pa.int64()),
    ("prev", pa.int64()),
    ("kind", pa.uint8()),
    ("writer", pa.utf8()),
    ("encoding", pa.uint8()),
    ("payload", pa.binary()),
)
SCHEMA = pa.schema([pa.field(name, kind, nullable=False) for name, kind in _FIELDS])
"""Columns of a segment. Part of format 1."""

VERSION = 1
MAX_SIZE = (1 << 31) - 1
"""Bytes of a segment before compression."""

_MAGIC = b"PRDS"
_HEAD = struct.Struct("<4sBI")
_BODY_HEAD = struct.Struct("<BQ")
_START = _HEAD.size + _BODY_HEAD.size
_ZSTD = 1
_COMPRESS_FROM = 512
_PACKER = pa.Codec("zstd", compression_level=1)
"""Holds no state between calls; to make one costs as much as to compress a small commit."""
_MAX_RATIO = 1 << 16
"""zstd packs 128 KiB into no less than four bytes."""

# Arrow's flatbuffer for a record batch (Arrow's Message.fbs): the Message table, its RecordBatch table, then the two
# vectors of numbers. All positions are fixed by the schema.
_COLUMNS = 10
_BUFFERS = 25
_MESSAGE = struct.Struct(
    "<iI"  # continuation, length of the flatbuffer
    "I6H"  # root table at 16; its vtable: sizes 12 and 20; version at 16, type at 18, header at 4, body length at 8
    "iIqhBx"  # root: back to the vtable, header at 48, body length, metadata version V5, RecordBatch
    "5H2x"  # vtable of the batch: sizes 10 and 20; length at 8, nodes at 4, buffers at 16
    "iIqI8x"  # batch: back to the vtable, nodes, rows, buffers
    f"I{2 * _COLUMNS}q"  # nodes: (rows, nulls)
    f"4xI{2 * _BUFFERS}q"  # buffers: (offset, length)
)
_ROOT = (-1, _MESSAGE.size - 8, 16, 12, 20, 16, 18, 4, 8, 12, 28)
_VALIDITY = frozenset({0, 3, 6, 8, 11, 13, 15, 17, 20, 22})
"""Which buffers would tell nulls apart; always empty."""
_BATCH = (4, 3, 10, 20, 8, 4, 16, 12, 24)


def encode_segment(thread_id: str, rows: Sequence[Row]) -> bytes:
    """The segment of a commit's rows. Raises `StoreMisuse` if it exceeds 2 GiB or a number is out of its range."""
    try:
        raw = _encode_batch(thread_id, rows)
    except (struct.error, ValueError, OverflowError) as error:
        raise StoreMisuse(f"thread {thread_id!r}: a row cannot be stored: {error}") from error
    size, flags = len(raw), 0
    if size > MAX_SIZE:
        raise StoreMisuse(
            f"thread {thread_id!r}: one commit holds {size} bytes, more than the {MAX_SIZE} that fit; keep data of "
            "this size in files or object storage and its address in the state"
        )
    if size >= _COMPRESS_FROM:
        packed = _PACKER.compress(raw, asbytes=True)
        if len(packed) < size:
            raw, flags = packed, _ZSTD
    head = _BODY_HEAD.pack(flags, size)
    return b"".join((_HEAD.pack(_MAGIC, VERSION, zlib.crc32(raw, zlib.crc32(head))), head, raw))


def decode_segment(data: bytes | memoryview) -> tuple[str, tuple[Row, ...]]:
    """Thread id and rows of a segment. Raises `Corrupt`, `NewerFormat`."""
    raw = _open(data)
    try:
        return _decode_batch(raw)
    except (struct.error, ValueError, IndexError) as error:
        raise Corrupt(f"a stored segment does not decode: {error}") from error


def decode_batch(data: bytes | memoryview) -> pa.RecordBatch:
    """A segment as an Arrow batch of `SCHEMA`, on the segment's own bytes unless they were compressed.

    Raises `Corrupt`, `NewerFormat`.
    """
    raw = _open(data)
    try:
        batch = pa.ipc.read_record_batch(pa.py_buffer(raw), SCHEMA)
        batch.validate(full=True)
    except (pa.ArrowException, ValueError, OSError, EOFError) as error:
        raise Corrupt(f"a stored segment does not decode: {error}") from error
    return batch


def _open(data: bytes | memoryview) -> memoryview:
    """The batch inside a segment, checked and decompressed."""
    view = memoryview(data)
    if len(view) < _START or view[:4] != _MAGIC:
        raise Corrupt("this is not a stored segment, or only the beginning of one")
    _, version, checksum = _HEAD.unpack_from(view)
    if version > VERSION:
        raise NewerFormat(
            f"a stored segment has format {version}, this Perdure reads up to {VERSION}; upgrade perdure to read it"
        )
    if version != VERSION or zlib.crc32(view[_HEAD.size :]) != checksum:
        raise Corrupt("a stored segment is damaged: its checksum does not match")
    flags, size = _BODY_HEAD.unpack_from(view, _HEAD.size)
    body = view[_START:]
    if flags == 0 and size == len(body):
        return body
    if flags != _ZSTD or size > min(MAX_SIZE, len(body) * _MAX_RATIO):
        raise Corrupt("a stored segment is damaged: its size cannot be")
    try:
        raw = _PACKER.decompress(body, decompressed_size=size, asbytes=True)
    except (pa.ArrowException, OSError) as error:
        raise Corrupt(f"a stored segment does not decompress: {error}") from error
    return memoryview(raw)


def _encode_batch(thread_id: str, rows: Sequence[Row]) -> bytes:
    count = len(rows)
    columns: Iterable[Any] = zip(*rows, strict=True) if count else repeat((), len(Row._fields))
    kinds, checkpoints, channels, versions, prevs, writers, encodings, payloads, namespaces = columns
    thread = thread_id.encode()
    longs = struct.Struct(f"<{count}q")
    # without rows the thread's name stands in the data that no row points to
    threads = [thread] * count or [thread]
    offsets = _offsets(threads) if count else bytes(4)
    buffers = (
        *(offsets, b"".join(threads)),
        *_texts(namespaces),
        longs.pack(*checkpoints),
        *_texts(channels),
        longs.pack(*versions),
        longs.pack(*prevs),
        bytes(kinds),
        *_texts(writers),
        bytes(encodings),
        *(_offsets(payloads), b"".join(payloads)),
    )
    parts: list[bytes] = []
    places: list[int] = []
    position = 0
    for buffer in buffers:
        if len(places) // 2 in _VALIDITY:
            places += (position, 0)
        length = len(buffer)
        places += (position, length)
        parts.append(buffer)
        padding = -length & 7
        if padding:
            parts.append(bytes(padding))
        position += length + padding
    head = _MESSAGE.pack(*_ROOT, position, *_BATCH, count, *_vectors(count), *places)
    return b"".join((head, *parts))


def _decode_batch(raw: memoryview) -> tuple[str, tuple[Row, ...]]:
    fields = _MESSAGE.unpack_from(raw)
    body, count, places = fields[11], fields[21], fields[-2 * _BUFFERS :]
    expected = (*_ROOT, body, *_BATCH, count, *_vectors(count))
    if fields[: -2 * _BUFFERS] != expected or len(raw) != _MESSAGE.size + body:
        raise ValueError("its rows are not laid out as format 1 has them")
    offsets, lengths = places[::2], places[1::2]
    ends = list(map(add, offsets, lengths))
    if min(places) < 0 or max(ends) > body:
        raise ValueError("a column reaches beyond the end")
    data = raw[_MESSAGE.size :]
    buffers = [data[start:end] for start, end in zip(offsets, ends, strict=True)]
    longs, spans = struct.Struct(f"<{count}q"), _Spans(count)
    if len(buffers[16]) != count or len(buffers[21]) != count:
        raise ValueError("a column does not have as many rows as the others")
    payload = bytes(buffers[24])
    rows = zip(
        buffers[16],
        longs.unpack(buffers[7]),
        spans.strings(buffers[9], buffers[10]),
        longs.unpack(buffers[12]),
        longs.unpack(buffers[14]),
        spans.strings(buffers[18], buffers[19]),
        buffers[21],
        [payload[start:end] for start, end in spans.of(buffers[23], payload)],
        spans.strings(buffers[4], buffers[5]),
        strict=True,
    )
    return _thread(buffers[1], buffers[2], spans), tuple(map(Row._make, rows))


class _Spans:
    """Takes columns of so many texts apart."""

    __slots__ = ("_ends", "count")

    def __init__(self, count: int) -> None:
        self.count = count
        self._ends = struct.Struct(f"<{count + 1}i")

    def of(self, offsets: memoryview, data: memoryview | bytes) -> list[tuple[int, int]]:
        """Where in its data each row starts and ends. Raises `ValueError`."""
        ends = self._ends.unpack(offsets)
        if ends[0] != 0 or ends[-1] != len(data) or ends != tuple(sorted(ends)):
            raise ValueError("a column's rows do not cover its data")
        return list(pairwise(ends))

    def strings(self, offsets: memoryview, data: memoryview) -> list[str]:
        """The texts. Raises `ValueError`."""
        if len(data) == 0:
            self.of(offsets, data)
            return [""] * self.count
        text = str(data, "utf-8")
        if len(text) == len(data):  # ASCII: what is true of its bytes is true of its characters
            return [text[start:end] for start, end in self.of(offsets, data)]
        return [str(data[start:end], "utf-8") for start, end in self.of(offsets, data)]


def _vectors(count: int) -> tuple[int, ...]:
    return (180, _COLUMNS, *(count, 0) * _COLUMNS, _BUFFERS)


def _offsets(items: Sequence[bytes]) -> bytes:
    return struct.pack(f"<{len(items) + 1}i", 0, *accumulate(map(len, items)))


def _texts(strings: Sequence[str]) -> tuple[bytes, bytes]:
    items = [text.encode() for text in strings]
    return _offsets(items), b"".join(items)


def _thread(offsets: memoryview, data: memoryview, spans: _Spans) -> str:
    if not spans.count:
        return str(data, "utf-8")
    first, *others = spans.strings(offsets, data)
    if others.count(first) != len(others):
        raise ValueError("its rows belong to several threads")
    return first
