"""Two people who change the same head: what the one who comes late is told."""

from __future__ import annotations

from typing import Any

from ..stores.base import CheckpointStore
from ..stores.errors import UnknownCheckpoint
from ..stores.history import HistoryReader
from .bookmarks import find_control
from .errors import CheckpointConflict, CheckpointNotFound, InvalidUpdateError
from .snapshots import SnapshotReader, checkpoint_id


def conflict_of(reader: SnapshotReader, expected: int, yours: Any) -> CheckpointConflict:
    """The error for an update that was meant for checkpoint `expected`, with what happened instead."""
    head = reader.head()
    thread_id = str(head.config["configurable"]["thread_id"])
    try:
        theirs = reader.diff(expected, int(head.checkpoint_id))
    except CheckpointNotFound:
        theirs = None  # retention has dropped the one that was expected
    source = head.metadata.get("source", "")
    # An update names no node of its own: the ones at the newest checkpoint then are those that ran before it.
    writers = ", ".join(head.metadata.get("writes", ())) if source == "loop" else ""
    made_by = f"{source}{f' of {writers}' if writers else ''} at {head.created_at}"
    return CheckpointConflict(
        thread_id, checkpoint_id(expected), head.checkpoint_id, yours=yours, theirs=theirs, made_by=made_by
    )


def update_made(store: CheckpointStore, thread_id: str, applied: int) -> int:
    """The checkpoint that an update made, by the commit that applied it. One that the graph refused was consumed too,
    but made none. Raises `InvalidUpdateError`."""
    try:
        find_control(store, thread_id, applied)
    except CheckpointNotFound:
        reason = store.thread(thread_id).reason
        raise InvalidUpdateError(f"thread {thread_id!r} is paused: {reason}") from None
    return applied


def was_refused(reader: HistoryReader, applied: int, expected: int) -> bool:
    """Whether an update for checkpoint `expected`, consumed by commit `applied`, found another head there and so came
    to nothing. Raises `UnknownThread`."""
    try:
        reader.checkpoint(applied)
    except UnknownCheckpoint:
        newest = next(reader.checkpoints(before=applied, limit=1), None)
        return newest is None or newest[1].checkpoint != expected
    return False
