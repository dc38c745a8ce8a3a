"""Many short threads side by side on Postgres."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

from perdure import Client

from . import children, graphs
from .backends import Backend
from .cluster import Bench
from .orders import MEASURED, Crowd, Crowded
from .report import Line, Report

STEPS = 10


def run(bench: Bench, report: Report, backend: Backend, *, threads: int, workers: Sequence[int], rounds: int) -> None:
    """In process on both sides, with so many OS threads (each side by its best), and by the service."""
    times: dict[tuple[str, int], list[float]] = {}
    served = []
    with bench.connect(backend.fresh()) as client:
        _served(client, "warm-up", min(threads, 20))
        for number in range(rounds):
            served.append(_served(client, f"{MEASURED}-{number}", threads))
            for count in workers:
                for saver in ("", "postgres-pool"):
                    times.setdefault((saver, count), []).append(_child(backend, saver, threads, count))
    medians = {key: median(found) for key, found in times.items()}
    own, other = (min((medians[saver, count], count) for count in workers) for saver in ("", "postgres-pool"))
    service = median(served)
    lines = [
        Line("invoke()", f"{threads / own[0]:,.0f} threads/s", f"{own[1]} at a time"),
        Line("LangGraph", f"{threads / other[0]:,.0f} threads/s", f"{other[1]} at a time, a connection each"),
        Line("invoke() / LangGraph", f"{other[0] / own[0]:.1f}x"),
        Line("by the service", f"{threads / service:,.0f} threads/s", "an actor process each, from submit to result"),
        Line("service / LangGraph", f"{other[0] / service:.1f}x"),
    ]
    data = {"service": served, **{f"{saver or 'perdure'}, {count}": found for (saver, count), found in times.items()}}
    title = f"{threads} threads of {STEPS} steps, {backend.title}, {rounds} rounds"
    report.add(f"crowd-{backend.name}", title, lines, data)


def _given() -> dict[str, object]:
    return {"n": 0, "steps": STEPS, "report": ""}


def _child(backend: Backend, saver: str, threads: int, workers: int) -> float:
    url = backend.fresh()
    order = Crowd(url=url, saver=saver, threads=threads, workers=workers, given=_given())
    done = children.run("langgraph" if saver else "perdure", order, Crowded)
    backend.drop(url)
    return done.seconds


def _served(client: Client, name: str, threads: int) -> float:
    started = time.perf_counter()
    handles = [client.submit(graphs.steps, _given(), thread_id=f"{name}-{number}") for number in range(threads)]
    for handle in handles:
        handle.result(timeout=600)
    return time.perf_counter() - started
