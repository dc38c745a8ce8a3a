"""Where a graph goes: edges, joins, conditional edges, Sends and Commands; and the order in which writes merge."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any, Literal, TypedDict

import pytest

from perdure import END, START, CheckpointStore, Command, InvalidUpdateError, RoutingError, Send, StateGraph
from tests.runtime.engine import THREAD, State, chain, fan, history, says, story, thread, wire


def test_a_join_waits_for_all_its_starts(store: CheckpointStore) -> None:
    nodes = {name: says(name) for name in ("a", "b", "b2", "c", "d")}
    edges: list[Any] = [(START, "a"), ("a", "b"), ("a", "c"), ("b", "b2"), (["b2", "c"], "d"), ("d", END)]
    graph = wire(nodes, edges).compile(store)
    assert graph.invoke({}, THREAD)["items"] == ["a", "b", "c", "b2", "d"]
    assert [shot.next for shot in history(graph)] == [("a",), ("b", "c"), ("b2",), ("d",), ()]
    # plain edges to the same node do not wait
    edges[4:5] = [("b2", "d"), ("c", "d")]
    hasty = wire(nodes, edges).compile(store)
    assert hasty.invoke({}, thread("u"))["items"] == ["a", "b", "c", "b2", "d", "d"]


def test_a_join_that_is_half_done_is_remembered_over_an_interrupt(store: CheckpointStore) -> None:
    nodes = {name: says(name) for name in ("a", "slow", "slower", "end")}
    edges: list[Any] = [(START, "a"), (START, "slow"), ("slow", "slower"), (["a", "slower"], "end"), ("end", END)]
    graph = wire(nodes, edges).compile(store, interrupt_before=["slower"])
    assert graph.invoke({}, THREAD)["items"] == ["a", "slow"]
    assert graph.invoke(None, THREAD)["items"] == ["a", "slow", "slower", "end"]
    # and starts anew in the next run
    assert graph.invoke({}, THREAD)["items"][4:] == ["a", "slow"]
    assert graph.invoke(None, THREAD)["items"][4:] == ["a", "slow", "slower", "end"]


def test_conditional_edges_lead_to_one_node_several_or_none(store: CheckpointStore) -> None:
    answers: dict[str, Any] = {"one": "x", "two": ["y", "x"], "none": [], "end": END, "mixed": ["x", END]}
    builder = wire({"a": says("a"), "x": says("x"), "y": says("y")}, [(START, "a"), ("x", END), ("y", END)])
    builder.add_conditional_edges("a", lambda state: answers[state["items"][0]], ["x", "y", END])
    graph = builder.compile(store)
    found = {name: graph.invoke({"items": [name]}, thread(name))["items"][2:] for name in answers}
    assert found == {"one": ["x"], "two": ["x", "y"], "none": [], "end": [], "mixed": ["x"]}


def test_a_conditional_entry_and_a_path_map(store: CheckpointStore) -> None:
    builder = wire({"low": says("low"), "high": says("high")}, [("low", END), ("high", END)])
    builder.add_conditional_edges(START, lambda state: state["n"] > 5, {True: "high", False: "low"})
    graph = builder.compile(store)
    assert graph.invoke({"n": 1}, THREAD)["items"] == ["low"]
    assert graph.invoke({"n": 9}, THREAD)["items"] == ["low", "high"]


def test_a_path_sees_the_writes_of_its_own_node_only(store: CheckpointStore) -> None:
    seen: list[list[str]] = []

    def path(state: State) -> str:
        seen.append(sorted(state["items"]))
        return "end"

    builder = wire({"a": says("a"), "b": says("b"), "end": says("end")}, [(START, "a"), (START, "b"), ("end", END)])
    builder.add_conditional_edges("a", path, ["end"]).add_conditional_edges("b", path, ["end"])
    assert builder.compile(store).invoke({}, THREAD)["items"] == ["a", "b", "end"]
    assert sorted(seen) == [["a"], ["b"]]


def test_sends_run_a_node_on_inputs_of_their_own(store: CheckpointStore) -> None:
    builder = wire(
        {"plan": says("plan"), "work": lambda part: {"items": [part * 10]}, "sum": says("sum")}, [(START, "plan")]
    )
    builder.add_conditional_edges("plan", lambda state: [*(Send("work", one) for one in (3, 1, 2)), "sum"])
    builder.add_edge("work", "sum").add_edge("sum", END)
    graph = builder.compile(store)
    assert graph.invoke({}, THREAD)["items"] == ["plan", "sum", 30, 10, 20, "sum"]
    assert [shot.next for shot in history(graph)][1] == ("sum", "work", "work", "work")
    assert [task.id for task in history(graph)[1].tasks] == ["sum", "work#0", "work#1", "work#2"]


def test_many_sends(store: CheckpointStore) -> None:
    builder = wire(
        {"plan": lambda state: None, "work": lambda part: {"items": [part]}}, [(START, "plan"), ("work", END)]
    )
    builder.add_conditional_edges("plan", lambda state: [Send("work", one) for one in range(300)], ["work"])
    assert builder.compile(store).invoke({}, THREAD)["items"] == list(range(300))


def test_commands_update_and_lead(store: CheckpointStore) -> None:
    def first(state: State) -> Command[Literal["second"]]:
        return Command(update={"items": ["first"]}, goto="second")

    def second(state: State) -> Command[Literal["work"]]:
        return Command(update=[("items", ["second"]), ("items", ["again"])], goto=[Send("work", 1), Send("work", 2)])

    def third(state: State) -> list[Any]:
        return [Command(update={"items": ["3a"]}, goto="last"), Command(update={"items": ["3b"]}), {"items": ["3c"]}]

    builder = StateGraph(State)
    builder.add_node("first", first).add_node("second", second).add_node("work", lambda part: {"items": [part]})
    builder.add_node("third", third, destinations=("last",)).add_node("last", says("last"))
    builder.add_edge(START, "first").add_edge("work", "third").add_edge("last", END)
    graph = builder.compile(store)
    assert graph.invoke({}, THREAD)["items"] == ["first", "second", "again", 1, 2, "3a", "3b", "3c", "last"]


def test_a_command_leads_besides_the_plain_edges(store: CheckpointStore) -> None:
    builder = wire({"b": says("b"), "c": says("c")}, [("b", END), ("c", END)])
    builder.add_node("a", lambda state: Command(update={"items": ["a"]}, goto="c"), destinations=("c",))
    builder.add_edge(START, "a").add_edge("a", "b")
    assert builder.compile(store).invoke({}, THREAD)["items"] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (lambda state: "nope", "'nope', which its path_map does not have; known are 'b'"),
        (lambda state: Send("bee", 1), r"sent to 'bee', which is no node; .* did you mean"),
        (lambda state: 7, "returned 7"),
        (lambda state: None, "returned None"),
    ],
)
def test_a_path_that_leads_nowhere(store: CheckpointStore, path: Any, why: str) -> None:
    builder = wire({"a": says("a"), "been": says("b")}, [(START, "a"), ("been", END)])
    builder.add_conditional_edges("a", path, {"b": "been"} if "known are 'b'" in why else ["been"])
    graph = builder.compile(store)
    with pytest.raises(RoutingError, match=why):
        graph.invoke({}, THREAD)
    assert (store.thread("t").status, graph.get_state(THREAD).next) == ("failed", ("a",))


def test_a_command_that_leads_nowhere(store: CheckpointStore) -> None:
    builder = wire({"b": says("b")}, [("b", END)])
    builder.add_node("a", lambda state: Command(goto="bb"), destinations=("b",)).add_edge(START, "a")
    with pytest.raises(RoutingError, match=r"Command of node 'a' leads to 'bb'.*did you mean 'b'"):
        builder.compile(store).invoke({}, THREAD)


class Pair(TypedDict, total=False):
    left: int
    right: int


def test_two_writes_to_a_plain_key_name_both_nodes(store: CheckpointStore) -> None:
    builder = wire(
        {"x": lambda state: {"left": 1}, "y": lambda state: {"left": 2}, "z": lambda state: {"right": 3}},
        [(START, "x"), (START, "y"), (START, "z"), ("x", END), ("y", END), ("z", END)],
        Pair,
    )
    graph = builder.compile(store)
    with pytest.raises(InvalidUpdateError, match="'left' was written by nodes 'x' and 'y'") as caught:
        graph.invoke({"left": 0}, THREAD)
    assert (caught.value.channel, caught.value.nodes) == ("left", ("x", "y"))
    assert graph.get_state(THREAD).values == {"left": 0}
    # with the cause corrected the finished tasks are merged, not run again
    builder = StateGraph(Pair)
    for name in "xyz":
        builder.add_node(name, lambda state: pytest.fail("it had finished")).add_edge(START, name).add_edge(name, END)
    with pytest.raises(InvalidUpdateError):
        builder.compile(store).invoke(None, THREAD)
    graph.update_state(THREAD, {"left": 7}, as_node="x")
    assert graph.invoke(None, THREAD) == {"left": 7}


def test_writes_merge_in_a_fixed_order_whatever_finishes_first(store: CheckpointStore) -> None:
    """Nodes by name, then Sends in the order in which they were sent."""
    rng = random.Random(7)
    wanted: list[Any] | None = None
    for turn in range(6):
        delays = [rng.random() / 50 for _ in range(10)]

        async def slow(part: Any, delays: list[float] = delays) -> dict[str, Any]:
            await asyncio.sleep(delays[part])
            return {"items": [part]}

        def blocking(state: State, delays: list[float] = delays) -> dict[str, Any]:
            time.sleep(delays[8])
            return {"items": ["blocking"]}

        builder = StateGraph(State)
        builder.add_node("work", slow).add_node("zeta", blocking).add_node("alpha", says("alpha"))
        builder.add_conditional_edges(
            START,
            lambda state: ["zeta", *(Send("work", one) for one in (5, 3, 7, 0)), "alpha"],
            ["work", "zeta", "alpha"],
        )
        for name in ("work", "zeta", "alpha"):
            builder.add_edge(name, END)
        found = builder.compile(store).invoke({}, thread(f"t{turn}"))["items"]
        wanted = wanted or found
        assert found == wanted == ["alpha", "blocking", 5, 3, 7, 0]


def test_parallel_nodes_all_see_the_state_before_the_step(store: CheckpointStore) -> None:
    graph = fan({name: lambda state: {"items": [len(state["items"])]} for name in "abc"}, store, last=says("end"))
    assert graph.invoke({"items": ["in"]}, THREAD)["items"] == ["in", 1, 1, 1, "end"]


def test_nodes_that_return_nothing(store: CheckpointStore) -> None:
    graph = chain({"a": lambda state: None, "b": lambda state: {}}, store)
    assert graph.invoke({"n": 1}, THREAD) == {"n": 1, "items": []}
    assert [source for source, *_ in story(graph)] == ["input", "loop", "loop"]


@pytest.mark.parametrize("wrong", [5, "text", [1, 2], {"zz": 1}, Send("a", 1)], ids=repr)
def test_what_a_node_must_not_return(store: CheckpointStore, wrong: Any) -> None:
    graph = chain({"a": lambda state: wrong}, store)
    with pytest.raises(InvalidUpdateError, match="node 'a' returned"):
        graph.invoke({"n": 1}, THREAD)
    assert graph.get_state(THREAD).next == ("a",)
