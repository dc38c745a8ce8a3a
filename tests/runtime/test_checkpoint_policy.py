"""Which steps become full checkpoints: every one, every N-th, one in a while, or those that a node asks for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    END,
    START,
    Checkpoints,
    CheckpointStore,
    Command,
    CompiledGraph,
    GraphValidationError,
    InputError,
    PerdureError,
    StateGraph,
    UnknownThread,
    checkpoint,
    interrupt,
)
from perdure.runtime.clock import SystemClock
from perdure.runtime.inprocess import InProcess
from perdure.runtime.local import LocalExecutor
from perdure.runtime.options import RunOptions
from perdure.runtime.payloads import RESUME, pack
from perdure.runtime.portal import Portal
from perdure.stores.memory import MemoryStore
from tests.runtime.engine import THREAD, CountingStore, Log, State, asks, chain, fan, history, says, thread, until

MODES = ["sync", "async"]


def steps(graph: CompiledGraph, config: dict[str, Any] = THREAD) -> list[int]:
    """Supersteps of the full checkpoints, oldest first."""
    return [shot.metadata["step"] for shot in history(graph, config)]


@pytest.mark.parametrize("durability", MODES)
def test_every_so_many_steps(store: CheckpointStore, durability: str) -> None:
    graph = until(20, store, checkpoints=Checkpoints(every=6))
    assert graph.invoke({"n": 0}, THREAD, durability=durability)["n"] == 20
    assert steps(graph) == [5, 11, 17, 19]
    assert [shot.values["n"] for shot in history(graph)] == [6, 12, 18, 20]
    assert [shot.parent_config is None for shot in history(graph)] == [True, False, False, False]


@pytest.mark.parametrize("durability", MODES)
def test_the_run_wins_over_the_graph(store: CheckpointStore, durability: str) -> None:
    graph = until(5, store, checkpoints=Checkpoints(manual=True))
    graph.invoke({"n": 0}, THREAD, durability=durability)
    assert steps(graph) == [4]
    graph.invoke({"n": 3}, THREAD, durability=durability, checkpoints=Checkpoints())
    assert steps(graph) == [4, 5, 6, 7]


def test_exit_folds_without_a_limit(store: CheckpointStore) -> None:
    graph = until(20, store, checkpoints=Checkpoints(every=2))
    graph.invoke({"n": 0}, THREAD, durability="exit")
    assert steps(graph) == [19]


@pytest.mark.parametrize("durability", MODES)
def test_at_most_one_in_a_while(store: CheckpointStore, durability: str) -> None:
    graph = until(30, store)
    graph.invoke({"n": 0}, THREAD, durability=durability, checkpoints=Checkpoints(interval=timedelta(days=1)))
    assert steps(graph) == [29]
    graph.invoke({"n": 0}, thread("u"), durability=durability, checkpoints=Checkpoints(interval=timedelta.resolution))
    assert len(steps(graph, thread("u"))) > 20


def asks_for_one(state: State) -> dict[str, Any]:
    if state["n"] in (3, 7):
        checkpoint()
    return {"n": state["n"] + 1}


async def asks_for_one_later(state: State) -> dict[str, Any]:
    return asks_for_one(state)


@pytest.mark.parametrize("node", [asks_for_one, asks_for_one_later])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_a_node_asks(store: CheckpointStore, durability: str, node: Any) -> None:
    builder = StateGraph(State).add_node("count", node).add_edge(START, "count")
    builder.add_conditional_edges("count", lambda state: "count" if state["n"] < 10 else END, ["count", END])
    graph = builder.compile(store, checkpoints=Checkpoints(manual=True))
    graph.invoke({"n": 0}, THREAD, durability=durability)
    assert [shot.values["n"] for shot in history(graph)] == [4, 8, 10]


def test_one_of_several_asks_and_is_resumed(store: CheckpointStore) -> None:
    """What a finished node asked for is kept with its result, while others of its step wait."""

    def asking(state: State) -> dict[str, Any]:
        checkpoint()
        return {"items": ["asked"]}

    def waiting(state: State) -> dict[str, Any]:
        return {"items": [interrupt("?")]}

    nodes = {"asking": asking, "waiting": waiting}
    builder = StateGraph(State).add_node("last", says("last")).add_node("after", says("after"))
    for name, node in nodes.items():
        builder.add_node(name, node).add_edge(START, name)
    builder.add_edge(["asking", "waiting"], "last").add_edge("last", "after").add_edge("after", END)
    graph = builder.compile(store, checkpoints=Checkpoints(manual=True))
    graph.invoke({}, THREAD)
    graph.invoke(Command(resume="!"), THREAD)
    assert [shot.values["items"] for shot in history(graph)] == [
        [],
        ["asked", "!"],
        ["asked", "!", "last", "after"],
    ]


@pytest.mark.parametrize("durability", MODES)
def test_what_must_be_kept_is(store: CheckpointStore, durability: str) -> None:
    """Results of nodes side by side, questions, answers and ends are committed with the checkpoint they belong to."""
    log = Log()
    graph = fan(
        {"a": log.node("a"), "ask": asks("?"), "b": log.node("b")},
        store,
        last=log.node("last"),
        checkpoints=Checkpoints(every=100),
    )
    assert graph.invoke({}, THREAD, durability=durability)["__interrupt__"][0].value == "?"
    shot = graph.get_state(THREAD)
    assert [task.result for task in shot.tasks] == [{"items": ["a"]}, None, {"items": ["b"]}]
    assert graph.invoke(Command(resume="!"), THREAD)["items"] == ["a", "!", "b", "last"]
    assert sorted(log.calls) == ["a", "b", "last"]


def test_effects_come_after_what_is_durable() -> None:
    store = CountingStore()
    seen: list[int] = []

    def effect(state: State) -> dict[str, Any]:
        seen.append(store.thread("t").head)
        return {"items": ["effect"]}

    builder = (
        StateGraph(State).add_node("a", says("a")).add_node("b", says("b")).add_node("effect", effect, effects=True)
    )
    builder.add_edge(START, "a").add_edge("a", "b").add_edge("b", "effect").add_edge("effect", END)
    graph = builder.compile(store, checkpoints=Checkpoints(manual=True))
    graph.invoke({}, THREAD)
    assert [shot.values["items"] for shot in history(graph)] == [["a", "b"], ["a", "b", "effect"]]
    assert seen == [int(history(graph)[0].checkpoint_id)]


def test_a_failure_keeps_the_steps_before_it(store: CheckpointStore) -> None:
    def bad(state: State) -> dict[str, Any]:
        raise ConnectionError("lost")

    graph = chain({"a": says("a"), "b": says("b"), "bad": bad}, store, checkpoints=Checkpoints(every=10))
    with pytest.raises(ConnectionError):
        graph.invoke({}, THREAD)
    assert (graph.get_state(THREAD).values["items"], graph.get_state(THREAD).next) == (["a", "b"], ("bad",))


def none() -> Portal:
    raise AssertionError("no async nodes here")


def test_updates_and_forks_go_on_with_the_runs_policy(store: CheckpointStore) -> None:
    graph = until(20, store)
    graph.invoke({"n": 0}, THREAD, checkpoints=Checkpoints(every=8))
    middle = history(graph)[0]
    assert middle.values["n"] == 8
    graph.update_state(middle.config, {"n": 2})
    runner = InProcess(
        topology=graph.topology,
        store=store,
        codec=graph.codec,
        clock=SystemClock(),
        executor=lambda: LocalExecutor(none),
    )
    runner.send("t", RESUME, pack(graph.codec, "", None, None))
    assert runner.run("t").position.values["n"] == 20
    assert [shot.values["n"] for shot in history(graph)][3:] == [2, 10, 18, 20]


def test_the_history_is_thinner_and_the_state_the_same() -> None:
    rows = {}
    for every in (1, 10):
        store = CountingStore()
        graph = chain({name: says(name) for name in "abcdefghijklmnop"}, store, checkpoints=Checkpoints(every=every))
        assert graph.invoke({"n": 1}, THREAD)["items"] == list("abcdefghijklmnop")
        rows[every] = store.checkpoints
    assert rows == {1: 17, 10: 2}


@pytest.mark.parametrize(
    "wrong",
    [
        {"every": 0},
        {"every": True},
        {"every": 2.5},
        {"interval": timedelta(0)},
        {"interval": 5},
        {"manual": 1},
        {"every": 2, "manual": True},
        {"every": 2, "interval": timedelta(seconds=1)},
    ],
)
def test_bad_policies(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"every|interval|manual"):
        Checkpoints(**wrong)


def test_bad_values_are_refused_before_anything_is_written() -> None:
    store = MemoryStore()
    with pytest.raises(GraphValidationError, match=r"checkpoints=5.*Checkpoints"):
        until(3, store, checkpoints=5)
    graph = until(3, store)
    with pytest.raises(InputError, match="checkpoints is 5; give perdure"):
        graph.invoke({"n": 0}, THREAD, checkpoints=5)  # type: ignore[arg-type]
    with pytest.raises(UnknownThread):
        store.thread("t")


@pytest.mark.parametrize(
    "policy", [Checkpoints(), Checkpoints(every=7), Checkpoints(interval=timedelta(hours=2)), Checkpoints(manual=True)]
)
def test_options_travel_as_data(policy: Checkpoints) -> None:
    options = RunOptions(checkpoints=policy)
    assert RunOptions.from_data(options.to_data()) == options
    assert "checkpoints" not in RunOptions().to_data()


def test_only_a_node_can_ask() -> None:
    with pytest.raises(PerdureError, match=r"checkpoint\(\) was called outside a node"):
        checkpoint()
