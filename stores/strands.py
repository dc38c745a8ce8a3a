"""What makes up a channel's value: rows of several segments, left where they lie.

A state of many megabytes is copied once less if its rows stay in the segments that were read, and those stay in memory
for their sake. They do only where they are most of what these hold; all others get bytes of their own.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, pairwise
from operator import sub
from typing import NamedTuple

from .columns import ROW_SIZE, Columns, LazyRows, Rows, Texts, columns_of, picked
from .deltas import Portion
from .segments import Kind, Row

_WORTH = 1 << 15
"""Bytes of payload from which a segment may be kept in memory for a part of it."""

_PORTION = 1 << 16
"""Bytes of payload that are decoded at a time: they stay in the processor's cache, and the objects that are made for
them are gone before Python counts them as ones that stay."""


class Oldest(NamedTuple):
    """The oldest row of a chain, as far as it is looked at before all others."""

    kind: int
    encoding: int
    payload: memoryview


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
    def spread(self) -> bool:
        """Whether its segment holds so much else that it is not worth keeping for it."""
        return len(self.places) * 4 < self.columns.length or sum(self.lengths()) * 2 < len(self.columns.payload)

    @property
    def oldest(self) -> Oldest:
        """The first of them, with its payload where it lies."""
        columns, first = self.columns, self.places[0]
        payload = memoryview(columns.payload)[columns.ends[first] : columns.ends[first + 1]]
        return Oldest(columns.kinds[first], columns.encodings[first], payload)

    def lengths(self) -> Iterator[int]:
        """Of each row's payload."""
        columns, places = self.columns, self.places
        if len(places) == columns.length:
            return (end - start for start, end in pairwise(columns.ends))
        starts = picked(columns.ends, places)
        return map(sub, picked(columns.ends, [place + 1 for place in places]), starts)

    def payloads(self, places: Iterable[int]) -> list[memoryview]:
        """Those of some of the rows, on the segment's bytes."""
        data, ends = memoryview(self.columns.payload), self.columns.ends
        return [data[ends[place] : ends[place + 1]] for place in places]

    def portions(self, start: int = 0) -> Iterator[Portion]:
        """Encodings and payloads from the row at `start` on, of a few rows at a time."""
        data, ends, encodings = memoryview(self.columns.payload), self.columns.ends, self.columns.encodings
        payloads: list[memoryview] = []
        first, size = start, 0
        for number in range(start, len(self.places)):
            place = self.places[number]
            begin, end = ends[place], ends[place + 1]
            payloads.append(data[begin:end])
            size += end - begin
            if size >= _PORTION or number + 1 == len(self.places):
                yield bytes(map(encodings.__getitem__, self.places[first : number + 1])), payloads
                payloads, first, size = [], number + 1, 0

    def upto(self, version: int) -> Strand | None:
        """The part that makes up an older version; None where that is not among them."""
        versions = picked(self.columns.versions, self.places)
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
        # All of the segments that stay in memory for it, also what they hold besides.
        return sum(len(strand.columns.payload) + ROW_SIZE * strand.columns.length for strand in self.strands)

    @property
    def base(self) -> int:
        """The version that the oldest row changes; 0 where it stands alone."""
        return self.strands[0].base

    @property
    def oldest(self) -> Oldest:
        """The oldest row."""
        return self.strands[0].oldest

    @property
    def last(self) -> int:
        """The version that it makes up."""
        return self.strands[-1].last

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
        if len(strand.columns.payload) >= _WORTH and not strand.spread:
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
