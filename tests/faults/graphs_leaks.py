"""A thread with some of everything: a step, parallel nodes as Ray tasks, a question, an update."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from perdure import END, START, Send, StateGraph, interrupt


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
