"""Values as bytes: by Perdure's codec, which keeps every type, and what it does not know by LangGraph's serializer.

A list, tuple or dict with something in it that only the serializer knows is encoded item by item, so that all the rest
of it keeps its types too (LangGraph's own makes lists of tuples), and an item is encoded alike in a whole value and in
a delta.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import is_dataclass
from enum import Enum, IntEnum
from typing import Any

import msgspec
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from ..stores.codec import Codec
from ..stores.codec import Encoding as Plain
from ..stores.errors import Corrupt, StoreError, Unencodable
from .records import Packed

_DEEPEST = 64
"""Levels of containers that are taken apart; below them the serializer has the rest."""


class Encoding(IntEnum):
    """How a payload is encoded, besides the codec's own. Numbers are stored: never reuse one."""

    SERDE = 128
    """[type, bytes] of LangGraph's serializer."""
    LIST = 129
    """The items, each packed."""
    TUPLE = 130
    DICT = 131
    """Key and value by turns, each packed."""


_PLAIN = frozenset(map(int, Plain))
_ENCODER = msgspec.msgpack.Encoder()
_PAIR = msgspec.msgpack.Decoder(tuple[str, bytes])
_ITEMS = msgspec.msgpack.Decoder(list[Packed])


class Values:
    """Encodes and decodes. With any serializer but LangGraph's usual one, that one is asked for everything: it may have
    been chosen to encrypt."""

    def __init__(self, codec: Codec, serde: SerializerProtocol) -> None:
        self._codec = codec
        self._serde = serde
        self._usual = type(serde) is JsonPlusSerializer

    def pack(self, value: Any, where: str) -> Packed:
        """The value's encoding and bytes; `where` says in an error what it is. Raises `Unencodable`."""
        return self._pack(value, where, 0)

    def unpack(self, packed: Packed, where: str) -> Any:
        """The value again. Raises `Corrupt`, `DisallowedType`."""
        try:
            return self._unpack(packed.encoding, packed.payload)
        except StoreError:
            raise
        except Exception as error:  # a serializer of the user's may raise anything
            raise Corrupt(
                f"{where} does not decode ({type(error).__name__}: {error}); was it written with another serde?"
            ) from error

    def _pack(self, value: Any, where: str, depth: int) -> Packed:
        if not self._usual:
            return self._serialized(value, where)
        kind = type(value)
        if not _is_class(kind) and not (kind in _CONTAINERS and any(map(_is_class, _kinds(kind, value)))):
            try:
                return Packed(*self._codec.encode(value))
            except Unencodable:
                pass
        if kind not in _CONTAINERS or depth >= _DEEPEST:
            return self._serialized(value, where)
        items: Iterable[Any] = value
        if kind is dict:
            items = (part for pair in value.items() for part in pair)
        packed = [self._pack(item, where, depth + 1) for item in items]
        return Packed(_CONTAINERS[kind], _ENCODER.encode(packed))

    def _serialized(self, value: Any, where: str) -> Packed:
        try:
            return Packed(Encoding.SERDE, _ENCODER.encode(self._serde.dumps_typed(value)))
        except Exception as error:  # the serializer's, or that of a class of the user's
            kind = type(value)
            hint = (
                f"LangGraph's serializer refuses it too ({error}); keep plain data in the state, or give the saver a "
                "serde that takes it"
            )
            raise Unencodable(f"{kind.__module__}.{kind.__qualname__}", where, hint) from error

    def _unpack(self, encoding: int, payload: bytes) -> Any:
        if encoding in _PLAIN:
            return self._codec.decode(encoding, payload)
        if encoding == Encoding.SERDE:
            return self._serde.loads_typed(_PAIR.decode(payload))
        if encoding not in _NAMES:
            raise ValueError(f"encoding {encoding} is not known")
        items = [self._unpack(item.encoding, item.payload) for item in _ITEMS.decode(payload)]
        if encoding == Encoding.TUPLE:
            return tuple(items)
        return dict(zip(items[::2], items[1::2], strict=True)) if encoding == Encoding.DICT else items


_CONTAINERS: dict[type, Encoding] = {list: Encoding.LIST, tuple: Encoding.TUPLE, dict: Encoding.DICT}
_NAMES = frozenset(map(int, _CONTAINERS.values()))


def _is_class(kind: type) -> bool:
    """Whether the codec surely refuses instances: it is told of no class. Only spares the attempt."""
    return is_dataclass(kind) or issubclass(kind, Enum) or hasattr(kind, "model_dump")


def _kinds(kind: type, value: Any) -> set[type]:
    return set(map(type, value.values() if kind is dict else value))
