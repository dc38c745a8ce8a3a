"""The graph that is killed. Importing its module takes two seconds, as with one that loads a model."""

from __future__ import annotations

import time
from typing import Any, TypedDict

from perdure import END, START, StateGraph

from .workloads import mark

IMPORT_SECONDS = 2.0
NODE_SECONDS = 0.03

time.sleep(IMPORT_SECONDS)


class Endless(TypedDict, total=False):
    """A counter without an end."""

    n: int
    report: str


def beat(state: Endless) -> dict[str, Any]:
    """Say when it starts, then take a while."""
    mark(state["report"], "beat", state["n"])
    time.sleep(NODE_SECONDS)
    return {"n": state["n"] + 1}


def _build() -> Any:
    builder = StateGraph(Endless)
    builder.add_node("beat", beat)
    builder.add_edge(START, "beat")
    builder.add_conditional_edges("beat", lambda state: "beat" if state["n"] >= 0 else END, ["beat", END])
    return builder.compile(name="endless")


graph = _build()
