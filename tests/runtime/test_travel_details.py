"""Time travel where it is easy to get wrong: edges asked again, options that changed, what is no argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import BaseModel

from perdure import (
    END,
    START,
    CheckpointConflict,
    CheckpointNotFound,
    CheckpointStore,
    Command,
    CompiledGraph,
    InputError,
    Migration,
    NotInterrupted,
    PerdureError,
    StateGraph,
    UnknownThread,
)
from perdure.runtime.diffs import diff_values
from perdure.stores.codec import Codec
from perdure.stores.memory import MemoryStore
from perdure.stores.records import Segment
from tests.runtime.engine import THREAD, State, asks, before, chain, says, thread


def forked_road(store: CheckpointStore) -> CompiledGraph:
    """`a`, then `low` or `high` by the state."""
    builder = StateGraph(State)
    for name in ("a", "low", "high"):
        builder.add_node(name, says(name))
    builder.add_edge(START, "a")
    builder.add_edge("low", END).add_edge("high", END)
    builder.add_conditional_edges("a", lambda state: "high" if state["n"] > 9 else "low", ["low", "high"])
    return builder.compile(store, interrupt_before="*")


def test_a_fork_with_an_update_asks_the_edges_again(store: CheckpointStore) -> None:
    graph = forked_road(store)
    graph.invoke({"n": 1}, THREAD)
    graph.invoke(None, THREAD)
    assert graph.get_state(THREAD).next == ("low",)
    fork = graph.fork(THREAD, {"n": 50})
    assert graph.get_state(fork).next == ("high",)
    graph.update_state(THREAD, {"n": 50})
    assert graph.get_state(THREAD).next == ("high",)


def test_an_answer_does_not_end_single_stepping(store: CheckpointStore) -> None:
    graph = chain({"q": asks("?"), "b": says("b")}, store, interrupt_before=["q"])
    graph.invoke({}, THREAD)
    assert graph.step(THREAD)["__interrupt__"]
    assert graph.invoke(Command(resume="yes"), THREAD)["items"] == ["yes"]
    assert (graph.get_state(THREAD).next, store.thread("t").status) == (("b",), "interrupted")
    assert graph.invoke(None, THREAD)["items"] == ["yes", "b"]


@pytest.mark.parametrize("update", [None, {"n": 5}])
def test_a_fork_has_the_breakpoints_that_were_changed_since(store: CheckpointStore, update: Any) -> None:
    graph = chain({name: says(name) for name in "abc"}, store, interrupt_before=["b"])
    graph.invoke({}, THREAD)
    graph.add_breakpoints(THREAD, before=["c"])
    past = graph.fork(before(graph, "a").config, update, thread_id="past")
    fork = graph.fork(THREAD, update, thread_id="u")
    assert (graph.breakpoints(past).before, graph.breakpoints(fork).before) == (("b",), ("b", "c"))
    graph.invoke(None, fork)
    assert graph.get_state(thread("u")).next == ("c",)


def test_who_names_one_list_of_breakpoints_keeps_the_other(store: CheckpointStore) -> None:
    graph = chain({name: says(name) for name in "abcd"}, store, interrupt_before=["b"])
    graph.invoke({}, THREAD)
    graph.add_breakpoints(THREAD, before=["d"])
    graph.invoke(None, THREAD, interrupt_after=["b"])
    assert graph.get_state(THREAD).next == ("c",)
    graph.invoke(None, THREAD)
    assert graph.get_state(THREAD).next == ("d",)


def test_a_conflict_says_that_an_update_was_nobodys(store: CheckpointStore) -> None:
    graph = chain({name: says(name) for name in "ab"}, store, interrupt_before=["b"])
    graph.invoke({"n": 1}, THREAD)
    head = graph.get_state(THREAD).checkpoint_id
    graph.update_state(THREAD, {"n": 2})
    with pytest.raises(CheckpointConflict, match=r"made by update at "):
        graph.update_state(THREAD, {"n": 3}, expected_checkpoint=head)


def test_no_step_is_left(store: CheckpointStore) -> None:
    graph = chain({name: says(name) for name in "ab"}, store)
    graph.invoke({}, THREAD)
    end = graph.get_state(THREAD)
    graph.update_state(before(graph, "b").config, {"n": 1})
    head = store.thread("t").head
    with pytest.raises(NotInterrupted, match="no step is left"):
        graph.step(end.config)
    assert store.thread("t").head == head, "it has not gone back either"


class WatchedStore(MemoryStore):
    """Notes which commits are read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[int] = []

    def segments(
        self, thread_id: str, *, first: int = 1, last: int | None = None, limit: int | None = None
    ) -> list[Segment]:
        found = super().segments(thread_id, first=first, last=last, limit=limit)
        self.read += [one.first for one in found]
        return found


def test_what_differs_reads_only_what_changed() -> None:
    nodes = {name: (lambda state: {"items": ["x"]}) for name in "abcdefgh"} | {"z": lambda state: {"n": 2}}
    with WatchedStore() as store:
        graph = chain(nodes, store)
        graph.invoke({}, THREAD, durability="sync")
        first, second = before(graph, "z").config, dict(graph.get_state(THREAD).config)
        store.read.clear()
        assert chain(nodes, store).diff(first, second).added == {"n": 2}
        assert min(store.read) > 4, "the list, which began with the first node, is the same in both"
        store.read.clear()
        assert len(chain(nodes, store).get_state(first).values["items"]) == 8
        assert min(store.read) <= 2


def test_what_differs_of_threads_that_are_not_there(store: CheckpointStore) -> None:
    graph = chain({"a": says("a")}, store)
    graph.invoke({}, THREAD)
    for pair in ((THREAD, thread("no")), (thread("no"), THREAD), (thread("no"), thread("no"))):
        with pytest.raises(UnknownThread, match="'no'"):
            graph.diff(*pair)


def test_equal_is_what_is_stored_alike() -> None:
    old = {"list": [1], "dict": {"a": 1}, "deep": {"a": [1, {"b": 0}]}, "same": {"a": 1, "b": [2]}}
    new = {"list": [True], "dict": {"a": 1.0}, "deep": {"a": [1, {"b": False}]}, "same": {"b": [2], "a": 1}}
    assert set(diff_values(old, new, Codec()).changed) == {"list", "dict", "deep"}


@dataclass
class Point:
    x: Any


class Model(BaseModel):
    x: Any


@dataclass(frozen=True)
class Key:
    x: Any


NAN = float("nan")
ALIKE: list[tuple[Any, Any]] = [
    (NAN, float("-nan")),
    ([NAN], [float("nan")]),
    ({1, 2.5, NAN}, {float("nan"), 2.5, 1}),
    ({1: "a", "b": 2}, {"b": 2, 1: "a"}),
    (Point({"a": 1, "b": {3, 11, 19}}), Point({"b": {19, 11, 3}, "a": 1})),
    (Model(x=Point(NAN)), Model(x=Point(float("nan")))),
    ({Key(1)}, {Key(1)}),
    (pa.table({"a": [1, 2]}), pa.concat_tables([pa.table({"a": [1]}), pa.table({"a": [2]})])),
]
APART: list[tuple[Any, Any]] = [
    ({1}, {True}),
    (frozenset([(1, 2)]), frozenset([(1, 2.0)])),
    ({1: 2}, {True: 2}),
    ({1: 2}, {1.0: 2}),
    ({(0.0, "a"): 2}, {(-0.0, "a"): 2}),
    (0.0, -0.0),
    ([1], [1.0]),
    (Point(1), Point(True)),
    (Point([0.0]), Point([-0.0])),
    (Point({1}), Point({True})),
    (Model(x=1), Model(x=1.0)),
    ({Key(1)}, {Key(True)}),
    ({Key(1): 1}, {Key(1.0): 1}),
    (Decimal("1.0"), Decimal("1.00")),
    (np.float64(0.0), np.float64(-0.0)),
]


@pytest.mark.parametrize("stored", [False, True], ids=["known", "opaque"])
def test_one_is_not_true_at_any_depth(stored: bool) -> None:
    """What lay in sets, keys and instances of classes was compared by `==`, to which 1 is True. Also where their code
    is not at hand, as in a check of another version."""
    codec = Codec([Point, Model, Key])
    shown = Codec(opaque=True)

    def given(value: Any) -> Any:
        return shown.decode(*codec.encode(value)) if stored else value

    for alike, pairs in ((True, ALIKE), (False, APART)):
        for old, new in pairs:
            diff = diff_values({"v": given(old)}, {"v": given(new)}, shown if stored else codec)
            assert bool(diff.changed) is not alike, (old, new)


def test_a_migration_that_returns_what_cannot_be_stored(store: CheckpointStore) -> None:
    nodes = {name: says(name) for name in "ab"}
    chain(nodes, store, version="1", interrupt_before=["b"]).invoke({"n": 1}, THREAD)
    odd = Migration(from_version="1", to_version="2", migrate=lambda state: {**state, "n": object()})
    graph = chain(nodes, store, version="2", migrations=[odd])
    with pytest.raises(PerdureError, match="from version 1 to 2 returned for key 'n'"):
        graph.invoke(None, THREAD)
    assert store.thread("t").status == "paused"


@pytest.mark.parametrize("wrong", [True, " 2 ", "0_1", "2.0", "-1", "9" * 30, 0, "\N{ARABIC-INDIC DIGIT TWO}"])
def test_what_is_no_id_of_a_checkpoint(store: CheckpointStore, wrong: Any) -> None:
    graph = chain({"a": says("a")}, store)
    graph.invoke({}, THREAD)
    with pytest.raises(CheckpointNotFound):
        graph.get_state(thread("t", checkpoint_id=wrong))


WRONG: dict[str, Callable[[CompiledGraph], Any]] = {
    "config": lambda graph: graph.get_state("t"),  # type: ignore[arg-type]
    "configurable": lambda graph: graph.get_state({"configurable": "t"}),
    "namespace": lambda graph: graph.get_state(thread("t", checkpoint_ns="child")),
    "breakpoints": lambda graph: graph.add_breakpoints(THREAD, before=5),  # type: ignore[arg-type]
    "interrupts": lambda graph: graph.invoke({}, THREAD, interrupt_before=[5]),  # type: ignore[list-item]
    "limit": lambda graph: list(graph.get_state_history(THREAD, limit="2")),  # type: ignore[arg-type]
    "filter": lambda graph: list(graph.get_state_history(THREAD, filter="loop")),  # type: ignore[arg-type]
    "before": lambda graph: list(graph.get_state_history(THREAD, before=THREAD)),
    "name": lambda graph: graph.name_checkpoint(THREAD, ""),
    "fork": lambda graph: graph.fork(THREAD, thread_id=""),
    "metadata": lambda graph: graph.fork(THREAD, metadata=["x"]),  # type: ignore[arg-type]
    "unborn": lambda graph: graph.fork(thread("unborn")),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_what_is_no_argument(store: CheckpointStore, call: Callable[[CompiledGraph], Any]) -> None:
    graph = chain({"a": says("a"), "b": says("b")}, store, interrupt_before=["b"])
    graph.invoke({}, THREAD)
    failing = chain({"a": says("a")}, store)
    with pytest.raises(PerdureError):
        failing.invoke({"items": 5}, thread("unborn"))
    with pytest.raises(InputError):
        call(graph)
    assert [row.thread_id for row in store.threads().threads] == ["unborn", "t"]


def test_an_update_that_ends_a_thread_is_told_by_its_end(store: CheckpointStore) -> None:
    graph = chain({"a": says("a"), "b": says("b")}, store, interrupt_before=["b"])
    graph.invoke({}, THREAD)
    graph.update_state(THREAD, {"items": ["end"]}, as_node=END)
    assert graph.invoke(None, THREAD)["items"] == ["a", "end"]
