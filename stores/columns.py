"""The rows of a segment as the columns that they are kept in.

A state is made of a few columns of very many rows: to read one, a Python object for each row is made only where
somebody looks at the rows themselves.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, compress, pairwise, repeat
from typing import Any, NamedTuple, overload

from .segments import VALUES, Kind, Row

_ROW = 64
"""What a row counts beside its payload."""
_HOLDS = bytes(kind in VALUES for kind in range(256))
"""Tells the kinds of rows apart that a channel's value is made of (`bytes.translate`)."""

_TELLS = bytes(kind not in VALUES and kind != Kind.WRITE for kind in range(256))


class Texts:
    """A column of texts."""

    __slots__ = ("_ends", "_items", "_text")

    def __init__(self, ends: Sequence[int], data: memoryview | bytes) -> None:
        """`ends`: where each begins, and the last one's end. Raises `ValueError`."""
        text = str(data, "utf-8")
        self._text, self._ends = text, ends
        self._items: list[str] | None = None
        if len(text) != len(data):  # only of ASCII is true of the characters what is true of the bytes
            self._items = [str(data[start:end], "utf-8") for start, end in pairwise(ends)]

    def __getitem__(self, index: int) -> str:
        if self._items is not None:
            return self._items[index]
        return self._text[self._ends[index] : self._ends[index + 1]]

    def all(self) -> list[str]:
        """Every row's."""
        if self._items is not None:
            return self._items
        if not self._text:
            return [""] * (len(self._ends) - 1)
        text = self._text
        return [text[start:end] for start, end in pairwise(self._ends)]

    @property
    def empty(self) -> bool:
        """Whether no row has any."""
        return not self._text

    @classmethod
    def of(cls, items: Sequence[str]) -> Texts:
        """These."""
        texts = cls((0,) * (len(items) + 1), b"")
        texts._text = "".join(items)
        if texts._text:
            texts._items = list(items)
        return texts

    def picked(self, places: Iterable[int]) -> list[str]:
        """Those of some rows."""
        if self._items is not None:
            return [self._items[place] for place in places]
        text, ends = self._text, self._ends
        return [text[ends[place] : ends[place + 1]] for place in places]


class Columns(NamedTuple):
    """So many rows. What is checked of them: that every column has as many, and that texts are texts."""

    thread: str
    length: int
    kinds: bytes
    checkpoints: Sequence[int]
    channels: Texts
    versions: Sequence[int]
    prevs: Sequence[int]
    writers: Texts
    encodings: bytes
    ends: Sequence[int]
    """Where each payload begins in `payload`, and the end of the last."""
    payload: bytes | memoryview
    namespaces: Texts

    def row(self, index: int) -> Row:
        """One of them."""
        return Row(
            self.kinds[index],
            self.checkpoints[index],
            self.channels[index],
            self.versions[index],
            self.prevs[index],
            self.writers[index],
            self.encodings[index],
            bytes(self.payload[self.ends[index] : self.ends[index + 1]]),
            self.namespaces[index],
        )

    def rows(self) -> tuple[Row, ...]:
        """All of them."""
        payload = bytes(self.payload)
        columns: Iterator[Any] = zip(
            self.kinds,
            self.checkpoints,
            self.channels.all(),
            self.versions,
            self.prevs,
            self.writers.all(),
            self.encodings,
            [payload[start:end] for start, end in pairwise(self.ends)],
            self.namespaces.all(),
            strict=True,
        )
        return tuple(map(Row._make, columns))

    def upto(self, count: int) -> Columns:
        """The first so many of them, on the same bytes."""
        ends = self.ends[: count + 1]
        first = range(count)
        return Columns(
            self.thread,
            count,
            self.kinds[:count],
            self.checkpoints[:count],
            Texts.of(self.channels.picked(first)),
            self.versions[:count],
            self.prevs[:count],
            Texts.of(self.writers.picked(first)),
            self.encodings[:count],
            ends,
            memoryview(self.payload)[: ends[-1]],
            Texts.of(self.namespaces.picked(first)),
        )

    def payloads(self) -> list[memoryview]:
        """Each row's, on the same bytes."""
        data = memoryview(self.payload)
        return [data[start:end] for start, end in pairwise(self.ends)]

    def telling(self, commits: range) -> list[int]:
        """Where the rows are that tell something of some commits' checkpoints or tasks."""
        places = compress(range(self.length), self.kinds.translate(_TELLS))
        return [place for place in places if self.checkpoints[place] in commits]

    def values(self) -> dict[str, list[int]]:
        """By channel: where the rows are that its value in the root graph is made of."""
        places = list(compress(range(self.length), self.kinds.translate(_HOLDS)))
        if not self.namespaces.empty:
            places = [place for place in places if not self.namespaces[place]]
        found: dict[str, list[int]] = {}
        for place, name in zip(places, self.channels.picked(places), strict=True):
            if name in found:
                found[name].append(place)
            else:
                found[name] = [place]
        return found

    def linked(self, places: Sequence[int], version: int) -> Strand | None:
        """Of the rows of one channel, all that are here, those that make up a version as far as they go. Several
        writers of one step leave a delta each; a whole value in the same version takes the place of those before it.
        None where that version is not here."""
        versions = list(map(self.versions.__getitem__, places))
        last = bisect_right(versions, version)
        if not last or versions[last - 1] != version:
            return None
        places = places[:last]
        del versions[last:]
        prevs = list(map(self.prevs.__getitem__, places))
        # A list that grew, most often: each row changes what the one before it left.
        simple = prevs[1:] == versions[:-1] and prevs[0] < versions[0]
        if not simple or set(map(self.kinds.__getitem__, places)) != {Kind.DELTA}:
            places = self._linked(places, versions, prevs)
        return Strand(self, places)

    def _linked(self, places: Sequence[int], versions: Sequence[int], prevs: Sequence[int]) -> list[int]:
        """Those of the places that lead from one to the other, back from the last one."""
        found: list[int] = []
        at = len(places) - 1
        while at >= 0:
            version = versions[at]
            while at >= 0 and versions[at] == version:
                found.append(places[at])
                if self.kinds[places[at]] != Kind.DELTA:
                    return found[::-1]
                at -= 1
            base = prevs[at + 1]
            at = bisect_right(versions, base) - 1
            if at < 0 or versions[at] != base:
                break
        return found[::-1]


class Strand(NamedTuple):
    """Some of the rows of a segment, oldest first, each of which changes what the one before it left."""

    columns: Columns
    places: Sequence[int]

    @property
    def base(self) -> int:
        """The version that the oldest changes; 0 where it stands alone."""
        first = self.places[0]
        return self.columns.prevs[first] if self.columns.kinds[first] == Kind.DELTA else 0


def joined(strands: Iterable[Strand]) -> Columns:
    """All rows of the strands, in bytes of their own: what else their segments hold need not be kept for their sake."""
    kinds, encodings, pieces = bytearray(), bytearray(), list[memoryview]()
    lengths: list[int] = []
    numbers: tuple[list[int], list[int], list[int]] = ([], [], [])
    texts: tuple[list[str], list[str], list[str]] = ([], [], [])
    thread = ""
    for columns, places in strands:
        thread, data, ends = columns.thread, memoryview(columns.payload), columns.ends
        if len(places) == columns.length:  # all of them: no need to look at each
            kinds += columns.kinds
            encodings += columns.encodings
            pieces.append(data[ends[0] : ends[-1]])
            lengths.extend(end - start for start, end in pairwise(ends))
            for longs, column in zip(numbers, (columns.checkpoints, columns.versions, columns.prevs), strict=True):
                longs.extend(column)
            for items, each in zip(texts, (columns.channels, columns.writers, columns.namespaces), strict=True):
                items.extend(each.all())
            continue
        kinds += bytes(map(columns.kinds.__getitem__, places))
        encodings += bytes(map(columns.encodings.__getitem__, places))
        pieces += [data[ends[place] : ends[place + 1]] for place in places]
        lengths.extend(map(len, pieces[-len(places) :]))
        for longs, column in zip(numbers, (columns.checkpoints, columns.versions, columns.prevs), strict=True):
            longs.extend(map(column.__getitem__, places))
        for items, each in zip(texts, (columns.channels, columns.writers, columns.namespaces), strict=True):
            items.extend(each.picked(places) if not each.empty else [""] * len(places))
    checkpoints, versions, prevs = numbers
    channels, writers, namespaces = map(Texts.of, texts)
    ends = [0, *accumulate(lengths)]
    fields = (thread, len(kinds), bytes(kinds), checkpoints, channels, versions, prevs, writers, bytes(encodings))
    return Columns(*fields, ends, b"".join(pieces), namespaces)


def size_of(rows: Sequence[Row]) -> int:
    """Bytes that rows take, about."""
    payloads = len(rows.columns.payload) if isinstance(rows, Rows) else sum(len(row.payload) for row in rows)
    return payloads + _ROW * len(rows)


def upto(rows: Sequence[Row], version: int) -> Sequence[Row] | None:
    """Those of a channel's rows, each of which changes what the one before it left, that make up an older version; None
    where that is not among them."""
    columns = columns_of(rows)
    last = bisect_right(columns.versions, version)
    if not last or columns.versions[last - 1] != version:
        return None
    return Rows(columns.upto(last))


def columns_of(rows: Sequence[Row]) -> Columns:
    """Any rows as columns."""
    if isinstance(rows, Rows):
        return rows.columns
    columns: Iterable[Any] = zip(*rows, strict=True) if rows else repeat((), len(Row._fields))
    kinds, checkpoints, channels, versions, prevs, writers, encodings, payloads, namespaces = columns
    fields = ("", len(rows), bytes(kinds), checkpoints, Texts.of(channels), versions, prevs, Texts.of(writers))
    ends = [0, *accumulate(map(len, payloads))]
    return Columns(*fields, bytes(encodings), ends, b"".join(payloads), Texts.of(namespaces))


class Rows(Sequence[Row]):
    """Rows that are made of columns when somebody looks at them. Equal to a tuple or list of the same."""

    __slots__ = ("_made", "_values", "columns")

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self._made: tuple[Row, ...] | None = None
        self._values: dict[str, list[int]] | None = None

    def strand(self, channel: str, version: int) -> Strand | None:
        """What makes up a channel at a version as far as these rows go; None where that version is not here."""
        if self._values is None:
            self._values = self.columns.values()
        places = self._values.get(channel)
        return self.columns.linked(places, version) if places is not None else None

    def all(self) -> tuple[Row, ...]:
        """All of them, made once."""
        if self._made is None:
            self._made = self.columns.rows()
        return self._made

    def __len__(self) -> int:
        return self.columns.length

    def __iter__(self) -> Iterator[Row]:
        return iter(self.all())

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if self._made is not None or isinstance(index, slice):
            return self.all()[index]
        return self.columns.row(range(self.columns.length)[index])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (tuple, list, Rows)):
            return NotImplemented
        return self.all() == tuple(other)

    def __hash__(self) -> int:
        return hash(self.all())

    def __repr__(self) -> str:
        return repr(self.all())

    def __reduce__(self) -> tuple[type[tuple[Row, ...]], tuple[tuple[Row, ...]]]:
        return tuple, (self.all(),)
