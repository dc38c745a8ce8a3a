"""The service: gives runnable threads to actors, and takes them from those that crash or freeze.

It keeps nothing that the store does not have. Killing it stops nothing that runs; a restarted one finds the actors by
their names and the threads in the store. Nothing it decides is trusted: the store judges every claim.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError

from ..runtime.clock import SystemClock
from ..runtime.drive import store_backoff
from ..stores.errors import ClaimLost, StoreError, StoreMisuse, UnknownThread
from ..stores.processes import ProcessId
from ..stores.records import SERVICE, GraphRecord, OwnerRecord, Status, ThreadFilter, ThreadRecord
from .errors import GraphLoadError, NotHosted, ServiceError
from .hosting import Outcome
from .housekeeping import Housekeeper
from .names import service_key, supervisor_name
from .parking import park
from .pool import answer, find_actors, new_name, start_actor
from .roster import Dispatch, Phase, Retire, Roster, Waiting
from .sentry import Sentry, reap, this_host
from .settings import ServiceSettings
from .store_actor import open_service_store
from .thread_actor import ActorInfo
from .triage import Verdict, triage

LOGGER = logging.getLogger("perdure.supervisor")
RUNNABLE = ThreadFilter(statuses=frozenset({Status.QUEUED, Status.RUNNING}), driver=SERVICE)
HELLO_TIMEOUT = 5.0
"""Seconds that a found actor may take to answer before it counts as silent."""
STORE_CALLS = 64
"""Calls of the store that may be under way at once."""
AFTER_RECOVERY = 0.25
"""Seconds by which everything that can wait is put off where a thread may just be recovering: a new process would take
the processor from it, and a write the store's lock."""
START_FAILURES = 3
"""Actors in a row that may die while they load a graph, before its threads are paused."""


class Service:
    """The supervisor's logic, on one event loop."""

    def __init__(self, settings: ServiceSettings, busy_file: Path | None) -> None:
        self.settings = settings
        self.key = service_key(settings.store.identity, settings.session)
        self.store = open_service_store(settings)
        self.clock = SystemClock()
        self._busy_file = busy_file
        self._roster = Roster(
            max_actors=settings.max_actors, spares=settings.spares, idle=settings.idle.total_seconds()
        )
        self._handles: dict[str, Any] = {}
        self._waiting: dict[str, Waiting] = {}
        self._asking: dict[str, str] = {}
        """Who was just asked to take a thread, by its id; such a thread is neither waiting nor hosted."""
        self._poked: dict[str, int] = {}
        self._graphs: dict[str, GraphRecord] = {}
        self._start_failures: dict[str, int] = {}
        self._greeted = time.monotonic()
        self._frozen: set[str] = set()
        """Actors that were killed because their lease expired: not the fault of their threads."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._housekeeper = Housekeeper(self.store, self.clock, settings.housekeeping, self._recovering)
        self._sentry = Sentry(self.store, supervisor_name(self.key), settings.lease, self._on_expired)

    async def run(self) -> None:
        """Find what is there, then watch for ever."""
        for name, handle in (await asyncio.to_thread(find_actors, self.key)).items():
            await self._adopt(name, handle)
        self._spawn(self._sentry.run())
        self._spawn(self._housekeeper.run())
        while True:
            try:
                await self._sweep()
            except StoreError:
                pass  # away: hints still work, and the next sweep looks again
            await asyncio.sleep(self.settings.sweep.total_seconds())

    def _recovering(self) -> bool:
        """Whether a thread is just being given to an actor, after a crash above all."""
        return bool(self._asking) or any(waiting.crashed for waiting in self._waiting.values())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crash(error)

    def crash(self, error: BaseException) -> None:
        """End the process over what nobody foresaw: half of its bookkeeping may be wrong now. Ray starts it anew, and
        it reads everything from the store."""
        LOGGER.critical("the supervisor of %s ends and is restarted", self.settings.store.where, exc_info=error)
        os._exit(1)

    # -- threads -------------------------------------------------------------------------------------------------

    async def notify(self, thread_id: str) -> None:
        """A thread was submitted, or sent a message. A hint: the sweep would find it."""
        host = self._roster.host_of(thread_id)
        if host is not None:
            self._poke(host.name, thread_id)
        try:
            await self._consider(await asyncio.to_thread(self.store.thread, thread_id))
        except (StoreError, UnknownThread):
            return
        self._act()

    async def _sweep(self) -> None:
        rows: list[ThreadRecord] = []
        cursor = None
        while True:
            page = await asyncio.to_thread(self.store.threads, RUNNABLE, limit=500, cursor=cursor)
            rows.extend(page.threads)
            cursor = page.cursor
            if cursor is None:
                break
        for row in reversed(rows):  # oldest first: those that came first are served first
            await self._consider(row)
        self._mark_busy(bool(rows))
        self._greet()
        self._act()

    def _greet(self) -> None:
        """Tell idle actors that there is a supervisor; without one they end themselves. And ask again those that did
        not answer when they were found."""
        now = time.monotonic()
        for member in self._roster.members.values():
            if member.phase is Phase.SILENT and now - member.since > HELLO_TIMEOUT:
                member.since = now
                self._spawn(self._ask_again(member.name))
        if now - self._greeted > self.settings.idle.total_seconds() / 2:
            self._greeted = now
            for name in [member.name for member in self._roster.members.values() if member.phase is Phase.IDLE]:
                if name in self._handles:
                    self._handles[name].hello.remote()

    async def _ask_again(self, name: str) -> None:
        await self._hello(name)
        self._act()

    def _mark_busy(self, busy: bool) -> None:
        if self._busy_file is None:
            return
        try:
            if busy:
                self._busy_file.touch()
            else:
                self._busy_file.unlink(missing_ok=True)
        except OSError:
            return  # the head's folder is full or gone; the next sweep tries again

    async def _consider(self, row: ThreadRecord) -> None:
        """Look at one thread and see to it that somebody runs it."""
        thread_id = row.thread_id
        if thread_id in self._waiting or thread_id in self._asking:
            return
        verdict = triage(row, self._roster, self.key)
        if verdict is Verdict.POKE and row.inbox > self._poked.get(thread_id, 0):
            self._poked[thread_id] = row.inbox
            self._poke(row.owner, thread_id)
        elif verdict in (Verdict.TAKE, Verdict.TAKE_AFTER_CRASH):
            self._wait(row, crashed=verdict is Verdict.TAKE_AFTER_CRASH)
        elif verdict is Verdict.ASK_LEASE:
            await self._ask_lease(row)
        elif verdict is Verdict.ASK_OWNER:
            await self._ask_owner(row)

    async def _ask_lease(self, row: ThreadRecord) -> None:
        """An owner of another cluster session: alive as long as it has a lease, which the sentry ends when it expires.
        Where it was a process of this machine, that it is gone can be seen at once."""
        owners = await asyncio.to_thread(self.store.owners)
        lease = next((lease for lease in owners if lease.owner == row.owner), None)
        if lease is not None and lease.host == this_host() and not ProcessId(lease.pid, lease.started).alive:
            await self._forget(lease.owner)
            lease = None
        if lease is None:
            self._wait(row, crashed=False)

    async def _ask_owner(self, row: ThreadRecord) -> None:
        """A living owner that is not known to host the thread: ask it, it may have taken it up or lost it meanwhile."""
        info = await self._hello(row.owner)
        if info is None or self._roster.host_of(row.thread_id) is not None:
            return
        if dict(info.hosted).get(row.thread_id) == row.epoch:
            self._hosts(row.owner, row.thread_id, row.epoch)
            return
        fresh = await asyncio.to_thread(self.store.thread, row.thread_id)
        if fresh.epoch == row.epoch and fresh.token == row.token and fresh.status.runnable:
            self._wait(fresh, crashed=False)

    def _wait(self, row: ThreadRecord, *, crashed: bool) -> None:
        self._waiting.setdefault(row.thread_id, Waiting(row.thread_id, row.epoch, row.graph_key, crashed))

    # -- acting --------------------------------------------------------------------------------------------------

    def _act(self) -> None:
        """Carry out what the roster plans."""
        for decision in self._roster.plan(self._waiting.values(), time.monotonic()):
            if isinstance(decision, Dispatch):
                self._dispatch(decision)
            elif isinstance(decision, Retire):
                self._roster.become(decision.actor, Phase.LEAVING, time.monotonic())
                self._handles[decision.actor].retire.remote()
            else:
                name = new_name(self.key)
                self._roster.enter(name, Phase.STARTING, decision.graph_key, time.monotonic())
                spare = all(thread.graph_key != decision.graph_key for thread in self._waiting.values())
                self._spawn(self._start(name, decision.graph_key, AFTER_RECOVERY if spare else 0.0))

    def _dispatch(self, decision: Dispatch) -> None:
        thread = decision.thread
        del self._waiting[thread.thread_id]
        self._asking[thread.thread_id] = decision.actor
        self._roster.become(decision.actor, Phase.BUSY, time.monotonic())
        self._spawn(self._host(decision.actor, thread))

    async def _host(self, name: str, thread: Waiting) -> None:
        try:
            graph = await self._graph(thread.graph_key)
            epoch = await answer(self._handles[name].host.remote(thread.thread_id, thread.epoch, graph, thread.crashed))
        except (RayActorError, KeyError, ServiceError):
            # Dead or ending, maybe before it could be asked. Whether it had claimed the thread, the store knows.
            self._asking.pop(thread.thread_id, None)
            await self._recover(thread.thread_id, name)
            return
        except (ClaimLost, GraphLoadError, NotHosted, UnknownThread):
            self._unasked(name, thread.thread_id)
        except Exception as error:  # the actor could not take it, for whatever reason; the sweep tries again
            LOGGER.warning("%s did not take thread %r", name, thread.thread_id, exc_info=error)
            self._unasked(name, thread.thread_id)
            await asyncio.sleep(store_backoff(3))
        else:
            self._asking.pop(thread.thread_id, None)
            self._hosts(name, thread.thread_id, epoch)
        self._act()

    def _unasked(self, name: str, thread_id: str) -> None:
        self._asking.pop(thread_id, None)
        self._roster.assign(name, thread_id, 0, time.monotonic())
        self._roster.release(name, thread_id, time.monotonic())

    def _hosts(self, name: str, thread_id: str, epoch: int) -> None:
        self._roster.assign(name, thread_id, epoch, time.monotonic())
        self._spawn(self._await_settled(name, thread_id))

    async def _await_settled(self, name: str, thread_id: str) -> None:
        try:
            outcome: Outcome = await answer(self._handles[name].settled.remote(thread_id))
        except (RayActorError, KeyError):
            return  # the watch on the actor sees to its threads
        self._roster.release(name, thread_id, time.monotonic())
        self._poked.pop(thread_id, None)
        if outcome.status == "error":
            await self._park(thread_id, outcome.detail)
        await self.notify(thread_id)
        self._act()

    async def _park(self, thread_id: str, reason: str) -> None:
        """Pause a thread that its owner could not go on with, such as one with a corrupt checkpoint."""
        self._asking[thread_id] = supervisor_name(self.key)
        try:
            row = await asyncio.to_thread(self.store.thread, thread_id)
            if not row.status.runnable:
                return
            claimed = await asyncio.to_thread(
                lambda: self.store.claim(
                    thread_id, epoch=row.epoch, token=self.clock.unique(), owner=supervisor_name(self.key)
                )
            )
            await asyncio.to_thread(park, self.store, claimed, self.clock, reason)
        except StoreError:
            return  # the sweep meets it again
        finally:
            self._asking.pop(thread_id, None)

    def _poke(self, name: str, thread_id: str) -> None:
        handle = self._handles.get(name)
        if handle is not None:
            handle.poke.remote(thread_id)

    async def _graph(self, graph_key: str) -> GraphRecord:
        if graph_key not in self._graphs:
            self._graphs[graph_key] = await asyncio.to_thread(self.store.graph, graph_key)
        return self._graphs[graph_key]

    # -- actors --------------------------------------------------------------------------------------------------

    async def _start(self, name: str, graph_key: str, delay: float) -> None:
        failures = self._start_failures.get(graph_key, 0)
        await asyncio.sleep(delay + (store_backoff(failures) if failures else 0.0))
        handle = self._handles[name] = start_actor(name, self.settings)
        self._spawn(self._watch(name, handle))
        try:
            await answer(handle.hello.remote())
            await answer(handle.prepare.remote(await self._graph(graph_key)))
        except GraphLoadError:
            pass  # `host` meets it again, and pauses the thread with the reason
        except StoreMisuse as error:
            handle.retire.remote()
            await self._give_up(graph_key, str(error))
            return
        except StoreError:
            # The store is away, full or slow: nobody's fault, and the next start waits longer.
            self._start_failures[graph_key] = min(failures + 1, START_FAILURES - 1)
            handle.retire.remote()
            return
        except RayActorError as error:
            # One that could not even be made had no store to work with; only one that died loading code counts.
            counted = START_FAILURES - 1 if error.actor_init_failed else START_FAILURES
            self._start_failures[graph_key] = min(failures + 1, counted)
            if failures + 1 >= START_FAILURES and not error.actor_init_failed:
                await self._give_up(graph_key, f"its actors die while they load graph code: {error}")
            return
        self._start_failures.pop(graph_key, None)
        self._roster.become(name, Phase.IDLE, time.monotonic())
        self._act()

    async def _give_up(self, graph_key: str, reason: str) -> None:
        self._start_failures.pop(graph_key, None)
        for thread in [thread for thread in self._waiting.values() if thread.graph_key == graph_key]:
            del self._waiting[thread.thread_id]
            await self._park(thread.thread_id, reason)

    async def _adopt(self, name: str, handle: Any) -> None:
        """Take over an actor that a former supervisor started."""
        self._handles[name] = handle
        self._roster.enter(name, Phase.SILENT, "", time.monotonic())
        self._spawn(self._watch(name, handle))
        await self._hello(name)

    async def _hello(self, name: str) -> ActorInfo | None:
        """Ask an actor what it hosts, and bring the roster up to date. None if it does not answer."""
        try:
            info: ActorInfo = await asyncio.wait_for(answer(self._handles[name].hello.remote()), HELLO_TIMEOUT)
        except (TimeoutError, RayActorError, KeyError):
            return None
        member = self._roster.members.get(name)
        if member is not None and member.phase is Phase.SILENT:
            member.graph_key = info.graphs[-1] if info.graphs else ""
            self._roster.become(name, Phase.IDLE, time.monotonic())
            for thread_id, epoch in info.hosted:
                self._hosts(name, thread_id, epoch)
        return info

    async def _watch(self, name: str, handle: Any) -> None:
        """The never-ending call: that it fails is the crash signal, some ten milliseconds after the crash."""
        try:
            await answer(handle.watch.remote())
            crashed = False
        except RayActorError:
            crashed = True
        member = self._roster.leave(name)
        self._handles.pop(name, None)
        threads = member.threads if member is not None else {}
        guilty = crashed and name not in self._frozen
        graph_key = member.graph_key if member is not None else ""
        # Known without asking the store: the epoch at which each was hosted. If it no longer stands, the claim says so.
        for thread_id, epoch in threads.items():
            self._waiting.setdefault(thread_id, Waiting(thread_id, epoch, graph_key, guilty))
        self._act()
        if crashed:
            self._frozen.discard(name)
            await asyncio.sleep(AFTER_RECOVERY)
            await self._forget(name)
            self._act()

    async def _forget(self, name: str) -> None:
        try:
            await asyncio.to_thread(self.store.forget, name)
        except StoreError:
            return  # its lease expires, and is forgotten then

    async def _recover(self, thread_id: str, name: str) -> None:
        try:
            row = await asyncio.to_thread(self.store.thread, thread_id)
        except StoreError:
            return
        if row.status.runnable and row.owner in ("", name):
            self._wait(row, crashed=row.owner == name)
        self._act()

    async def _on_expired(self, lease: OwnerRecord) -> None:
        """An owner is frozen or cut off. Its process is killed first, since it may hold the store's lock; the crash
        signal that follows finds new owners for its threads, and the store's fence keeps the old one out anyway."""
        member = lease.owner in self._roster.members
        if member:
            self._frozen.add(lease.owner)
        reaped = reap(lease)
        if not member:
            await self._forget(lease.owner)
        elif not reaped and lease.owner in self._handles:
            ray.kill(self._handles[lease.owner], no_restart=True)

    # -- for clients ---------------------------------------------------------------------------------------------

    async def stalled(self, thread_id: str) -> str:
        """Why a running thread makes no progress; empty if nothing is known."""
        host = self._roster.host_of(thread_id)
        if host is None:
            return ""
        try:
            reason: str = await answer(self._handles[host.name].stalled.remote())
        except (RayActorError, KeyError):
            return ""
        return reason

    def actors(self) -> list[dict[str, Any]]:
        """The pool as it is now."""
        return [
            {"name": member.name, "phase": member.phase.name.lower(), "threads": sorted(member.threads)}
            for member in self._roster.members.values()
        ]

    async def stop(self) -> None:
        """End all actors that host nothing; those that do go on."""
        for member in list(self._roster.members.values()):
            if member.phase is Phase.IDLE and member.name in self._handles:
                self._roster.become(member.name, Phase.LEAVING, time.monotonic())
                self._handles[member.name].retire.remote()
