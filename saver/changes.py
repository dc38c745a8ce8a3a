"""What became of a channel's value since it was last put, told by values that may have been changed in place.

LangGraph hands over whole values, and what a node got it may have edited: that an item is still the same object says
nothing. So an outline is kept of what was put: strings and whole numbers as they are, a digest of the encoded bytes of
everything else. A delta between two outlines is one between the values, exact to the byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..stores.deltas import Delta, Op, append_delta, concat_delta, dict_delta, set_delta

Digest = Callable[[Any], bytes]
"""Tells values apart: equal only where encoding gives equal bytes."""

_ATOMS = frozenset({str, int, bool, type(None)})
_HASHED = frozenset({str, bytes, int, bool})


class Base(NamedTuple):
    """A value as it was put."""

    version: int
    """Seq of its row."""
    outline: Any
    whole: int
    """Bytes of the last whole value beneath it."""
    changed: int
    """Bytes of the deltas since then."""
    deltas: int
    """How many these are."""


def outline(value: Any, digest: Digest) -> Any:
    """The outline of a value; None of one that deltas are not made for."""
    kind = type(value)
    if kind is list:
        return [_mark(item, digest) for item in value]
    if kind is dict:
        return {key: _mark(item, digest) for key, item in value.items()} if set(map(type, value)) <= _HASHED else None
    if kind in (set, frozenset):
        return kind(value) if set(map(type, value)) <= _HASHED else None
    return value if kind in (str, bytes) else None


def change(old: Any, new: Any, value: Any) -> Delta | None:
    """The delta from outline `old` to `new`, which is that of `value`; None where the value itself is as good."""
    if type(new) is list and type(old) is list:
        grown = append_delta(old, new)
        return Delta(Op.APPEND, value[len(old) :]) if grown else _edit(old, new, value)
    if type(new) is dict:
        found = dict_delta(old, new)
        if found is None:
            return None
        changed, removed = found.operand
        return Delta(Op.MERGE, [{key: value[key] for key in changed}, removed])
    return set_delta(old, new) or concat_delta(old, new)


def _edit(old: list[Any], new: list[Any], value: list[Any]) -> Delta | None:
    """Items replaced where they are, or gone; the rest at the end new. Whichever of the two ways writes less."""
    places = [index for index, (one, other) in enumerate(zip(old, new, strict=False)) if not _same(one, other)]
    removed: list[int] = []
    kept = 0
    for index, mark in enumerate(old):
        if kept < len(new) and _same(mark, new[kept]):
            kept += 1
        else:
            removed.append(index)
    replacing = len(places) + len(new) - len(old)
    if len(new) >= len(old) and replacing <= len(new) - kept:
        operand = [[[index, value[index]] for index in places], [], value[len(old) :]]
        written = replacing
    else:
        operand = [[], removed, value[kept:]]
        written = len(new) - kept
    return Delta(Op.MESSAGES, operand) if written * 2 < len(new) else None


def _mark(item: Any, digest: Digest) -> Any:
    return item if type(item) in _ATOMS else digest(item)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
