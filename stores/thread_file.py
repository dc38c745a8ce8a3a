"""The format of a file of threads: one Arrow stream, then an index that vouches for every byte before it.

    schema | record batches | end of the stream || index | SHA-256 | size of the index u64 | magic "PRDTHRDS"

Any Arrow reader opens it as a stream of `SCHEMA` and ignores what follows; the schema's metadata says which format it
is and whether payloads are sealed. Each batch holds records of one thread (or graphs, which belong to none), so what is
damaged can be named. The index has a checksum of every batch and where it lies; the SHA-256 is that of the index, the
schema and the sizes. Batches have to lie side by side: nothing can be cut off, put in, or put behind unnoticed.
"""

from __future__ import annotations

import hashlib
import struct
from enum import StrEnum
from typing import NamedTuple

import msgspec
import pyarrow as pa

FORMAT = 1
MAGIC = b"PRDTHRDS"
FORMAT_KEY, SEALED_KEY = b"perdure.threads", b"perdure.sealed"
"""Of the schema's metadata."""
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
TAIL = struct.Struct("<32sQ8s")

_FIELDS: tuple[tuple[str, pa.DataType], ...] = (
    ("record", pa.utf8()),
    ("thread", pa.utf8()),
    ("first", pa.int64()),
    ("last", pa.int64()),
    ("epoch", pa.int64()),
    ("name", pa.utf8()),
    ("data", pa.large_binary()),
)
SCHEMA = pa.schema([pa.field(name, kind, nullable=False) for name, kind in _FIELDS])
"""Columns of a file. `first` and `last` are commits of a segment, else a run's or a message's number; `name` is the id
of a commit, message or graph; `data` a segment as stores keep it, else the record as msgpack, its payload as stores
keep it."""


class Sort(StrEnum):
    """What a record is."""

    THREAD = "thread"
    RUN = "run"
    MESSAGE = "message"
    SEGMENT = "segment"
    GRAPH = "graph"


class Record(NamedTuple):
    """One row of a file."""

    sort: str
    thread: str
    first: int
    last: int
    epoch: int
    name: str
    data: bytes

    def __str__(self) -> str:
        if self.sort == Sort.SEGMENT:
            return f"thread {self.thread!r}, commits {self.first}..{self.last}"
        if self.sort == Sort.GRAPH:
            return f"graph {self.name!r}"
        more = "" if self.sort == Sort.THREAD else f", {self.sort} {self.first}"
        return f"thread {self.thread!r}{more}"


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """An entry of the index."""

    thread: str
    """Whose records they are; empty for graphs."""
    segments: bool
    """Whether they are segments, of commits `first..last`."""
    first: int
    last: int
    rows: int
    size: int
    """Bytes, Arrow's message and its padding included."""
    digest: bytes

    def __str__(self) -> str:
        if self.segments:
            return f"thread {self.thread!r}, commits {self.first}..{self.last}"
        return f"thread {self.thread!r}, its row, runs and messages" if self.thread else "its graphs"


def digest_of(batch: bytes | memoryview) -> bytes:
    """The checksum of a batch's bytes."""
    return hashlib.blake2b(batch, digest_size=16).digest()


def digest_of_all(head: bytes | memoryview, index: bytes | memoryview) -> bytes:
    """The checksum of the whole: the index has those of the batches."""
    whole = hashlib.sha256(struct.pack("<QQ", len(head), len(index)))
    whole.update(head)
    whole.update(index)
    return whole.digest()
