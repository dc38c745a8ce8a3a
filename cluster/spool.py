"""Keeps record batches until all are there: the first ones in memory, from then on in a file without a name."""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Self

import pyarrow as pa

_IN_MEMORY = 32 << 20
"""Bytes (compressed) that are kept in memory."""


class Spool:
    """Batches in the order in which they were put in; each may have columns of its own. A context manager: what is in
    the file is gone when it is left, and nobody else can open it meanwhile. Raises `OSError` where there is no room."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 — closed by __exit__
        self._sizes: list[int] = []

    def put(self, batch: pa.RecordBatch) -> None:
        """Add a batch."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_batch(batch)
        data = sink.getvalue()
        self._file.write(memoryview(data))
        self._sizes.append(data.size)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        self._file.seek(0)
        for size in self._sizes:
            with pa.ipc.open_stream(self._file.read(size)) as reader:
                yield reader.read_next_batch()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
