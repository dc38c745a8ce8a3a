"""Graphs for the command line's tests, which name them as `graphs_cli:...` with this folder as the current one.

They wait for a file, the gate, so that no test depends on time.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TypedDict

from perdure import END, START, StateGraph, interrupt

print("a module may print while it is imported")


class State(TypedDict, total=False):
    n: int
    gate: str
    answer: str


def count(state: State) -> State:
    return {"n": state.get("n", 0) + 1}


def ask(state: State) -> State:
    return {"answer": interrupt({"n": state["n"]})}


def tick(state: State) -> State:
    time.sleep(0.02)
    return {"n": state.get("n", 0) + 1}


def again(state: State) -> str:
    return END if Path(state["gate"]).exists() else "tick"


def check(state: State) -> State:
    if not Path(state["gate"]).exists():
        raise ValueError("the gate is [bold]shut[/bold]")
    return {"answer": "open"}


def hold(state: State) -> State:
    while not Path(state["gate"]).exists():
        time.sleep(0.01)
    return {}


asking_builder = StateGraph(State)
asking_builder.add_node("count", count)
asking_builder.add_node("ask", ask)
asking_builder.add_edge(START, "count")
asking_builder.add_edge("count", "ask")
asking_builder.add_edge("ask", END)
asking = asking_builder.compile(name="asking")

_ticking = StateGraph(State)
_ticking.add_node("tick", tick)
_ticking.add_edge(START, "tick")
_ticking.add_conditional_edges("tick", again, ["tick", END])
ticking = _ticking.compile(name="ticking")

_checking = StateGraph(State)
_checking.add_node("check", check)
_checking.add_edge(START, "check")
_checking.add_edge("check", END)
checking = _checking.compile(name="checking")

_holding = StateGraph(State)
_holding.add_node("hold", hold)
_holding.add_edge(START, "hold")
_holding.add_edge("hold", END)
holding = _holding.compile(name="holding")

no_graph = 7
