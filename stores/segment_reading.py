"""What is found in segments that were read: pure, but for what is put into `known`, for the next who asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from .chains import take
from .columns import Columns, Rows, Strand, columns_of, joined
from .lineage import KnownRows
from .records import Segment
from .segments import VALUES, Kind, Row

FEWEST, AFTER = 32, 4
"""Commits that are looked at first for checkpoints, and after a checkpoint for what belongs to its tasks."""

COMMIT: Final = ""
"""Stands for a channel in the key of what a commit holds besides values (`tells`)."""


def tells(row: Row) -> bool:
    """Whether a row says something of a checkpoint or of its tasks."""
    return row.kind not in VALUES and row.kind != Kind.WRITE


def portions(found: Iterable[Sequence[Segment]], last: int) -> Iterator[tuple[Segment, int, int]]:
    """Commits of segments (newest first) up to `last`, few at first: a segment may hold thousands, of which somebody
    wants twenty. Those that `pending` asks for of the newest are among them."""
    count = FEWEST
    for page in found:
        for segment in page:
            high = min(segment.last, last + AFTER)
            while high >= segment.first:
                low = max(segment.first, high - count + 1)
                yield segment, low, high
                high, count = low - 1, count * 4


def follows(row: Row, seq: int, floor: int) -> bool:
    """Whether a row shows that there was a later checkpoint than `seq`. Of those below the floor the values may be all
    that is left."""
    if row.checkpoint <= seq:
        return False
    return row.kind == Kind.CHECKPOINT or (row.checkpoint < floor and row.kind in VALUES)


def rows_of(segments: Iterable[Segment]) -> Iterator[Row]:
    return (row for segment in segments for row in segment.rows)


def learn(segments: Sequence[Segment], first: int, last: int, known: KnownRows | None) -> dict[int, list[Row]]:
    """What those of the commits `first..last` tell that are in these segments. It is put into `known`. (Nothing is
    known of commits to come.)"""
    told: dict[int, list[Row]] = {}
    for segment in segments:
        own = range(max(first, segment.first), min(last, segment.last) + 1)
        told.update((seq, []) for seq in own)
        columns = columns_of(segment.rows) if own else _NOTHING
        for place in columns.telling(own):
            told[columns.checkpoints[place]].append(columns.row(place))
    if known is not None:
        for seq, rows in told.items():
            known.put((COMMIT, seq), rows)
    return told


def follow(
    segments: Sequence[Segment], needed: dict[str, int], chains: dict[str, list[Columns]], known: KnownRows | None
) -> int:
    """Take every needed row that is in the segments (newest first) and what it leads to; how often one was of use. What
    is taken is put into `known`."""
    used = 0
    for channel, version in list(needed.items()):
        strands: list[Strand] = []
        at = version
        for segment in segments:
            if segment.last < at:
                break
            if at < segment.first:
                continue
            rows = segment.rows if isinstance(segment.rows, Rows) else Rows(columns_of(segment.rows))
            strand = rows.strand(channel, at)
            if strand is None:
                break
            strands.append(strand)
            at = strand.base
        if strands:
            columns = joined(reversed(strands))
            if known is not None:
                known.put((channel, version), Rows(columns))
            take(channel, columns, needed, chains)
            used += len(strands)
    return used


_NOTHING: Final = columns_of(())
