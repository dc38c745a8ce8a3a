"""Many recorded threads, run again from their middle by a newer version: how fast, how small, and through kills."""

from __future__ import annotations

import importlib
import random
import signal
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from perdure import BatchRerun, Client, Status
from perdure.runtime.batches import Outcome
from tests.actors.services import strike_owner

from .backends import Backend
from .cluster import Bench
from .holdings import supervisor, until
from .report import Line, Report

STEPS, FROM = 20, 10
BEFORE = f"step:{FROM - 1}"
"""The checkpoint at which step `FROM` is the next; steps count from 0."""
TARGET = 100.0
"""Threads per second, from the call to the last end, on two cores."""
KILLS = ("batch's owner", "supervisor", "batch's owner")
"""One after each quarter of the items has ended."""
CONCURRENCY = 256
WARM_UP = 20
CHECKED = 100
"""Re-runs whose final state is looked at; of all the others the rows are."""
OPEN = (Status.QUEUED, Status.RUNNING)
LOOK = 0.02
TIMEOUT = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Seconds, and bytes of the database."""

    recorded: float
    """From the first submit to the last end, every step of each thread."""
    recorded_bytes: int
    chosen: float
    """Until `rerun` returned: the threads and their checkpoints were chosen, and the batch was begun."""
    rerun: float
    """From that call on until the batch had ended."""
    rerun_bytes: int
    killed: float
    """The same for a batch on the way of which processes were killed."""
    kills: int


def run(bench: Bench, report: Report, backend: Backend, *, threads: int) -> None:
    """Record them, run them again, and run them again with kills."""
    url = backend.fresh()
    with bench.connect(url) as client:
        found = _measure(client, url, threads)
    backend.drop(url)
    _report(report, backend, threads, found)


def _measure(client: Client, url: str, threads: int) -> Measured:
    graph: Any = importlib.import_module(".rerun_graph", __package__)
    names = [f"recorded-{number:05}" for number in range(threads)]
    _record(client, graph.old, [f"warm-{number}" for number in range(WARM_UP)])
    client.rerun({"tag": "warm"}, at=BEFORE, graph=graph.new, batch_id="warm").wait(TIMEOUT)
    sizes = [_size(url)]
    recorded = _record(client, graph.old, names)
    sizes.append(_size(url))
    batch, chosen = _begin(client, graph.new, "again")
    rerun = chosen + _wait(batch)
    sizes.append(_size(url))
    _check(client, batch, names)
    struck, beginning = _begin(client, graph.new, "struck")
    began = time.perf_counter()
    kills = sum(_kill(client, struck, kind, (number + 1) / 4) for number, kind in enumerate(KILLS))
    _wait(struck)
    killed = beginning + time.perf_counter() - began
    _check(client, struck, names)
    return Measured(
        recorded=recorded,
        recorded_bytes=sizes[1] - sizes[0],
        chosen=chosen,
        rerun=rerun,
        rerun_bytes=sizes[2] - sizes[1],
        killed=killed,
        kills=kills,
    )


def _record(client: Client, graph: Any, names: list[str]) -> float:
    given = {"n": 0, "steps": STEPS, "anew": 0}
    tag = names[0].partition("-")[0]
    began = time.perf_counter()
    client.submit_many(graph, [given] * len(names), thread_ids=names, isolation="shared", tags=[tag])
    until(lambda: not any(client.threads(status=OPEN, limit=1)), "the recorded threads did not end", TIMEOUT)
    return time.perf_counter() - began


def _begin(client: Client, graph: Any, name: str) -> tuple[BatchRerun, float]:
    """A batch of all that were recorded, and the seconds that its call took."""
    began = time.perf_counter()
    batch = client.rerun({"tag": "recorded"}, at=BEFORE, graph=graph, concurrency=CONCURRENCY, batch_id=name)
    return batch, time.perf_counter() - began


def _wait(batch: BatchRerun) -> float:
    began = time.perf_counter()
    while not batch.status.ended:
        if time.perf_counter() - began > TIMEOUT:
            raise TimeoutError(f"{batch} has not ended within {TIMEOUT:.0f} s: {batch.progress()}")
        time.sleep(LOOK)
    return time.perf_counter() - began


def _kill(client: Client, batch: BatchRerun, kind: str, share: float) -> bool:
    """Kill one process once this share of the items has ended; whether there was still time for it."""
    while not (found := batch.progress()).status.ended:
        if found.ended >= share * found.total:
            if kind != "supervisor":
                return _kill_owner(client, batch)
            supervisor(client).send(signal.SIGKILL)
            return True
        time.sleep(10 * LOOK)
    return False


def _kill_owner(client: Client, batch: BatchRerun) -> bool:
    """Kill the batch's owner, as soon as it has one. False where the batch has ended before."""
    while not batch.status.ended:
        if strike_owner(client, batch.batch_id):
            return True
        time.sleep(0.002)
    return False


def _check(client: Client, batch: BatchRerun, names: list[str]) -> None:
    """Every thread was run again, once, and to its end. Raises `AssertionError`."""
    outcomes = Counter(one.outcome for one in batch.ended())
    if outcomes != {Outcome.SUCCEEDED: len(names)}:
        raise AssertionError(f"{batch}: {dict(outcomes)}; {batch.failures()[:3]}")
    noted = sorted(one.thread_id for one in batch.ended())
    made = sorted(row.thread_id for row in client.threads(metadata={"perdure.batch": batch.batch_id}))
    if noted != names or made != [f"{batch.batch_id}/{name}" for name in names]:
        raise AssertionError(f"{batch}: {len(noted)} items noted, {len(made)} threads made of {len(names)}")
    for name in random.Random(1).sample(made, min(CHECKED, len(made))):
        values = client.thread(name).get_state().values
        if (values["n"], values["anew"]) != (STEPS, STEPS - FROM):
            raise AssertionError(f"{name} ended with {dict(values)}")


def _size(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])


def _report(report: Report, backend: Backend, threads: int, found: Measured) -> None:
    rate = threads / found.rerun
    forked, whole = found.rerun_bytes / threads, found.recorded_bytes / threads
    lines = [
        Line("run again", f"{rate:,.0f} threads/s", f"target {TARGET:g}", rate >= TARGET),
        Line("  of this, choosing and beginning", f"{found.chosen:.1f} of {found.rerun:.1f} s"),
        Line("recorded, from the start", f"{threads / found.recorded:,.0f} threads/s", f"{found.recorded:.1f} s"),
        Line(
            "time of a re-run against the whole",
            f"{found.rerun / found.recorded:.2f}",
            f"{STEPS - FROM} of {STEPS} steps",
        ),
        Line(
            "database grown by a re-run",
            f"{forked:,.0f} bytes",
            f"{forked / whole:.2f} of a whole thread's {whole:,.0f}",
        ),
        Line("run again, with kills", f"{threads / found.killed:,.0f} threads/s", "each once, to its end"),
        Line("  killed on the way", f"{found.kills} times", ", ".join(KILLS), found.kills == len(KILLS)),
    ]
    title = f"{threads:,} threads of {STEPS} steps run again from step {FROM}, {backend.title}"
    report.add(f"rerun-{backend.name}", title, lines, asdict(found))
