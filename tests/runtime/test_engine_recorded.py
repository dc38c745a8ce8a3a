"""What nodes ask for and are given is recorded: when, in which commit, and under which key."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from perdure import END, START, Command, RetryPolicy, StateGraph, get_context, interrupt, receive, sleep, task
from perdure.runtime.calls import Call, decode_call
from perdure.runtime.clock import SystemClock
from perdure.runtime.compiled import CompiledGraph
from perdure.runtime.options import RunOptions
from perdure.runtime.payloads import INPUT, InputPayload, pack_input
from perdure.runtime.signals import ACCEPTS_SIGNALS, signal_message
from perdure.stores.base import CommitResult
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Commit
from perdure.stores.records import IN_PROCESS, Message, Status, ThreadRecord
from perdure.stores.segments import Kind, Row
from tests.runtime.engine import THREAD, State, chain, says


class Slow(MemoryStore):
    """Takes its time over every commit, so that what runs ahead of it is seen to."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        time.sleep(0.03)
        return super().commit(commits)


def calls_of(store: MemoryStore) -> list[tuple[Row, int, Call]]:
    """The recorded calls that are in the store, oldest first."""
    graph = chain({"a": says("a")}, None)
    rows = [row for segment in store.segments("t")[::-1] for row in segment.rows if row.kind == Kind.CALL]
    return [(row, *decode_call(graph.codec.decode(row.encoding, row.payload))) for row in rows]


def test_a_task_begins_when_what_came_before_is_durable() -> None:
    """Otherwise a crash could decide the past differently, after the outside world has been told of it."""
    store, seen = Slow(), list[int]()

    @task
    def charge() -> str:
        seen.append(store.thread("t").head)
        return "done"

    chain({"a": says("a"), "b": says("b"), "c": lambda state: {"items": [charge()]}}, store).invoke({}, THREAD)
    # The checkpoints of the input, of `a` and of `b`.
    assert seen == [3]


def test_a_tasks_result_is_durable_before_its_node_goes_on() -> None:
    store, seen = Slow(), list[list[Any]]()

    @task
    def charge(number: int) -> str:
        return f"charged {number}"

    def node(state: Any) -> Any:
        for number in range(2):
            charge(number)
            seen.append([call.value for _, _, call in calls_of(store)])
        return {"items": ["a"]}

    chain({"a": node}, store).invoke({}, THREAD)
    assert seen == [["charged 0"], ["charged 0", "charged 1"]]


def test_a_recorded_result_is_not_made_again() -> None:
    store, made = MemoryStore(), list[int]()

    @task
    def draw() -> int:
        made.append(len(made))
        return made[-1]

    def node(state: Any) -> Any:
        first = draw()
        answer = interrupt("go on?")
        return {"items": [first, answer, draw()]}

    graph = chain({"a": node}, store)
    graph.invoke({}, THREAD)
    assert graph.invoke(Command(resume="yes"), THREAD)["items"] == [0, "yes", 1]
    assert made == [0, 1]


def test_a_signal_is_consumed_by_the_commit_that_records_it() -> None:
    """Between two commits a crash would lose it, or give it twice."""
    store = MemoryStore()
    graph = chain({"a": lambda state: {"items": [receive("price"), receive("price")]}}, store, name="listening")
    _created(graph, store)
    for value in (1, 2):
        store.deliver("t", signal_message(graph.codec, SystemClock(), "price", value), ACCEPTS_SIGNALS)
    assert graph.invoke(None, THREAD)["items"] == [1, 2]
    signals = [message for message in store.messages("t", unread=False) if message.kind == "signal"]
    recorded = [(row.checkpoint, call.value) for row, _, call in calls_of(store)]
    assert recorded == [(signals[0].applied, [1]), (signals[1].applied, [2])]


def test_a_parked_sleeper_has_its_time_in_the_store() -> None:
    store = MemoryStore()
    began = time.time()
    times = list[float]()

    def look(state: Any) -> Any:
        sleep(0.2)
        times.append(time.time())
        return {"items": ["woke"]}

    graph = chain({"a": look}, store)
    graph.invoke({}, THREAD)
    assert len(times) == 1
    assert times[0] - began >= 0.2
    assert (store.thread("t").status, store.thread("t").wake_at) == (Status.SUCCEEDED, 0.0)


def test_a_key_is_the_same_for_every_attempt() -> None:
    store, keys = MemoryStore(), list[tuple[str, str]]()

    @task
    def charge(number: int) -> None:
        keys.append((f"charge {number}", get_context().idempotency_key))

    def node(state: Any) -> Any:
        keys.append(("node", get_context().idempotency_key))
        charge(0)
        if len(keys) < 6:
            raise ConnectionError("no such luck")
        charge(1)
        return {"items": ["a"]}

    policy = RetryPolicy(initial_interval=0.0, jitter=False, max_attempts=9)
    builder = StateGraph(State).add_node("a", node, retry_policy=policy).add_edge(START, "a").add_edge("a", END)
    graph = builder.compile(store)
    for _ in range(2):
        graph.invoke({}, THREAD)
    by_name: dict[str, set[str]] = {}
    for name, key in keys:
        by_name.setdefault(name, set()).add(key)
    # One key of each in each of the two runs, however often the node was tried.
    assert {name: len(found) for name, found in by_name.items()} == {"node": 2, "charge 0": 2, "charge 1": 2}
    assert len({key for _, key in keys}) == 6
    assert len(keys) > 6


def _created(graph: CompiledGraph, store: MemoryStore) -> None:
    message = Message(message_id="input", kind=INPUT, payload=pack_input(graph.codec, InputPayload({}, RunOptions())))
    store.create(ThreadRecord(thread_id="t", graph=graph.name, version=graph.version, driver=IN_PROCESS), message)
