"""The graph of what is lost with nodes, supervisors and clusters: it says which thread's step begins."""

from __future__ import annotations

import time
from typing import Any, TypedDict

from perdure import END, START, StateGraph

from .workloads import mark

NODE_SECONDS = 0.02


class Beats(TypedDict, total=False):
    """So many steps; none is the last where `steps` is 0."""

    number: int
    report: str
    steps: int
    n: int


def beat(state: Beats) -> dict[str, Any]:
    """Say when it starts, then take a while."""
    mark(state["report"], "beat", state["number"])
    time.sleep(NODE_SECONDS)
    return {"n": state.get("n", 0) + 1}


def _build() -> Any:
    builder = StateGraph(Beats)
    builder.add_node("beat", beat)
    builder.add_edge(START, "beat")
    builder.add_conditional_edges("beat", lambda state: END if state["n"] == state["steps"] else "beat", ["beat", END])
    return builder.compile(name="beats", version="1")


graph = _build()
