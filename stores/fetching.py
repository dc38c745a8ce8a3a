"""How many segments to fetch at a time: bounded in number and in bytes, so that no history is too large to be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from .base import CheckpointStore
from .columns import size_of
from .records import Segment

_FEWEST, _MOST = 4, 512
_BYTES = 4 << 20
"""What one fetch should hold, as far as the one before it lets it be foreseen."""


def cut(segment: Segment, first: int, last: int) -> Segment:
    """What of a segment belongs to commits `first..last`."""
    if first <= segment.first and segment.last <= last:
        return segment
    rows = tuple(row for row in segment.rows if first <= row.checkpoint <= last)
    return replace(segment, first=max(segment.first, first), last=min(segment.last, last), rows=rows)


class Width:
    """The number of segments to ask for next."""

    __slots__ = ("count", "most")

    def __init__(self, most: int = _MOST, first: int = _FEWEST) -> None:
        self.most = most
        self.count = min(first, most)

    def learn(self, found: Sequence[Segment], *, useful: bool = True) -> None:
        """Note what was found. Where it was of use more is asked for, up to so many bytes; where not, less."""
        if not found:
            return
        average = max(sum(size_of(segment.rows) for segment in found) // len(found), 1)
        wanted = self.count * 4 if useful else self.count // 4
        self.count = max(1, min(max(wanted, _FEWEST), self.most, _BYTES // average))


def pages(
    store: CheckpointStore, thread_id: str, last: int, *, first: int = 1, most: int = _MOST, few: bool = False
) -> Iterator[list[Segment]]:
    """A thread's segments that overlap commits `first..last`, newest first, fetched as they are asked for, at most
    `most` at a time. `few`: the first one may well be enough."""
    width = Width(most, 1 if few else _FEWEST)
    while last >= first:
        found = store.segments(thread_id, first=first, last=last, limit=width.count)
        yield found
        if len(found) < width.count:
            return
        last = found[-1].first - 1
        width.learn(found)


def newest_first(
    store: CheckpointStore, thread_id: str, last: int, *, first: int = 1, most: int = _MOST
) -> Iterator[Segment]:
    """The segments of `pages`, one by one."""
    for page in pages(store, thread_id, last, first=first, most=most):
        yield from page
