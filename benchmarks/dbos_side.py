"""The same threads as DBOS workflows, each step a DBOS step: `python -m benchmarks.dbos_side ORDER`."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from dbos import DBOS, DBOSConfig, SetWorkflowID

from .orders import Answer, Batch, Crowded, Order, decoded, encoded
from .workloads import Steps, more, tick

THREADS, COROUTINES = "16 OS threads", "16 coroutines at once"
WAYS = (THREADS, COROUTINES)
AT_ONCE = 16
"""More were slower: 200 coroutines by a third, 256 OS threads by a fifth."""


@DBOS.step()
def step(state: Steps) -> Steps:
    """One tiny step; what it returns is kept."""
    return {**state, **tick(state)}  # type: ignore[typeddict-item]  # the same keys


@DBOS.workflow()
def run_steps(state: Steps) -> Steps:
    """All steps of one thread."""
    while more(state):
        state = step(state)
    return state


@DBOS.step()
async def step_async(state: Steps) -> Steps:
    """The same on the event loop."""
    return {**state, **tick(state)}  # type: ignore[typeddict-item]  # the same keys


@DBOS.workflow()
async def run_steps_async(state: Steps) -> Steps:
    """All steps of one thread on the event loop."""
    while more(state):
        state = await step_async(state)
    return state


def batch(order: Batch) -> Crowded:
    """See `Batch`."""
    config: DBOSConfig = {
        "name": "steps",
        "system_database_url": order.url.replace("postgresql://", "postgresql+psycopg://", 1),
        "sys_db_pool_size": AT_ONCE + 4,
        "max_executor_threads": AT_ONCE,
        "log_level": "ERROR",
        "enable_otlp": False,
    }
    DBOS(config=config)
    DBOS.launch()
    try:
        return _batch(order) if order.way == THREADS else asyncio.run(_batch_async(order))
    finally:
        DBOS.destroy()


def _batch(order: Batch) -> Crowded:
    warm: Any = order.given
    DBOS.start_workflow(run_steps, warm).get_result()
    started = time.perf_counter()
    handles = []
    for number in range(order.threads):
        with SetWorkflowID(f"t-{number}"):
            handles.append(DBOS.start_workflow(run_steps, warm))
    for handle in handles:
        handle.get_result()
    return Crowded(seconds=time.perf_counter() - started)


async def _batch_async(order: Batch) -> Crowded:
    given: Any = order.given
    await run_steps_async(given)
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with turn:
            with SetWorkflowID(f"t-{number}"):
                await run_steps_async(given)

    started = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(order.threads)))
    return Crowded(seconds=time.perf_counter() - started)


def carry_out(order: Order) -> Answer:
    """One order. Raises `ValueError` for one that DBOS has nothing for."""
    if isinstance(order, Batch):
        return batch(order)
    raise ValueError(f"DBOS has nothing for {order}")


if __name__ == "__main__":
    print(encoded([carry_out(order) for order in decoded(sys.argv[1])]))
