"""What makes up a channel's value: rows of several segments, left where they lie.

A state of many megabytes is copied once less if its rows stay in the segments that were read, and those stay in memory
for their sake. They do only where they are most of what these hold; all others get bytes of their own.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, pairwise
from typing import NamedTuple

from .columns import ROW_SIZE, Columns, LazyRows, Rows, Texts, columns_of, listed
from .deltas import Portion
from .segments import Kind, Row

_WORTH = 1 << 15
"""Bytes of payload from which a segment may be kept in memory for a part of it."""

_SAMPLE = 32
"""Rows from which the size of all is told."""
_PORTION = 1 << 16
"""Bytes of payload that are decoded at a time: they stay in the processor's cache, and the objects that are made for
them are gone before Python counts them as ones that stay."""


class Strand(NamedTuple):
    """Some of the rows of a segment, oldest first, each of which changes what the one before it left."""

    columns: Columns
    places: Sequence[int]

    @property
    def base(self) -> int:
        """The version that the oldest changes; 0 where it stands alone."""
        first = self.places[0]
        return self.columns.prevs[first] if self.columns.kinds[first] == Kind.DELTA else 0

    @property
    def last(self) -> int:
        """The version that it makes up."""
        return self.columns.versions[self.places[-1]]

    @property
    def size(self) -> int:
        """Bytes of its payloads, about: by a sample of its rows."""
        ends, count = self.columns.ends, len(self.places)
        some = self.places[:: max(1, count // _SAMPLE)]
        return sum(ends[place + 1] - ends[place] for place in some) * count // len(some)

    def lengths(self) -> Iterator[int]:
        """Of each row's payload."""
        ends = listed(self.columns.ends)
        if len(self.places) == self.columns.length:
            return (end - start for start, end in pairwise(ends))
        return (ends[place + 1] - ends[place] for place in self.places)

    def payloads(self, places: Iterable[int]) -> list[memoryview]:
        """Those of some of the rows, on the segment's bytes."""
        data, ends = memoryview(self.columns.payload), self.columns.ends
        return [data[ends[place] : ends[place + 1]] for place in places]

    def portions(self, start: int = 0) -> Iterator[Portion]:
        """Encodings and payloads from the row at `start` on, of a few rows at a time."""
        count = len(self.places)
        many = max(1, count * _PORTION // max(self.size, 1))
        for first in range(start, count, many):
            places = self.places[first : first + many]
            yield bytes(map(self.columns.encodings.__getitem__, places)), self.payloads(places)

    def upto(self, version: int) -> Strand | None:
        """The part that makes up an older version; None where that is not among them."""
        versions = list(map(self.columns.versions.__getitem__, self.places))
        count = bisect_right(versions, version)
        if not count or versions[count - 1] != version:
            return None
        return Strand(self.columns, self.places[:count])


def strand_of(rows: Sequence[Row], channel: str, version: int) -> Strand | None:
    """What makes up a channel at a version as far as the rows of a segment go; None where that version is not here."""
    held = rows if isinstance(rows, Rows) else Rows(columns_of(rows))
    places = held.places(channel)
    linked = held.columns.linked(places, version) if places is not None else None
    return Strand(held.columns, linked) if linked is not None else None


class Chain(LazyRows):
    """The rows that make up one version of a channel, or its end."""

    __slots__ = ("_ends", "strands")

    def __init__(self, strands: Sequence[Strand]) -> None:
        """`strands`: oldest first."""
        super().__init__()
        self.strands = tuple(strands)
        self._ends = list(accumulate(len(strand.places) for strand in self.strands))

    @property
    def size(self) -> int:
        return sum(len(strand.columns.payload) + ROW_SIZE * len(strand.places) for strand in self.strands)

    @property
    def base(self) -> int:
        """The version that the oldest row changes; 0 where it stands alone."""
        return self.strands[0].base

    def lengths(self) -> Iterator[int]:
        """Of each row's payload."""
        return chain.from_iterable(strand.lengths() for strand in self.strands)

    def portions(self, start: int = 0) -> Iterator[Portion]:
        """Encodings and payloads, oldest first, of a few rows at a time; `start` 1 leaves the first out."""
        for number, strand in enumerate(self.strands):
            yield from strand.portions(0 if number else start)

    def upto(self, version: int) -> Chain | None:
        """The rows that make up an older version; None where that is not among them."""
        place = bisect_left(self.strands, version, key=_last)
        part = self.strands[place].upto(version) if place < len(self.strands) else None
        return Chain((*self.strands[:place], part)) if part is not None else None

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _make(self) -> tuple[Row, ...]:
        return joined(self.strands).rows()

    def _row(self, index: int) -> Row:
        number = bisect_right(self._ends, index)
        strand, before = self.strands[number], self._ends[number - 1] if number else 0
        return strand.columns.row(strand.places[index - before])


def chain_of(rows: Sequence[Row]) -> Chain:
    """A channel's rows as a chain."""
    if isinstance(rows, Chain):
        return rows
    columns = columns_of(rows)
    return Chain((Strand(columns, range(columns.length)),) if columns.length else ())


def settled(strands: Iterable[Strand]) -> Chain:
    """A chain of strands, oldest first, that may be kept: those that are little of their segments have bytes of their
    own."""
    kept: list[Strand] = []
    small: list[Strand] = []
    for strand in strands:
        size = strand.size
        if size >= _WORTH and size * 2 >= len(strand.columns.payload):
            kept += _copied(small)
            small = []
            kept.append(strand)
        else:
            small.append(strand)
    return Chain((*kept, *_copied(small)))


def _copied(strands: Sequence[Strand]) -> Iterator[Strand]:
    if strands:
        columns = joined(strands)
        yield Strand(columns, range(columns.length))


def joined(strands: Iterable[Strand]) -> Columns:
    """All rows of the strands, in bytes of their own."""
    kinds, encodings, pieces = bytearray(), bytearray(), list[memoryview]()
    lengths: list[int] = []
    numbers: tuple[list[int], list[int], list[int]] = ([], [], [])
    texts: tuple[list[str], list[str], list[str]] = ([], [], [])
    thread = ""
    for strand in strands:
        columns, places = strand
        thread = columns.thread
        lengths.extend(strand.lengths())
        if len(places) == columns.length:  # all of them: no need to look at each
            kinds += columns.kinds
            encodings += columns.encodings
            pieces.append(memoryview(columns.payload)[columns.ends[0] : columns.ends[-1]])
            for longs, column in zip(numbers, (columns.checkpoints, columns.versions, columns.prevs), strict=True):
                longs.extend(column)
            for items, each in zip(texts, (columns.channels, columns.writers, columns.namespaces), strict=True):
                items.extend(each.all())
            continue
        kinds += bytes(map(columns.kinds.__getitem__, places))
        encodings += bytes(map(columns.encodings.__getitem__, places))
        pieces += strand.payloads(places)
        for longs, column in zip(numbers, (columns.checkpoints, columns.versions, columns.prevs), strict=True):
            longs.extend(map(column.__getitem__, places))
        for items, each in zip(texts, (columns.channels, columns.writers, columns.namespaces), strict=True):
            items.extend(each.picked(places) if not each.empty else [""] * len(places))
    checkpoints, versions, prevs = numbers
    channels, writers, namespaces = map(Texts.of, texts)
    ends = [0, *accumulate(lengths)]
    fields = (thread, len(kinds), bytes(kinds), checkpoints, channels, versions, prevs, writers, bytes(encodings))
    return Columns(*fields, ends, b"".join(pieces), namespaces)


def _last(strand: Strand) -> int:
    return strand.last
