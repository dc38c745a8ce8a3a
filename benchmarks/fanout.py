"""Many trivial nodes side by side, and a few that compute."""

from __future__ import annotations

from statistics import median
from typing import Any

from perdure import Client

from . import children, graphs
from .backends import Backend
from .cluster import Bench, seconds
from .orders import Ran, Run
from .report import Line, Report

SPEED_UP_TARGET = 1.8
CPU_NODES, CPU_SECONDS = 16, 0.1


def run(bench: Bench, report: Report, backend: Backend, *, width: int, rounds: int) -> None:
    """Both sides in alternation."""
    shapes: dict[str, dict[str, Any]] = {
        "trivial": {"width": width, "cpu_seconds": 0.0},
        "cpu": {"width": CPU_NODES, "cpu_seconds": CPU_SECONDS},
    }
    times: dict[tuple[str, str], list[float]] = {}
    with bench.connect(backend.fresh()) as client:
        # An actor's first one starts Ray's worker processes, and teaches how long a node takes.
        cold = {name: _perdure(bench, client, name, shape) for name, shape in shapes.items()}
        for _ in range(rounds):
            for name, shape in shapes.items():
                # Once before, not counted: while LangGraph ran Ray may have ended its idle processes.
                _perdure(bench, client, name, shape)
                times.setdefault(("perdure", name), []).append(_perdure(bench, client, name, shape))
                times.setdefault(("langgraph", name), []).append(_langgraph(bench, backend, shape))
    own, other = median(times["perdure", "trivial"]), median(times["langgraph", "trivial"])
    cpu, cpu_other = median(times["perdure", "cpu"]), median(times["langgraph", "cpu"])
    alone = CPU_NODES * CPU_SECONDS
    lines = [
        Line(f"{width} trivial nodes", f"{own * 1e3:.0f} ms", f"{width / own:,.0f} nodes/s"),
        Line("the same, LangGraph", f"{other * 1e3:.0f} ms", f"{width / other:,.0f} nodes/s"),
        Line("LangGraph / perdure", f"{other / own:.1f}x"),
        Line(
            f"{CPU_NODES} nodes of {CPU_SECONDS * 1e3:.0f} ms CPU",
            f"{cpu * 1e3:.0f} ms",
            f"{alone / cpu:.2f}x one CPU, target {SPEED_UP_TARGET:g}x",
            met=alone / cpu >= SPEED_UP_TARGET,
        ),
        Line("the same, LangGraph", f"{cpu_other * 1e3:.0f} ms", f"{alone / cpu_other:.2f}x one CPU"),
        Line("an actor's first fan-out", f"{cold['trivial'] * 1e3:.0f} ms", "starts Ray's processes; not in the above"),
    ]
    title = f"fan-out, {backend.title}: {rounds} rounds, medians (start of the node before to the last durable commit)"
    data: dict[str, Any] = {f"{side}, {name}": values for (side, name), values in times.items()}
    report.add(f"fanout-{backend.name}", title, lines, {"cold": cold, **data})


def _perdure(bench: Bench, client: Client, name: str, shape: dict[str, Any]) -> float:
    said, thread = bench.run(client, graphs.fans[name], {**shape, "results": []}, "async")
    if sorted(thread.result()["results"]) != list(range(shape["width"])):
        raise AssertionError("the fan-out lost results")
    return seconds(said)


def _langgraph(bench: Bench, backend: Backend, shape: dict[str, Any]) -> float:
    given = {**shape, "results": [], "report": bench.marks.path}
    url = backend.fresh()
    bench.marks.drain()
    warm_up = {**given, "width": 2, "report": ""}
    order = Run(url=url, saver=backend.savers[0], graph="fan", given=given, warm_up=warm_up)
    done = children.run("langgraph", order, Ran)
    first = bench.marks.drain()[0]
    backend.drop(url)
    return (done.ended - first.at) / 1e9
