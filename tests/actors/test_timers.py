"""Timers in the supervisor: what is done when, on which clock, and that two of them wake a thread once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from perdure.actors.chores import Chores
from perdure.actors.timers import Timers
from perdure.actors.upcoming import Stage, Upcoming
from perdure.runtime.clock import SystemClock
from perdure.stores.base import CheckpointStore
from perdure.stores.errors import StoreUnavailable
from perdure.stores.memory import MemoryStore
from perdure.stores.records import IN_PROCESS, Status, ThreadRecord
from perdure.testing.samples import commit, new_thread, owned

LOOK = 0.2
PREPARE, PRELOAD, WAKE = Stage.PREPARE, Stage.PRELOAD, Stage.WAKE


def row(thread_id: str, wake_at: float, seq: int = 1) -> ThreadRecord:
    return new_thread(thread_id, status=Status.SLEEPING, wake_at=wake_at, seq=seq, graph_key="g")


def taken(upcoming: Upcoming, now: float) -> list[tuple[str, Stage]]:
    return [(timer.row.thread_id, stage) for timer, stage in upcoming.take(now)]


def test_a_process_is_prepared_then_the_state_is_read_then_the_thread_is_woken() -> None:
    upcoming = Upcoming()
    upcoming.note(row("t", 1010.0), 1000.0, 50.0)
    assert upcoming.pause(50.0) == 9.0
    assert taken(upcoming, 58.9) == []
    assert not upcoming.graphs()
    assert taken(upcoming, 59.0) == [("t", PREPARE)]
    assert upcoming.graphs() == {"g": 1}
    assert taken(upcoming, 59.9) == [("t", PRELOAD)]
    assert taken(upcoming, 59.999) == []
    assert taken(upcoming, 60.0) == [("t", WAKE)]
    assert (len(upcoming), upcoming.pause(60.0), dict(upcoming.graphs())) == (0, None, {})


def test_what_is_late_is_woken_at_once() -> None:
    upcoming = Upcoming()
    upcoming.note(row("a", 900.0), 1000.0, 50.0)
    upcoming.note(row("b", 1000.05), 1000.0, 50.0)
    assert taken(upcoming, 50.0) == [("a", WAKE), ("b", PRELOAD)]


def test_a_clock_that_is_set_back_delays_nothing_that_was_noted() -> None:
    upcoming = Upcoming()
    upcoming.note(row("t", 1002.0), 1000.0, 50.0)
    upcoming.note(row("t", 1002.0), -2600.0, 51.0)
    assert taken(upcoming, 52.0) == [("t", WAKE)]


def test_a_clock_that_is_set_forward_brings_what_was_noted_nearer() -> None:
    upcoming = Upcoming()
    upcoming.note(row("t", 1002.0), 1000.0, 50.0)
    upcoming.note(row("t", 1002.0), 4600.0, 51.0)
    assert taken(upcoming, 51.0) == [("t", WAKE)]
    assert upcoming.pause(51.0) is None


def test_a_thread_that_sleeps_anew_has_only_its_new_time() -> None:
    upcoming = Upcoming()
    upcoming.note(row("t", 1001.0), 1000.0, 50.0)
    upcoming.note(row("t", 1005.0, seq=2), 1000.5, 50.5)
    assert taken(upcoming, 54.0) == [("t", PREPARE)]
    assert taken(upcoming, 54.99) == [("t", PRELOAD)]
    assert taken(upcoming, 55.0) == [("t", WAKE)]


class Wakers:
    """Stands for the service: notes what the timers ask of it, and when."""

    def __init__(self) -> None:
        self.woken: dict[str, float] = {}
        self.preloaded: list[str] = []
        self.acted = 0

    def act(self) -> None:
        self.acted += 1

    def preload(self, row: ThreadRecord) -> None:
        self.preloaded.append(row.thread_id)

    async def notify(self, thread_id: str) -> None:
        self.woken[thread_id] = time.time()


def sleeping(store: CheckpointStore, thread_id: str, wake_at: float, **fields: Any) -> None:
    owned(store, thread_id, **{key: value for key, value in fields.items() if key == "driver"})
    status = fields.get("status", Status.SLEEPING)
    store.commit([commit(1, thread_id=thread_id, status=status, wake_at=wake_at, release=True)])


def timers(store: CheckpointStore, wakers: Wakers) -> Timers:
    return Timers(store, SystemClock(), LOOK, Chores("the test's store"), wakers, lambda thread_id: True)


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def serving(work: Callable[[], Coroutine[Any, Any, None]], *services: Timers) -> None:
    async def main() -> None:
        tasks = [asyncio.create_task(one.run()) for one in services]
        try:
            await work()
        finally:
            for task in tasks:
                task.cancel()

    asyncio.run(main())


def test_sleepers_are_woken_at_their_time_and_two_supervisors_wake_each_once() -> None:
    store, first, second = MemoryStore(), Wakers(), Wakers()
    now = time.time()
    due = {f"t-{i}": now + 0.3 + i * 0.01 for i in range(20)}
    for thread_id, wake_at in due.items():
        sleeping(store, thread_id, wake_at)
    sleeping(store, "far", now + 1e6)
    one, two = timers(store, first), timers(store, second)

    async def work() -> None:
        await one.look()
        await two.look()
        await until(lambda: len(first.woken) == len(second.woken) == len(due))
        assert await one.any()

    serving(work, one, two)
    for thread_id, wake_at in due.items():
        assert store.thread(thread_id).status is Status.QUEUED
        assert [message.kind for message in store.messages(thread_id)] == ["wake"]
        assert first.woken[thread_id] >= wake_at - 0.002
    assert store.thread("far").status is Status.SLEEPING
    assert set(first.preloaded) == set(due)
    assert first.acted > 0


def test_threads_that_nobody_wakes_do_not_hide_the_others() -> None:
    """Paused threads and those of an `invoke` that died are due for ever, and first in every reading of the store."""
    store, wakers = MemoryStore(), Wakers()
    for i in range(2100):
        sleeping(store, f"paused-{i}", 5.0, status=Status.PAUSED)
    sleeping(store, "elsewhere", 5.0, driver=IN_PROCESS)
    sleeping(store, "ours", 6.0)
    service = timers(store, wakers)

    async def work() -> None:
        assert await service.any()
        await service.look()
        await service.look()
        await until(lambda: "ours" in wakers.woken)
        assert not await service.any()

    serving(work, service)
    assert set(wakers.woken) == {"ours"}


def test_a_wake_up_that_the_store_did_not_take_is_made_up_for() -> None:
    class Away(MemoryStore):
        failures = 2

        def deliver(self, *args: Any, **named: Any) -> Any:
            if self.failures:
                self.failures -= 1
                raise StoreUnavailable("away")
            return super().deliver(*args, **named)

    store, wakers = Away(), Wakers()
    sleeping(store, "t", 5.0)
    service = timers(store, wakers)

    async def work() -> None:
        while "t" not in wakers.woken:
            await service.look()
            await asyncio.sleep(0.01)

    serving(work, service)
    assert store.thread("t").status is Status.QUEUED
