"""What a client is told."""

from __future__ import annotations

from typing import Any

from ..runtime.commands import Interrupt
from ..runtime.errors import PerdureError


class Interrupted(PerdureError):
    """The run waits for an answer. Give it with `handle.resume(...)`, then ask for the result again."""

    def __init__(self, thread_id: str, state: dict[str, Any], interrupts: tuple[Interrupt, ...]) -> None:
        questions = ", ".join(repr(one.value) for one in interrupts) or "a breakpoint"
        super().__init__(f"thread {thread_id!r} waits at {questions}; answer with resume(...)")
        self.thread_id = thread_id
        self.state = state
        self.interrupts = interrupts


class Paused(PerdureError):
    """The run is paused, with a reason; `resume()` or `retry()` goes on."""

    def __init__(self, thread_id: str, reason: str) -> None:
        super().__init__(f"thread {thread_id!r} is paused: {reason}")
        self.thread_id = thread_id
        self.reason = reason


class Cancelled(PerdureError):
    """The run was cancelled."""

    def __init__(self, thread_id: str, reason: str) -> None:
        super().__init__(f"thread {thread_id!r} was cancelled: {reason or 'no reason given'}")
        self.thread_id = thread_id
        self.reason = reason


class ClientError(PerdureError):
    """The client cannot do what was asked."""
