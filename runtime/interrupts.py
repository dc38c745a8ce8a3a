"""`interrupt()`: stop a node until somebody answers."""

from __future__ import annotations

import hashlib
from contextvars import ContextVar
from typing import Any

from .commands import Interrupt
from .errors import PerdureError
from .task import Task


class Interrupted(BaseException):
    """Leaves a node that waits for an answer. Not an `Exception`, so that a node's own `except Exception` lets it
    pass."""

    def __init__(self, interrupt: Interrupt) -> None:
        super().__init__(interrupt)
        self.interrupt = interrupt


class Scope:
    """One execution of a task: counts its recorded calls, which are matched by order."""

    __slots__ = ("calls", "checkpoint", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.calls = 0
        self.checkpoint = False
        """The node asked for a full checkpoint."""


SCOPE: ContextVar[Scope | None] = ContextVar("perdure_scope", default=None)


def interrupt(value: Any) -> Any:
    """Stop the node and show `value` to whoever looks at the thread; returns the answer once there is one.

    The node starts again at its first line when it is resumed; the n-th call returns the n-th answer. `value` and the
    answer must be storable. Raises `PerdureError` outside a node.
    """
    scope = SCOPE.get()
    if scope is None:
        raise PerdureError(
            "interrupt() was called outside a node; only a node of a running graph can wait for an answer"
        )
    index = scope.calls
    scope.calls += 1
    answers = scope.task.answers
    if index < len(answers):
        return answers[index]
    raise Interrupted(Interrupt(value=value, id=interrupt_id(scope.task.key, index)))


def interrupt_id(key: str, index: int) -> str:
    """Id of a task's `index`-th interrupt: the same in every execution of the task. 32 hex digits."""
    return hashlib.blake2b(f"{key}\n{index}".encode(), digest_size=16).hexdigest()
