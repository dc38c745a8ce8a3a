"""An owner in the user's process tidies its thread itself: there may be no service that does."""

from __future__ import annotations

from collections.abc import Iterator

from ..stores.base import CheckpointStore
from ..stores.errors import StoreError
from ..stores.records import ThreadRecord
from ..stores.tidying import Tidier
from .clock import Clock
from .meaning import RuntimeMeaning
from .writer import UPKEEP_EVERY, Lane

SEGMENTS = UPKEEP_EVERY
"""Segments that are worth a pass while a run goes on."""
RETAINED = 512
"""Commits that are worth one at the end of a run, where the thread has a retention to be carried out. Without, what was
written does not tell: many commits lie in one segment where a run was ahead of the store. What had to be read does."""


class OwnUpkeep:
    """The upkeep of one thread that is owned here. Not a step of it is anybody's to wait for, nor to fail."""

    def __init__(self, store: CheckpointStore, record: ThreadRecord, clock: Clock, lane: Lane, read: int) -> None:
        """`read` is how many segments it took to restore the thread."""
        self._read = read
        self._store = store
        self._record = record
        self._clock = clock
        self._lane = lane
        self._next = SEGMENTS

    def between(self) -> Iterator[None]:
        """Small pieces of work, for whenever nothing is to be written; none while there are few segments."""
        if self._lane.segments < self._next:
            return
        self._next = self._lane.segments + SEGMENTS
        yield from self._tidy()

    def finish(self, head: int) -> None:
        """The run has come to rest at checkpoint `head`."""
        retained = self._record.retention is not None and head - self._record.tidied >= RETAINED
        if retained or self._read + self._lane.segments >= self._next:
            for _ in self._tidy():
                pass

    def _tidy(self) -> Iterator[None]:
        try:
            tidier = Tidier.of(self._store, RuntimeMeaning())
            for _ in tidier.thread(self._record.thread_id, self._clock.time()):
                yield
        except StoreError:
            return  # what the run itself meets it tells of; this can wait
