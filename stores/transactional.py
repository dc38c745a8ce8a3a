"""A store whose backend has transactions: the policy is here, a backend supplies the hooks of `Transaction`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from .backed import BackedStore
from .base import CommitResult, NewThread, TakeResult
from .errors import ClaimLost, ThreadExists, ThreadReferenced, UnknownThread, WrongOrigin
from .operations import ABSENT, Amendment, Claim, Commit, Committed, Delivery, Expect, Fork, Reached, ThreadImage
from .records import GraphRecord, Message, RunRecord, Segment, ThreadRecord
from .sealing import Encoded, StoredSegment
from .transitions import (
    Found,
    adopted,
    amended,
    check_deletable,
    check_forkable,
    check_origin,
    claimed,
    delivered,
    inherits,
    loaded,
    run_of_fork,
    still_that_fork,
    verdict,
    waves,
)

_NONE: Mapping[str, ThreadRecord] = {}
_LARGEST = 2**63 - 1
"""No commit is beyond it."""


class Transaction(ABC):
    """What a backend does inside one transaction that holds the threads' locks. All of it happens or none."""

    @abstractmethod
    def thread(self, thread_id: str) -> ThreadRecord | None:
        """The thread's row, locked until the transaction ends."""

    @abstractmethod
    def insert_thread(self, thread: ThreadRecord) -> None:
        """Write the row of a thread that is not there yet."""

    @abstractmethod
    def update_thread(self, thread: ThreadRecord) -> None:
        """Replace what of a locked row can change: not metadata, tags, origin or creation time."""

    @abstractmethod
    def set_tags(self, thread: ThreadRecord) -> None:
        """Replace the tags of a locked row."""

    @abstractmethod
    def move_thread(self, thread: ThreadRecord) -> None:
        """`update_thread`, and replace the origin too."""

    @abstractmethod
    def message(self, thread_id: str, message_id: str) -> Message | None:
        """A message by its id."""

    @abstractmethod
    def insert_message(self, thread_id: str, message: Message) -> None:
        """Keep a numbered message."""

    @abstractmethod
    def insert_run(self, run: RunRecord) -> None:
        """Keep a run's row, unless it has one."""

    @abstractmethod
    def forks(self, thread_id: str) -> tuple[Fork, ...]:
        """The threads whose origin is this one, in order of seq."""

    @abstractmethod
    def remove(self, thread_id: str) -> None:
        """Remove a thread's row, runs, messages and segments."""

    @abstractmethod
    def look(self, commits: Sequence[Commit]) -> Mapping[str, Found]:
        """What is to be compared with the commits (of different threads), by thread id; the rows stay locked."""

    @abstractmethod
    def write(self, group: Sequence[Encoded]) -> None:
        """Write accepted commits of different threads as `transitions.committed` and `run_after` say, conditional on
        the same epoch, token and seq once more."""

    @abstractmethod
    def replace_segments(self, thread_id: str, old: Sequence[Segment], new: Sequence[StoredSegment]) -> bool:
        """Put `new` in the place of `old` if all of these are there (first, last, commit id); whether it was done."""

    @abstractmethod
    def newest(self, thread_id: str, last: int) -> Reached:
        """The newest of the thread's segments that begin at or before commit `last`; `EMPTY` if there is none."""

    @abstractmethod
    def replace_thread(self, thread: ThreadRecord) -> None:
        """Replace the whole row of a thread that is there, and remove its runs and messages; its segments stay."""

    @abstractmethod
    def add_segments(self, thread_id: str, segments: Sequence[StoredSegment]) -> None:
        """Keep segments; those whose `first` is there already are left as they are."""


class TransactionalStore(BackedStore):
    """Creation, delivery, claims, commits, deletion and upkeep over a backend's transactions."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[Transaction]:
        """A write transaction: committed at the end of the block, rolled back by an exception."""

    def _create(self, thread: ThreadRecord, message: Message | None) -> Delivery:
        with self._transaction() as tx:
            made = self._create_in(tx, thread, message)
        if isinstance(made, ThreadExists):
            raise made
        return made

    def _create_many(self, threads: Sequence[NewThread]) -> list[Delivery | ThreadExists]:
        with self._transaction() as tx:
            return [self._create_in(tx, thread, message) for thread, message in threads]

    def _create_in(self, tx: Transaction, thread: ThreadRecord, message: Message | None) -> Delivery | ThreadExists:
        present = tx.thread(thread.thread_id)
        if present is not None:
            kept = tx.message(thread.thread_id, message.message_id) if message else None
            if kept is None:
                return ThreadExists(thread.thread_id)
            return Delivery(number=kept.number, run=kept.run, thread=present, repeated=True)
        thread = self._with_origin(tx, thread)
        if message is None:
            tx.insert_thread(thread)
            return Delivery(number=thread.inbox, run=thread.run, thread=thread)
        row, kept, run = delivered(thread, message, None)
        tx.insert_thread(row)
        return _keep(tx, row, kept, run)

    def _with_origin(
        self,
        tx: Transaction,
        thread: ThreadRecord,
        locked: Mapping[str, ThreadRecord] = _NONE,
        *,
        held: bool = False,
    ) -> ThreadRecord:
        """The thread with the origin that really has the commit; `locked` are rows that the transaction has locked
        before. `held`: the origin may be one that is being copied in. Raises `UnknownThread`, `StoreMisuse`."""
        origin, seen = thread.origin, set[str]()
        while origin is not None:
            if origin.thread_id in seen:
                raise WrongOrigin(f"thread {thread.thread_id!r} has no origin: {sorted(seen)} refer to each other")
            seen.add(origin.thread_id)
            parent = locked.get(origin.thread_id) or tx.thread(origin.thread_id)
            if not held:
                check_forkable(thread.thread_id, parent)
            further = inherits(parent, origin.seq) if parent is not None else None
            if further is None:
                forks = tx.forks(origin.thread_id) if parent is not None and parent.floor else ()
                check_origin(thread.thread_id, parent, origin, forks, self.where)
                return replace(thread, origin=origin)
            origin = further
        return thread

    def _deliver(self, thread_id: str, message: Message, expect: Expect, graph: GraphRecord | None) -> Delivery:
        with self._transaction() as tx:
            row = self._locked(tx, thread_id)
            before = tx.message(thread_id, message.message_id)
            if before is not None:
                return Delivery(number=before.number, run=before.run, thread=row, repeated=True)
            after, kept, run = delivered(row, message, expect, graph)
            tx.update_thread(after)
            return _keep(tx, after, kept, run)

    def _claim(self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool, at: float) -> ThreadRecord:
        with self._transaction() as tx:
            return self._claim_in(
                tx, Claim(thread_id=thread_id, epoch=epoch, token=token, owner=owner, crashed=crashed, at=at)
            )

    def _take(self, claims: Sequence[Claim]) -> list[TakeResult]:
        rows: list[ThreadRecord | ClaimLost | UnknownThread] = []
        with self._transaction() as tx:
            for claim in claims:
                try:
                    rows.append(self._claim_in(tx, claim))
                except (ClaimLost, UnknownThread) as refusal:
                    rows.append(refusal)
        return [self._with_mail(row) if isinstance(row, ThreadRecord) else row for row in rows]

    def _claim_in(self, tx: Transaction, claim: Claim) -> ThreadRecord:
        row = self._locked(tx, claim.thread_id)
        after = claimed(
            row, epoch=claim.epoch, token=claim.token, owner=claim.owner, crashed=claim.crashed, at=claim.at
        )
        if after is not row:
            tx.update_thread(after)
        return after

    def _delete(self, thread_id: str, seen: ThreadRecord | None) -> None:
        with self._transaction() as tx:
            row = tx.thread(thread_id)
            if row is None:
                return
            check_deletable(row, seen)
            forks = tx.forks(thread_id)
            if forks:
                raise ThreadReferenced(thread_id, tuple(fork.thread_id for fork in forks))
            tx.remove(thread_id)

    def _commit(self, group: Sequence[Encoded]) -> list[CommitResult]:
        encoded = {id(each.commit): each for each in group}
        results: dict[int, CommitResult] = {}
        with self._transaction() as tx:
            for wave in waves(each.commit for each in group):
                found = tx.look(wave)
                verdicts = [verdict(found.get(commit.thread_id), commit) for commit in wave]
                accepted = [
                    encoded[id(commit)]
                    for commit, result in zip(wave, verdicts, strict=True)
                    if isinstance(result, Committed) and not result.repeated
                ]
                if accepted:
                    tx.write(accepted)
                results.update(zip(map(id, wave), verdicts, strict=True))
        return [results[id(each.commit)] for each in group]

    def _amend(self, thread_id: str, change: Amendment) -> ThreadRecord:
        with self._transaction() as tx:
            row = self._locked(tx, thread_id)
            if change.made_at not in (None, row.created_at):
                raise UnknownThread(thread_id, self.where)
            after = amended(row, change, tx.forks(thread_id) if change.names and row.floor else ())
            if after != row:
                tx.update_thread(after)
            if after.tags != row.tags:
                tx.set_tags(after)
            return after

    def _rewrite(self, thread_id: str, old: Sequence[Segment], new: Sequence[StoredSegment]) -> bool:
        with self._transaction() as tx:
            row = tx.thread(thread_id)
            if row is None or old[-1].last >= row.seq:
                return False
            return tx.replace_segments(thread_id, old, new)

    def _graft(self, fork: ThreadRecord, segments: Sequence[StoredSegment]) -> bool:
        thread_id = fork.thread_id
        with self._transaction() as tx:
            if not still_that_fork(tx.thread(thread_id), fork):
                return False
            if tx.newest(thread_id, segments[-1].last).last >= segments[0].first:
                return False
            tx.add_segments(thread_id, segments)
            return True

    def adopt(self, fork: ThreadRecord, origin: ThreadRecord) -> bool:
        with self._transaction() as tx:
            # Locked in the order of ids, as by everybody who locks several.
            found = {thread_id: tx.thread(thread_id) for thread_id in sorted((fork.thread_id, origin.thread_id))}
            row, above = found[fork.thread_id], found[origin.thread_id]
            if row is None or not still_that_fork(row, fork):
                return False
            # As long as a thread is referred to it is there, and so is what it refers to.
            if above is None or above.origin != origin.origin:
                return False
            after = adopted(row, above)
            tx.move_thread(after)
            if after.head:
                tx.insert_run(run_of_fork(after))
            return True

    def _load(
        self, image: ThreadImage, segments: Sequence[StoredSegment], after: Reached | None, complete: bool
    ) -> bool:
        thread_id = image.thread.thread_id
        with self._transaction() as tx:
            present = tx.thread(thread_id)
            row = loaded(present, image.thread, complete)
            if after is not None:
                reached = tx.newest(thread_id, segments[-1].last if segments else _LARGEST) if present else ABSENT
                if reached != after:
                    return False
            if present is None:
                tx.insert_thread(self._with_origin(tx, row, held=True))
            else:
                tx.replace_thread(self._with_origin(tx, row, held=True))
            for run in image.runs:
                tx.insert_run(run)
            for message in image.messages:
                tx.insert_message(thread_id, message)
            tx.add_segments(thread_id, segments)
            return True

    def _locked(self, tx: Transaction, thread_id: str) -> ThreadRecord:
        row = tx.thread(thread_id)
        if row is None:
            raise UnknownThread(thread_id, self.where)
        return row


def _keep(tx: Transaction, row: ThreadRecord, message: Message, run: RunRecord | None) -> Delivery:
    """Write a delivery's message and run; the row itself is written already."""
    tx.insert_message(row.thread_id, message)
    if run is not None:
        tx.insert_run(run)
    return Delivery(number=message.number, run=message.run, thread=row)
