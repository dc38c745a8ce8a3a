"""A graph that counts until it is told that it is enough: a thread is at work for as long as a test needs it."""

from __future__ import annotations

import operator
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

from perdure import END, START, StateGraph
from tests.actors.graphs_menu import note

ENOUGH = "enough"
"""The file, in the thread's folder, at which it ends."""


class Counted(TypedDict, total=False):
    folder: str
    seconds: float
    """How long a step takes."""
    n: int
    steps: Annotated[list[int], operator.add]
    heard: Annotated[list[str], operator.add]
    """What it was told meanwhile."""


def count(state: Counted) -> dict[str, Any]:
    n = state.get("n", 0) + 1
    note(state["folder"], f"count {n}")
    time.sleep(state.get("seconds", 0.01))
    return {"n": n, "steps": [n]}


def further(state: Counted) -> str:
    return END if (Path(state["folder"]) / ENOUGH).exists() else "count"


builder = StateGraph(Counted)
builder.add_node("count", count)
builder.add_edge(START, "count")
builder.add_conditional_edges("count", further, ["count", END])
graph = builder.compile(name="counting", version="1")
