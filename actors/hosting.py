"""One thread in an actor: claimed, driven on an OS thread of its own, given up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from ..runtime.cache import ReadCache
from ..runtime.clock import Clock
from ..runtime.compiled import CompiledGraph
from ..runtime.desk import NodeCancelled, Request, Ticket
from ..runtime.drive import Driver
from ..runtime.errors import PerdureError
from ..runtime.loop import ThreadLoop
from ..runtime.payloads import CANCEL
from ..runtime.ports import Gate, LoopLimits, Poke, Ports
from ..runtime.restore import restore
from ..runtime.writer import Writer
from ..stores.base import CheckpointStore
from ..stores.errors import Fenced, StoreError, StoreUnavailable
from ..stores.records import ThreadRecord
from .fanout import RayExecutor
from .remote_desk import Reply


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a hosted thread left its actor."""

    thread_id: str
    status: str
    """The status it was given up with; `fenced` if it was taken away, `unavailable` if the store was away while it was
    restored, `error` if its owner could not go on."""
    detail: str = ""


class HostedThread:
    """Drives one claimed thread."""

    def __init__(
        self,
        record: ThreadRecord,
        graph: CompiledGraph,
        store: CheckpointStore,
        writer: Writer,
        executor: RayExecutor,
        clock: Clock,
        gate: Gate,
        limits: LoopLimits,
        done: Callable[[HostedThread], None],
        cache: ReadCache,
    ) -> None:
        self.record = record
        self.outcome: Outcome | None = None
        self.ended = threading.Event()
        self._graph = graph
        self._store = store
        self._writer = writer
        self._executor = executor
        self._clock = clock
        self._gate = gate
        self._limits = limits
        self._done = done
        self._cache = cache
        self._driver: Driver | None = None
        self._loop: ThreadLoop | None = None
        self._poked = False
        self._thread = threading.Thread(target=self._serve, name=f"perdure-thread-{record.thread_id}", daemon=True)

    @property
    def thread_id(self) -> str:
        """Id of the thread."""
        return self.record.thread_id

    def start(self) -> None:
        """Begin driving."""
        self._thread.start()

    def poke(self, grace: timedelta) -> None:
        """There may be mail. A cancel is carried out at once: a node that runs inline is told to stop, and loses this
        process if it has not stopped within `grace`."""
        # Noted before it is looked for: `_drive` does the reverse, so that one of the two sees the other.
        self._poked = True
        if self._driver is not None:
            self._driver.post(Poke())
        if self._cancel_waits() and self._executor.stop_node():
            threading.Thread(target=self._insist, args=(grace,), name="perdure-cancel", daemon=True).start()

    def wake(self) -> None:
        """The gate may have opened."""
        if self._driver is not None:
            self._driver.post(Poke())

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
            return any(message.kind == CANCEL for message in self._store.messages(self.thread_id))
        except StoreUnavailable:
            return False  # the sweep pokes again

    def _insist(self, grace: timedelta) -> None:
        if self.ended.wait(grace.total_seconds()) or not self._executor.in_node:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    def _serve(self) -> None:
        try:
            self.outcome = self._drive()
        except Fenced as fenced:
            self.outcome = Outcome(self.thread_id, "fenced", str(fenced))
        except StoreUnavailable as error:
            # While it was restored: the thread is not to blame, and some owner tries again.
            self.outcome = Outcome(self.thread_id, "unavailable", str(error))
        except BaseException as error:  # noqa: BLE001 — the supervisor must hear of it, or the thread is stranded
            self.outcome = Outcome(self.thread_id, "error", f"{type(error).__name__}: {error}")
        finally:
            self._executor.stop()
            self._done(self)
            self.ended.set()

    def _drive(self) -> Outcome:
        restored = restore(self._store, self.record, self._graph.codec, self._cache)
        ports = Ports(self._store, self._store, self._executor, self._clock, gate=self._gate, limits=self._limits)
        loop = ThreadLoop(self.record, restored, self._graph.topology, self._graph.codec, ports)
        driver = Driver(loop, self._writer)
        loop.attach(self._writer.lane(self.thread_id, self.record.epoch, self.record.token, driver.post), driver.post)
        self._driver, self._loop = driver, loop
        if self._poked:
            driver.post(Poke())
        settled = driver.run()
        return Outcome(self.thread_id, settled.status.value)
