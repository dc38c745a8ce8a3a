"""Stores that are broken on purpose, each in one way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from perdure.stores.base import CheckpointStore, CommitResult
from perdure.stores.errors import Fenced
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import (
    Amendment,
    Commit,
    Committed,
    Delivery,
    Expect,
    Reached,
    ThreadFilter,
    ThreadImage,
    ThreadPage,
)
from perdure.stores.records import GraphRecord, Message, ThreadRecord
from perdure.stores.sealing import Encoded, StoredSegment
from perdure.stores.segments import Kind
from tests.sim.faults import Delegating

# -- around a sound store: the simulator's engines run on them ---------------------------------------------------------


class NoFence(Delegating):
    """Takes a commit from whoever sends it."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        rows = [self.inner.thread(commit.thread_id) for commit in commits]
        pairs = zip(commits, rows, strict=True)
        return self.inner.commit([replace(commit, epoch=row.epoch, token=row.token or "x") for commit, row in pairs])


class NoCompare(Delegating):
    """Gives a thread to whoever claims it, whatever epoch was observed."""

    def claim(
        self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool = False, at: float = 0.0
    ) -> ThreadRecord:
        found = self.inner.thread(thread_id)
        if found.token and found.epoch == epoch + 1:
            return found
        return self.inner.claim(thread_id, epoch=epoch, token=token, owner=owner, crashed=crashed, at=at)


class SaysDone(Delegating):
    """Acknowledges commits that it refused."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        results = self.inner.commit(commits)
        return [
            Committed(seq=commit.last, inbox=0) if isinstance(result, Fenced) else result
            for commit, result in zip(commits, results, strict=True)
        ]


class ParksBlindly(Delegating):
    """Does not look whether mail came before a thread is given up."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        return self.inner.commit([replace(commit, expect_inbox=None) for commit in commits])


class DeliversTwice(Delegating):
    """Takes a message that is sent again for a new one."""

    def __init__(self, inner: CheckpointStore) -> None:
        super().__init__(inner)
        self._times: dict[str, int] = {}

    def deliver(
        self, thread_id: str, message: Message, expect: Expect, *, graph: GraphRecord | None = None
    ) -> Delivery:
        times = self._times[message.message_id] = self._times.get(message.message_id, 0) + 1
        again = replace(message, message_id=f"{message.message_id}.{times}") if times > 1 else message
        return self.inner.deliver(thread_id, again, expect, graph=graph)


class ForgetsUndelivered(Delegating):
    """Does not record what a cancelled thread had not read."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        return self.inner.commit(
            [replace(commit, applied=tuple(pair for pair in commit.applied if pair[1] > 0)) for commit in commits]
        )


class LosesDeltas(Delegating):
    """Keeps one delta a channel and commit."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        return self.inner.commit([replace(commit, rows=self._few(commit)) for commit in commits])

    def _few(self, commit: Commit) -> tuple[Any, ...]:
        kept = {(row.channel, row.version): row for row in commit.rows if row.kind == Kind.DELTA}
        return tuple(row for row in commit.rows if row.kind != Kind.DELTA or kept[row.channel, row.version] is row)


class KeepsNoCalls(Delegating):
    """Does not keep what nodes asked for and were given."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        return self.inner.commit(
            [replace(commit, rows=tuple(row for row in commit.rows if row.kind != Kind.CALL)) for commit in commits]
        )


class EpochFalls(Delegating):
    """Begins to count anew when a thread has changed owners twice."""

    def claim(
        self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool = False, at: float = 0.0
    ) -> ThreadRecord:
        row = self.inner.claim(thread_id, epoch=epoch, token=token, owner=owner, crashed=crashed, at=at)
        if row.epoch < 3:
            return row
        assert isinstance(self.inner, MemoryStore)
        kept = self.inner._kept(thread_id)
        kept.row = replace(kept.row, epoch=1)
        return kept.record()


# -- in themselves: the conformance suite is run on them ---------------------------------------------------------------


class Unfenced(MemoryStore):
    """Takes a commit from whoever comes with the right seq."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        rows = [self.thread(one.thread_id) for one in commits]
        return super().commit(
            [replace(one, epoch=row.epoch, token=row.token) for one, row in zip(commits, rows, strict=True)]
        )


class Forgetful(MemoryStore):
    """Does not find a commit again whose answer was lost."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        return [
            Fenced(one.thread_id, one.epoch, one.epoch) if isinstance(result, Committed) and result.repeated else result
            for one, result in zip(commits, super().commit(commits), strict=True)
        ]


class Torn(MemoryStore):
    """Writes the commits of a group one after the other, and stops at the first that is refused."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        results: list[CommitResult] = []
        for one in commits:
            refused = any(not isinstance(result, Committed) for result in results)
            results += [Fenced(one.thread_id, one.epoch, 0)] if refused else super().commit([one])
        return results


class Doubling(MemoryStore):
    """Takes a repeated message for a new one."""

    def deliver(
        self, thread_id: str, message: Message, expect: Expect, *, graph: GraphRecord | None = None
    ) -> Delivery:
        another = replace(message, message_id=f"{message.message_id} {self.thread(thread_id).inbox}")
        return super().deliver(thread_id, another, expect, graph=graph)


class Generous(MemoryStore):
    """Gives a thread to everybody who claims it."""

    def claim(
        self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool = False, at: float = 0.0
    ) -> ThreadRecord:
        present = self.thread(thread_id).epoch
        return super().claim(thread_id, epoch=present, token=token, owner=owner, crashed=crashed, at=at)


class Repeating(MemoryStore):
    """Shows the first thread of each further page twice."""

    def threads(self, where: ThreadFilter | None = None, *, limit: int = 100, cursor: str | None = None) -> ThreadPage:
        page = super().threads(where, limit=limit, cursor=cursor)
        return page if cursor is None else replace(page, threads=(*page.threads[:1], *page.threads)[:limit])


class Lingering(MemoryStore):
    """Deletes nothing."""

    def delete(self, thread_id: str, *, seen: ThreadRecord | None = None) -> None:
        self.thread(thread_id)


class Stale(MemoryStore):
    """Answers with the row as it was when it was first asked for."""

    seen: dict[str, ThreadRecord]

    def thread(self, thread_id: str) -> ThreadRecord:
        self.seen = {} if not hasattr(self, "seen") else self.seen
        return self.seen.setdefault(thread_id, super().thread(thread_id))


class StaleInGroup(MemoryStore):
    """Writes the rows of a stale commit when the group that it comes in holds a good one."""

    def _commit(self, group: Sequence[Encoded]) -> list[CommitResult]:
        results = super()._commit(group)
        if any(isinstance(result, Committed) for result in results):
            for each, result in zip(group, results, strict=True):
                if isinstance(result, Fenced) and (kept := self._threads.get(each.commit.thread_id)) is not None:
                    one = each.commit
                    kept.segments.append(StoredSegment(one.first, one.last, one.epoch, one.commit_id, each.data))
        return results


class Uncharged(MemoryStore):
    """Counts no crash."""

    def claim(
        self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool = False, at: float = 0.0
    ) -> ThreadRecord:
        return super().claim(thread_id, epoch=epoch, token=token, owner=owner, at=at)


class Unreferenced(MemoryStore):
    """Deletes a thread whatever forks still read of it."""

    def _delete(self, thread_id: str, seen: ThreadRecord | None) -> None:
        with self._lock:
            self._threads.pop(thread_id, None)


class Mistaking(MemoryStore):
    """Does to a thread what was decided of another one that had its id."""

    def _delete(self, thread_id: str, seen: ThreadRecord | None) -> None:
        super()._delete(thread_id, None)

    def _amend(self, thread_id: str, change: Amendment) -> ThreadRecord:
        return super()._amend(thread_id, replace(change, made_at=None))


class Adding(MemoryStore):
    """Adds to a thread that is copied in, whatever somebody else has done to it."""

    def _load(
        self, image: ThreadImage, segments: Sequence[StoredSegment], after: Reached | None, complete: bool
    ) -> bool:
        return super()._load(image, segments, None, complete)


class Sleepless(MemoryStore):
    """Forgets when a parked thread is due."""

    def _commit(self, group: Sequence[Encoded]) -> list[CommitResult]:
        return super()._commit([each._replace(commit=replace(each.commit, wake_at=None)) for each in group])


class AnswersAgain(MemoryStore):
    """Leaves an interrupt that was answered among those that may be answered."""

    def _deliver(self, thread_id: str, message: Message, expect: Expect, graph: GraphRecord | None) -> Delivery:
        waits = self.thread(thread_id).waits
        delivery = super()._deliver(thread_id, message, expect, graph)
        kept = self._kept(thread_id)
        kept.row = replace(kept.row, waits=waits)
        return delivery


class WakesNobody(MemoryStore):
    """Keeps a message for a parked thread, and leaves the thread parked."""

    def _deliver(self, thread_id: str, message: Message, expect: Expect, graph: GraphRecord | None) -> Delivery:
        status = self.thread(thread_id).status
        delivery = super()._deliver(thread_id, message, expect, graph)
        kept = self._kept(thread_id)
        kept.row = replace(kept.row, status=status)
        return delivery
