"""A thousand tiny steps of one thread on SQLite, beside LangGraph with its SQLite saver."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from perdure import open_store

from . import graphs, langgraph_env
from .cluster import Bench, seconds
from .disk import sync_seconds
from .marks import Mark
from .report import Line, Report

TARGETS = {"async": 10.0, "sync": 2.0}


SIDES = ("actor", "in process", "langgraph")


@dataclass(frozen=True, slots=True)
class Taken:
    """What one run took, in seconds."""

    elapsed: float
    cpu: float
    """CPU time of its whole process: hardly depends on what else the machine does."""


def run(bench: Bench, report: Report, *, steps: int, rounds: int) -> None:
    """All sides in alternation, so that what else the machine does hits each."""
    taken: dict[tuple[str, str], list[Taken]] = {(side, mode): [] for side in SIDES for mode in TARGETS}
    syncs = []
    with bench.connect("steps") as client:
        bench.run(client, graphs.steps, {"n": 0, "steps": 20}, "async")
        for number in range(rounds):
            syncs.append(sync_seconds(bench.folder))
            for mode in TARGETS:
                said, _ = bench.run(client, graphs.steps, {"n": 0, "steps": steps}, mode)
                taken["actor", mode].append(_between(said))
                taken["in process", mode].append(_in_process(bench, mode, steps, number))
                taken["langgraph", mode].append(_langgraph(bench, mode, steps, number))
    lines: list[Line] = []
    for mode, target in TARGETS.items():
        rates = {side: [steps / one.elapsed for one in taken[side, mode]] for side in SIDES}
        costs = {side: median(one.cpu for one in taken[side, mode]) / steps * 1e6 for side in SIDES}
        for side, name in (("actor", "inside the actor"), ("in process", "invoke()"), ("langgraph", "LangGraph")):
            spread = f"{min(rates[side]):,.0f} to {max(rates[side]):,.0f}"
            note = f"{spread}; {costs[side]:,.0f} µs CPU a step"
            lines.append(Line(f"{mode}: {name}", f"{median(rates[side]):,.0f} steps/s", note))
        gain = median(rates["actor"]) / median(rates["langgraph"])
        best = max(own / other for own, other in zip(rates["actor"], rates["langgraph"], strict=True))
        saved = costs["langgraph"] / costs["actor"]
        note = f"target {target:g}x; best round {best:.1f}x; by CPU {saved:.1f}x"
        lines.append(Line(f"{mode}: actor / LangGraph", f"{gain:.1f}x", note, met=gain >= target))
    lines.append(Line("one fdatasync of the disk", f"{median(syncs) * 1e6:,.0f} µs", f"up to {max(syncs) * 1e6:,.0f}"))
    title = f"{steps} tiny steps, one thread, SQLite: from the first node to the last durable commit, {rounds} rounds"
    data: dict[str, Any] = {f"{side}, {mode}": [asdict(one) for one in each] for (side, mode), each in taken.items()}
    report.add("steps", title, lines, {"fdatasync": syncs, **data})


def _between(said: list[Mark]) -> Taken:
    return Taken(seconds(said), (said[-1].cpu - said[0].cpu) / 1e9)


def _in_process(bench: Bench, mode: str, steps: int, number: int) -> Taken:
    bench.marks.drain()
    with open_store(bench.url("in-process")) as store:
        graph = graphs.build_steps(store)
        given: dict[str, Any] = {"n": 0, "steps": steps, "report": bench.marks.path}
        graph.invoke(given, {"configurable": {"thread_id": f"{mode}-{number}"}}, durability=mode)
    return _between(bench.marks.until("last", 10.0))


def _langgraph(bench: Bench, mode: str, steps: int, number: int) -> Taken:
    given = {"n": 0, "steps": steps, "report": bench.marks.path}
    bench.marks.drain()
    answer = langgraph_env.run(
        {
            "graph": "steps",
            "input": given,
            "warm_up": {**given, "steps": 20},
            "durability": mode,
            "database": str(bench.folder / f"langgraph-steps-{number}-{mode}.db"),
        }
    )
    first = bench.marks.drain()[-1]
    return Taken((answer["ended"] - first.at) / 1e9, (answer["cpu"] - first.cpu) / 1e9)
