"""`python -m benchmarks`: measure, show, keep."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from . import appends, fanout, langgraph_env, recovery, steps
from .cluster import bench
from .report import Report

NAMES = ("steps", "appends", "fanout", "recovery")


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Which of {', '.join(NAMES)}; all by default.")] = None,
    kills: Annotated[int, typer.Option(help="Kills of the owner.")] = 300,
    rounds: Annotated[int, typer.Option(help="Rounds of steps and fan-outs; medians are shown.")] = 5,
    step_count: Annotated[int, typer.Option("--steps", help="Tiny steps of a run.")] = 1000,
    appends_count: Annotated[int, typer.Option("--appends", min=4, help="Texts to append, a multiple of four.")] = 2000,
    width: Annotated[int, typer.Option(help="Trivial nodes of the fan-out.")] = 1000,
    spares: Annotated[int, typer.Option(help="Warm spares in the recovery benchmark.")] = 1,
    cpus: Annotated[int, typer.Option(help="CPUs of the local head.")] = 2,
) -> None:
    """Measure perdure on local Ray and SQLite, beside LangGraph in the same run."""
    console = Console()
    chosen = names or list(NAMES)
    if unknown := [name for name in chosen if name not in NAMES]:
        raise typer.BadParameter(f"unknown: {', '.join(unknown)}; choose from {', '.join(NAMES)}")
    if appends_count % 4:
        raise typer.BadParameter("--appends is no multiple of four")
    report = Report(console)
    if set(chosen) - {"recovery"}:
        try:
            langgraph_env.ensure(console)
        except langgraph_env.LangGraphMissing as error:
            console.print(f"{error}\n`python -m benchmarks recovery` does without it", style="red")
            raise typer.Exit(1) from error
    try:
        with bench(cpus) as place:
            if "steps" in chosen:
                steps.run(place, report, steps=step_count, rounds=rounds)
            if "appends" in chosen:
                appends.run(place, report, steps=appends_count)
            if "fanout" in chosen:
                fanout.run(place, report, width=width, rounds=rounds)
            if "recovery" in chosen:
                recovery.run(place, report, kills=kills, spares=spares)
    finally:
        for missed in report.missed:
            console.print(f"missed: {missed}", style="red")
        console.print(f"written to {report.write()}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
