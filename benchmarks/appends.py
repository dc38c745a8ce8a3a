"""Appends of a kilobyte to one list: time, bytes on disk, whether a step's cost stays flat, and how fast it loads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from . import children, graphs
from .backends import Backend, Sizes
from .cluster import Bench, seconds
from .marks import Mark
from .orders import Ran, Run
from .report import Grid, Line, Report

TEXT = 1024
"""Bytes of each text."""
TIME_TARGET = 10.0
"""How often faster than the `DeltaChannel`."""
DISK_TARGET = 2.0
"""Bytes on disk, in bytes of text."""
FLAT = 2.0
"""How much more CPU the last steps may take than the first. (Async runs ahead of the disk at first, and the machine may
have other work: the time that passes does not tell.)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A way of appending."""

    name: str
    graph: str = "appends"
    durability: str = "async"
    saver: str = ""
    """LangGraph with this saver; empty for perdure."""
    actor: bool = False
    """Inside the actor of a service, where it is run with the most texts only."""
    slow: bool = False
    """Run in the first round only: it takes minutes."""


@dataclass(frozen=True, slots=True)
class Grown:
    """One run, measured. Seconds and bytes."""

    seconds: float
    first_cpu: float
    """CPU seconds per step over the first quarter."""
    last_cpu: float
    """Over the last quarter."""
    sizes: Sizes


Measured = dict[tuple[str, int], list[Grown]]
"""By side and number of texts."""

ASYNC, SYNC, SAVER, DELTA, PLAIN = "async", "sync", "PerdureSaver", "LangGraph DeltaChannel", "LangGraph list"
OURS = (ASYNC, SYNC)


def sides_of(backend: Backend) -> list[Side]:
    """All that is compared on a database. LangGraph with its faster saver; `steps` measures each."""
    ours = [
        Side(name=ASYNC),
        Side(name=SYNC, durability="sync"),
        Side(name="async, actor", actor=True),
        Side(name="sync, actor", durability="sync", actor=True),
        Side(name=SAVER, saver="perdure"),
    ]
    if not backend.savers:
        return ours
    best = backend.savers[0]
    others = [Side(name=DELTA, graph="delta-appends", saver=best), Side(name=PLAIN, saver=best, slow=True)]
    return [*ours, *others]


def run(bench: Bench, report: Report, backend: Backend, *, counts: Sequence[int], rounds: int) -> None:
    """Every side with every number of texts, in alternation."""
    measured: Measured = {}
    for number in range(rounds):
        for side, count in _runs(backend, counts, number):
            measured.setdefault((side.name, count), []).append(_grown(bench, backend, side, count))
    sides = [side.name for side in sides_of(backend)]
    most = max(counts)
    middles = {key: _middle(found) for key, found in measured.items()}
    grid = Grid(("", *_columns(counts)), [_row(name, counts, middles) for name in sides])
    lines = list(_lines(middles, most))
    data: dict[str, dict[str, Any]] = {name: {} for name in sides}
    for (name, count), found in measured.items():
        data[name][str(count)] = [asdict(one) for one in found]
    title = f"appends of 1 KB of random text to one list, {backend.title}, {rounds} rounds"
    report.add(f"appends-{backend.name}", title, lines, data, grid)


def _runs(backend: Backend, counts: Sequence[int], number: int) -> Iterator[tuple[Side, int]]:
    for count in counts:
        for side in sides_of(backend):
            if (number and side.slow) or (side.actor and count != max(counts)):
                continue
            yield side, count


def _grown(bench: Bench, backend: Backend, side: Side, count: int) -> Grown:
    url = backend.fresh()
    bench.marks.drain()
    if side.actor:
        with bench.connect(url) as client:
            said, _ = bench.run(client, graphs.appends, {"n": 0, "steps": count, "texts": []}, side.durability)
        said = [*said[:-1], Mark("last", count, *_moment(said[-1]))]
    else:
        done = children.run("langgraph" if side.saver else "perdure", order(side, url, count, bench.marks.path), Ran)
        said = [mark for mark in bench.marks.drain() if mark.what != "last"]
        said.append(Mark("last", count, done.ended, said[0].pid, done.written, done.cpu))
    sizes = backend.sizes(url)
    backend.drop(url)
    return _measured(said, count, sizes)


def order(side: Side, url: str, count: int, report: str = "") -> Run:
    """What a process of its own is told."""
    given = {"n": 0, "steps": count, "texts": [], "report": report}
    warm_up = {"n": 0, "steps": 4, "texts": [], "report": ""}
    return Run(url=url, saver=side.saver, graph=side.graph, given=given, warm_up=warm_up, durability=side.durability)


def _moment(mark: Mark) -> tuple[int, int, int, int]:
    return mark.at, mark.pid, mark.written, mark.cpu


def _measured(said: list[Mark], count: int, sizes: Sizes) -> Grown:
    quarter = count // 4
    at = {mark.number: mark.cpu for mark in said}
    first, last = ((at[to] - at[to - quarter]) / 1e9 / quarter for to in (quarter, count))
    return Grown(seconds(said), first, last, sizes)


def _middle(found: list[Grown]) -> Grown:
    """The medians of several runs. Bytes hardly differ: those of the last one."""
    return Grown(
        median(one.seconds for one in found),
        median(one.first_cpu for one in found),
        median(one.last_cpu for one in found),
        found[-1].sizes,
    )


def _columns(counts: Sequence[int]) -> list[str]:
    return [*(f"{count:,}: s" for count in counts), *(f"{count:,}: MB (packed)" for count in counts), "log MB", "CPU"]


def _row(name: str, counts: Sequence[int], middles: dict[tuple[str, int], Grown]) -> list[str]:
    found = [middles.get((name, count)) for count in counts]
    times = [f"{one.seconds:.2f}" if one else "" for one in found]
    sizes = [f"{_mb(one.sizes.left)} ({_mb(one.sizes.packed)})" if one else "" for one in found]
    last = middles[name, max(counts)]
    cpu = f"{last.first_cpu * 1e6:,.0f}, {last.last_cpu * 1e6:,.0f} µs"
    return [name, *times, *sizes, _mb(last.sizes.log), cpu]


def _lines(middles: dict[tuple[str, int], Grown], most: int) -> Iterator[Line]:
    text = most * TEXT
    delta = middles.get((DELTA, most))
    for name in (*OURS, "async, actor", "sync, actor", SAVER):
        side = middles[name, most]
        rate = f"{most / side.seconds:,.0f} appends/s"
        if delta is not None:
            gain = delta.seconds / side.seconds
            # Async is what both sides do unless they are told otherwise.
            wanted = name.startswith(ASYNC)
            note = f"{rate}; target {TIME_TARGET:g}x" if wanted else rate
            met = gain >= TIME_TARGET if wanted else None
            yield Line(f"{name}: times as fast as the DeltaChannel", f"{gain:.1f}x", note, met=met)
        else:
            yield Line(f"{name}: rate", rate)
        if name == SAVER:
            continue
        share = side.sizes.left / text
        note = f"of the {_mb(text)} MB of text, target {DISK_TARGET:g}x"
        yield Line(f"{name}: bytes on disk as left", f"{share:.2f}x", note, met=share <= DISK_TARGET)
        growth = side.last_cpu / side.first_cpu
        note = f"target: flat, at most {FLAT:g}x"
        yield Line(f"{name}: CPU of a step, last / first quarter", f"{growth:.2f}x", note, met=growth <= FLAT)


def _mb(count: int) -> str:
    return f"{count / 1e6:,.2f}"
