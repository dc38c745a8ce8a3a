"""Stores that fail: before an operation, after it, or so late that the operation is done when nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from perdure.stores.base import CheckpointStore, CommitResult
from perdure.stores.errors import StoreError, StoreUnavailable
from perdure.stores.operations import (
    Amendment,
    Commit,
    Committed,
    Delivery,
    Expect,
    Fork,
    Reached,
    StoreStats,
    ThreadFilter,
    ThreadImage,
    ThreadPage,
)
from perdure.stores.records import GraphRecord, Message, OwnerRecord, RunRecord, Segment, ThreadRecord
from tests.sim.journal import Journal

T = TypeVar("T")


class Died(BaseException):
    """The simulated process ended here. Not an `Exception`: nothing in a dead process goes on."""


@dataclass(frozen=True, kw_only=True)
class Chances:
    """How likely each fault is, per store operation (or per node, for `die`)."""

    before: float = 0.0
    after: float = 0.0
    late: float = 0.0
    die: float = 0.0
    pause: float = 0.0
    """Others go on for a while in the middle of the operation."""


CALM = Chances()


class Delegating(CheckpointStore):
    """Another store, call by call."""

    def __init__(self, inner: CheckpointStore) -> None:
        self.inner = inner
        self.url = inner.url

    def create(self, thread: ThreadRecord, message: Message | None = None) -> Delivery:
        return self.inner.create(thread, message)

    def thread(self, thread_id: str) -> ThreadRecord:
        return self.inner.thread(thread_id)

    def threads(self, where: ThreadFilter | None = None, *, limit: int = 100, cursor: str | None = None) -> ThreadPage:
        return self.inner.threads(where, limit=limit, cursor=cursor)

    def due(self, before: float, *, limit: int = 100) -> tuple[ThreadRecord, ...]:
        return self.inner.due(before, limit=limit)

    def runs(self, thread_id: str) -> tuple[RunRecord, ...]:
        return self.inner.runs(thread_id)

    def delete(self, thread_id: str, *, seen: ThreadRecord | None = None) -> None:
        self.inner.delete(thread_id, seen=seen)

    def claim(
        self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool = False, at: float = 0.0
    ) -> ThreadRecord:
        return self.inner.claim(thread_id, epoch=epoch, token=token, owner=owner, crashed=crashed, at=at)

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        return self.inner.commit(commits)

    def renew(self, lease: OwnerRecord) -> None:
        self.inner.renew(lease)

    def owners(self) -> tuple[OwnerRecord, ...]:
        return self.inner.owners()

    def forget(self, owner: str) -> None:
        self.inner.forget(owner)

    def deliver(
        self, thread_id: str, message: Message, expect: Expect, *, graph: GraphRecord | None = None
    ) -> Delivery:
        return self.inner.deliver(thread_id, message, expect, graph=graph)

    def messages(self, thread_id: str, *, unread: bool = True) -> tuple[Message, ...]:
        return self.inner.messages(thread_id, unread=unread)

    def segments(
        self, thread_id: str, *, first: int = 1, last: int | None = None, limit: int | None = None
    ) -> list[Segment]:
        return self.inner.segments(thread_id, first=first, last=last, limit=limit)

    def put_graph(self, graph: GraphRecord) -> None:
        self.inner.put_graph(graph)

    def graph(self, graph_key: str) -> GraphRecord:
        return self.inner.graph(graph_key)

    def amend(self, thread_id: str, change: Amendment) -> ThreadRecord:
        return self.inner.amend(thread_id, change)

    def forks(self, thread_id: str) -> tuple[Fork, ...]:
        return self.inner.forks(thread_id)

    def rewrite(self, thread_id: str, old: Sequence[Segment], new: Sequence[Segment]) -> bool:
        return self.inner.rewrite(thread_id, old, new)

    def graft(self, fork: ThreadRecord, segments: Sequence[Segment]) -> bool:
        return self.inner.graft(fork, segments)

    def adopt(self, fork: ThreadRecord, origin: ThreadRecord) -> bool:
        return self.inner.adopt(fork, origin)

    def image(self, thread_id: str) -> ThreadImage:
        return self.inner.image(thread_id)

    def load(
        self,
        image: ThreadImage,
        segments: Sequence[Segment] = (),
        *,
        after: Reached | None = None,
        complete: bool = False,
    ) -> bool:
        return self.inner.load(image, segments, after=after, complete=complete)

    def graph_keys(self) -> tuple[str, ...]:
        return self.inner.graph_keys()

    def setting(self, name: str) -> Any:
        return self.inner.setting(name)

    def put_setting(self, name: str, value: Any) -> None:
        self.inner.put_setting(name, value)

    def stats(self) -> StoreStats:
        return self.inner.stats()

    def close(self) -> None:
        self.inner.close()


class LoggedStore(Delegating):
    """Notes in the journal what the store was made to do, at the moment when it did it."""

    def __init__(self, inner: CheckpointStore, journal: Journal) -> None:
        super().__init__(inner)
        self._journal = journal

    def create(self, thread: ThreadRecord, message: Message | None = None) -> Delivery:
        delivery = self.inner.create(thread, message)
        self._journal.note("created", thread.thread_id, thread.origin or "", delivery.repeated)
        return delivery

    def claim(
        self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool = False, at: float = 0.0
    ) -> ThreadRecord:
        row = self.inner.claim(thread_id, epoch=epoch, token=token, owner=owner, crashed=crashed, at=at)
        self._journal.claimed(thread_id, row.epoch, owner)
        return row

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        results = self.inner.commit(commits)
        for commit, result in zip(commits, results, strict=True):
            if not isinstance(result, Committed):
                self._journal.note("refused", commit.thread_id, commit.first, type(result).__name__)
            elif result.repeated:
                self._journal.note("repeated", commit.thread_id, commit.first)
            else:
                self._journal.committed(commit)
        return results

    def deliver(
        self, thread_id: str, message: Message, expect: Expect, *, graph: GraphRecord | None = None
    ) -> Delivery:
        delivery = self.inner.deliver(thread_id, message, expect, graph=graph)
        if not delivery.repeated:
            self._journal.note("delivered", thread_id, message.kind, message.message_id, f"number {delivery.number}")
        return delivery


class Fate(Protocol):
    """Decides what happens to an operation; the scheduler."""

    def chances(self) -> Chances: ...

    def draw(self) -> float:
        """A random number from 0 to 1."""
        ...

    def meanwhile(self, actor: Actor) -> None:
        """Let others act while this one stands still."""
        ...

    def later(self, call: Callable[[], object]) -> None:
        """Do this at some later moment."""
        ...


class Actor:
    """Somebody who acts: an owner, a client or a reader. One that is busy waits inside a call."""

    def __init__(self, name: str, *, mortal: bool) -> None:
        self.name = name
        self.mortal = mortal
        self.busy = False


class FaultyStore(Delegating):
    """The store as one actor reaches it."""

    def __init__(self, inner: CheckpointStore, actor: Actor, fate: Fate) -> None:
        super().__init__(inner)
        self._actor = actor
        self._fate = fate

    def _call(self, call: Callable[[], T], *, writes: bool = False) -> T:
        fate, chances = self._fate, self._fate.chances()
        if chances is CALM:
            return call()
        self._pause(chances)
        drawn = fate.draw()
        if drawn < chances.before:
            raise StoreUnavailable("the simulated store failed before it did anything")
        if writes and (drawn := drawn - chances.before) < chances.late:
            fate.later(lambda: _quietly(call))
            raise StoreUnavailable("the simulated store answers later")
        self._perish(chances)
        result = call()
        self._perish(chances)
        if fate.draw() < chances.after:
            raise StoreUnavailable("the simulated store's answer was lost")
        self._pause(chances)
        return result

    def _pause(self, chances: Chances) -> None:
        if self._fate.draw() < chances.pause:
            self._fate.meanwhile(self._actor)

    def _perish(self, chances: Chances) -> None:
        if self._actor.mortal and self._fate.draw() < chances.die:
            raise Died

    def create(self, thread: ThreadRecord, message: Message | None = None) -> Delivery:
        return self._call(lambda: self.inner.create(thread, message), writes=True)

    def thread(self, thread_id: str) -> ThreadRecord:
        return self._call(lambda: self.inner.thread(thread_id))

    def runs(self, thread_id: str) -> tuple[RunRecord, ...]:
        return self._call(lambda: self.inner.runs(thread_id))

    def claim(
        self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool = False, at: float = 0.0
    ) -> ThreadRecord:
        call = lambda: self.inner.claim(thread_id, epoch=epoch, token=token, owner=owner, crashed=crashed, at=at)  # noqa: E731 — may be called twice
        return self._call(call, writes=True)

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        return self._call(lambda: self.inner.commit(commits), writes=True)

    def deliver(
        self, thread_id: str, message: Message, expect: Expect, *, graph: GraphRecord | None = None
    ) -> Delivery:
        return self._call(lambda: self.inner.deliver(thread_id, message, expect, graph=graph), writes=True)

    def messages(self, thread_id: str, *, unread: bool = True) -> tuple[Message, ...]:
        return self._call(lambda: self.inner.messages(thread_id, unread=unread))

    def segments(
        self, thread_id: str, *, first: int = 1, last: int | None = None, limit: int | None = None
    ) -> list[Segment]:
        return self._call(lambda: self.inner.segments(thread_id, first=first, last=last, limit=limit))


def _quietly(call: Callable[[], object]) -> None:
    """An operation whose caller has given up: its answer goes nowhere."""
    try:
        call()
    except StoreError:
        pass
