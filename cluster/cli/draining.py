"""`drain`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer
from rich.text import Text

from .call import Answer, Call
from .exits import Exit


def drain(
    call: Call,
    node: Annotated[
        str | None,
        typer.Option(metavar="NODE", help="A node of the cluster, by the first digits of its id, its name or address."),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Let it work again.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="How long to wait; by default until nothing runs.")
    ] = None,
) -> Answer:
    """Let running threads finish their step, and start none: on a node (they go on elsewhere) or at all (they wait)."""
    what = f"node {node}" if node is not None else "the service"
    with call.connected() as client:
        if undo:
            client.undrain(node)
            document = {"node": node, "drained": False, "left": 0}
            return Answer(document=document, shown=(Text(f"{what} takes work again"),))
        left = client.drain(node, timeout=timedelta(seconds=timeout) if timeout is not None else None)
    text = f"{what} is drained" if not left else f"{what} is being drained; still at work there: {left} threads"
    undoing = call.again("drain", *(("--node", node) if node is not None else ()), "--undo")
    return Answer(
        document={"node": node, "drained": True, "left": left},
        shown=(Text(text),),
        notes=(f"`{undoing}` lets it work again",),
        code=Exit.FAILED if left else Exit.OK,
    )
