"""`measure()`: numbers that nodes record beside the state, each once, whatever is run again."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest

from perdure import (
    END,
    START,
    CheckpointStore,
    Command,
    CompiledGraph,
    InputError,
    PerdureError,
    RetryPolicy,
    Send,
    interrupt,
    measure,
    sleep,
    task,
)
from perdure.runtime.measures import Measure, Measured, since, standing
from perdure.stores.memory import MemoryStore
from tests.runtime.engine import THREAD, Log, Node, State, chain, fan, says, thread, wire

ONCE_MORE = RetryPolicy(initial_interval=0, jitter=False, retry_on=Exception)


def measures(graph: CompiledGraph, config: dict[str, Any] = THREAD) -> dict[str, float]:
    return dict(graph.get_state(config).metadata.get("measures", {}))


def measuring(name: str, number: float, *, add: bool = False) -> Node:
    return lambda state: measure(name, number, add=add)


@task
def counted(n: int) -> int:
    measure("calls", 1, add=True)
    measure("last", n)
    return n


def test_they_stand_in_the_metadata_of_their_checkpoint_and_those_after(store: CheckpointStore) -> None:
    nodes = {
        "a": measuring("tokens", 5, add=True),
        "b": says("b"),
        "c": measuring("tokens", 7, add=True),
        "d": measuring("score", 0.5),
        "e": measuring("score", 0.25),
    }
    graph = chain(nodes, store)
    graph.invoke({}, THREAD)
    found = [state.metadata.get("measures") for state in graph.get_state_history(THREAD)]
    assert found == [
        {"tokens": 12.0, "score": 0.25},
        {"tokens": 12.0, "score": 0.5},
        {"tokens": 12.0},
        {"tokens": 5.0},
        {"tokens": 5.0},
        None,
    ]
    graph.invoke({}, THREAD)
    assert measures(graph) == {"tokens": 24.0, "score": 0.25}, "the thread's next run goes on counting"


def test_what_an_attempt_measured_that_failed_is_void_but_for_its_ended_calls(store: CheckpointStore) -> None:
    log = Log()

    def node(state: State) -> None:
        log.calls.append("node")
        measure("attempts", 1, add=True)
        counted(len(log.calls))
        if len(log.calls) < 3:
            raise ValueError("once more")

    builder = wire({}, [])
    builder.add_node("a", node, retry_policy=ONCE_MORE)
    builder.add_edge(START, "a").add_edge("a", END)
    compiled = builder.compile(store)
    compiled.invoke({}, THREAD)
    assert measures(compiled) == {"attempts": 1.0, "calls": 1.0, "last": 1.0}


def test_a_node_that_starts_again_after_waits_measures_once(store: CheckpointStore) -> None:
    def node(state: State) -> dict[str, Any]:
        measure("tokens", 1, add=True)
        counted(1)
        answer = interrupt("go on?")
        sleep(0.01)
        measure("tokens", 10, add=True)
        return {"items": [answer, counted(2)]}

    graph = chain({"a": node}, store)
    graph.invoke({}, THREAD)
    assert measures(graph) == {}, "nothing counts before the node has returned"
    graph.invoke(Command(resume="yes"), THREAD)
    assert measures(graph) == {"tokens": 11.0, "calls": 2.0, "last": 2.0}


def test_an_attempt_of_a_call_that_raised_counts_for_nothing(store: CheckpointStore) -> None:
    log = Log()

    @task(retry=ONCE_MORE)
    def flaky() -> str:
        log.calls.append("flaky")
        measure("tries", 1, add=True)
        if len(log.calls) < 3:
            raise ValueError("not yet")
        return "done"

    @task
    async def flaky_too() -> str:
        await asyncio.sleep(0)
        measure("tries", 100, add=True)
        return "done"

    async def node(state: State) -> dict[str, Any]:
        return {"items": [flaky(), await flaky_too()]}

    graph = chain({"a": node}, store)
    graph.invoke({}, THREAD)
    assert measures(graph) == {"tries": 101.0}


def test_of_calls_side_by_side_the_last_begun_is_the_newest(store: CheckpointStore) -> None:
    @task
    async def ends_after(seconds: float) -> None:
        await asyncio.sleep(seconds)
        measure("which", seconds)

    async def node(state: State) -> None:
        await asyncio.gather(ends_after(0.05), ends_after(0.0))

    async def other_way(state: State) -> None:
        await asyncio.gather(ends_after(0.0), ends_after(0.05))

    for thread_id, made, newest in (("t", node, 0.0), ("u", other_way, 0.05)):
        graph = chain({"a": made}, store)
        graph.invoke({}, thread(thread_id))
        assert measures(graph, thread(thread_id)) == {"which": newest}


def test_tasks_of_one_step_count_by_their_paths_not_by_who_ends_first(store: CheckpointStore) -> None:
    waits = {0: 0.05, 1: 0.0, 2: 0.02}

    def one(state: Any) -> None:
        time.sleep(waits[state["n"]])
        measure("which", state["n"])
        measure("sum", state["n"], add=True)

    builder = wire({"one": one}, [("one", END)])
    builder.add_conditional_edges(START, lambda state: [Send("one", {"n": n}) for n in range(3)], ["one"])
    graph = builder.compile(store)
    graph.invoke({}, THREAD)
    assert measures(graph) == {"which": 2.0, "sum": 3.0}


@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
def test_results_of_a_step_that_waits_for_another_keep_them(durability: str) -> None:
    store, log = MemoryStore(), Log()

    def asking(state: State) -> dict[str, Any]:
        return {"items": [interrupt("?")]}

    def node(state: State) -> None:
        log.calls.append("node")
        measure("tokens", 3, add=True)

    graph = fan({"a": node, "b": asking}, store)
    graph.invoke({}, THREAD, durability=durability)
    graph.invoke(Command(resume="yes"), THREAD, durability=durability)
    assert (measures(graph), log.calls) == ({"tokens": 3.0}, ["node"])


def test_forks_and_branches_go_on_from_what_stood_there(store: CheckpointStore) -> None:
    graph = chain({"a": measuring("n", 1, add=True), "b": measuring("n", 10, add=True), "c": says("c")}, store)
    graph.invoke({}, THREAD)
    after_a = next(state for state in graph.get_state_history(THREAD) if state.next == ("b",))
    graph.update_state(after_a.config, {"items": ["changed"]})
    assert measures(graph) == {"n": 1.0}
    graph.invoke(None, THREAD)
    assert measures(graph) == {"n": 11.0}


def test_without_a_store_nothing_is_kept_and_nothing_fails() -> None:
    assert chain({"a": measuring("n", 1)}, None).invoke({"n": 2}) == {"n": 2, "items": []}


@pytest.mark.parametrize("number", ["1", None, True, math.nan, math.inf, 10**400, 1j])
def test_what_is_no_number_is_refused(number: Any) -> None:
    seen: list[str] = []

    def node(state: State) -> None:
        with pytest.raises(InputError, match="measure\\('n'"):
            measure("n", number)
        seen.append("refused")

    chain({"a": node}, None).invoke({})
    assert seen == ["refused"]


def test_names_are_texts_and_other_numbers_become_floats(store: CheckpointStore) -> None:
    def node(state: State) -> None:
        for name in ("", 1):
            with pytest.raises(InputError, match="has to be a text"):
                measure(name, 1)  # type: ignore[arg-type]
        measure("cost", Decimal("0.5"), add=True)  # type: ignore[arg-type]

    graph = chain({"a": node}, store)
    graph.invoke({}, THREAD)
    assert measures(graph) == {"cost": 0.5}


def test_outside_of_a_node_it_is_refused() -> None:
    with pytest.raises(PerdureError, match="outside a node"):
        measure("n", 1)


def test_sums_and_newest() -> None:
    begun = standing({}, [Measured("sum", 1, True), Measured("set", 5, False), Measured("mixed", 1, True)], 3)
    more = [Measured("sum", 2, True), Measured("set", 6, False), Measured("set", 1, True), Measured("mixed", 9, False)]
    ended = standing(begun, [*more, Measured("new", 4, True)], 4)
    assert ended == {
        "sum": Measure(3, True, 4),
        "set": Measure(7, False, 4),
        "mixed": Measure(9, False, 4),
        "new": Measure(4, True, 4),
    }
    assert begun["sum"] == Measure(1, True, 3), "what stood before is not changed in place"
    assert since(begun, ended, 3) == {"sum": 2, "set": 7, "mixed": 9, "new": 4}
    assert since(begun, begun, 3) == {}, "what nobody has measured since is no one's"
    assert since({}, begun, -2) == {"sum": 1, "set": 5, "mixed": 1}
    assert standing(begun, [], 5) is begun


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_a_call_measured_that_raised_counts_for_nothing(store: CheckpointStore, asynchronous: bool) -> None:
    @task(retry=ONCE_MORE)
    def fails() -> None:
        measure("n", 5, add=True)
        raise ValueError("always")

    @task
    async def slow() -> None:
        measure("n", 7, add=True)
        await asyncio.sleep(60)

    async def waiting(state: State) -> dict[str, Any]:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow(), 0.01)
        measure("n", 1, add=True)
        return {"items": [interrupt("?")]}

    def catching(state: State) -> dict[str, Any]:
        with pytest.raises(ValueError, match="always"):
            fails()
        measure("n", 1, add=True)
        return {"items": [interrupt("?")]}

    graph = chain({"a": waiting if asynchronous else catching}, store)
    graph.invoke({}, THREAD)
    graph.invoke(Command(resume="yes"), THREAD)
    assert measures(graph) == {"n": 1.0}


def test_what_is_measured_after_its_call_has_ended_counts_for_nothing(store: CheckpointStore) -> None:
    """It would be lost when the node starts again: then it counts never."""
    gone_on = asyncio.Event()

    @task
    async def leaves() -> None:
        async def child() -> None:
            await gone_on.wait()
            measure("n", 5, add=True)

        children.append(asyncio.create_task(child()))

    children: list[asyncio.Task[None]] = []

    async def node(state: State) -> None:
        await leaves()
        gone_on.set()
        await children[0]

    graph = chain({"a": node}, store)
    graph.invoke({}, THREAD)
    assert measures(graph) == {}


@pytest.mark.parametrize("inside", [False, True])
def test_many_from_several_threads_are_all_counted(store: CheckpointStore, inside: bool) -> None:
    async def work() -> None:
        def many() -> None:
            for _ in range(500):
                measure("n", 1, add=True)

        await asyncio.gather(*(asyncio.to_thread(many) for _ in range(4)))

    async def node(state: State) -> None:
        await (task(work)() if inside else work())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        graph = chain({"a": node}, store)
        graph.invoke({}, THREAD)
    finally:
        sys.setswitchinterval(interval)
    assert measures(graph) == {"n": 2000.0}


def test_names_of_a_type_of_their_own_are_texts_wherever_they_are_measured(store: CheckpointStore) -> None:
    class Name(StrEnum):
        TOKENS = "tokens"

    @task
    def call() -> None:
        measure(Name.TOKENS, 1, add=True)

    def node(state: State) -> None:
        call()
        measure(Name.TOKENS, 10, add=True)

    graph = fan({"a": node, "b": node}, store)
    graph.invoke({}, THREAD)
    assert measures(graph) == {"tokens": 22.0}


def test_a_name_that_cannot_be_stored_is_refused_before_it_is_taken(store: CheckpointStore) -> None:
    with pytest.raises(InputError, match="surrogate"):
        chain({"a": measuring("tok\udce9", 1)}, store).invoke({}, THREAD)


def test_too_many_names_and_sums_beyond_all_numbers_fail_the_run(store: CheckpointStore) -> None:
    def names(state: State) -> None:
        for number in range(257):
            measure(f"n{number}", 1)

    def sums(state: State) -> None:
        for _ in range(2):
            measure("n", 1e308, add=True)

    for thread_id, node, match in (("t", names, "257 names"), ("u", sums, "no finite number")):
        graph = chain({"a": node}, store)
        with pytest.raises(InputError, match=match):
            graph.invoke({}, thread(thread_id))
        assert measures(graph, thread(thread_id)) == {}


def test_a_conditional_edge_is_no_place_to_measure() -> None:
    """It is also asked for inputs and updates, where no node runs: a graph that did it could not be updated."""

    def edge(state: State) -> str:
        measure("n", 1)
        return END

    builder = wire({"a": says("a")}, [(START, "a")])
    builder.add_conditional_edges("a", edge, [END])
    with pytest.raises(PerdureError, match="conditional edge"):
        builder.compile(MemoryStore()).invoke({}, THREAD)
