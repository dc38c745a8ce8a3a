"""`replay`, `step`, `breakpoints`: go through a thread's steps again, or one at a time."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from .call import Answer, Call
from .documents import checkpoint_document
from .driving import Detach
from .following import follow, started
from .looking import ThreadArgument
from .views import checkpoint_view, facts_table

_Nodes = list[str] | None


def replay(
    call: Call,
    thread: ThreadArgument,
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Its id, as history prints it.")],
    detach: Detach = False,
) -> Answer:
    """Go back to a checkpoint, run on from there in the same thread, and follow the run."""
    with call.thread(thread) as (client, handle):
        handle.replay(checkpoint)
        return started(call, handle) if detach else follow(call, client, handle)


def step(call: Call, thread: ThreadArgument) -> Answer:
    """Run one step of a thread that is parked, and show the state after it."""
    with call.thread(thread) as (_, handle):
        state = handle.step()
        status = handle.status
        document = {**checkpoint_document(state, values=True), "status": status.value}
        shown = (Text(status.value), *checkpoint_view(state))
    return Answer(document=document, shown=shown)


def breakpoints(
    call: Call,
    thread: ThreadArgument,
    before: Annotated[_Nodes, typer.Option(metavar="NODE", help="Stop before this node; may be repeated.")] = None,
    after: Annotated[_Nodes, typer.Option(metavar="NODE", help="Stop after this node; may be repeated.")] = None,
    remove: Annotated[
        _Nodes, typer.Option(metavar="NODE", help="Stop there no more; may be repeated, * is all.")
    ] = None,
) -> Answer:
    """Show the breakpoints that a thread's run was given, or change them, also while it runs."""
    with call.thread(thread) as (_, handle):
        if remove:
            handle.remove_breakpoints(before=remove, after=remove)
        if before or after:
            handle.add_breakpoints(before=before or (), after=after or ())
        stops = None if remove or before or after else handle.breakpoints()
    if stops is None:
        return Answer(document={"thread_id": thread, "changed": True}, shown=(Text("accepted"),))
    facts = [("before", ", ".join(stops.before)), ("after", ", ".join(stops.after))]
    return Answer(
        document={"thread_id": thread, "before": list(stops.before), "after": list(stops.after)},
        shown=(facts_table([fact for fact in facts if fact[1]]),),
    )
