"""What a running node may know of itself, and tell: of its progress, and of what it measures."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from .measures import checked
from .scope import TASK_CALL, Scope, scope_of
from .task import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeContext:
    """One execution of a node."""

    thread_id: str
    """Empty for a graph without a store."""
    graph: str
    node: str
    step: int
    """The superstep: the first one after an input is 0."""
    run: int
    """The thread's run, from 1."""
    attempt: int
    """1 for the first; more where the node raised and is retried, or where a process died of it. A node that goes on
    after a wait is in the same attempt. Begins again at 1 with `thread.retry()`, by which a user asks for a new series
    of attempts."""
    last_heartbeat: Any
    """The newest `heartbeat()` of this task, by whatever attempt; None if there was none."""
    original_thread: str
    """In a re-run the id of the thread that is run again, the one that `original_key` is of: of a re-run's recorded
    re-run it is the first thread, which has the records. Otherwise empty."""
    _scope: Scope = field(repr=False, compare=False)
    _call: int | None = field(repr=False, compare=False)

    @property
    def idempotency_key(self) -> str:
        """Names the node's effect for a sink that knows what it has seen: the same for every attempt, another for each
        run, step, task, and fork; inside a `@task` also for each call. 32 hex digits.

        Waits until all that came before is durable: else a crash could decide the past differently, and the key would
        name something else. In an async node read it inside a `@task`, which has waited already: elsewhere it blocks
        the event loop.
        """
        scope = self._scope
        if self._call is None:
            scope.desk.wait(scope.enter())
        return idempotency_key(scope.desk.origin, scope.task.path, self._call)

    @property
    def original_key(self) -> str | None:
        """In a re-run the `idempotency_key` of the same task, or call, of the thread that is run again; None where that
        has no such task (any more), and in threads that are no re-runs."""
        original = self._scope.task.original
        if original is None or original.origin is None:
            return None
        return idempotency_key(original.origin, self._scope.task.path, self._call)


def get_context() -> NodeContext:
    """What the running node may know of itself. Raises `PerdureError` outside a node."""
    scope = scope_of("get_context()")
    origin = scope.desk.origin
    return NodeContext(
        thread_id=origin.thread_id,
        graph=origin.graph,
        node=scope.task.node,
        step=origin.step,
        run=origin.run,
        attempt=scope.attempt,
        last_heartbeat=scope.beat,
        original_thread=_original_thread(scope),
        _scope=scope,
        _call=TASK_CALL.get(),
    )


def _original_thread(scope: Scope) -> str:
    """The thread whose record the task has: that of the original's own original, where the original is a re-run."""
    original = scope.task.original
    if original is None:
        return ""
    return original.origin.thread_id if original.origin is not None else original.thread_id


def heartbeat(progress: Any = None) -> None:
    """Tell how far the node is. Anybody may look (`thread.heartbeats()`, `get_state().tasks`), and the next attempt
    finds the newest in `get_context().last_heartbeat`. `progress` must be storable; it becomes durable at most once a
    second.

    Raises `PerdureError` outside a node, `UnencodableState`.
    """
    scope_of("heartbeat()").tell(progress)


def measure(name: str, number: float, *, add: bool = False) -> None:
    """Record a number of the running node beside the state: `measure("tokens", 812, add=True)`.

    It becomes durable with what the node returns, once, and stands under `measures` in the metadata of that checkpoint
    and of all after it, those of later runs of the thread too. A name's newest number takes the place of the one
    before; with `add` it is added to that, which is 0 at first. Tasks of one step count in the order in which their
    writes do, and what one node measures in the order of its calls. What belongs to an attempt that fails is void like
    its writes, except inside a `@task` that had ended: there it is kept with the result, and counts wherever that is
    taken from the record. A graph that is invoked inside a node has measures of its own.

    The number is kept as a float; a thread may have 256 names. Raises `PerdureError` outside a node and in a
    conditional edge (a thread that the node starts itself needs a copy of its context), `InputError` for what is no
    finite number, or a name that is no text. A sum that is not finite any more, and too many names, fail the run.
    """
    scope_of("measure()").measure(checked(name, number, add))


def idempotency_key(origin: Origin, path: str, call: int | None) -> str:
    """The key of a task, or of one of its calls: made of where it belongs only, never of what another execution would
    draw anew."""
    parts = (origin.thread_id, origin.branch, origin.run, origin.born, path, "" if call is None else call)
    return hashlib.blake2b("\n".join(map(str, parts)).encode(), digest_size=16).hexdigest()
