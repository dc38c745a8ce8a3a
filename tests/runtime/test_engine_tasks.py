"""`@task`: run once, however often its node starts again; sync and async, retried, matched by order and name."""

from __future__ import annotations

import asyncio
import pickle
import sys
from typing import Any

import pytest

from perdure import (
    CallMismatch,
    CheckpointStore,
    Command,
    PerdureError,
    RetryPolicy,
    UnencodableState,
    interrupt,
    sleep,
    task,
)
from perdure.stores.segments import Kind
from tests.runtime.engine import THREAD, CountingStore, Log, State, chain, fan

ONCE_MORE = RetryPolicy(initial_interval=0, jitter=False, retry_on=Exception)


def kept(log: Log, name: str = "double") -> Any:
    @task(name=name)
    def double(n: int) -> int:
        log.calls.append(f"{name} {n}")
        return 2 * n

    return double


def test_results_are_kept_over_every_wait(store: CheckpointStore) -> None:
    log = Log()
    double = kept(log)

    def node(state: State) -> dict[str, Any]:
        first = double(1)
        answer = interrupt("go on?")
        second = double(first)
        sleep(0.01)
        return {"items": [first, answer, second, double(second)]}

    graph = chain({"a": node}, store)
    graph.invoke({}, THREAD)
    assert graph.invoke(Command(resume="yes"), THREAD)["items"] == [2, "yes", 4, 8]
    assert log.calls == ["double 1", "double 2", "double 4"]


@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
def test_a_result_is_durable_before_the_node_goes_on(durability: str) -> None:
    store, seen = CountingStore(), list[int]()

    def rows() -> int:
        return sum(row.kind == Kind.CALL for commit in store.commits for row in commit.rows)

    double = kept(Log())

    def node(state: State) -> None:
        for n in range(3):
            double(n)
            seen.append(rows())

    chain({"a": node}, store).invoke({}, THREAD, durability=durability)
    assert seen == [1, 2, 3]


def test_a_retried_node_does_not_call_them_again(store: CheckpointStore) -> None:
    log = Log()
    double = kept(log)

    def node(state: State) -> dict[str, Any]:
        log.calls.append("node")
        found = double(1)
        if log.calls.count("node") < 3:
            raise ConnectionError("not yet")
        return {"items": [found]}

    graph = chain({"a": node}, store)
    with pytest.raises(ConnectionError):
        graph.invoke({}, THREAD)
    with pytest.raises(ConnectionError):
        graph.invoke(None, THREAD)
    assert graph.invoke(None, THREAD)["items"] == [2]
    assert log.calls == ["node", "double 1", "node", "node"]


def test_a_task_with_a_policy_is_retried_by_itself(store: CheckpointStore) -> None:
    log = Log()

    @task(retry=ONCE_MORE)
    def flaky(n: int) -> int:
        log.calls.append("flaky")
        if len(log.calls) < 3:
            raise ValueError("no")
        return n

    assert chain({"a": lambda state: {"items": [flaky(7)]}}, store).invoke({}, THREAD)["items"] == [7]
    assert log.calls == ["flaky"] * 3


@pytest.mark.parametrize("beside", [False, True])
def test_async_ones_that_run_side_by_side_are_told_apart(store: CheckpointStore, beside: bool) -> None:
    log = Log()

    @task
    async def late(n: int) -> int:
        await asyncio.sleep(0.03 / n)
        log.calls.append(f"late {n}")
        return n

    async def node(state: State) -> dict[str, Any]:
        first = await asyncio.gather(*(late(n) for n in (1, 2, 3)))
        sleep(0.01)
        second = await asyncio.gather(*(late(n) for n in (4, 5)))
        return {"items": [first, second]}

    nodes: dict[str, Any] = {"a": node}
    if beside:
        nodes["b"] = lambda state: None
    graph = (fan if beside else chain)(nodes, store)
    assert asyncio.run(graph.ainvoke({}, THREAD))["items"] == [[1, 2, 3], [4, 5]]
    assert sorted(log.calls) == ["late 1", "late 2", "late 3", "late 4", "late 5"]


def test_other_calls_than_recorded_are_an_error(store: CheckpointStore) -> None:
    log = Log()
    one, other = kept(log, "one"), kept(log, "other")

    def node(state: State) -> dict[str, Any]:
        log.calls.append("node")
        one(1) if log.calls.count("node") == 1 else other(1)
        return {"items": [interrupt("?")]}

    graph = chain({"a": node}, store, name="changes")
    graph.invoke({}, THREAD)
    with pytest.raises(CallMismatch) as caught:
        graph.invoke(Command(resume=1), THREAD)
    found = caught.value
    assert (found.thread_id, found.graph, found.node, found.index) == ("t", "changes", "a", 0)
    assert (found.recorded, found.called) == ("@task 'one'", "@task 'other'")
    assert str(found).startswith("thread 't': node 'a' of graph 'changes': its call 0 is recorded as @task 'one', and")


def test_a_result_that_cannot_be_stored(store: CheckpointStore) -> None:
    @task
    def odd() -> object:
        return object()

    graph = chain({"a": lambda state: odd()}, store, name="odd")
    with pytest.raises(UnencodableState, match=r"node .a. of graph .odd., call 0: the result of @task .odd."):
        graph.invoke({}, THREAD)


def test_inside_another_it_is_a_part_of_that(store: CheckpointStore) -> None:
    log = Log()
    double = kept(log)

    @task
    def outer() -> int:
        return int(double(1)) + int(double(2))

    def waits() -> None:
        interrupt("no")

    def node(state: State) -> dict[str, Any]:
        found = outer()
        sleep(0)
        return {"items": [found]}

    assert chain({"a": node}, store).invoke({}, THREAD)["items"] == [6]
    assert log.calls == ["double 1", "double 2"]
    with pytest.raises(PerdureError, match=r"interrupt\(\) was called inside a @task, which cannot stop half-way"):
        chain({"a": lambda state: task(waits)()}, None).invoke({})


def test_an_update_carries_what_was_recorded(store: CheckpointStore) -> None:
    log = Log()
    double = kept(log)

    def node(state: State) -> dict[str, Any]:
        return {"items": [double(1), interrupt("?")]}

    graph = chain({"a": node}, store)
    graph.invoke({}, THREAD)
    before = graph.get_state(THREAD).config
    graph.update_state(THREAD, {"n": 5})
    assert graph.invoke(Command(resume="yes"), THREAD) == {"n": 5, "items": [2, "yes"]}
    assert log.calls == ["double 1"]
    graph.update_state(before, {"n": 6})
    graph.invoke(None, THREAD)
    assert log.calls == ["double 1", "double 1"], "a fork is another branch: it has no calls yet"


@task
def at_module_level(n: int) -> int:
    """Says so."""
    return n


def test_it_is_the_function_outside_of_a_node() -> None:
    assert at_module_level(3) == 3
    assert (at_module_level.__name__, at_module_level.__doc__) == ("at_module_level", "Says so.")
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level
    assert sys.modules[__name__].at_module_level is at_module_level


class Shop:
    @task
    def price(self, n: int) -> int:
        return n


def test_methods(store: CheckpointStore) -> None:
    shop = Shop()
    assert chain({"a": lambda state: {"items": [shop.price(3)]}}, store).invoke({}, THREAD)["items"] == [3]
