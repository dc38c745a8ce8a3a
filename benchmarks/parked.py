"""Very many parked threads: what they cost the processes, and what it takes to wake one of them."""

from __future__ import annotations

import importlib
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from statistics import median

from perdure import Client, Status, ThreadHandle
from perdure.stores.records import Origin, ThreadRecord

from .backends import Backend
from .cluster import Bench
from .holdings import memory, supervisor, until
from .report import Line, Report, percentile

MEGABYTE = 1 << 20
MEMORY_TARGET = 50.0
"""Megabytes more than without any."""
BACK_TARGET = 5.0
"""Seconds from the supervisor's death to a thread that it has woken."""
WAKE_TARGET = 50.0
"""Milliseconds from the answer to the node."""
TIMEOUT = 120.0
BATCH = 1000
KINDS = (Status.INTERRUPTED, Status.SLEEPING, Status.WAITING)
SETTLED = 5.0
"""Seconds, and so several sweeps, before memory is read."""


def run(bench: Bench, report: Report, backend: Backend, *, threads: int, wakes: int) -> None:
    """Park them, measure, kill the supervisor, wake some."""
    graph = importlib.import_module(".parked_graph", __package__).graph
    url = backend.fresh()
    with bench.connect(url) as client:
        model = client.submit(graph, {"report": bench.marks.path}, thread_id="model")
        _parked(model)
        for number in range(10):  # warm: what every service has, with threads or without
            other = client.submit(graph, {"report": bench.marks.path}, thread_id=f"warm-{number}")
            _parked(other)
            _wake(bench, other)
        _rest(client)
        before = memory(bench)
        began = time.monotonic()
        _park(client, model.info, threads)
        made = time.monotonic() - began
        _rest(client)
        after = memory(bench)
        chosen = random.Random(1).sample(range(0, threads, len(KINDS)), wakes + 1)
        woken = [client.thread(f"parked-{number}", graph=graph) for number in chosen]
        # The first starts an actor, as it would without so many parked: nothing has run for a while.
        first = _wake(bench, woken.pop())
        found = [_wake(bench, thread) for thread in woken]
        back = _killed(bench, client, client.submit(graph, {"report": bench.marks.path}, thread_id="late"))
        left = sum(_counted(client))
    backend.drop(url)
    grown = (after - before) / MEGABYTE
    lines = [
        Line("memory of all Ray processes", f"{grown:+.1f} MB", f"target {MEMORY_TARGET:g} MB", grown <= MEMORY_TARGET),
        Line("supervisor killed, to a thread woken", f"{back:.2f} s", f"target {BACK_TARGET:g} s", back <= BACK_TARGET),
        Line(
            "answer to node, p50",
            f"{median(found):.1f} ms",
            f"target {WAKE_TARGET:g} ms",
            median(found) <= WAKE_TARGET,
        ),
        Line("answer to node, p99", f"{percentile(found, 0.99):.1f} ms", f"{wakes} wake-ups; the first {first:.0f} ms"),
        Line("still parked", f"{left:,}", f"made in {made:.0f} s"),
    ]
    report.add(
        f"parked-{backend.name}",
        f"{threads:,} parked threads, {backend.title}",
        lines,
        {"memory": [before, after], "wakes": found, "first": first, "back": back},
    )


def _rest(client: Client) -> None:
    """Until what ran has ended, actors and all, and the supervisor has swept several times."""
    until(lambda: not client.actors(), "the actors did not end", TIMEOUT)
    time.sleep(SETTLED)


def _park(client: Client, model: ThreadRecord, count: int) -> None:
    """Copies of a parked thread, each a fork at its checkpoint. A third wait for an answer (these are woken), a third
    for tomorrow, a third for a signal."""
    later = time.time() + 86_400.0
    for start in range(0, count, BATCH):
        client.store.create_many(
            [
                (
                    replace(
                        model,
                        thread_id=f"parked-{number}",
                        origin=Origin(thread_id=model.thread_id, seq=model.head),
                        seq=model.head,
                        epoch=0,
                        inbox=0,
                        status=KINDS[number % len(KINDS)],
                        wake_at=later if KINDS[number % len(KINDS)] is Status.SLEEPING else 0.0,
                    ),
                    None,
                )
                for number in range(start, min(start + BATCH, count))
            ]
        )


def _wake(bench: Bench, thread: ThreadHandle) -> float:
    """Milliseconds from the call that wakes a thread to the first line of its node."""
    began = time.monotonic_ns()
    thread.resume()
    at = bench.marks.next(TIMEOUT).at
    thread.result(timeout=TIMEOUT)
    return (at - began) / 1e6


def _killed(bench: Bench, client: Client, thread: ThreadHandle) -> float:
    """Seconds from the supervisor's death until a thread runs that was woken meanwhile."""
    _parked(thread)
    process = supervisor(client)
    began = time.monotonic_ns()
    process.send(signal.SIGKILL)
    thread.resume()
    at = bench.marks.next(TIMEOUT).at
    thread.result(timeout=TIMEOUT)
    return (at - began) / 1e9


def _parked(thread: ThreadHandle) -> None:
    deadline = time.monotonic() + TIMEOUT
    while thread.status is not Status.INTERRUPTED:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not parked: {thread.info}")
        time.sleep(0.01)


def _counted(client: Client) -> Iterator[int]:
    """How many wait, page by page."""
    for status in KINDS:
        yield sum(1 for _ in client.threads(status=status))
