"""The records that every store keeps: threads, runs, messages, segments, owners, graphs.

They hold ids, numbers and bytes; what the bytes mean is the runtime's affair. Times are Unix seconds (float) taken from
the writer's clock and are for people to read: no decision of the protocol compares them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from .segments import Row


class Status(StrEnum):
    """Where a thread or a run stands."""

    QUEUED = "queued"
    """Runnable and without an owner."""
    RUNNING = "running"
    """Held by an owner (or by one that died, which only the supervisor can tell)."""
    INTERRUPTED = "interrupted"
    """Parked until somebody resumes it."""
    SLEEPING = "sleeping"
    WAITING = "waiting"
    PAUSED = "paused"
    """Stopped with a reason (by a user, or because its crash budget is spent) until resumed, retried or cancelled."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens unless a user asks for it."""
        return self in ENDED

    @property
    def runnable(self) -> bool:
        """Whether some owner has to hold the thread."""
        return self in RUNNABLE


ENDED = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})
RUNNABLE = frozenset({Status.QUEUED, Status.RUNNING})
PARKED = frozenset({Status.INTERRUPTED, Status.SLEEPING, Status.WAITING, Status.PAUSED})

SERVICE = "service"
"""`ThreadRecord.driver` of a thread that the Ray service runs."""
IN_PROCESS = "inprocess"
"""`ThreadRecord.driver` of a thread that somebody's `invoke` runs."""
LOADING = "loading"
"""`ThreadRecord.driver` of a thread that is being copied in: nobody runs it before all of it is there."""

ISOLATED = "thread"
"""`ThreadRecord.isolation` of a thread that has a process of its own while it runs."""
SHARED = "shared"
"""`ThreadRecord.isolation` of a thread that shares a process with others."""

RERUN = "perdure.rerun"
"""Key in `ThreadRecord.metadata` of a fork that re-runs its origin: an object with the origin's `thread` and `seq`, and
`recorded`, true where it replays what the origin recorded after that seq; the rest is the runtime's affair. Given with
the row, and never changed."""


BATCH = "perdure.batch"
"""Key in `ThreadRecord.metadata` of a thread that was begun by a batch: the batch's id."""

BATCH_MARK = "perdure.batch_mark"
"""Key beside `BATCH`: a text that no other batch has, whatever its id. An id may be used again one day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What of a thread's past is kept. Every limit that is set drops what exceeds it; nothing is dropped by default.

    The newest checkpoint, those with a name and those that a fork took off from are always kept.
    """

    max_checkpoints: int | None = None
    """Checkpoints kept, the newest ones; at least 1."""
    keep_for: timedelta | None = None
    """How long a checkpoint is kept."""
    delete_after: timedelta | None = None
    """How long after its end a thread is deleted, with all it has. Its forks first take over what they have of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a forked thread took off: its history up to `seq` is that of `thread_id`."""

    thread_id: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadRecord:
    """One thread's row."""

    thread_id: str
    graph: str
    """The graph's name."""
    version: str
    """The graph's version."""
    graph_key: str = ""
    """Key of the `GraphRecord` that the service loads; empty for a thread driven in process."""
    driver: str = SERVICE
    isolation: str = ISOLATED
    """How the service runs it: `ISOLATED` or `SHARED`. Chosen when it is created, never changed."""
    status: Status = Status.QUEUED
    reason: str = ""
    """Why it is paused, failed or cancelled, for people."""
    run: int = 0
    """Number of the run in progress, or of the last one; 0 before the first starts."""
    runs: int = 0
    """How many runs were ever accepted; the next accepted one gets `runs + 1`."""
    epoch: int = 0
    """How often the thread changed owners. Never falls."""
    token: str = ""
    """Random token of the present owner; empty when nobody owns it."""
    owner: str = ""
    """Name of the present owner (an actor's name, or `host:pid:start` in process)."""
    seq: int = 0
    """Number of the last commit."""
    head: int = 0
    """The newest checkpoint's seq; 0 before the first."""
    inbox: int = 0
    """Number of the last message delivered."""
    crashes: int = 0
    """Crashes since the last durable progress."""
    waits: tuple[str, ...] = ()
    """What a parked thread waits for: ids of interrupts, and `signal:NAME` for each signal."""
    wake_at: float = 0.0
    """When a parked thread is due (Unix seconds), whatever else happens; 0 for never."""
    origin: Origin | None = None
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """JSON values, given by the user at submit, filtered by in listings."""
    tags: tuple[str, ...] = ()
    retention: Retention | None = None
    """Its own; None for the store's."""
    names: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Named checkpoints: name to seq."""
    floor: int = 0
    """Below this seq only those checkpoints are left that have a name or that a fork took off from. Never falls."""
    tidied: int = 0
    """Housekeeping has seen the commits up to this seq."""
    created_at: float = 0.0
    updated_at: float = 0.0

    @property
    def replays(self) -> Origin | None:
        """Where the history begins that it replays as a re-run; None for any other thread. It needs that of the thread
        named here until it has ended, also where its own `origin` was moved to another."""
        mark = self.metadata.get(RERUN)
        if not isinstance(mark, Mapping) or mark.get("recorded") is not True:
            return None
        thread_id, seq = mark.get("thread"), mark.get("seq")
        return Origin(thread_id=thread_id, seq=seq) if isinstance(thread_id, str) and isinstance(seq, int) else None

    @property
    def interrupts(self) -> tuple[str, ...]:
        """Ids of the interrupts among its waits."""
        return tuple(wait for wait in self.waits if not wait.startswith(_SIGNAL_WAIT))

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the signals among its waits."""
        return tuple(wait.removeprefix(_SIGNAL_WAIT) for wait in self.waits if wait.startswith(_SIGNAL_WAIT))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run of a thread: from an accepted input to its end."""

    thread_id: str
    run: int
    status: Status = Status.QUEUED
    end: int = 0
    """Seq of the checkpoint that holds its final state; 0 while it has not ended."""
    reason: str = ""
    error: bytes = b""
    """An encoded error (the runtime's codec), empty if none."""
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    created_at: float = 0.0
    ended_at: float = 0.0


SIGNAL = "signal"
"""`Message.kind` of a signal: it wakes a parked thread only if that waits for a signal of its name."""
_SIGNAL_WAIT = "signal:"


def signal_wait(name: str) -> str:
    """How `ThreadRecord.waits` names the wait for a signal."""
    return _SIGNAL_WAIT + name


RUN_KINDS = frozenset({"input", "replace"})
"""Kinds of messages that are allotted a run."""

UNDELIVERED = -1
"""`Message.applied` of a message that its thread ended without having read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message to a thread. `message_id` makes a repeated delivery harmless."""

    message_id: str
    kind: str
    """input, replace, resume, cancel, pause, update, retry, breakpoints, signal, wake. `RUN_KINDS` start a run."""
    name: str = ""
    """Messages of one name are read in order."""
    payload: bytes = b""
    number: int = 0
    """Its place in the thread's inbox, from 1; the store sets it."""
    run: int = 0
    """For `input`: the run that was allotted; for the others the run it was meant for, 0 for any."""
    created_at: float = 0.0
    applied: int = 0
    """Seq of the commit that applied it; 0 while unread; `UNDELIVERED` if its thread ended without having read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The rows of one commit as they are kept: commits `first..last`."""

    thread_id: str
    first: int
    last: int
    epoch: int
    commit_id: str
    rows: Sequence[Row]
    """A tuple, or `columns.Rows`, which is equal to one and makes rows only for who looks at them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerRecord:
    """An owner's lease: a counter that it raises. Expired once a supervisor saw it unchanged for long enough on the
    supervisor's own monotonic clock; the clocks of machines never matter."""

    owner: str
    counter: int
    host: str
    pid: int
    started: int
    """The process's start time (`processes.start_time`); with `host` and `pid` it names one process for good."""
    threads: tuple[tuple[str, int], ...] = ()
    """(thread id, epoch) of each thread that it hosts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRecord:
    """How the service gets at a graph's code. Kept apart from values; loaded only in actors."""

    graph_key: str
    name: str
    version: str
    kind: str
    """reference (`module:attribute`) or pickle."""
    body: bytes
    signature: bytes = b""
    """HMAC of the record by a key that is not in the store."""
    paths: tuple[str, ...] = ()
    """Import paths on this machine that a reference needs."""
