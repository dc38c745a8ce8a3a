"""The life of a service's actors: started or found, asked, watched, ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, Protocol

import ray
from ray.exceptions import (
    ActorUnavailableError,
    ActorUnschedulableError,
    RayActorError,
    RayError,
    RuntimeEnvSetupError,
)

from ..runtime.drive import store_backoff
from ..stores.base import CheckpointStore
from ..stores.errors import FINAL, StoreError
from ..stores.processes import ProcessId
from ..stores.records import GraphRecord, OwnerRecord
from .answers import answer, told
from .chores import Chores
from .deaths import blames, cause_of
from .errors import GraphLoadError, Superseded
from .exits import Ended, Exits
from .hosting import Outcome
from .line import Waiting
from .members import ANYWHERE, Phase, Start
from .names import is_shared, new_owner
from .pool import find_actor, find_actors, start_actor
from .reaper import reap, reap_elsewhere, this_host
from .roster import Roster
from .settings import ServiceSettings
from .shipping import environment_of
from .thread_actor import ActorInfo, Order
from .verdicts import Verdicts

LOGGER = logging.getLogger("perdure.supervisor")
HELLO_TIMEOUT = 5.0
"""Seconds that a found actor may take to answer before it counts as silent."""
AFTER_RECOVERY = 0.25
"""Seconds by which everything that can wait is put off where a thread may just be recovering: a new process would take
the processor from it, and a write the store's lock."""
UNSCHEDULABLE = 1.0
"""Seconds until an actor is tried again on a node that takes none, where there is no other."""
START_FAILURES = 3
"""Actors in a row that may die while they load a graph, before its threads are paused."""


class Threads(Protocol):
    """What the lives of actors mean for threads."""

    def act(self) -> None:
        """The roster has changed: there may be something to do."""

    def hosted(self, name: str, thread_id: str, epoch: int) -> None:
        """An actor was found to host a thread."""

    def settled(self, name: str, outcomes: Sequence[Outcome]) -> None:
        """An actor has given threads up."""

    def lost(self, name: str, thread: Waiting) -> None:
        """The actor that hosted a thread is gone."""

    async def give_up(self, graph_key: str, reason: str) -> None:
        """No actor can load this graph."""


class Crew:
    """The living actors of one service and how to reach them. What each does, the roster says."""

    def __init__(
        self,
        settings: ServiceSettings,
        key: str,
        store: CheckpointStore,
        roster: Roster,
        chores: Chores,
        threads: Threads,
    ) -> None:
        self._settings = settings
        self._key = key
        self._store = store
        self._roster = roster
        self._chores = chores
        self._threads = threads
        self._handles: dict[str, Any] = {}
        self._graphs: dict[str, GraphRecord] = {}
        self._start_failures: dict[str, int] = {}
        self._greeted = time.monotonic()
        self._heard: dict[str, int] = {}
        """Number of the last outcome that each actor has told."""
        self._exits = Exits(chores, ray.get_runtime_context().get_node_id())
        self.verdicts = Verdicts(self._exits)

    # -- begin and end -------------------------------------------------------------------------------------------

    async def find(self) -> None:
        """Take over the actors that a former supervisor started."""
        for name, handle in (await asyncio.to_thread(find_actors, self._key)).items():
            await self._adopt(name, handle)

    async def meet(self, name: str) -> bool:
        """Whether an actor of an unknown name lives after all; it is one of ours from now on. Another supervisor has
        started it: two are there at once where a node is cut off from Ray, but not from the store."""
        # Ray's head tells for a while of those that were seen to end.
        handle = await asyncio.to_thread(find_actor, name) if self.verdicts.of(name) is None else None
        if handle is None:
            return False
        if name not in self._handles:
            await self._adopt(name, handle)
        return True

    async def _adopt(self, name: str, handle: Any) -> None:
        self._handles[name] = handle
        self._roster.enter(name, Phase.SILENT, "", time.monotonic())
        self._look_after(name, handle)
        await self.hello(name)

    def start(self, wanted: Start, *, spare: bool) -> None:
        """Start an actor for a graph; a spare one when nothing recovers."""
        name = new_owner(self._key, shared=wanted.shared)
        self._roster.enter(name, Phase.STARTING, wanted.graph_key, time.monotonic(), wanted.node)
        self._roster.members[name].draining = False
        self._chores.spawn(self._start(name, wanted, AFTER_RECOVERY if spare else 0.0))

    def retire(self, name: str) -> None:
        """End an actor, if it hosts nothing by then. Nothing happens if it is gone already."""
        self._roster.become(name, Phase.LEAVING, time.monotonic())
        handle = self._handles.get(name)
        if handle is not None:
            handle.retire.remote()

    def retire_idle(self) -> None:
        """End all actors that host nothing; those that do go on."""
        for member in list(self._roster.members.values()):
            if member.phase is Phase.IDLE:
                self.retire(member.name)

    async def _start(self, name: str, wanted: Start, delay: float) -> None:
        graph_key = wanted.graph_key
        failures = self._start_failures.get(graph_key, 0)
        await asyncio.sleep(delay + (store_backoff(failures) if failures else 0.0))
        if wanted.node not in self._roster.open_nodes:
            # It has been drained meanwhile, or is gone: somewhere else then.
            self._roster.leave(name)
            self._threads.act()
            return
        try:
            environment = environment_of(await self._graph(graph_key), self._settings.signing_key)
        except StoreError as error:
            self._roster.leave(name)
            await self._store_failed(graph_key, failures, error)
            return
        handle = self._handles[name] = start_actor(name, self._settings, wanted.node, environment)
        self._look_after(name, handle)
        try:
            info: ActorInfo = await answer(handle.hello.remote())
            self._roster.place(name, info.node_id)
            self._exits.know(name, info.node_id, ProcessId(info.pid, info.started))
            await answer(handle.prepare.remote(await self._graph(graph_key)))
        except GraphLoadError:
            pass  # `host` meets it again, and pauses the thread with the reason
        except StoreError as error:
            self.retire(name)
            await self._store_failed(graph_key, failures, error)
            return
        except RuntimeEnvSetupError as error:
            await self._give_up(graph_key, f"its runtime environment cannot be set up: {error}")
            return
        except ActorUnschedulableError:
            return  # the watch sees to that
        except RayActorError as error:
            # One that could not even be made had no store to work with; only one that died loading code counts.
            counted = START_FAILURES - 1 if error.actor_init_failed else START_FAILURES
            self._start_failures[graph_key] = min(failures + 1, counted)
            if failures + 1 >= START_FAILURES and not error.actor_init_failed:
                await self._give_up(graph_key, f"its actors die while they load graph code: {error}")
            return
        except RayError as error:
            self._start_failures[graph_key] = min(failures + 1, START_FAILURES - 1)
            self.unfit(name, error)
            return
        self._start_failures.pop(graph_key, None)
        self._roster.become(name, Phase.IDLE, time.monotonic())
        self._threads.act()

    async def _store_failed(self, graph_key: str, failures: int, error: StoreError) -> None:
        if isinstance(error, FINAL):
            # The graph's record is damaged, gone, or sealed with a key that nobody has given.
            await self._give_up(graph_key, f"its graph cannot be read: {told(error)}")
        else:
            # The store is away, full or slow: nobody's fault, and the next start waits longer.
            self._start_failures[graph_key] = min(failures + 1, START_FAILURES - 1)

    async def _give_up(self, graph_key: str, reason: str) -> None:
        self._start_failures.pop(graph_key, None)
        await self._threads.give_up(graph_key, reason)

    async def _graph(self, graph_key: str) -> GraphRecord:
        if graph_key not in self._graphs:
            self._graphs[graph_key] = await asyncio.to_thread(self._store.graph, graph_key)
        return self._graphs[graph_key]

    # -- asking --------------------------------------------------------------------------------------------------

    async def host(self, name: str, threads: Sequence[Waiting]) -> list[int]:
        """Have an actor take threads of one graph; their new epochs, 0 for those that it did not take. Raises what
        `ThreadActor.host` raises, `RayActorError` or `KeyError` if the actor is gone, `StoreError`."""
        graph = await self._graph(threads[0].graph_key)
        orders = [Order(thread.thread_id, thread.epoch, thread.crashed) for thread in threads]
        handle = self._handles[name]
        try:
            epochs: list[int] = await answer(handle.host.remote(orders, graph))
        except ActorUnavailableError as lost:
            raise await self._cause_of(lost, name, handle) from lost
        return epochs

    def poke(self, name: str, thread_id: str) -> None:
        """Tell an actor that there may be mail for a thread."""
        handle = self._handles.get(name)
        if handle is not None:
            handle.poke.remote(thread_id)

    def preload(self, name: str, thread_id: str) -> None:
        """Have an actor read the state of a thread that it may be given before long."""
        handle = self._handles.get(name)
        if handle is not None:
            handle.preload.remote(thread_id)

    async def stalled(self, name: str) -> str:
        """Why an actor can write nothing at present; empty while all is well, or if it does not answer."""
        try:
            reason: str = await answer(self._handles[name].stalled.remote())
        except (RayError, KeyError):
            return ""
        return reason

    async def hello(self, name: str) -> ActorInfo | None:
        """Ask an actor what it hosts, and bring the roster up to date. None if it does not answer."""
        try:
            info: ActorInfo = await asyncio.wait_for(answer(self._handles[name].hello.remote()), HELLO_TIMEOUT)
        except (TimeoutError, RayActorError, KeyError):
            return None
        except RayError as error:
            self.unfit(name, error)
            return None
        if info.told < self._heard.get(name, 0):
            return await self.hello(name)  # overtaken by the end of a thread that it still counts
        member = self._roster.members.get(name)
        if member is not None and member.phase is Phase.SILENT:
            member.graph_key = info.graphs[-1] if info.graphs else ""
            self._roster.place(name, info.node_id)
            self._exits.know(name, info.node_id, ProcessId(info.pid, info.started))
            self._roster.become(name, Phase.IDLE, time.monotonic())
            for thread_id, epoch in info.hosted:
                self._threads.hosted(name, thread_id, epoch)
        return info

    def greet(self) -> None:
        """Tell idle actors that there is a supervisor; without one they end themselves. And ask again those that did
        not answer when they were found."""
        now = time.monotonic()
        for member in self._roster.members.values():
            if member.phase is Phase.SILENT and now - member.since > HELLO_TIMEOUT:
                member.since = now
                self._chores.spawn(self._ask_again(member.name))
        if now - self._greeted > self._settings.idle.total_seconds() / 2:
            self._greeted = now
            for name in [member.name for member in self._roster.members.values() if member.phase is Phase.IDLE]:
                if name in self._handles:
                    self._handles[name].hello.remote()

    def pass_on_drain(self) -> None:
        """Tell the actors on nodes that are being drained to give up their threads; or that they may go on."""
        for member in self._roster.news():
            if member.name in self._handles:
                member.draining = not self._roster.works(member)
                self._handles[member.name].drain.remote(member.draining)

    async def _ask_again(self, name: str) -> None:
        await self.hello(name)
        self._threads.act()

    # -- watching ------------------------------------------------------------------------------------------------

    def _look_after(self, name: str, handle: Any) -> None:
        self._exits.expect(name)
        self._chores.spawn(self._watch(name, handle))
        self._chores.spawn(self._listen(name, handle))

    async def _listen(self, name: str, handle: Any) -> None:
        """Hear what becomes of an actor's threads: one call at a time, whatever their number."""
        while name in self._handles:
            try:
                heard, outcomes = await answer(handle.settled.remote(self._heard.get(name, 0)))
            except (RayActorError, ActorUnschedulableError):
                return  # the watch sees to its threads
            except RayError as error:
                self.unfit(name, error)
                return
            if outcomes and name in self._handles:
                self._heard[name] = heard
                self._threads.settled(name, outcomes)

    async def _watch(self, name: str, handle: Any) -> None:
        """The crash signal: the kernel's, for a process of the same node; or that the never-ending call fails, some
        tens of milliseconds after the crash."""
        crashed, guilty, innocent = False, False, False
        try:
            await self._exits.unless_ended(name, self._end_of(name, handle))
        except Ended:
            crashed, innocent = True, not self._exits.alone
            guilty = self.verdicts.judge(name) and not is_shared(name)
        except ActorUnavailableError:
            # Cut off, but maybe alive; the store's fence keeps it out, and nobody needs it any more.
            crashed = innocent = True
            self._avoid_node_of(name)
            ray.kill(handle, no_restart=True)
        except RuntimeEnvSetupError:
            pass  # it never was; who has started it sees to that
        except ActorUnschedulableError:
            # It never was: its node is gone, or Ray drains it. Where there is no other, that is tried again.
            if self._avoid_node_of(name):
                await asyncio.sleep(UNSCHEDULABLE)
        except RayActorError as error:
            crashed, innocent = True, not blames(error)
            # Of many, nobody knows which one it was.
            guilty = self.verdicts.blames(name, error) and not is_shared(name)
        except RayError as error:
            self.unfit(name, error)
            crashed, guilty = True, not is_shared(name)
        member = self._roster.leave(name)
        self._handles.pop(name, None)
        self._heard.pop(name, None)
        self._exits.drop(name)
        threads = member.threads if member is not None else {}
        graph_key = member.graph_key if member is not None else ""
        shared = is_shared(name) and (innocent or not crashed)
        # Known without asking the store: the epoch at which each was hosted. If it no longer stands, the claim says so.
        for thread_id, epoch in threads.items():
            self._threads.lost(name, Waiting(thread_id, epoch, graph_key, guilty, shared))
        self._threads.act()
        if crashed:
            await asyncio.sleep(AFTER_RECOVERY)
            self.verdicts.forget(name)
            await self.forget(name)
            self._threads.act()

    def _avoid_node_of(self, name: str) -> bool:
        """Start nothing on the node of an actor for a while; whether something is started there all the same, as there
        is no other."""
        member = self._roster.members.get(name)
        if member is None:
            return False
        self._roster.avoid(member.node, time.monotonic())
        return member.node in self._roster.open_nodes

    async def _end_of(self, name: str, handle: Any) -> None:
        try:
            if not await answer(handle.watch.remote()):
                raise Superseded(f"another supervisor watches {name}")
        except ActorUnavailableError as lost:
            raise await self._cause_of(lost, name, handle) from lost

    async def _cause_of(self, lost: ActorUnavailableError, name: str, handle: Any) -> RayActorError:
        if self.verdicts.of(name) is not None:
            return lost  # seen already, and so nobody need wait for what Ray says
        member = self._roster.members.get(name)
        report = cause_of(lost, handle, member.node if member is not None else ANYWHERE)
        try:
            return await self._exits.unless_ended(name, report)
        except Ended:
            self.verdicts.judge(name)
            return lost

    def unfit(self, name: str, error: Exception) -> None:
        """End an actor whose calls fail as nobody foresaw. Its process has no memory left, say, or can start no OS
        thread: it would claim threads and not drive them."""
        LOGGER.warning("%s is of no use any more and is ended: %s", name, error)
        self._roster.become(name, Phase.LEAVING, time.monotonic())
        if name in self._handles:
            ray.kill(self._handles[name], no_restart=True)

    async def expired(self, lease: OwnerRecord) -> None:
        """An owner is frozen or cut off. Its process is killed first, since it may hold the store's lock; the crash
        signal that follows finds new owners for its threads, and the store's fence keeps the old one out anyway."""
        member = self._roster.members.get(lease.owner)
        if member is not None:
            self.verdicts.freeze(lease.owner)
        reaped = reap(lease)
        if lease.host != this_host():
            self._avoid_node_of(lease.owner)
            self._chores.spawn(self._reap_elsewhere(lease, member.node if member is not None else ""))
        if member is None:
            await self.forget(lease.owner)
        elif not reaped and lease.owner in self._handles:
            # Reports its death at once; of a process that is stopped it does not make an end.
            ray.kill(self._handles[lease.owner], no_restart=True)

    async def _reap_elsewhere(self, lease: OwnerRecord, node: str) -> None:
        nodes = [node] if node in self._roster.nodes else list(self._roster.nodes)
        if await reap_elsewhere(lease, nodes):
            LOGGER.info("%s (pid %d of %s), whose lease had expired, was killed", lease.owner, lease.pid, lease.host)

    async def forget(self, name: str) -> None:
        """Remove an owner's lease."""
        try:
            await asyncio.to_thread(self._store.forget, name)
        except StoreError:
            return  # its lease expires, and is forgotten then
