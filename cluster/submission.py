"""What a client submits: checked options and the graph, and the row and first message of each thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypedDict

from ..runtime.checkpoints import Checkpoints
from ..runtime.clock import Clock
from ..runtime.compiled import CompiledGraph
from ..runtime.options import DEFAULT_RECURSION_LIMIT, Durability, RunOptions, given_metadata, named_nodes
from ..runtime.payloads import INPUT, InputPayload, pack_input
from ..stores.records import SERVICE, GraphRecord, Message, Retention, ThreadRecord

Isolation: TypeAlias = Literal["thread", "shared"]


class SubmitOptions(TypedDict, total=False):
    """Options of `Client.submit` that hold for many threads as well."""

    metadata: Mapping[str, Any] | None
    """JSON values kept with each thread; listings filter by them."""
    tags: Sequence[str]
    durability: str
    """"async" (the default), "sync" or "exit"."""
    checkpoints: Checkpoints | None
    """Which steps become full checkpoints, in place of what the graph was compiled with."""
    recursion_limit: int
    interrupt_before: Sequence[str] | None
    interrupt_after: Sequence[str] | None
    configurable: Mapping[str, Any] | None
    """What nodes find in `config["configurable"]`."""
    retention: Retention | None
    """What of a thread's past is kept, in place of what the graph or the store says."""
    runtime_env: Mapping[str, Any] | None
    """The environment of the threads' processes, in place of that of `connect`."""
    isolation: Isolation
    """"thread" (the default): a process of its own while it runs; "shared": one with others, for batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What all threads of one call have in common."""

    graph: CompiledGraph
    shipped: GraphRecord
    package: GraphRecord | None = None
    """The code that the graph brings along."""
    clock: Clock
    options: RunOptions
    retention: Retention | None = None
    isolation: Isolation = "thread"

    def new(self, thread_id: str | None, input: Any) -> tuple[ThreadRecord, Message]:
        """The row and the first message of one thread, by default with a new id. Raises `InputError`,
        `InvalidUpdateError`, `Unencodable`."""
        graph, options = self.graph, self.options
        graph.topology.input.updates(input, "")
        payload = pack_input(graph.codec, InputPayload(input, options))
        now = self.clock.time()
        message = Message(message_id=self.clock.unique(), kind=INPUT, payload=payload, created_at=now)
        record = ThreadRecord(
            thread_id=thread_id or self.clock.unique(),
            graph=graph.name,
            version=graph.version,
            graph_key=self.shipped.graph_key,
            driver=SERVICE,
            isolation=self.isolation,
            metadata=dict(options.metadata),
            tags=options.tags,
            retention=self.retention if self.retention is not None else graph.topology.retention,
            created_at=now,
            updated_at=now,
        )
        return record, message


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """`SubmitOptions` with their defaults."""

    metadata: Mapping[str, Any] | None = None
    tags: Sequence[str] = ()
    durability: str = "async"
    checkpoints: Checkpoints | None = None
    recursion_limit: int = DEFAULT_RECURSION_LIMIT
    interrupt_before: Sequence[str] | None = None
    interrupt_after: Sequence[str] | None = None
    configurable: Mapping[str, Any] | None = None
    retention: Retention | None = None
    runtime_env: Mapping[str, Any] | None = None
    isolation: Isolation = field(default="thread")

    def run_options(self, graph: CompiledGraph) -> RunOptions:
        """The part that is kept with a run's input. Raises `InputError`."""
        options = RunOptions(
            recursion_limit=self.recursion_limit,
            durability=Durability(self.durability),
            checkpoints=self.checkpoints,
            interrupt_before=tuple(self.interrupt_before) if self.interrupt_before is not None else None,
            interrupt_after=tuple(self.interrupt_after) if self.interrupt_after is not None else None,
            configurable=dict(self.configurable or {}),
            metadata=given_metadata(self.metadata),
            tags=tuple(self.tags),
        )
        for nodes in (options.interrupt_before, options.interrupt_after):
            named_nodes(graph.topology, nodes or ())
        return options
