"""A thread with some of everything: a step, parallel nodes as Ray tasks, a question, an update. And one whose Ray tasks
wait until a folder has a file `fixed`."""

from __future__ import annotations

import operator
import time
from typing import Annotated, Any, TypedDict

from perdure import END, START, Send, StateGraph, interrupt
from tests.actors.graphs_menu import fixed, note


class Mixed(TypedDict, total=False):
    number: int
    texts: Annotated[list[str], operator.add]


def first(state: Mixed) -> dict[str, Any]:
    return {"texts": ["x" * 5000]}


def spread(state: Mixed) -> list[Send]:
    return [Send("part", {"i": i}) for i in range(2)]


def part(arg: dict[str, Any]) -> dict[str, Any]:
    return {"texts": [f"part {arg['i']} " + "y" * 5000]}


def ask(state: Mixed) -> dict[str, Any]:
    return {"texts": [interrupt(state["number"])]} if state["number"] % 5 == 0 else {}


builder = StateGraph(Mixed)
builder.add_node("first", first)
builder.add_node("part", part, run="task")
builder.add_node("ask", ask)
builder.add_edge(START, "first")
builder.add_conditional_edges("first", spread, ["part"])
builder.add_edge("part", "ask")
builder.add_edge("ask", END)
graph = builder.compile(name="mixed", version="1")


class Held(TypedDict, total=False):
    folder: str
    texts: Annotated[list[str], operator.add]


def wait(arg: dict[str, Any]) -> dict[str, Any]:
    note(arg["folder"], "part")
    while not fixed(arg["folder"]):
        time.sleep(0.01)
    return {"texts": [f"part {arg['i']}"]}


keeping = StateGraph(Held)
keeping.add_node("wait", wait, run="task")
keeping.add_conditional_edges(
    START, lambda state: [Send("wait", {"i": i, "folder": state["folder"]}) for i in range(2)], ["wait"]
)
keeping.add_edge("wait", END)
held = keeping.compile(name="held", version="1")
