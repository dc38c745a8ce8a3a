"""The thread actor: a process that owns threads while they run."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ray
from ray import ObjectRef

from ..runtime.cache import ReadCache
from ..runtime.clock import SystemClock
from ..runtime.compiled import CompiledGraph
from ..runtime.desk import Request, Ticket
from ..runtime.drive import WriterThread
from ..runtime.portal import BackgroundLoop, Portal
from ..runtime.ports import LoopLimits
from ..runtime.preload import preload
from ..runtime.writer import Writer
from ..stores.errors import FINAL, StoreError
from ..stores.operations import Claim, Claimed
from ..stores.processes import ProcessId
from ..stores.records import GraphRecord, OwnerRecord
from .errors import GraphLoadError, ServiceError
from .fanout import RayExecutor
from .grouping import NodeTimes
from .hints import Hints
from .hosting import Host, HostedThread, Outcome
from .lease import LeaseKeeper
from .outbox import Outbox
from .parking import park
from .reaper import this_host
from .remote_desk import Owner, Reply
from .scheduler import Scheduler
from .settings import ServiceSettings
from .shipping import GraphCache
from .store_actor import open_service_store
from .unpacking import remove_unused

LOGGER = logging.getLogger("perdure.actor")
LOOK = 5.0
"""Seconds after which a call that waits looks whether its supervisor is still the newest."""


@dataclass(frozen=True, slots=True)
class ActorInfo:
    """What an actor says of itself."""

    name: str
    pid: int
    started: int
    """Start time of its process (`stores.processes.start_time`)."""
    node_id: str
    graphs: tuple[str, ...]
    """Keys of the graphs that it has loaded."""
    hosted: tuple[tuple[str, int], ...]
    """(thread id, epoch) of each thread that it owns."""
    told: int
    """Number of the last outcome (see `settled`) that this takes into account."""


@dataclass(frozen=True, slots=True)
class Order:
    """A thread that an actor is to take."""

    thread_id: str
    epoch: int
    """The epoch at which it was seen."""
    crashed: bool = False
    """Its last owner crashed over it."""


class ThreadActor:
    """Owns threads: claims them, drives them, gives them up. Runs as a detached Ray actor with `max_restarts=0`: a new
    incarnation would know nothing, so a fresh actor that claims anew takes the place of a dead one."""

    def __init__(self, name: str, settings: ServiceSettings, *, shared: bool = False) -> None:
        """With `shared`, many threads take turns in it; else it owns one at a time."""
        self._name = name
        self._settings = settings
        self._own = ProcessId.own()
        self._clock = SystemClock()
        self._store = open_service_store(settings)
        self._writer = Writer(self._store, self._clock)
        self._background = WriterThread(self._writer)
        self._graphs = GraphCache(settings.signing_key, self._fetch)
        self._packages: dict[str, ObjectRef[bytes]] = {}
        """Code that its graphs have brought along, for the processes of parallel nodes."""
        self._loaded: list[str] = []
        self._times = NodeTimes()
        self._slots = _cluster_cpus()
        self._lock = threading.RLock()
        self._hosted: dict[str, HostedThread] = {}
        self._outbox = Outbox[Outcome]()
        self._closing = False
        self._claiming = 0
        self._supervisors = 0
        self._portal: BackgroundLoop | None = None
        self._retired = threading.Event()
        self._touched = time.monotonic()
        owner = OwnerRecord(owner=name, counter=0, host=this_host(), pid=self._own.pid, started=self._own.started)
        self._lease = LeaseKeeper(self._store, owner, settings.lease, self._threads)
        self._host = Host(
            store=self._store,
            writer=self._writer,
            clock=self._clock,
            gate=self._lease.gate,
            limits=LoopLimits(crash_budget=settings.crash_budget, ahead_commits=settings.ahead_commits),
            cache=ReadCache(),
            gone=self._left,
            insist=self._insist,
            exhausted=self._exhausted,
            submitted=Hints(settings).submitted,
            scheduler=Scheduler(self._writer, settings.shared_threads) if shared else None,
        )
        self._lease.start(self._gate_opened)
        threading.Thread(target=self._watch_idle, name="perdure-idle", daemon=True).start()

    # -- for the supervisor --------------------------------------------------------------------------------------

    def hello(self) -> ActorInfo:
        """Who it is and what it hosts. Also tells it that there is a supervisor."""
        self._touched = time.monotonic()
        # Now, and not when a thread waits to be taken over: it asks the cluster's head.
        self._slots = _cluster_cpus()
        node = ray.get_runtime_context().get_node_id()
        told = self._outbox.told  # before it looks: what ends in between is told once more
        loaded, hosted = tuple(self._loaded), self._threads()
        return ActorInfo(self._name, self._own.pid, self._own.started, node, loaded, hosted, told)

    def watch(self) -> bool:
        """Never ends while the process lives: that this call fails is how a crash is noticed. True if the actor ends
        orderly. A newer supervisor's call ends an older one's, with False: it would otherwise keep its place among the
        calls that can be under way."""
        with self._lock:
            self._supervisors += 1
            mine = self._supervisors
        while not self._retired.wait(LOOK) and self._supervisors == mine:
            continue
        return self._retired.is_set()

    def prepare(self, graph: GraphRecord) -> None:
        """Load a graph ahead of need. Raises `GraphLoadError`, `StoreError`."""
        with self._lock:
            self._claiming += 1  # importing may take longer than an actor without work stays
        try:
            self._load(graph)
        finally:
            with self._lock:
                self._claiming -= 1
                self._touched = time.monotonic()

    def preload(self, thread_id: str) -> bool:
        """Read the state of a parked thread that is about to wake, so that `host` need not. Whether all was read."""
        return preload(self._store, thread_id, self._host.cache)

    def host(self, orders: Sequence[Order], graph: GraphRecord) -> list[int]:
        """Claim threads and begin to drive them; the new epoch of each, 0 for one that is not hosted: somebody was
        first, or it cannot be run and was paused with the reason.

        Raises `StoreUnavailable`; `ServiceError` if this actor is ending.
        """
        with self._lock:
            # An actor that is about to end must not claim, nor one that claims end.
            if self._closing or self._retired.is_set():
                raise ServiceError(f"actor {self._name} is ending; it takes no thread")
            self._claiming += 1
        try:
            hosted = self._claim(orders, graph)
            with self._lock:
                self._hosted.update((thread.thread_id, thread) for thread in hosted)
        finally:
            with self._lock:
                self._claiming -= 1
                self._touched = time.monotonic()
        epochs = {thread.thread_id: thread.record.epoch for thread in hosted}
        self._begin(hosted)
        return [epochs.get(order.thread_id, 0) for order in orders]

    def settled(self, after: int) -> tuple[int, list[Outcome]]:
        """How threads were given up, those after number `after`, and the number of the last: waits until there is one.
        The earlier ones are forgotten. Nothing for a supervisor that has a successor."""
        mine = self._supervisors
        while True:
            number, outcomes = self._outbox.read(after, LOOK)
            if outcomes or self._supervisors != mine or self._retired.is_set():
                return number, outcomes

    def poke(self, thread_id: str) -> bool:
        """There may be mail for a hosted thread. False if it is not hosted here."""
        with self._lock:
            hosted = self._hosted.get(thread_id)
        if hosted is None:
            return False
        hosted.poke(self._settings.cancel_grace)
        return True

    @ray.method(concurrency_group="calls")
    def call(self, thread_id: str, epoch: int, ticket: Ticket, request: Request) -> Reply:
        """What a node in a Ray task asks of the thread that it belongs to. Blocks until that is durable."""
        with self._lock:
            hosted = self._hosted.get(thread_id)
        if hosted is None or hosted.record.epoch != epoch:
            return Reply(gone=True)
        return hosted.answer(ticket, request)

    def stalled(self) -> str:
        """Why nothing can be written at present; empty while all is well."""
        return self._writer.stalled

    def drain(self, on: bool) -> None:
        """Give every thread up after the step it is in; or, after all, do not."""
        self._lease.gate.drain = on
        self._gate_opened()

    def retire(self) -> bool:
        """End, if nothing is hosted. Returns whether it does; the process is gone a moment later."""
        with self._lock:
            if self._hosted or self._claiming:
                return False
            self._retired.set()
        return True

    # -- inside --------------------------------------------------------------------------------------------------

    def _claim(self, orders: Sequence[Order], graph: GraphRecord) -> list[HostedThread]:
        now = self._clock.time()
        taken = self._store.take(
            [
                Claim(
                    thread_id=order.thread_id,
                    epoch=order.epoch,
                    token=self._clock.unique(),
                    owner=self._name,
                    crashed=order.crashed,
                    at=now,
                )
                for order in orders
            ]
        )
        claimed = [one for one in taken if isinstance(one, Claimed) and not self._spent(one)]
        try:
            loaded = self._load(graph)
        except (GraphLoadError, *FINAL) as error:
            for one in claimed:
                park(self._store, one.thread, self._clock, str(error))
            return []
        return [self._make(one, loaded, graph) for one in claimed]

    def _begin(self, hosted: Sequence[HostedThread]) -> None:
        for position, thread in enumerate(hosted):
            try:
                thread.start()
            except BaseException:
                # What is not driven must not be listed as hosted, or it is stranded: every supervisor would leave it
                # to this actor.
                with self._lock:
                    for left in hosted[position:]:
                        self._hosted.pop(left.thread_id, None)
                raise

    def _exhausted(self, error: BaseException) -> None:
        """This process has no memory or no OS threads left for the engine: it ends, since it can drive nobody. The
        supervisor sees a crash."""
        try:
            LOGGER.critical("actor %s ends: %r", self._name, error)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    def _spent(self, claimed: Claimed) -> bool:
        """Park a thread whose budget is more than spent. The loop pauses one whose budget is spent: that it was not
        reached means that reading the thread is what ends the process."""
        crashes = claimed.thread.crashes
        if crashes <= self._settings.crash_budget:
            return False
        reason = f"its process died {crashes} times while it was restored; look for what does not fit into memory"
        park(self._store, claimed.thread, self._clock, reason)
        return True

    @cached_property
    def _own_handle(self) -> Any:
        """Made once: Ray builds it anew, with every method, each time that it is asked for."""
        return ray.get_runtime_context().current_actor

    def _make(self, claimed: Claimed, graph: CompiledGraph, shipped: GraphRecord) -> HostedThread:
        settings = self._settings
        executor = RayExecutor(
            self._node_portal,
            shipped,
            settings.signing_key,
            self._times,
            self._slots,
            settings.crash_budget,
            self._packages,
            Owner(self._own_handle, claimed.thread.thread_id, claimed.thread.epoch),
        )
        return HostedThread(claimed, graph, self._host, executor)

    def _load(self, graph: GraphRecord) -> CompiledGraph:
        loaded = self._graphs.get(graph)
        if graph.graph_key not in self._loaded:
            self._loaded.append(graph.graph_key)
        return loaded

    def _fetch(self, key: str) -> bytes:
        data = self._store.graph(key).body
        self._packages[key] = ray.put(data)
        return data

    def _left(self, hosted: HostedThread) -> None:
        with self._lock:
            if self._hosted.get(hosted.thread_id) is hosted:
                del self._hosted[hosted.thread_id]
        assert hosted.outcome is not None
        self._outbox.add(hosted.outcome)
        if self._closing:
            self.retire()  # once the last one is gone

    def _insist(self, hosted: HostedThread) -> None:
        """A node goes on although it was told to stop: it loses this process. The other threads move first, as far as
        they come to the end of a step in time; those that do not are run again elsewhere, and nobody is charged."""
        with self._lock:
            others = [thread for thread in self._hosted.values() if thread is not hosted]
            self._closing = bool(others)
        if others:
            self.drain(True)
            deadline = time.monotonic() + self._settings.cancel_grace.total_seconds()
            for thread in others:
                thread.ended.wait(max(0.0, deadline - time.monotonic()))
            # What they ended with has still to reach the supervisor.
            self._outbox.wait_empty(LOOK)
        if hosted.in_node:
            os.kill(os.getpid(), signal.SIGKILL)

    def _threads(self) -> tuple[tuple[str, int], ...]:
        with self._lock:
            return tuple((hosted.thread_id, hosted.record.epoch) for hosted in self._hosted.values())

    def _gate_opened(self) -> None:
        with self._lock:
            hosted = list(self._hosted.values())
        for thread in hosted:
            thread.wake()

    def _node_portal(self) -> Portal:
        with self._lock:
            self._portal = self._portal or BackgroundLoop()
            return self._portal

    def _watch_idle(self) -> None:
        """Wait for the end, which comes by itself where no supervisor asks for it and nothing is hosted."""
        self._clear_code()
        alone = 2 * self._settings.idle.total_seconds()
        while not self._retired.wait(min(1.0, alone / 4)):
            if self._threads():
                self._touched = time.monotonic()
            elif time.monotonic() - self._touched > alone:
                self.retire()
        self._leave()

    def _clear_code(self) -> None:
        try:
            remove_unused()
        except OSError as error:
            LOGGER.warning("unpacked code that nobody uses could not be removed: %s", error)

    def _leave(self) -> None:
        self._lease.stop()
        self._background.close()
        try:
            self._store.close()
        except StoreError:
            pass  # the process ends anyway
        # exit_actor() only works inside a call; Ray is told by the process's end, which max_restarts=0 makes final.
        time.sleep(0.05)
        os._exit(0)


def _cluster_cpus() -> int:
    return int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]  # Ray's own gap


# Calls of nodes have threads of their own: while they wait for the store, a cancel or the supervisor is heard.
ThreadActorClass = ray.remote(concurrency_groups={"calls": 32})(ThreadActor)  # type: ignore[call-overload]  # Ray's gap
ACTOR_OPTIONS = {
    "num_cpus": 0,
    "max_restarts": 0,
    "max_task_retries": 0,
    "max_concurrency": 64,
    "lifetime": "detached",
}
