"""Progress bars: how far something long has come, on stderr, where that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .call import Call

Step = TypeVar("Step")


def shown(call: Call, what: str, steps: Iterable[Step], place: Callable[[Step], tuple[int, int, str]]) -> Step:
    """Go through all steps, of which there is at least one, and return the last; `place` tells of each how many of how
    many are done, and what else there is to say."""
    terminal = call.terminal
    last: Step | None = None
    if terminal is None or call.json:
        for step in steps:
            last = step
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[more]}", markup=False),
        )
        with Progress(*columns, console=terminal, transient=True) as progress:
            task = progress.add_task(what, total=None, more="")
            for step in steps:
                last = step
                done, total, more = place(step)
                progress.update(task, completed=done, total=total, more=more)
    assert last is not None, "there was no step"
    return last
