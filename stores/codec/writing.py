"""Values to MessagePack.

The packer walks lists and dicts in C, with exact checks of their types, and calls `_form` for whatever else it meets;
`_form` answers with one level of plain parts, so nothing here recurses and the packer's depth limit counts every level.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from msgpack import ExtType, Packer

from . import arrays, pandas_scalars
from .arrow import encode_arrow
from .catalog import Catalog, hint_for
from .encodings import EXTS, Encoding, Leaf, Mark
from .optional import require
from .places import cycle_in, place_of
from .scalars import ENCODERS, Unsupported, fraction_parts

MAX_DEPTH = 1024
"""Levels that the packer and the unpacker take."""

_SEQUENCES: Mapping[type, Mark] = MappingProxyType({tuple: Mark.TUPLE, set: Mark.SET, frozenset: Mark.FROZENSET})
_ATOMS = frozenset({str, bytes, int, float, bool, type(None)})
_CONTAINERS = frozenset({list, dict, tuple, set, frozenset})
_UNCHECKED = frozenset({bytearray, memoryview, ExtType})
"""Types that the packer takes without asking, and that would come back as something else."""
_LIBRARIES = frozenset({"numpy", "pandas", "polars", "pyarrow"})


class Refused(Exception):
    """A value inside the one being written cannot be stored."""

    def __init__(self, value: object, hint: str) -> None:
        super().__init__(hint)
        self.value = value
        self.hint = hint


class Writer:
    """Packs one value at a time; to be used by one thread at a time, and thrown away after an error."""

    def __init__(self, catalog: Catalog, *, pickle: bool) -> None:
        self._catalog = catalog
        self._pickle = pickle
        self._packer = Packer(strict_types=True, default=self._form, buf_size=4096)
        self._parts: list[object] = []
        self._careful = False

    def write(self, value: object) -> bytes:
        """The value's bytes. Raises `Refused`, or `ValueError` where it is nested too deep or too long."""
        try:
            data = self._pack(value)
            if type(value) in _ATOMS:
                return data
            if _may_hold_unchecked(data) and _holds_unchecked([value, *self._parts]):
                self._careful = True
                data = self._pack(self._replaced(value))
            return data
        finally:
            self._parts.clear()
            self._careful = False

    def _pack(self, value: object) -> bytes:
        try:
            data: bytes = self._packer.pack(value)
        except UnicodeEncodeError:
            # lone surrogates, as file names have them; the tolerant way is slower, so it is not the usual one
            packer = Packer(strict_types=True, default=self._form, unicode_errors="surrogatepass")
            data = packer.pack(value)
        return data

    def _form(self, value: Any) -> Any:
        """What the packer is to write instead of `value`: an ext, or a list that a marker opens."""
        kind = type(value)
        try:
            scalar = ENCODERS.get(kind)
            if scalar is not None:
                return ExtType(scalar[0], scalar[1](value))
            mark = _SEQUENCES.get(kind)
            if mark is not None:
                return self._marked(mark, value)
            form = self._catalog.of(kind)
            if form is not None:
                parts = form.parts(value)
                self._parts.extend(parts)
                return self._marked(form.mark, [form.name, *parts])
            return self._rare(value, kind)
        except Unsupported as error:
            return self._pickled(value, error)

    def _rare(self, value: Any, kind: type) -> Any:
        if kind is range:
            return self._marked(Mark.RANGE, [value.start, value.stop, value.step])
        if kind.__module__ == "fractions" and kind.__name__ == "Fraction":
            return self._marked(Mark.FRACTION, fraction_parts(value))
        found = self._columnar(value)
        if found is not None:
            encoding, payload = found
            return ExtType(Leaf.COLUMNAR, payload + bytes([encoding]))
        library = library_of(kind)
        if library == "numpy":
            return self._marked(Mark.NUMPY_SCALAR, arrays.scalar_parts(value))
        if library == "pandas":
            return self._marked(Mark.PANDAS_SCALAR, pandas_scalars.scalar_parts(value))
        raise Unsupported(hint_for(value))

    def top_level(self, value: Any) -> tuple[int, bytes] | None:
        """Encoding and payload of a table or array; None if it has to go through `write`. Raises `Refused`."""
        try:
            return self._columnar(value)
        except Unsupported as error:
            if self._pickle:
                return None
            raise Refused(value, str(error)) from error

    def _columnar(self, value: Any) -> tuple[int, bytes] | None:
        kind = type(value)
        library = library_of(kind)
        if library is None:
            return None
        if library == "numpy":
            return (Encoding.NUMPY, arrays.encode_array(value)) if kind.__name__ == "ndarray" else None
        payload = encode_arrow(value, Writer(self._catalog, pickle=False).write)
        return None if payload is None else (Encoding.ARROW_IPC, payload)

    def _marked(self, mark: Mark, parts: Any) -> list[Any]:
        if self._careful:
            return [EXTS[mark], *map(self._replaced, parts)]
        return [EXTS[mark], *parts]

    def _replaced(self, value: Any) -> Any:
        """The value with the bytearrays in its lists and dicts tagged."""
        kind = type(value)
        if kind is list:
            items = []
            for item in value:
                items.append(self._replaced(item))  # a comprehension would be one frame more per level
            return items
        if kind is dict:
            pairs = {}
            for key, item in value.items():
                pairs[self._replaced(key)] = self._replaced(item)
            return pairs
        if kind is bytearray:
            return ExtType(Leaf.BYTEARRAY, bytes(value))
        if kind is memoryview:
            raise Refused(value, "convert it with bytes(...)")
        if kind is ExtType:
            raise Refused(value, "keep its code and data in a tuple")
        return value

    def _pickled(self, value: Any, reason: Unsupported) -> ExtType:
        if not self._pickle:
            raise Refused(value, str(reason)) from reason
        cloudpickle = require("cloudpickle")
        try:
            return ExtType(Leaf.PICKLE, cloudpickle.dumps(value))
        except Exception as error:  # a class's own __reduce__ may raise anything
            raise Refused(value, f"it cannot be pickled either ({error})") from error

    def explain(self, root: object, error: Exception) -> tuple[str, str, str]:
        """Type, path and hint of what made `write(root)` raise `error`."""
        if isinstance(error, Refused):
            kind = type(error.value)
            return f"{kind.__module__}.{kind.__qualname__}", place_of(root, error.value, self._attributes), error.hint
        kind = type(root)
        cycle = cycle_in(root, self._attributes)
        if cycle is not None:
            kind = type(cycle[0])
            return kind.__qualname__, cycle[1], "it contains itself; refer to the outer value by an id instead"
        if isinstance(error, RecursionError) or "recursion limit" in str(error):
            return kind.__qualname__, "", f"it is nested more than {MAX_DEPTH} levels deep; flatten it"
        return kind.__qualname__, "", f"{type(error).__name__}: {error}"

    def _attributes(self, value: object) -> dict[str, Any]:
        form = self._catalog.of(type(value))
        return {} if form is None else form.attributes(value)


def library_of(kind: type) -> str | None:
    """Which of the columnar libraries a class is from, by its name alone."""
    library = kind.__module__.partition(".")[0]
    return library if library in _LIBRARIES else None


def _may_hold_unchecked(data: bytes) -> bool:
    """Whether a byte that opens MessagePack bytes or an ext occurs; mostly a quick no."""
    return (
        0xC4 in data
        or 0xC5 in data
        or 0xC6 in data
        or 0xC7 in data
        or 0xC8 in data
        or 0xC9 in data
        or 0xD4 in data
        or 0xD5 in data
        or 0xD6 in data
        or 0xD7 in data
        or 0xD8 in data
    )


def _holds_unchecked(level: list[object]) -> bool:
    """Whether one of `_UNCHECKED` is anywhere in it; level by level in C. It packed, so it has no cycle."""
    while level:
        if not _UNCHECKED.isdisjoint(map(type, level)):
            return True
        level = gc.get_referents(*[item for item in level if type(item) in _CONTAINERS])
    return False
