"""`up`, `down`, `version`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.text import Text

from ...actors.drains import read_drain
from ...stores.records import PARKED
from ..endpoint import Build, HeadOptions
from ..head import running_head, stop_head
from .call import Answer, Call


def up(
    call: Call,
    num_cpus: Annotated[
        int | None, typer.Option(min=1, help="Nodes that run at once; by default as many as the machine has CPUs.")
    ] = None,
    idle: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Ends itself after so long without anything to do.")
    ] = None,
    max_actors: Annotated[
        int | None,
        typer.Option(min=1, help="Thread actors on a node, where this starts the service; else as it last ran, or 16."),
    ] = None,
    shards: Annotated[
        int | None, typer.Option(min=1, help="Supervisors, where this starts the service; else as it last ran, or 1.")
    ] = None,
) -> Answer:
    """Start the local head (or join a cluster) and the service of the store; its unfinished threads go on.

    After a restart of the machine, or of the cluster, this is all that is to be done.
    """
    before = running_head() if call.address is None else None
    options = HeadOptions(num_cpus=num_cpus, idle=timedelta(seconds=idle) if idle is not None else None)
    with call.connected(options, max_actors=max_actors, shards=shards) as client:
        # It answers: only then is it up.
        actors = client.actors()
        url = call.config.where
        counts = client.store.stats().threads
        drained = read_drain(client.store).service
    running = sum(count for status, count in counts.items() if status.runnable)
    parked = sum(count for status, count in counts.items() if status in PARKED)
    facts: dict[str, Any] = {
        "store": url,
        "runnable": running,
        "parked": parked,
        "drained": drained,
        "actors": len(actors),
        "address": call.address,
        "pid": None,
        "started": False,
    }
    endpoint = running_head() if call.address is None else None
    if endpoint is not None:
        facts.update(address=endpoint.address, pid=endpoint.pid, folder=endpoint.root)
        facts["started"] = before is None or before.process != endpoint.process
    state = "started" if facts["started"] else "runs"
    head = f"local head {state} at {facts['address']} (pid {facts['pid']})" if endpoint else f"cluster {call.address}"
    notes = []
    if endpoint is not None and not facts["started"] and (num_cpus, idle) != (None, None):
        notes.append("it ran already, with the options it was started with; `perdure down` ends it")
    if drained:
        notes.append(f"the service is drained and starts nothing; `{call.again('drain', '--undo')}` lets it work again")
    service = f"service of {url} is up: {running} threads run or are about to, {parked} wait"
    return Answer(document=facts, shown=(Text(head), Text(service)), notes=tuple(notes))


def down(call: Call) -> Answer:
    """End the local head with all its processes. Threads stay in their stores and go on when a head runs again."""
    stopped = stop_head()
    text = "local head ended" if stopped else "no local head ran"
    return Answer(document={"stopped": stopped}, shown=(Text(text),))


def version(call: Call) -> Answer:
    """Show the versions of Perdure, Ray and Python."""
    build = Build.own()
    text = f"perdure {build.perdure} (ray {build.ray}, python {build.python})"
    return Answer(document=asdict(build), shown=(Text(text),))
