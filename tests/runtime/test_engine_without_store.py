"""Graphs that keep nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from perdure import Command, GraphRecursionError, InputError, InvalidUpdateError
from tests.runtime.engine import THREAD, Log, asks, chain, fan, says, until


def test_a_graph_without_a_store_runs() -> None:
    graph = fan({"a": says("a"), "b": says("b")}, None, last=says("end"))
    assert graph.invoke({"n": 1}) == {"n": 1, "items": ["a", "b", "end"]}
    assert graph.invoke({"n": 1}, THREAD) == {"n": 1, "items": ["a", "b", "end"]}
    assert list(graph.stream({"n": 1}))[-1] == {"last": {"items": ["end"]}}
    assert asyncio.run(graph.ainvoke({"n": 2}))["n"] == 2


def test_values_may_be_anything() -> None:
    thing = object()
    graph = chain({"a": says(thing), "b": lambda state: {"n": open}}, None)
    found = graph.invoke({"items": [thing]})
    assert found["items"] == [thing, thing]
    assert found["n"] is open


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_durability_makes_no_difference(durability: str) -> None:
    assert until(30, None).invoke({"n": 0}, durability=durability)["n"] == 30


def test_there_is_nothing_to_go_on_with() -> None:
    graph = chain({"ask": asks("?")}, None)
    assert graph.invoke({})["__interrupt__"][0].value == "?"
    for input in (None, Command(resume=1)):
        with pytest.raises(InputError, match="without a store, so it has no thread"):
            graph.invoke(input)
    uses: list[Callable[[], Any]] = [
        lambda: graph.get_state(THREAD),
        lambda: list(graph.get_state_history(THREAD)),
        lambda: graph.update_state(THREAD, {"n": 1}),
    ]
    for use in uses:
        with pytest.raises(InputError, match="compiled without a store"):
            use()


def test_errors_without_a_store() -> None:
    def bad(state: Any) -> None:
        raise KeyError("boom")

    with pytest.raises(KeyError, match="boom"):
        chain({"bad": bad}, None).invoke({})
    with pytest.raises(GraphRecursionError):
        until(30, None).invoke({"n": 0}, {"recursion_limit": 20})
    with pytest.raises(InvalidUpdateError, match="'x' and 'y'"):
        fan({"x": lambda state: {"n": 1}, "y": lambda state: {"n": 2}}, None).invoke({})


def test_a_stream_without_a_store_that_is_left_early() -> None:
    log = Log()
    graph = chain({name: log.node(name) for name in "abcdefgh"}, None, interrupt_before=["h"])
    for _ in graph.stream({}):
        break
    assert "h" not in log.calls
