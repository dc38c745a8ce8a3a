"""`up`, `down`, `version`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.text import Text

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
) -> Answer:
    """Start the local head (or join a cluster) and the service of the store."""
    before = running_head() if call.address is None else None
    options = HeadOptions(num_cpus=num_cpus, idle=timedelta(seconds=idle) if idle is not None else None)
    with call.connected(options) as client:
        # It answers: only then is it up.
        actors = client.actors()
        url = call.config.where
    facts: dict[str, Any] = {
        "store": url,
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
    return Answer(document=facts, shown=(Text(head), Text(f"service of {url} is up")), notes=tuple(notes))


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
