"""The segment of bytes that the rows of a commit, or of several, are kept as:

    magic "PRDS" | version u8 | CRC-32 of all that follows | flags u8 | size of the batch before compression u64 | batch

The batch is an Arrow record batch of `SCHEMA`: Arrow's message, or squeezed (`segment_layouts`). It is compressed with
LZ4, or where that is much smaller with zstd, which takes many times as long to read. Format 1, of which there are old
segments, had only Arrow's message and zstd.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import pyarrow as pa

from .columns import Rows
from .errors import Corrupt, NewerFormat, StoreMisuse
from .segment_layouts import message, read_message, read_squeezed, squeezed
from .segments import SCHEMA, Row

VERSION = 2
MAX_SIZE = (1 << 31) - 1
"""Bytes of a segment before compression."""

_MAGIC = b"PRDS"
_HEAD = struct.Struct("<4sBI")
_BODY_HEAD = struct.Struct("<BQ")
_START = _HEAD.size + _BODY_HEAD.size
_ZSTD, _LZ4, _SQUEEZED = 1, 2, 4
_KNOWN = {1: frozenset({0, _ZSTD}), 2: frozenset({0, _ZSTD, _LZ4, _SQUEEZED, _SQUEEZED | _LZ4})}
"""Flags by version."""
_COMPRESS_FROM = 256
_LARGE = 1 << 14
"""Bytes of payload from which a batch is Arrow's message, and zstd is tried: it sets up 100 KiB for each call."""
_WORTH = 2 / 3
"""How small zstd has to make what LZ4 leaves."""
_RATIOS = {_ZSTD: 1 << 16, _LZ4: 255}
"""zstd packs 128 KiB into no less than four bytes, LZ4 no more than 255 bytes into one."""
_CODECS = {_ZSTD: pa.Codec("zstd", compression_level=1), _LZ4: pa.Codec("lz4_raw")}
"""Hold no state between calls; to make one costs as much as to compress a small commit."""


def encode_segment(thread_id: str, rows: Sequence[Row]) -> bytes:
    """The segment of a commit's rows. Raises `StoreMisuse` if it exceeds 2 GiB or a number is out of its range."""
    small = sum(len(row.payload) for row in rows) < _LARGE
    try:
        raw = squeezed(thread_id, rows) if small else message(thread_id, rows)
    except (struct.error, ValueError, OverflowError) as error:
        raise StoreMisuse(f"thread {thread_id!r}: a row cannot be stored: {error}") from error
    size = len(raw)
    if size > MAX_SIZE:
        raise StoreMisuse(
            f"thread {thread_id!r}: one commit holds {size} bytes, more than the {MAX_SIZE} that fit; keep data of "
            "this size in files or object storage and its address in the state"
        )
    flags, body = _compressed(raw, small)
    head = _BODY_HEAD.pack(flags | _SQUEEZED if small else flags, size)
    return b"".join((_HEAD.pack(_MAGIC, VERSION, zlib.crc32(body, zlib.crc32(head))), head, body))


def decode_segment(data: bytes | memoryview) -> tuple[str, Sequence[Row]]:
    """Thread id and rows of a segment. Raises `Corrupt`, `NewerFormat`."""
    raw, flags = _open(data)
    try:
        columns = read_squeezed(raw) if flags & _SQUEEZED else read_message(raw)
    except (struct.error, ValueError, IndexError) as error:
        raise Corrupt(f"a stored segment does not decode: {error}") from error
    return columns.thread, Rows(columns)


def decode_batch(data: bytes | memoryview) -> pa.RecordBatch:
    """A segment as an Arrow batch of `SCHEMA`, on the segment's own bytes unless they were compressed or squeezed.

    Raises `Corrupt`, `NewerFormat`.
    """
    raw, flags = _open(data)
    if flags & _SQUEEZED:
        raw = memoryview(message(*decode_segment(data)))
    try:
        batch = pa.ipc.read_record_batch(pa.py_buffer(raw), SCHEMA)
        batch.validate(full=True)
    except (pa.ArrowException, ValueError, OSError, EOFError) as error:
        raise Corrupt(f"a stored segment does not decode: {error}") from error
    return batch


def _compressed(raw: bytes, small: bool) -> tuple[int, bytes]:
    """Flags, and the batch as it is kept."""
    if len(raw) < _COMPRESS_FROM:
        return 0, raw
    best, flags = raw, 0
    packed = _CODECS[_LZ4].compress(raw, asbytes=True)
    if len(packed) < len(best):
        best, flags = packed, _LZ4
    if not small:
        packed = _CODECS[_ZSTD].compress(raw, asbytes=True)
        if len(packed) < len(best) * _WORTH:
            best, flags = packed, _ZSTD
    return flags, best


def _open(data: bytes | memoryview) -> tuple[memoryview, int]:
    """The batch inside a segment, checked and decompressed, and its flags."""
    view = memoryview(data)
    if len(view) < _START or view[:4] != _MAGIC:
        raise Corrupt("this is not a stored segment, or only the beginning of one")
    _, version, checksum = _HEAD.unpack_from(view)
    if version > VERSION:
        raise NewerFormat(
            f"a stored segment has format {version}, this Perdure reads up to {VERSION}; upgrade perdure to read it"
        )
    if version not in _KNOWN or zlib.crc32(view[_HEAD.size :]) != checksum:
        raise Corrupt("a stored segment is damaged: its checksum does not match")
    flags, size = _BODY_HEAD.unpack_from(view, _HEAD.size)
    body = view[_START:]
    if flags not in _KNOWN[version]:
        raise Corrupt("a stored segment is damaged: it has flags that no Perdure writes")
    packed = flags & ~_SQUEEZED
    if not packed and size == len(body):
        return body, flags
    if not packed or size > min(MAX_SIZE, len(body) * _RATIOS[packed]):
        raise Corrupt("a stored segment is damaged: its size cannot be")
    try:
        raw = _CODECS[packed].decompress(body, decompressed_size=size, asbytes=True)
    except (pa.ArrowException, OSError) as error:
        raise Corrupt(f"a stored segment does not decompress: {error}") from error
    if len(raw) != size:
        raise Corrupt("a stored segment is damaged: it does not decompress to its size")
    return memoryview(raw), flags
