"""Where a record ends, how it ended, and with which options it was made: what a replay-check makes of these."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Annotated, Any, TypedDict

import pytest

from perdure import (
    END,
    START,
    Command,
    CompiledGraph,
    GraphRecursionError,
    get_context,
    interrupt,
    receive,
    task,
)
from perdure.cluster.replay_check import replay_check
from perdure.cluster.replay_pair import Divergence
from perdure.runtime.payloads import CANCEL, pack
from perdure.stores.base import CheckpointStore
from perdure.stores.codec import Codec
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Expect
from perdure.stores.records import Message, Status
from tests.runtime.engine import THREAD, Node, asks, chain, says, thread, wire


@task
def one() -> int:
    return 1


@task
def two() -> int:
    return 2


@task
def broken() -> int:
    raise ValueError("timeout")


def add(old: list[Any], new: list[Any]) -> list[Any]:
    return sys.exit(0) if new == ["exit"] else old + new


class Added(TypedDict, total=False):
    items: Annotated[list[Any], add]


def graph(node: Node, store: CheckpointStore | None = None) -> CompiledGraph:
    return chain({"first": says("first"), "node": node}, store, name="g")


def away(store: CheckpointStore, newer: CompiledGraph) -> Divergence | None:
    (checked,) = replay_check(store, newer)
    assert not checked.skipped
    return checked.divergence


def effect(store: CheckpointStore, newer: CompiledGraph) -> str:
    found = away(store, newer)
    assert found is not None
    assert found.kind == "effect"
    return found.what


def waiting(node: Node) -> MemoryStore:
    """A store with a thread that stands in its second node."""
    store = MemoryStore()
    graph(node, store).invoke({}, THREAD)
    return store


def test_another_call_in_the_place_of_a_recorded_one_is_none_that_fits() -> None:
    """It said that the version fits which a resume would have ended with CallMismatch: the step was open."""

    def node(call: Any) -> Node:
        return lambda state: {"items": [call(), interrupt("?")]}

    store = waiting(node(one))
    assert away(store, graph(node(one))) is None
    assert effect(store, graph(node(two))) == "its call 0 (@task 'two'): the thread recorded @task 'one' in its place"


def test_another_call_than_that_at_which_the_thread_waits() -> None:
    store = waiting(asks("?"))
    found = effect(store, graph(lambda state: {"items": [one(), interrupt("?")]}))
    assert found == "its call 0 (@task 'one'): the thread waits at its call 0 (interrupt())"
    assert effect(store, graph(lambda state: {"items": [receive("price")]})).startswith("its call 0 (receive('price'))")
    returns = away(store, graph(says("no question")))
    assert returns is None, "it goes on beyond the record"


def test_calls_side_by_side_with_the_one_that_waits() -> None:
    @task
    async def slow() -> str:
        await asyncio.sleep(0)
        return "slow"

    async def node(state: Any) -> Any:
        async def asked() -> Any:
            return interrupt("?")

        return {"items": list(await asyncio.gather(slow(), asked()))}

    assert away(waiting(node), graph(node)) is None


@pytest.mark.parametrize("more", [False, True])
def test_a_task_that_had_finished_in_the_open_step(more: bool) -> None:
    def side(newer: bool) -> Node:
        return lambda state: {"items": [one(), two()] if newer else [one()]}

    def both(newer: bool, store: CheckpointStore | None) -> CompiledGraph:
        nodes = {"asks": asks("?"), "side": side(newer)}
        edges = [(START, name) for name in nodes]
        return wire(nodes, [*edges, ("asks", END), ("side", END)]).compile(store, name="g")

    store = MemoryStore()
    both(False, store).invoke({}, THREAD)
    if more:
        assert "the thread recorded nothing beyond call 0" in effect(store, both(True, None))
    else:
        assert away(store, both(False, None)) is None


def test_who_was_cancelled_while_it_waited_did_not_fail() -> None:
    store = waiting(asks("?"))
    message = Message(message_id="stop", kind=CANCEL, payload=pack(Codec(), "no"), created_at=0.0)
    store.deliver("t", message, Expect(statuses=frozenset(Status)))
    graph(asks("?"), store).invoke(None, THREAD)
    assert store.thread("t").status is Status.CANCELLED
    assert away(store, graph(asks("?"))) is None
    assert "waits at its call 0" in effect(store, graph(lambda state: {"items": [one()]}))


def test_what_failed_in_a_task_has_no_record_of_that() -> None:
    store = MemoryStore()
    old = graph(lambda state: {"items": [one(), broken()]}, store)
    with pytest.raises(ValueError, match="timeout"):
        old.invoke({}, THREAD)
    assert away(store, graph(lambda state: {"items": [one(), broken()]})) is None
    assert "recorded @task 'one' in its place" in effect(store, graph(lambda state: {"items": [two(), broken()]}))
    assert "interrupt()" in effect(store, graph(lambda state: {"items": [one(), interrupt("?")]}))
    mended = away(store, graph(lambda state: {"items": [one()]}))
    assert mended is not None
    assert (mended.kind, mended.node) == ("status", "node")


def test_a_call_more_of_a_node_that_failed_by_itself() -> None:
    """No call of it had raised, so that another one is none of those that it had made."""

    def node(*calls: Any) -> Node:
        def fails(state: Any) -> Any:
            for call in calls:
                call()
            raise KeyError("by itself")

        return fails

    store = MemoryStore()
    with pytest.raises(KeyError):
        graph(node(one), store).invoke({}, THREAD)
    assert away(store, graph(node(one))) is None
    assert "call 1 (@task 'two')" in effect(store, graph(node(one, two)))


def test_failures_that_were_caught_before_the_last_and_raised_on() -> None:
    def tries_twice(state: Any) -> Any:
        with suppress(ValueError):
            broken()
        broken()

    def raises_on(state: Any) -> Any:
        try:
            broken()
        except ValueError as error:
            raise KeyError("another") from error

    for node, kind in ((tries_twice, ValueError), (raises_on, KeyError)):
        store = MemoryStore()
        with pytest.raises(kind):
            graph(node, store).invoke({}, THREAD)
        assert away(store, graph(node)) is None


def test_what_caught_the_failure_of_a_task_is_told_of_with_a_hint() -> None:
    def falls_back(state: Any) -> Any:
        try:
            return {"items": [broken()]}
        except ValueError:
            return {"items": ["without"]}

    store = waiting(falls_back)
    assert effect(store, graph(falls_back)).endswith("no call there (of a @task that raised there is no record)")


def test_a_call_without_a_record_before_the_step_in_which_the_thread_waits() -> None:
    """Its reason was looked for in that step, where the same node may wait for something else."""

    def loop(early: bool, store: CheckpointStore | None) -> CompiledGraph:
        def node(state: Any) -> Any:
            if state.get("items"):
                return {"items": [interrupt("?")]}
            return {"items": [one(), two()] if early else [one()]}

        builder = wire({"node": node}, [(START, "node")])
        return builder.add_conditional_edges("node", lambda state: "node").compile(store, name="g")

    store = MemoryStore()
    loop(False, store).invoke({}, THREAD)
    assert away(store, loop(False, None)) is None
    assert "recorded nothing beyond call 0" in effect(store, loop(True, None))


@pytest.mark.parametrize("stands", [False, True])
def test_a_node_that_keeps_no_record_is_checked_up_to_it(stands: bool) -> None:
    def acting(store: CheckpointStore | None) -> CompiledGraph:
        builder = wire({"first": says("first")}, [(START, "first"), ("first", "acts"), ("acts", END)])
        acts = asks("?") if stands else says("acted")
        return builder.add_node("acts", acts, effects=True).compile(store, name="g")

    store = MemoryStore()
    acting(store).invoke({}, THREAD)
    found = away(store, acting(None))
    assert (found is None) is stands
    assert found is None or (found.kind, found.node) == ("effect", "acts")


def test_what_ended_at_its_limit_of_steps_was_not_ended_by_its_nodes() -> None:
    store = MemoryStore()
    nodes = {name: says(name) for name in "abcdef"}
    with pytest.raises(GraphRecursionError):
        chain(nodes, store, name="g").invoke({}, {**THREAD, "recursion_limit": 3})
    assert away(store, chain(nodes, None, name="g")) is None
    assert away(store, chain({**nodes, "b": says("other")}, None, name="g")) is not None


def test_a_limit_counts_anew_after_each_answer() -> None:
    store = MemoryStore()
    nodes = {"a": says(1), "ask": asks("?"), "b": says(2), "again": asks("?"), "c": says(3), "d": says(4)}
    limited = {**THREAD, "recursion_limit": 3}
    old = chain(nodes, store, name="g")
    old.invoke({}, limited)
    for _ in range(2):
        old.invoke(Command(resume="yes"), limited)
    assert store.thread("t").status is Status.SUCCEEDED
    assert away(store, chain(nodes, None, name="g")) is None


def test_nodes_get_the_config_that_they_had() -> None:
    """They got none of it, so that each that read it failed, or made another state."""

    def who(state: Any, config: Any) -> Any:
        return {"items": [config["configurable"].get("user"), config["recursion_limit"]]}

    nodes: dict[str, Node] = {"before": who, "ask": asks("?"), "after": who, "side": lambda state: {"items": [one()]}}
    store = MemoryStore()
    old = chain(nodes, store, name="g")
    old.invoke({}, {**thread("t", user="bob"), "recursion_limit": 20})
    old.invoke(Command(resume="yes"), {**thread("t", user="eve"), "recursion_limit": 30})
    assert old.get_state(THREAD).values["items"] == ["bob", 20, "yes", "eve", 30, 1]
    assert away(store, chain(nodes, None, name="g")) is None


def test_a_thread_is_run_no_further_than_it_went() -> None:
    """What it did beyond that was run for nothing, and a failure there was told of as one of the version."""
    ran: list[str] = []

    def later(state: Any) -> Any:
        ran.append(get_context().thread_id)
        raise ValueError("it must not be run")

    nodes = {"first": says("first"), "later": later}
    store = MemoryStore()
    chain(nodes, store, name="g").invoke({}, THREAD, interrupt_before=["later"])
    assert away(store, chain(nodes, None, name="g")) is None
    assert ran == []


@pytest.mark.parametrize("code", [0, 3])
def test_a_node_that_exits_has_failed(code: int) -> None:
    """`sys.exit(0)` in a node ended the check, and with it the step of the pipeline, as if all were well."""

    def leaves(state: Any) -> Any:
        sys.exit(code)

    store = MemoryStore()
    graph(says("node"), store).invoke({}, THREAD)
    found = away(store, graph(leaves))
    assert found is not None
    assert (found.kind, found.node, found.what) == ("failed", "node", f"SystemExit: {code}")


def test_a_reducer_that_exits_has_failed() -> None:
    store = MemoryStore()
    chain({"first": says("first"), "last": says("last")}, store, Added, name="g").invoke({}, THREAD)
    found = away(store, chain({"first": says("first"), "last": says("exit")}, None, Added, name="g"))
    assert found is not None
    assert (found.kind, found.what) == ("failed", "SystemExit: 0")
