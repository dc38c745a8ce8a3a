"""Static breakpoints, and what is changed while a thread stands at one."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import END, START, CheckpointStore, Command, CompiledGraph, InputError, StateGraph
from tests.runtime.engine import THREAD, Count, Log, State, Sum, asks, chain, fan, history, says, story, thread, until


def counter(store: CheckpointStore, schema: type[Any]) -> CompiledGraph:
    """Three nodes that count; it stops before the second."""
    plain = schema is Count
    step = (lambda state: {"v": state["v"] + 1}) if plain else (lambda state: {"v": 1})
    double = (lambda state: {"v": state["v"] * 2}) if plain else (lambda state: {"v": 1})
    return chain({"A": step, "B": double, "C": step}, store, schema, interrupt_before=["B"])


def test_a_plain_key_changed_at_a_breakpoint_is_what_the_next_node_sees(store: CheckpointStore) -> None:
    graph = counter(store, Count)
    assert graph.invoke({"v": 0}, THREAD) == {"v": 1}
    assert graph.get_state(THREAD).next == ("B",)
    assert (store.thread("t").status, store.thread("t").waits) == ("interrupted", ())
    graph.update_state(THREAD, {"v": 50})
    assert (graph.get_state(THREAD).next, graph.get_state(THREAD).values) == (("B",), {"v": 50})
    assert store.thread("t").status == "interrupted"
    assert graph.invoke(None, THREAD) == {"v": 101}
    assert story(graph) == [
        ("input", ("A",), {"v": 0}),
        ("loop", ("B",), {"v": 1}),
        ("update", ("B",), {"v": 50}),
        ("loop", ("C",), {"v": 100}),
        ("loop", (), {"v": 101}),
    ]


def test_an_adding_key_changed_at_a_breakpoint_is_added_to(store: CheckpointStore) -> None:
    graph = counter(store, Sum)
    assert graph.invoke({"v": 1}, THREAD) == {"v": 2}
    graph.update_state(THREAD, {"v": 50})
    assert graph.get_state(THREAD).values == {"v": 52}
    assert graph.invoke(None, THREAD) == {"v": 54}


def test_breakpoints_after(store: CheckpointStore) -> None:
    log = Log()
    graph = chain({name: log.node(name) for name in "abc"}, store, interrupt_after=["a", "b"])
    assert graph.invoke({}, THREAD)["items"] == ["a"]
    assert graph.get_state(THREAD).next == ("b",)
    assert graph.invoke(None, THREAD)["items"] == ["a", "b"]
    assert graph.invoke(None, THREAD)["items"] == ["a", "b", "c"]
    assert graph.invoke(None, THREAD)["items"] == ["a", "b", "c"]
    assert log.calls == ["a", "b", "c"]


@pytest.mark.parametrize("when", ["interrupt_before", "interrupt_after"])
def test_a_star_stops_at_every_node(store: CheckpointStore, when: str) -> None:
    options: dict[str, Any] = {when: "*"}
    graph = chain({name: says(name) for name in "abc"}, store, **options)
    found = [graph.invoke({}, THREAD)["items"], *(graph.invoke(None, THREAD)["items"] for _ in range(3))]
    steps: list[list[str]] = [[], ["a"], ["a", "b"], ["a", "b", "c"]]
    assert found == (steps if when == "interrupt_before" else [*steps[1:], steps[3]])


def test_breakpoints_of_one_call_take_the_place_of_the_graphs_own(store: CheckpointStore) -> None:
    graph = chain({name: says(name) for name in "abc"}, store, interrupt_before=["b"])
    assert graph.invoke({}, THREAD, interrupt_before=["c"])["items"] == ["a", "b"]
    # the next call stands for itself: "b" is behind it, and "c" is passed
    assert graph.invoke(None, THREAD)["items"] == ["a", "b", "c"]
    assert graph.invoke({}, thread("u"), interrupt_before=[])["items"] == ["a", "b", "c"]
    assert graph.invoke({}, thread("v"), interrupt_after="*")["items"] == ["a"]
    assert graph.invoke(None, thread("v"), interrupt_before=["c"])["items"] == ["a", "b"]
    assert graph.invoke(None, thread("v"), interrupt_after=["c"])["items"] == ["a", "b", "c"]


def test_a_breakpoint_before_one_of_several_nodes_stops_the_step(store: CheckpointStore) -> None:
    log = Log()
    graph = fan({name: log.node(name) for name in "ab"}, store, last=says("end"), interrupt_before=["b"])
    assert graph.invoke({}, THREAD)["items"] == []
    assert (log.calls, graph.get_state(THREAD).next) == ([], ("a", "b"))
    assert graph.invoke(None, THREAD)["items"] == ["a", "b", "end"]


def test_a_breakpoint_in_a_loop_stops_in_every_round(store: CheckpointStore) -> None:
    graph = until(3, store, interrupt_before=["count"])
    assert graph.invoke({"n": 0}, THREAD)["n"] == 0
    assert [graph.invoke(None, THREAD)["n"] for _ in range(4)] == [1, 2, 3, 3]


def test_a_breakpoint_and_an_interrupt_in_one_node(store: CheckpointStore) -> None:
    graph = chain({"a": says("a"), "ask": asks("?")}, store, interrupt_before=["ask"])
    assert "__interrupt__" not in graph.invoke({}, THREAD)
    with pytest.raises(Exception, match="waits for no answer"):
        graph.invoke(Command(resume=1), THREAD)
    assert graph.invoke(None, THREAD)["__interrupt__"][0].value == "?"
    assert graph.invoke(Command(resume=1), THREAD)["items"] == ["a", 1]


def test_an_update_as_a_node_at_a_breakpoint_goes_on_behind_that_node(store: CheckpointStore) -> None:
    log = Log()
    graph = chain({name: log.node(name) for name in "abc"}, store, interrupt_before=["b", "c"])
    graph.invoke({}, THREAD)
    graph.update_state(THREAD, {"items": ["in place of b"]}, as_node="b")
    assert graph.get_state(THREAD).next == ("c",)
    assert graph.invoke(None, THREAD)["items"] == ["a", "in place of b", "c"]
    assert log.calls == ["a", "c"]


def test_a_new_input_at_a_breakpoint_starts_over(store: CheckpointStore) -> None:
    graph = chain({name: says(name) for name in "ab"}, store, interrupt_before=["b"])
    graph.invoke({}, THREAD)
    graph.update_state(THREAD, {"items": ["u"]}, as_node="a")
    assert graph.invoke({}, THREAD)["items"] == ["a", "u", "a"]
    assert graph.invoke(None, THREAD)["items"] == ["a", "u", "a", "b"]


def test_a_changed_state_may_lead_elsewhere(store: CheckpointStore) -> None:
    """An update from nobody asks the conditional edges of the node that ran last again, as LangGraph does."""
    builder = StateGraph(State)
    builder.add_node("a", lambda state: {"n": 1}).add_node("high", says("high")).add_node("low", says("low"))
    builder.add_edge(START, "a").add_edge("high", END).add_edge("low", END)
    builder.add_conditional_edges("a", lambda state: "high" if state["n"] > 5 else "low", ["high", "low"])
    graph = builder.compile(store, interrupt_before=["high", "low"])
    graph.invoke({}, THREAD)
    assert graph.get_state(THREAD).next == ("low",)
    graph.update_state(THREAD, {"n": 10})
    assert graph.get_state(THREAD).next == ("high",)
    graph.update_state(THREAD, {"items": ["still"]})
    assert graph.get_state(THREAD).next == ("high",)
    assert graph.invoke(None, THREAD)["items"] == ["still", "high"]


def test_each_call_brings_its_own_options(store: CheckpointStore) -> None:
    """A run goes on with the limits and the config of the last call, not of the first."""
    seen: list[Any] = []

    def note(state: State, config: dict[str, Any]) -> dict[str, Any]:
        seen.append(config["configurable"].get("user"))
        return {"items": [len(seen)]}

    graph = chain({"a": note, "b": note, "c": note}, store)
    graph.invoke({}, thread("t", user="ann"), interrupt_before=["b", "c"])
    graph.invoke(None, thread("t", user="bob"), interrupt_before=["c"])
    assert list(graph.stream(None, thread("t", user="eve"))) == [{"c": {"items": [3]}}]
    assert seen == ["ann", "bob", "eve"]
    assert len(history(graph)) == 4


def test_options_of_a_resume_outlive_the_one_who_ran_it(store: CheckpointStore) -> None:
    stopped: list[bool] = []

    def stop_once(state: State) -> dict[str, Any]:
        if not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        return {"items": ["b"]}

    graph = chain({"a": says("a"), "b": stop_once, "c": says("c")}, store, interrupt_before=["b"])
    graph.invoke({}, THREAD)
    with pytest.raises(KeyboardInterrupt):
        graph.invoke(None, THREAD, interrupt_before=["c"])
    assert graph.invoke(None, THREAD)["items"] == ["a", "b"]
    assert graph.invoke(None, THREAD)["items"] == ["a", "b", "c"]


def test_unknown_nodes_in_a_list_of_breakpoints(store: CheckpointStore) -> None:
    graph = chain({"first": says("a")}, store)
    with pytest.raises(InputError, match=r"'frist', which is no node of graph .*did you mean 'first'"):
        graph.invoke({}, THREAD, interrupt_after=["frist"])
