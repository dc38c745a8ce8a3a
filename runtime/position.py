"""Where a thread stands, in the memory of its owner."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from ..stores.records import Message, Status
from .calls import Calls, Stop
from .commands import Interrupt
from .control import Next
from .measures import Measures
from .task import Done, Failed
from .values import Values

CHANGED_AFTER_END = "the state was updated after the run had ended; resume() goes on from there"
"""Why a thread whose run has ended is paused once an update gave it work again. Kept as its reason."""

CHANGED = "the state was changed from outside; resume() goes on from there"
"""Why a thread that waited for its user is paused once its state was changed. Kept as its reason."""
FORKED = "forked from another thread; resume() goes on from there"
"""Why a fork that was not to be started is paused. Kept as its reason."""

NEW_BRANCH = -1


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a task said of its progress."""

    progress: Any
    at: float
    """When (Unix seconds)."""


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
    version: str = ""
    """The graph's version that made the newest checkpoint, or that its state was brought to since."""
    done: tuple[tuple[str, str], ...] = ()
    """(path, node) of the tasks that the newest checkpoint merged."""
    branch: int = 0
    """Seq of the checkpoint with which a fork within the thread began; `NEW_BRANCH` until it is made."""
    born: int = -2
    """Step of the checkpoint that made `next` the tasks to run: an update between two steps leaves it as it is."""
    lag: int = 0
    """See `Control.lag`."""
    measures: Measures = field(default_factory=dict)
    """What nodes have measured up to the newest checkpoint. Never changed in place."""

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
    stops: dict[str, Stop] = field(default_factory=dict)
    """What tasks wait for, by task."""
    calls: dict[str, Calls] = field(default_factory=dict)
    """What tasks asked for and were given, by task."""
    beats: dict[str, Heartbeat] = field(default_factory=dict)
    """What tasks last said of their progress, by task."""
    failures: dict[str, Failed] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    passed: bool = False
    """The static breakpoint before or after this step was passed."""
    held: bool = False
    """It stands where it was stopped, although this version of the graph may not stop there."""
    options: dict[str, Any] | None = None
    """The run's options, where they changed since the newest checkpoint."""
    adopted: dict[str, Any] = field(default_factory=dict)
    """Values that another thread keeps and may drop: the next checkpoint writes them anew."""

    mail: list[Message] = field(default_factory=list)
    """Messages read and not applied, in order."""

    @property
    def place(self) -> int:
        """Of the newest checkpoint; see `Control.lag`."""
        return self.step - self.lag

    @property
    def interrupts(self) -> tuple[Interrupt, ...]:
        """The questions at which tasks wait, in the order of the tasks."""
        stops = (self.stops.get(task.path) for task in self.next) if self.stops else ()
        return tuple(stop.interrupt for stop in stops if stop is not None and stop.interrupt is not None)

    @property
    def wake_at(self) -> float:
        """When the first task is due that waits for a time (Unix seconds); 0 if none does."""
        return min((stop.until for stop in self.stops.values() if stop.until is not None), default=0.0)

    def become(self, other: Position) -> None:
        """Take over all that `other` holds."""
        for one in fields(self):
            setattr(self, one.name, getattr(other, one.name))

    def forget_step(self) -> None:
        """Clear what belongs to the tasks of a step, when another takes its place."""
        self.sends = {}
        self.results = {}
        self.stops = {}
        self.calls = {}
        self.beats = {}
        self.failures = {}
        self.passed = self.held = False
        self.options = None
