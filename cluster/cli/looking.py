"""`ls`, `show`, `history`: read the store, start nothing."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from ...stores.errors import Corrupt, DisallowedType, NewerFormat
from ...stores.records import RUNNABLE, SERVICE, Status
from ..head import running_head
from .call import Answer, Call
from .documents import (
    checkpoint_document,
    diff_document,
    failure_document,
    interrupts_document,
    plain,
    run_document,
    thread_document,
)
from .exits import Exit
from .inputs import read_pairs
from .views import checkpoint_view, diff_table, failure_text, history_table, thread_view, threads_table

ThreadArgument = Annotated[str, typer.Argument(metavar="THREAD", help="Its id.")]


def ls(
    call: Call,
    status: Annotated[
        list[Status] | None, typer.Option(metavar="STATUS", help="Only threads that stand so; may be repeated.")
    ] = None,
    graph: Annotated[str | None, typer.Option(help="Only threads of the graph with this name.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only threads with this tag.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only threads with this; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
) -> Answer:
    """List threads, newest first."""
    wanted = read_pairs(metadata or (), "--metadata")
    with call.reading() as reader:
        found = list(reader.threads(status=status or None, graph=graph, tag=tag, metadata=wanted, limit=limit + 1))
    more, records = len(found) > limit, found[:limit]
    notes = [f"there are more; --limit {limit * 10} shows them"] if more else []
    idle = [record for record in records if record.status in RUNNABLE and record.driver == SERVICE]
    if idle and call.address is None and not call.json and running_head() is None:
        notes.append(f"no local head runs, so nobody runs these threads; start it: {call.again('up')}")
    if not records:
        notes.append("no threads")
    return Answer(
        document={"threads": [thread_document(record) for record in records], "more": more},
        shown=(threads_table(records),) if records else (),
        notes=tuple(notes),
    )


def show(
    call: Call,
    thread: ThreadArgument,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="ID", help="Show this checkpoint instead, with its values.")
    ] = None,
) -> Answer:
    """Show a thread: where it stands, why, what it waits for, its values."""
    if checkpoint is not None:
        with call.reading() as reader:
            snapshot = reader.state_at(thread, checkpoint)
            return Answer(document=checkpoint_document(snapshot, values=True), shown=tuple(checkpoint_view(snapshot)))
    with call.reading() as reader:
        record = reader.thread(thread)
        runs = reader.runs(thread)
        last = next((run for run in runs if run.run == record.run), None)
        failure = reader.failure(last) if last is not None else None
        unreadable, state = "", None
        try:
            state = reader.state(record)
            values = dict(state.values)
        except (Corrupt, NewerFormat, DisallowedType) as error:
            unreadable, state = str(error), None
    document = {
        **thread_document(record),
        "runs": [run_document(run) for run in runs],
        "next": list(state.next) if state is not None else None,
        "interrupts": interrupts_document(state.interrupts) if state is not None else None,
        "values": plain(values) if state is not None else None,
        "unreadable": unreadable,
        "error": failure_document(failure) if failure is not None else None,
    }
    traceback = (failure_text(failure),) if failure is not None and failure.traceback else ()
    return Answer(
        document=document,
        shown=(*thread_view(record, state), *traceback),
        notes=(f"perdure: {unreadable}",) if unreadable else (),
        code=Exit.UNREACHABLE if unreadable else Exit.OK,
    )


def history(
    call: Call,
    thread: ThreadArgument,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    before: Annotated[str | None, typer.Option(metavar="CHECKPOINT", help="Only checkpoints before this one.")] = None,
    filter: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Only checkpoints with this metadata, as source=update or step=3."),
    ] = None,
    values: Annotated[bool, typer.Option("--values", help="With the state's values.")] = False,
) -> Answer:
    """List a thread's checkpoints, newest first."""
    wanted = read_pairs(filter or (), "--filter")
    with call.reading() as reader:
        found = list(islice(reader.history(thread, filter=wanted, before=before, limit=limit + 1), limit + 1))
        more, snapshots = len(found) > limit, found[:limit]
        # The values are read when they are looked at: while the store is open.
        documents = [checkpoint_document(snapshot, values=values) for snapshot in snapshots]
        shown = (history_table(snapshots, values=values),) if snapshots else ()
    notes = []
    if more:
        filters = [part for pair in filter or () for part in ("--filter", pair)]
        again = call.again("history", thread, *filters, "--before", snapshots[-1].checkpoint_id)
        notes.append(f"there are more: {again}")
    if not snapshots:
        notes.append("no checkpoints")
    document = {"thread_id": thread, "checkpoints": documents, "more": more}
    return Answer(document=document, shown=shown, notes=tuple(notes))


def diff(
    call: Call,
    thread: ThreadArgument,
    first: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Its id, as history prints it.")],
    second: Annotated[
        str | None, typer.Argument(metavar="[CHECKPOINT]", help="Compared with the first; by default the newest.")
    ] = None,
) -> Answer:
    """Show what differs between two checkpoints of a thread: keys added, changed, removed, and what lists got."""
    with call.reading() as reader:
        found = reader.diff(thread, first, second)
        document = {"thread_id": thread, **diff_document(found)}
    return Answer(
        document=document, shown=(diff_table(found),) if found else (), notes=() if found else ("no key differs",)
    )
