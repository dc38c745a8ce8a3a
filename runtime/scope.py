"""One execution of a node, as the functions that it may call see it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from .calls import Call, CallKind, Stop, shown
from .desk import Beat, Desk, Enter, Record, Request, Surroundings, Take
from .errors import CallMismatch, NotRecorded, PerdureError
from .measures import Measured, Measuring
from .task import Task


class Unrecorded(BaseException):
    """Leaves a node of a re-run that comes to what its original did not record. Not an `Exception`, so that a node's
    own `except Exception` lets it pass. One that catches even this, or hands it on as a value, fails all the same."""

    def __init__(self, error: NotRecorded) -> None:
        super().__init__(error)
        self.error = error


class Suspended(BaseException):
    """Leaves a node that has to wait. Not an `Exception`, so that a node's own `except Exception` lets it pass."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop)
        self.stop = stop


class Scope:
    """One execution of a task: numbers its calls, and knows those that are recorded."""

    __slots__ = (
        "attempt",
        "beat",
        "checkpoint",
        "count",
        "desk",
        "measuring",
        "raised",
        "recorded",
        "routing",
        "task",
        "unrecorded",
    )

    def __init__(self, task: Task, desk: Desk) -> None:
        self.task = task
        self.desk = desk
        self.count = 0
        self.checkpoint = False
        """The node asked for a full checkpoint."""
        self.raised: int | None = None
        """Number of the last `@task` call of this attempt that raised. It is not recorded."""
        self.measuring = Measuring()
        self.routing = False
        """The node has returned, and its conditional edges are asked."""
        self.unrecorded: NotRecorded | None = None
        """The first thing that was to be done in a re-run and that its original did not record."""
        past = task.past
        if past is None:
            self.recorded: dict[int, Call] | None = None
            self.attempt = 1
            self.beat: Any = None
        else:
            self.recorded, self.attempt, self.beat = past.calls, past.attempt, past.beat

    def again(self) -> Scope:
        """The next attempt. What the last one had recorded stays."""
        scope = Scope(self.task, self.desk)
        scope.recorded, scope.beat, scope.attempt = self.recorded, self.beat, self.attempt + 1
        return scope

    def begin(self, kind: CallKind, name: str = "") -> tuple[int, Call | None]:
        """The number of a call that starts now, and the recorded one in its place. Raises `CallMismatch`."""
        if TASK_CALL.get() is not None:
            raise PerdureError(
                f"node {self.task.node!r} of graph {self.desk.origin.graph!r}: {shown(kind, name)} was called inside a "
                "@task, which cannot stop half-way; call it in the node itself"
            )
        index = self.count
        self.count += 1
        found = self.recorded.get(index) if self.recorded else None
        if self.replays and (found is None or (found.kind, found.name) != (kind, name)):
            called, why = shown(kind, name), self._known_of(index, found)
            recorded = str(found) if found is not None else ""
            raise self.stop(f"its call {index} ({called})", why, index=index, called=called, recorded=recorded)
        return index, self.confirm(index, kind, name, found)

    @property
    def replays(self) -> bool:
        """Whether the task does nothing but what its original recorded."""
        return self.task.original is not None and self.task.original.strict

    def stop(
        self, what: str, why: str, *, index: int | None = None, called: str = "", recorded: str = ""
    ) -> Unrecorded:
        """Stop a task of a re-run that is not to do `what`: what it goes on to do has no part in its outcome."""
        original, origin = self.task.original, self.desk.origin
        assert original is not None, "only a re-run has an original"
        error = NotRecorded(
            origin.thread_id,
            origin.graph,
            self.task.node,
            origin.step,
            what,
            original=original.thread_id,
            checkpoint_id=original.checkpoint,
            why=why,
            index=index,
            called=called,
            recorded=recorded,
        )
        self.unrecorded = self.unrecorded or error
        return Unrecorded(error)

    def _known_of(self, index: int, found: Call | None) -> str:
        """What the original recorded instead of a call."""
        if found is not None:
            return f"recorded {found} in its place"
        if self.task.original is None or self.task.original.origin is None:
            return "has no record of that step (any more)"
        return f"recorded nothing beyond call {index - 1}" if self.recorded else "recorded no call there"

    def confirm(self, index: int, kind: CallKind, name: str, found: Call | None) -> Call | None:
        """What the owner knows of a call that starts. Raises `CallMismatch`."""
        if found is not None and (found.kind, found.name) != (kind, name):
            origin = self.desk.origin
            raise CallMismatch(
                origin.graph, self.task.node, origin.thread_id, index, recorded=str(found), called=shown(kind, name)
            )
        return found

    @contextmanager
    def noting(self, index: int) -> Iterator[None]:
        """Around what a `@task` call does that is not recorded yet."""
        try:
            yield
        except BaseException:
            self.raised = index if self.raised is None else max(self.raised, index)
            raise

    def keep(self, index: int, call: Call) -> None:
        """Note a call that was recorded meanwhile."""
        if self.recorded is None:
            self.recorded = {}
        self.recorded[index] = call
        self.measuring.end(index, call.measured)

    # -- what it measures ----------------------------------------------------------------------------------------

    @contextmanager
    def calling(self, index: int) -> Iterator[None]:
        """Around one attempt of a `@task` call. What one that fails has measured is void."""
        self.measuring.begin(index)
        token = TASK_CALL.set(index)
        try:
            yield
        except BaseException:
            self.measuring.begin(index)
            raise
        finally:
            TASK_CALL.reset(token)

    def measure(self, measured: Measured) -> None:
        """Take in a number. Raises `PerdureError` in a conditional edge."""
        if self.routing:
            raise PerdureError(
                f"node {self.task.node!r} of graph {self.desk.origin.graph!r}: measure({measured.name!r}, ...) was "
                "called in a conditional edge, which is also asked where no node has run; call it in the node"
            )
        self.measuring.note(measured, TASK_CALL.get(), self.count)

    # -- what is asked of the thread's owner; the futures raise `NodeCancelled` where there is none any more ------

    def enter(self, index: int | None = None) -> Future[Call | None]:
        """Done once all that came before is durable; the call of this number, if it turns out to be recorded."""
        return self._ask(Enter(self.task.path, index))

    def record(self, index: int, call: Call) -> Future[Call]:
        """Record a call; the recorded one, once it is durable."""
        return self._ask(Record(self.task.path, index, call))

    def take(self, index: int, name: str) -> Call | None:
        """Receive a signal, if one of that name is there."""
        taken: Call | None = self.desk.wait(self._ask(Take(self.task.path, index, name)))
        return taken

    def tell(self, progress: Any) -> None:
        """Tell of the task's progress."""
        self.beat = progress
        self.desk.wait(self._ask(Beat(self.task.path, progress)))

    def _ask(self, request: Request) -> Future[Any]:
        return self.desk.ask(request)


SCOPE: ContextVar[Scope | None] = ContextVar("perdure_scope", default=None)
TASK_CALL: ContextVar[int | None] = ContextVar("perdure_task_call", default=None)
"""Number of the `@task` call that runs in this context."""


def surroundings() -> Surroundings:
    """What is around the thread that the running node belongs to. For graphs of the engine's own, whose nodes run
    inline. Raises `PerdureError` where there is nothing."""
    scope = scope_of("surroundings()")
    found = scope.desk.surroundings
    if found is None:
        raise PerdureError(f"node {scope.task.node!r} of graph {scope.desk.origin.graph!r} has no store at hand")
    return found


def scope_of(function: str) -> Scope:
    """The execution that calls `function`. Raises `PerdureError` outside a node."""
    scope = SCOPE.get()
    if scope is None:
        raise PerdureError(f"{function} was called outside a node; only a node of a running graph can call it")
    return scope
