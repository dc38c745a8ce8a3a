"""Audits a tree of Python source, durably: `python -m perdure.examples.audit demo`, or `run PATH`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from perdure import (
    HeadError,
    Interrupted,
    PerdureError,
    ServiceError,
    Status,
    StoreError,
    ThreadHandle,
    connect,
)
from perdure.examples.audit_demo import run_demo
from perdure.examples.audit_graph import graph
from perdure.examples.audit_kill import DemoFailed
from perdure.examples.audit_rules import COMPLEXITY
from perdure.examples.audit_watch import FanOut, progress_bar

__all__ = ["app", "graph"]

FAILURES = (DemoFailed, PerdureError, ServiceError, StoreError, HeadError, TimeoutError, OSError)

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)

Threshold = Annotated[int, typer.Option(min=1, help="Functions above this complexity are findings.")]


@app.command()
def demo(
    path: Annotated[Path | None, typer.Option(help="Folder to audit; the standard library by default.")] = None,
    threshold: Threshold = COMPLEXITY,
    keep: Annotated[Path | None, typer.Option(help="Folder in which the store and the journal stay.")] = None,
) -> None:
    """Run the audit, kill its owner halfway, and show how it goes on. Writes two reports into the current folder."""
    console = Console()
    try:
        run_demo(_folder(path), threshold, keep.absolute() if keep else None, console)
    except FAILURES as error:
        _fail(error)


@app.command()
def run(
    path: Annotated[Path, typer.Argument(help="Folder to audit.")],
    threshold: Threshold = COMPLEXITY,
    report: Annotated[Path, typer.Option(help="Where to write the report.")] = Path("audit-report.md"),
    store: Annotated[str, typer.Option(help="Store of the run.")] = "sqlite:///audit.db",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Approve the list of findings unseen.")] = False,
) -> None:
    """Audit a folder on the local head, and ask before the report is written."""
    console = Console()
    request = {"root": str(_folder(path)), "threshold": threshold, "report": str(report.absolute())}
    try:
        with connect(store) as client:
            thread = client.submit(graph, request, tags=["audit"])
            console.print(f"thread {thread.thread_id} in {client.store.url}", soft_wrap=True)
            _follow(thread, FanOut(client.store, thread.thread_id), console)
            outcome = _approve(thread, console, yes)
    except FAILURES as error:
        _fail(error)
    console.print(f"report: {outcome['report']}" if outcome["report"] else "rejected; no report", soft_wrap=True)


def _follow(thread: ThreadHandle, fan_out: FanOut, console: Console) -> None:
    """Show how many files are done, until the thread waits or ends."""
    with progress_bar(console) as bar:
        task = bar.add_task("results in the store", total=None)
        while True:
            runnable = thread.status in (Status.QUEUED, Status.RUNNING)
            bar.update(task, completed=fan_out.look(), total=len(fan_out.files) or None)
            if not runnable:
                return
            time.sleep(0.05)


def _approve(thread: ThreadHandle, console: Console, yes: bool) -> dict[str, Any]:
    """Have the list approved; the run's outcome."""
    try:
        return thread.result()
    except Interrupted as stop:
        asked = stop.interrupts[0].value
    for rule, count in asked["counts"].items():
        console.print(f"{count:>7,}  {rule}")
    approved = yes or typer.confirm("Write the report?", default=True)
    thread.resume("approve" if approved else "reject")
    return thread.result()


def _folder(path: Path | None) -> Path | None:
    if path is not None and not path.is_dir():
        raise typer.BadParameter(f"{path} is not a folder")
    return path.absolute() if path is not None else None


def _fail(error: BaseException) -> None:
    typer.echo(f"failed: {type(error).__name__}: {error}", err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
