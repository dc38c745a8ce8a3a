"""Reads a file of threads: checks all of it first, then is a source of a copy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

import msgspec
import pyarrow as pa

from .errors import Corrupt, MissingKey, NewerFormat, StoreMisuse, UnknownThread
from .operations import ThreadImage
from .records import GraphRecord, Message, RunRecord, Segment, ThreadRecord
from .sealing import Sealing, StoredSegment
from .thread_file import (
    END_OF_STREAM,
    FORMAT,
    FORMAT_KEY,
    MAGIC,
    SCHEMA,
    SEALED_KEY,
    TAIL,
    Batch,
    Record,
    Sort,
    digest_of,
    digest_of_all,
)
from .thread_file_checks import SegmentCheck, wrong_with, wrong_with_graph
from .vault import PlainVault, Vault

R = TypeVar("R")
_INDEX = msgspec.msgpack.Decoder(list[Batch])
_HINT = "get the file anew, or export the threads again"


class ThreadFile:
    """A file of threads that is open. Its checksums have been checked: what it gives is what was written.

    Raises `StoreMisuse` where it cannot be read or is no such file, `Corrupt` where it is damaged, naming what is,
    `NewerFormat`, and `MissingKey` where its payloads are sealed and `vault` opens none.
    """

    def __init__(self, path: Path, vault: Vault) -> None:
        self.path = path
        self._file, self._size = _opened(path)
        self._held: tuple[int, list[Record]] = (-1, [])
        try:
            batches, self.digest = self._checked()
            self.sealed = self._facts(SEALED_KEY) == b"yes"
            if self.sealed and not vault.secret:
                raise MissingKey(f"{self} is encrypted; give the keys of the store that its threads come from")
            self._sealing = Sealing(vault if self.sealed else PlainVault(), str(self))
            self._places: dict[str, list[tuple[int, Batch]]] = {}
            starts = accumulate((batch.size for batch in batches), initial=self._start)
            for start, batch in zip(starts, batches, strict=False):
                self._places.setdefault(batch.thread, []).append((start, batch))
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return f"file {self.path}"

    @property
    def thread_ids(self) -> list[str]:
        """The threads in it, each after its origin."""
        return [thread_id for thread_id in self._places if thread_id]

    def check(self) -> None:
        """Open and decode every record, and see whether they make sense. Raises `Corrupt`, `NewerFormat`,
        `MissingKey`, naming thread and record."""
        for record in self._records("", segments=False):
            if record.sort != Sort.GRAPH:
                raise self._broken(str(record), "it belongs to no thread")
            self._refuse(record, wrong_with_graph(self.graph(record.name), record.name))
        earlier: dict[str, int] = {}
        for thread_id in self.thread_ids:
            image = self.image(thread_id)
            row, origin = image.thread, image.thread.origin
            self._refuse(f"thread {thread_id!r}", wrong_with(image, thread_id))
            if origin is not None and earlier.get(origin.thread_id, -1) < origin.seq:
                raise self._broken(f"thread {thread_id!r}", f"its origin {origin.thread_id!r} is not before it")
            earlier[thread_id] = row.seq
            segments = SegmentCheck(row)
            for record in self._records(thread_id, segments=True):
                segment = self._segment(record)
                self._refuse(record, segments.wrong_with(segment))
                len(segment.rows)
            self._refuse(f"thread {thread_id!r}", segments.at_end())

    # -- what a copy reads -----------------------------------------------------------------------------------------

    def rows(self) -> Iterator[ThreadRecord]:
        """Every thread's row."""
        return map(self.thread, self.thread_ids)

    def thread(self, thread_id: str) -> ThreadRecord:
        """A thread's row. Raises `UnknownThread`."""
        record = next(self._records(thread_id, segments=False), None)
        if record is None:
            raise UnknownThread(thread_id, str(self))
        if record.sort != Sort.THREAD:
            raise self._broken(str(record), "it does not begin with the thread's row")
        return self._sealing.opened_thread(self._unpacked(record, ThreadRecord))

    def image(self, thread_id: str) -> ThreadImage:
        """All of a thread but its segments. Raises `UnknownThread`."""
        row, sealing = self.thread(thread_id), self._sealing
        first = next(self._records(thread_id, segments=False))
        runs: list[RunRecord] = []
        messages: list[Message] = []
        for record in self._records(thread_id, segments=False):
            if record.sort == Sort.RUN:
                runs.append(sealing.opened_run(self._unpacked(record, RunRecord)))
            elif record.sort == Sort.MESSAGE:
                messages.append(sealing.opened_message(thread_id, self._unpacked(record, Message)))
            elif record.sort != Sort.THREAD or record is not first:
                raise self._broken(str(record), "it is no part of a thread, or comes twice")
        return ThreadImage(thread=row, runs=tuple(runs), messages=tuple(messages))

    def segments(
        self, thread_id: str, *, first: int = 1, last: int | None = None, limit: int | None = None
    ) -> list[Segment]:
        """Segments that overlap commits `first..last`, newest first, at most `limit`."""
        found = [
            self._segment(record)
            for record in self._records(thread_id, segments=True, first=first, last=last)
            if record.last >= first and (last is None or record.first <= last)
        ]
        return found[::-1][:limit]

    def graph_keys(self) -> tuple[str, ...]:
        """The keys of the graphs in it."""
        return tuple(sorted(record.name for record in self._records("", segments=False)))

    def graph(self, graph_key: str) -> GraphRecord:
        """A graph. Raises `StoreMisuse` if there is none."""
        for record in self._records("", segments=False):
            if record.name == graph_key:
                return self._sealing.opened_graph(self._unpacked(record, GraphRecord))
        raise StoreMisuse(f"{self} holds no graph {graph_key!r}")

    def setting(self, name: str) -> Any:
        """None: settings are the store's, not the threads'."""
        return None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- records ---------------------------------------------------------------------------------------------------

    def _records(self, thread_id: str, *, segments: bool, first: int = 1, last: int | None = None) -> Iterator[Record]:
        for start, batch in self._places.get(thread_id, ()):
            if batch.segments != segments:
                continue
            if segments and (batch.last < first or (last is not None and batch.first > last)):
                continue
            yield from self._batch(start, batch)

    def _batch(self, start: int, batch: Batch) -> list[Record]:
        """The records of a batch; the last one that was read is kept, as a copy comes back to it for each few commits.
        It is checked again: a file that somebody writes to meanwhile is not what was checked."""
        if self._held[0] == start:
            return self._held[1]
        data = self._read(start, batch.size)
        if digest_of(data) != batch.digest:
            raise self._broken(str(batch), "it has changed since it was opened")
        try:
            read = pa.ipc.read_record_batch(pa.py_buffer(data), SCHEMA)
            read.validate(full=True)
            columns = [column.to_pylist() for column in read.columns]
        except (pa.ArrowException, ValueError, OSError, EOFError) as error:
            raise self._broken(str(batch), f"it does not decode ({error})") from error
        records = [Record(*cells) for cells in zip(*columns, strict=True)]
        for record in records:
            if record.thread != batch.thread or (record.sort == Sort.SEGMENT) != batch.segments:
                raise self._broken(str(batch), f"it holds a record of {record}")
        self._held = (start, records)
        return records

    def _segment(self, record: Record) -> Segment:
        stored = StoredSegment(record.first, record.last, record.epoch, record.name, record.data)
        return self._sealing.opened_segment(record.thread, stored)

    def _unpacked(self, record: Record, kind: type[R]) -> R:
        try:
            return msgspec.msgpack.decode(record.data, type=kind)
        except msgspec.MsgspecError as error:
            raise self._broken(str(record), f"it does not decode ({error})") from error

    # -- checksums -------------------------------------------------------------------------------------------------

    def _checked(self) -> tuple[list[Batch], str]:
        """The index, and the checksum of the whole; after all of them were compared."""
        schema, self._start = self._head()
        self._metadata = schema.metadata or {}
        self._check_format()
        size, start = self._size, self._start
        if size < start + len(END_OF_STREAM) + TAIL.size or self._read(size - len(MAGIC), len(MAGIC)) != MAGIC:
            raise Corrupt(f"{self} is not whole: its end is missing, or something stands behind it; {_HINT}")
        whole, length, _ = TAIL.unpack(self._read(size - TAIL.size, TAIL.size))
        index_at = size - TAIL.size - length
        if index_at < start:
            raise Corrupt(f"{self} is damaged: its index cannot be of {length} bytes; {_HINT}")
        index = self._read(index_at, length)
        if digest_of_all(self._read(0, start), index) != whole:
            raise Corrupt(f"{self} is damaged at its beginning or end: its checksum does not match; {_HINT}")
        try:
            batches = _INDEX.decode(index)
        except msgspec.MsgspecError as error:
            raise self._broken("its index", f"it does not decode ({error})") from error
        ends = start + sum(batch.size for batch in batches)
        gap = index_at - ends
        if (
            any(batch.size <= 0 for batch in batches)
            or gap != len(END_OF_STREAM)
            or self._read(ends, gap) != END_OF_STREAM
        ):
            raise Corrupt(f"{self} is damaged: something is missing in it, or was put into it; {_HINT}")
        at = start
        for batch in batches:
            if digest_of(self._read(at, batch.size)) != batch.digest:
                raise self._broken(str(batch), f"bytes {at}..{at + batch.size} are damaged")
            at += batch.size
        return batches, whole.hex()

    def _head(self) -> tuple[pa.Schema, int]:
        try:
            reader = pa.BufferReader(self._read(0, min(self._size, 1 << 16)))
            schema = pa.ipc.read_schema(pa.ipc.read_message(reader))
        except (pa.ArrowException, ValueError, OSError, EOFError):
            raise StoreMisuse(f"{self} is no file of threads, as client.export_threads() writes them") from None
        return schema, reader.tell()

    def _facts(self, key: bytes) -> bytes:
        return bytes(self._metadata.get(key, b""))

    def _check_format(self) -> None:
        found = self._facts(FORMAT_KEY)
        if not found.isdigit():
            raise StoreMisuse(f"{self} is an Arrow file, but none of threads, as client.export_threads() writes them")
        if int(found) > FORMAT:
            raise NewerFormat(f"{self} has format {int(found)}, this Perdure reads up to {FORMAT}; upgrade it")

    def _read(self, at: int, size: int) -> bytes:
        try:
            self._file.seek(at)
            return self._file.read(size)
        except OSError as error:
            raise StoreMisuse(f"{self} cannot be read: {error.strerror or error}") from error

    def _refuse(self, what: object, wrong: Iterator[str]) -> None:
        why = next(wrong, None)
        if why is not None:
            raise self._broken(str(what), why)

    def _broken(self, what: str, why: str) -> Corrupt:
        return Corrupt(f"{self}: {what}: {why}; {_HINT}")


def _opened(path: Path) -> tuple[BinaryIO, int]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise StoreMisuse(f"file {path} cannot be read: {error.strerror or error}") from None
    return file, os.fstat(file.fileno()).st_size
