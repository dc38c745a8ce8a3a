"""A graph that pays, and notes outside of the store what it has paid; its newer version waits at a gate."""

from __future__ import annotations

import operator
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

from perdure import END, START, StateGraph, task

GATE = "open"
"""File in the folder; the newer version's last node does not end before it is there."""


class State(TypedDict, total=False):
    folder: str
    number: int
    done: Annotated[list[Any], operator.add]


@task
def pay(folder: str, number: int) -> str:
    with (Path(folder) / "paid").open("a") as paid:
        paid.write(f"{number}\n")
    return f"receipt {number}"


def prepare(state: State) -> State:
    return {"done": ["prepared"]}


def charge(state: State) -> State:
    return {"done": [pay(state["folder"], state["number"])]}


def report(state: State) -> State:
    return {"done": ["old report"]}


def better_report(state: State) -> State:
    deadline = time.monotonic() + 60
    while not Path(state["folder"], GATE).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody has opened the gate for {state['number']}")
        time.sleep(0.01)
    return {"done": ["new report"]}


def _graph(version: str, last: Any) -> Any:
    builder = StateGraph(State).add_node("prepare", prepare).add_node("charge", charge).add_node("report", last)
    builder.add_edge(START, "prepare").add_edge("prepare", "charge").add_edge("charge", "report").add_edge(
        "report", END
    )
    return builder.compile(name="paying", version=version)


OLD = _graph("1", report)
NEW = _graph("2", better_report)
