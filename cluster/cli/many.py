"""`many ...`: the same for many threads, which options choose."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ...runtime.errors import InputError
from ..choosing import Where
from ..handle import UNSET
from ..many import Applied, delete_each, tag_each
from .call import Answer, Call
from .exits import Exit
from .inputs import read_value
from .selecting import selecting
from .views import printable

_SHOWN = 20
"""Refusals that are shown."""
Limit = Annotated[int | None, typer.Option("--limit", min=0, metavar="N", help="At most so many, the newest.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell which threads it would be tried on.")]
Operation = Annotated[
    str | None,
    typer.Option(
        "--operation",
        metavar="ID",
        help="An id of your choice: with the same one again no thread gets it twice.",
    ),
]


@selecting
def cancel_many(
    call: Call,
    where: Where,
    reason: Annotated[str, typer.Option(help="Kept with each thread.")] = "",
    limit: Limit = None,
    dry_run: DryRun = False,
    operation: Operation = None,
) -> Answer:
    """End the runs of many threads, also in the middle of a node."""
    _check(where)
    with call.connected() as client:
        done = client.cancel_many(where, reason, limit=limit, dry_run=dry_run, operation_id=operation)
    return _answer(done, "cancelled", dry_run)


@selecting
def resume_many(
    call: Call,
    where: Where,
    value: Annotated[
        str | None,
        typer.Argument(metavar="[JSON|@FILE|-]", help="The answer; none to pass breakpoints or end pauses."),
    ] = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    operation: Operation = None,
) -> Answer:
    """Give many threads the same answer. One that waits at several interrupts is refused."""
    _check(where)
    answer = read_value(value, "the answer") if value is not None else UNSET
    with call.connected() as client:
        done = client.resume_many(where, answer, limit=limit, dry_run=dry_run, operation_id=operation)
    return _answer(done, "resumed", dry_run)


@selecting
def signal_many(
    call: Call,
    where: Where,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the nodes' receive() is given.")],
    value: Annotated[
        str | None, typer.Argument(metavar="[JSON|@FILE|-]", help="What receive() returns; by default null.")
    ] = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    operation: Operation = None,
) -> Answer:
    """Send many threads the same signal."""
    _check(where)
    brought = read_value(value, "the signal's value") if value is not None else None
    with call.connected() as client:
        done = client.signal_many(where, name, brought, limit=limit, dry_run=dry_run, operation_id=operation)
    return _answer(done, "sent a signal", dry_run)


@selecting
def delete_many(call: Call, where: Where, limit: Limit = None, dry_run: DryRun = False) -> Answer:
    """Delete many threads with their histories. Those that run are refused."""
    _check(where)
    with call.opened() as store:
        done = delete_each(store, where, limit=limit, dry_run=dry_run)
    return _answer(done, "deleted", dry_run)


@selecting
def tag_many(
    call: Call,
    where: Where,
    add: Annotated[list[str] | None, typer.Option("--add", metavar="TAG", help="Put on; may be repeated.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="TAG", help="Take off; may be repeated.")
    ] = None,
    limit: Limit = None,
    dry_run: DryRun = False,
) -> Answer:
    """Put tags on many threads, and take others off, whatever they are doing."""
    _check(where)
    with call.opened() as store:
        done = tag_each(store, where, add=add or (), remove=remove or (), limit=limit, dry_run=dry_run)
    return _answer(done, "tagged", dry_run)


def _check(where: Where) -> None:
    if not where:
        raise InputError(
            "choose the threads: --thread, --graph, --status, --tag, --metadata, --error, --since, --until, --history"
        )


def _answer(done: Applied, what: str, dry_run: bool) -> Answer:
    table = Table("thread", "refused")
    for name, why in list(done.refused.items())[:_SHOWN]:
        table.add_row(Text(printable(name)), Text(printable(why)))
    word = f"would be {what}" if dry_run else f"{what}"
    notes = [f"{len(done.done):,} threads {word}, {len(done.refused):,} refused it"]
    if len(done.refused) > _SHOWN:
        notes.append(f"{len(done.refused) - _SHOWN:,} more refusals: --json has them all")
    names = tuple(Text(printable(name)) for name in done.done) if dry_run else ()
    return Answer(
        document={
            "operation_id": done.operation_id,
            "dry_run": dry_run,
            "done": list(done.done),
            "refused": done.refused,
        },
        shown=(*names, table) if done.refused else names,
        notes=tuple(notes),
        code=Exit.FAILED if done.refused else Exit.OK,
    )
