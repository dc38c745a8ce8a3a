"""`update_state`, and forks within a thread."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import END, START, CheckpointNotFound, CheckpointStore, InvalidUpdateError, StateGraph
from perdure.runtime.errors import RouterRaised
from tests.runtime.engine import THREAD, Log, State, before, chain, fan, history, says, story, thread, until


def test_an_update_of_a_thread_that_is_not_there_is_taken_as_an_input(store: CheckpointStore) -> None:
    graph = chain({name: says(name) for name in "ab"}, store)
    graph.update_state(THREAD, {"n": 1})
    assert (graph.get_state(THREAD).next, graph.get_state(THREAD).values) == (("a",), {"n": 1, "items": []})
    assert graph.invoke(None, THREAD) == {"n": 1, "items": ["a", "b"]}
    graph.update_state(thread("u"), {"n": 1})
    assert graph.invoke({"n": 2}, thread("u")) == {"n": 2, "items": ["a", "b"]}


def test_an_update_of_a_thread_that_is_not_there_as_a_node(store: CheckpointStore) -> None:
    graph = chain({name: says(name) for name in "abc"}, store)
    graph.update_state(THREAD, {"items": ["u"]}, as_node="a")
    assert graph.get_state(THREAD).next == ("b",)
    assert graph.invoke(None, THREAD)["items"] == ["u", "b", "c"]


def test_an_update_after_the_end(store: CheckpointStore) -> None:
    log = Log()
    graph = chain({name: log.node(name) for name in "abc"}, store)
    graph.invoke({}, THREAD)
    graph.update_state(THREAD, {"items": ["late"]})
    assert (graph.get_state(THREAD).next, store.thread("t").status) == ((), "succeeded")
    assert graph.invoke(None, THREAD)["items"] == ["a", "b", "c", "late"]
    graph.update_state(THREAD, {"items": ["later"]}, as_node="b")
    assert graph.get_state(THREAD).next == ("c",)
    assert graph.invoke(None, THREAD)["items"] == ["a", "b", "c", "late", "later", "c"]
    assert store.thread("t").status == "succeeded"
    assert log.calls == ["a", "b", "c", "c"]


def test_an_update_as_start_and_as_end(store: CheckpointStore) -> None:
    graph = chain({name: says(name) for name in "ab"}, store, interrupt_before=["b"])
    graph.invoke({}, THREAD)
    graph.update_state(THREAD, {"items": ["again"]}, as_node=START)
    assert graph.get_state(THREAD).next == ("a",)
    graph.update_state(THREAD, {"items": ["over"]}, as_node=END)
    assert graph.get_state(THREAD).next == ()
    assert graph.invoke(None, THREAD)["items"] == ["a", "again", "over"]
    assert store.thread("t").status == "succeeded"


def test_an_update_as_one_start_of_a_join(store: CheckpointStore) -> None:
    builder = StateGraph(State)
    for name in ("a", "b", "end"):
        builder.add_node(name, says(name))
    builder.add_edge(START, "a").add_edge(START, "b").add_edge(["a", "b"], "end").add_edge("end", END)
    graph = builder.compile(store)
    graph.update_state(THREAD, {"items": ["as a"]}, as_node="a")
    assert graph.get_state(THREAD).next == ()
    graph.update_state(THREAD, {"items": ["as b"]}, as_node="b")
    assert graph.get_state(THREAD).next == ("end",)
    assert graph.invoke(None, THREAD)["items"] == ["as a", "as b", "end"]


def test_an_update_between_parallel_nodes_and_the_next(store: CheckpointStore) -> None:
    graph = fan({"a": says("a"), "b": says("b")}, store, last=says("end"), interrupt_before=["last"])
    graph.invoke({}, THREAD)
    graph.update_state(THREAD, {"items": ["u"]})
    graph.update_state(THREAD, None)
    assert graph.invoke(None, THREAD)["items"] == ["a", "b", "u", "end"]


def test_an_update_asks_the_conditional_edges_of_its_node(store: CheckpointStore) -> None:
    graph = until(3, store)
    graph.update_state(THREAD, {"n": 1}, as_node="count")
    assert graph.get_state(THREAD).next == ("count",)
    assert graph.invoke(None, THREAD)["n"] == 3
    graph.update_state(THREAD, {"n": 9}, as_node="count")
    assert graph.get_state(THREAD).next == ()


def test_updates_that_cannot_be_applied_change_nothing(store: CheckpointStore) -> None:
    graph = chain({"first": says("a")}, store)
    graph.invoke({}, THREAD)
    seq = store.thread("t").seq
    with pytest.raises(InvalidUpdateError, match=r"as_node='frist' is no node of graph .*did you mean 'first'"):
        graph.update_state(THREAD, {"n": 1}, as_node="frist")
    with pytest.raises(InvalidUpdateError, match="'zz'"):
        graph.update_state(THREAD, {"zz": 1})
    with pytest.raises(CheckpointNotFound):
        graph.update_state(thread("t", checkpoint_id="0000000099"), {"n": 1})
    with pytest.raises(CheckpointNotFound):
        graph.update_state(thread("u", checkpoint_id="0000000001"), {"n": 1})
    assert store.thread("t").seq == seq
    assert [row.thread_id for row in store.threads().threads] == ["t"]


def test_a_conditional_edge_that_raises_at_an_update(store: CheckpointStore) -> None:
    def path(state: State) -> str:
        if state["n"] < 0:
            raise KeyError("negative")
        return END

    builder = StateGraph(State).add_node("a", lambda state: {"n": 1}).add_edge(START, "a")
    graph = builder.add_conditional_edges("a", path, [END]).compile(store)
    graph.invoke({}, THREAD)
    with pytest.raises(RouterRaised, match="conditional edge of 'a' raised KeyError: 'negative'"):
        graph.update_state(THREAD, {"n": -1}, as_node="a")
    assert graph.get_state(THREAD).values["n"] == 1
    assert graph.invoke({}, THREAD)["n"] == 1


def test_an_older_checkpoint_is_run_again(store: CheckpointStore) -> None:
    log = Log()
    graph = chain({name: log.node(name) for name in "abc"}, store)
    graph.invoke({}, THREAD)
    old = before(graph, "b")
    log.calls.clear()
    assert graph.invoke(None, old.config)["items"] == ["a", "b", "c"]
    assert log.calls == ["b", "c"]
    shots = history(graph)
    assert [shot.metadata["source"] for shot in shots] == ["input", "loop", "loop", "loop", "fork", "loop", "loop"]
    assert [shot.metadata["step"] for shot in shots] == [-1, 0, 1, 2, 1, 2, 3]
    assert shots[4].parent_config == old.config
    assert graph.get_state(old.config) == old


def test_an_older_checkpoint_is_changed_and_run(store: CheckpointStore) -> None:
    log = Log()
    graph = chain({name: log.node(name) for name in "abc"}, store)
    graph.invoke({}, THREAD)
    old = before(graph, "b").config
    log.calls.clear()
    fork = graph.update_state(old, {"items": ["changed"]})
    assert (graph.get_state(THREAD).next, graph.get_state(THREAD).config) == (("b",), fork)
    # to go on from the fork is to go on from the head: no further checkpoint comes between
    assert graph.invoke(None, fork)["items"] == ["a", "changed", "b", "c"]
    assert log.calls == ["b", "c"]
    assert [step[0] for step in story(graph)][4:] == ["fork", "loop", "loop"]

    graph.update_state(old, {"items": ["for b"]}, as_node="b")
    assert graph.invoke(None, THREAD)["items"] == ["a", "for b", "c"]
    ends = [shot.values["items"] for shot in history(graph) if not shot.next]
    assert ends == [["a", "b", "c"], ["a", "changed", "b", "c"], ["a", "for b", "c"]]


def test_a_new_input_at_an_older_checkpoint(store: CheckpointStore) -> None:
    graph = chain({name: says(name) for name in "ab"}, store)
    graph.invoke({"n": 1}, THREAD)
    graph.invoke({"n": 2}, THREAD)
    old = before(graph, "b").config
    assert graph.invoke({"n": 3}, old) == {"n": 3, "items": ["a", "a", "b"]}
    assert graph.invoke({}, THREAD)["items"] == ["a", "a", "b", "a", "b"]
    with pytest.raises(CheckpointNotFound):
        graph.invoke({}, thread("t", checkpoint_id="0000000099"))


def test_a_fork_leaves_the_work_of_the_other_branch(store: CheckpointStore) -> None:
    """Finished tasks, interrupts and breakpoints belong to the branch that is left."""
    log = Log()
    fails = [True]

    def flaky(state: State) -> dict[str, Any]:
        if fails[0]:
            raise ConnectionError("lost")
        return {"items": ["flaky"]}

    builder = StateGraph(State).add_node("a", says("a")).add_node("ok", log.node("ok")).add_node("flaky", flaky)
    builder.add_edge(START, "a").add_edge("a", "ok").add_edge("a", "flaky").add_edge("ok", END).add_edge("flaky", END)
    graph = builder.compile(store)
    with pytest.raises(ConnectionError):
        graph.invoke({}, THREAD)
    assert graph.get_state(THREAD).next == ("flaky",)
    fails[0] = False
    assert graph.invoke(None, before(graph, "a").config)["items"] == ["a", "flaky", "ok"]
    assert log.calls == ["ok", "ok"]


def test_forks_of_a_long_thread_are_not_held_against_its_limit(store: CheckpointStore) -> None:
    graph = until(40, store)
    config = {**THREAD, "recursion_limit": 45}
    graph.invoke({"n": 0}, config)
    old = history(graph)[5]
    fork = graph.update_state(old.config, {"n": 0})
    assert graph.invoke(None, {**fork, "recursion_limit": 45})["n"] == 40
    assert graph.invoke(None, {**old.config, "recursion_limit": 45})["n"] == 40
