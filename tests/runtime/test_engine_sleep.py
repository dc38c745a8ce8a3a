"""`sleep()` and `sleep_until()`: the thread is parked, its deadline is kept, and clocks may be set."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure import CheckpointStore, CompiledGraph, InputError, PerdureError, sleep, sleep_until, task
from perdure.runtime.inprocess import InProcess
from perdure.runtime.local import LocalExecutor
from perdure.runtime.options import RunOptions
from perdure.runtime.payloads import INPUT, InputPayload, pack_input
from perdure.runtime.settled import Settled
from perdure.runtime.waking import wake_message
from perdure.stores.base import CommitResult
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Commit
from perdure.stores.records import Status, ThreadRecord
from tests.runtime.engine import THREAD, Log, State, chain, fan, says

HOUR = timedelta(hours=1)


class HandClock:
    """Stands still until it is told to go."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self._ids = 0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def unique(self) -> str:
        self._ids += 1
        return f"id{self._ids}"


class Owner:
    """Runs a graph's thread `t`, one claim at a time."""

    def __init__(self, graph: CompiledGraph, store: CheckpointStore) -> None:
        self.clock = HandClock()
        self.store = store
        self._runner = InProcess(
            topology=graph.topology,
            store=store,
            codec=graph.codec,
            clock=self.clock,
            executor=lambda: LocalExecutor(graph._sync_portal),
        )
        payload = pack_input(graph.codec, InputPayload({}, RunOptions()))
        self._runner.send("t", INPUT, payload)

    def touch(self) -> Settled:
        """Claim the thread and give it up again, as the owner of a parked thread that is only updated."""
        return self._runner.touch("t")

    def wake(self, now: float) -> None:
        """Say that the thread is due."""
        self.store.deliver("t", *wake_message(self.store.thread("t"), now))

    def drive(self) -> Settled:
        """Claim the thread and drive it until it is given up."""
        return self._runner.drive("t")


def sleeper(log: Log, duration: timedelta | float = HOUR) -> Any:
    def node(state: State) -> dict[str, Any]:
        log.calls.append("before")
        sleep(duration)
        log.calls.append("after")
        return {"items": ["slept"]}

    return node


def test_a_sleeping_thread_is_a_row_and_nothing_else() -> None:
    log, store = Log(), MemoryStore()
    owner = Owner(chain({"a": sleeper(log), "z": says("z")}, store), store)
    start = owner.clock.now
    assert owner.drive().status is Status.SLEEPING
    row = store.thread("t")
    assert (row.status, row.wake_at, row.owner, row.token, row.waits) == ("sleeping", start + 3600, "", "", ())
    owner.clock.now = start + 3599
    assert owner.drive().status is Status.SLEEPING
    assert log.calls == ["before"]
    owner.clock.now = start + 3600
    assert owner.drive().position.values["items"] == ["slept", "z"]
    assert log.calls == ["before", "before", "after"]
    assert store.thread("t").status is Status.SUCCEEDED


def test_an_owner_whose_clock_is_behind_goes_by_that_of_the_wake() -> None:
    log, store = Log(), MemoryStore()
    owner = Owner(chain({"a": sleeper(log)}, store), store)
    due = owner.clock.now + 3600
    owner.drive()
    owner.clock.now -= 86_400
    owner.wake(due + 1)
    assert store.thread("t").status is Status.QUEUED
    assert owner.drive().status is Status.SUCCEEDED
    assert [(message.kind, message.applied > 0) for message in store.messages("t", unread=False)] == [
        ("input", True),
        ("wake", True),
    ]


def test_two_who_wake_a_thread_wake_it_once() -> None:
    log, store = Log(), MemoryStore()
    owner = Owner(chain({"a": sleeper(log), "b": sleeper(log)}, store), store)
    owner.drive()
    parked = store.thread("t")
    for _ in range(2):
        store.deliver("t", *wake_message(parked, parked.wake_at))
    assert owner.drive().status is Status.SLEEPING
    assert [message.kind for message in store.messages("t", unread=False)] == ["input", "wake"]
    assert store.thread("t").wake_at == parked.wake_at + 3600, "counted from the time by which it was woken"


def test_an_update_leaves_a_sleeping_thread_asleep() -> None:
    log, store = Log(), MemoryStore()
    graph = chain({"a": sleeper(log)}, store)
    owner = Owner(graph, store)
    owner.drive()
    due = store.thread("t").wake_at
    owner.clock.now = due + 1
    assert owner.touch().status is Status.SLEEPING
    graph.update_state(THREAD, {"items": ["added"]})
    assert (store.thread("t").status, store.thread("t").wake_at) == ("sleeping", due)
    assert owner.drive().position.values["items"] == ["added", "slept"]
    assert log.calls == ["before", "before", "after"]


class Held(MemoryStore):
    """Who waits for the sleeper claims it again only after somebody else has, and that one commits nothing until the
    waiter has looked at the thread several times."""

    def __init__(self) -> None:
        super().__init__()
        self.waiter: int | None = None
        self._looks = 0
        self._started, self._taken = False, threading.Event()
        self._others: set[str] = set()

    def thread(self, thread_id: str) -> ThreadRecord:
        self._looks += threading.get_ident() == self.waiter
        return super().thread(thread_id)

    def claim(self, thread_id: str, *, token: str, **of: Any) -> ThreadRecord:
        if threading.get_ident() == self.waiter:
            assert not self._started or self._taken.wait(60), "nobody else claimed it"
            self._started = True
            return super().claim(thread_id, token=token, **of)
        found = super().claim(thread_id, token=token, **of)
        self._others.add(token)
        self._taken.set()
        return found

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        if commits[0].token in self._others:
            seen, deadline = self._looks, time.monotonic() + 60
            while self._looks < seen + 4:
                assert time.monotonic() < deadline, "the waiter does not look"
                time.sleep(0.005)
        return super().commit(commits)


def test_who_waits_for_a_sleeper_goes_on_waiting_while_it_is_updated() -> None:
    """`invoke` took the one who applied the update for somebody who ran the thread, and failed."""
    store, results = Held(), []
    graph = chain({"a": sleeper(Log(), 0.5)}, store)

    def wait() -> None:
        store.waiter = threading.get_ident()
        results.append(graph.invoke({}, THREAD))

    waiting = threading.Thread(target=wait)
    waiting.start()
    deadline = time.monotonic() + 60
    while not store.threads().threads or store.thread("t").status is not Status.SLEEPING:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    graph.update_state(THREAD, {"items": ["added"]})
    waiting.join(60)
    assert results == [{"items": ["added", "slept"]}]


def test_a_deadline_that_is_left_is_void() -> None:
    log, store = Log(), MemoryStore()
    graph = chain({"a": sleeper(log), "z": says("z")}, store)
    owner = Owner(graph, store)
    owner.drive()
    graph.update_state(THREAD, {"items": ["instead"]}, as_node="a")
    assert (store.thread("t").status, store.thread("t").wake_at) == ("paused", 0.0)
    assert graph.invoke(None, THREAD)["items"] == ["instead", "z"]
    assert log.calls == ["before"]


def test_the_earliest_deadline_wakes(store: CheckpointStore) -> None:
    log = Log()

    def short(state: State) -> dict[str, Any]:
        sleep(0.05)
        return {"items": [store.thread("t").wake_at]}

    started = time.time()
    graph = fan({"long": sleeper(log, 0.3), "short": short}, store)
    found = graph.invoke({}, THREAD)["items"]
    assert found[0] == "slept"
    assert log.calls == ["before", "before", "after"]
    assert time.time() - started >= 0.3


def test_a_sleep_beside_a_node_that_runs_is_over_in_time(store: CheckpointStore) -> None:
    ended: list[str] = []

    def dozes(state: State) -> None:
        sleep(0.02)
        ended.append("dozes")

    def works(state: State) -> None:
        deadline = time.monotonic() + 30
        while not ended and time.monotonic() < deadline:
            time.sleep(0.005)
        ended.append("works")

    fan({"dozes": dozes, "works": works}, store).invoke({}, THREAD)
    assert ended == ["dozes", "works"]


@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
def test_several_sleeps_of_one_node(store: CheckpointStore, durability: str) -> None:
    rounds: list[int] = []

    def node(state: State) -> dict[str, Any]:
        for turn in range(3):
            rounds.append(turn)
            sleep(timedelta(milliseconds=5))
        return {"n": 1}

    assert chain({"a": node}, store).invoke({}, THREAD, durability=durability)["n"] == 1
    assert rounds == [0, 0, 1, 0, 1, 2, 0, 1, 2]


def test_sleep_until(store: CheckpointStore) -> None:
    until = datetime.now(UTC) + timedelta(seconds=0.05)

    def node(state: State) -> dict[str, Any]:
        sleep_until(datetime.now(UTC) - HOUR)
        sleep_until(until)
        return {"items": [datetime.now(UTC) >= until]}

    assert chain({"a": node}, store).invoke({}, THREAD)["items"] == [True]


def test_a_node_cannot_swallow_its_sleep(store: CheckpointStore) -> None:
    def node(state: State) -> dict[str, Any]:
        try:
            sleep(0.01)
        except Exception:
            return {"items": ["swallowed"]}
        return {"items": ["slept"]}

    assert chain({"a": node}, store).invoke({}, THREAD)["items"] == ["slept"]


def test_async_nodes_sleep_by_the_same_call(store: CheckpointStore) -> None:
    async def node(state: State) -> dict[str, Any]:
        sleep(0.02)
        return {"items": ["slept"]}

    assert asyncio.run(chain({"a": node}, store).ainvoke({}, THREAD))["items"] == ["slept"]


def test_without_a_store_the_run_itself_waits() -> None:
    @task
    def noted() -> str:
        log.calls.append("noted")
        return "noted"

    def node(state: State) -> dict[str, Any]:
        kept = noted()
        sleep(0.05)
        return {"items": [kept]}

    log, started = Log(), time.monotonic()
    assert chain({"a": node}, None).invoke({})["items"] == ["noted"]
    assert time.monotonic() - started >= 0.05
    assert log.calls == ["noted"]


@pytest.mark.parametrize("duration", [-1, float("nan"), float("inf"), True, "1s", None])
def test_what_is_no_duration(store: CheckpointStore, duration: Any) -> None:
    with pytest.raises(InputError, match=r"sleep\(\) was given"):
        chain({"a": lambda state: sleep(duration)}, store).invoke({}, THREAD)


def test_outside_a_node() -> None:
    with pytest.raises(PerdureError, match=r"sleep\(\) was called outside a node"):
        sleep(1)
    with pytest.raises(InputError, match="give it a datetime"):
        sleep_until(5)  # type: ignore[arg-type]  # what it refuses
