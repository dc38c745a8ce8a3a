"""`rerun`: run many threads again, from their histories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ...runtime.errors import InputError
from ...runtime.reruns import Effects
from ...stores.records import Status
from ..choosing import Where, names_function
from ..rerun_plan import RerunPlan
from ..reruns import BatchRerun, RerunItem, RerunProgress, told
from .call import Answer, Call
from .driving import Detach
from .exits import Exit, code_of_status
from .following import LeftRunning
from .inputs import load_graph, load_named, read_sample, read_value
from .selecting import selecting
from .views import printable

_CONCURRENCY = 8
_SHOWN = 20
"""Failures that are shown on a terminal."""


@selecting
def rerun(
    call: Call,
    where: Where,
    threads: Annotated[
        list[str] | None, typer.Argument(metavar="[THREAD]...", help="Ids; else the options choose.")
    ] = None,
    at: Annotated[
        str, typer.Option(metavar="WHERE", help="latest, before:NODE, step:K, or MODULE:FUNCTION of the handle.")
    ] = "latest",
    new: Annotated[
        str | None, typer.Option("--with", metavar="MODULE:GRAPH", help="The version to run them with.")
    ] = None,
    update: Annotated[str | None, typer.Option(metavar="JSON|@FILE|-", help="Change each state first.")] = None,
    effects: Annotated[Effects, typer.Option(help="Recorded answers and results, or live ones.")] = Effects.RECORDED,
    concurrency: Annotated[int, typer.Option(metavar="N", help="Threads under way at a time.")] = _CONCURRENCY,
    rate: Annotated[float | None, typer.Option(metavar="N", help="Threads begun per second.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="At most so many.")] = None,
    sample: Annotated[float | None, typer.Option(metavar="N", help="So many at random, or a share below 1.")] = None,
    max_failures: Annotated[int | None, typer.Option(metavar="N", help="Stop and ask once more have failed.")] = None,
    batch_id: Annotated[
        str | None, typer.Option("--batch", metavar="ID", help="The batch's id, or one to follow.")
    ] = None,
    failed: Annotated[
        str | None, typer.Option(metavar="BATCH", help="Re-run those of this batch that have not succeeded.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be re-run.")] = False,
    detach: Detach = False,
) -> Answer:
    """Run many threads again from their histories, each into a new thread, and follow the batch.

    The batch is a thread as well: `perdure pause`, `resume` and `cancel` steer it.
    """
    if threads:
        where["threads"] = [*where.get("threads", ()), *threads]
    if failed is not None:
        others = {
            "--dry-run": dry_run,
            "--update": update is not None,
            "--at": at != "latest",
            "--effects": effects is not Effects.RECORDED,
            "--concurrency": concurrency != _CONCURRENCY,
            "--rate": rate is not None,
            "--limit": limit is not None,
            "--sample": sample is not None,
            "--max-failures": max_failures is not None,
            **{"the threads' names" if name == "threads" else f"--{name}": True for name in where},
        }
        _check_alone(failed, [name for name, given in others.items() if given])
    elif not where and batch_id is None and new is None:
        raise InputError("name the threads to re-run, or choose them by options: perdure rerun --help")
    values = read_value(update, "--update") if update is not None else None
    compiled = load_graph(new) if new is not None else None
    with call.connected() as client:
        if failed is not None:
            again = client.batch(failed).failed(graph=compiled, batch_id=batch_id)
            return _begun(call, again) if detach else _follow(call, again)
        wishes = {
            "at": load_named(at, "function") if names_function(at) else at,
            "graph": compiled,
            "update": values,
            "effects": effects.value,
            "concurrency": concurrency,
            "rate": rate,
            "limit": limit,
            "sample": read_sample(sample),
            "max_failures": max_failures,
            "batch_id": batch_id,
        }
        found = client.rerun(where, dry_run=dry_run, **wishes)  # type: ignore[call-overload]  # a bool, not a literal
        if isinstance(found, RerunPlan):
            return _planned(found)
        return _begun(call, found) if detach else _follow(call, found)


def _check_alone(failed: str, others: Sequence[str]) -> None:
    """Raise `InputError` for options that would say otherwise than the batch whose failures are run again."""
    if others:
        raise InputError(
            f"--failed re-runs what batch {failed!r} chose, as that was begun; {others[0]} does not go with it. "
            "--with, --batch and --detach do"
        )


def _follow(call: Call, batch: BatchRerun) -> Answer:
    """Wait for the end of a batch. Raises `LeftRunning` on Ctrl-C: it goes on."""
    call.note(f"batch {batch.batch_id}")
    try:
        found = batch.wait(console=call.terminal)
    except KeyboardInterrupt:
        again = call.again("rerun", "--batch", batch.batch_id)
        message = f"batch {batch.batch_id!r} goes on; to follow it again: {again}"
        raise LeftRunning(batch.batch_id, message) from None
    failures = batch.failures()
    outcome = told(found) or ("all succeeded" if found.total else "no thread was chosen")
    notes = [f"batch {batch.batch_id}: {found.ended:,} of {found.total:,} ended; {outcome}"]
    if found.status is Status.INTERRUPTED:
        notes.append(f"too many have failed; to go on all the same: {call.again('resume', batch.batch_id, 'true')}")
    elif found.status is Status.PAUSED:
        notes.append(f"it is paused; to go on: {call.again('resume', batch.batch_id)}")
    elif failures:
        notes.append(f"to re-run only those that failed: {call.again('rerun', '--failed', batch.batch_id)}")
    return Answer(
        document=_document(batch, found, failures),
        shown=(_failures_table(failures),) if failures else (),
        notes=tuple(notes),
        code=code_of_status(found.status) or (Exit.FAILED if failures else Exit.OK),
    )


def _begun(call: Call, batch: BatchRerun) -> Answer:
    """What is said of a batch that is not followed."""
    return Answer(
        document={"batch_id": batch.batch_id, "status": batch.status.value},
        shown=(Text(batch.batch_id),),
        notes=(f"to follow it: {call.again('rerun', '--batch', batch.batch_id)}",),
    )


def _planned(plan: RerunPlan) -> Answer:
    """What would be re-run."""
    rows = plan.table().to_pylist()
    table = Table("thread", "from checkpoint", "skipped")
    for row in rows:
        cells = (row["thread_id"], row["checkpoint_id"] or "", row["skipped"] or "")
        table.add_row(*(Text(printable(cell)) for cell in cells))
    ready = len(plan) - len(plan.skipped)
    return Answer(document={"items": rows}, shown=(table,), notes=(f"{ready:,} of {len(plan):,} would be re-run",))


def _document(batch: BatchRerun, found: RerunProgress, failures: list[RerunItem]) -> dict[str, Any]:
    return {
        "batch_id": batch.batch_id,
        "status": found.status.value,
        "total": found.total,
        "outcomes": {outcome.value: count for outcome, count in found.outcomes.items()},
        "failures": [
            {
                "thread_id": one.thread_id,
                "rerun_id": one.rerun_id,
                "outcome": one.outcome.value,
                "reason": one.reason,
            }
            for one in failures
        ],
    }


def _failures_table(failures: list[RerunItem]) -> Table:
    table = Table("thread", "outcome", "reason")
    for one in failures[:_SHOWN]:
        table.add_row(*(Text(printable(cell)) for cell in (one.thread_id, one.outcome.value, one.reason)))
    if len(failures) > _SHOWN:
        table.add_row(Text(f"and {len(failures) - _SHOWN:,} more"), Text(""), Text(""))
    return table
