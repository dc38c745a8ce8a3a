"""Two versions of the graph whose threads are run again: a counter, and one that also counts its own steps."""

from __future__ import annotations

from typing import Any, TypedDict

from perdure import END, START, CompiledGraph, StateGraph


class Counted(TypedDict, total=False):
    """A counter that goes to `steps`."""

    n: int
    steps: int
    anew: int
    """Steps that the newer version made."""


def tick(state: Counted) -> dict[str, Any]:
    """One step of the older version."""
    return {"n": state["n"] + 1}


def newer_tick(state: Counted) -> dict[str, Any]:
    """One step of the newer version."""
    return {"n": state["n"] + 1, "anew": state["anew"] + 1}


def _build(version: str, node: Any) -> CompiledGraph:
    builder = StateGraph(Counted)
    builder.add_node("tick", node)
    builder.add_edge(START, "tick")
    builder.add_conditional_edges("tick", lambda state: "tick" if state["n"] < state["steps"] else END, ["tick", END])
    return builder.compile(name="counted", version=version)


old = _build("1", tick)
new = _build("2", newer_tick)
