"""The rows of a segment as the columns that they are kept in.

A state is made of a few columns of very many rows: to read one, a Python object for each row is made only where
somebody looks at the rows themselves.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, compress, pairwise, repeat
from typing import Any, NamedTuple, overload

import pyarrow as pa

from .errors import Corrupt
from .segments import VALUES, Kind, Row

_SPARSE = 8
"""To make a list of all numbers costs as much as to look at one in so many of them."""
MANY = 64
"""Rows from which a call of Arrow's takes less than a look at each."""

ROW_SIZE = 64
"""What a row counts beside its payload."""
_HOLDS = bytes(kind in VALUES for kind in range(256))
"""Tells the kinds of rows apart that a channel's value is made of (`bytes.translate`)."""

_BYTE = 256
_ONLY = [bytes(code == one for code in range(_BYTE)) for one in range(_BYTE)]
"""Tells one number from all others."""
_TELLS = bytes(kind not in VALUES and kind != Kind.WRITE for kind in range(256))


class Texts:
    """A column of texts."""

    __slots__ = ("_data", "_ends", "_items", "_text")

    def __init__(self, ends: Sequence[int], data: memoryview | bytes) -> None:
        """`ends`: where each begins, and the last one's end. Raises `ValueError`."""
        text = str(data, "utf-8")
        self._text, self._ends, self._data = text, ends, data
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

    def coded(self) -> tuple[dict[str, int], bytes] | None:
        """Each different one with its number, and the rows' numbers. None where that is not worth while, or there are
        too many."""
        if not isinstance(self._ends, memoryview):
            return None
        buffers = [None, pa.py_buffer(self._ends), pa.py_buffer(self._data)]
        found = pa.Array.from_buffers(pa.utf8(), len(self._ends) - 1, buffers).dictionary_encode()
        names: list[Any] = found.dictionary.to_pylist()
        if len(names) > _BYTE:
            return None
        codes = found.indices.cast(pa.uint8()).buffers()[1]
        return {name: code for code, name in enumerate(names)}, bytes(codes) if codes is not None else b""

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

    def telling(self, commits: range) -> list[int]:
        """Where the rows are that tell something of some commits' checkpoints or tasks."""
        places = compress(range(self.length), self.kinds.translate(_TELLS))
        return [place for place in places if self.checkpoints[place] in commits]

    def values(self) -> Callable[[str], Sequence[int] | None]:
        """Tells where a channel's rows are that its value in the root graph is made of; None where it has none."""
        holds = self.kinds.translate(_HOLDS)
        places = list(compress(range(self.length), holds))
        coded = self.channels.coded() if self.namespaces.empty else None
        if coded is not None:
            names, codes = coded
            codes = bytes(compress(codes, holds))
            return lambda name: list(compress(places, codes.translate(_ONLY[names[name]]))) if name in names else None
        if not self.namespaces.empty:
            places = [place for place in places if not self.namespaces[place]]
        found: dict[str, list[int]] = {}
        for place, name in zip(places, self.channels.picked(places), strict=True):
            if name in found:
                found[name].append(place)
            else:
                found[name] = [place]
        return found.get

    def linked(self, places: Sequence[int], version: int) -> Sequence[int] | None:
        """Of the rows of one channel, all that are here, those that make up a version as far as they go. Several
        writers of one step leave a delta each; a whole value in the same version takes the place of those before it.
        None where that version is not here."""
        versions = picked(self.versions, places)
        last = bisect_right(versions, version)
        if not last or versions[last - 1] != version:
            return None
        places = places[:last]
        del versions[last:]
        prevs = picked(self.prevs, places)
        # A list that grew, most often: each row changes what the one before it left.
        simple = prevs[1:] == versions[:-1] and prevs[0] < versions[0]
        if not simple or set(map(self.kinds.__getitem__, places)) != {Kind.DELTA}:
            return self._linked(places, versions, prevs)
        return places

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
            if base >= version:
                raise Corrupt(
                    f"thread {self.thread!r}: a delta at version {version} says that it changes version {base}"
                )
            at = bisect_right(versions, base) - 1
            if at < 0 or versions[at] != base:
                break
        return found[::-1]


def picked(numbers: Sequence[int], places: Sequence[int]) -> list[int]:
    """Those of some rows."""
    if isinstance(numbers, memoryview) and len(places) * _SPARSE > len(numbers):
        return list(map(numbers.tolist().__getitem__, places))
    return list(map(numbers.__getitem__, places))


def size_of(rows: Sequence[Row]) -> int:
    """Bytes that rows take, about."""
    return rows.size if isinstance(rows, LazyRows) else sum(len(row.payload) for row in rows) + ROW_SIZE * len(rows)


def columns_of(rows: Sequence[Row]) -> Columns:
    """Any rows as columns."""
    if isinstance(rows, Rows):
        return rows.columns
    columns: Iterable[Any] = zip(*rows, strict=True) if rows else repeat((), len(Row._fields))
    kinds, checkpoints, channels, versions, prevs, writers, encodings, payloads, namespaces = columns
    fields = ("", len(rows), bytes(kinds), checkpoints, Texts.of(channels), versions, prevs, Texts.of(writers))
    ends = [0, *accumulate(map(len, payloads))]
    return Columns(*fields, bytes(encodings), ends, b"".join(payloads), Texts.of(namespaces))


class LazyRows(Sequence[Row]):
    """Rows that are made when somebody looks at them. Equal to a tuple or list of the same."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: tuple[Row, ...] | None = None

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes that they take, about."""

    @abstractmethod
    def _make(self) -> tuple[Row, ...]:
        """All of them."""

    @abstractmethod
    def _row(self, index: int) -> Row:
        """One of them, at a place that there is."""

    def all(self) -> tuple[Row, ...]:
        """All of them, made once."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def __iter__(self) -> Iterator[Row]:
        return iter(self.all())

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if self._made is not None or isinstance(index, slice):
            return self.all()[index]
        return self._row(range(len(self))[index])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (tuple, list, LazyRows)):
            return NotImplemented
        return self.all() == tuple(other)

    def __hash__(self) -> int:
        return hash(self.all())

    def __repr__(self) -> str:
        return repr(self.all())

    def __reduce__(self) -> tuple[type[tuple[Row, ...]], tuple[tuple[Row, ...]]]:
        return tuple, (self.all(),)


class Rows(LazyRows):
    """Rows that are kept as columns."""

    __slots__ = ("_places", "columns")

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        self.columns = columns
        self._places: Callable[[str], Sequence[int] | None] | None = None

    def places(self, channel: str) -> Sequence[int] | None:
        """See `Columns.values`."""
        if self._places is None:
            self._places = self.columns.values()
        return self._places(channel)

    @property
    def size(self) -> int:
        return len(self.columns.payload) + ROW_SIZE * self.columns.length

    def __len__(self) -> int:
        return self.columns.length

    def _make(self) -> tuple[Row, ...]:
        return self.columns.rows()

    def _row(self, index: int) -> Row:
        return self.columns.row(index)
