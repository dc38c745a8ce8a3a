"""`replay-check`: would a new version of a graph go the way that recorded threads went? For CI, before a deploy."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..choosing import Where
from ..replay_check import Checked, replay_check
from .call import Answer, Call
from .exits import Exit
from .inputs import load_graph, read_sample
from .selecting import selecting
from .views import printable

_SHOWN = 50


@selecting
def replay_check_command(
    call: Call,
    reference: Annotated[str, typer.Argument(metavar="MODULE:GRAPH", help="The new version.")],
    where: Where,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="At most so many threads, newest first.")
    ] = None,
    sample: Annotated[float | None, typer.Option(metavar="N", help="So many at random, or a share below 1.")] = None,
    states: Annotated[
        bool, typer.Option("--states/--no-states", help="Whether other values in the state count.")
    ] = True,
) -> Answer:
    """Run a new version of a graph over recorded threads, with what they recorded, and say where it would diverge.

    The nodes run in this process, on copies in memory: the store is only read, and no cluster is needed. Exit code 1 if
    any thread diverges, or if there was none to check.
    """
    graph = load_graph(reference)
    with call.opened() as store, redirect_stdout(sys.stderr):  # what nodes print is no part of the answer
        found = list(replay_check(store, graph, where, limit=limit, sample=read_sample(sample), states=states))
    diverged = [one for one in found if one.divergence is not None]
    skipped = [one for one in found if one.skipped]
    checked = len(found) - len(skipped)
    notes = [
        f"{checked:,} threads of graph {graph.name!r} checked with version {graph.version!r}, {len(diverged):,} diverge"
    ]
    notes += [f"{len(skipped):,} skipped, such as {skipped[0].thread_id}: {skipped[0].skipped}"] if skipped else []
    if not checked:
        # A selection that finds nothing is a mistake in a pipeline, which must not go on to deploy for it.
        notes.append(
            "nothing was checked: choose other threads, or look whether the store and the graph's name are right"
        )
    return Answer(
        document={
            "graph": graph.name,
            "version": graph.version,
            "checked": checked,
            "threads": [asdict(one) for one in found],
        },
        shown=(_table(diverged),) if diverged else (),
        notes=tuple(notes),
        code=Exit.OK if checked and not diverged else Exit.FAILED,
    )


def _table(diverged: list[Checked]) -> Table:
    table = Table("thread", "checkpoint", "node", "kind", "what")
    for one in diverged[:_SHOWN]:
        assert one.divergence is not None, "only those that diverge are shown"
        away = one.divergence
        cells = (one.thread_id, away.checkpoint_id, away.node, away.kind, away.what)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    if len(diverged) > _SHOWN:
        table.add_row(Text(f"and {len(diverged) - _SHOWN:,} more"))
    return table
