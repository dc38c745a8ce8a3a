"""From `kill -9` of the owner to the next step running, on a warm spare."""

from __future__ import annotations

import importlib
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from perdure import Client, Status, ThreadHandle

from .cluster import Bench
from .marks import Mark
from .report import Line, Report, percentile

P50_TARGET, P99_TARGET = 25.0, 250.0
SPARE_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """One kill. Milliseconds."""

    total: float
    asked: float
    """Until the supervisor had seen the death, and a spare was about to claim the thread."""
    started: float
    """From there until the node ran: claim, load, restore."""


def run(bench: Bench, report: Report, url: str, *, kills: int, spares: int) -> None:
    """Kill an endless thread's owner again and again, each time after a spare is ready."""
    # Not above: importing it takes two seconds, also for those who asked for another benchmark.
    slow_graph = importlib.import_module(".slow_graph", __package__)
    with bench.connect(url, spares=spares) as client:
        given = {"n": 0, "report": bench.marks.path}
        thread = client.submit(slow_graph.graph, given, recursion_limit=1_000_000_000)
        found: list[Recovery] = []
        owner = bench.marks.next(SPARE_TIMEOUT)
        with report.console.status("") as shown:
            while len(found) < kills:
                shown.update(f"recovery: {len(found)} of {kills} kills")
                recovery, owner = _kill(bench, client, thread, owner)
                found.append(recovery)
        info = thread.info
        thread.cancel()
        _until(lambda: bench.marks.drain() is None or thread.status is Status.CANCELLED, "the thread was not cancelled")
    _report(report, found, kills, spares, info)


def _kill(bench: Bench, client: Client, thread: ThreadHandle, owner: Mark) -> tuple[Recovery, Mark]:
    _until(lambda: _warm(client), "no spare became ready")
    _until(lambda: bool(latest := bench.marks.drain()) and latest[-1].pid == owner.pid, "the thread does not run")
    info = thread.info
    if info.status is not Status.RUNNING:
        raise RuntimeError(f"the thread no longer runs: {info}")
    time.sleep(random.uniform(0.005, 0.05))
    skew = time.time_ns() - time.monotonic_ns()
    killed = time.monotonic_ns()
    os.kill(owner.pid, signal.SIGKILL)
    mark = _next_owner(bench, client, thread, owner)
    # The new owner's first commit comes at the end of this node: until then the row has the time of the claim.
    claimed = int(thread.info.updated_at * 1e9) - skew
    return Recovery((mark.at - killed) / 1e6, (claimed - killed) / 1e6, (mark.at - claimed) / 1e6), mark


def _next_owner(bench: Bench, client: Client, thread: ThreadHandle, owner: Mark) -> Mark:
    try:
        while (mark := bench.marks.next(SPARE_TIMEOUT)).pid == owner.pid:
            pass
    except TimeoutError as error:
        raise RuntimeError(f"not recovered: {thread.info}, {client.actors()}") from error
    return mark


def _warm(client: Client) -> bool:
    return any(actor["phase"] == "idle" for actor in client.actors())


def _until(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + SPARE_TIMEOUT
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise} within {SPARE_TIMEOUT:.0f} s")
        time.sleep(0.02)


def _report(report: Report, found: list[Recovery], kills: int, spares: int, info: Any) -> None:
    totals = [one.total for one in found]
    p50, p99 = median(totals), percentile(totals, 0.99)
    lines = [
        Line("p50", f"{p50:.1f} ms", f"target {P50_TARGET:g} ms", met=p50 <= P50_TARGET),
        Line("p99", f"{p99:.1f} ms", f"target {P99_TARGET:g} ms", met=p99 <= P99_TARGET),
        Line("fastest, slowest", f"{min(totals):.1f}, {max(totals):.1f} ms"),
    ]
    for name, label in (("asked", "kill to spare asked"), ("started", "to node running")):
        part = [getattr(one, name) for one in found]
        lines.append(Line(f"  {label}", f"{median(part):.1f} ms", f"p99 {percentile(part, 0.99):.1f} ms"))
    lines.append(Line("epoch, crashes since progress", f"{info.epoch}, {info.crashes}", f"{info.seq:,} commits"))
    report.add(
        "recovery",
        f"kill -9 of the owner to the next step running: {kills} kills, {spares} warm spare(s), module imports in 2 s",
        lines,
        {name: [getattr(one, name) for one in found] for name in Recovery.__slots__},
    )
