"""The memory store with its reads made cheap, since a simulation reads the same few things again and again."""

from __future__ import annotations

from perdure.runtime.waking import TIMED
from perdure.stores.memory import MemoryStore
from perdure.stores.records import RunRecord, Segment, ThreadRecord
from perdure.stores.sealing import StoredSegment


class QuickMemoryStore(MemoryStore):
    """Decodes every segment once: they never change. The writing side is the real store's."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[tuple[str, bytes], Segment] = {}

    def thread(self, thread_id: str) -> ThreadRecord:
        return self._kept(thread_id).row

    def runs(self, thread_id: str) -> tuple[RunRecord, ...]:
        runs = self._kept(thread_id).runs
        return tuple(runs[number] for number in sorted(runs))

    def runnable(self) -> list[ThreadRecord]:
        """The rows of all runnable threads."""
        return [kept.row for kept in self._threads.values() if kept.row.status.runnable]

    def timed(self) -> list[ThreadRecord]:
        """The rows of all parked threads that are due some time."""
        return [kept.row for kept in self._threads.values() if kept.row.wake_at > 0 and kept.row.status in TIMED]

    def _decoded(self, thread_id: str, stored: StoredSegment) -> Segment:
        key = (stored.commit_id, stored.data)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = super()._decoded(thread_id, stored)
        return found
