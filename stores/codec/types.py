"""Which classes a state schema names."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Any

from .classes import is_model, is_namedtuple


def types_in(annotation: object) -> frozenset[type]:
    """Every class that `annotation` names, recursively: through TypedDicts, dataclasses, pydantic models, named tuples,
    unions, `Annotated`, containers, literals, aliases, type variables and string annotations.

    A string annotation that cannot be resolved where its class was defined is passed over; the instances of what it
    meant are then refused with a hint when they are to be stored.
    """
    found: set[type] = set()
    seen: list[object] = []  # kept, so that no id is given out twice
    seen_ids: set[int] = set()
    todo: list[object] = [annotation]
    while todo:
        item = todo.pop()
        if id(item) in seen_ids:
            continue
        seen_ids.add(id(item))
        seen.append(item)
        if isinstance(item, type) and not isinstance(item, types.GenericAlias):
            found.add(item)
            todo.extend(_members(item))
        else:
            todo.extend(_parts(item))
    return frozenset(found)


def _parts(item: Any) -> Iterator[object]:
    """What an annotation that is no class is composed of."""
    if item is None:
        yield type(None)
        return
    if isinstance(item, (list, tuple)):
        yield from item
        return
    if isinstance(item, dataclasses.InitVar):
        yield item.type
        return
    if isinstance(item, typing.TypeVar):
        yield from (item.__bound__, *item.__constraints__)
        return
    if isinstance(item, typing.NewType):
        yield item.__supertype__
        return
    if hasattr(item, "__value__"):  # an alias made by the type statement, or its backport
        yield _value_of(item)
    origin = typing.get_origin(item)
    if origin is None:
        return
    args = typing.get_args(item)
    if origin is typing.Literal:
        yield from (type(arg) for arg in args)
        return
    yield origin
    yield from args[:1] if origin is typing.Annotated else args


def _value_of(alias: Any) -> object:
    try:
        return alias.__value__
    except NameError:
        return None


def _members(cls: type) -> Iterator[object]:
    """The annotations of a class that holds values by name."""
    if issubclass(cls, Enum):
        return
    if is_model(cls):
        for field in cls.model_fields.values():  # type: ignore[attr-defined]
            yield field.annotation
        yield from _hints(cls)
    elif dataclasses.is_dataclass(cls) or is_namedtuple(cls) or _is_typeddict(cls):
        yield from _hints(cls)
    for base in getattr(cls, "__orig_bases__", ()):
        yield from typing.get_args(base)


def _is_typeddict(cls: type) -> bool:
    # typing.is_typeddict does not know those of typing_extensions
    return issubclass(cls, dict) and hasattr(cls, "__required_keys__")


def _hints(cls: type) -> Iterator[object]:
    """The class's annotations, with strings resolved."""
    try:
        yield from typing.get_type_hints(cls, include_extras=True).values()
    except Exception:  # noqa: BLE001 — evaluating a string can raise anything; then each is tried by itself
        for base in cls.__mro__:
            scope = {**vars(sys.modules.get(base.__module__, types)), **vars(base)}
            for annotation in vars(base).get("__annotations__", {}).values():
                yield from _resolved(annotation, scope)


def _resolved(annotation: object, scope: dict[str, Any]) -> Iterator[object]:
    holder = types.SimpleNamespace(__annotations__={"value": annotation})
    try:
        yield from typing.get_type_hints(holder, globalns=scope, include_extras=True).values()
    except Exception:  # noqa: BLE001 — see types_in: what cannot be resolved is passed over
        return
