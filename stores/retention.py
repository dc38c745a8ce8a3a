"""What of a thread's past is to be dropped: decisions, no effects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Protocol

from .errors import StoreMisuse
from .records import IN_PROCESS, SERVICE, Message, Retention, ThreadRecord
from .segments import Row

SETTING = "retention"
"""The store's setting that holds the retention of threads that have none of their own."""

READABLE = frozenset({SERVICE, IN_PROCESS})
"""Drivers whose checkpoints a `Meaning` can read. Of other threads nothing is dropped."""

KEEP_ALL = Retention()


class Meaning(Protocol):
    """What rows and messages say, as far as housekeeping has to know. To a store they are bytes."""

    def manifest(self, row: Row) -> Mapping[str, int]:
        """The version of each channel at a checkpoint. Raises `Corrupt`, `NewerFormat`."""
        ...

    def made_at(self, row: Row) -> float:
        """When a checkpoint was made (Unix seconds). Raises `Corrupt`, `NewerFormat`."""
        ...

    def refers_to(self, message: Message) -> int:
        """The checkpoint from which a message wants to go on; 0 for none. Raises `Corrupt`."""
        ...


def retention_data(retention: Retention) -> dict[str, Any]:
    """A retention as JSON: spans in seconds, limits that are not set left out."""
    data: dict[str, Any] = {}
    if retention.max_checkpoints is not None:
        data["max_checkpoints"] = retention.max_checkpoints
    for name in ("keep_for", "delete_after"):
        span = getattr(retention, name)
        if span is not None:
            data[name] = span.total_seconds()
    return data


def retention_from(data: Any) -> Retention:
    """The retention again; None is one that keeps all. Raises `StoreMisuse` for what is none."""
    if data is None:
        return KEEP_ALL
    try:
        spans = {name: timedelta(seconds=data[name]) for name in ("keep_for", "delete_after") if name in data}
        return Retention(max_checkpoints=data.get("max_checkpoints"), **spans)
    except (TypeError, AttributeError, ValueError, OverflowError):
        raise StoreMisuse(
            f"the store's setting {SETTING!r} is no retention: {data!r}; set it anew: perdure store prune --save"
        ) from None


def floor_of(checkpoints: Iterable[Row], retention: Retention, meaning: Meaning, now: float) -> int:
    """The seq from which on checkpoints (CHECKPOINT rows, newest first) are kept; 0 where nothing is to be dropped.

    `max_checkpoints=n` keeps the n newest. `keep_for` keeps those that are not older than that; they are counted from
    the newest, so a clock that was set back drops nothing too early. The newest is kept whatever its age.
    """
    if retention.max_checkpoints is None and retention.keep_for is None:
        return 0
    since = now - retention.keep_for.total_seconds() if retention.keep_for is not None else None
    floor = 0
    for count, row in enumerate(checkpoints):
        if count and count == retention.max_checkpoints:
            return floor
        if count and since is not None and meaning.made_at(row) < since:
            return floor
        floor = row.checkpoint
    return 0


def is_over(row: ThreadRecord, retention: Retention, now: float) -> bool:
    """Whether a thread is to be deleted."""
    return (
        retention.delete_after is not None
        and row.status.ended
        and row.updated_at < now - retention.delete_after.total_seconds()
    )


def sweeps(row: ThreadRecord, floor: int) -> bool:
    """Whether all of a thread is to be gone through for rows that nothing needs any more, now that its floor rises from
    `floor` to `row.floor`.

    That takes as long as the thread is; so it is done where the thread, or what is dropped, has grown by a sixteenth,
    which costs each commit the same however long the thread gets. A pass that broke off is made up for: until one is
    done, `tidied` stays where it was.
    """
    if not row.floor:
        return False
    last = row.floor > floor and (row.status.ended or row.floor == row.head)
    return last or _passed(row.tidied, row.seq) or _passed(floor, row.floor)


def _passed(before: int, after: int) -> bool:
    grain = max(512, 1 << max(0, after.bit_length() - 4))
    return before // grain != after // grain
