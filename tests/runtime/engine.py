"""States, nodes and small graphs that the engine's tests share."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, TypedDict

from perdure import END, START, CheckpointStore, CompiledGraph, StateGraph, StateSnapshot, interrupt
from perdure.stores.base import CommitResult
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Commit
from perdure.stores.segments import Kind

Node = Callable[..., Any]
THREAD: dict[str, Any] = {"configurable": {"thread_id": "t"}}


class State(TypedDict, total=False):
    n: int
    items: Annotated[list[Any], operator.add]


class Count(TypedDict):
    v: int


class Sum(TypedDict):
    v: Annotated[int, operator.add]


def thread(thread_id: str, **configurable: Any) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread_id, **configurable}}


def says(*items: Any) -> Node:
    """A node that appends these items."""
    return lambda state: {"items": list(items)}


def asks(question: Any) -> Node:
    """A node that appends the answer to a question."""
    return lambda state: {"items": [interrupt(question)]}


class Log:
    """Counts how often nodes ran."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def node(self, name: str, func: Node | None = None) -> Node:
        """A node that notes its name and then does `func`, or appends its name."""

        def run(state: Any) -> Any:
            self.calls.append(name)
            return func(state) if func is not None else {"items": [name]}

        return run


def wire(
    nodes: dict[str, Node], edges: Sequence[tuple[str | Sequence[str], str]], schema: type[Any] = State
) -> StateGraph:
    """A builder with these nodes and edges."""
    builder = StateGraph(schema)
    for name, node in nodes.items():
        builder.add_node(name, node)
    for start, end in edges:
        builder.add_edge(start, end)
    return builder


def chain(
    nodes: dict[str, Node], store: CheckpointStore | None, schema: type[Any] = State, **options: Any
) -> CompiledGraph:
    """The nodes one after the other."""
    names = [START, *nodes, END]
    return wire(nodes, list(pairwise(names)), schema).compile(store, **options)


def fan(
    nodes: dict[str, Node], store: CheckpointStore | None, last: Node | None = None, **options: Any
) -> CompiledGraph:
    """The nodes side by side, then `last` if there is one."""
    after = "last" if last is not None else END
    edges: list[tuple[str | Sequence[str], str]] = [(START, name) for name in nodes]
    edges += [(name, after) for name in nodes]
    if last is not None:
        nodes = {**nodes, "last": last}
        edges.append(("last", END))
    return wire(nodes, edges).compile(store, **options)


def until(limit: int, store: CheckpointStore | None, **options: Any) -> CompiledGraph:
    """A node that counts to `limit`, one a step."""
    builder = StateGraph(State)
    builder.add_node("count", lambda state: {"n": state["n"] + 1})
    builder.add_edge(START, "count")
    builder.add_conditional_edges("count", lambda state: "count" if state["n"] < limit else END, ["count", END])
    return builder.compile(store, **options)


def story(
    graph: CompiledGraph, config: dict[str, Any] = THREAD
) -> list[tuple[str, tuple[str, ...], Mapping[str, Any]]]:
    """(source, next, values) of each checkpoint, oldest first."""
    return [(shot.metadata["source"], shot.next, shot.values) for shot in history(graph, config)]


def history(graph: CompiledGraph, config: dict[str, Any] = THREAD) -> list[StateSnapshot]:
    """The states, oldest first."""
    return list(graph.get_state_history(config))[::-1]


def before(graph: CompiledGraph, node: str, config: dict[str, Any] = THREAD) -> StateSnapshot:
    """The oldest state from which `node` was run next."""
    return next(shot for shot in history(graph, config) if node in shot.next)


def open_questions(result: dict[str, Any]) -> dict[Any, str]:
    """Ids of the open interrupts by their values."""
    return {stop.value: stop.id for stop in result["__interrupt__"]}


class CountingStore(MemoryStore):
    """Keeps every commit that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[Commit] = []

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        self.commits += commits
        return super().commit(commits)

    @property
    def checkpoints(self) -> int:
        """Checkpoints written, of all commits."""
        return sum(row.kind == Kind.CHECKPOINT for commit in self.commits for row in commit.rows)
