"""The benchmarks' graphs in perdure.

`finish` is marked `effects=True`, which holds it back until all steps before it are durable: its clock is the time of
the last durable commit.
"""

from __future__ import annotations

from typing import Any

from perdure import END, START, CheckpointStore, CompiledGraph, Send, StateGraph

from .workloads import Appends, Fan, Steps, append, finish, more, spread, tasks_of, tick, work


def _loop(state: Any, name: str, node: Any, store: CheckpointStore | None = None) -> CompiledGraph:
    builder = StateGraph(state)
    builder.add_node(name, node)
    builder.add_node("finish", finish, effects=True)
    builder.add_edge(START, name)
    builder.add_conditional_edges(name, lambda values: name if more(values) else "finish", [name, "finish"])
    builder.add_edge("finish", END)
    return builder.compile(checkpointer=store, name=name)


def build(name: str, store: CheckpointStore | None = None) -> CompiledGraph:
    """The graph of this name, steps or appends: for `invoke` with a store."""
    return _loop(Steps, "tick", tick, store) if name == "steps" else _loop(Appends, "append", append, store)


def _fan(name: str) -> CompiledGraph:
    builder = StateGraph(Fan)
    builder.add_node("spread", spread)
    builder.add_node(name, work)
    builder.add_node("finish", finish, effects=True)
    builder.add_edge(START, "spread")
    builder.add_conditional_edges("spread", lambda state: [Send(name, task) for task in tasks_of(state)], [name])
    builder.add_edge(name, "finish")
    builder.add_edge("finish", END)
    return builder.compile(name=name)


steps = build("steps")
appends = build("appends")
fans = {name: _fan(name) for name in ("trivial", "cpu")}
"""Two graphs with two nodes, since it is learned of each node how long it takes."""
