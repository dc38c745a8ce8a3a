"""One thread in an actor: claimed, driven to its end, given up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from ..runtime.cache import ReadCache
from ..runtime.clock import Clock
from ..runtime.compiled import CompiledGraph
from ..runtime.desk import NodeCancelled, Request, Ticket
from ..runtime.drive import Driver, store_backoff
from ..runtime.errors import PerdureError
from ..runtime.loop import ThreadLoop
from ..runtime.payloads import CANCEL
from ..runtime.ports import Event, Gate, LoopLimits, Need, Poke, Ports
from ..runtime.restore import restore
from ..runtime.settled import Settled
from ..runtime.writer import Writer
from ..stores.base import CheckpointStore
from ..stores.errors import Fenced, StoreError, StoreUnavailable
from ..stores.operations import Claimed
from ..stores.records import ThreadRecord
from .fanout import RayExecutor
from .remote_desk import Reply
from .scheduler import Life, Rest, Scheduler


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a hosted thread left its actor."""

    thread_id: str
    epoch: int
    """The epoch at which it was hosted."""
    status: str
    """The status it was given up with; `fenced` if it was taken away, `unavailable` if the store was away while it was
    restored, `error` if its owner could not go on."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What the threads of one process have in common."""

    store: CheckpointStore
    writer: Writer
    clock: Clock
    gate: Gate
    limits: LoopLimits
    cache: ReadCache
    gone: Callable[[HostedThread], None]
    """A thread was given up."""
    insist: Callable[[HostedThread], None]
    """A node did not stop when it was told to."""
    exhausted: Callable[[BaseException], None]
    """The engine has run out of memory or OS threads: ends the process."""
    submitted: Callable[[Sequence[ThreadRecord]], None]
    """A node has made threads."""
    scheduler: Scheduler | None = None
    """Gives the threads their turns; None where each has an OS thread to itself."""


class HostedThread:
    """Drives one claimed thread."""

    def __init__(self, claimed: Claimed, graph: CompiledGraph, host: Host, executor: RayExecutor) -> None:
        self.record: ThreadRecord = claimed.thread
        self.outcome: Outcome | None = None
        self.ended = threading.Event()
        self._claimed: Claimed | None = claimed
        self._graph = graph
        self._host = host
        self._executor = executor
        self._loop: ThreadLoop | None = None
        self._post: Callable[[Event], None] | None = None
        self._poked = False

    @property
    def thread_id(self) -> str:
        """Id of the thread."""
        return self.record.thread_id

    @property
    def in_node(self) -> bool:
        """Whether a node of it runs in this process."""
        return self._executor.in_node

    def start(self) -> None:
        """Begin driving."""
        if self._host.scheduler is not None:
            self._host.scheduler.add(self._life)
        else:
            threading.Thread(target=self._serve, name=f"perdure-thread-{self.thread_id}", daemon=True).start()

    def poke(self, grace: timedelta) -> None:
        """There may be mail. A cancel is carried out at once: a node that runs inline is told to stop, and loses this
        process if it has not stopped within `grace`."""
        # Noted before it is looked for: `_begin` does the reverse, so that one of the two sees the other.
        self._poked = True
        self.wake()
        if self._cancel_waits() and self._executor.stop_node():
            threading.Thread(target=self._insist, args=(grace,), name="perdure-cancel", daemon=True).start()

    def wake(self) -> None:
        """The gate may have opened."""
        if self._post is not None:
            self._post(Poke())

    def answer(self, ticket: Ticket, request: Request) -> Reply:
        """What a node in a Ray task asks; blocks until that is durable."""
        loop = self._loop
        if loop is None:
            return Reply(gone=True)
        try:
            return Reply(loop.answer(ticket, request))
        except NodeCancelled:
            return Reply(gone=True)
        except (PerdureError, StoreError) as error:
            return Reply(error=error)

    def _cancel_waits(self) -> bool:
        try:
            return any(message.kind == CANCEL for message in self._host.store.messages(self.thread_id))
        except StoreUnavailable:
            return False  # the sweep pokes again

    def _insist(self, grace: timedelta) -> None:
        if not self.ended.wait(grace.total_seconds()) and self._executor.in_node:
            self._host.insist(self)

    # -- driving -------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """On an OS thread of its own, which also writes where nothing else is to be done."""
        with self._until_the_end():
            loop = self._restored()
            driver = Driver(loop, self._host.writer)
            self._begin(loop, driver.post)
            self._settled(driver.run())

    def _life(self, wake: Callable[[], None]) -> Life:
        """In turns with others."""
        with self._until_the_end():
            loop = self._restored()

            def post(event: Event) -> None:
                loop.events.append(event)
                wake()

            self._begin(loop, post)
            steps, failures = loop.run(), 0
            while True:
                try:
                    need = next(steps)
                except StopIteration as end:
                    self._settled(end.value)
                    return
                failures = failures + 1 if need is Need.STORE else 0
                seconds = loop.patience() if need is Need.EVENT else None
                yield Rest(need in (Need.DURABLE, Need.ROOM), store_backoff(failures) if failures else seconds)

    def _restored(self) -> ThreadLoop:
        host, codec = self._host, self._graph.codec
        restored = restore(host.store, self.record, codec, host.cache, claimed=self._claimed)
        self._claimed = None
        ports = Ports(
            host.store,
            host.store,
            self._executor,
            host.clock,
            gate=host.gate,
            limits=host.limits,
            submitted=host.submitted,
        )
        return ThreadLoop(self.record, restored, self._graph.topology, codec, ports)

    def _begin(self, loop: ThreadLoop, post: Callable[[Event], None]) -> None:
        record = self.record
        loop.attach(self._host.writer.lane(record.thread_id, record.epoch, record.token, post), post)
        self._post, self._loop = post, loop
        if self._poked:
            post(Poke())

    def _settled(self, settled: Settled) -> None:
        self.outcome = Outcome(self.thread_id, self.record.epoch, settled.status.value)

    @contextmanager
    def _until_the_end(self) -> Iterator[None]:
        try:
            yield
        except Fenced as fenced:
            self.outcome = Outcome(self.thread_id, self.record.epoch, "fenced", str(fenced))
        except StoreUnavailable as error:
            # While it was restored: the thread is not to blame, and some owner tries again.
            self.outcome = Outcome(self.thread_id, self.record.epoch, "unavailable", str(error))
        except BaseException as error:  # noqa: BLE001 — the supervisor must hear of it, or the thread is stranded
            if _is_exhaustion(error) or _is_exhaustion(error.__cause__):
                self._host.exhausted(error)
            self.outcome = Outcome(self.thread_id, self.record.epoch, "error", f"{type(error).__name__}: {error}")
        finally:
            self._executor.stop()
            self._host.gone(self)
            self.ended.set()


def _is_exhaustion(error: BaseException | None) -> bool:
    """Whether it is the process that has run out of something, whatever thread it drives. That it can start no OS
    thread Python says only in words."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    )
