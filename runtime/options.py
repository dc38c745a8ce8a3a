"""Options of one run, kept with its input so that whoever recovers it obeys them too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from ..stores.records import BATCH, BATCH_MARK, RERUN
from .checkpoints import Checkpoints
from .errors import InputError
from .topology import Topology, suggestion

DEFAULT_RECURSION_LIMIT = 10_000


class Durability(StrEnum):
    """When a step counts as done."""

    SYNC = "sync"
    """The next step starts after it is in the store."""
    ASYNC = "async"
    """Compute runs ahead within bounds; results and interrupts are released only once durable."""
    EXIT = "exit"
    """One commit at the end of the run, or where it stops for an answer or a node called `checkpoint()`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a caller may choose for a run."""

    recursion_limit: int = DEFAULT_RECURSION_LIMIT
    """Supersteps that the run may take, counted anew after each resume."""
    durability: Durability = Durability.ASYNC
    checkpoints: Checkpoints | None = None
    """Which steps become full checkpoints, in place of what the graph was compiled with."""
    interrupt_before: tuple[str, ...] | None = None
    """Nodes to stop before, in place of those that the graph was compiled with."""
    interrupt_after: tuple[str, ...] | None = None
    pinned: bool = False
    """Its breakpoints were changed while it ran: they hold until it ends, unless somebody who goes on with it names
    others."""
    stop_after: tuple[str, int] | None = None
    """Of a thread that takes a single step: its id, and the superstep (`Position.born`) after whose tasks it stops."""
    configurable: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """What nodes find in `config["configurable"]`, besides the thread's id."""
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """JSON values that the run's checkpoints carry."""
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (
            isinstance(self.recursion_limit, bool)
            or not isinstance(self.recursion_limit, int)
            or self.recursion_limit < 1
        ):
            raise InputError(f"recursion_limit is {self.recursion_limit!r}; it must be a whole number of at least 1")
        if self.checkpoints is not None and not isinstance(self.checkpoints, Checkpoints):
            raise InputError(f"checkpoints is {self.checkpoints!r}; give perdure.Checkpoints(...)")

    def to_data(self) -> dict[str, Any]:
        """The options as plain data, without those left at their default."""
        data: dict[str, Any] = {}
        if self.recursion_limit != DEFAULT_RECURSION_LIMIT:
            data["recursion_limit"] = self.recursion_limit
        if self.durability is not Durability.ASYNC:
            data["durability"] = self.durability.value
        if self.checkpoints is not None:
            data["checkpoints"] = self.checkpoints.to_data()
        for name in ("interrupt_before", "interrupt_after"):
            nodes = getattr(self, name)
            if nodes is not None:
                data[name] = list(nodes)
        if self.pinned:
            data["pinned"] = True
        if self.stop_after is not None:
            data["stop_after"] = list(self.stop_after)
        for name in ("configurable", "metadata"):
            if getattr(self, name):
                data[name] = dict(getattr(self, name))
        if self.tags:
            data["tags"] = list(self.tags)
        return data

    def as_config(self, thread_id: str) -> dict[str, Any]:
        """What a node that takes `config` is handed."""
        return {
            "configurable": {**self.configurable, "thread_id": thread_id},
            "metadata": dict(self.metadata),
            "tags": list(self.tags),
            "recursion_limit": self.recursion_limit,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> RunOptions:
        """The options that `to_data` described. Raises `InputError`."""
        fields = dict(data)
        try:
            fields["durability"] = Durability(fields.get("durability", Durability.ASYNC))
        except ValueError:
            raise InputError(
                f"durability {fields['durability']!r} is unknown; choose one of "
                f"{', '.join(mode.value for mode in Durability)}"
            ) from None
        if isinstance(fields.get("checkpoints"), Mapping):
            fields["checkpoints"] = Checkpoints.from_data(fields["checkpoints"])
        for name in ("interrupt_before", "interrupt_after", "stop_after", "tags"):
            if fields.get(name) is not None:
                fields[name] = tuple(fields[name])
        return cls(**fields)


def node_list(given: object) -> tuple[str, ...]:
    """The names in an interrupt list, or the one name that is given instead. Raises `InputError`."""
    if isinstance(given, str):
        return (given,)
    names = tuple(given) if isinstance(given, Iterable) else (None,)
    if all(isinstance(name, str) for name in names):
        return names
    raise InputError(f"an interrupt list is {given!r}; give the names of nodes, or '*' for all of them")


def breakpoints(topology: Topology, nodes: Iterable[str]) -> frozenset[str]:
    """The nodes that a thread's interrupt list names. One that a later version of the graph does not have stops
    nobody."""
    names = frozenset(nodes)
    return frozenset(topology.nodes) if "*" in names else names & topology.nodes.keys()


def given_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """The metadata that a user gives a thread. Raises `InputError` for a key that marks re-runs: rows are believed
    what these say."""
    for name in (RERUN, BATCH, BATCH_MARK):
        if name in (metadata or {}):
            raise InputError(f"the metadata key {name!r} is kept for re-runs: fork(effects=...) and rerun() make them")
    return dict(metadata or {})


def named_nodes(topology: Topology, nodes: Iterable[str]) -> frozenset[str]:
    """The nodes that an interrupt list names; `*` stands for all. Raises `InputError`."""
    names = frozenset(nodes)
    if "*" in names:
        return frozenset(topology.nodes)
    for name in sorted(names - topology.nodes.keys()):
        raise InputError(
            f"the interrupt list names {name!r}, which is no node of graph {topology.name!r}"
            f"{suggestion(name, topology.nodes)}"
        )
    return names
