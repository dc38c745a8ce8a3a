"""What re-runs that have not ended still need of the thread that they replay: more than a fork inherits."""

from __future__ import annotations

import math

from .base import CheckpointStore
from .errors import UnknownThread
from .records import ThreadRecord


def replaying(store: CheckpointStore, thread_id: str) -> dict[str, int]:
    """The re-runs that have still to replay what a thread recorded: id, and after which of its commits that begins.

    A re-run records nothing of what it replays. So one that has ended counts as long as others replay it in their turn.
    """
    found: dict[str, int] = {}
    for fork in store.forks(thread_id):
        try:
            row = store.thread(fork.thread_id)
        except UnknownThread:
            continue  # deleted meanwhile
        if _replays(row, thread_id) and (not row.status.ended or replaying(store, row.thread_id)):
            found[row.thread_id] = fork.seq
    return found


def lowest_replayed(store: CheckpointStore, thread_id: str) -> float:
    """The first commit of a thread that such re-runs need, with all that follow it; infinite where there are none."""
    return min(replaying(store, thread_id).values(), default=math.inf)


def _replays(row: ThreadRecord, thread_id: str) -> bool:
    return row.replays is not None and row.replays.thread_id == thread_id
