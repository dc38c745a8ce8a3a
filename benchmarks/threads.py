"""Many short threads on Postgres: the service, LangGraph and DBOS, from the first submit to the last durable end."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from perdure import Client, Status

from . import children, graphs
from .backends import Backend
from .cluster import Bench
from .orders import MEASURED, Batch, Crowded
from .report import Line, Report

STEPS = 10
TARGET = 12.0
OPEN = (Status.QUEUED, Status.RUNNING)
LOOK = 0.004
"""Seconds between two looks whether a thread is still open."""
DEADLINE = 600.0
MODES = ("shared", "thread")
OTHERS = {
    "langgraph": ("16 savers on a pool", "one connection in pipeline mode"),
    "dbos": ("16 OS threads", "16 coroutines at once"),
}
"""Each side's ways; the better one counts."""
TITLES = {"langgraph": "LangGraph", "dbos": "DBOS"}


def run(bench: Bench, report: Report, backend: Backend, *, threads: int, rounds: int) -> None:
    """All sides in alternation."""
    times: dict[tuple[str, str], list[float]] = {}
    cold: dict[str, list[float]] = {}
    with bench.connect(backend.fresh()) as client:
        for number in range(rounds):
            for mode in MODES:
                # The others' rounds take longer than idle actors live, so that the first batch of a round starts them.
                cold.setdefault(mode, []).append(_served(client, mode, f"warm-up-{number}", threads))
                times.setdefault(("perdure", mode), []).append(_served(client, mode, f"{MEASURED}-{number}", threads))
            for side, ways in OTHERS.items():
                for way in ways:
                    times.setdefault((side, way), []).append(_child(backend, side, way, threads))
    _report(report, backend, threads, rounds, times, cold)


def _report(
    report: Report,
    backend: Backend,
    threads: int,
    rounds: int,
    times: dict[tuple[str, str], list[float]],
    cold: dict[str, list[float]],
) -> None:
    rates = {key: threads / median(found) for key, found in times.items()}
    best = max(rate for (side, _), rate in rates.items() if side != "perdure")
    lines = []
    for (side, way), rate in rates.items():
        if side != "perdure":
            lines.append(Line(TITLES[side], f"{rate:,.1f} threads/s", way))
            continue
        target = TARGET if way == "shared" else None
        note = f"{rate / best:.1f}x the better of the others" + (f", target {target:g}x" if target else "")
        note += f"; {threads / median(cold[way]):,.0f} threads/s where no actor runs yet"
        met = rate >= target * best if target else None
        lines.append(Line(f'isolation="{way}"', f"{rate:,.0f} threads/s", note, met=met))
    title = (
        f"{threads} threads of {STEPS} steps, {backend.title}: {rounds} rounds, medians (first submit to durable end)"
    )
    data = {f"{side}, {way}": found for (side, way), found in times.items()}
    data |= {f"perdure, {way}, cold": found for way, found in cold.items()}
    report.add(f"threads-{backend.name}", title, lines, data)


def _given() -> dict[str, object]:
    return {"n": 0, "steps": STEPS, "report": ""}


def _child(backend: Backend, side: str, way: str, threads: int) -> float:
    url = backend.fresh()
    done = children.run(side, Batch(url=url, way=way, threads=threads, given=_given()), Crowded)
    backend.drop(url)
    return done.seconds


def _served(client: Client, mode: Any, name: str, threads: int) -> float:
    """Seconds until the store has the end of every thread."""
    started = time.perf_counter()
    names = [f"{mode}-{name}-{number}" for number in range(threads)]
    handles = client.submit_many(graphs.steps, [_given()] * threads, thread_ids=names, isolation=mode)
    while any(client.threads(status=OPEN, limit=1)):
        if time.perf_counter() - started > DEADLINE:
            raise TimeoutError(f"after {DEADLINE:.0f} s still runs: {next(client.threads(status=OPEN)).thread_id}")
        time.sleep(LOOK)
    seconds = time.perf_counter() - started
    for handle in (handles[0], handles[threads // 2], handles[-1]):
        if handle.result(timeout=10)["n"] != STEPS:
            raise AssertionError(f"{handle} did not make its steps")
    return seconds
