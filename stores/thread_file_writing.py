"""Writes a file of threads, batch by batch, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa

from .operations import ThreadImage
from .records import GraphRecord, Segment
from .sealing import Sealing
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
from .vault import Vault

_ROWS = 1024
_BYTES = 4 << 20
"""A batch is closed when it holds so much."""


def _plain(value: Any) -> dict[str, Any]:
    if isinstance(value, MappingProxyType):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is no part of a record")


_pack = msgspec.msgpack.Encoder(enc_hook=_plain).encode


class ThreadFileWriter:
    """A file that is being written, sealed by `vault`. It counts only once `finish` was called."""

    def __init__(self, file: BinaryIO, vault: Vault, where: str) -> None:
        facts: Mapping[bytes, bytes] = {FORMAT_KEY: b"%d" % FORMAT, SEALED_KEY: b"yes" if vault.secret else b"no"}
        self._schema = SCHEMA.with_metadata(dict(facts))
        self._head = self._schema.serialize().to_pybytes()
        self._file = file
        self._sealing = Sealing(vault, where)
        self._index: list[Batch] = []
        self._rows: list[Record] = []
        self._size = 0
        self._file.write(self._head)

    def image(self, image: ThreadImage) -> None:
        """Begin with a thread: all of it but its segments."""
        sealing, thread_id = self._sealing, image.thread.thread_id
        self._add(Record(Sort.THREAD, thread_id, 0, 0, 0, "", _pack(sealing.thread(image.thread))))
        for run in image.runs:
            self._add(Record(Sort.RUN, thread_id, run.run, run.run, 0, "", _pack(sealing.run(run))))
        for message in image.messages:
            number, data = message.number, _pack(sealing.message(thread_id, message))
            self._add(Record(Sort.MESSAGE, thread_id, number, number, 0, message.message_id, data))
        self._close()

    def segments(self, segments: Iterable[Segment]) -> None:
        """Go on with segments of that thread, oldest first."""
        for segment in segments:
            first, last, epoch, commit_id, data = self._sealing.segment(segment)
            self._add(Record(Sort.SEGMENT, segment.thread_id, first, last, epoch, commit_id, data))

    def graph(self, graph: GraphRecord) -> None:
        """Add a graph, after all threads."""
        self._add(Record(Sort.GRAPH, "", 0, 0, 0, graph.graph_key, _pack(self._sealing.graph(graph))))

    def mark(self) -> int:
        """A place to come back to: after the last thread."""
        self._close()
        return len(self._index)

    def back(self, mark: int) -> None:
        """Take back all that was added since."""
        self._rows, self._size = [], 0
        del self._index[mark:]
        self._file.seek(len(self._head) + sum(batch.size for batch in self._index))
        self._file.truncate()

    def finish(self) -> int:
        """Write the index; returns the file's size."""
        self._close()
        index = _pack(self._index)
        end = TAIL.pack(digest_of_all(self._head, index), len(index), MAGIC)
        self._file.write(END_OF_STREAM + index + end)
        self._file.flush()
        return self._file.tell()

    def _add(self, record: Record) -> None:
        # A batch holds what is of one thread, and either segments or the rest of it.
        if self._rows and (self._rows[0].thread, self._rows[0].sort == Sort.SEGMENT) != (
            record.thread,
            record.sort == Sort.SEGMENT,
        ):
            self._close()
        self._rows.append(record)
        self._size += len(record.data)
        if self._size >= _BYTES or len(self._rows) >= _ROWS:
            self._close()

    def _close(self) -> None:
        if not self._rows:
            return
        first, last = self._rows[0], self._rows[-1]
        columns = [
            pa.array(cells, field.type) for cells, field in zip(zip(*self._rows, strict=True), SCHEMA, strict=True)
        ]
        data = memoryview(pa.RecordBatch.from_arrays(columns, schema=self._schema).serialize())
        self._file.write(data)
        self._index.append(
            Batch(
                thread=first.thread,
                segments=first.sort == Sort.SEGMENT,
                first=first.first,
                last=last.last,
                rows=len(self._rows),
                size=len(data),
                digest=digest_of(data),
            )
        )
        self._rows, self._size = [], 0
