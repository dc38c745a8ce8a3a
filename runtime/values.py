"""The values of a thread's channels, each decoded when somebody first looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from threading import Lock
from typing import Any, TypeAlias

from ..stores.codec import Codec
from ..stores.deltas import apply_stored
from ..stores.errors import StoreError
from ..stores.segments import Kind, Row
from ..stores.strands import Chain, chain_of

RowReader: TypeAlias = Callable[[Mapping[str, int]], Mapping[str, Sequence[Row]]]
"""Reads the rows that each channel's value at a version is made of, oldest first."""


class Pending:
    """A value that is yet to be decoded. It is shared by all copies of the values, and decoded once."""

    __slots__ = ("_lock", "_make", "_value")

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make: Callable[[], Any] | None = make
        self._lock = Lock()
        self._value: Any = None

    def get(self) -> Any:
        """The value. Raises what decoding it raises, each time anew."""
        # Nodes that run side by side may ask for it at once, and must get the same object.
        if self._make is not None:
            with self._lock:
                if self._make is not None:
                    self._value = self._make()
                    self._make = None
        return self._value


class LazyValues(MutableMapping[str, Any]):
    """A mapping of channels and their values, equal to a dict of the same.

    Each value is decoded, and in a snapshot of the past also read, when it is first looked at. Then and only then it
    may raise `StoreError` naming thread, channel and version. Copies and pickles of it are plain dicts.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Any]) -> None:
        """`items` are values, or `Pending` in their place."""
        self._items: dict[str, Any] = dict(items)

    # `_items` keeps each Pending: a reader that put the value in its place might overwrite what was set meanwhile.

    def __getitem__(self, channel: str) -> Any:
        value = self._items[channel]
        return value.get() if type(value) is Pending else value

    def __setitem__(self, channel: str, value: Any) -> None:
        self._items[channel] = value

    def __delitem__(self, channel: str) -> None:
        del self._items[channel]

    def __contains__(self, channel: object) -> bool:
        return channel in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**self, **other}

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**other, **self}

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)

    def copy(self) -> LazyValues:
        """The same values in a mapping of its own."""
        return LazyValues(self._items)

    def completed(self, order: Mapping[str, Any]) -> LazyValues:
        """The same values after those of `order`, of which they take the place where both have one."""
        return LazyValues({**order, **self._items})


Values: TypeAlias = dict[str, Any] | LazyValues


def values_of(rows: Mapping[str, Sequence[Row]], codec: Codec, thread_id: str) -> LazyValues:
    """The values that rows hold."""
    return LazyValues({channel: Pending(_decoder(channel, found, codec, thread_id)) for channel, found in rows.items()})


def values_at(versions: Mapping[str, int], read: RowReader, codec: Codec, thread_id: str) -> LazyValues:
    """The values of a checkpoint, whose rows are read when they are needed: those of the first channel that is looked
    at by themselves, then all others at once."""
    rows = _Rows(versions, read)

    def make(channel: str) -> Callable[[], Any]:
        return lambda: decode_rows(channel, rows.take(channel), codec, thread_id)

    return LazyValues({channel: Pending(make(channel)) for channel in versions})


def decode_rows(channel: str, rows: Sequence[Row], codec: Codec, thread_id: str) -> Any:
    """The value that a channel's rows are made of. Raises `Corrupt`, `DisallowedType` naming the record."""
    chain = chain_of(rows)
    whole = chain.oldest.kind != Kind.DELTA
    try:
        base = codec.decode(chain.oldest.encoding, chain.oldest.payload) if whole else None
        return apply_stored(codec, base, chain.portions(1 if whole else 0))
    except StoreError as error:
        version = _damaged(chain, codec)
        error.args = (f"thread {thread_id!r}, channel {channel!r} at version {version}: {error}",)
        raise


def _damaged(chain: Chain, codec: Codec) -> int:
    """The first version that does not decode; the last where all do, but do not fit together."""
    for row in chain:
        try:
            codec.decode(row.encoding, row.payload)
        except StoreError:
            return row.version
    return chain.strands[-1].last


def _decoder(channel: str, rows: Sequence[Row], codec: Codec, thread_id: str) -> Callable[[], Any]:
    return lambda: decode_rows(channel, rows, codec, thread_id)


class _Rows:
    """The rows of a checkpoint's channels."""

    def __init__(self, versions: Mapping[str, int], read: RowReader) -> None:
        self._left = dict(versions)
        self._read = read
        self._found: dict[str, Sequence[Row]] = {}
        self._lock = Lock()
        self._asked = False

    def take(self, channel: str) -> Sequence[Row]:
        with self._lock:
            if channel not in self._found:
                wanted = {channel: self._left[channel]} if not self._asked else self._left
                self._found.update(self._read(wanted))
                self._asked = True
                for name in list(wanted):
                    self._left.pop(name, None)
            return self._found[channel]
