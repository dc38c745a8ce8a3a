"""What changes a thread from outside, in process, runs none of its nodes, however the thread is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from perdure import END, CheckpointStore, Command, CompiledGraph, PerdureError, receive
from perdure.runtime.ports import Gate
from tests.runtime.engine import THREAD, Log, Node, asks, chain, fan, says

Change = Callable[[CompiledGraph], Any]

CHANGES: dict[str, Change] = {
    "update": lambda graph: graph.update_state(THREAD, {"n": 5}),
    "as a node": lambda graph: graph.update_state(THREAD, {"n": 5}, as_node="a"),
    "add": lambda graph: graph.add_breakpoints(THREAD, after=["c"]),
    "remove": lambda graph: graph.remove_breakpoints(THREAD),
}


def three(log: Log, store: CheckpointStore, b: Node | None = None, **options: Any) -> CompiledGraph:
    return chain({"a": log.node("a"), "b": log.node("b", b), "c": log.node("c")}, store, **options)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_thread_that_the_graph_would_stop_no_more(store: CheckpointStore, change: Change) -> None:
    """The graph was compiled again without its breakpoint: an update of the thread that stood there ran it to its
    end."""
    log = Log()
    three(log, store, interrupt_before=["b"]).invoke({}, THREAD)
    graph = three(log, store)
    change(graph)
    assert (log.calls, graph.get_state(THREAD).next) == (["a"], ("b",))
    assert store.thread("t").status in ("interrupted", "paused")
    assert graph.invoke(None, THREAD)["items"] == ["a", "b", "c"]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_thread_whose_process_let_go_of_it(store: CheckpointStore, change: Change) -> None:
    log, gate = Log(), Gate()

    def lets_go(_: Any) -> Any:
        gate.drain = True
        return {"items": ["b"]}

    graph = three(log, store, lets_go)
    runner = graph._runner(graph._thread_config(THREAD))
    graph.update_state(THREAD, {"n": 1}, as_node="a")
    runner.send("t", "resume", graph.codec.encode(["", None, None])[1])
    assert runner.drive("t", gate=gate).status == "queued"
    change(graph)
    assert (log.calls, store.thread("t").status) == (["b"], "queued")
    graph.invoke(None, THREAD)
    assert store.thread("t").status in ("succeeded", "interrupted")
    assert log.calls[-1] == "c"


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_thread_whose_run_was_broken_off(store: CheckpointStore, change: Change) -> None:
    log = Log()

    def breaks_off(_: Any) -> Any:
        if log.calls.count("b") == 1:
            raise KeyboardInterrupt
        return {"items": ["b"]}

    graph = three(log, store, breaks_off)
    with pytest.raises(KeyboardInterrupt):
        graph.invoke({}, THREAD, durability="sync")
    change(graph)
    assert (log.calls, store.thread("t").status.runnable) == (["a", "b"], True)
    assert graph.invoke(None, THREAD)["items"] == ["a", "b", "c"]


def test_a_thread_whose_signal_has_come(store: CheckpointStore) -> None:
    log = Log()
    graph = three(log, store, lambda _: {"items": [receive("go")]})
    runner = graph._runner(graph._thread_config(THREAD))
    graph.update_state(THREAD, {"n": 1}, as_node="a")
    runner.send("t", "resume", graph.codec.encode(["", None, None])[1])
    assert runner.drive("t").status == "waiting"
    graph.update_state(THREAD, {"n": 2})
    assert store.thread("t").status == "waiting"
    graph.signal(THREAD, "go", "now")
    graph.update_state(THREAD, {"n": 3})
    assert (log.calls, store.thread("t").status) == (["b"], "queued")
    assert graph.invoke(None, THREAD)["items"] == ["now", "c"]


def test_an_update_that_leaves_nothing_to_run_ends_the_thread(store: CheckpointStore) -> None:
    log = Log()
    graph = three(log, store, interrupt_before=["b"])
    graph.invoke({}, THREAD)
    graph.update_state(THREAD, {"n": 5}, as_node=END)
    assert (log.calls, graph.get_state(THREAD).next, store.thread("t").status) == (["a"], (), "succeeded")
    fork = graph.fork(THREAD, {"n": 6}, as_node=END, thread_id="u")
    assert (store.thread("u").status, graph.invoke(None, fork)["n"]) == ("succeeded", 6)


def test_a_refused_update_leaves_a_thread_as_it_was(store: CheckpointStore) -> None:
    graph = chain({"a": says("a"), "b": says("b")}, store, interrupt_before=["b"])
    graph.invoke({}, THREAD)
    with pytest.raises(PerdureError, match="items"):
        graph.update_state(THREAD, {"items": 5})
    assert (store.thread("t").status, store.thread("t").reason) == ("interrupted", "")
    assert graph.invoke(None, THREAD)["items"] == ["a", "b"]


@pytest.mark.parametrize("wide", [False, True])
def test_a_question_stays_open_when_its_node_gets_a_breakpoint(store: CheckpointStore, wide: bool) -> None:
    """The breakpoint took the place of the question, which could not be answered any more."""
    nodes = {"q": asks("?"), "s": says("s")} if wide else {"q": asks("?")}
    graph = fan(nodes, store, last=says("end"))
    graph.invoke({}, THREAD)
    graph.add_breakpoints(THREAD, before="*")
    assert [one.value for one in graph.get_state(THREAD).interrupts] == ["?"]
    graph.invoke(Command(resume="yes"), THREAD)
    assert graph.get_state(THREAD).next == ("last",)
    assert graph.invoke(None, THREAD)["items"][-1] == "end"
