"""Where in a value something is, for messages. Runs only once encoding has failed, so it may be slow.

Walks with an explicit stack: what it looks at is often what was nested too deep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Attributes = Callable[[Any], dict[str, Any]]
Place = tuple[Any, ...] | None
"""(parent's place, step): a linked path, so that deep values cost no quadratic copying."""

_SHOWN = 12


def place_of(root: object, target: object, attributes: Attributes) -> str:
    """Path of the object `target` inside `root`, such as `['a'][3].b`; empty if it is `root` or not there."""
    stack: list[tuple[object, Place]] = [(root, None)]
    seen: set[int] = set()
    while stack:
        value, place = stack.pop()
        if value is target:
            return _text(place)
        if id(value) in seen:
            continue
        seen.add(id(value))
        stack.extend((child, (place, step)) for step, child in _children(value, attributes))
    return ""


def cycle_in(root: object, attributes: Attributes) -> tuple[object, str] | None:
    """The first container that contains itself, and the path at which it does; None if none does."""
    stack: list[tuple[object, Place, bool]] = [(root, None, False)]
    open_ids: set[int] = set()
    done: set[int] = set()
    while stack:
        value, place, leaving = stack.pop()
        if leaving:
            open_ids.discard(id(value))
            done.add(id(value))
            continue
        if id(value) in open_ids:
            return value, _text(place)
        if id(value) in done:
            continue
        children = list(_children(value, attributes))
        if children:
            open_ids.add(id(value))
            stack.append((value, place, True))
            stack.extend((child, (place, step), False) for step, child in children)
    return None


def _children(value: Any, attributes: Attributes) -> Iterator[tuple[str, Any]]:
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            yield f"[{_short(key)}]", item
            yield f" key {_short(key)}", key
    elif kind in (list, tuple):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    elif kind in (set, frozenset):
        for item in value:
            yield f"{{{_short(item)}}}", item
    else:
        for name, item in attributes(value).items():
            yield f".{name}", item


def _short(key: object) -> str:
    if not isinstance(key, (str, int, float, bytes, bool, type(None))):
        return f"<{type(key).__name__}>"
    text = repr(key) if not isinstance(key, int) or key.bit_length() < 256 else "<int>"
    return text if len(text) <= 40 else text[:37] + "..."


def _text(place: Place) -> str:
    steps = []
    while place is not None:
        place, step = place
        steps.append(step)
    steps.reverse()
    if len(steps) > 2 * _SHOWN:
        steps[_SHOWN:-_SHOWN] = ["..."]
    return "".join(steps)
