"""Channels whose type another version of the graph has changed: whether what a thread holds in them still fits."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from typing_extensions import is_typeddict

from ..stores.errors import DisallowedType
from .annotations import describe, unwrap
from .channels import Channel
from .topology import Topology
from .values import Values

_WIDENS: Mapping[type, tuple[type, ...]] = {float: (int,), complex: (int, float)}
"""What is as good as a value of the type."""


def types_of(channels: Mapping[str, Channel]) -> dict[str, str]:
    """Each channel's type as text, as it is kept with a run."""
    return {name: describe(channel.annotation) for name, channel in channels.items()}


def changed(before: Mapping[str, str], topology: Topology) -> dict[str, str]:
    """Those of the types `before` (`types_of`) that are others in this graph version."""
    now = types_of(topology.channels) if before else {}
    return {name: old for name, old in before.items() if now.get(name, old) != old}


def misfit(before: Mapping[str, str], values: Values, topology: Topology) -> str:
    """Why the values of a thread do not fit the channels of this graph version; empty if they do. `before` are the
    former types of the channels that have `changed`.

    Only a value that the new type does not take is a misfit:
    `int` that became `int | None` goes on. Of a container's entries the first is looked at. Raises `StoreError` for a
    value that cannot be read.
    """
    for name, old in before.items():
        if name not in values:
            continue
        annotation = topology.channels[name].annotation
        try:
            if accepts(annotation, values[name]):
                continue
            found = f"a value of type {describe(type(values[name]))}"
        except DisallowedType as error:
            found = f"a value of type {error.tag}"
        return (
            f"graph {topology.name!r} version {topology.version} has channel {name!r} as {describe(annotation)}, but "
            f"it was {old} when this run began, and holds {found}; deploy a version in which it is {old} and retry, "
            "and give what is of another type a key of its own"
        )
    return ""


def accepts(annotation: Any, value: Any) -> bool:
    """Whether a value may be one of a type, as far as can be seen without looking through it. True for types that say
    nothing of their instances."""
    bare, _ = unwrap(annotation)
    origin, args = get_origin(bare), get_args(bare)
    if bare is None or bare is NoneType:
        return value is None
    if origin is Union or origin is UnionType:
        return any(accepts(one, value) for one in args)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in args)
    if is_typeddict(bare):
        return isinstance(value, dict)
    kind = origin or bare
    if not isinstance(kind, type):
        return True  # Any, a TypeVar, a name that nobody has resolved
    try:
        fits = isinstance(value, (kind, *_WIDENS.get(kind, ())))
    except TypeError:
        return True  # a protocol that is not made for such questions
    return fits and _entries_fit(args, value)


def _entries_fit(args: tuple[Any, ...], value: Any) -> bool:
    if isinstance(value, dict) and len(args) == 2 and value:
        key, entry = next(iter(value.items()))
        return accepts(args[0], key) and accepts(args[1], entry)
    if isinstance(value, list | set | frozenset) and len(args) == 1 and value:
        return accepts(args[0], next(iter(value)))
    return True
