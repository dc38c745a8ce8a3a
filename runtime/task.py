"""Tasks, one node run within a step each, and what can come of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .calls import Calls, Stop
from .commands import Send
from .measures import Measured


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a task belongs: what its idempotency keys are made of."""

    graph: str
    thread_id: str
    branch: int
    """The fork within the thread that it belongs to."""
    run: int
    born: int
    """Step of the checkpoint that made it a task to run. Updates between two steps leave it as it is."""
    step: int
    """The step that it is part of."""


@dataclass(frozen=True, slots=True)
class Past:
    """What earlier executions of a task have left."""

    calls: Calls = field(default_factory=dict)
    attempt: int = 1
    """How many attempts were made, this one included, when it is started: each process that died of it counts."""
    beat: Any = None
    """What it last said of its progress."""


@dataclass(frozen=True, slots=True)
class Original:
    """What a task of a re-run has to do with the thread that is run again."""

    thread_id: str
    checkpoint: str
    """Id of the checkpoint from which that is run again."""
    strict: bool
    """The task does nothing but what it recorded then."""
    origin: Origin | None = None
    """Where it belonged then; None where it was not run."""


@dataclass(frozen=True, slots=True)
class Task:
    """One node to run, with all that decides its result."""

    path: str
    node: str
    send: bool
    arg: Any
    """The `Send` argument; None for a task that reads the state."""
    past: Past | None = None
    """What is left of executions before; None if there was none, or nothing is."""
    key: str = ""
    """Names the task in the ids of its interrupts: derived from thread, checkpoint and path."""
    original: Original | None = None
    """None if its thread is no re-run."""


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
    measured: tuple[Measured, ...] = ()


@dataclass(frozen=True, slots=True)
class Stopped:
    """The node waits: for an answer, for a signal, or for a time to come."""

    path: str
    stop: Stop


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
    call: int | None = None
    """Number of the last `@task` call that raised in the node, before or while that did; None if there was none."""
    exception: BaseException | None = field(default=None, compare=False)
    """The exception itself, where it happened in this process."""


Outcome: TypeAlias = Done | Stopped | Failed
