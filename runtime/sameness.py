"""When two values of a state are the same: at every depth of one type, and stored alike."""

from __future__ import annotations

import math
import struct
from collections.abc import Hashable, Mapping, Set
from typing import Any

from ..stores.codec import Codec, Encoding, Opaque
from ..stores.errors import Unencodable

_EXACT = frozenset({str, bytes, int, bool, type(None)})
"""Types of which two that are `==` are stored alike."""
_SHOWS = Codec(opaque=True)
"""Shows an instance of any class by what is stored of it."""


def same(one: Any, other: Any, codec: Codec) -> bool:
    """Whether two values are the same. 1, 1.0 and True are not, nor 0.0 and -0.0, nor 12:00 here and the same moment
    elsewhere; NaN is the same as NaN. The order of a dict's keys does not count. Instances of classes are compared by
    what `codec` stores of them; of a class that it cannot store, by `==`."""
    if one is other:
        return True
    kind = type(one)
    if kind is not type(other):
        return False
    if kind in _EXACT:
        return bool(one == other)
    if kind is float:
        return _bits(one) == _bits(other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(*pair, codec) for pair in zip(one, other, strict=True))
    if isinstance(one, dict):
        return len(one) == len(other) and _same_items(one, other, codec)
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and _tokens(one, codec) == _tokens(other, codec)
    if kind is Opaque:
        return bool(one.tag == other.tag) and same(one.data, other.data, codec)
    return _stored_alike(one, other, codec)


def _same_items(one: Mapping[Any, Any], other: Mapping[Any, Any], codec: Codec) -> bool:
    if not all(type(key) is str for key in (*one, *other)):
        one, other = ({_token(key, codec): item for key, item in each.items()} for each in (one, other))
    return one.keys() == other.keys() and all(same(item, other[key], codec) for key, item in one.items())


def _stored_alike(one: Any, other: Any, codec: Codec) -> bool:
    try:
        stored, (encoding, payload) = codec.encode(one), codec.encode(other)
    except Unencodable:
        return _equal(one, other)
    if stored == (encoding, payload):
        return True
    if encoding != Encoding.MSGPACK:
        return _equal(one, other)  # a table, which may be cut into other pieces
    shown = _SHOWS.decode(*stored), _SHOWS.decode(encoding, payload)
    if type(shown[0]) is not Opaque:
        return False
    if shown[0].tag == "pickle":
        return _equal(one, other)  # whose bytes say little
    # Two instances may differ by the order in which a set or a dict of theirs is stored.
    return same(*shown, codec)


def _equal(one: Any, other: Any) -> bool:
    try:
        return (one == other) is True
    except (ValueError, TypeError):
        return False  # an array, whose equality has no single truth: its bytes have decided


def _tokens(values: Set[Any], codec: Codec) -> Set[Hashable]:
    return frozenset(_token(value, codec) for value in values)


def _token(value: Any, codec: Codec) -> Hashable:
    """What stands for a key or a member of a set: equal for those that are the same, and only for them."""
    kind = type(value)
    if kind is float:
        return kind, _bits(value)
    if isinstance(value, tuple):
        return kind, tuple(_token(item, codec) for item in value)
    if isinstance(value, frozenset):
        return kind, _tokens(value, codec)
    if kind is Opaque:
        return kind, value.tag, repr(value.data)
    if kind not in _EXACT:
        try:
            return kind, codec.encode(value)
        except Unencodable:
            pass  # what cannot be stored stands for itself
    return kind, value


def _bits(number: float) -> bytes:
    return b"" if math.isnan(number) else struct.pack(">d", number)
