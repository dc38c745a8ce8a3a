"""Where a thread stands, in the memory of its owner."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from ..stores.records import Message, Status
from .commands import Interrupt
from .control import Next
from .task import Done, Failed
from .values import Values

CHANGED_AFTER_END = "the state was updated after the run had ended; resume() goes on from there"
"""Why a thread whose run has ended is paused once an update gave it work again. Kept as its reason."""


@dataclass(slots=True)
class Position:
    """A thread's state between two decisions. `plan.decide` reads it, the loop changes it."""

    values: Values = field(default_factory=dict)
    """Value of each channel that has one."""
    manifest: dict[str, int] = field(default_factory=dict)
    head: int = 0
    """Seq of the newest checkpoint, durable or not; 0 before the first."""
    step: int = -2
    """Superstep of the newest checkpoint; the first input is step -1, as in LangGraph."""
    since: int = -2
    next: tuple[Next, ...] = ()
    joins: dict[str, tuple[str, ...]] = field(default_factory=dict)
    done: tuple[tuple[str, str], ...] = ()
    """(path, node) of the tasks that the newest checkpoint merged."""

    run: int = 0
    run_status: Status = Status.SUCCEEDED
    """Status of the run `run`; of an imaginary one before the first."""
    run_reason: str = ""
    """Why the run failed or was cancelled."""
    run_open: bool = False
    """The run has not ended."""
    paused: str = ""
    """Why the thread is paused; empty if it is not."""

    sends: dict[str, Any] = field(default_factory=dict)
    """`Send` arguments of the tasks in `next`, by path."""
    results: dict[str, Done] = field(default_factory=dict)
    stops: dict[str, tuple[Interrupt, ...]] = field(default_factory=dict)
    """Interrupts that wait for an answer, by task."""
    answers: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    failures: dict[str, Failed] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    passed: bool = False
    """The static breakpoint before or after this step was passed."""
    options: dict[str, Any] | None = None
    """The run's options, where they changed since the newest checkpoint."""
    adopted: dict[str, Any] = field(default_factory=dict)
    """Values that another thread keeps and may drop: the next checkpoint writes them anew."""

    mail: list[Message] = field(default_factory=list)
    """Messages read and not applied, in order."""

    def become(self, other: Position) -> None:
        """Take over all that `other` holds."""
        for one in fields(self):
            setattr(self, one.name, getattr(other, one.name))

    def forget_step(self) -> None:
        """Clear what belongs to the tasks of a step, when another takes its place."""
        self.sends = {}
        self.results = {}
        self.stops = {}
        self.answers = {}
        self.failures = {}
        self.passed = False
        self.options = None
