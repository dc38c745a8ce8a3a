"""The contract of a store. I/O-free: backends fill in the calls, `perdure.testing` holds them to it.

Every call is synchronous, safe to use from several threads, and safe to repeat after `StoreUnavailable`: a repeated
call has the effect of one. All of one call's effects happen in one transaction. Arguments that no store could keep (an
empty id, one of over 512 bytes or with a NUL, metadata that is not JSON) raise `StoreMisuse` before anything is done.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from .errors import ClaimLost, Fenced, InboxChanged, ThreadExists, UnknownThread
from .operations import Claim, Claimed, Commit, Committed, Delivery, Expect, ThreadFilter, ThreadPage
from .processes import Holder
from .records import GraphRecord, Message, OwnerRecord, RunRecord, Segment, ThreadRecord
from .upkeep import Upkeep

CommitResult = Committed | Fenced | InboxChanged
TakeResult = Claimed | ClaimLost | UnknownThread
NewThread = tuple[ThreadRecord, Message | None]
"""What `create` is given."""


class CheckpointStore(Upkeep):
    """Where threads live: the calls that running them takes, and those of `Upkeep`.

    Any call may raise `StoreUnavailable` (try again) or `StoreFull` (try again when there is room); `Corrupt` and
    `NewerFormat` where a record does not decode.
    """

    url: str
    """The URL by which another process opens the same store."""

    # -- threads -------------------------------------------------------------------------------------------------

    @abstractmethod
    def create(self, thread: ThreadRecord, message: Message | None = None) -> Delivery:
        """Write a new thread's row and, in the same transaction, its first message (as `deliver` would).

        Repeating it with the same `message_id` returns the first call's delivery with `repeated` set.
        An origin's commit that the origin itself had inherited becomes that of the thread which wrote it. Raises
        `ThreadExists`; `UnknownThread` when `thread.origin` names a thread that is not there, `StoreMisuse` when that
        thread has no durable commit `thread.origin.seq` yet or retention has dropped it, or is being copied in.
        """

    def create_many(self, threads: Sequence[NewThread]) -> list[Delivery | ThreadExists]:
        """`create` for many different threads; one result for each. In one transaction where the store has them; but
        each is created or refused alone.

        Raises what `create` raises over an origin; then the call is to be repeated as it was.
        """
        made: list[Delivery | ThreadExists] = []
        for thread, message in threads:
            try:
                made.append(self.create(thread, message))
            except ThreadExists as present:
                made.append(present)
        return made

    @abstractmethod
    def thread(self, thread_id: str) -> ThreadRecord:
        """The thread's row. Raises `UnknownThread`."""

    def find(self, thread_ids: Sequence[str]) -> dict[str, ThreadRecord]:
        """The rows of those of these threads that are there, by id. In one round trip where the store can do it."""
        found: dict[str, ThreadRecord] = {}
        for thread_id in thread_ids:
            with suppress(UnknownThread):
                found[thread_id] = self.thread(thread_id)
        return found

    @abstractmethod
    def threads(self, where: ThreadFilter | None = None, *, limit: int = 100, cursor: str | None = None) -> ThreadPage:
        """List threads, newest first. A thread that stays as it is appears exactly once over all pages."""

    @abstractmethod
    def due(self, before: float, *, limit: int = 100) -> tuple[ThreadRecord, ...]:
        """Parked threads whose `wake_at` is set and not after `before`, the longest due first, at most `limit`."""

    @abstractmethod
    def runs(self, thread_id: str) -> tuple[RunRecord, ...]:
        """Every run of a thread, oldest first. Raises `UnknownThread`."""

    @abstractmethod
    def delete(self, thread_id: str, *, seen: ThreadRecord | None = None) -> None:
        """Remove a thread that has ended or is parked, or is being copied in, with all it has. Deleting what is not
        there does nothing.

        `seen`: its row as it was when this was decided; the thread is left if it has gone on since, or is another one.

        Raises `Refused` while it is runnable, or is not as it was seen; `ThreadReferenced` while forks read its
        history. (`stores.deletion` deletes also those, with the calls `graft` and `adopt`.)
        """

    # -- ownership -----------------------------------------------------------------------------------------------

    @abstractmethod
    def claim(
        self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool = False, at: float = 0.0
    ) -> ThreadRecord:
        """Take a thread over: compare-and-set on the epoch that was observed.

        On success the row has epoch + 1, this token and owner, status running (a parked or ended thread keeps its
        status: an owner may hold it to change its state) and, if `crashed`, one crash more. Repeated with the same
        token after a lost answer it returns the row. Raises `ClaimLost`, `UnknownThread`.
        """

    def take(self, claims: Sequence[Claim]) -> list[TakeResult]:
        """`claim` for many different threads, and what their owner has to know of each; one result for each, and each
        succeeds or fails alone. In one round trip where the store can do it."""
        taken: list[TakeResult] = []
        for claim in claims:
            try:
                row = self.claim(
                    claim.thread_id,
                    epoch=claim.epoch,
                    token=claim.token,
                    owner=claim.owner,
                    crashed=claim.crashed,
                    at=claim.at,
                )
            except (ClaimLost, UnknownThread) as refusal:
                taken.append(refusal)
                continue
            runs, messages = self.runs(claim.thread_id), self.messages(claim.thread_id)
            taken.append(Claimed(thread=row, runs=runs, messages=messages))
        return taken

    @abstractmethod
    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        """Write several threads' commits in one transaction; each succeeds or fails alone. One result per commit.

        When the row does not match, the commit's own id is looked up: present, it had been applied (`Committed` with
        `repeated`); absent, `Fenced`. `InboxChanged` where `expect_inbox` is not the inbox. A refused commit writes
        nothing at all.
        """

    @abstractmethod
    def renew(self, lease: OwnerRecord) -> None:
        """Write an owner's lease (insert or replace). A lower counter of the same process is ignored."""

    @abstractmethod
    def owners(self) -> tuple[OwnerRecord, ...]:
        """All leases. Must answer even while a stopped process holds the store's write lock."""

    @abstractmethod
    def forget(self, owner: str) -> None:
        """Remove a lease."""

    def lock_holder(self) -> Holder | None:
        """Which process holds the store's write lock at this moment, for stores that one writer at a time writes to;
        None for the others, and while nobody does."""
        return None

    # -- messages ------------------------------------------------------------------------------------------------

    @abstractmethod
    def deliver(
        self, thread_id: str, message: Message, expect: Expect, *, graph: GraphRecord | None = None
    ) -> Delivery:
        """Number the message `inbox + 1` and keep it, under the thread's lock. With a `graph`, that is the code which
        runs the thread from its next claim on.

        A parked thread becomes queued by it, and so does an ended one (if `expect` accepts it at all) unless the
        message is a `cancel`. A `signal` does that only to a parked thread that is not paused and whose waits name it
        (`signal_wait`). An `input` is allotted run `runs + 1`, whose row is written as queued. A `resume` takes
        `expect.wait` off the thread's waits, or all of them if it names none. Raises `Refused` where `expect` does not
        hold, or the thread is being copied in; `UnknownThread`.
        """

    @abstractmethod
    def messages(self, thread_id: str, *, unread: bool = True) -> tuple[Message, ...]:
        """The messages of a thread in order of number: those not applied yet, or all."""

    # -- history -------------------------------------------------------------------------------------------------

    @abstractmethod
    def segments(
        self, thread_id: str, *, first: int = 1, last: int | None = None, limit: int | None = None
    ) -> list[Segment]:
        """Segments that overlap commits `first..last`, newest first, at most `limit`. Only the thread's own: those
        before a fork belong to its origin. Raises `Corrupt` or `NewerFormat` naming the record."""

    # -- graphs --------------------------------------------------------------------------------------------------

    @abstractmethod
    def put_graph(self, graph: GraphRecord) -> None:
        """Keep a graph's record; the same key again replaces nothing."""

    @abstractmethod
    def graph(self, graph_key: str) -> GraphRecord:
        """A graph's record. Raises `StoreMisuse` if there is none."""

    @abstractmethod
    def close(self) -> None:
        """Release connections. Closing twice does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
