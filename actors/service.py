"""The service: gives runnable threads to actors, and takes them from those that crash or freeze.

It keeps nothing that the store does not have. Killing it stops nothing that runs; a restarted one finds the actors by
their names and the threads in the store. Nothing it decides is trusted: the store judges every claim.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from ..runtime.clock import SystemClock
from ..stores.errors import FINAL, StoreError, UnknownThread
from ..stores.operations import ThreadFilter
from ..stores.processes import ProcessId
from ..stores.records import SERVICE, Status, ThreadRecord
from .backoff import restart_delay
from .capacity import plan_shared
from .charging import charged, shares
from .chores import Chores
from .deaths import died_alone
from .drains import read_drain
from .handover import Handover
from .housekeeping import Housekeeper
from .lease import LeaseReading
from .line import Waiting
from .lines import Lines
from .members import Decision, Dispatch, Retire
from .names import NAMESPACE, supervisor_name
from .nodes import living_nodes
from .options import keep_options
from .reaper import this_host
from .roster import Roster
from .sentry import Sentry
from .settings import ServiceSettings
from .shards import Share, shard_key, shard_of
from .sharing import plan
from .store_actor import open_service_store
from .timers import Timers
from .triage import Verdict, triage

LOGGER = logging.getLogger("perdure.supervisor")
RUNNABLE = ThreadFilter(statuses=frozenset({Status.QUEUED, Status.RUNNING}), driver=SERVICE)
STORE_CALLS = 64
"""Calls of the store that may be under way at once."""


class Service:
    """The supervisor's logic, on one event loop."""

    def __init__(self, settings: ServiceSettings, busy_file: Path | None) -> None:
        self.settings = settings
        self.key = shard_key(settings)
        self._share = Share(settings)
        self.store = open_service_store(settings)
        self.clock = SystemClock()
        self._busy_file = busy_file
        self._roster = Roster(
            max_actors=self._share.max_actors,
            spares=settings.spares,
            idle=settings.idle.total_seconds(),
            shared_actors=self._share.shared_actors,
            seats=settings.shared_threads,
        )
        self._lines = Lines()
        self.chores = Chores(settings.store.where)
        self._handover = Handover(
            settings, self.key, self.store, self.clock, self._roster, self._lines, self.chores, self
        )
        self._crew = self._handover.crew
        self._housekeeper = Housekeeper(self.store, self.clock, settings.housekeeping, self._recovering)
        self._sentry = Sentry(
            self.store, supervisor_name(self.key), settings.lease, self._crew.expired, self._share.watches
        )
        self._timers = Timers(
            self.store, self.clock, settings.sweep.total_seconds(), self.chores, self, self._share.has
        )
        self._noted = False
        """The store knows how this service runs."""
        self._looking = asyncio.Lock()
        self._preloaded: dict[str, str] = {}
        """Which actor has read the state of a thread that is about to wake, by the thread's id."""

    async def run(self) -> None:
        """Find what is there, then watch for ever."""
        try:
            await self.look_around()
        except StoreError:
            pass  # away: nothing can be given to anybody before the first sweep that succeeds
        await self._crew.find()
        self.chores.spawn(self._sentry.run())
        self.chores.spawn(self._timers.run())
        if self._share.leads:
            self.chores.spawn(self._housekeeper.run())
        while True:
            try:
                await self._sweep()
            except FINAL as error:
                # Nothing mends this but somebody who hears of it.
                LOGGER.warning("the supervisor of %s cannot look through it: %s", self.settings.store.where, error)
            except StoreError:
                pass  # away: hints still work, and the next sweep looks again
            await asyncio.sleep(self.settings.sweep.total_seconds())

    def _recovering(self) -> bool:
        """Whether a thread is just being given to an actor, after a crash above all."""
        return bool(self._handover.asking) or bool(self._lines.alone.crashed)

    # -- threads -------------------------------------------------------------------------------------------------

    async def notify(self, thread_id: str) -> None:
        """A thread was submitted, sent a message, or given up. A hint: the sweep would find it."""
        if not self._share.has(thread_id):
            await self._pass_on(thread_id)
            return
        self._handover.stir(thread_id)
        self._lines.alone.hasten(thread_id)
        try:
            await self._consider(await asyncio.to_thread(self.store.thread, thread_id), LeaseReading(self.store))
        except (StoreError, UnknownThread):
            return
        finally:
            self._preloaded.pop(thread_id, None)
        self.act()

    async def _pass_on(self, thread_id: str) -> None:
        """A hint from a client that does not know how many supervisors there are."""
        name = supervisor_name(shard_key(self.settings, shard_of(thread_id, self.settings.shards)))
        try:
            other = await asyncio.to_thread(ray.get_actor, name, namespace=NAMESPACE)
            other.notify.remote(thread_id)
        except ValueError:
            return  # it is being restarted, and then it sweeps

    async def look_around(self) -> None:
        """See which nodes there are, and what of the service is being drained. Raises `StoreError`."""
        async with self._looking:  # one after the other: what was read first must not be what is remembered last
            drain = await asyncio.to_thread(read_drain, self.store)
            nodes = await asyncio.to_thread(living_nodes)
            self._roster.closed = drain.service
            self._roster.nodes = {node.node_id: node.node_id not in drain.nodes for node in nodes}
            self._roster.cpus = {node.node_id: node.cpus for node in nodes}
            self._roster.forgive(time.monotonic())
        self._crew.pass_on_drain()
        self.act()

    def at_work(self, node: str) -> int:
        """How many threads run on a node; on all of them if it is empty."""
        members = self._roster.members.values()
        hosted = sum(len(member.threads) for member in members if not node or member.node == node)
        places = {name: member.node for name, member in self._roster.members.items()}
        return hosted + sum(not node or places.get(actor) == node for actor in self._handover.asking.values())

    async def submitted(self, rows: Sequence[ThreadRecord]) -> None:
        """Threads were created, as these rows say. A hint, like `notify`; that they are as they were is for the claims
        to find out."""
        leases = LeaseReading(self.store)
        for row in rows:
            if self._share.has(row.thread_id):
                await self._consider(row, leases)
            else:
                await self._pass_on(row.thread_id)
        self.act()

    async def _sweep(self) -> None:
        if self._share.leads and not self._noted:
            await asyncio.to_thread(keep_options, self.store, self.settings)
            self._noted = True
        await self.look_around()
        rows: list[ThreadRecord] = []
        cursor = None
        while True:
            page = await asyncio.to_thread(self.store.threads, RUNNABLE, limit=500, cursor=cursor)
            rows.extend(row for row in page.threads if self._share.has(row.thread_id))
            cursor = page.cursor
            if cursor is None:
                break
        leases = LeaseReading(self.store)
        for row in reversed(rows):  # oldest first: those that came first are served first
            await self._consider(row, leases)
        await self._timers.look()
        if self._busy_file is not None:
            self._mark_busy(self._busy_file, bool(rows) or await self._timers.any())
        self._crew.greet()
        self.act()

    def _mark_busy(self, file: Path, busy: bool) -> None:
        try:
            if busy:
                file.touch()
            else:
                file.unlink(missing_ok=True)
        except OSError:
            return  # the head's folder is full or gone; the next sweep tries again

    async def _consider(self, row: ThreadRecord, leases: LeaseReading) -> None:
        """Look at one thread and see to it that somebody runs it."""
        thread_id = row.thread_id
        if thread_id in self._lines or thread_id in self._handover.asking:
            return
        self._handover.note_crashes(row)
        self._timers.note(row)
        verdict = triage(row, self._roster, self.key)
        if verdict is Verdict.POKE:
            self._handover.poke(row)
        elif verdict is Verdict.TAKE:
            self.wait(row, died=False)
        elif verdict is Verdict.TAKE_AFTER_CRASH:
            if not await self._crew.meet(row.owner):
                seen = self._crew.verdicts.of(row.owner)
                self.wait(row, died=await died_alone(row.owner) if seen is None else seen)
        elif verdict is Verdict.ASK_LEASE:
            await self._ask_lease(row, leases)
        elif verdict is Verdict.ASK_OWNER:
            await self._ask_owner(row)

    async def _ask_lease(self, row: ThreadRecord, leases: LeaseReading) -> None:
        """An owner of another cluster session: alive as long as it has a lease, which the sentry ends when it expires.
        Where it was a process of this machine, that it is gone can be seen at once."""
        lease = await leases.of(row.owner)
        if lease is not None and lease.host == this_host() and not ProcessId(lease.pid, lease.started).alive:
            await self._crew.forget(lease.owner)
            leases.drop(lease.owner)
            lease = None
        if lease is None:
            self.wait(row, died=False)

    async def _ask_owner(self, row: ThreadRecord) -> None:
        """A living owner that is not known to host the thread: ask it, it may have taken it up or lost it meanwhile."""
        info = await self._crew.hello(row.owner)
        if info is None or self._roster.host_of(row.thread_id) is not None:
            return
        if dict(info.hosted).get(row.thread_id) == row.epoch:
            self._handover.hosted(row.owner, row.thread_id, row.epoch)
            return
        fresh = await asyncio.to_thread(self.store.thread, row.thread_id)
        if fresh.epoch == row.epoch and fresh.token == row.token and fresh.status.runnable:
            self.wait(fresh, died=False)

    def wait(self, row: ThreadRecord, *, died: bool) -> None:
        """Put a thread in the line. `died`: its owner did, over whatever it had."""
        near = self._preloaded.pop(row.thread_id, "")
        crashed = charged(row, died=died)
        if shares(row, died=died):
            self._lines.add(Waiting(row.thread_id, row.epoch, row.graph_key, shared=True))
            return
        crashes = row.crashes + (1 if crashed and row.token else 0)
        delay = restart_delay(crashes, self.settings.crash_budget) if crashed else 0.0
        not_before = time.monotonic() + delay if delay else 0.0
        self._lines.add(
            Waiting(row.thread_id, row.epoch, row.graph_key, crashed, near=near, not_before=not_before, crashes=crashes)
        )
        if delay:
            self.chores.spawn(self._act_later(delay))

    async def _act_later(self, delay: float) -> None:
        await asyncio.sleep(delay)
        self.act()

    def preload(self, row: ThreadRecord) -> None:
        """See `timers.Wakers`."""
        taken = set(self._preloaded.values())
        spare = next((one for one in self._roster.idle(row.graph_key) if one.name not in taken), None)
        if spare is not None:
            self._preloaded[row.thread_id] = spare.name
            self._crew.preload(spare.name, row.thread_id)

    # -- acting --------------------------------------------------------------------------------------------------

    def act(self) -> None:
        """Carry out what is planned for the pool."""
        now = time.monotonic()
        self._carry_out(plan_shared(self._roster, self._lines.shared, now))
        self._carry_out(plan(self._roster, self._lines.alone, now, self._timers.graphs()))

    def _carry_out(self, decisions: Sequence[Decision]) -> None:
        given: dict[str, list[Waiting]] = {}
        for decision in decisions:
            if isinstance(decision, Dispatch):
                given.setdefault(decision.actor, []).append(decision.thread)
            elif isinstance(decision, Retire):
                self._crew.retire(decision.actor)
            else:
                line = self._lines.shared if decision.shared else self._lines.alone
                self._crew.start(decision, spare=not line.wants(decision.graph_key))
        for name, threads in given.items():
            self._handover.give(name, threads)

    # -- for clients ---------------------------------------------------------------------------------------------

    async def stalled(self, thread_id: str) -> str:
        """Why a runnable thread makes no progress; empty if nothing is known."""
        host = self._roster.host_of(thread_id)
        if host is not None:
            return await self._crew.stalled(host.name)
        thread = self._lines.get(thread_id)
        if thread is None:
            return ""
        pause = thread.not_before - time.monotonic()
        if pause > 0:
            return f"its process died {thread.crashes} times without progress; it is started again in {pause:.1f} s"
        if self._roster.closed:
            return "the service is drained: it starts nothing until somebody says `perdure drain --undo`"
        return f"it waits for an actor (in the line: {len(self._lines)}, actors at most: {self._roster.max_actors})"

    def actors(self) -> list[dict[str, Any]]:
        """The pool as it is now."""
        return [
            {"name": member.name, "phase": member.phase.name.lower(), "threads": sorted(member.threads)}
            for member in self._roster.members.values()
        ]

    async def stop(self) -> None:
        """End all actors that host nothing; those that do go on."""
        self._crew.retire_idle()
