"""Graphs that fan out: sixteen tasks that compute, and a thousand that do next to nothing."""

from __future__ import annotations

import operator
import os
import time
from typing import Annotated, Any, TypedDict

import ray

from perdure import END, START, Send, StateGraph


class State(TypedDict, total=False):
    tasks: int
    done: Annotated[list[Any], operator.add]


def compute(arg: int) -> dict[str, Any]:
    """A tenth of a second of CPU time; when it ran and where."""
    began, spent = time.monotonic(), time.thread_time()
    while time.thread_time() - spent < 0.1:
        sum(range(100))
    return {"done": [(arg, os.getpid(), began, time.monotonic())]}


def trifle(arg: int) -> dict[str, Any]:
    return {"done": [(arg, ray.get_runtime_context().get_task_id())]}


def spread(node: str) -> Any:
    def fan(state: State) -> list[Send]:
        return [Send(node, i) for i in range(state["tasks"])]

    return fan


def begin(state: State) -> None:
    return None


def build(node: Any, name: str) -> Any:
    builder = StateGraph(State)
    builder.add_node("begin", begin)
    builder.add_node("work", node)
    builder.add_edge(START, "begin")
    builder.add_conditional_edges("begin", spread("work"), ["work"])
    builder.add_edge("work", END)
    return builder.compile(name=name, version="1")


computing = build(compute, "computing")
trifling = build(trifle, "trifling")
