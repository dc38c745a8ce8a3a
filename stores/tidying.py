"""Retention and compaction of one thread: one pass from its newest segment to its oldest, in small transactions.

First the floor rises: from then on nothing new can refer to what lies below it. Then rows go that nothing needs, and
small segments are put together. Last the thread is marked as tidied. A pass may break off anywhere, and two may run at
once: each batch is written only if what it replaces is still there, and a later pass finds what is left to do.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from .base import CheckpointStore
from .chains import Sieve
from .compaction import Batch, Packer
from .deletion import deletion
from .errors import Refused, StoreError, StoreUnavailable, ThreadReferenced, UnknownThread
from .fetching import newest_first
from .history import HistoryReader
from .operations import Amendment
from .records import LOADING, Retention, Segment, ThreadRecord
from .replays import lowest_replayed
from .retention import KEEP_ALL, READABLE, SETTING, Meaning, floor_of, is_over, retention_from, sweeps
from .segments import Row
from .transitions import first_of, protected


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a batch did, or the sum of several."""

    checkpoints: int = 0
    """Checkpoints that are not there any more for anybody."""
    dropped: int = 0
    """Rows removed."""
    before: int = 0
    """Segments replaced..."""
    after: int = 0
    """...by so many."""
    written: int = 0
    """Bytes of the rows in those, and of those that forks took over."""
    deleted: int = 0
    """Threads deleted."""
    cut_off: int = 0
    """Forks of those that took over what they had of them."""
    referenced: int = 0
    """Threads that were left since a part of them could not be cut off (`ThreadReferenced`)."""

    def __add__(self, other: Progress) -> Progress:
        return Progress(
            checkpoints=self.checkpoints + other.checkpoints,
            dropped=self.dropped + other.dropped,
            before=self.before + other.before,
            after=self.after + other.after,
            written=self.written + other.written,
            deleted=self.deleted + other.deleted,
            cut_off=self.cut_off + other.cut_off,
            referenced=self.referenced + other.referenced,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidier:
    """Keeps the threads of one store in order."""

    store: CheckpointStore
    meaning: Meaning
    retention: Retention = KEEP_ALL
    """For threads that have none of their own."""
    dry_run: bool = False
    """Change nothing, only tell what would be done."""
    overrides: bool = False
    """`retention` holds for threads that have one of their own, too."""

    @classmethod
    def of(cls, store: CheckpointStore, meaning: Meaning) -> Self:
        """With the retention that the store has saved. Raises `StoreMisuse` if it is none."""
        return cls(store=store, meaning=meaning, retention=retention_from(store.setting(SETTING)))

    def thread(self, thread_id: str, now: float, *, thorough: bool = False) -> Iterator[Progress]:
        """Tidy one thread, at `now` (Unix seconds); yields after each transaction, and may be left there.

        `thorough`: drop at once all that may be dropped, rather than when there is enough of it. A thread that is gone
        is none to tidy. Raises `StoreUnavailable`; `Corrupt`, `NewerFormat` where the thread's history does not decode.
        """
        try:
            yield from self._thread(self.store.thread(thread_id), now, thorough)
        except UnknownThread as error:
            if error.thread_id != thread_id:
                raise

    def guarded(
        self, thread_id: str, now: float, failed: list[tuple[str, str]], *, thorough: bool = False
    ) -> Iterator[Progress]:
        """As `thread`, but one that cannot be tidied, as its history does not decode, is added to `failed` with the
        reason. Raises `StoreUnavailable`."""
        try:
            yield from self.thread(thread_id, now, thorough=thorough)
        except StoreUnavailable:
            raise
        except StoreError as error:
            failed.append((thread_id, str(error)))

    def _thread(self, row: ThreadRecord, now: float, thorough: bool) -> Iterator[Progress]:
        retention = self.retention if self.overrides else row.retention or self.retention
        if row.driver == LOADING:
            return
        if is_over(row, retention, now):
            yield from self._delete(row)
            return
        sieve, postponed = None, False
        if row.driver in READABLE:
            before = row.floor
            row, hidden = self._raised(row, retention, now)
            if hidden:
                yield Progress(checkpoints=hidden)
            # A floor below where a fork took off drops nothing of its own.
            if row.floor > first_of(row) and (thorough or sweeps(row, before)):
                postponed = self._lowest_referred(row) < row.floor
                sieve = None if postponed else self._sieve(row)
        for batch in _batches(self.store, row, sieve):
            if not self.dry_run and not (self._still(row) and self.store.rewrite(row.thread_id, batch.old, batch.new)):
                return  # somebody else tidies it
            yield Progress(
                dropped=batch.dropped,
                before=len(batch.old),
                after=len(batch.new),
                written=batch.size,
            )
        if not (self.dry_run or postponed) and row.tidied < row.seq:
            self.store.amend(row.thread_id, Amendment(tidied=row.seq, made_at=row.created_at))

    def _still(self, row: ThreadRecord) -> bool:
        """Whether the segments that were read since the row was are the same thread's. If another one takes its place
        only now, its segments are other ones, and `rewrite` finds none of these."""
        return self.store.thread(row.thread_id).created_at == row.created_at

    def _delete(self, row: ThreadRecord) -> Iterator[Progress]:
        """Also a thread that has forks, which then take over what they have of it."""
        if self.dry_run:
            whole = all(fork.seq for fork in self.store.forks(row.thread_id))
            whole = whole and lowest_replayed(self.store, row.thread_id) == math.inf
            yield Progress(deleted=1) if whole else Progress(referenced=1)
            return
        try:
            for step in deletion(self.store, row.thread_id, row):
                yield Progress(deleted=step.deleted, cut_off=step.forks, written=step.written)
        except ThreadReferenced:
            yield Progress(referenced=1)
        except Refused:
            return  # somebody has sent it a message since, or it is another thread

    def _sieve(self, row: ThreadRecord) -> Sieve:
        return Sieve(row.floor, protected(row, self.store.forks(row.thread_id)), self.meaning.manifest)

    def _raised(self, row: ThreadRecord, retention: Retention, now: float) -> tuple[ThreadRecord, int]:
        """The row with its floor where retention wants it, and how many checkpoints that hides."""
        seqs: list[int] = []
        checkpoints = self._own_checkpoints(row, seqs)
        floor = floor_of(checkpoints, retention, self.meaning, now)
        if floor > row.floor:
            floor = int(min(floor, self._lowest_referred(row)))
        if floor <= row.floor:
            return row, 0
        deque(checkpoints, maxlen=0)
        if self.dry_run:
            after = replace(row, floor=floor)
        else:
            after = self.store.amend(row.thread_id, Amendment(floor=floor, made_at=row.created_at))
        safe = protected(after, self.store.forks(row.thread_id))
        return after, sum(seq < floor and seq not in safe for seq in seqs)

    def _own_checkpoints(self, row: ThreadRecord, seqs: list[int]) -> Iterator[Row]:
        """The thread's own checkpoints from its floor on, newest first; `seqs` gets their numbers."""
        for thread_id, checkpoint in HistoryReader(self.store, row.thread_id).checkpoints():
            if thread_id != row.thread_id or checkpoint.checkpoint < row.floor:
                return
            seqs.append(checkpoint.checkpoint)
            yield checkpoint

    def _lowest_referred(self, row: ThreadRecord) -> float:
        """The oldest checkpoint from which an unread message wants to go on, or a re-run replays what follows. One of
        its origin's may become the thread's own at any time.

        One that was accepted before the floor rises must find its checkpoint. And where the floor rose just after, the
        owner may have read that checkpoint: its next commit then refers to it, and the message is unread until that
        commit; so what is below the floor has to wait for it.
        """
        referred = (self.meaning.refers_to(message) for message in self.store.messages(row.thread_id))
        return min([lowest_replayed(self.store, row.thread_id), *(seq for seq in referred if seq)])


def _backwards(store: CheckpointStore, row: ThreadRecord) -> Iterator[Segment]:
    """A thread's segments, newest first. Those tidied before are large: one at a time, since most are not needed."""
    low, first = row.seq + 1, first_of(row)
    for segment in newest_first(store, row.thread_id, row.seq, first=max(row.tidied + 1, first)):
        low = segment.first
        yield segment
    yield from newest_first(store, row.thread_id, low - 1, first=first, most=1)


def _batches(store: CheckpointStore, row: ThreadRecord, sieve: Sieve | None) -> Iterator[Batch]:
    """What is to be rewritten. Without a sieve only as far back as it is of use."""
    packer = Packer()
    everything = newest_first(store, row.thread_id, row.seq, first=first_of(row))
    for segment in _backwards(store, row) if sieve is None else everything:
        rows = segment.rows if sieve is None else sieve.sift(segment.rows)
        if segment.last >= row.seq:
            continue  # the owner may have to find its last commit again
        batch = packer.add(segment, rows)
        if batch is not None:
            yield batch
        if sieve is None and segment.last <= row.tidied and packer.settled:
            return
    batch = packer.flush()
    if batch is not None:
        yield batch
