"""The codec: one value to bytes and back."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import StoreError, Unencodable
from .catalog import Catalog
from .encodings import Encoding
from .reading import CHECKED_FROM, Reader
from .writing import Writer, library_of

_PLAIN = frozenset({dict, str, list, int, float, bool, type(None), bytes, tuple})
_FEW = 4
"""So few payloads are decoded each by itself."""
_ARRAY, _ARRAY_32 = struct.Struct(">BI"), 0xDD
"""How MessagePack begins a list of up to 2^32 items."""
_KEPT = 1 << 20
"""A packer keeps its buffer; one that packed more bytes than this is let go."""


class Codec:
    """Turns values into bytes and back: equal, and of the same type at every depth.

    `types` are the classes whose instances may be stored and built (see `types_in`); nothing else is ever built, and no
    class is imported by name. `opaque` decodes instances of other classes to `Opaque`, for showing a state without its
    code. `pickle` stores what nothing else can take with cloudpickle; only a codec with `pickle` loads that again.

    Safe to use from several threads. Raises `StoreMisuse` if two of the classes have the same name.
    """

    def __init__(self, types: Iterable[type] = (), *, opaque: bool = False, pickle: bool = False) -> None:
        self._catalog = Catalog(types)
        self._opaque = opaque
        self._pickle = pickle
        self._writers: list[Writer] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return _codec, (tuple(self._catalog.types), self._opaque, self._pickle)

    def encode(self, value: object) -> tuple[int, bytes]:
        """The value's encoding (`Encoding`) and payload.

        Raises `Unencodable`, which tells type, place and remedy; `StoreMisuse` if `pickle` is on without cloudpickle.
        """
        try:
            writer = self._writers.pop()
        except IndexError:
            writer = Writer(self._catalog, pickle=self._pickle)
        try:
            kind = type(value)
            if kind not in _PLAIN and library_of(kind) is not None:
                found = writer.top_level(value)
                if found is not None:
                    return found
            payload = writer.write(value)
        except StoreError:
            raise
        except Exception as error:  # attributes of users' classes may raise anything
            raise Unencodable(*writer.explain(value, error)) from error
        if len(payload) <= _KEPT:
            self._writers.append(writer)
        return Encoding.MSGPACK, payload

    def decode(self, encoding: int, payload: bytes | memoryview) -> Any:
        """The value of a payload.

        Raises `Corrupt`, `DisallowedType`, or `StoreMisuse` if the value needs a library that is not installed.
        """
        reader = Reader(self._catalog, opaque=self._opaque, pickle=self._pickle)
        if encoding == Encoding.MSGPACK:
            return reader.read(payload)
        return reader.columnar(encoding, payload)

    def decode_all(self, payloads: Sequence[bytes | memoryview]) -> list[Any]:
        """The values of many payloads of MSGPACK, as `decode` gives them one by one; most of the time is spent once for
        all. Raises as it does, of the first that does not decode."""
        values: list[Any] = []
        for start in range(0, len(payloads), CHECKED_FROM):
            values += self._decoded(payloads[start : start + CHECKED_FROM])
        return values

    def _decoded(self, payloads: Sequence[bytes | memoryview]) -> list[Any]:
        if len(payloads) < _FEW:
            return [self.decode(Encoding.MSGPACK, payload) for payload in payloads]
        # None of small ones can announce more than it could alone.
        most = CHECKED_FROM if max(map(len, payloads)) < CHECKED_FROM else None
        reader = Reader(self._catalog, opaque=self._opaque, pickle=self._pickle)
        try:
            values = reader.read(b"".join((_ARRAY.pack(_ARRAY_32, len(payloads)), *payloads)), most=most)
        except (StoreError, MemoryError):
            values = None
        if type(values) is list and len(values) == len(payloads):
            return values
        return [self.decode(Encoding.MSGPACK, payload) for payload in payloads]


def _codec(types: tuple[type, ...], opaque: bool, pickle: bool) -> Codec:
    return Codec(types, opaque=opaque, pickle=pickle)
