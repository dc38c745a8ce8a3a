"""Nodes on the owner's own thread, stopped from another."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, TypedDict

import pytest

from perdure import END, START, StateGraph
from perdure.actors.inline import InlineExecutor
from perdure.runtime.desk import NodeCancelled
from perdure.runtime.execute import Step
from perdure.runtime.portal import BackgroundLoop
from perdure.runtime.task import Done, Failed, Task
from tests.sim.desks import ReplayDesk


class State(TypedDict, total=False):
    n: int


def spin(state: State) -> None:
    while True:
        sum(range(50))


def short(state: State) -> dict[str, int]:
    return {"n": sum(range(20))}


async def wait(state: State) -> None:
    await asyncio.sleep(600)


def stubborn(state: State) -> dict[str, int]:
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        try:
            time.sleep(0.001)
        except BaseException:  # what a node must not do, and some do
            continue
    return {"n": 1}


NODES = (spin, short, wait, stubborn)


@pytest.fixture(scope="module")
def step() -> Step:
    builder = StateGraph(State)
    for node in NODES:
        builder.add_node(node.__name__, node)
        builder.add_edge(START, node.__name__)
        builder.add_edge(node.__name__, END)
    return Step(builder.compile(name="inline").topology, {}, {}, ReplayDesk())


@pytest.fixture(scope="module")
def loop() -> BackgroundLoop:
    return BackgroundLoop()


def task(node: str) -> Task:
    return Task(node, node, False, None)


@pytest.mark.parametrize(("node", "times"), [("spin", 100), ("wait", 100), ("short", 2000), ("stubborn", 2)])
def test_a_node_that_is_stopped_again_and_again_never_harms_what_runs_it(
    step: Step, loop: BackgroundLoop, node: str, times: int
) -> None:
    """The exception that stops a node came once per poke; one that came late was raised in the engine itself."""
    executor = InlineExecutor(lambda: loop)
    over = threading.Event()
    leaks: list[BaseException] = []

    def pester() -> None:
        while not over.is_set():
            executor.stop()
            time.sleep(0)

    def engine() -> None:
        try:
            for _ in range(times):
                outcome = executor.run(step, task(node))
                assert isinstance(outcome, Done) or (isinstance(outcome, Failed) and outcome.cancelled), outcome
                for _ in range(300):
                    len([])
        except BaseException as error:
            leaks.append(error)

    pests = [threading.Thread(target=pester) for _ in range(2)]
    host = threading.Thread(target=engine)
    for thread in (*pests, host):
        thread.start()
    host.join(timeout=60)
    over.set()
    for thread in pests:
        thread.join()
    assert not host.is_alive()
    assert leaks == []
    assert not executor.in_node


def test_stop_where_nothing_runs_does_nothing(step: Step, loop: BackgroundLoop) -> None:
    executor = InlineExecutor(lambda: loop)
    executor.stop()
    assert isinstance(executor.run(step, task("short")), Done)
    assert issubclass(NodeCancelled, BaseException)
    assert not issubclass(NodeCancelled, Exception)


def test_a_node_about_to_start_is_kept_from_it_once(step: Step, loop: BackgroundLoop) -> None:
    executor = InlineExecutor(lambda: loop)
    assert executor.stop_node() is False
    kept: Any = executor.run(step, task("short"))
    assert isinstance(kept, Failed)
    assert kept.cancelled
    assert isinstance(executor.run(step, task("short")), Done)
