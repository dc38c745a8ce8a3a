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
from ray.exceptions import RayActorError, RayError

from ..runtime.clock import SystemClock
from ..runtime.drive import store_backoff
from ..stores.errors import FINAL, StoreError, UnknownThread
from ..stores.processes import ProcessId
from ..stores.records import ENDED, SERVICE, Status, ThreadFilter, ThreadRecord
from .answers import told
from .backoff import restart_delay
from .capacity import plan_shared
from .charging import charged, shares
from .chores import Chores
from .crew import Crew
from .deaths import died_alone
from .drains import read_drain
from .errors import ServiceError
from .hosting import Outcome
from .housekeeping import Housekeeper
from .lease import LeaseReading
from .line import Line, Waiting
from .members import Decision, Dispatch, Phase, Retire
from .names import NAMESPACE, supervisor_name
from .nodes import living_nodes
from .parking import park
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
        self._line = Line()
        self._shared_line = Line()
        """Those that may run beside others."""
        self._asking: dict[str, str] = {}
        """Who was just asked to take a thread, by its id; such a thread is neither waiting nor hosted."""
        self._early: dict[str, Outcome] = {}
        """How threads were given up of which it is not known yet that they were taken, by their ids."""
        self._stirred: set[str] = set()
        """Threads that somebody has sent something to while an actor had them."""
        self._poked: dict[str, int] = {}
        self._crashes: dict[str, int] = {}
        """Crashes without progress of threads that have an owner again, as the store said when it was last read."""
        self.chores = Chores(settings.store.where)
        self._crew = Crew(settings, self.key, self.store, self._roster, self.chores, self)
        self._housekeeper = Housekeeper(self.store, self.clock, settings.housekeeping, self._recovering)
        self._sentry = Sentry(
            self.store, supervisor_name(self.key), settings.lease, self._crew.expired, self._share.watches
        )
        self._timers = Timers(
            self.store, self.clock, settings.sweep.total_seconds(), self.chores, self, self._share.has
        )
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
        return bool(self._asking) or bool(self._line.crashed)

    def _in_line(self, thread_id: str) -> bool:
        return thread_id in self._line or thread_id in self._shared_line

    # -- threads -------------------------------------------------------------------------------------------------

    async def notify(self, thread_id: str) -> None:
        """A thread was submitted, sent a message, or given up. A hint: the sweep would find it."""
        if not self._share.has(thread_id):
            await self._pass_on(thread_id)
            return
        host = self._roster.host_of(thread_id)
        if host is not None:
            self._crew.poke(host.name, thread_id)
        if host is not None or thread_id in self._asking:
            self._stirred.add(thread_id)
        self._line.hasten(thread_id)
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
        drain = await asyncio.to_thread(read_drain, self.store)
        nodes = await asyncio.to_thread(living_nodes)
        self._roster.closed = drain.service
        self._roster.nodes = {node.node_id: node.node_id not in drain.nodes for node in nodes}
        self._crew.pass_on_drain()
        self.act()

    def at_work(self, node: str) -> int:
        """How many threads run on a node; on all of them if it is empty."""
        members = self._roster.members.values()
        hosted = sum(len(member.threads) for member in members if not node or member.node == node)
        places = {name: member.node for name, member in self._roster.members.items()}
        return hosted + sum(not node or places.get(actor) == node for actor in self._asking.values())

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
        if self._in_line(thread_id) or thread_id in self._asking:
            return
        self._note_crashes(row)
        self._timers.note(row)
        verdict = triage(row, self._roster, self.key)
        if verdict is Verdict.POKE and row.inbox > self._poked.get(thread_id, 0):
            self._poked[thread_id] = row.inbox
            self._crew.poke(row.owner, thread_id)
        elif verdict is Verdict.TAKE:
            self._wait(row, died=False)
        elif verdict is Verdict.TAKE_AFTER_CRASH:
            if not await self._crew.meet(row.owner):
                self._wait(row, died=await died_alone(row.owner))
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
            self._wait(row, died=False)

    async def _ask_owner(self, row: ThreadRecord) -> None:
        """A living owner that is not known to host the thread: ask it, it may have taken it up or lost it meanwhile."""
        info = await self._crew.hello(row.owner)
        if info is None or self._roster.host_of(row.thread_id) is not None:
            return
        if dict(info.hosted).get(row.thread_id) == row.epoch:
            self.hosted(row.owner, row.thread_id, row.epoch)
            return
        fresh = await asyncio.to_thread(self.store.thread, row.thread_id)
        if fresh.epoch == row.epoch and fresh.token == row.token and fresh.status.runnable:
            self._wait(fresh, died=False)

    def _note_crashes(self, row: ThreadRecord) -> None:
        if row.crashes and row.status.runnable:
            self._crashes[row.thread_id] = row.crashes
        else:
            self._crashes.pop(row.thread_id, None)

    def _wait(self, row: ThreadRecord, *, died: bool) -> None:
        """Put a thread in the line. `died`: its owner did, over whatever it had."""
        near = self._preloaded.pop(row.thread_id, "")
        crashed = charged(row, died=died)
        if shares(row, died=died):
            self._shared_line.add(Waiting(row.thread_id, row.epoch, row.graph_key, shared=True))
            return
        crashes = row.crashes + (1 if crashed and row.token else 0)
        delay = restart_delay(crashes, self.settings.crash_budget) if crashed else 0.0
        not_before = time.monotonic() + delay if delay else 0.0
        self._line.add(
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
        self._carry_out(plan_shared(self._roster, self._shared_line, now))
        self._carry_out(plan(self._roster, self._line, now, self._timers.graphs()))

    def _carry_out(self, decisions: Sequence[Decision]) -> None:
        given: dict[str, list[Waiting]] = {}
        for decision in decisions:
            if isinstance(decision, Dispatch):
                given.setdefault(decision.actor, []).append(decision.thread)
            elif isinstance(decision, Retire):
                self._crew.retire(decision.actor)
            else:
                line = self._shared_line if decision.shared else self._line
                self._crew.start(decision, spare=not line.wants(decision.graph_key))
        for name, threads in given.items():
            self._dispatch(name, threads)

    def _dispatch(self, name: str, threads: list[Waiting]) -> None:
        for thread in threads:
            (self._shared_line if thread.shared else self._line).remove(thread.thread_id)
            self._asking[thread.thread_id] = name
            self._roster.ask(name, thread.thread_id, time.monotonic())
        self.chores.spawn(self._host(name, threads))

    async def _host(self, name: str, threads: list[Waiting]) -> None:
        try:
            epochs = await self._crew.host(name, threads)
        except (RayActorError, KeyError, ServiceError) as error:
            # Dead or ending, maybe before it could be asked. Whether it had claimed the threads, the store knows.
            if isinstance(error, ServiceError):
                self._roster.become(name, Phase.LEAVING, time.monotonic())
            died = self._crew.blames(name, error)
            for thread in threads:
                await self._recover(thread.thread_id, name, died=died)
            return
        except FINAL as error:
            # What they have in common cannot be read (their graph), or one of them: each is paused with the reason.
            for thread in threads:
                self._unasked(name, thread.thread_id)
            for thread in threads:
                await self._park(thread.thread_id, f"it cannot be taken: {told(error)}")
        except StoreError as error:
            LOGGER.warning("%s did not take %s", name, [one.thread_id for one in threads], exc_info=error)
            for thread in threads:
                self._unasked(name, thread.thread_id)
            await asyncio.sleep(store_backoff(3))
        except RayError as error:
            # Nothing of theirs has run: whatever it is that the process lacks, they did not take it.
            self._crew.unfit(name, error)
            await asyncio.sleep(store_backoff(3))
            for thread in threads:
                await self._recover(thread.thread_id, name, died=False)
            return
        else:
            for thread, epoch in zip(threads, epochs, strict=True):
                self._answered(name, thread.thread_id, epoch)
        self.act()

    def _answered(self, name: str, thread_id: str, epoch: int) -> None:
        if not epoch:
            self._unasked(name, thread_id)
            return
        self._asking.pop(thread_id, None)
        self.hosted(name, thread_id, epoch)
        outcome = self._early.pop(thread_id, None)
        if outcome is not None and outcome.epoch == epoch:
            self._given_up(name, outcome)

    def _unasked(self, name: str, thread_id: str) -> None:
        self._asking.pop(thread_id, None)
        self._early.pop(thread_id, None)
        self._roster.refused(name, thread_id, time.monotonic())

    def hosted(self, name: str, thread_id: str, epoch: int) -> None:
        """See `crew.Threads`."""
        self._roster.assign(name, thread_id, epoch, time.monotonic())

    def settled(self, name: str, outcomes: Sequence[Outcome]) -> None:
        """See `crew.Threads`."""
        for outcome in outcomes:
            if self._asking.get(outcome.thread_id) == name:
                # It was so short that this overtakes the answer by which it was taken.
                self._early[outcome.thread_id] = outcome
            else:
                self._given_up(name, outcome)
        self.act()

    def _given_up(self, name: str, outcome: Outcome) -> None:
        thread_id = outcome.thread_id
        member = self._roster.members.get(name)
        if member is not None and member.threads.get(thread_id) == outcome.epoch:
            self._roster.release(name, thread_id, time.monotonic())
        self._poked.pop(thread_id, None)
        stirred = thread_id in self._stirred
        self._stirred.discard(thread_id)
        if outcome.status == "error":
            self.chores.spawn(self._park(thread_id, outcome.detail))
        elif stirred or outcome.status not in ENDED:
            self.chores.spawn(self.notify(thread_id))
        else:
            self._crashes.pop(thread_id, None)

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
        await self.notify(thread_id)

    def lost(self, name: str, thread: Waiting) -> None:
        """See `crew.Threads`."""
        if thread.crashed and self._crashes.get(thread.thread_id):
            # Not its first: whether it has made progress since, and so may go on at once, the store knows.
            self.chores.spawn(self._recover(thread.thread_id, name))
        else:
            (self._shared_line if thread.shared else self._line).add(thread)

    async def give_up(self, graph_key: str, reason: str) -> None:
        """See `crew.Threads`."""
        for thread in (*self._line.of_graph(graph_key), *self._shared_line.of_graph(graph_key)):
            (self._shared_line if thread.shared else self._line).remove(thread.thread_id)
            await self._park(thread.thread_id, reason)

    async def _recover(self, thread_id: str, name: str, *, died: bool = True) -> None:
        """Put a thread of an actor that is gone back in the line. `died`: over whatever it had."""
        try:
            row = await asyncio.to_thread(self.store.thread, thread_id)
        except StoreError:
            return  # the sweep meets it again
        finally:
            # Not before: a sweep in between would take it for the thread of an actor that crashed.
            if self._asking.get(thread_id) == name:
                self._unasked(name, thread_id)
        if row.status.runnable and row.owner in ("", name):
            self._wait(row, died=died and row.owner == name)
        self.act()

    # -- for clients ---------------------------------------------------------------------------------------------

    async def stalled(self, thread_id: str) -> str:
        """Why a runnable thread makes no progress; empty if nothing is known."""
        host = self._roster.host_of(thread_id)
        if host is not None:
            return await self._crew.stalled(host.name)
        thread = self._line.get(thread_id) or self._shared_line.get(thread_id)
        if thread is None:
            return ""
        pause = thread.not_before - time.monotonic()
        if pause > 0:
            return f"its process died {thread.crashes} times without progress; it is started again in {pause:.1f} s"
        if self._roster.closed:
            return "the service is drained: it starts nothing until somebody says `perdure drain --undo`"
        waiting = len(self._line) + len(self._shared_line)
        return f"it waits for an actor (in the line: {waiting}, actors at most: {self._roster.max_actors})"

    def actors(self) -> list[dict[str, Any]]:
        """The pool as it is now."""
        return [
            {"name": member.name, "phase": member.phase.name.lower(), "threads": sorted(member.threads)}
            for member in self._roster.members.values()
        ]

    async def stop(self) -> None:
        """End all actors that host nothing; those that do go on."""
        self._crew.retire_idle()
