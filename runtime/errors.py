"""What can go wrong with a graph or a thread. One small tree; every error holds its ids as attributes.

Errors travel between processes, so each is rebuilt from its message and attributes, never by calling its class again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


class PerdureError(Exception):
    """Base of all errors of graphs and threads."""

    def __reduce__(self) -> tuple[Callable[..., Exception], tuple[type[PerdureError], str, dict[str, Any]]]:
        return _rebuild, (type(self), str(self), dict(self.__dict__))


def _rebuild(kind: type[PerdureError], text: str, fields: dict[str, Any]) -> PerdureError:
    error = kind.__new__(kind)
    error.args = (text,)
    error.__dict__.update(fields)
    return error


class GraphValidationError(PerdureError, ValueError):
    """The graph cannot be built as it was written: bad input, before any thread exists."""

    def __init__(self, text: str, *, node: str = "") -> None:
        super().__init__(text)
        self.node = node


class StateValidationError(PerdureError, ValueError):
    """Values do not fit a state class. `fields` names those that do not; empty where no one field is to blame."""

    def __init__(self, schema: str, fields: Iterable[str], detail: str, *, writer: str = "") -> None:
        self.schema = schema
        self.fields = tuple(dict.fromkeys(fields))
        self.detail = detail
        self.writer = writer
        source = f"what node {node_of(writer)!r} returned" if writer else "the state"
        source = "the input" if writer == "__start__" else source
        where = f" in {', '.join(map(repr, self.fields))}" if self.fields else ""
        super().__init__(f"{source} does not fit {schema}{where}: {detail}")


class InputError(PerdureError, ValueError):
    """The input of a run cannot be used."""

    def __init__(self, text: str, *, channel: str = "") -> None:
        super().__init__(text)
        self.channel = channel


class InvalidUpdateError(PerdureError):
    """A node's update cannot be merged into the state. `nodes` are those that wrote."""

    def __init__(self, text: str, *, channel: str = "", nodes: Iterable[str] = ()) -> None:
        super().__init__(text)
        self.channel = channel
        self.nodes = tuple(nodes)


class RoutingError(PerdureError, ValueError):
    """A conditional edge, a `Command(goto=...)` or a `Send` names no node of the graph."""

    def __init__(self, text: str, *, source: str, target: object) -> None:
        super().__init__(text)
        self.source = source
        self.target = repr(target)


class RouterRaised(PerdureError):
    """A conditional edge raised, outside any node: `__cause__` is what it raised."""

    def __init__(self, source: str, error: Exception) -> None:
        super().__init__(f"a conditional edge of {source!r} raised {type(error).__name__}: {error}")
        self.source = source


class GraphRecursionError(PerdureError, RecursionError):
    """A run took more steps than its `recursion_limit`."""

    def __init__(self, limit: int, *, thread_id: str = "") -> None:
        self.limit = limit
        self.thread_id = thread_id
        super().__init__(
            f"{_thread(thread_id)}the run did not end within its recursion_limit of {limit} steps; check that its loop "
            'can reach END, or give more: config={"recursion_limit": ' + str(limit * 2) + "}"
        )


class NodeFailed(PerdureError):
    """A node raised, and its retries are spent. `cause` is the original error as text, `trace` its traceback."""

    def __init__(self, graph: str, node: str, thread_id: str, step: int, cause: str, *, trace: str = "") -> None:
        super().__init__(
            f"{_thread(thread_id)}node {node!r} of graph {graph!r} failed in step {step}: {cause}. "
            "The steps before are kept: correct the cause, then retry the thread"
        )
        self.graph = graph
        self.node = node
        self.thread_id = thread_id
        self.step = step
        self.cause = cause
        self.trace = trace


class UnencodableState(PerdureError):
    """A value cannot be stored."""

    def __init__(self, channel: str, node: str, type_name: str, hint: str = "") -> None:
        source = f"by node {node_of(node)!r}" if node else "by the input"
        super().__init__(
            f"channel {channel!r}, written {source}: a value of type {type_name} cannot be stored: "
            f"{hint or 'return plain data, or name the class in the state schema or in compile(allow=[...])'}"
        )
        self.channel = channel
        self.node = node_of(node)
        self.type_name = type_name


class ThreadBusy(PerdureError):
    """Somebody else runs the thread."""

    def __init__(self, thread_id: str, detail: str = "") -> None:
        super().__init__(
            f"{_thread(thread_id)}it is running{f' ({detail})' if detail else ''}; wait for it to end or cancel it"
        )
        self.thread_id = thread_id


class NotInterrupted(PerdureError):
    """A resume for a thread that waits for nothing, or a step where none is left."""

    def __init__(self, thread_id: str, status: str, *, stepping: bool = False) -> None:
        super().__init__(
            f"{_thread(thread_id)}it is {status} and no step is left to run there; give it an input, or name a "
            "checkpoint that has a next one"
            if stepping
            else f"{_thread(thread_id)}it is {status} and waits for no answer; resume a thread while its status is "
            "interrupted"
        )
        self.thread_id = thread_id
        self.status = status


class UnknownInterrupt(PerdureError):
    """A resume names an interrupt that the thread does not wait at."""

    def __init__(self, thread_id: str, interrupt_id: str, waiting: Iterable[str]) -> None:
        self.thread_id = thread_id
        self.interrupt_id = interrupt_id
        self.waiting = tuple(waiting)
        found = f"it waits at {', '.join(map(repr, self.waiting))}" if self.waiting else "it waits at none"
        super().__init__(f"{_thread(thread_id)}no open interrupt {interrupt_id!r}: {found}")


class CallMismatch(PerdureError):
    """A node that was started again made another call than the one that is recorded in its place."""

    def __init__(self, graph: str, node: str, thread_id: str, index: int, *, recorded: str, called: str) -> None:
        super().__init__(
            f"{_thread(thread_id)}node {node!r} of graph {graph!r}: its call {index} is recorded as {recorded}, and "
            f"now it is {called}. A node that starts again must make the same calls in the same order until it passes "
            "the last recorded one: make what they depend on part of the state or of a @task; with changed code, "
            "update_state(..., as_node=...) goes on elsewhere"
        )
        self.graph = graph
        self.node = node
        self.thread_id = thread_id
        self.index = index
        self.recorded = recorded
        self.called = called


class NotRecorded(PerdureError):
    """A re-run came to something that its original has no record of. It was not done."""

    def __init__(
        self,
        thread_id: str,
        graph: str,
        node: str,
        step: int,
        what: str,
        *,
        original: str,
        checkpoint_id: str,
        why: str,
        index: int | None = None,
        called: str = "",
        recorded: str = "",
    ) -> None:
        super().__init__(
            f"{_thread(thread_id)}node {node!r} of graph {graph!r}, step {step}: {what} was not done. This is a re-run "
            f"of thread {original!r} from checkpoint {checkpoint_id} with what that recorded, and it {why}. Re-run it "
            "with effects='live' to do everything anew, or fork this thread, which then goes on live"
        )
        self.thread_id = thread_id
        self.graph = graph
        self.node = node
        self.step = step
        self.what = what
        """What would have been done."""
        self.original = original
        """Id of the thread that is run again."""
        self.checkpoint_id = checkpoint_id
        """Id of its checkpoint from which it is."""
        self.why = why
        self.index = index
        """Number of the call; None where it was none that stopped the re-run."""
        self.called = called
        """The call, as people call it: `@task 'charge'`."""
        self.recorded = recorded
        """What was recorded in its place; empty if nothing was."""


class ReceiveTimeout(PerdureError, TimeoutError):
    """No signal of the name came in time."""

    def __init__(self, name: str, *, graph: str = "", node: str = "", thread_id: str = "") -> None:
        super().__init__(
            f"{_thread(thread_id)}node {node!r} of graph {graph!r}: no signal {name!r} came within the timeout of "
            "receive(); catch ReceiveTimeout to go on without it"
        )
        self.name = name
        self.graph = graph
        self.node = node
        self.thread_id = thread_id


class VersionMismatch(PerdureError):
    """A thread cannot go on with this version of its graph."""

    def __init__(self, thread_id: str, graph: str, found: str, expected: str, why: str) -> None:
        super().__init__(
            f"{_thread(thread_id)}it was started by version {found} of graph {graph!r} and cannot go on with version "
            f"{expected}: {why}. Run it with a compatible graph"
        )
        self.thread_id = thread_id
        self.graph = graph
        self.found = found
        self.expected = expected


class CheckpointNotFound(PerdureError, LookupError):
    """A thread has no such checkpoint."""

    def __init__(self, thread_id: str, checkpoint_id: str) -> None:
        super().__init__(
            f"{_thread(thread_id)}it has no checkpoint {checkpoint_id!r}; get_state_history() lists those it has"
        )
        self.thread_id = thread_id
        self.checkpoint_id = checkpoint_id


class CheckpointConflict(PerdureError):
    """Somebody else has changed the thread since the checkpoint that an update was meant for. Nothing was applied."""

    def __init__(
        self, thread_id: str, expected: str, found: str, *, yours: Any = None, theirs: Any = None, made_by: str = ""
    ) -> None:
        said = f", made by {made_by}" if made_by else ""
        change = f": {theirs}" if theirs is not None else ""
        super().__init__(
            f"{_thread(thread_id)}the update {_cut(yours)} was meant for checkpoint {expected}, but the newest is "
            f"{found}{said}{change}. Yours was not applied: read the state again, then send it with "
            f"expected_checkpoint={found!r} if it still holds"
        )
        self.thread_id = thread_id
        self.expected = expected
        """Id of the checkpoint that the update was meant for."""
        self.found = found
        """Id of the newest checkpoint instead."""
        self.yours = yours
        """The values that were to be written."""
        self.theirs = theirs
        """What changed from `expected` to `found` (a `StateDiff`); None where `expected` is not kept any more."""


def node_of(writer: str) -> str:
    """Name of the node whose task has the path `writer` (`node` or `node#3`)."""
    return writer.partition("#")[0]


def _cut(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _thread(thread_id: str) -> str:
    return f"thread {thread_id!r}: " if thread_id else ""
