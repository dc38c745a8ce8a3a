"""Tasks, one node run within a step each, and what can come of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .commands import Interrupt, Send


@dataclass(frozen=True, slots=True)
class Task:
    """One node to run, with all that decides its result."""

    path: str
    node: str
    send: bool
    arg: Any
    """The `Send` argument; None for a task that reads the state."""
    answers: tuple[Any, ...] = ()
    """Answers to its interrupts so far, in the order of its `interrupt()` calls."""
    key: str = ""
    """Names the task for good: derived from thread, checkpoint and path, the same for every attempt."""


@dataclass(frozen=True, slots=True)
class Done:
    """The node returned."""

    path: str
    writes: tuple[tuple[str, Any], ...]
    """(channel, update) in the order returned."""
    goto: tuple[str | Send, ...] = ()
    """Where its commands and conditional edges lead, besides its plain edges."""
    seconds: float = 0.0
    checkpoint: bool = False
    """The node asked for a full checkpoint at the end of the step."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The node called `interrupt()` and waits for an answer."""

    path: str
    interrupts: tuple[Interrupt, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The node raised, returned what cannot be used, or lost its process."""

    path: str
    node: str
    type: str
    message: str
    traceback: str = ""
    crashed: bool = False
    """The process that ran it died."""
    cancelled: bool = False
    """It was stopped from outside, because the thread is being cancelled or its owner stops."""
    exception: BaseException | None = field(default=None, compare=False)
    """The exception itself, where it happened in this process."""


Outcome: TypeAlias = Done | Stopped | Failed
