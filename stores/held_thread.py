"""A thread of the target while it is copied in: what it has, whether that is the source's, and how more is added.

Others may add to it at the same time, or delete it. So each piece says what it goes on from, and is written only there:
whoever is overtaken looks anew. Nobody leaves a gap, and nobody puts two threads together into one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .base import CheckpointStore
from .errors import ThreadExists, UnknownThread
from .fetching import cut
from .operations import ABSENT, EMPTY, Reached, ThreadImage
from .records import LOADING, Origin, Segment, ThreadRecord
from .transitions import first_of


class Overtaken(Exception):
    """Somebody else has added to the thread, or deleted it, since it was looked at. Nothing was written."""


class Kept(Protocol):
    """What is asked of a source here."""

    fixed: bool
    """Whether its segments stay as they are; those of a store that runs are put together and dropped."""

    def segments(
        self, thread_id: str, *, first: int = 1, last: int | None = None, limit: int | None = None
    ) -> Sequence[Segment]:
        """See `CheckpointStore.segments`."""
        ...


@dataclass(slots=True)
class HeldThread:
    """As it was when it was looked at, and with what was added since."""

    target: CheckpointStore
    origin: Origin | None
    """The one that it has in the target."""
    own: int
    """Up to which commit it has its own."""
    newest: Reached
    """Of all of its segments."""
    below: Reached
    """Of those with what it had of an origin that was deleted from the source since."""

    @classmethod
    def of(cls, target: CheckpointStore, source: Kept, row: ThreadRecord) -> HeldThread:
        """What the target has of the source's thread, whose row is `row`. Raises `ThreadExists` where that is another
        thread, or one that is not held."""
        first = first_of(row)
        try:
            present = target.thread(row.thread_id)
        except UnknownThread:
            return cls(target, row.origin, first - 1, ABSENT, ABSENT)
        if present.driver != LOADING or present.created_at != row.created_at or first_of(present) < first:
            raise ThreadExists(row.thread_id)
        inherited = first_of(present) - 1
        below = target.segments(row.thread_id, last=inherited, limit=1) if present.origin != row.origin else []
        mine = target.segments(row.thread_id, first=inherited + 1, limit=1)
        if mine and not _is_of(mine[0], source, row):
            raise ThreadExists(row.thread_id)
        newest = mine or below
        return cls(
            target,
            present.origin,
            mine[0].last if mine else inherited,
            _reached(newest[0]) if newest else EMPTY,
            _reached(below[0]) if below else EMPTY,
        )

    @property
    def inherited(self) -> tuple[int, int]:
        """After which commit, and up to which, it lacks what it had of its origin, if that is not its origin any
        more."""
        return max(self.below.last, 0), self.origin.seq if self.origin is not None else 0

    def add_below(self, image: ThreadImage, segments: Sequence[Segment]) -> None:
        """Add to what it had of its origin. Raises `Overtaken`."""
        self._load(image, segments, self.below)
        self.below = _reached(segments[-1])
        if self.newest.last < self.below.last:
            self.newest = self.below

    def add(self, image: ThreadImage, segments: Sequence[Segment], *, complete: bool = False) -> None:
        """Add to its own, and replace the rest of it; `complete` lets it go. Raises `Overtaken`, and what `load`
        does."""
        self._load(image, segments, self.newest, complete=complete)
        self.newest = _reached(segments[-1]) if segments else self.newest

    def _load(self, image: ThreadImage, segments: Sequence[Segment], after: Reached, *, complete: bool = False) -> None:
        if not self.target.load(image, segments, after=after, complete=complete):
            raise Overtaken


def _reached(segment: Segment) -> Reached:
    return Reached(segment.last, segment.commit_id)


def _is_of(mine: Segment, source: Kept, row: ThreadRecord) -> bool:
    """Whether a segment is one of the source's thread: a thread with the same beginning may have gone on by itself
    elsewhere, and then has other commits under the same numbers."""
    theirs = source.segments(row.thread_id, first=mine.last, last=mine.last, limit=1)
    if not theirs:
        return not source.fixed and mine.last < row.floor  # or retention has dropped it
    if theirs[0].last == mine.last or source.fixed:
        return _reached(theirs[0]) == _reached(mine)
    # It was put together with newer ones since, whose id the whole has; of its rows some may have been dropped.
    rows = frozenset(mine.rows)
    return mine.last <= row.seq and all(one in rows for one in cut(theirs[0], mine.first, mine.last).rows)
