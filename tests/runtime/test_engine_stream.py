"""`stream` and its modes; and that nothing is told before it is durable."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, TypedDict

import pytest

from perdure import END, START, CheckpointStore, Command, InputError, Send, StateGraph
from perdure.stores.base import CommitResult
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Commit
from tests.runtime.engine import THREAD, Log, State, asks, chain, fan, history, says, thread


def test_updates_are_the_default_mode(store: CheckpointStore) -> None:
    graph = chain({"a": says("a"), "none": lambda state: None, "b": lambda state: {"n": 2, "items": ["b"]}}, store)
    wanted = [{"a": {"items": ["a"]}}, {"none": None}, {"b": {"n": 2, "items": ["b"]}}]
    assert list(graph.stream({"n": 1}, THREAD)) == wanted
    assert list(graph.stream({"n": 1}, thread("u"), stream_mode="updates")) == wanted


def test_values_are_the_whole_state_after_each_step(store: CheckpointStore) -> None:
    graph = fan({"a": says("a"), "b": says("b")}, store, last=says("end"))
    assert list(graph.stream({"n": 1}, THREAD, stream_mode="values")) == [
        {"n": 1, "items": []},
        {"n": 1, "items": ["a", "b"]},
        {"n": 1, "items": ["a", "b", "end"]},
    ]


@pytest.mark.parametrize("modes", [["values", "updates"], ("updates", "values")])
def test_a_list_of_modes_gives_pairs(store: CheckpointStore, modes: Sequence[str]) -> None:
    graph = chain({"a": says("a")}, store)
    assert list(graph.stream({"n": 1}, THREAD, stream_mode=modes)) == [
        ("values", {"n": 1, "items": []}),
        ("updates", {"a": {"items": ["a"]}}),
        ("values", {"n": 1, "items": ["a"]}),
    ]
    assert list(graph.stream({"n": 1}, THREAD, stream_mode=["updates"])) == [("updates", {"a": {"items": ["a"]}})]
    with pytest.raises(InputError, match="'tokens' is unknown; choose from values, updates"):
        list(graph.stream({}, THREAD, stream_mode="tokens"))


def test_interrupts_are_streamed_in_every_mode(store: CheckpointStore) -> None:
    graph = chain({"a": says("a"), "ask": asks("?")}, store)
    events = list(graph.stream({"n": 1}, THREAD, stream_mode=["values", "updates"]))
    stop = graph.get_state(THREAD).interrupts
    assert events[-2:] == [
        ("updates", {"__interrupt__": stop}),
        ("values", {"n": 1, "items": ["a"], "__interrupt__": stop}),
    ]
    assert list(graph.stream(Command(resume="yes"), THREAD)) == [{"ask": {"items": ["yes"]}}]


def test_static_breakpoints_are_told_among_the_updates(store: CheckpointStore) -> None:
    graph = chain({"a": says("a"), "b": says("b")}, store, interrupt_before=["b"])
    assert list(graph.stream({}, THREAD)) == [{"a": {"items": ["a"]}}, {"__interrupt__": ()}]
    assert list(graph.stream(None, THREAD, stream_mode="values")) == [{"items": ["a"]}, {"items": ["a", "b"]}]


def test_updates_of_several_tasks_come_in_their_fixed_order(store: CheckpointStore) -> None:
    def work(part: int) -> dict[str, Any]:
        time.sleep(0.03 / (part + 1))
        return {"items": [part]}

    builder = StateGraph(State).add_node("work", work).add_edge("work", END)
    builder.add_conditional_edges(START, lambda state: [Send("work", one) for one in range(3)], ["work"])
    found = list(builder.compile(store).stream({}, THREAD))
    assert found == [{"work": {"items": [one]}} for one in range(3)]


def test_several_updates_of_one_node(store: CheckpointStore) -> None:
    def twice(state: State) -> list[Any]:
        return [Command(update={"items": [1], "n": 1}), {"items": [2]}]

    graph = chain({"a": twice}, store)
    assert list(graph.stream({}, THREAD)) == [{"a": [{"items": [1], "n": 1}, {"items": [2]}]}]


def test_keys_of_a_nodes_own_schema_are_streamed(store: CheckpointStore) -> None:
    builder = StateGraph(State).add_node("a", lambda state: {"secret": 5})
    builder.add_node("b", lambda inner: {"items": [inner["secret"]]}, input_schema=Inner)
    graph = builder.add_edge(START, "a").add_edge("a", "b").add_edge("b", END).compile(store)
    assert list(graph.stream({}, THREAD, stream_mode="values"))[-1] == {"items": [5], "secret": 5}
    assert graph.get_state(THREAD).values == {"items": [5], "secret": 5}
    assert graph.invoke({}, THREAD) == {"items": [5, 5]}


def test_an_error_comes_after_the_steps_before_it(store: CheckpointStore) -> None:
    def bad(state: State) -> None:
        raise KeyError("boom")

    graph = chain({"a": says("a"), "bad": bad}, store)
    stream = graph.stream({}, THREAD)
    assert next(stream) == {"a": {"items": ["a"]}}
    with pytest.raises(KeyError, match="boom"):
        next(stream)


def test_a_stream_that_is_left_early_stops_the_run(store: CheckpointStore) -> None:
    """LangGraph runs a step when the next event is asked for. Here it runs ahead, but not for ever."""
    log = Log()
    graph = chain({name: log.node(name, lambda state: time.sleep(0.02)) for name in "abcdefgh"}, store)
    for event in graph.stream({}, THREAD):
        assert event == {"a": None}
        break
    ran = len(log.calls)
    assert ran < 8
    assert store.thread("t").status == "queued"
    assert store.thread("t").owner == ""
    graph.update_state(THREAD, {"items": ["between"]})
    assert graph.invoke(None, THREAD)["items"] == ["between"]
    assert log.calls == list("abcdefgh")


def test_a_stream_sees_the_context_of_its_reader(store: CheckpointStore) -> None:
    user: ContextVar[str] = ContextVar("user", default="nobody")
    graph = chain({"a": lambda state: {"items": [user.get()]}}, store)
    user.set("ann")
    assert list(graph.stream({}, THREAD)) == [{"a": {"items": ["ann"]}}]
    assert graph.invoke({}, thread("u"))["items"] == ["ann"]


class Inner(TypedDict):
    secret: int


class HeldStore(MemoryStore):
    """Commits wait until they are let through."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.waiting = threading.Event()

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        self.waiting.set()
        assert self.open.wait(10)
        return super().commit(commits)


@pytest.mark.parametrize("durability", ["async", "sync"])
def test_nothing_is_told_before_it_is_durable(durability: str) -> None:
    store = HeldStore()
    log = Log()
    graph = chain({"a": log.node("a"), "b": log.node("b")}, store)
    told: list[Any] = []
    reader = threading.Thread(target=lambda: told.extend(graph.stream({}, THREAD, durability=durability)))
    reader.start()
    assert store.waiting.wait(10)
    time.sleep(0.05)
    assert told == []
    # compute runs ahead of the store in async durability, and only there
    assert log.calls == (["a", "b"] if durability == "async" else [])
    store.open.set()
    reader.join(10)
    assert told == [{"a": {"items": ["a"]}}, {"b": {"items": ["b"]}}]


def test_compute_runs_ahead_only_so_far() -> None:
    store = HeldStore()
    ahead: list[int] = []

    def count(state: State) -> dict[str, Any]:
        ahead.append(state["n"])
        return {"n": state["n"] + 1}

    builder = StateGraph(State).add_node("count", count).add_edge(START, "count")
    builder.add_conditional_edges("count", lambda state: "count" if state["n"] < 2000 else END, ["count", END])
    graph = builder.compile(store)
    runner = threading.Thread(target=lambda: graph.invoke({"n": 0}, THREAD))
    runner.start()
    assert store.waiting.wait(10)
    seen = -1
    while len(ahead) != seen:
        seen = len(ahead)
        time.sleep(0.3)
    assert 400 < seen < 600
    store.open.set()
    runner.join(30)
    assert len(ahead) == 2000
    assert len(history(graph)) == 2001
