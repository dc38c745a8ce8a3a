"""Perdure in the calling process, without Ray's actors: `python -m benchmarks.perdure_side ORDER`."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from perdure import open_store
from perdure.runtime.meaning import RuntimeMeaning
from perdure.runtime.snapshots import config_of
from perdure.stores.tidying import Progress, Tidier

from . import graphs
from .orders import (
    MEASURED,
    WARM_UP,
    Answer,
    Compact,
    Compacted,
    Crowd,
    Crowded,
    Load,
    Loaded,
    Order,
    Ran,
    Run,
    decoded,
    encoded,
)
from .workloads import bytes_written


def run(order: Run) -> Ran:
    """See `Run`."""
    with open_store(order.url) as store:
        graph = graphs.build(order.graph, store)
        graph.invoke(order.warm_up, _config(WARM_UP), durability=order.durability)
        graph.invoke(order.given, _config(MEASURED), durability=order.durability)
        return Ran(ended=time.monotonic_ns(), cpu=time.process_time_ns(), written=bytes_written())


def load(order: Load) -> Loaded:
    """See `Load`. The warm-up's state is read first: connecting is not what is measured."""
    newest: list[float] = []
    middle: list[float] = []
    texts = middle_texts = 0
    for _ in range(order.times):
        texts = _read(order, newest, middle=False)
        middle_texts = _read(order, middle, middle=True)
    return Loaded(newest=newest, middle=middle, texts=texts, middle_texts=middle_texts)


def _read(order: Load, taken: list[float], *, middle: bool) -> int:
    with open_store(order.url) as store:
        graph = graphs.build(order.graph, store)
        dict(graph.get_state(_config(WARM_UP)).values)
        config = config_of(MEASURED, store.thread(MEASURED).head // 2) if middle else _config(MEASURED)
        started = time.perf_counter()
        texts = len(graph.get_state(config).values["texts"])
        taken.append(time.perf_counter() - started)
    return texts


def crowd(order: Crowd) -> Crowded:
    """See `Crowd`."""
    with open_store(order.url) as store, ThreadPoolExecutor(order.workers) as pool:
        graph = graphs.build("steps", store)
        graph.invoke(order.given, _config(WARM_UP))
        started = time.perf_counter()
        list(pool.map(lambda number: graph.invoke(order.given, _config(f"t-{number}")), range(order.threads)))
        return Crowded(seconds=time.perf_counter() - started)


def compact(order: Compact) -> Compacted:
    """See `Compact`."""
    with open_store(order.url) as store:
        started = time.perf_counter()
        tidier = Tidier(store=store, meaning=RuntimeMeaning())
        done = sum(tidier.thread(MEASURED, time.time(), thorough=True), Progress())
        return Compacted(seconds=time.perf_counter() - started, before=done.before, after=done.after)


def carry_out(order: Order) -> Answer:
    """One order. Raises `ValueError` for one that is for the service."""
    match order:
        case Run():
            return run(order)
        case Load():
            return load(order)
        case Crowd():
            return crowd(order)
        case Compact():
            return compact(order)
    raise ValueError(f"only a service can carry out {order}")


def _config(thread_id: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread_id}, "recursion_limit": 1_000_000}


if __name__ == "__main__":
    print(encoded([carry_out(order) for order in decoded(sys.argv[1])]))
