"""A compiled graph's structure: plain frozen data, which the engine reads and no run changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from ..stores.records import Retention
from .callables import UserCallable
from .channels import Channel
from .checkpoints import EVERY_STEP, Checkpoints
from .commands import END, START, Send
from .errors import RoutingError
from .messages import RemoveMessage
from .migrations import Migration, check_migrations
from .nodes import Node
from .schema import Schema


@dataclass(frozen=True, slots=True)
class Join:
    """A barrier edge: `end` runs once all of `starts` have finished."""

    key: str
    """Names it in checkpoints; the same in every process."""
    starts: tuple[str, ...]
    end: str


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A conditional edge."""

    source: str
    name: str
    """Unique among the branches of its source."""
    func: UserCallable
    is_async: bool = False
    config_name: str = ""
    """Name of the parameter that takes the run's config; empty if it takes none."""
    input: Schema | None = None
    """What `func` is handed instead of the graph's state; None for the graph's own."""
    mapping: Mapping[Any, str] | None = None
    """From what `func` returns to a node's name; None: it returns names."""
    nodes: tuple[str, ...] = ()
    """The graph's nodes."""

    @property
    def takes_config(self) -> bool:
        """Whether it is handed the run's config."""
        return bool(self.config_name)

    def call(self, state: Any, config: Any) -> Any:
        """Ask for the way; the answer, or the coroutine that has it. Give it to `resolve`."""
        if self.config_name:
            return self.func(state, **{self.config_name: config})
        return self.func(state)

    def resolve(self, result: Any) -> list[str | Send]:
        """The targets in what `func` returned: nodes, END, `Send`s, in order. An empty list leads nowhere.

        Raises `RoutingError` naming the branch, its source and the nodes there are.
        """
        answers = result if isinstance(result, list | tuple) else [result]
        return [self._target(answer) for answer in answers]

    def _target(self, answer: Any) -> str | Send:
        if isinstance(answer, Send):
            if answer.node in self.nodes:
                return answer
            raise self._lost(answer.node, "sent to {}, which is no node", self.nodes)
        target = answer
        if self.mapping is not None:
            try:
                target = self.mapping[answer]
            except (KeyError, TypeError):
                raise self._lost(answer, "returned {}, which its path_map does not have", self.mapping) from None
        if isinstance(target, str) and (target == END or target in self.nodes):
            return target
        raise self._lost(target, "returned {}, which is no node", (*self.nodes, END))

    def _lost(self, target: object, what: str, known: Iterable[object]) -> RoutingError:
        return RoutingError(
            f"conditional edge {self.name!r} of node {self.source!r} {what.format(repr(target))}; "
            f"known are {', '.join(map(repr, known))}{suggestion(target, known)}",
            source=self.source,
            target=target,
        )


@dataclass(frozen=True, kw_only=True)
class Topology:
    """A graph, checked and ready to run."""

    name: str
    nodes: dict[str, Node]
    """In the order in which they were added. (A step merges by name: see `plan.successors`.)"""
    edges: dict[str, tuple[str, ...]]
    """Plain edges by source, START and END included."""
    state: Schema
    """What nodes are handed and write to; its `channels` are all of the graph's."""
    input: Schema
    output: Schema
    joins: tuple[Join, ...] = ()
    """Barrier edges; those that lead to END are left out, as they do nothing."""
    branches: dict[str, tuple[Branch, ...]] = field(default_factory=dict)
    """Conditional edges by source, START included."""
    interrupt_before: frozenset[str] = frozenset()
    interrupt_after: frozenset[str] = frozenset()
    checkpoints: Checkpoints = EVERY_STEP
    """Which steps of a run become full checkpoints, unless the run says otherwise."""
    retention: Retention | None = None
    """What of a thread's past is kept, where the thread is not given its own; None for the store's."""
    allow: tuple[type, ...] = ()
    """Classes that stored values may have, besides those that the schemas name."""
    migrations: tuple[Migration, ...] = ()
    """From other versions to this one."""
    version: str = ""
    """As the user named it, else `fingerprint`."""

    def __post_init__(self) -> None:
        if not self.version:
            object.__setattr__(self, "version", self.fingerprint)
        check_migrations(self.migrations, self.version)

    def __getstate__(self) -> dict[str, Any]:
        # Without what was derived from them so far: a graph's pickle, which names its code, does not change with use.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def channels(self) -> dict[str, Channel]:
        """Every channel of the graph, by key."""
        return self.state.channels

    def read_by(self, node: str) -> tuple[Schema, ...]:
        """What a node and its conditional edges are handed."""
        return (
            self.nodes[node].input or self.state,
            *(branch.input or self.state for branch in self.branches.get(node, ())),
        )

    @cached_property
    def types(self) -> frozenset[type]:
        """Every class that a stored value may have."""
        schemas = (self.state, self.input, self.output, *(node.input for node in self.nodes.values() if node.input))
        return frozenset((*self.allow, RemoveMessage)).union(*(schema.types for schema in schemas))

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits over the structure and the channels' types, the same in every process. Function bodies,
        policies and resources do not count: changed code of the same shape goes on with a thread."""
        facts = {
            "nodes": sorted(self.nodes),
            "edges": sorted((source, sorted(ends)) for source, ends in self.edges.items()),
            "joins": sorted(join.key for join in self.joins),
            "branches": sorted(
                (source, sorted(sorted(set((one.mapping or {}).values())) for one in branches))
                for source, branches in self.branches.items()
            ),
            "channels": sorted((name, channel.signature) for name, channel in self.channels.items()),
        }
        return hashlib.blake2b(json.dumps(facts).encode(), digest_size=6).hexdigest()

    def route(self, goto: Any, source: str) -> list[str | Send]:
        """The targets of a `Command(goto=...)` that `source` returned. Raises `RoutingError` naming the known ones."""
        targets = list(goto) if isinstance(goto, list | tuple) else [goto]
        for target in targets:
            name = target.node if isinstance(target, Send) else target
            known = tuple(self.nodes) if isinstance(target, Send) else (*self.nodes, END)
            if not isinstance(name, str) or name not in known:
                verb = "sends to" if isinstance(target, Send) else "leads to"
                raise RoutingError(
                    f"the Command of node {source!r} {verb} {name!r}, which is no node of graph {self.name!r}; "
                    f"known are {', '.join(map(repr, known))}{suggestion(name, known)}",
                    source=source,
                    target=name,
                )
        return targets


def suggestion(name: object, known: Iterable[object]) -> str:
    """`; did you mean 'x'?`, where a known name is close; else empty."""
    close = get_close_matches(str(name), [str(one) for one in known if one not in (START, END)], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
