"""Read the threads of a store without a cluster: nothing is started, nothing is changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Unpack

import pyarrow as pa

from ..runtime.cache import ReadCache
from ..runtime.diffs import StateDiff
from ..runtime.failures import Failure, decode_failure
from ..runtime.restore import load_control
from ..runtime.snapshots import SnapshotReader, StateSnapshot, checkpoint_seq
from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.history import HistoryReader
from ..stores.operations import ThreadFilter
from ..stores.records import RunRecord, Status, ThreadRecord
from ..stores.segments import Kind
from .dataset import BATCH_ROWS, Progress, history_batches
from .dataset_selection import HistoryOptions
from .statuses import read_statuses

_PAGE = 200
"""Threads fetched at a time."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a thread has come."""

    record: ThreadRecord
    step: int
    """Superstep of the newest checkpoint; the first input is step -1."""
    tasks: tuple[str, ...]
    """Nodes of the step in progress, one entry per task."""
    finished: int
    """How many of these tasks have finished."""


class Reader:
    """The threads of a store. Values of classes that only a graph's code names are shown as `Opaque`."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._codec = Codec(opaque=True)
        self._cache = ReadCache()

    def threads(
        self,
        *,
        status: Status | str | Collection[Status | str] | None = None,
        graph: str | None = None,
        tag: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> Iterator[ThreadRecord]:
        """Threads, newest first; those for which every condition that is given holds. Pages are fetched as needed.
        Raises `InputError` for what is no status."""
        where = ThreadFilter(
            statuses=read_statuses(status),
            graph=graph,
            tag=tag,
            metadata=dict(metadata or {}),
        )
        cursor, left = None, limit
        while left is None or left > 0:
            page = self._store.threads(where, limit=min(left or _PAGE, _PAGE), cursor=cursor)
            yield from page.threads
            cursor = page.cursor
            left = left - len(page.threads) if left is not None else None
            if cursor is None:
                return

    def thread(self, thread_id: str) -> ThreadRecord:
        """The thread's row. Raises `UnknownThread`."""
        return self._store.thread(thread_id)

    def runs(self, thread_id: str) -> tuple[RunRecord, ...]:
        """Every run of a thread, oldest first. Raises `UnknownThread`."""
        return self._store.runs(thread_id)

    def failure(self, run: RunRecord) -> Failure | None:
        """The error that ended a run, with its traceback; None if none did. Raises `Corrupt`."""
        return decode_failure(run.error) if run.error else None

    def state(self, record: ThreadRecord) -> StateSnapshot:
        """The newest state of a thread; an empty one before its first checkpoint. Raises `Corrupt`, `NewerFormat`."""
        return SnapshotReader(self._store, record, self._codec, cache=self._cache).head()

    def state_at(self, thread_id: str, checkpoint_id: str) -> StateSnapshot:
        """A thread's state at a checkpoint. Raises `CheckpointNotFound`, `UnknownThread`, `Corrupt`, `NewerFormat`."""
        reader = SnapshotReader(self._store, self.thread(thread_id), self._codec, cache=self._cache)
        return reader.at(checkpoint_seq(thread_id, checkpoint_id))

    def diff(self, thread_id: str, first: str, second: str | None = None) -> StateDiff:
        """What differs between two checkpoints of a thread, the second by default the newest. Raises
        `CheckpointNotFound`, `UnknownThread`, `Corrupt`, `NewerFormat`."""
        record = self.thread(thread_id)
        last = checkpoint_seq(thread_id, second) if second is not None else record.head
        reader = SnapshotReader(self._store, record, self._codec, cache=self._cache)
        return reader.diff(checkpoint_seq(thread_id, first), last)

    def history(
        self,
        thread_id: str,
        *,
        filter: Mapping[str, Any] | None = None,
        before: str | None = None,
        limit: int | None = None,
    ) -> Iterator[StateSnapshot]:
        """A thread's states, newest first, over forks into the threads it came from; only those before a checkpoint id,
        and with metadata that equals `filter`.

        Raises `UnknownThread`, `CheckpointNotFound` for what is no id.
        """
        until = checkpoint_seq(thread_id, before) if before is not None else None
        reader = SnapshotReader(self._store, self.thread(thread_id), self._codec, cache=self._cache)
        yield from reader.history(where=filter, before=until, limit=limit)

    def history_batches(
        self,
        *,
        batch_rows: int = BATCH_ROWS,
        progress: Progress | None = None,
        **options: Unpack[HistoryOptions],
    ) -> pa.RecordBatchReader:
        """Histories as record batches; as `history_batches`."""
        return history_batches(self._store, batch_rows=batch_rows, progress=progress, **options)

    def standing(self, thread_id: str) -> Standing:
        """How far a thread has come. Decodes no values, so it may be asked often. Raises `UnknownThread`."""
        record = self.thread(thread_id)
        if not record.head:
            return Standing(record, -2, (), 0)
        reader = HistoryReader(self._store, thread_id)
        control = load_control(reader, record.head)
        results = {row.channel for row in reader.pending(record.head) if row.kind == Kind.RESULT}
        tasks = tuple(task.node for task in control.next)
        return Standing(record, control.step, tasks, sum(task.path in results for task in control.next))
