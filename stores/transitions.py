"""What each call does to a thread's row: pure functions over records, the same for every store.

A backend reads the row under its lock, asks here, and writes what it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .errors import (
    ClaimLost,
    Fenced,
    InboxChanged,
    Refused,
    StoreMisuse,
    ThreadExists,
    ThreadHeld,
    UnknownThread,
    WrongOrigin,
)
from .operations import Amendment, Commit, Committed, Expect, Fork, RunUpdate
from .records import (
    LOADING,
    PARKED,
    RUN_KINDS,
    SIGNAL,
    GraphRecord,
    Message,
    Origin,
    RunRecord,
    Status,
    ThreadRecord,
    signal_wait,
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a store holds of a thread at the moment when a commit is checked."""

    epoch: int
    token: str
    seq: int
    inbox: int
    commit_id: str
    """Id of the commit that is kept at the checked commit's `first`; empty if there is none."""


def claimed(row: ThreadRecord, *, epoch: int, token: str, owner: str, crashed: bool, at: float) -> ThreadRecord:
    """The row after a claim. Raises `ClaimLost` unless the epoch is the one that was observed.

    A claim that is repeated after a lost answer finds its own token one epoch further, and changes nothing.
    """
    if row.epoch == epoch + 1 and row.token == token and row.owner == owner:
        return row
    if row.epoch != epoch:
        raise ClaimLost(row.thread_id, epoch, row.epoch, row.status)
    return replace(
        row,
        epoch=epoch + 1,
        token=token,
        owner=owner,
        status=Status.RUNNING if row.status.runnable else row.status,
        # An owner that had given the thread up before it crashed did not crash over it.
        crashes=row.crashes + (1 if crashed and row.token else 0),
        updated_at=at or row.updated_at,
    )


def check_expectation(row: ThreadRecord, message: Message, expect: Expect) -> None:
    """Raise `Refused` where the thread is not as the sender expects it."""
    why = ""
    if row.driver == LOADING:
        # The next piece of the copy replaces its messages: what was accepted now would be lost.
        why = "it is being copied into this store; send it again when that is done (if it broke off: start it again)"
    elif row.status not in expect.statuses:
        accepted = ", ".join(sorted(expect.statuses)) or "no status"
        why = f"it is accepted only when the thread is: {accepted}; look at thread.status and send what fits it"
    elif expect.run and row.run != expect.run:
        why = f"it was meant for run {expect.run}, but run {row.run} is the present one; use the handle of that run"
    elif expect.head and row.head != expect.head:
        why = f"it was meant for checkpoint {expect.head}, but the head is {row.head}; read the state again"
    elif expect.wait and expect.wait not in row.waits:
        open_waits = ", ".join(repr(wait) for wait in row.waits) or "nothing"
        why = f"interrupt {expect.wait!r} has been answered or was never raised; the thread waits for {open_waits}"
    if why:
        raise Refused(row.thread_id, message.kind, row.status, why)


def delivered(
    row: ThreadRecord, message: Message, expect: Expect | None, graph: GraphRecord | None = None
) -> tuple[ThreadRecord, Message, RunRecord | None]:
    """The row, the numbered message and the newly allotted run (for an `input`) after a delivery.

    `expect` is None only for the message with which a thread is created. Raises `Refused`.
    """
    if expect is not None:
        check_expectation(row, message, expect)
    runs, run = row.runs, None
    if message.kind in RUN_KINDS:
        runs += 1
        run = RunRecord(thread_id=row.thread_id, run=runs, created_at=message.created_at)
    kept = replace(message, number=row.inbox + 1, run=runs if run else message.run, applied=0)
    after = replace(
        row,
        version=graph.version if graph is not None else row.version,
        graph_key=graph.graph_key if graph is not None else row.graph_key,
        inbox=kept.number,
        runs=runs,
        status=Status.QUEUED if _wakes(row, message) else row.status,
        waits=_waits_left(row, message, expect),
        updated_at=message.created_at or row.updated_at,
    )
    return after, kept, run


def _wakes(row: ThreadRecord, message: Message) -> bool:
    if message.kind == SIGNAL:
        # Others are read when the thread wakes for what it does wait for, or when its pause ends.
        return row.status in PARKED - {Status.PAUSED} and signal_wait(message.name) in row.waits
    return row.status in PARKED or (row.status.ended and message.kind != "cancel")


def _waits_left(row: ThreadRecord, message: Message, expect: Expect | None) -> tuple[str, ...]:
    if message.kind != "resume" or expect is None:
        return row.waits
    return tuple(wait for wait in row.waits if wait != expect.wait) if expect.wait else ()


def verdict(found: Found | None, commit: Commit) -> Committed | Fenced | InboxChanged:
    """Whether a commit may be written (`Committed` that is not `repeated`), was written before, or is refused."""
    if found is None:
        return Fenced(commit.thread_id, commit.epoch, 0)
    if found.commit_id == commit.commit_id:
        return Committed(seq=commit.last, inbox=found.inbox, repeated=True)
    if (found.epoch, found.token, found.seq) != (commit.epoch, commit.token, commit.first - 1):
        return Fenced(commit.thread_id, commit.epoch, found.epoch)
    if commit.expect_inbox is not None and found.inbox != commit.expect_inbox:
        return InboxChanged(commit.thread_id, commit.expect_inbox, found.inbox)
    return Committed(seq=commit.last, inbox=found.inbox)


def highest_run(commit: Commit) -> int:
    """The highest run that a commit speaks of; a run driven in process may never have been allotted by a message."""
    return max([commit.run or 0, *(update.run for update in commit.runs)])


def is_step(commit: Commit) -> bool:
    """Whether all that a commit changes of its thread is seq, head, crash count and time. Most are so."""
    return (
        commit.status is None
        and commit.reason is None
        and commit.run is None
        and commit.waits is None
        and commit.wake_at is None
        and commit.expect_inbox is None
        and not (commit.runs or commit.applied or commit.release)
    )


def committed(row: ThreadRecord, commit: Commit) -> ThreadRecord:
    """The row after an accepted commit."""
    return replace(
        row,
        seq=commit.last,
        head=row.head if commit.head is None else commit.head,
        status=row.status if commit.status is None else commit.status,
        reason=row.reason if commit.reason is None else commit.reason,
        run=row.run if commit.run is None else commit.run,
        runs=max(row.runs, highest_run(commit)),
        waits=row.waits if commit.waits is None else commit.waits,
        wake_at=row.wake_at if commit.wake_at is None else commit.wake_at,
        token="" if commit.release else row.token,
        owner="" if commit.release else row.owner,
        crashes=0 if commit.progress else row.crashes,
        updated_at=commit.at or row.updated_at,
    )


def run_after(run: RunRecord | None, thread_id: str, update: RunUpdate, at: float) -> RunRecord:
    """A run's row after an update; a run without a row (driven in process) gets one."""
    return replace(
        run or RunRecord(thread_id=thread_id, run=update.run, created_at=at),
        status=update.status,
        end=update.end,
        reason=update.reason,
        error=update.error,
        ended_at=at if update.status.ended else 0.0,
    )


def check_deletable(row: ThreadRecord, seen: ThreadRecord | None) -> None:
    """Raise `Refused` while the thread is runnable, unless it is held: nobody runs what is being copied in; and where
    it is not as it was seen."""
    if row.status.runnable and row.driver != LOADING:
        raise Refused(row.thread_id, "delete", row.status, "it is runnable; cancel it and wait until it has ended")
    if seen is not None and (row.created_at, row.seq) != (seen.created_at, seen.seq):
        raise Refused(row.thread_id, "delete", row.status, "it has gone on, or been made anew, since that was decided")


def protected(row: ThreadRecord, forks: Iterable[Fork]) -> frozenset[int]:
    """The checkpoints that stay whatever the floor: those that names and forks refer to."""
    return frozenset((*row.names.values(), *(fork.seq for fork in forks)))


def first_of(row: ThreadRecord) -> int:
    """The first commit of a thread's own. What it has of earlier ones is out of sight: being handed over by an origin
    that is to be deleted."""
    return row.origin.seq + 1 if row.origin is not None else 1


def inherits(parent: ThreadRecord, seq: int) -> Origin | None:
    """Where to look for commit `seq` of a thread that is itself a fork and had it from its origin; None if it is its
    own."""
    if parent.origin is None or seq > parent.origin.seq:
        return None
    return Origin(thread_id=parent.origin.thread_id, seq=seq)


def check_whole(row: ThreadRecord, why: str) -> None:
    """Raise `ThreadHeld`, saying why it is refused, for a thread that is being copied in."""
    if row.driver == LOADING:
        raise ThreadHeld(row.thread_id, why)


def check_forkable(thread_id: str, parent: ThreadRecord | None) -> None:
    """Raise `ThreadHeld` where a thread is to be forked from one, or what that was forked from, that is not all there:
    what it says of itself may be another thread's yet."""
    if parent is not None:
        check_whole(parent, f"thread {thread_id!r} cannot be forked from it yet")


def check_origin(
    thread_id: str, parent: ThreadRecord | None, origin: Origin, forks: Sequence[Fork], where: str
) -> None:
    """Raise `UnknownThread` or `WrongOrigin` where a thread cannot be forked from `origin`. `parent` is its row and
    `forks` are those that it has."""
    if parent is None:
        raise UnknownThread(origin.thread_id, where)
    if not 0 <= origin.seq <= parent.seq:
        raise WrongOrigin(
            f"thread {thread_id!r} cannot fork from commit {origin.seq} of thread {parent.thread_id!r}, whose last "
            f"durable commit is {parent.seq}"
        )
    if origin.seq < parent.floor and origin.seq not in protected(parent, forks):
        raise WrongOrigin(
            f"thread {thread_id!r} cannot fork from commit {origin.seq} of thread {parent.thread_id!r}: its retention "
            f"has dropped what lies before {parent.floor}; thread.get_state_history() lists the checkpoints it has"
        )


def amended(row: ThreadRecord, change: Amendment, forks: Sequence[Fork]) -> ThreadRecord:
    """The row after an amendment. Raises `StoreMisuse`."""
    check_whole(row, "its names, tags and retention come with it, and what it is given before is lost")
    safe = protected(row, forks)
    names = dict(row.names)
    for name, seq in change.names.items():
        if not seq:
            names.pop(name, None)
            continue
        if row.origin is not None and seq <= row.origin.seq:
            raise StoreMisuse(
                f"thread {row.thread_id!r}: checkpoint {seq} belongs to thread {row.origin.thread_id!r}, from which it "
                "was forked; name it there"
            )
        if seq > row.seq or (seq < row.floor and seq not in safe):
            raise StoreMisuse(
                f"thread {row.thread_id!r} has no checkpoint {seq} that could be named {name!r}; "
                "thread.get_state_history() lists the checkpoints it has"
            )
        names[name] = seq
    if change.floor is not None and change.floor > row.head:
        raise StoreMisuse(
            f"thread {row.thread_id!r}: its newest checkpoint is {row.head}; a floor of {change.floor} would drop it"
        )
    kept = tuple(tag for tag in row.tags if change.tags.get(tag, True))
    return replace(
        row,
        names=names,
        tags=(*kept, *(tag for tag, put in change.tags.items() if put and tag not in kept)),
        retention=row.retention if change.retention is None else change.retention,
        floor=max(row.floor, change.floor or 0),
        tidied=max(row.tidied, change.tidied or 0),
    )


def still_that_fork(row: ThreadRecord | None, fork: ThreadRecord) -> bool:
    """Whether a thread's row is a later one of the fork that `fork` was read of, and nothing else is done with it."""
    return row is not None and row.driver != LOADING and _what_fork(row) == _what_fork(fork)


def _what_fork(row: ThreadRecord) -> tuple[float, Origin | None]:
    return row.created_at, row.origin


def floor_below(row: ThreadRecord, origin: ThreadRecord) -> int:
    """From where on a fork has all checkpoints of its origin, once these are its own; but for where it took off it
    has none of those that its origin's retention had dropped."""
    return min(origin.floor, row.origin.seq) if row.origin is not None else 0


def names_below(row: ThreadRecord, origin: ThreadRecord) -> dict[str, int]:
    """The names of an origin's checkpoints that a fork has inherited."""
    last = row.origin.seq if row.origin is not None else 0
    return {name: seq for name, seq in origin.names.items() if seq <= last}


def adopted(row: ThreadRecord, origin: ThreadRecord) -> ThreadRecord:
    """The row of a fork after what it had of its origin became its own. A name that it has given itself stays."""
    return replace(
        row,
        origin=origin.origin,
        floor=max(row.floor, floor_below(row, origin)),
        names={**names_below(row, origin), **row.names},
        tidied=0,
    )


def run_of_fork(row: ThreadRecord) -> RunRecord:
    """The row of the run with which a fork went on from its origin, for where it has none. Such a run is taken to be in
    progress in a fork; in another thread it would not be."""
    return RunRecord(thread_id=row.thread_id, run=row.run, status=Status.RUNNING, created_at=row.created_at)


def loaded(present: ThreadRecord | None, image: ThreadRecord, complete: bool) -> ThreadRecord:
    """The row that a copied thread gets. Raises `ThreadExists` where one is there that is not being copied in."""
    if present is not None and present.driver != LOADING:
        raise ThreadExists(image.thread_id)
    return replace(
        image,
        driver=image.driver if complete else LOADING,
        status=Status.QUEUED if image.status is Status.RUNNING else image.status,
        token="",
        owner="",
    )


def waves(commits: Iterable[Commit]) -> list[list[Commit]]:
    """The commits in thread-id order, split so that no thread comes twice in a wave (a group may hold two in a row)."""
    result: list[list[Commit]] = []
    seen: dict[str, int] = {}
    for commit in sorted(commits, key=lambda commit: commit.thread_id):
        place = seen[commit.thread_id] = seen.get(commit.thread_id, -1) + 1
        if place == len(result):
            result.append([])
        result[place].append(commit)
    return result
