"""What a loop is given of the outside world, and what it says to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Protocol, TypeAlias

from ..stores.base import CheckpointStore
from ..stores.records import Message, ThreadRecord
from .clock import Clock
from .commands import Send
from .desk import Surroundings
from .execute import Step
from .task import Outcome, Task
from .writer import Durable, ParkRefused, WriteFailed


class Need(Enum):
    """What a loop waits for."""

    EVENT = auto()
    """A task's end, or mail."""
    DURABLE = auto()
    """Its own commits, all of them."""
    ROOM = auto()
    """Fewer commits or bytes under way."""
    GATE = auto()
    """Leave to start a node: its lease could not be renewed."""
    STORE = auto()
    """A store that is away: try again after a while."""


@dataclass(frozen=True, slots=True)
class Poke:
    """There may be mail, or the gate may have opened."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A task that was started beside the loop has ended."""

    outcome: Outcome
    batch: int
    """The loop's count of stops when it was started. (Not the checkpoint: an answer may bring an update, which makes a
    checkpoint while other tasks of the step still run.)"""


Event: TypeAlias = Poke | Ended | Durable | ParkRefused | WriteFailed


class Executor(Protocol):
    """Runs nodes."""

    def run(self, step: Step, task: Task) -> Outcome:
        """Run one task on this thread. Never raises, except KeyboardInterrupt."""
        ...

    def start(self, step: Step, tasks: Sequence[Task], ended: Callable[[Outcome], None]) -> None:
        """Run tasks side by side; `ended` is called once for each, from any thread."""
        ...

    def route(self, step: Step, source: str, writes: tuple[tuple[str, Any], ...]) -> tuple[str | Send, ...]:
        """Ask the conditional edges of `source` where to go after its writes. Raises what they raise."""
        ...

    def shield(self) -> AbstractContextManager[None]:
        """Keeps `stop` from breaking into what the engine does on the thread of a node that runs here."""
        ...

    def stop(self) -> None:
        """Stop what runs; nobody waits for it any more. Safe to call when nothing does."""
        ...


@dataclass(slots=True)
class Gate:
    """Whether the owner may start nodes. Closed while it cannot renew its lease."""

    open: bool = True
    drain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopLimits:
    """Bounds of one owner, whatever the graph."""

    ahead_commits: int = 512
    """How many commits async durability may run ahead of the store."""
    ahead_bytes: int = 64 * 1024 * 1024
    crash_budget: int = 3
    """Crashes without durable progress before the thread is paused."""
    careful_commits: int = 64
    """How many commits an owner makes durable one by one after a crash, before it runs ahead of the store again."""
    mail_only: bool = False
    """Apply the mail and give the thread up, whatever there is to run."""
    own: int = 0
    """Number of the message whose sender this owner works for, and tells why it could not be applied."""


Told: TypeAlias = dict[str, Any] | list[dict[str, Any]]
"""What a node returned: its update, or several where it wrote a channel more than once."""


def told_update(writes: Sequence[tuple[str, Any]]) -> Told:
    """The updates that (channel, update) pairs stand for."""
    told: list[dict[str, Any]] = [{}]
    for channel, update in writes:
        if channel in told[-1]:
            told.append({})
        told[-1][channel] = update
    return told if len(told) > 1 else told[0]


@dataclass(frozen=True, slots=True)
class StepEvent:
    """What an observer is told of one checkpoint or stop, once it is durable."""

    seq: int
    step: int
    source: str
    values: Mapping[str, Any]
    updates: tuple[tuple[str, Told], ...] = ()
    """(node, what it returned) of each task merged."""
    interrupts: tuple[Any, ...] = ()
    """The interrupts at which the thread stopped; empty for a checkpoint."""


Observer: TypeAlias = Callable[[StepEvent], None]


class MailSource(Protocol):
    """Where a thread's messages come from: a store."""

    def messages(self, thread_id: str) -> tuple[Message, ...]:
        """The unread messages, in order. Raises `StoreUnavailable`."""
        ...


def _nobody(rows: Sequence[ThreadRecord]) -> None:
    """Nobody is to be told."""


@dataclass(slots=True)
class Ports:
    """What a loop is given of the outside world."""

    mail: MailSource
    history: CheckpointStore | None
    """Where older checkpoints are read; None for a graph without a store."""
    executor: Executor
    clock: Clock
    gate: Gate = field(default_factory=Gate)
    limits: LoopLimits = field(default_factory=LoopLimits)
    observer: Observer | None = None
    submitted: Callable[[Sequence[ThreadRecord]], None] = _nobody
    """See `desk.Surroundings`."""

    @property
    def surroundings(self) -> Surroundings | None:
        """What nodes of the engine's own graphs get; None without a store."""
        return Surroundings(self.history, self.submitted) if self.history is not None else None
