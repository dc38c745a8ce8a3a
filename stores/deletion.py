"""Deletes a thread of which there are forks: what they still need of it is copied first.

Each fork gets the commits that it inherits from the thread, from the newest to the oldest, in small transactions that
no reader sees anything of; one more makes them its own, and its origin that of the deleted thread. When no fork is left
the thread goes. So whoever breaks off leaves every history whole, and a repetition goes on where it was left; several
at once do not harm each other, nor does a fork that runs, or is made, meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .base import CheckpointStore
from .columns import size_of
from .errors import StoreUnavailable, ThreadReferenced, UnknownThread
from .fetching import cut, newest_first
from .history import PENDING
from .operations import Fork
from .records import LOADING, Segment, ThreadRecord
from .replays import replaying

_ROUNDS = 20
"""How often it is begun again because somebody else was faster."""
_SEGMENTS = 64
_BYTES = 4 << 20
"""What one transaction should write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What one transaction did."""

    written: int = 0
    """Bytes of the rows that it gave to a fork."""
    forks: int = 0
    """Forks that need the thread no more."""
    deleted: int = 0
    """Threads deleted."""


def delete_thread(store: CheckpointStore, thread_id: str, seen: ThreadRecord | None = None) -> None:
    """Delete a thread that has ended or is parked, with all it has, after its forks took over what they inherit of it.
    Deleting what is not there does nothing. `seen`: its row when that was decided.

    May be broken off and repeated. Raises `Refused` while the thread is runnable, or is not as it was seen;
    `ThreadReferenced` where a part of it cannot be cut off: a re-run that replays it and has not ended, a fork that is
    being copied in, or a thread that refers to its beginning and so belongs to it; `StoreUnavailable`; `Corrupt`,
    `NewerFormat` where its history does not decode.
    """
    for _ in deletion(store, thread_id, seen):
        continue


def deletion(store: CheckpointStore, thread_id: str, seen: ThreadRecord | None = None) -> Iterator[Handover]:
    """`delete_thread` step by step: yields after each transaction, and may be left there. With `seen`, the thread's row
    when that was decided, it also raises `Refused` if the thread is not as it was."""
    for _ in range(_ROUNDS):
        try:
            store.delete(thread_id, seen=seen)
        except ThreadReferenced:
            if reruns := replaying(store, thread_id):
                # Of what tasks recorded a fork takes over nothing.
                raise ThreadReferenced(thread_id, tuple(reruns), replay=True) from None
            for fork in store.forks(thread_id):
                yield from _hand_over(store, thread_id, fork)
        else:
            yield Handover(deleted=1)
            return
    raise StoreUnavailable(f"thread {thread_id!r} is being forked again and again; delete it when that is over")


def _hand_over(store: CheckpointStore, thread_id: str, fork: Fork) -> Iterator[Handover]:
    """Give one fork all that it has of the thread."""
    for _ in range(_ROUNDS):
        try:
            row, origin = store.thread(fork.thread_id), store.thread(thread_id)
            if row.origin is None or row.origin.thread_id != thread_id:
                return
            if LOADING in (row.driver, origin.driver) or row.origin.seq == 0:
                raise ThreadReferenced(thread_id, (fork.thread_id,))
            for batch in _missing(store, row, row.origin.seq, origin):
                if not store.graft(row, batch):
                    break  # somebody else does the same, or has done it
                yield Handover(written=sum(size_of(segment.rows) for segment in batch))
            else:
                # What retention drops it hides first: the row that is read now tells of all that was dropped before
                # it could be copied. If the thread has more commits than before, as it took over its own origin's,
                # these are still to be copied.
                now = store.thread(thread_id)
                if now.origin == origin.origin and store.adopt(row, now):
                    yield Handover(forks=1)
                    return
        except UnknownThread:
            return  # one of the two has been deleted
    raise StoreUnavailable(
        f"thread {fork.thread_id!r} could not take over what it has of thread {thread_id!r}: others changed the one or "
        "the other all the time; try again"
    )


def _missing(store: CheckpointStore, row: ThreadRecord, last: int, origin: ThreadRecord) -> Iterator[Sequence[Segment]]:
    """What a fork does not have yet of its origin's commits up to `last`, as segments of its own, from the newest to
    the oldest in batches, each in order of `first`."""
    first = origin.origin.seq + 1 if origin.origin is not None else 1
    low = _lowest(store, row.thread_id, last)
    batch: list[Segment] = []
    size = 0
    for segment in newest_first(store, origin.thread_id, low - 1, first=first):
        # Housekeeping may have put it together with newer ones, which the fork has already.
        part = cut(segment, first, low - 1)
        low = part.first
        rows = tuple(one for one in part.rows if one.kind not in PENDING)
        batch.append(replace(part, thread_id=row.thread_id, rows=rows))
        size += size_of(rows)
        if len(batch) == _SEGMENTS or size >= _BYTES:
            yield batch[::-1]
            batch, size = [], 0
    if batch:
        yield batch[::-1]


def _lowest(store: CheckpointStore, thread_id: str, last: int) -> int:
    """From which commit on to `last` a fork has what it inherits, as far as somebody came who broke off."""
    low, high = 1, last + 1
    middle = last
    while low < high:
        # Most often there is nothing: that takes one look.
        found = store.segments(thread_id, last=middle, limit=1)
        if found:
            high = found[0].first
        else:
            low = middle + 1
        middle = (low + high) // 2
    return high
