"""Many threads side by side in LangGraph: coroutines of one event loop over `AsyncPostgresSaver`.

Each way is an honest one to run it; the benchmark shows the best. Every one writes each step's checkpoint.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from .orders import WARM_UP, Batch, Crowded

POOL_SIZE = 16


def batch(order: Batch, build: Callable[[Any], Any]) -> Crowded:
    """See `Batch`. `build` makes the graph over a saver."""
    return asyncio.run(_batch(order, build))


async def _batch(order: Batch, build: Callable[[Any], Any]) -> Crowded:
    async with WAYS[order.way](order.url) as savers:
        graphs = [build(saver) for saver in savers]
        for number, graph in enumerate(graphs):
            await graph.ainvoke(order.given, _config(f"{WARM_UP}-{number}"))
        started = time.perf_counter()
        await asyncio.gather(
            *(
                graphs[number % len(graphs)].ainvoke(order.given, _config(f"t-{number}"))
                for number in range(order.threads)
            )
        )
        return Crowded(seconds=time.perf_counter() - started)


@asynccontextmanager
async def _pools(url: str) -> AsyncIterator[list[Any]]:
    """A saver for each connection: one saver makes its calls one after the other, whatever pool it has."""
    settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool(url, min_size=POOL_SIZE, max_size=POOL_SIZE, kwargs=settings, open=False) as pool:
        await pool.wait()
        savers = [AsyncPostgresSaver(pool) for _ in range(POOL_SIZE)]  # type: ignore[arg-type]  # rows are dicts
        await savers[0].setup()
        yield savers


@asynccontextmanager
async def _pipeline(url: str) -> AsyncIterator[list[Any]]:
    # In pipeline mode the tables cannot be made.
    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        await saver.setup()
    async with AsyncPostgresSaver.from_conn_string(url, pipeline=True) as saver:
        yield [saver]


def _config(thread_id: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread_id}, "recursion_limit": 1_000_000}


WAYS = {"16 savers on a pool": _pools, "one connection in pipeline mode": _pipeline}
