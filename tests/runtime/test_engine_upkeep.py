"""Retention and compaction under the engine: owners that tidy, forks that go back, readers that come too late."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure import CheckpointNotFound, GraphValidationError, Retention, open_store
from perdure.runtime.meaning import RuntimeMeaning
from perdure.runtime.upkeep import SEGMENTS
from perdure.stores.base import CheckpointStore
from perdure.stores.memory import MemoryStore
from perdure.stores.records import Origin
from perdure.stores.tidying import Tidier
from perdure.stores.verifying import verify_store
from tests.runtime.engine import THREAD, chain, says, thread
from tests.stores.backends import new_thread


def prune(store: CheckpointStore, *, max_checkpoints: int) -> None:
    retention = Retention(max_checkpoints=max_checkpoints)
    tidier = Tidier(store=store, meaning=RuntimeMeaning(), retention=retention, overrides=True)
    for _ in tidier.thread("t", 1e10, thorough=True):
        pass


def problems(store: CheckpointStore) -> list[str]:
    *_, done = verify_store(store, RuntimeMeaning())
    return [one.what for one in done.problems]


def test_a_graph_has_a_retention() -> None:
    store = MemoryStore()
    graph = chain({"a": says("a")}, store, retention=Retention(max_checkpoints=7))
    graph.invoke({}, THREAD)
    assert store.thread("t").retention == Retention(max_checkpoints=7)
    with pytest.raises(GraphValidationError, match=r"compile\(retention=7\)"):
        chain({"a": says("a")}, store, retention=7)


def test_a_pruned_thread_goes_on() -> None:
    store = MemoryStore()
    graph = chain({"a": says("a"), "b": says("b")}, store)
    for _ in range(10):
        graph.invoke({}, THREAD)
    old = [one.config for one in graph.get_state_history(THREAD)]
    prune(store, max_checkpoints=2)
    assert len(list(graph.get_state_history(THREAD))) == 2
    assert graph.get_state(THREAD).values["items"] == ["a", "b"] * 10
    with pytest.raises(CheckpointNotFound):
        graph.get_state(old[5])
    with pytest.raises(CheckpointNotFound):
        graph.update_state(old[5], {"items": ["x"]})
    assert graph.invoke({}, THREAD)["items"] == ["a", "b"] * 11
    assert problems(store) == []


def test_a_fork_that_goes_back_before_its_beginning_needs_nothing_of_its_origin() -> None:
    """It went back to a checkpoint of its origin that nothing protects there; the origin then dropped it, and the
    fork's newest state could not be read any more."""
    store = MemoryStore()
    graph = chain({"a": says("a"), "b": says("b")}, store)
    for _ in range(4):
        graph.invoke({"n": 1}, THREAD)
    past = [int(one.checkpoint_id) for one in graph.get_state_history(THREAD)]
    at, before = past[2], past[8]
    row = new_thread(
        "child", driver="inprocess", graph=graph.name, origin=Origin(thread_id="t", seq=at), seq=at, head=at
    )
    store.create(row)
    wanted = graph.get_state(thread("t", checkpoint_id=before)).values
    graph.update_state(thread("child", checkpoint_id=before), {"items": ["x"]})
    expected = list(graph.get_state(thread("child")).values["items"])
    assert expected[: len(wanted["items"]) + 1] == [*wanted["items"], "x"]
    prune(store, max_checkpoints=1)
    with pytest.raises(CheckpointNotFound):
        graph.get_state(thread("child", checkpoint_id=before))
    assert dict(graph.get_state(thread("child")).values) == {"n": 1, "items": expected}
    assert problems(store) == []
    again = chain({"a": says("a"), "b": says("b")}, store)
    assert again.invoke({}, thread("child"))["items"] == [*expected, "a", "b"]
    assert problems(store) == []


def test_an_owner_in_process_puts_its_segments_together(tmp_path: Path) -> None:
    """Nobody else would: there may be no service."""
    with open_store(f"sqlite:///{tmp_path}/store.db") as store:
        graph = chain({f"n{number}": says(number) for number in range(100)}, store)
        runs = SEGMENTS // 100 + 2
        for _ in range(runs):
            graph.invoke({}, THREAD, durability="sync")
        assert store.stats().segments <= SEGMENTS + 200
        once = chain({f"n{number}": says(number) for number in range(SEGMENTS + 200)}, store)
        once.invoke({}, thread("once"), durability="sync")
        assert len(store.segments("once")) < SEGMENTS
        assert once.get_state(thread("once")).values["items"] == list(range(SEGMENTS + 200))
        assert problems(store) == []


def test_an_owner_in_process_carries_out_its_retention() -> None:
    store = MemoryStore()
    graph = chain({f"n{number}": says(number) for number in range(600)}, store, retention=Retention(max_checkpoints=3))
    graph.invoke({}, THREAD)
    assert len(list(graph.get_state_history(THREAD))) == 3
    assert graph.get_state(THREAD).values["items"] == list(range(600))
