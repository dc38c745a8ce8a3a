"""The same workloads in LangGraph: `python -m benchmarks.langgraph_side ORDER`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Annotated, Any, TypedDict

from langgraph.channels.delta import DeltaChannel
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from . import langgraph_batch
from .orders import MEASURED, WARM_UP, Answer, Batch, Crowd, Crowded, Load, Loaded, Order, Ran, Run, decoded, encoded
from .savers import opened
from .workloads import Appends, Fan, Steps, append, bytes_written, more, spread, tasks_of, tick, work


def extend(state: list[str], writes: Sequence[list[str]]) -> list[str]:
    """The reducer of a `DeltaChannel` for lists."""
    return [*state, *chain.from_iterable(writes)]


class DeltaAppends(TypedDict, total=False):
    """`Appends` with LangGraph's way of storing only what was added; a snapshot every 100 updates, its default."""

    n: int
    steps: int
    report: str
    texts: Annotated[list[str], DeltaChannel(extend)]


def build(name: str, saver: Any) -> Any:
    """The graph of this name: steps, appends, delta-appends or fan."""
    if name == "fan":
        return _fan(saver)
    if name == "steps":
        return _loop(Steps, "tick", tick, saver)
    return _loop(DeltaAppends if name == "delta-appends" else Appends, "append", append, saver)


def _loop(state: Any, name: str, node: Any, saver: Any) -> Any:
    builder = StateGraph(state)
    # Named, since the node's own annotation has the plain list.
    builder.add_node(name, node, input_schema=state)
    builder.add_edge(START, name)
    builder.add_conditional_edges(name, lambda values: name if more(values) else END, [name, END])
    return builder.compile(checkpointer=saver)


def _fan(saver: Any) -> Any:
    builder: Any = StateGraph(Fan)
    builder.add_node("spread", spread)
    builder.add_node("work", work)
    builder.add_edge(START, "spread")
    builder.add_conditional_edges("spread", lambda state: [Send("work", task) for task in tasks_of(state)], ["work"])
    builder.add_edge("work", END)
    return builder.compile(checkpointer=saver)


def run(order: Run) -> Ran:
    """See `Run`. `invoke` returns when the last checkpoint is written, also with durability async."""
    with opened(order.saver, order.url) as (saver, durable):
        graph = build(order.graph, saver)
        graph.invoke(order.warm_up, _config(WARM_UP), durability=order.durability)
        graph.invoke(order.given, _config(MEASURED), durability=order.durability)
        durable()
        return Ran(ended=time.monotonic_ns(), cpu=time.process_time_ns(), written=bytes_written())


def load(order: Load) -> Loaded:
    """See `Load`."""
    newest: list[float] = []
    middle: list[float] = []
    texts = middle_texts = 0
    with opened(order.saver, order.url) as (saver, _):
        (found,) = saver.list(_config(MEASURED), filter={"step": order.texts // 2}, limit=1)
    for _ in range(order.times):
        texts = _read(order, newest, _config(MEASURED))
        middle_texts = _read(order, middle, found.config)
    return Loaded(newest=newest, middle=middle, texts=texts, middle_texts=middle_texts)


def _read(order: Load, taken: list[float], config: dict[str, Any]) -> int:
    with opened(order.saver, order.url) as (saver, _):
        graph = build(order.graph, saver)
        graph.get_state(_config(WARM_UP))
        started = time.perf_counter()
        texts = len(graph.get_state(config).values["texts"])
        taken.append(time.perf_counter() - started)
    return texts


def crowd(order: Crowd) -> Crowded:
    """See `Crowd`."""
    with opened(order.saver, order.url) as (saver, durable), ThreadPoolExecutor(order.workers) as pool:
        graph = build("steps", saver)
        graph.invoke(order.given, _config(WARM_UP))
        started = time.perf_counter()
        list(pool.map(lambda number: graph.invoke(order.given, _config(f"t-{number}")), range(order.threads)))
        durable()
        return Crowded(seconds=time.perf_counter() - started)


def carry_out(order: Order) -> Answer:
    """One order. Raises `ValueError` for one that LangGraph has nothing for."""
    match order:
        case Run():
            return run(order)
        case Load():
            return load(order)
        case Crowd():
            return crowd(order)
        case Batch():
            return langgraph_batch.batch(order, lambda saver: build("steps", saver))
    raise ValueError(f"LangGraph has nothing for {order}")


def _config(thread_id: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread_id}, "recursion_limit": 1_000_000}


if __name__ == "__main__":
    print(encoded([carry_out(order) for order in decoded(sys.argv[1])]))
