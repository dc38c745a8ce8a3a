"""Group commit: while one transaction is written the next commits queue, then all that queued go together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from ..stores.base import CommitResult
from ..stores.errors import Fenced, InboxChanged, StoreError, StoreUnavailable
from ..stores.operations import Commit, Committed
from .clock import Clock
from .draft import Draft, Stamp, merge_drafts

T = TypeVar("T")

Shield: TypeAlias = Callable[[], AbstractContextManager[None]]
"""Keeps others from breaking into what is done inside."""

LOOK = 0.2
"""Seconds after which a thread that waits for another to write looks again, so that it can be stopped."""

UPKEEP_EVERY = 512
"""Segments of a thread after which the background writer, if there is one, is woken to look after them."""


@dataclass(frozen=True, slots=True)
class Durable:
    """Everything up to `seq` is in the store."""

    seq: int
    inbox: int


@dataclass(frozen=True, slots=True)
class ParkRefused:
    """Mail came before the thread could be given up: `draft`, which would have done so, was not written."""

    draft: Draft
    inbox: int


@dataclass(frozen=True, slots=True)
class WriteFailed:
    """The owner cannot write any more: it was fenced, or the store refused for good."""

    error: StoreError


WriteEvent = Durable | ParkRefused | WriteFailed


class Lane:
    """One owned thread's way into the writer. Commits leave it in order and none is skipped."""

    def __init__(
        self, writer: Writer, thread_id: str, epoch: int, token: str, notify: Callable[[WriteEvent], None]
    ) -> None:
        self.thread_id = thread_id
        self.epoch = epoch
        self.token = token
        self.queue: deque[Draft] = deque()
        self.flight: tuple[Commit, list[Draft]] | None = None
        """Sent, perhaps written, not answered: it is sent again unchanged until an answer comes."""
        self.dead = False
        self.segments = 0
        """Segments written by this owner."""
        self._writer = writer
        self._notify = notify
        # Each counter has one thread that writes it: the owner's loop the first pair, whoever flushes the second.
        self._submitted = self._submitted_bytes = 0
        self._settled = self._settled_bytes = 0
        self._failed: StoreError | None = None
        self._watched: list[tuple[int, Future[None]]] = []
        self._watching = threading.Lock()

    @property
    def backlog(self) -> int:
        """Commits not yet durable."""
        return self._submitted - self._settled

    @property
    def bytes(self) -> int:
        """Bytes of payload not yet durable."""
        return self._submitted_bytes - self._settled_bytes

    def submit(self, draft: Draft, *, soon: bool = True) -> None:
        """Queue a sealed draft. With `soon=False` nobody is woken for it: the caller is about to flush."""
        self._submitted += 1
        self._submitted_bytes += draft.size
        self.queue.append(draft)
        self._writer.wake(self, soon=soon)

    def durable(self) -> Future[None]:
        """Done once everything that was submitted so far is durable; fails with the lane. From any thread."""
        future: Future[None] = Future()
        with self._watching:
            self._watched.append((self._submitted, future))
        self._look()
        return future

    def wait(self, future: Future[T], shield: Shield) -> T:
        """The future's result; writes on this thread rather than wait for another to be scheduled."""
        return self._writer.wait(future, shield)

    def hurry(self) -> None:
        """Have what was submitted written, although nobody blocks a thread to wait for it."""
        self._writer.hurry()

    def _look(self) -> None:
        # Called after the counters have moved, and after somebody began to watch: so one of the two sees the other.
        with self._watching:
            over = [one for one in self._watched if self._failed is not None or one[0] <= self._settled]
            self._watched = [one for one in self._watched if one not in over]
        for _, future in over:
            if self._failed is not None:
                future.set_exception(self._failed)
            else:
                future.set_result(None)

    def load(self, clock: Clock) -> Commit | None:
        """The next commit to send; None if there is nothing."""
        if self.flight is None:
            drafts: list[Draft] = []
            while self.queue:
                drafts.append(self.queue.popleft())
            if not drafts:
                return None
            stamp = Stamp(self.thread_id, self.epoch, self.token, clock.unique(), clock.time())
            self.flight = (merge_drafts(drafts, stamp), drafts)
        return self.flight[0]

    def settle(self, result: Committed | Fenced | InboxChanged) -> None:
        """Take the store's answer to the commit in flight."""
        assert self.flight is not None
        _, drafts = self.flight
        self.flight = None
        if isinstance(result, Committed):
            self.segments += 1
            if self.segments % UPKEEP_EVERY == 0:
                self._writer.nudge()
            self._count(drafts)
            self._notify(Durable(drafts[-1].seq, result.inbox))
        elif isinstance(result, InboxChanged):
            # Only the last draft parks; what came before it is to be written all the same.
            parking = drafts.pop()
            self._count([parking])
            self.queue.extendleft(reversed(drafts))
            self._notify(ParkRefused(parking, result.inbox))
        else:
            self.fail(result)

    def _count(self, drafts: list[Draft]) -> None:
        self._settled += len(drafts)
        self._settled_bytes += sum(draft.size for draft in drafts)
        if self._watched:
            self._look()

    def fail(self, error: StoreError) -> None:
        """Stop: nothing more of this owner is written."""
        self.dead = True
        self.queue.clear()
        self.flight = None
        self._failed = error
        self._look()
        self._notify(WriteFailed(error))


class CommitSink(Protocol):
    """What commits are written to: a store."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        """See `CheckpointStore.commit`."""
        ...


class Writer:
    """The commits of all threads that one process owns.

    `flush` writes one group on the calling thread; `WriterThread` calls it as long as there is something. A store that
    is away keeps the group in flight: it is sent again, unchanged, until the store answers.
    """

    def __init__(self, store: CommitSink, clock: Clock) -> None:
        self._store = store
        self.stalled = ""
        """Why the last attempt failed; empty while all is well."""
        self._clock = clock
        self._flushing = threading.Lock()
        self._ready: dict[Lane, None] = {}
        self._ready_lock = threading.Lock()
        self._wakeup: Callable[[], None] | None = None

    def lane(self, thread_id: str, epoch: int, token: str, notify: Callable[[WriteEvent], None]) -> Lane:
        """A lane for a thread that was just claimed with this epoch and token."""
        return Lane(self, thread_id, epoch, token, notify)

    def on_work(self, wakeup: Callable[[], None] | None) -> None:
        """Have `wakeup` called whenever something is queued."""
        self._wakeup = wakeup

    def wake(self, lane: Lane, *, soon: bool = True) -> None:
        """Note that a lane has something to write."""
        with self._ready_lock:
            self._ready[lane] = None
        if soon and self._wakeup is not None:
            self._wakeup()

    def nudge(self) -> None:
        """Have the background writer look again."""
        if self._wakeup is not None:
            self._wakeup()

    def hurry(self) -> None:
        """Have what is queued written: in the background, or here if there is none."""
        if self._wakeup is not None:
            self._wakeup()
        else:
            self.flush()

    def give_up(self, error: StoreError) -> None:
        """Fail every lane that has something to write."""
        with self._ready_lock:
            lanes = list(self._ready)
            self._ready.clear()
        for lane in lanes:
            lane.fail(error)

    def wait(self, future: Future[T], shield: Shield) -> T:
        """The future's result, which comes with a lane's commits: writes as long as there is something, on this
        thread, which nobody may break into while it does."""
        while not future.done():
            try:
                with shield():
                    wrote = self.flush()
            except StoreUnavailable:
                self.nudge()
                wrote = False
            if not wrote:
                wait_for([future], LOOK)
        return future.result()

    @property
    def busy(self) -> bool:
        """Whether anything is queued or in flight."""
        return bool(self._ready)

    def flush(self) -> bool:
        """Write one group, or wait for the one being written. Returns whether anything was written.

        Raises `StoreUnavailable` when the store did not answer: call again later. Any other `StoreError` is final and
        was told to the lanes.
        """
        with self._flushing:
            with self._ready_lock:
                lanes = sorted(self._ready, key=lambda lane: lane.thread_id)
                self._ready.clear()
            loaded = [(lane, commit) for lane in lanes if not lane.dead and (commit := self._load(lane))]
            if not loaded:
                return False
            self._write(loaded)
            return True

    def _load(self, lane: Lane) -> Commit | None:
        try:
            return lane.load(self._clock)
        except Exception as error:  # noqa: BLE001 — the lane must hear of it: what it had queued is lost
            lane.fail(_final(error))
            return None

    def _write(self, loaded: list[tuple[Lane, Commit]]) -> None:
        try:
            results = self._store.commit([commit for _, commit in loaded])
        except StoreUnavailable as error:
            self.stalled = str(error)
            with self._ready_lock:
                self._ready.update((lane, None) for lane, _ in loaded)
            raise
        except Exception as error:  # noqa: BLE001 — the lanes must hear of it, or their threads would wait for ever
            for lane, _ in loaded:
                lane.fail(_final(error))
            return
        self.stalled = ""
        for (lane, _), result in zip(loaded, results, strict=True):
            lane.settle(result)
            if lane.queue:
                with self._ready_lock:
                    self._ready[lane] = None


def _final(error: Exception) -> StoreError:
    if isinstance(error, StoreError):
        return error
    final = StoreError(f"the commit failed: {error!r}")
    final.__cause__ = error
    return final
