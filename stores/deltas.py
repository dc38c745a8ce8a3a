"""Deltas: closed operations on a channel's value, recorded after its reducer ran.

A delta says what became of the value (these items were appended, these keys were set), never what to run again.
Applying it needs neither the reducer nor the user's code, and gives the same on every machine.

The finders below compare an old and a new value. They take two values for the same only if they are one object, or
equal strings, bytes or integers of one type: `1 == True == 1.0`, and a value must come back as what it was. So items
must not be changed in place, as everywhere in a graph. A finder returns None where the new value itself is as good.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from .codec import Codec
from .errors import Corrupt


class Op(IntEnum):
    """What a delta does. Numbers are stored: never reuse one."""

    APPEND = 0
    """A list grew at its end. Operand: list of the new items."""
    MERGE = 1
    """A dict: keys went, then keys were set. Operand: [dict of keys to set, list of keys to remove]."""
    UNION = 2
    """A set or frozenset grew. Operand: set of the new items."""
    CONCAT = 3
    """A str or bytes grew at its end. Operand: the new end."""
    ADD = 4
    """An int changed by this int."""
    MESSAGES = 5
    """A list of messages. Operand: [list of (index, message) to replace, list of indexes to remove, list to append];
    indexes are those in the value before, in rising order."""


class Delta(NamedTuple):
    """One operation."""

    op: int
    operand: Any


def encode_delta(codec: Codec, delta: Delta) -> tuple[int, bytes]:
    """Encoding and payload of a delta. Raises `Unencodable`."""
    return codec.encode([int(delta.op), delta.operand])


def decode_delta(codec: Codec, encoding: int, payload: bytes | memoryview) -> Delta:
    """The delta again. Raises `Corrupt`, `DisallowedType`."""
    return _delta(codec.decode(encoding, payload))


def _delta(pair: Any) -> Delta:
    if type(pair) is not list or len(pair) != 2 or type(pair[0]) is not int:
        raise Corrupt("a stored delta is not an operation and its operand")
    return Delta(*pair)


Portion: TypeAlias = tuple[bytes, Sequence[bytes | memoryview]]
"""The encodings and the payloads of some deltas."""


def apply_stored(codec: Codec, base: Any, portions: Iterable[Portion]) -> Any:
    """The value that `base` became by encoded deltas, oldest first: `apply_deltas` of what `decode_delta` gives, with
    most of the time spent once for many. Raises as they do.

    Of a list that only grew nothing is kept but the items: objects for each delta that outlive their portion would make
    Python look through all of its memory (`gc`), which in a large process takes longer than the rest.
    """
    items: list[Any] = []
    others: list[Delta] = []
    for encodings, payloads in portions:
        if any(encodings):  # none is written with another encoding than MSGPACK, which is 0
            pairs = [codec.decode(*each) for each in zip(encodings, payloads, strict=True)]
        else:
            pairs = codec.decode_all(payloads)
        appended = _appended(pairs) if type(base) is list and not others else None
        if appended is None:
            others += map(_delta, pairs)
        else:
            items += appended
    if not others:
        return base + items if items else base
    return apply_deltas(base, [Delta(Op.APPEND, items), *others] if items else others)


def _appended(pairs: Sequence[Any]) -> list[Any] | None:
    """The items that were appended, if nothing else was done: for a long list, without an object for each delta."""
    items: list[Any] = []
    for pair in pairs:
        if (
            type(pair) is not list
            or len(pair) != 2
            or type(pair[0]) is not int
            or pair[0] != _APPEND
            or type(pair[1]) is not list
        ):
            return None
        items += pair[1]
    return items


def apply_deltas(base: Any, deltas: Iterable[Delta]) -> Any:
    """The value that `base` became by `deltas`, oldest first. Neither is changed; the time is linear in their size.

    Raises `Corrupt` where an operation does not fit the value.
    """
    pending = list(deltas)
    if not pending:
        return base
    fold = _FOLDS.get(type(base))
    if fold is None:
        raise Corrupt(f"stored deltas do not apply to a value of type {type(base).__name__}")
    return fold(base, pending)


# -- applying ----------------------------------------------------------------------------------------------------


def _misfit(delta: Delta, base: object) -> Corrupt:
    known = Op(delta.op).name if delta.op in _NUMBERS else f"number {delta.op} (of a newer Perdure?)"
    return Corrupt(f"a stored delta, {known}, does not fit a value of type {type(base).__name__}")


def _fold_list(base: list[Any], deltas: list[Delta]) -> list[Any]:
    items = list(base)
    for delta in deltas:
        if delta.op == Op.APPEND and type(delta.operand) is list:
            items.extend(delta.operand)
        elif delta.op == Op.MESSAGES:
            items = _edited(items, delta)
        else:
            raise _misfit(delta, base)
    return items


def _edited(items: list[Any], delta: Delta) -> list[Any]:
    try:
        replaced, removed, appended = delta.operand
        for index, message in replaced:
            items[_checked(index, items)] = message
        gone = [_checked(index, items) for index in removed]
        if gone != sorted(set(gone)) or type(appended) is not list:
            raise ValueError
    except (TypeError, ValueError, IndexError) as error:
        raise _misfit(delta, items) from error
    if len(gone) <= _FEW:
        for index in reversed(gone):
            del items[index]
    elif gone:
        lost = set(gone)
        items = [item for index, item in enumerate(items) if index not in lost]
    items.extend(appended)
    return items


def _checked(index: Any, items: list[Any]) -> int:
    if type(index) is not int or not 0 <= index < len(items):
        raise IndexError
    return index


def _fold_dict(base: dict[Any, Any], deltas: list[Delta]) -> dict[Any, Any]:
    merged = dict(base)
    for delta in deltas:
        try:
            changed, removed = delta.operand
            if delta.op != Op.MERGE or type(changed) is not dict or type(removed) is not list:
                raise ValueError
            for key in removed:
                del merged[key]
        except (TypeError, ValueError, KeyError) as error:
            raise _misfit(delta, base) from error
        merged.update(changed)
    return merged


def _fold_set(base: Any, deltas: list[Delta]) -> Any:
    union = set(base)
    for delta in deltas:
        if delta.op != Op.UNION or not isinstance(delta.operand, (set, frozenset)):
            raise _misfit(delta, base)
        union |= delta.operand
    return union if type(base) is set else frozenset(union)


def _fold_text(base: Any, deltas: list[Delta]) -> Any:
    parts = [base]
    for delta in deltas:
        if delta.op != Op.CONCAT or type(delta.operand) is not type(base):
            raise _misfit(delta, base)
        parts.append(delta.operand)
    return type(base)().join(parts)


def _fold_int(base: int, deltas: list[Delta]) -> int:
    total = base
    for delta in deltas:
        if delta.op != Op.ADD or type(delta.operand) is not int:
            raise _misfit(delta, base)
        total += delta.operand
    return total


_APPEND = int(Op.APPEND)
_FEW = 16
"""So many removals from a list are done one by one; more by copying it once."""
_NUMBERS = frozenset(int(op) for op in Op)
_FOLDS: Mapping[type, Callable[[Any, list[Delta]], Any]] = MappingProxyType(
    {
        list: _fold_list,
        dict: _fold_dict,
        set: _fold_set,
        frozenset: _fold_set,
        str: _fold_text,
        bytes: _fold_text,
        int: _fold_int,
    }
)


# -- finding -----------------------------------------------------------------------------------------------------


def append_delta(old: Any, new: Any) -> Delta | None:
    """`new` is a list that starts with the items of `old`."""
    if type(old) is not list or type(new) is not list or old is new or not 0 < len(old) <= len(new):
        return None
    if all(map(operator.is_, old, new)) or all(map(_same, old, new)):
        return Delta(Op.APPEND, new[len(old) :])
    return None


def dict_delta(old: Any, new: Any) -> Delta | None:
    """`new` is a dict with some keys of `old` changed, gone or added; its order must be what merging gives."""
    if type(old) is not dict or type(new) is not dict or old is new:
        return None
    removed = [key for key in old if key not in new]
    changed = {key: item for key, item in new.items() if key not in old or not _same(old[key], item)}
    if len(changed) + len(removed) >= len(new):
        return None
    kept = [key for key in old if key in new]
    order = kept + [key for key in changed if key not in old]
    return Delta(Op.MERGE, [changed, removed]) if all(map(_same, order, new)) else None


def set_delta(old: Any, new: Any) -> Delta | None:
    """`new` is a set with all items of `old` and more."""
    if type(old) not in (set, frozenset) or type(old) is not type(new) or old is new:
        return None
    added = new - old
    if not 0 < len(old) <= len(new) or len(new) - len(added) != len(old):
        return None
    kept = {item: item for item in new}
    return Delta(Op.UNION, added) if all(_same(item, kept[item]) for item in old) else None


def concat_delta(old: Any, new: Any) -> Delta | None:
    """`new` is a str or bytes that starts with `old`."""
    if type(old) not in (str, bytes) or type(old) is not type(new) or not old or not new.startswith(old):
        return None
    return Delta(Op.CONCAT, new[len(old) :])


def count_delta(old: Any, new: Any) -> Delta | None:
    """`new` is an int so large that the difference to `old` is smaller; an ordinary int is as small as any delta."""
    if type(old) is not int or type(new) is not int or (new - old).bit_length() + 64 > new.bit_length():
        return None
    return Delta(Op.ADD, new - old)


def messages_delta(old: Any, new: Any) -> Delta | None:
    """`new` is a list of messages of which most are those of `old`, in their order; some replaced, some gone, some new
    at the end. Messages are told apart by `id` (an attribute, or a dict's key); those without one by themselves."""
    if type(old) is not list or type(new) is not list or old is new:
        return None
    places = {_id(message): index for index, message in enumerate(old)}
    replaced: list[Any] = []
    removed: list[int] = []
    before = at = 0
    for message in new:
        place = places.get(_id(message), -1)
        if place < before:
            break
        removed.extend(range(before, place))
        if not _same(old[place], message):
            replaced.append((place, message))
        before, at = place + 1, at + 1
    removed.extend(range(before, len(old)))
    appended = new[at:]
    if len(replaced) + len(appended) >= len(new):
        return None
    if not replaced and not removed:
        return Delta(Op.APPEND, appended)
    return Delta(Op.MESSAGES, [replaced, removed, appended])


def _id(message: Any) -> Any:
    found = message.get("id") if isinstance(message, dict) else getattr(message, "id", None)
    return found if isinstance(found, (str, int)) else (id(message),)


def _same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and type(one) in _EXACT and bool(one == other))


_EXACT = frozenset({str, bytes, int, bool})
