"""`StateGraph`: how a graph is written, in LangGraph's vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, TypeAlias

from ..stores.base import CheckpointStore
from ..stores.records import Retention
from .arguments import (
    check_cache,
    check_checkpoints,
    check_direction,
    check_placement,
    check_retention_given,
    check_store,
    label_of,
    mapping_of,
    policies_of,
)
from .cache import CacheOptions
from .callables import UserCallable, command_targets, name_of, traits_of
from .checkpoints import EVERY_STEP, Checkpoints
from .commands import END, START
from .compiled import CompiledGraph
from .errors import GraphValidationError
from .migrations import Migration
from .nodes import Node, Resources, RunMode
from .policies import RetryPolicy
from .schema import Schema, merged_channels
from .shapes import is_state_class
from .topology import Branch, Join, Topology
from .validation import Ways, check_known, check_name

Interrupts: TypeAlias = str | Sequence[str] | None
"""Names of nodes, or `"*"` for every node."""


class StateGraph:
    """A graph in the making: nodes that read and update one shared state, and the edges between them.

    `state_schema`, and where they differ from it `input_schema` and `output_schema`, are TypedDicts, dataclasses or
    pydantic models; a key's reducer is given as `Annotated[type, reducer]`. Every method that builds returns the graph.
    All raise `GraphValidationError`.
    """

    def __init__(
        self,
        state_schema: type[Any],
        context_schema: type[Any] | None = None,
        *,
        input_schema: type[Any] | None = None,
        output_schema: type[Any] | None = None,
    ) -> None:
        if context_schema is not None:
            raise GraphValidationError(
                "no context_schema here; pass what nodes need in config={'configurable': {...}}, and take `config`"
            )
        self.state_schema = state_schema
        self._schemas: dict[type[Any], Schema] = {}
        self._state = self._schema(state_schema)
        self._input = self._schema(input_schema or state_schema)
        self._output = self._schema(output_schema or state_schema)
        self._nodes: dict[str, Node] = {}
        self._edges: dict[str, dict[str, None]] = {}
        self._joins: dict[str, Join] = {}
        self._branches: dict[str, list[Branch]] = {}

    # -- nodes ---------------------------------------------------------------------------------------------------

    def add_node(
        self,
        node: str | UserCallable,
        action: UserCallable | None = None,
        *,
        retry_policy: RetryPolicy | Sequence[RetryPolicy] | None = None,
        metadata: Mapping[str, Any] | None = None,
        input_schema: type[Any] | None = None,
        destinations: Mapping[str, str] | Sequence[str] | None = None,
        run: RunMode = "auto",
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        effects: bool = False,
    ) -> Self:
        """Add a node: `add_node("name", function)`, or `add_node(function)` to use the function's name.

        The function takes the state, or the state and `config`, and returns an update, a `Command` or None; it may be
        async. `run` and the resources say where it runs; `effects=True` holds it back until all earlier steps are
        durable; `destinations` names the nodes to which its Commands lead, where its annotation does not.
        """
        func: Any = node if action is None else action
        name = node if isinstance(node, str) else name_of(func)
        if isinstance(node, str) and action is None:
            raise GraphValidationError(f"add_node({node!r}) has no function; add_node({node!r}, function)", node=node)
        if not name and callable(func):
            raise GraphValidationError(f"add_node({func!r}): this function has no name; add_node('name', function)")
        name = check_name(name)
        if name in self._nodes:
            raise GraphValidationError(f"there is a node {name!r} already; give the second one another name", node=name)
        traits = traits_of(func, f"node {name!r}", node=name)
        wanted = Resources(
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            memory=memory,
            resources=dict(resources or {}),
            runtime_env=runtime_env,
        )
        check_placement(name, run, wanted)
        targets = tuple(destinations) if destinations is not None else command_targets(traits.returns)
        self._nodes[name] = Node(
            name=name,
            func=func,
            is_async=traits.is_async,
            config_name=traits.config,
            input=self._schema_for(input_schema, traits.takes),
            retry=policies_of(name, retry_policy),
            run=run,
            resources=wanted,
            effects=bool(effects),
            destinations=targets,
            routes=traits.commands and not targets,
            metadata=dict(metadata or {}),
        )
        return self

    def add_sequence(self, nodes: Sequence[UserCallable | tuple[str, UserCallable]]) -> Self:
        """Add nodes, each with an edge to the next."""
        if not nodes:
            raise GraphValidationError("add_sequence() was given no nodes")
        before = ""
        for item in nodes:
            name, func = item if isinstance(item, tuple) else (name_of(item), item)
            self.add_node(name or func, func)
            if before:
                self.add_edge(before, name)
            before = name
        return self

    # -- edges ---------------------------------------------------------------------------------------------------

    def add_edge(self, start_key: str | Sequence[str], end_key: str) -> Self:
        """After `start_key` comes `end_key`. A list of starts is a barrier: `end_key` runs once all of them have."""
        if isinstance(start_key, str):
            check_direction(start_key, end_key)
            self._edges.setdefault(start_key, {})[end_key] = None
            return self
        starts = tuple(dict.fromkeys(start_key))
        if not starts:
            raise GraphValidationError(f"an edge from an empty list to {end_key!r}; name the nodes that it waits for")
        for start in starts:
            check_direction(start, end_key)
            if start == START:
                raise GraphValidationError(
                    f"START cannot be waited for; add_edge(START, {end_key!r}) is an edge of its own"
                )
        if len(starts) == 1:
            return self.add_edge(starts[0], end_key)
        key = ":".join(("join", *starts, end_key))
        self._joins[key] = Join(key, starts, end_key)
        return self

    def add_conditional_edges(
        self, source: str, path: UserCallable, path_map: Mapping[Any, str] | Sequence[str] | None = None
    ) -> Self:
        """After `source`, ask `path` (a function of the state) for the next node, several, or `Send`s.

        `path_map` says which answer means which node; without it, and without a `-> Literal[...]` annotation, the
        answers are names and may lead to any node.
        """
        if not isinstance(source, str) or source == END:
            raise GraphValidationError(
                f"a conditional edge cannot start at {source!r}; give the name of a node, or START"
            )
        traits = traits_of(path, f"the path of the conditional edge of {source!r}", node=source)
        known = self._branches.setdefault(source, [])
        if any(branch.func == path for branch in known):
            raise GraphValidationError(
                f"node {source!r} has the conditional edge {name_of(path)!r} already; every answer would count twice",
                node=source,
            )
        name = name_of(path) or "condition"
        taken = {branch.name for branch in known}
        name = next(
            one for one in (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3))) if one not in taken
        )
        known.append(
            Branch(
                source=source,
                name=name,
                func=path,
                is_async=traits.is_async,
                config_name=traits.config,
                input=self._schema_for(None, traits.takes),
                mapping=mapping_of(path_map, traits.returns),
            )
        )
        return self

    def set_entry_point(self, key: str) -> Self:
        """The same as `add_edge(START, key)`."""
        return self.add_edge(START, key)

    def set_conditional_entry_point(
        self, path: UserCallable, path_map: Mapping[Any, str] | Sequence[str] | None = None
    ) -> Self:
        """The same as `add_conditional_edges(START, path, path_map)`."""
        return self.add_conditional_edges(START, path, path_map)

    def set_finish_point(self, key: str) -> Self:
        """The same as `add_edge(key, END)`."""
        return self.add_edge(key, END)

    # -- the result ----------------------------------------------------------------------------------------------

    def validate(self, interrupt: Sequence[str] | None = None) -> Self:
        """Check that every name is known, every node can be reached and left, and there is an entry."""
        edges = {source: tuple(ends) for source, ends in self._edges.items()}
        Ways(self._nodes, edges, tuple(self._joins.values()), self._branches).check()
        for name in interrupt or ():
            check_known(name, self._nodes, "the list of interrupts")
        return self

    def topology(
        self,
        *,
        interrupt_before: Interrupts = None,
        interrupt_after: Interrupts = None,
        checkpoints: Checkpoints | None = None,
        retention: Retention | None = None,
        name: str | None = None,
        version: str | None = None,
        allow: Iterable[type] = (),
        migrations: Iterable[Migration] = (),
    ) -> Topology:
        """The graph as frozen data, checked; arguments as for `compile`."""
        before, after = self._interrupts(interrupt_before), self._interrupts(interrupt_after)
        self.validate((*before, *after))
        allowed = tuple(allow)
        for cls in allowed:
            if not isinstance(cls, type):
                raise GraphValidationError(f"compile(allow=...) has {cls!r}, which is no class")
        # The state's class first: its channels come first in every listing.
        channels = merged_channels([self._state, self._input, self._output, *self._inner_schemas()])
        names = tuple(self._nodes)
        return Topology(
            name=label_of("name", name, "graph"),
            version=label_of("version", version, ""),
            nodes={
                key: replace(node, input=node.input and node.input.over(channels)) for key, node in self._nodes.items()
            },
            edges={source: tuple(ends) for source, ends in self._edges.items()},
            joins=tuple(join for join in self._joins.values() if join.end != END),
            branches={
                source: tuple(replace(one, nodes=names, input=one.input and one.input.over(channels)) for one in found)
                for source, found in self._branches.items()
            },
            state=self._state.widened(channels),
            input=self._input.over(channels),
            output=self._output.over(channels),
            interrupt_before=before,
            interrupt_after=after,
            checkpoints=check_checkpoints(checkpoints) or EVERY_STEP,
            retention=check_retention_given(retention),
            allow=allowed,
            migrations=tuple(migrations),
        )

    def compile(
        self,
        checkpointer: CheckpointStore | None = None,
        *,
        interrupt_before: Interrupts = None,
        interrupt_after: Interrupts = None,
        checkpoints: Checkpoints | None = None,
        retention: Retention | None = None,
        name: str | None = None,
        version: str | None = None,
        allow: Iterable[type] = (),
        migrations: Iterable[Migration] = (),
        cache: CacheOptions | None = None,
    ) -> CompiledGraph:
        """Check the graph and make it ready to run.

        `checkpointer` is a store (`open_store("sqlite:///agents.db")`); without one nothing is kept.
        `interrupt_before` and `interrupt_after` name the nodes at which every run stops (`"*"`: all). `checkpoints`
        says which steps become full checkpoints: by default every one. `retention` says what of a thread's past is
        kept, instead of what the store says. `version` is the version under which threads are kept, else it is derived
        from the structure. `allow` lists classes that stored values may have, besides those that the state names.
        `migrations` (`Migration`s) bring the states of threads that other versions have left to this one.
        `cache` bounds what is remembered of what was read from the store.
        """
        check_store(checkpointer)
        check_cache(cache)
        topology = self.topology(
            interrupt_before=interrupt_before,
            interrupt_after=interrupt_after,
            checkpoints=checkpoints,
            retention=retention,
            name=name,
            version=version,
            allow=allow,
            migrations=migrations,
        )
        return CompiledGraph(topology, checkpointer, cache)

    # -- within --------------------------------------------------------------------------------------------------

    def _schema(self, cls: type[Any]) -> Schema:
        try:
            return self._schemas[cls]
        except KeyError:
            return self._schemas.setdefault(cls, Schema(cls))
        except TypeError:  # not hashable, so no class either
            return Schema(cls)

    def _schema_for(self, given: type[Any] | None, takes: Any) -> Schema | None:
        """The schema of a function's first parameter: as given, else as annotated; None for the graph's own."""
        if given is None and not is_state_class(takes):
            return None
        cls = takes if given is None else given
        return None if cls is self.state_schema else self._schema(cls)

    def _inner_schemas(self) -> list[Schema]:
        owners: list[Node | Branch] = [
            *self._nodes.values(),
            *(one for found in self._branches.values() for one in found),
        ]
        return [owner.input for owner in owners if owner.input is not None]

    def _interrupts(self, given: Interrupts) -> frozenset[str]:
        if given is None:
            return frozenset()
        if given == "*":
            return frozenset(self._nodes)
        if isinstance(given, str):
            raise GraphValidationError(
                f"interrupts are {given!r}; give a list of node names, [{given!r}], or '*' for all"
            )
        return frozenset(given)
