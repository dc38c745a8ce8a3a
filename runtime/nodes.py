"""Nodes: the functions of a graph, with where and how often they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from .callables import UserCallable
from .policies import RetryPolicy
from .schema import Schema

RunMode: TypeAlias = Literal["auto", "inline", "task"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a node asks of the cluster; None leaves it to Ray's default."""

    num_cpus: float | None = None
    num_gpus: float | None = None
    memory: float | None = None
    """Bytes."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """Custom resources by name."""
    runtime_env: Mapping[str, Any] | None = None
    """Ray's runtime environment for the node's own process."""

    def __bool__(self) -> bool:
        return self != _DEFAULTS


_DEFAULTS = Resources()


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node, as `StateGraph.add_node` made it."""

    name: str
    func: UserCallable
    is_async: bool = False
    """`call` returns a coroutine. (A plain function may still return an awaitable.)"""
    config_name: str = ""
    """Name of the parameter that takes the run's config; empty if it takes none."""
    input: Schema | None = None
    """What it is handed instead of the graph's state; None for the graph's own."""
    retry: tuple[RetryPolicy, ...] = ()
    """The first that matches an error counts."""
    run: RunMode = "auto"
    """inline: in the thread's own process. task: as a Ray task. auto: as the runtime sees fit."""
    resources: Resources = field(default_factory=Resources)
    effects: bool = False
    """It acts on the world: it starts only when all steps before it are durable."""
    destinations: tuple[str, ...] = ()
    """The nodes that its `Command`s may name, as far as they are known."""
    routes: bool = False
    """It may return a `Command` that leads anywhere."""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def takes_config(self) -> bool:
        """Whether it is handed the run's config."""
        return bool(self.config_name)

    @property
    def stays(self) -> bool:
        """Whether it runs in its thread's own process when it is the only task of a step."""
        return self.run == "inline" or (self.run == "auto" and not self.resources)

    def call(self, state: Any, config: Any) -> Any:
        """Run it on its state; the result, or the coroutine that has it."""
        if self.config_name:
            return self.func(state, **{self.config_name: config})
        return self.func(state)
