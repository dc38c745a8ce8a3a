"""Threads that nobody can go on with: they are paused, and what was sent to them meanwhile is not lost. Without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perdure import Status, open_store
from perdure.actors.chores import Chores
from perdure.actors.handover import Handover
from perdure.actors.line import Waiting
from perdure.actors.lines import Lines
from perdure.actors.parking import park
from perdure.actors.roster import Roster
from perdure.actors.settings import ServiceSettings
from perdure.runtime.clock import SystemClock
from perdure.runtime.payloads import CANCEL, INPUT, RETRY
from perdure.stores.base import CheckpointStore
from perdure.stores.config import StoreConfig
from perdure.stores.errors import Corrupt
from perdure.stores.operations import Expect
from perdure.stores.records import Message, ThreadRecord

ANY = Expect(statuses=frozenset(Status))


@pytest.fixture
def store() -> Iterator[CheckpointStore]:
    with open_store("memory://") as opened:
        for name in ("a", "b"):
            row = ThreadRecord(thread_id=name, graph="g", version="1", graph_key="g")
            opened.create(row, Message(message_id=name, kind=INPUT))
        yield opened


def send(store: CheckpointStore, thread_id: str, kind: str) -> None:
    store.deliver(thread_id, Message(message_id=f"{kind} {thread_id}", kind=kind), ANY)


class Between:
    """A store in which something happens right before the first commit."""

    def __init__(self, store: CheckpointStore, happens: Callable[[], None]) -> None:
        self._store = store
        self._happens: Callable[[], None] | None = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, commits: Any) -> Any:
        happens, self._happens = self._happens, None
        if happens is not None:
            happens()
        return self._store.commit(commits)


def test_a_cancel_that_comes_while_a_thread_is_paused_is_carried_out(store: CheckpointStore) -> None:
    """It once lay unread: the pause was written by who had looked for mail before it came, and a paused thread is
    looked at by nobody."""
    claimed = store.claim("a", epoch=0, token="t", owner="supervisor")
    between: Any = Between(store, lambda: send(store, "a", CANCEL))
    park(between, claimed, SystemClock(), "its graph cannot be read")
    row = store.thread("a")
    assert (row.status, row.token) == (Status.CANCELLED, "")
    assert row.reason == "cancelled; it could not have gone on: its graph cannot be read"
    assert [run.status for run in store.runs("a")] == [Status.CANCELLED]


def test_a_thread_that_somebody_else_has_paused_is_given_back_as_it_is_now(store: CheckpointStore) -> None:
    """Two hands paused one thread. The second claimed it as paused, and wrote that again over the cancel that its user
    had sent on seeing the first."""
    first = store.claim("a", epoch=0, token="1", owner="supervisor")
    park(store, first, SystemClock(), "first")
    second = store.claim("a", epoch=1, token="2", owner="supervisor")
    between: Any = Between(store, lambda: send(store, "a", CANCEL))
    park(between, second, SystemClock(), "second")
    row = store.thread("a")
    assert (row.status, row.token) == (Status.QUEUED, "")
    park(store, store.claim("a", epoch=2, token="3", owner="supervisor"), SystemClock(), "third")
    assert store.thread("a").status is Status.CANCELLED


class Planner:
    def __init__(self) -> None:
        self.told: list[str] = []

    def act(self) -> None:
        return

    async def notify(self, thread_id: str) -> None:
        self.told.append(thread_id)

    def wait(self, row: ThreadRecord, *, died: bool) -> None:
        raise AssertionError(row)


class Unreadable:
    """A crew whose graphs cannot be read."""

    async def host(self, name: str, threads: Any) -> list[int]:
        raise Corrupt("the record of graph 'g' is damaged: its checksum does not match")


def hands(store: CheckpointStore, planner: Planner) -> Handover:
    settings = ServiceSettings(store=StoreConfig(url="memory://"))
    roster = Roster(max_actors=1, spares=0, idle=1.0)
    return Handover(settings, "key", store, SystemClock(), roster, Lines(), Chores("here"), planner)


def test_the_threads_of_an_unreadable_graph_leave_the_line_together_and_are_paused(store: CheckpointStore) -> None:
    planner = Planner()
    handover = hands(store, planner)
    lines: Lines = handover._lines

    async def play() -> None:
        lines.add(Waiting("a", 0, "g"))
        lines.add(Waiting("b", 0, "g", shared=True))
        lines.add(Waiting("c", 0, "other"))
        twice = [asyncio.create_task(handover.give_up("g", "its graph is damaged")) for _ in range(2)]
        await asyncio.sleep(0)
        assert len(lines) == 1
        await asyncio.gather(*twice)

    asyncio.run(play())
    for name in ("a", "b"):
        row = store.thread(name)
        assert (row.status, row.reason, row.epoch) == (Status.PAUSED, "its graph is damaged", 1)
    assert sorted(planner.told) == ["a", "b"]
    assert handover.asking == {}
    send(store, "a", RETRY)
    assert store.thread("a").status is Status.QUEUED


def test_an_actor_that_is_given_a_thread_of_an_unreadable_graph(store: CheckpointStore) -> None:
    """A warm actor of a former supervisor does not hide that its graph cannot be read any more."""
    planner = Planner()
    handover = hands(store, planner)
    handover.crew = Unreadable()  # type: ignore[assignment]  # only what is asked of it here

    async def play() -> None:
        await handover._host("actor", [Waiting("a", 0, "g")])

    asyncio.run(play())
    assert store.thread("a").reason == (
        "it cannot be taken: the record of graph 'g' is damaged: its checksum does not match"
    )
    assert store.thread("a").status is Status.PAUSED
