"""MessagePack to values: builds only what the catalog lists, ends in a value or in an error of the stores.

Whatever the bytes, nothing is imported by name, nothing is called but the constructors below and the listed classes',
and no memory is claimed that the bytes do not pay for.
"""

from __future__ import annotations

import pickle as pickles
from collections import Counter
from collections.abc import Callable
from typing import Any

from msgpack import OutOfData, Unpacker, unpackb

from ..errors import Corrupt, DisallowedType, StoreError
from . import arrays, pandas_scalars
from .arrow import decode_arrow
from .catalog import Catalog
from .classes import opaque
from .encodings import MARKERS, Encoding, Leaf, Mark, Marker, Opaque
from .scalars import DECODERS, to_fraction

CHECKED_FROM = 4096
"""Payloads from this size (bytes) are skimmed before anything is built."""
_MARK = b"\xc7\x00"
"""How the packer begins a `Mark`. (It may be part of something else; and bytes that are not ours may spell one
differently, which shows in the end.)"""
_FLOOD_FROM = 1 << 16
"""In payloads from this size (bytes) the keys of dicts are looked at too, where enough of them could collide."""
_MOST_ALIKE = 1000
"""So many items of one set or dict may have the same hash."""
_CLASSES = frozenset({Mark.ENUM, Mark.DATACLASS, Mark.MODEL, Mark.NAMEDTUPLE})


class _Suspicious(Exception):
    """A large payload holds so many values of one's own making that dicts have to be looked at: read it again."""


class Reader:
    """Unpacks one payload."""

    __slots__ = ("_catalog", "_left", "_most", "_opaque", "_open", "_pickle", "_plain")

    def __init__(self, catalog: Catalog, *, opaque: bool, pickle: bool) -> None:
        self._catalog = catalog
        self._opaque = opaque
        self._pickle = pickle
        self._open = 0
        self._left = -1
        """Tagged values that may come before the payload is suspicious; below zero, any number. Python's own hashes of
        texts are random, and too few other numbers share one: only tagged values can be made to collide."""
        self._most = 0
        self._plain = False
        """It has no `Mark`, as far as can be told from the bytes: nobody need look at each list."""

    def read(self, payload: bytes | memoryview, *, most: int | None = None) -> Any:
        """The value. Raises `Corrupt`, `DisallowedType`, `StoreMisuse` where a library is missing.

        `most`: so many items may a list announce, for a payload that need not be skimmed therefore.
        """
        try:
            if len(payload) >= CHECKED_FROM and most is None:
                _skim(payload)
            self._most = len(payload) if most is None else most
            # The search for one byte is many times as fast, and most payloads do not even have that.
            self._plain = type(payload) is bytes and (_MARK[:1] not in payload or _MARK not in payload)
            if len(payload) >= _FLOOD_FROM:
                self._left = _MOST_ALIKE
            try:
                value = self._unpacked(payload, None)
            except _Suspicious:
                self._open, self._left = 0, -1
                value = self._unpacked(payload, _dict_of)
            if self._open and self._plain:
                self._open, self._plain = 0, False
                value = self._unpacked(payload, None)
        except (StoreError, MemoryError):
            raise
        except Exception as error:  # bytes that are not ours fail in any way there is
            raise Corrupt(f"a stored value does not decode: {type(error).__name__}: {str(error)[:200]}") from error
        if self._open:
            raise Corrupt("a stored value does not decode: it has a tag out of place")
        return value

    def _unpacked(self, payload: bytes | memoryview, pairs_hook: Callable[[Any], Any] | None) -> Any:
        return unpackb(
            payload,
            ext_hook=self._ext,
            list_hook=None if self._plain else self._list,
            object_pairs_hook=pairs_hook,
            strict_map_key=False,
            max_array_len=self._most,
            max_map_len=self._most // 2,
            unicode_errors="surrogatepass",
            timestamp=3,  # we write none; but its default is an instance of a class of its own
        )

    def _ext(self, code: int, data: bytes) -> Any:
        marker = MARKERS.get(code)
        if marker is not None and not data:
            self._open += 1
            return marker
        self._count()
        decode = DECODERS.get(code)
        if decode is not None:
            return decode(data)
        if code == Leaf.COLUMNAR:
            return self.columnar(data[-1], data[:-1])
        if code == Leaf.PICKLE:
            if self._pickle:
                return pickles.loads(data)  # a user turned it on by name
            if self._opaque:
                return Opaque("pickle", data)
            raise DisallowedType("pickle (stored by a codec with pickle=True)")
        raise Corrupt(f"a stored value has the unknown tag {code}; a newer Perdure may have written it")

    def columnar(self, encoding: int, payload: bytes | memoryview) -> Any:
        """A table or array. Raises `Corrupt`, `StoreMisuse`."""
        if encoding == Encoding.ARROW_IPC:
            return decode_arrow(payload, Reader(self._catalog, opaque=self._opaque, pickle=False).read)
        if encoding == Encoding.NUMPY:
            return arrays.decode_array(payload)
        raise Corrupt(f"a stored value has the unknown encoding {encoding}; a newer Perdure may have written it")

    def _list(self, items: list[Any]) -> Any:
        if not items or type(items[0]) is not Marker:
            return items
        self._open -= 1
        self._count()
        mark, parts = items[0].mark, items[1:]
        if mark is Mark.TUPLE:
            return tuple(parts)
        if mark in _CLASSES:
            return self._instance(mark, parts)
        if mark is Mark.SET or mark is Mark.FROZENSET:
            _check_hashes(parts)
            return set(parts) if mark is Mark.SET else frozenset(parts)
        if mark is Mark.NUMPY_SCALAR:
            return arrays.build_scalar(parts)
        if mark is Mark.PANDAS_SCALAR:
            return pandas_scalars.build_scalar(parts)
        if not all(type(part) is int for part in parts):
            raise Corrupt("a stored number is malformed")
        return range(*parts) if mark is Mark.RANGE else to_fraction(*parts)

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise _Suspicious

    def _instance(self, mark: Mark, parts: list[Any]) -> Any:
        name = parts.pop(0)
        if type(name) is not str:
            raise Corrupt("a stored object does not name its class")
        form = self._catalog.named(name)
        if form is None:
            if self._opaque:
                return opaque(mark, name, parts)
            raise DisallowedType(name[:200])
        if form.mark is not mark:
            raise Corrupt(f"a stored object of {name} was of another kind of class ({mark.name.lower()})")
        return form.build(parts)


def _skim(payload: bytes | memoryview) -> None:
    """Raise `Corrupt` unless the payload is complete.

    Unpacking allocates a list at its announced length; nested announcements that the bytes never fulfil would multiply.
    """
    unpacker = Unpacker(max_buffer_size=len(payload))
    unpacker.feed(payload)
    try:
        unpacker.skip()
    except OutOfData as error:
        raise Corrupt("a stored value was cut short") from error


def _dict_of(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    _check_hashes([key for key, _ in pairs])
    return dict(pairs)


def _check_hashes(keys: list[Any]) -> None:
    """Raise `Corrupt` for keys that were made to collide: a megabyte of such integers kept a processor busy for
    minutes."""
    if len(keys) > _MOST_ALIKE and max(Counter(map(hash, keys)).values()) > _MOST_ALIKE:
        raise Corrupt(f"a stored set or dict has more than {_MOST_ALIKE} keys of the same hash")
