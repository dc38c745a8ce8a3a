"""The thread actor: a process that owns threads while they run."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

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
from ..stores.errors import StoreError
from ..stores.processes import ProcessId
from ..stores.records import GraphRecord, OwnerRecord, ThreadRecord
from .errors import GraphLoadError, NotHosted, ServiceError
from .fanout import RayExecutor
from .grouping import NodeTimes
from .hosting import HostedThread, Outcome
from .lease import LeaseKeeper
from .parking import park
from .reaper import this_host
from .remote_desk import Owner, Reply
from .settings import ServiceSettings
from .shipping import GraphCache
from .store_actor import open_service_store

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


class ThreadActor:
    """Owns threads: claims them, drives them, gives them up. Runs as a detached Ray actor with `max_restarts=0`: a new
    incarnation would know nothing, so a fresh actor that claims anew takes the place of a dead one."""

    def __init__(self, name: str, settings: ServiceSettings) -> None:
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
        self._cache = ReadCache()
        self._times = NodeTimes()
        self._slots = _cluster_cpus()
        self._lock = threading.RLock()
        self._hosted: dict[str, HostedThread] = {}
        self._claiming = 0
        self._supervisors = 0
        self._portal: BackgroundLoop | None = None
        self._retired = threading.Event()
        self._touched = time.monotonic()
        owner = OwnerRecord(owner=name, counter=0, host=this_host(), pid=self._own.pid, started=self._own.started)
        self._lease = LeaseKeeper(self._store, owner, settings.lease, self._threads)
        self._lease.start(self._gate_opened)
        threading.Thread(target=self._watch_idle, name="perdure-idle", daemon=True).start()

    # -- for the supervisor --------------------------------------------------------------------------------------

    def hello(self) -> ActorInfo:
        """Who it is and what it hosts. Also tells it that there is a supervisor."""
        self._touched = time.monotonic()
        # Now, and not when a thread waits to be taken over: it asks the cluster's head.
        self._slots = _cluster_cpus()
        node = ray.get_runtime_context().get_node_id()
        return ActorInfo(self._name, self._own.pid, self._own.started, node, tuple(self._loaded), self._threads())

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
        return preload(self._store, thread_id, self._cache)

    def host(self, thread_id: str, epoch: int, graph: GraphRecord, crashed: bool) -> int:
        """Claim a thread that was seen at `epoch` and begin to drive it; returns the new epoch.

        Raises `ClaimLost` if somebody was first, `StoreUnavailable`, `ServiceError` if this actor is ending,
        `GraphLoadError` or `NotHosted` (then the thread is paused with the reason).
        """
        with self._lock:
            # An actor that is about to end must not claim, nor one that claims end.
            if self._retired.is_set():
                raise ServiceError(f"actor {self._name} is ending; it takes no thread")
            self._claiming += 1
        try:
            hosted = self._claim(thread_id, epoch, graph, crashed)
            with self._lock:
                self._hosted[thread_id] = hosted
        finally:
            with self._lock:
                self._claiming -= 1
                self._touched = time.monotonic()
        hosted.start()
        return hosted.record.epoch

    def settled(self, thread_id: str) -> Outcome:
        """Wait until a hosted thread was given up."""
        with self._lock:
            hosted = self._hosted.get(thread_id)
        if hosted is None:
            return Outcome(thread_id, "unknown", "not hosted here")
        asked_by = self._supervisors
        while not hosted.ended.wait(LOOK):
            if self._supervisors != asked_by:
                return Outcome(thread_id, "unknown", "a newer supervisor has asked")
        assert hosted.outcome is not None
        return hosted.outcome

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
        threading.Thread(target=self._leave, name="perdure-leave", daemon=True).start()
        return True

    # -- inside --------------------------------------------------------------------------------------------------

    def _claim(self, thread_id: str, epoch: int, graph: GraphRecord, crashed: bool) -> HostedThread:
        record = self._store.claim(
            thread_id, epoch=epoch, token=self._clock.unique(), owner=self._name, crashed=crashed, at=self._clock.time()
        )
        budget = self._settings.crash_budget
        if record.crashes > budget:
            # The loop pauses a thread whose budget is spent. That it was not reached means that reading the thread is
            # what ends the process.
            reason = (
                f"its process died {record.crashes} times while it was restored; look for what does not fit into memory"
            )
            park(self._store, record, self._clock, reason)
            raise NotHosted(reason)
        try:
            return self._make(record, self._load(graph), graph)
        except GraphLoadError as error:
            park(self._store, record, self._clock, str(error))
            raise

    def _make(self, record: ThreadRecord, graph: CompiledGraph, shipped: GraphRecord) -> HostedThread:
        settings = self._settings
        executor = RayExecutor(
            self._node_portal,
            shipped,
            settings.signing_key,
            self._times,
            self._slots,
            settings.crash_budget,
            self._packages,
            Owner(ray.get_runtime_context().current_actor, record.thread_id, record.epoch),
        )
        limits = LoopLimits(crash_budget=settings.crash_budget, ahead_commits=settings.ahead_commits)
        return HostedThread(
            record,
            graph,
            self._store,
            self._writer,
            executor,
            self._clock,
            self._lease.gate,
            limits,
            self._left,
            self._cache,
        )

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
        """End by itself where no supervisor has asked for it and nothing is hosted."""
        alone = 2 * self._settings.idle.total_seconds()
        while not self._retired.wait(min(1.0, alone / 4)):
            if self._threads():
                self._touched = time.monotonic()
            elif time.monotonic() - self._touched > alone:
                self.retire()

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
