"""`get_context()`: where a node is, which attempt it is, and the key by which its effects are told apart."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import (
    END,
    START,
    CheckpointStore,
    Command,
    PerdureError,
    RetryPolicy,
    StateGraph,
    get_context,
    heartbeat,
    interrupt,
    task,
)
from perdure.stores.segments import Kind
from tests.runtime.engine import THREAD, CountingStore, State, chain, fan, thread


def key_of(state: Any) -> dict[str, Any]:
    return {"items": [get_context().idempotency_key]}


def test_what_it_tells(store: CheckpointStore) -> None:
    def node(state: State) -> dict[str, Any]:
        at = get_context()
        return {"items": [[at.thread_id, at.graph, at.node, at.step, at.run, at.attempt, at.last_heartbeat]]}

    graph = chain({"a": node, "b": node}, store, name="tells")
    assert graph.invoke({}, THREAD)["items"] == [["t", "tells", "a", 0, 1, 1, None], ["t", "tells", "b", 1, 1, 1, None]]
    with pytest.raises(PerdureError, match=r"get_context\(\) was called outside a node"):
        get_context()


def test_attempts_and_heartbeats(store: CheckpointStore) -> None:
    seen: list[Any] = []

    def node(state: State) -> None:
        at = get_context()
        seen.append((at.attempt, at.last_heartbeat, at.idempotency_key))
        heartbeat({"done": at.attempt})
        if at.attempt < 3:
            raise ConnectionError("again")

    builder = StateGraph(State)
    builder.add_node("a", node, retry_policy=RetryPolicy(initial_interval=0, jitter=False))
    builder.add_edge(START, "a").add_edge("a", END)
    graph = builder.compile(store)
    graph.invoke({}, THREAD)
    assert [(attempt, beat) for attempt, beat, _ in seen] == [(1, None), (2, {"done": 1}), (3, {"done": 2})]
    assert len({key for _, _, key in seen}) == 1


def test_a_heartbeat_is_seen_from_outside_and_by_the_next_run(store: CheckpointStore) -> None:
    seen: list[Any] = []

    def node(state: State) -> None:
        seen.append(get_context().last_heartbeat)
        heartbeat(len(seen))
        seen.append([one.heartbeat for one in graph.get_state(THREAD).tasks])
        if len(seen) == 2:
            raise ValueError("no")

    graph = chain({"a": node}, store)
    with pytest.raises(ValueError, match="no"):
        graph.invoke({}, THREAD, durability="sync")
    graph.invoke(None, THREAD)
    assert seen[0] is None
    assert seen[2] == 1


def test_the_last_of_quick_heartbeats_is_kept_by_a_thread_that_waits(store: CheckpointStore) -> None:
    """They are written once a second at most; one that came just before its thread was parked was lost."""
    seen: list[Any] = []

    def node(state: State) -> State:
        seen.append(get_context().last_heartbeat)
        for number in range(3):
            heartbeat(number)
        return {"items": [interrupt("well?")]}

    graph = chain({"a": node}, store)
    graph.invoke({}, THREAD)
    assert [one.heartbeat for one in graph.get_state(THREAD).tasks] == [2]
    graph.invoke(Command(resume="fine"), THREAD)
    assert seen == [None, 2]


def test_keys_differ_where_effects_do(store: CheckpointStore) -> None:
    graph = chain({"a": key_of, "b": key_of}, store)
    first = graph.invoke({}, THREAD)["items"]
    second = graph.invoke({}, THREAD)["items"][2:]
    other = graph.invoke({}, thread("u"))["items"]
    assert len({*first, *second, *other}) == 6
    beside = fan({"a": key_of, "b": key_of}, store).invoke({}, thread("v"))["items"]
    assert len({*beside, *first}) == 4


def test_a_key_is_that_of_every_execution(store: CheckpointStore) -> None:
    seen: list[list[str]] = []

    @task
    def inside() -> str:
        return get_context().idempotency_key

    def node(state: State) -> dict[str, Any]:
        seen.append([get_context().idempotency_key, inside(), inside()])
        return {"items": [interrupt("?")]}

    graph = chain({"a": node}, store)
    graph.invoke({}, THREAD)
    before = graph.get_state(THREAD).config
    graph.update_state(THREAD, {"n": 1})
    graph.invoke(Command(resume=1), THREAD)
    assert seen[0] == seen[1], "an update between two steps leaves the task what it was"
    assert len(set(seen[0])) == 3
    graph.update_state(before, None)
    graph.invoke(None, THREAD)
    assert not {*seen[0]} & {*seen[2]}, "a fork is another branch"


@pytest.mark.parametrize("durability", ["async", "exit"])
def test_reading_a_key_waits_for_what_came_before(durability: str) -> None:
    store, seen = CountingStore(), list[bool]()

    def node(state: State) -> None:
        assert get_context().idempotency_key
        made = [row.channel for commit in store.commits for row in commit.rows if row.kind != Kind.CHECKPOINT]
        seen.append("items" in made)

    chain({"a": lambda state: {"items": [1]}, "b": node}, store).invoke({}, THREAD, durability=durability)
    assert seen == [True]


def test_a_heartbeat_that_cannot_be_stored(store: CheckpointStore) -> None:
    with pytest.raises(PerdureError, match="cannot be stored"):
        chain({"a": lambda state: heartbeat(object())}, store).invoke({}, THREAD)
    with pytest.raises(PerdureError, match=r"heartbeat\(\) was called outside a node"):
        heartbeat(1)
