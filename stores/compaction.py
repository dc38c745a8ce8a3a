"""Which segments are put together into one. Pure.

Like the merges of a log-structured tree, from the newest segment to the oldest: an older one is taken in only if the
newer ones together have grown to its size. So a row moves into a segment of at least twice the size each time, and is
rewritten O(log n) times, not with every pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .columns import size_of
from .records import Segment
from .segments import Row

TARGET_BYTES = 1 << 20
"""Bytes of rows that a segment of several commits may hold."""
TARGET_ROWS = 2048
MOST_SEGMENTS = 512
"""Segments that one transaction may replace."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One transaction's worth of segments, and what takes their place."""

    old: tuple[Segment, ...]
    """In order of `first`."""
    new: tuple[Segment, ...]
    dropped: int
    """Rows that are gone."""
    size: int
    """Bytes of the new rows."""


@dataclass(slots=True)
class _Piece:
    segment: Segment
    rows: Sequence[Row]
    size: int


class Packer:
    """Groups the segments of one thread. They are added from the newest to the oldest."""

    def __init__(self) -> None:
        self._pieces: list[_Piece] = []
        self._size = self._rows = 0

    @property
    def settled(self) -> bool:
        """Whether what was added last was too large to be put to the newer ones."""
        return len(self._pieces) == 1

    def add(self, segment: Segment, rows: Sequence[Row]) -> Batch | None:
        """Take the next older segment, of which `rows` stay. Returns the batch before it, if that is complete."""
        piece = _Piece(segment, rows, size_of(rows))
        batch = None if self._takes(piece) else self.flush()
        self._pieces.append(piece)
        self._size += piece.size
        self._rows += len(rows)
        return batch

    def flush(self) -> Batch | None:
        """The batch of what was added since the last; None where nothing would change."""
        pieces, size = self._pieces[::-1], self._size
        self._pieces, self._size, self._rows = [], 0, 0
        dropped = sum(len(piece.segment.rows) - len(piece.rows) for piece in pieces)
        if not dropped and len(pieces) < 2:
            return None
        old = tuple(piece.segment for piece in pieces)
        rows = tuple(row for piece in pieces for row in piece.rows)
        # Commits of which nothing is left leave a gap; those that never had rows are kept, as all is from the floor on.
        gone = not rows and dropped
        new = () if gone else (_merged(old, rows),)
        return Batch(old, new, dropped, size)

    def _takes(self, piece: _Piece) -> bool:
        if not self._pieces:
            return True
        fits = self._size + piece.size <= TARGET_BYTES and self._rows + len(piece.rows) <= TARGET_ROWS
        return fits and len(self._pieces) < MOST_SEGMENTS and piece.size <= self._size


def _merged(old: Sequence[Segment], rows: tuple[Row, ...]) -> Segment:
    newest = old[-1]
    return Segment(
        thread_id=newest.thread_id,
        first=old[0].first,
        last=newest.last,
        epoch=newest.epoch,
        commit_id=newest.commit_id,
        rows=rows,
    )
