"""What is asked of a store, and what it answers: beside the records that it keeps (`records`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .records import Message, Retention, RunRecord, Status, ThreadRecord
from .segments import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Amendment:
    """Changes of a thread's row that are not its owner's affair."""

    retention: Retention | None = None
    """A new retention; None leaves it."""
    names: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Names to give to checkpoints; 0 takes a name away."""
    tags: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    """Tags to put on the thread (True), after those it has, or to take off it (False)."""
    floor: int | None = None
    """Raises the floor to this seq, at most to the head. From then on no name and no fork may refer to what is below
    it, but for what names and forks refer to already."""
    tidied: int | None = None
    """Housekeeping has seen the commits up to this seq."""
    made_at: float | None = None
    """Only of the thread with this `created_at`: what was found out about one that has been deleted since says nothing
    of another one with its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """A thread that was forked from another."""

    thread_id: str
    seq: int
    """Where it took off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """What must hold of a thread for a delivery to be accepted; checked under the thread's lock."""

    statuses: frozenset[Status]
    """Accepted only in one of these."""
    wait: str = ""
    """An interrupt id that must be among `waits` (it is taken off in the same transaction, so a second answer to the
    same interrupt is refused)."""
    run: int = 0
    """The run in progress must be this one; 0 for any."""
    head: int = 0
    """The head checkpoint must be this one; 0 for any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An acknowledged message."""

    number: int
    run: int
    thread: ThreadRecord
    """The row as the delivery left it."""
    repeated: bool = False
    """The same `message_id` had been accepted before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What `CheckpointStore.claim` is asked for one thread."""

    thread_id: str
    epoch: int
    """The epoch that was observed."""
    token: str
    owner: str
    crashed: bool = False
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A thread that was taken over, with what its owner begins with."""

    thread: ThreadRecord
    runs: tuple[RunRecord, ...]
    """All of its runs, oldest first."""
    messages: tuple[Message, ...]
    """Its unread messages, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUpdate:
    """What a commit changes in one run's row."""

    run: int
    status: Status
    end: int = 0
    reason: str = ""
    error: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One or more consecutive steps of one thread, written in one transaction or not at all.

    It is accepted only if the thread's row still has `epoch` and `token` and its seq is `first - 1`.
    """

    thread_id: str
    epoch: int
    token: str
    commit_id: str
    """Unique; how a writer whose answer was lost finds out whether the commit had been applied."""
    first: int
    last: int
    """Seq after the commit; `first <= last`."""
    rows: tuple[Row, ...] = ()
    head: int | None = None
    """New head checkpoint; None leaves it."""
    status: Status | None = None
    reason: str | None = None
    run: int | None = None
    waits: tuple[str, ...] | None = None
    wake_at: float | None = None
    """When the thread is due; 0 for never, None leaves it."""
    runs: tuple[RunUpdate, ...] = ()
    applied: tuple[tuple[int, int], ...] = ()
    """(message number, seq that applied it), for each message consumed."""
    expect_inbox: int | None = None
    """Parking or ending: accepted only if no message came after this number."""
    release: bool = False
    """Give the ownership up: clears token and owner."""
    progress: bool = False
    """Durable progress: resets the crash count."""
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """A commit that is durable."""

    seq: int
    inbox: int
    """Number of the last message in the thread's inbox, so that an owner learns of mail without asking."""
    repeated: bool = False
    """It had been applied already: this was a second attempt after a lost answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadFilter:
    """Which threads to list; every condition that is set must hold."""

    statuses: frozenset[Status] | None = None
    graph: str | None = None
    driver: str | None = None
    owner: str | None = None
    tag: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Top-level keys and the JSON values they must equal."""
    untidied: int | None = None
    """At least so many commits that housekeeping has not seen."""
    updated_before: float | None = None
    """Last changed before this time (Unix seconds)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadPage:
    """A page of a listing, newest first."""

    threads: tuple[ThreadRecord, ...]
    cursor: str | None
    """Give it to the next call; None on the last page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadImage:
    """All of a thread but its segments, as it was at one moment."""

    thread: ThreadRecord
    runs: tuple[RunRecord, ...]
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Reached:
    """How far somebody who copies a thread in has seen that its segments reach."""

    last: int
    """Last commit of the newest one."""
    commit_id: str


ABSENT = Reached(-1, "")
"""There is no such thread."""


EMPTY = Reached(0, "")
"""It has no segments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStats:
    """What a store holds. Bytes are those of the payloads as they are kept, compressed and encrypted."""

    threads: Mapping[Status, int]
    """How many of each status; those that are there."""
    segments: int
    segment_bytes: int
    messages: int
    message_bytes: int
    graphs: int
    owners: int
    disk_bytes: int | None
    """What the backend takes on its disk (or in its memory) in all; None where it cannot tell."""
