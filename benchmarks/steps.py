"""A thousand tiny steps of one thread, beside LangGraph with its own saver for the same database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from . import children, graphs
from .backends import Backend
from .cluster import Bench, seconds
from .disk import sync_seconds
from .marks import Mark
from .orders import Ran, Run
from .report import Line, Report

TARGETS = {
    ("sqlite", "async"): 10.0,
    ("sqlite", "sync"): 2.0,
    ("postgres", "async"): 10.0,
    ("postgres", "sync"): 3.0,
}
"""How often faster than LangGraph, by database and durability."""
MODES = ("async", "sync")
ACTOR, IN_PROCESS = "actor", "in process"
LABELS = {ACTOR: "inside the actor", IN_PROCESS: "invoke()"}
WARM_UP = {"n": 0, "steps": 20, "report": ""}


@dataclass(frozen=True, slots=True)
class Taken:
    """What one run took, in seconds."""

    elapsed: float
    cpu: float
    """CPU time of its whole process: hardly depends on what else the machine does."""


Measured = dict[tuple[str, str], list[Taken]]
"""By side and durability."""


def run(bench: Bench, report: Report, backend: Backend, *, steps: int, rounds: int) -> None:
    """All sides in alternation, so that what else the machine does hits each."""
    taken: Measured = {}
    syncs = []
    with bench.connect(backend.fresh()) as client:
        bench.run(client, graphs.steps, WARM_UP, "async")
        for _ in range(rounds):
            syncs.append(sync_seconds(bench.folder))
            for mode in MODES:
                said, _ = bench.run(client, graphs.steps, {"n": 0, "steps": steps}, mode)
                taken.setdefault((ACTOR, mode), []).append(_between(said))
                for saver in ("", *backend.savers):
                    side = saver or IN_PROCESS
                    taken.setdefault((side, mode), []).append(_child(bench, backend, saver, mode, steps))
    _report(report, backend, taken, syncs, steps, rounds)


def _report(report: Report, backend: Backend, taken: Measured, syncs: Sequence[float], steps: int, rounds: int) -> None:
    lines: list[Line] = []
    found: dict[str, Any] = {}
    for mode in MODES:
        sides = [side for side, of in taken if of == mode]
        rates = {side: [steps / one.elapsed for one in taken[side, mode]] for side in sides}
        costs = {side: median(one.cpu for one in taken[side, mode]) / steps * 1e6 for side in sides}
        for side in sides:
            spread = f"{min(rates[side]):,.0f} to {max(rates[side]):,.0f}"
            name = LABELS.get(side, f"LangGraph, {side}")
            note = f"{spread}; {costs[side]:,.0f} µs CPU a step"
            lines.append(Line(f"{mode}: {name}", f"{median(rates[side]):,.0f} steps/s", note))
        found[mode] = {"rates": {side: median(of) for side, of in rates.items()}}
        if backend.savers:
            best = max(backend.savers, key=lambda saver: median(rates[saver]))
            target = TARGETS[backend.name, mode]
            gain = median(rates[ACTOR]) / median(rates[best])
            other = median(rates[IN_PROCESS]) / median(rates[best])
            note = f"target {target:g}x; invoke() {other:.1f}x; by CPU {costs[best] / costs[ACTOR]:.1f}x"
            lines.append(Line(f"{mode}: actor / LangGraph", f"{gain:.1f}x", note, met=gain >= target))
            found[mode] |= {"best": best, "gain": gain, "target": target}
    lines.append(Line("one fdatasync of the disk", f"{median(syncs) * 1e6:,.0f} µs", f"up to {max(syncs) * 1e6:,.0f}"))
    title = f"{steps} tiny steps, one thread, {backend.title}: first node to last durable commit, {rounds} rounds"
    raw = {f"{side}, {mode}": [asdict(one) for one in each] for (side, mode), each in taken.items()}
    report.add(f"steps-{backend.name}", title, lines, {"fdatasync": syncs, **found, "raw": raw})


def _between(said: list[Mark]) -> Taken:
    return Taken(seconds(said), (said[-1].cpu - said[0].cpu) / 1e9)


def _child(bench: Bench, backend: Backend, saver: str, mode: str, steps: int) -> Taken:
    """One run of a process of its own: of perdure without a saver, else of LangGraph."""
    url = backend.fresh()
    bench.marks.drain()
    given = {"n": 0, "steps": steps, "report": bench.marks.path}
    order = Run(url=url, saver=saver, graph="steps", given=given, warm_up=WARM_UP, durability=mode)
    done = children.run("langgraph" if saver else "perdure", order, Ran)
    first = bench.marks.drain()[0]
    backend.drop(url)
    return Taken((done.ended - first.at) / 1e9, (done.cpu - first.cpu) / 1e9)
