"""`run`, `attach`, `resume`, `retry`, `fork`, `cancel`, `pause`, `signal`, `update`: what sets threads going and steers
them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from ...runtime.options import DEFAULT_RECURSION_LIMIT, Durability
from ...runtime.reruns import Effects
from ...stores.records import Status
from ..handle import UNSET
from .call import Answer, Call
from .following import follow, started
from .inputs import load_graph, read_pairs, read_value
from .looking import ThreadArgument

Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return at once, do not follow.")]
AsNode = Annotated[str | None, typer.Option(metavar="NODE", help="As if this node had returned the update.")]


class IfExists(StrEnum):
    """What to do where the thread is there already."""

    FAIL = "fail"
    ATTACH = "attach"
    CONTINUE = "continue"
    RESTART = "restart"


class IfBusy(StrEnum):
    """What `continue` does while another run is in progress."""

    ENQUEUE = "enqueue"
    REJECT = "reject"
    INTERRUPT = "interrupt"


class Isolation(StrEnum):
    """`thread`: a process of its own while it runs; `shared`: one with other threads."""

    THREAD = "thread"
    SHARED = "shared"


def run(
    call: Call,
    graph: Annotated[str, typer.Argument(metavar="MODULE:GRAPH", help="A compiled graph, and its module.")],
    input: Annotated[
        str, typer.Option("--input", "-i", metavar="JSON|@FILE|-", help="The run's input: JSON, a file's, or stdin's.")
    ] = "{}",
    thread_id: Annotated[str | None, typer.Option(help="The thread's id; by default a new one.")] = None,
    detach: Detach = False,
    metadata: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Kept with the thread; VALUE is JSON or text. May be repeated."),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="Kept with the thread; may be repeated.")] = None,
    durability: Annotated[Durability, typer.Option(help="When a step counts as done.")] = Durability.ASYNC,
    recursion_limit: Annotated[int, typer.Option(min=1, help="Steps that the run may take.")] = DEFAULT_RECURSION_LIMIT,
    isolation: Annotated[
        Isolation, typer.Option(help="A process of its own while it runs, or one shared with other threads.")
    ] = Isolation.THREAD,
    if_exists: Annotated[IfExists, typer.Option(help="What to do where the thread is there.")] = IfExists.FAIL,
    if_busy: Annotated[IfBusy, typer.Option(help="With --if-exists continue, while it runs.")] = IfBusy.ENQUEUE,
    interrupt_before: Annotated[
        list[str] | None, typer.Option(metavar="NODE", help="Stop before this node; may be repeated, * is all.")
    ] = None,
    interrupt_after: Annotated[
        list[str] | None, typer.Option(metavar="NODE", help="Stop after this node; may be repeated, * is all.")
    ] = None,
) -> Answer:
    """Submit a graph and follow its run."""
    compiled = load_graph(graph)
    value = read_value(input, "--input")
    pairs = read_pairs(metadata or (), "--metadata")
    with call.connected() as client:
        handle = client.submit(
            compiled,
            value,
            thread_id=thread_id,
            metadata=pairs,
            tags=tag or (),
            if_exists=if_exists.value,
            if_busy=if_busy.value,
            durability=durability.value,
            recursion_limit=recursion_limit,
            isolation=isolation.value,
            interrupt_before=interrupt_before or None,
            interrupt_after=interrupt_after or None,
        )
        return started(call, handle) if detach else follow(call, client, handle)


def attach(call: Call, thread: ThreadArgument) -> Answer:
    """Follow a thread's newest run."""
    with call.thread(thread) as (client, handle):
        return follow(call, client, handle)


def resume(
    call: Call,
    thread: ThreadArgument,
    value: Annotated[
        str | None,
        typer.Argument(metavar="[JSON|@FILE|-]", help="The answer; none to pass a breakpoint or end a pause."),
    ] = None,
    interrupt: Annotated[
        str | None, typer.Option(metavar="ID", help="Which interrupt it answers, if several wait.")
    ] = None,
    detach: Detach = False,
) -> Answer:
    """Answer an interrupt (or pass a breakpoint, or end a pause) and follow the run."""
    answer = read_value(value, "the answer") if value is not None else UNSET
    with call.thread(thread) as (client, handle):
        handle.resume(answer, interrupt_id=interrupt)
        return started(call, handle) if detach else follow(call, client, handle)


def retry(call: Call, thread: ThreadArgument, detach: Detach = False) -> Answer:
    """Run the failed tasks of a thread again, or go on after a pause, and follow the run."""
    with call.thread(thread) as (client, handle):
        handle.retry()
        return started(call, handle) if detach else follow(call, client, handle)


def fork(
    call: Call,
    thread: ThreadArgument,
    checkpoint: Annotated[str | None, typer.Option(metavar="ID", help="Where to start; by default the newest.")] = None,
    update: Annotated[str | None, typer.Option(metavar="JSON|@FILE|-", help="Change the state first.")] = None,
    as_node: AsNode = None,
    thread_id: Annotated[str | None, typer.Option(help="The new thread's id.")] = None,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Run it, or leave it paused.")] = True,
    effects: Annotated[
        Effects | None,
        typer.Option(help="Re-run the thread: with the answers and results that it recorded, or with live ones."),
    ] = None,
    detach: Detach = False,
) -> Answer:
    """Start a new thread from a checkpoint of another, and follow its run."""
    values = read_value(update, "--update") if update is not None else None
    with call.thread(thread) as (client, handle):
        forked = handle.fork(
            checkpoint, update=values, as_node=as_node, thread_id=thread_id, start=start, effects=effects
        )
        return started(call, forked) if detach or not start else follow(call, client, forked)


def cancel(
    call: Call,
    thread: ThreadArgument,
    reason: Annotated[str, typer.Option(help="Kept with the thread.")] = "",
    detach: Detach = False,
) -> Answer:
    """End a thread's runs, also in the middle of a node, and wait until they have ended."""
    with call.thread(thread) as (client, handle):
        handle.cancel(reason)
        return started(call, handle) if detach else follow(call, client, handle, wanted=Status.CANCELLED)


def pause(
    call: Call,
    thread: ThreadArgument,
    reason: Annotated[str, typer.Option(help="Kept with the thread.")] = "",
    detach: Detach = False,
) -> Answer:
    """Stop a thread between two steps, and wait until it has stopped."""
    with call.thread(thread) as (client, handle):
        handle.pause(reason)
        return started(call, handle) if detach else follow(call, client, handle, wanted=Status.PAUSED)


def signal(
    call: Call,
    thread: ThreadArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the node's receive() is given.")],
    value: Annotated[
        str | None, typer.Argument(metavar="[JSON|@FILE|-]", help="What receive() returns; by default null.")
    ] = None,
) -> Answer:
    """Send a signal to a thread; it is kept until a node receives it."""
    brought = read_value(value, "the signal's value") if value is not None else None
    with call.thread(thread) as (_, handle):
        handle.signal(name, brought)
        status = handle.status
    document = {"thread_id": thread, "signal": name, "status": status.value}
    return Answer(document=document, shown=(Text(f"{name} is sent to {thread}, which is {status.value}"),))


def update(
    call: Call,
    thread: ThreadArgument,
    values: Annotated[
        str, typer.Argument(metavar="JSON|@FILE|-", help="Keys and values, as a node would return them.")
    ],
    as_node: AsNode = None,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="ID", help="Start from this checkpoint, leaving what came after it.")
    ] = None,
    expect: Annotated[
        str | None, typer.Option(metavar="ID", help="Only if this is still the newest checkpoint.")
    ] = None,
) -> Answer:
    """Change a thread's state through its reducers; prints the new checkpoint's id."""
    changes = read_value(values, "the update")
    with call.thread(thread) as (_, handle):
        made = handle.update_state(changes, as_node, checkpoint_id=checkpoint, expected_checkpoint=expect)
        status = handle.status
    return Answer(document={"thread_id": thread, "checkpoint_id": made, "status": status.value}, shown=(Text(made),))
