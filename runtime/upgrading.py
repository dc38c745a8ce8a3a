"""Brings a thread that another version of its graph has left to the version that is to go on with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from ..stores.codec import Codec
from ..stores.errors import StoreError, Unencodable
from .migrations import Migration, way
from .position import Position
from .topology import Topology


def upgrade(at: Position, topology: Topology, codec: Codec) -> str:
    """Bring a position that another version of the graph has left to this one; the next checkpoint writes what changed.
    Returns why that cannot be done, else an empty text; then nothing has changed."""
    if not at.head or at.version == topology.version or not topology.migrations:
        return ""
    steps = way(topology.migrations, at.version, topology.version)
    if not steps:
        known = ", ".join(repr(one.from_version) for one in topology.migrations)
        return (
            f"its state is that of version {at.version} of graph {topology.name!r}, and no migration leads from there "
            f"to version {topology.version} (there are some from {known}): declare one, compile(migrations=[...]), or "
            "deploy the version that it has"
        )
    try:
        before = {name: at.values[name] for name in at.values}
        after = _migrated(before, steps, topology)
    except StoreError as error:
        return f"its state of version {at.version} cannot be read: {error}"
    except Exception as error:  # noqa: BLE001 — a user's function may raise anything
        return (
            f"the migration of its state from version {at.version} to {topology.version} failed: "
            f"{type(error).__name__}: {error}"
        )
    if why := _unstorable(after, codec):
        return f"the migration of its state from version {at.version} to {topology.version} returned {why}"
    for name in before.keys() - after.keys():
        del at.values[name]
        at.manifest.pop(name, None)
        at.adopted.pop(name, None)
    for name, value in after.items():
        if name not in before or not _stored_alike(before[name], value, codec):
            at.values[name] = value
            at.adopted[name] = value
    at.version = topology.version
    return ""


def _migrated(before: Mapping[str, Any], steps: Iterable[Migration], topology: Topology) -> dict[str, Any]:
    # A copy: values are shared with whoever else reads them, and one changed in place would look unchanged.
    state = deepcopy(dict(before))
    for one in steps:
        state = one.migrate(state)
        if not isinstance(state, dict):
            raise TypeError(f"migrate of {one.from_version!r} returned {type(state).__name__}; return the new state")
    unknown = sorted(state.keys() - topology.channels.keys() - before.keys())
    if unknown:
        raise KeyError(f"{unknown[0]!r} is no key of the new version's state")
    return {name: value for name, value in state.items() if name in topology.channels}


def _unstorable(state: Mapping[str, Any], codec: Codec) -> str:
    for name, value in state.items():
        try:
            codec.encode(value)
        except Unencodable as error:
            return f"for key {name!r} what cannot be stored: {error}"
    return ""


def _stored_alike(one: Any, other: Any, codec: Codec) -> bool:
    """By their bytes: `==` says of 1 and 1.0 in a list, or of two models, what is not true of what is stored."""
    return codec.encode(one) == codec.encode(other)
