"""How often a thread is written in each durability mode, and what a store that fails does to a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from perdure import CheckpointStore, Command, GraphRecursionError, StoreFull, StoreUnavailable
from perdure.stores.base import CommitResult
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Commit
from perdure.stores.segments import Kind
from tests.faults.failing import FailingStore, Point
from tests.runtime.engine import (
    THREAD,
    CountingStore,
    Log,
    asks,
    chain,
    fan,
    history,
    open_questions,
    says,
    thread,
    until,
)


def test_sync_commits_every_step() -> None:
    store = CountingStore()
    until(20, store).invoke({"n": 0}, THREAD, durability="sync")
    assert len(store.commits) >= 21
    assert all(commit.first == commit.last for commit in store.commits)
    assert store.checkpoints == 21


def test_async_groups_what_is_waiting() -> None:
    store = CountingStore()
    graph = until(300, store)
    graph.invoke({"n": 0}, THREAD)
    assert store.checkpoints == 301
    assert len(store.commits) < 301
    assert [commit.first for commit in store.commits[1:]] == [commit.last + 1 for commit in store.commits[:-1]]
    assert len(history(graph)) == 301


def test_exit_commits_once() -> None:
    store = CountingStore()
    graph = until(50, store)
    assert graph.invoke({"n": 0}, THREAD, durability="exit")["n"] == 50
    assert len(store.commits) == 1
    assert graph.get_state(THREAD).values["n"] == 50
    assert graph.get_state(THREAD).metadata["step"] == 49
    assert graph.invoke({"n": 48}, THREAD, durability="exit")["n"] == 50
    assert len(store.commits) == 2


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_all_modes_give_the_same(store: CheckpointStore, durability: str) -> None:
    graph = fan({"a": says("a"), "ask": asks("?"), "ask2": asks("??")}, store, last=says("end"))
    ids = open_questions(graph.invoke({"n": 1}, THREAD, durability=durability))
    assert graph.get_state(THREAD).next == ("ask", "ask2")
    graph.invoke(Command(resume={ids["?"]: 1}), THREAD, durability=durability)
    found = graph.invoke(Command(resume={ids["??"]: 2}), THREAD, durability=durability)
    assert found == {"n": 1, "items": ["a", 1, 2, "end"]}
    assert graph.get_state(THREAD).values == found
    assert graph.invoke({"items": ["again"]}, THREAD, durability=durability)["items"][4:5] == ["again"]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_a_failure_keeps_the_steps_before_it_in_all_modes(store: CheckpointStore, durability: str) -> None:
    failing = [True]

    def bad(state: Any) -> dict[str, Any]:
        if failing:
            raise ConnectionError("lost")
        return {"items": ["mended"]}

    log = Log()
    graph = chain({"a": log.node("a"), "b": log.node("b"), "bad": bad}, store)
    with pytest.raises(ConnectionError):
        graph.invoke({}, THREAD, durability=durability)
    assert (graph.get_state(THREAD).values["items"], graph.get_state(THREAD).next) == (["a", "b"], ("bad",))
    failing.clear()
    assert graph.invoke(None, THREAD, durability=durability)["items"] == ["a", "b", "mended"]
    assert log.calls == ["a", "b"]


def test_the_limit_in_exit_mode(store: CheckpointStore) -> None:
    graph = until(50, store)
    with pytest.raises(GraphRecursionError):
        graph.invoke({"n": 0}, {**THREAD, "recursion_limit": 30}, durability="exit")
    assert graph.get_state(THREAD).values["n"] == 30
    assert graph.invoke(None, THREAD)["n"] == 50


def test_results_that_were_merged_in_the_same_commit_are_not_kept_twice() -> None:
    store = CountingStore()
    fan({"a": says("a"), "b": says("b")}, store).invoke({}, THREAD)
    for commit in store.commits:
        merged = any(row.kind == Kind.CHECKPOINT and row.checkpoint == commit.last for row in commit.rows)
        assert not merged or not any(row.kind == Kind.RESULT for row in commit.rows)


class FlakyStore(MemoryStore):
    """Raises at every second commit, before or after having written."""

    def __init__(self, error: StoreUnavailable, *, after: bool) -> None:
        super().__init__()
        self.error = error
        self.after = after
        self.turn = 0

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        self.turn += 1
        if self.turn % 2:
            if self.after:
                super().commit(commits)
            raise self.error
        return super().commit(commits)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [StoreUnavailable("away"), StoreFull("full")], ids=["away", "full"])
@pytest.mark.parametrize("durability", ["sync", "async"])
def test_a_store_that_fails_now_and_then(error: StoreUnavailable, after: bool, durability: str) -> None:
    store = FlakyStore(error, after=after)
    log = Log()
    graph = chain({name: log.node(name) for name in "abc"}, store)
    assert graph.invoke({}, THREAD, durability=durability)["items"] == ["a", "b", "c"]
    assert log.calls == ["a", "b", "c"]
    assert len(history(graph)) == 4
    assert store.thread("t").seq == store.segments("t")[0].last
    assert graph.invoke({}, thread("u"), durability=durability)["items"] == ["a", "b", "c"]


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 7))
def test_an_invoke_begins_although_the_store_is_away_for_a_moment(number: int, how: str) -> None:
    """Whatever call it is that fails, or loses its answer: one run, and its result."""
    store = FailingStore(MemoryStore(), Point(number, how))
    graph = until(3, store)
    assert graph.invoke({"n": 0}, THREAD, durability="sync")["n"] == 3
    assert store.struck
    assert [run.run for run in store.runs("t")] == [1]


def test_what_is_full_is_said_at_once() -> None:
    class Full(MemoryStore):
        def create(self, *args: Any, **named: Any) -> Any:
            raise StoreFull("no room")

    with pytest.raises(StoreFull):
        until(3, Full()).invoke({"n": 0}, THREAD)
