"""The graph whose threads are parked: it asks a question, and says when it has the answer."""

from __future__ import annotations

from typing import Any, TypedDict

from perdure import END, START, StateGraph

from .workloads import mark


class Asked(TypedDict, total=False):
    """A state of some hundred bytes."""

    report: str
    text: str
    n: int


def prepare(state: Asked) -> dict[str, Any]:
    """What was done before it parked."""
    return {"text": "x" * 200, "n": 1}


def woken(state: Asked) -> dict[str, Any]:
    """The first thing that a thread does after it was parked."""
    mark(state["report"], "woken", state["n"])
    return {"n": state["n"] + 1}


def _build() -> Any:
    builder = StateGraph(Asked)
    builder.add_node("prepare", prepare)
    builder.add_node("woken", woken)
    builder.add_edge(START, "prepare")
    builder.add_edge("prepare", "woken")
    builder.add_edge("woken", END)
    return builder.compile(name="asked", version="1", interrupt_before=["woken"])


graph = _build()
