"""What is found in segments that were read: pure, but for what is put into `known`, for the next who asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from .columns import columns_of
from .errors import Corrupt
from .lineage import KnownRows
from .records import Segment
from .segments import VALUES, Kind, Row
from .strands import Chain, Strand, chain_of, settled, strand_of

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


class Tracing:
    """Follows channels from the versions that are asked for down to whole values, through rows that are known and
    segments that are read, newest first."""

    def __init__(self, versions: Mapping[str, int]) -> None:
        self.needed = {channel: version for channel, version in versions.items() if version > 0}
        """The versions that are looked for next."""
        self._found: dict[str, list[Chain]] = {channel: [] for channel in versions}
        """Newest first."""
        self._fresh: dict[str, list[Strand]] = {}
        """What was read since, newest first."""
        self._since: dict[str, int] = {}
        """The versions that it makes up."""

    def follow(self, segments: Sequence[Segment]) -> int:
        """Take every needed row that is in the segments (newest first) and what it leads to; how often one was of
        use."""
        used = 0
        for channel, version in list(self.needed.items()):
            strands: list[Strand] = []
            at = version
            for segment in segments:
                if segment.last < at:
                    break
                if at < segment.first:
                    continue
                strand = strand_of(segment.rows, channel, at)
                if strand is None:
                    break
                strands.append(strand)
                at = strand.base
            if strands:
                self._since.setdefault(channel, version)
                self._fresh.setdefault(channel, []).extend(strands)
                self._go_on(channel, at)
                used += len(strands)
        return used

    def take(self, known: KnownRows) -> int:
        """Take what is known of what is needed; how much that was."""
        taken = 0
        for channel in list(self.needed):
            while channel in self.needed and (rows := known.get((channel, self.needed[channel]))):
                self._settle(channel, known)
                found = chain_of(rows)
                self._found[channel].append(found)
                self._go_on(channel, found.base)
                taken += 1
        return taken

    def settle(self, known: KnownRows | None) -> None:
        """Put what was read since the last call into `known`."""
        for channel in list(self._fresh):
            self._settle(channel, known)

    def rows(self) -> dict[str, Sequence[Row]]:
        """What each channel is made of. Everything has to be settled."""
        return {channel: _one(parts) for channel, parts in self._found.items()}

    def _settle(self, channel: str, known: KnownRows | None) -> None:
        strands = self._fresh.pop(channel, None)
        if strands:
            found = settled(reversed(strands))
            self._found[channel].append(found)
            version = self._since.pop(channel)
            if known is not None:
                known.put((channel, version), found)

    def _go_on(self, channel: str, base: int) -> None:
        """Whole values end a channel. Raises `Corrupt` for a link that leads nowhere."""
        if base >= self.needed[channel]:
            raise Corrupt(f"a stored delta of channel {channel!r} says that it changes version {base}, a later one")
        if base:
            self.needed[channel] = base
        else:
            del self.needed[channel]


def _one(parts: Sequence[Chain]) -> Chain:
    """One chain of several, of which the newest is the first."""
    return parts[0] if len(parts) == 1 else Chain([strand for part in reversed(parts) for strand in part.strands])


_NOTHING: Final = columns_of(())
