"""The same workloads in LangGraph, run by its own environment's Python: `python -m benchmarks.langgraph_side JSON`.

Prints the elapsed seconds, from the start of the first node to the return of `invoke`, which is when LangGraph has
written its last checkpoint.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from importlib.metadata import version
from typing import Any

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from .workloads import Appends, Fan, Steps, append, bytes_written, more, spread, tasks_of, tick, work


def _loop(state: Any, name: str, node: Any, saver: Any) -> Any:
    builder = StateGraph(state)
    builder.add_node(name, node)
    builder.add_edge(START, name)
    builder.add_conditional_edges(name, lambda values: name if more(values) else END, [name, END])
    return builder.compile(checkpointer=saver)


def _fan(saver: Any) -> Any:
    builder = StateGraph(Fan)
    builder.add_node("spread", spread)
    builder.add_node("work", work)
    builder.add_edge(START, "spread")
    builder.add_conditional_edges("spread", lambda state: [Send("work", task) for task in tasks_of(state)], ["work"])
    builder.add_edge("work", END)
    return builder.compile(checkpointer=saver)


def main(order: dict[str, Any]) -> dict[str, Any]:
    """Run one order: which graph, its input, the durability, the database's path."""
    connection = sqlite3.connect(order["database"], check_same_thread=False)
    saver = SqliteSaver(connection)
    saver.setup()
    which = order["graph"]
    if which == "steps":
        graph = _loop(Steps, "tick", tick, saver)
    elif which == "appends":
        graph = _loop(Appends, "append", append, saver)
    else:
        graph = _fan(saver)
    config: dict[str, Any] = {"configurable": {"thread_id": "warm-up"}, "recursion_limit": 1_000_000}
    graph.invoke(order["warm_up"], config, durability=order["durability"])
    config["configurable"]["thread_id"] = "measured"
    graph.invoke(order["input"], config, durability=order["durability"])
    ended, cpu = time.monotonic_ns(), time.process_time_ns()
    written, log = bytes_written(), _size(f"{order['database']}-wal")
    started = time.perf_counter()
    graph.get_state(config)
    loaded = time.perf_counter() - started
    connection.close()
    return {
        "ended": ended,
        "cpu": cpu,
        "load_seconds": loaded,
        "written": written,
        "log": log,
        "langgraph": version("langgraph"),
        "langgraph-checkpoint-sqlite": version("langgraph-checkpoint-sqlite"),
        "sqlite": sqlite3.sqlite_version,
    }


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
