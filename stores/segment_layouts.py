"""How an Arrow record batch of `SCHEMA` is laid out in bytes: as Arrow's own message, or squeezed.

Arrow's message tells of each of its 25 buffers where it lies, which for a commit of two small rows is three times what
they hold. As the schema never changes, neither does the message but for its numbers, so it is put together here (and
taken apart, with every number checked): building ten Arrow arrays took longer than all the rest. Squeezed, the same
buffers stand one after the other, without message and padding, and the thread's name once:

    number of rows u32 | bytes of the thread's name u32 | offsets i32 of namespace, channel, writer and payload |
    checkpoint, version, prev i64 | kind, encoding u8 | name of the thread | data of namespace, channel, writer, payload

All functions raise `struct.error` or `ValueError` for what does not fit.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, repeat
from operator import add
from typing import Any, TypeAlias

import pyarrow as pa

from .columns import MANY, Columns, Texts
from .segments import Row

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

_Longs: TypeAlias = Callable[[memoryview], Sequence[int]]
_Spans: TypeAlias = Callable[[memoryview, memoryview], Sequence[int]]

_EVEN = 1 << 12
"""Rows up to which the offsets of the thread's name are kept."""
_NUMBERS = struct.Struct("<II")
_FEW = 64
"""Rows up to which the form of a squeezed batch is kept."""


def squeezed(thread_id: str, rows: Sequence[Row]) -> bytes:
    """The rows' batch, squeezed."""
    count = len(rows)
    kinds, checkpoints, channels, versions, prevs, writers, encodings, payloads, namespaces = _columns_of(rows)
    thread = thread_id.encode()
    texts = [_encoded(each) for each in (namespaces, channels, writers)]
    columns = (*texts, payloads)
    ends = [end for column in columns for end in accumulate(map(len, column), initial=0)]
    numbers = _form(count).pack(*ends, *checkpoints, *versions, *prevs, bytes(kinds), bytes(encodings))
    data = [piece for column in columns for piece in column]
    return b"".join((_NUMBERS.pack(count, len(thread)), numbers, thread, *data))


def read_squeezed(raw: memoryview) -> Columns:
    """The rows of a squeezed batch, their payloads on its bytes."""
    count, name = _NUMBERS.unpack_from(raw)
    if count > len(raw):
        raise ValueError("it claims more rows than it has bytes")
    form = _form(count)
    *numbers, kinds, encodings = form.unpack_from(raw, _NUMBERS.size)
    each = count + 1
    ends = [numbers[start : start + each] for start in range(0, 4 * each, each)]
    longs = [numbers[start : start + count] for start in range(4 * each, 4 * each + 3 * count, count or 1)]
    at = _NUMBERS.size + form.size
    data: list[memoryview] = []
    for length in (name, *(_length(each) for each in ends)):
        data.append(raw[at : at + length])
        at += length
    if at != len(raw):
        raise ValueError("its columns do not cover its data")
    checkpoints, versions, prevs = longs or ((), (), ())
    thread, *texts, payload = data
    namespaces, channels, writers = map(Texts, ends, texts)
    return Columns(
        str(thread, "utf-8"),
        count,
        kinds,
        checkpoints,
        channels,
        versions,
        prevs,
        writers,
        encodings,
        ends[3],
        payload,
        namespaces,
    )


def message(thread_id: str, rows: Sequence[Row]) -> bytes:
    """The rows' batch as Arrow's message."""
    count = len(rows)
    kinds, checkpoints, channels, versions, prevs, writers, encodings, payloads, namespaces = _columns_of(rows)
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


def read_message(raw: memoryview) -> Columns:
    """The rows of Arrow's message, their payloads on its bytes."""
    fields = _MESSAGE.unpack_from(raw)
    body, count, places = fields[11], fields[21], fields[-2 * _BUFFERS :]
    expected = (*_ROOT, body, *_BATCH, count, *_vectors(count))
    if fields[: -2 * _BUFFERS] != expected or len(raw) != _MESSAGE.size + body:
        raise ValueError("its rows are not laid out as the schema has them")
    offsets, lengths = places[::2], places[1::2]
    ends = list(map(add, offsets, lengths))
    if min(places) < 0 or max(ends) > body:
        raise ValueError("a column reaches beyond the end")
    data = raw[_MESSAGE.size :]
    buffers = [data[start:end] for start, end in zip(offsets, ends, strict=True)]
    if len(buffers[16]) != count or len(buffers[21]) != count:
        raise ValueError("a column does not have as many rows as the others")
    read = _many if count >= MANY and sys.byteorder == "little" else _few
    longs, spans = read(count)
    return Columns(
        _thread(buffers[1], buffers[2], count, spans),
        count,
        bytes(buffers[16]),
        longs(buffers[7]),
        _column(buffers[9], buffers[10], spans),
        longs(buffers[12]),
        longs(buffers[14]),
        _column(buffers[18], buffers[19], spans),
        bytes(buffers[21]),
        spans(buffers[23], buffers[24]),
        buffers[24],
        _column(buffers[4], buffers[5], spans),
    )


def _few(count: int) -> tuple[_Longs, _Spans]:
    """What reads a column's numbers, and what reads where its rows begin and checks it."""
    longs, offsets = struct.Struct(f"<{count}q"), struct.Struct(f"<{count + 1}i")

    def spans(found: memoryview, data: memoryview) -> Sequence[int]:
        ends = offsets.unpack(found)
        if _length(ends) != len(data):
            raise ValueError("a column's rows do not cover its data")
        return ends

    return longs.unpack, spans


def _many(count: int) -> tuple[_Longs, _Spans]:
    """The same of many rows, where the numbers stay in their bytes until somebody looks at one."""

    def longs(found: memoryview) -> Sequence[int]:
        if len(found) != 8 * count:
            raise ValueError("a column does not have as many rows as the others")
        return found.cast("q")

    def spans(found: memoryview, data: memoryview) -> Sequence[int]:
        if len(found) != 4 * (count + 1):
            raise ValueError("a column does not have as many rows as the others")
        ends = found.cast("i")
        # Arrow's own check: that none begins before the one before it, or beyond the data
        pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(found), pa.py_buffer(data)]).validate(full=True)
        if ends[0] != 0 or ends[-1] != len(data):
            raise ValueError("a column's rows do not cover its data")
        return ends

    return longs, spans


def _columns_of(rows: Sequence[Row]) -> Iterable[Any]:
    return zip(*rows, strict=True) if rows else repeat((), len(Row._fields))


@lru_cache(_FEW)
def _form(count: int) -> struct.Struct:
    return struct.Struct(f"<{4 * (count + 1)}i{3 * count}q{count}s{count}s")


def _length(ends: Sequence[int]) -> int:
    """What a column's data takes."""
    if ends[0] != 0 or list(ends) != sorted(ends):
        raise ValueError("a column's rows do not cover its data")
    return ends[-1]


def _encoded(strings: Sequence[str]) -> list[bytes]:
    return [text.encode() for text in strings]


def _vectors(count: int) -> tuple[int, ...]:
    return (180, _COLUMNS, *(count, 0) * _COLUMNS, _BUFFERS)


def _offsets(items: Sequence[bytes]) -> bytes:
    return struct.pack(f"<{len(items) + 1}i", 0, *accumulate(map(len, items)))


def _texts(strings: Sequence[str]) -> tuple[bytes, bytes]:
    items = _encoded(strings)
    return _offsets(items), b"".join(items)


def _column(offsets: memoryview, data: memoryview, spans: _Spans) -> Texts:
    return Texts(spans(offsets, data), data)


def _even(size: int, count: int) -> bytes:
    """The offsets of so many texts of one size."""
    if count >= _EVEN:
        return struct.pack(f"<{count + 1}i", *(size * number for number in range(count + 1)))
    return _evens(size, 1 << count.bit_length())[: 4 * (count + 1)]


@lru_cache(_FEW)
def _evens(size: int, many: int) -> bytes:
    return struct.pack(f"<{many + 1}i", *(size * number for number in range(many + 1)))


def _thread(offsets: memoryview, data: memoryview, count: int, spans: _Spans) -> str:
    if not count:
        return str(data, "utf-8")
    ends = spans(offsets, data)
    names = bytes(data)  # which are compared many times as fast as views of them
    name = names[: ends[1]]
    size = len(name)
    if bytes(offsets) != _even(size, count) or names != name * count:
        raise ValueError("its rows belong to several threads")
    return str(name, "utf-8")
