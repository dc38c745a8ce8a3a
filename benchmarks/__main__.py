"""`python -m benchmarks`: measure, show, keep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import appends, crowd, fanout, loads, losses, parked, plot, recovery, rerun, steps, threads, travel
from .amounts import QUICK, Amounts
from .backends import Backend, backends
from .cluster import Bench, bench
from .report import RESULTS, Report

STORES = ("steps", "appends", "loads", "crowd")
"""What the name `stores` stands for."""
FULL = Amounts()

NAMES = (*STORES, "threads", "fanout", "recovery", "parked", "losses", "travel", "rerun")
BACKENDS = ("sqlite", "postgres", "redis")


def main(
    names: Annotated[
        list[str] | None,
        typer.Argument(help=f"Which of {', '.join(NAMES)}; stores for the first four; all by default."),
    ] = None,
    on: Annotated[str, typer.Option(help="Databases, with commas between.")] = ",".join(BACKENDS),
    quick: Annotated[bool, typer.Option("--quick", help="Small numbers: only shows that it works.")] = False,
    kills: Annotated[int, typer.Option(help="Kills of the owner.")] = FULL.kills,
    spares: Annotated[int, typer.Option(help="Warm spares in the recovery benchmark.")] = FULL.spares,
    rounds: Annotated[int, typer.Option(help="Rounds of steps and fan-outs; medians are shown.")] = FULL.rounds,
    cpus: Annotated[int, typer.Option(help="CPUs of the local head.")] = 2,
    results: Annotated[Path, typer.Option(help="Folder of the JSON file and the picture.")] = RESULTS,
) -> None:
    """Measure perdure on local Ray with real databases, beside LangGraph in the same run."""
    chosen = _chosen(names or NAMES, (*NAMES, "stores"))
    chosen = [*(STORES if "stores" in chosen else ()), *chosen]
    databases = _chosen(on.split(","), BACKENDS)
    amounts = QUICK if quick else Amounts(kills=kills, spares=spares, rounds=rounds)
    console = Console()
    report = Report(console, results, judging=not quick)
    try:
        with bench(cpus) as place, backends(databases, place.folder) as found:
            for backend in found:
                measure(place, report, backend, chosen, amounts)
    finally:
        for missed in report.missed:
            console.print(f"missed: {missed}", style="red")
        console.print(f"written to {report.write()}")
        if picture := plot.draw(report.results, results / "stores.png"):
            console.print(f"drawn to {picture}")


def measure(place: Bench, report: Report, backend: Backend, names: Sequence[str], amounts: Amounts) -> None:
    """Those of these names that there are for a database."""
    if "steps" in names:
        steps.run(place, report, backend, steps=amounts.steps, rounds=amounts.rounds)
    if "appends" in names:
        appends.run(place, report, backend, counts=amounts.appends, rounds=amounts.append_rounds)
    if "loads" in names:
        loads.run(report, backend, count=max(amounts.appends), long=amounts.long, times=amounts.loads)
    if "crowd" in names and backend.name == "postgres":
        crowd.run(
            place, report, backend, threads=amounts.threads, workers=amounts.workers, rounds=amounts.append_rounds
        )
    if "threads" in names and backend.name == "postgres":
        threads.run(place, report, backend, threads=amounts.threads, rounds=amounts.append_rounds)
    if "fanout" in names and backend.savers:
        fanout.run(place, report, backend, width=amounts.width, rounds=amounts.rounds)
    if "recovery" in names and backend.name == "sqlite":
        recovery.run(place, report, backend.fresh(), kills=amounts.kills, spares=amounts.spares)
    if "parked" in names and backend.name in ("sqlite", "postgres"):
        parked.run(place, report, backend, threads=amounts.parked, wakes=amounts.wakes)
    if "losses" in names and backend.name == "postgres":
        losses.run(place, report, backend, kills=amounts.supervisors, threads=amounts.unfinished, nodes=amounts.nodes)
    if "travel" in names and backend.name in ("sqlite", "postgres"):
        travel.run(report, backend, steps=amounts.travel, visits=amounts.visits)
    if "rerun" in names and backend.name == "postgres":
        rerun.run(place, report, backend, threads=amounts.reruns)


def _chosen(given: Sequence[str], known: Sequence[str]) -> list[str]:
    if unknown := [name for name in given if name not in known]:
        raise typer.BadParameter(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
    return list(given)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
