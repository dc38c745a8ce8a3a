"""A thousand tiny steps of one thread on SQLite, beside LangGraph with its SQLite saver."""

from __future__ import annotations

from statistics import median
from typing import Any

from perdure import open_store

from . import graphs, langgraph_env
from .cluster import Bench, seconds
from .disk import sync_seconds
from .report import Line, Report

TARGETS = {"async": 10.0, "sync": 2.0}


def run(bench: Bench, report: Report, *, steps: int, rounds: int) -> None:
    """Both sides in alternation, so that what else the machine does hits both."""
    rates: dict[tuple[str, str], list[float]] = {}
    syncs = []
    with bench.connect("steps") as client:
        bench.run(client, graphs.steps, {"n": 0, "steps": 20}, "async")
        for number in range(rounds):
            syncs.append(sync_seconds(bench.folder))
            for mode in TARGETS:
                said, _ = bench.run(client, graphs.steps, {"n": 0, "steps": steps}, mode)
                inside = _in_process(bench, mode, steps, number)
                other = _langgraph(bench, mode, steps, number)
                for side, took in (("perdure", seconds(said)), ("in process", inside), ("langgraph", other)):
                    rates.setdefault((side, mode), []).append(steps / took)
    lines: list[Line] = []
    for mode, target in TARGETS.items():
        own, inside, other = (median(rates[side, mode]) for side in ("perdure", "in process", "langgraph"))
        spread = f"{min(rates['perdure', mode]):,.0f} to {max(rates['perdure', mode]):,.0f}"
        lines += [
            Line(f"{mode}: inside the actor", f"{own:,.0f} steps/s", f"{rounds} rounds, {spread}"),
            Line(f"{mode}: invoke() in process", f"{inside:,.0f} steps/s", "the same engine without Ray"),
            Line(f"{mode}: LangGraph", f"{other:,.0f} steps/s", "SqliteSaver, in process"),
            Line(f"{mode}: actor / LangGraph", f"{own / other:.1f}x", f"target {target:g}x", met=own / other >= target),
        ]
    lines.append(Line("one fdatasync of the disk", f"{median(syncs) * 1e6:,.0f} µs", f"up to {max(syncs) * 1e6:,.0f}"))
    report.add(
        "steps",
        f"{steps} tiny steps, one thread, SQLite (first node's start to last durable commit)",
        lines,
        {"fdatasync": syncs} | {f"{side}, {mode}": values for (side, mode), values in rates.items()},
    )


def _in_process(bench: Bench, mode: str, steps: int, number: int) -> float:
    with open_store(bench.url("in-process")) as store:
        graph = graphs.build_steps(store)
        given: dict[str, Any] = {"n": 0, "steps": steps, "report": bench.marks.path}
        graph.invoke(given, {"configurable": {"thread_id": f"{mode}-{number}"}}, durability=mode)
        return seconds(bench.marks.until("last", 10.0))


def _langgraph(bench: Bench, mode: str, steps: int, number: int) -> float:
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
    return float(answer["ended"] - first.at) / 1e9
