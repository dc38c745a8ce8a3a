"""Threads that change hands: given to an actor, taken, given up, lost, or paused since nobody can take them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Protocol

from ray.exceptions import RayActorError, RayError

from ..runtime.clock import Clock
from ..runtime.drive import store_backoff
from ..stores.base import CheckpointStore
from ..stores.errors import FINAL, StoreError
from ..stores.records import ENDED, ThreadRecord
from .answers import told
from .chores import Chores
from .crew import Crew
from .errors import ServiceError
from .hosting import Outcome
from .line import Waiting
from .lines import Lines
from .members import Phase
from .names import supervisor_name
from .parking import park
from .roster import Roster
from .settings import ServiceSettings

LOGGER = logging.getLogger("perdure.supervisor")


class Planner(Protocol):
    """What has to be thought over once a thread has changed hands."""

    def act(self) -> None:
        """See `Service.act`."""

    async def notify(self, thread_id: str) -> None:
        """See `Service.notify`."""

    def wait(self, row: ThreadRecord, *, died: bool) -> None:
        """See `Service.wait`."""


class Handover:
    """Which threads are just changing hands, and the actors that they are given to; what these tell, it hears (see
    `crew.Threads`)."""

    def __init__(
        self,
        settings: ServiceSettings,
        key: str,
        store: CheckpointStore,
        clock: Clock,
        roster: Roster,
        lines: Lines,
        chores: Chores,
        planner: Planner,
    ) -> None:
        self._store = store
        self._clock = clock
        self._roster = roster
        self._lines = lines
        self._chores = chores
        self._planner = planner
        self._own_name = supervisor_name(key)
        self.crew = Crew(settings, key, store, roster, chores, self)
        self.asking: dict[str, str] = {}
        """Who was just asked to take a thread, by its id; such a thread is neither waiting nor hosted. The supervisor
        itself while it pauses one."""
        self._early: dict[str, Outcome] = {}
        """How threads were given up of which it is not known yet that they were taken, by their ids."""
        self._stirred: set[str] = set()
        """Threads that somebody has sent something to while an actor had them."""
        self._poked: dict[str, int] = {}
        """Number of the newest message of which a thread's actor was told."""
        self._crashes: dict[str, int] = {}
        """Crashes without progress of threads that have an owner again, as the store said when it was last read."""

    def act(self) -> None:
        """See `crew.Threads`."""
        self._planner.act()

    def stir(self, thread_id: str) -> None:
        """Somebody has sent something to a thread: who has it is told, or it is looked at once it was given up."""
        host = self._roster.host_of(thread_id)
        if host is not None:
            self.crew.poke(host.name, thread_id)
        if host is not None or thread_id in self.asking:
            self._stirred.add(thread_id)

    def poke(self, row: ThreadRecord) -> None:
        """Tell a thread's owner of its newest message, once."""
        if row.inbox > self._poked.get(row.thread_id, 0):
            self._poked[row.thread_id] = row.inbox
            self.crew.poke(row.owner, row.thread_id)

    def note_crashes(self, row: ThreadRecord) -> None:
        """Remember what the store says of a thread's crashes."""
        if row.crashes and row.status.runnable:
            self._crashes[row.thread_id] = row.crashes
        else:
            self._crashes.pop(row.thread_id, None)

    def give(self, name: str, threads: Sequence[Waiting]) -> None:
        """Ask an actor to take threads of one graph."""
        for thread in threads:
            self._lines.remove(thread)
            self.asking[thread.thread_id] = name
            self._roster.ask(name, thread.thread_id, time.monotonic())
        self._chores.spawn(self._host(name, threads))

    async def _host(self, name: str, threads: Sequence[Waiting]) -> None:
        try:
            epochs = await self.crew.host(name, threads)
        except (RayActorError, KeyError, ServiceError) as error:
            # Dead or ending, maybe before it could be asked. Whether it had claimed the threads, the store knows.
            if isinstance(error, ServiceError):
                self._roster.become(name, Phase.LEAVING, time.monotonic())
            died = self.crew.verdicts.blames(name, error)
            for thread in threads:
                await self._recover(thread.thread_id, name, died=died)
            return
        except FINAL as error:
            # What they have in common cannot be read (their graph), or one of them: each is paused with the reason.
            for thread in threads:
                self._unasked(name, thread.thread_id)
            await self._pause([thread.thread_id for thread in threads], f"it cannot be taken: {told(error)}")
        except StoreError as error:
            LOGGER.warning("%s did not take %s", name, [one.thread_id for one in threads], exc_info=error)
            for thread in threads:
                self._unasked(name, thread.thread_id)
            await asyncio.sleep(store_backoff(3))
        except RayError as error:
            # Nothing of theirs has run: whatever it is that the process lacks, they did not take it.
            self.crew.unfit(name, error)
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
        if name not in self._roster.members:
            # Seen to end before its answer was heard: nobody else knows that it had the thread.
            self._chores.spawn(self._recover(thread_id, name, died=bool(self.crew.verdicts.of(name))))
            return
        self.asking.pop(thread_id, None)
        self.hosted(name, thread_id, epoch)
        outcome = self._early.pop(thread_id, None)
        if outcome is not None and outcome.epoch == epoch:
            self._given_up(name, outcome)

    def _unasked(self, name: str, thread_id: str) -> None:
        self.asking.pop(thread_id, None)
        self._early.pop(thread_id, None)
        self._roster.refused(name, thread_id, time.monotonic())

    def hosted(self, name: str, thread_id: str, epoch: int) -> None:
        """See `crew.Threads`."""
        self._roster.assign(name, thread_id, epoch, time.monotonic())

    def settled(self, name: str, outcomes: Sequence[Outcome]) -> None:
        """See `crew.Threads`."""
        for outcome in outcomes:
            if self.asking.get(outcome.thread_id) == name:
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
            self._chores.spawn(self._pause([thread_id], outcome.detail))
        elif stirred or outcome.status not in ENDED:
            self._chores.spawn(self._planner.notify(thread_id))
        else:
            self._crashes.pop(thread_id, None)

    async def _pause(self, threads: Sequence[str], reason: str) -> None:
        """Pause threads that nobody can go on with, such as one with a corrupt checkpoint."""
        mine = [thread_id for thread_id in threads if thread_id not in self.asking]
        # A thread has one hand on it: two that paused it would fence each other.
        self.asking.update(dict.fromkeys(mine, self._own_name))
        for thread_id in mine:
            try:
                await self._park(thread_id, reason)
            except StoreError as error:
                LOGGER.warning("thread %s could not be paused (%s): %s", thread_id, reason, error)
                continue  # the sweep meets it again
            finally:
                self.asking.pop(thread_id, None)
                self._stirred.discard(thread_id)
            # Also if nothing was done: what was sent meanwhile has found the thread in hand, and was put off.
            await self._planner.notify(thread_id)

    async def _park(self, thread_id: str, reason: str) -> None:
        row = await asyncio.to_thread(self._store.thread, thread_id)
        if row.status.runnable:
            token = self._clock.unique()
            claimed = await asyncio.to_thread(
                lambda: self._store.claim(thread_id, epoch=row.epoch, token=token, owner=self._own_name)
            )
            await asyncio.to_thread(park, self._store, claimed, self._clock, reason)

    def lost(self, name: str, thread: Waiting) -> None:
        """See `crew.Threads`."""
        if thread.crashed and self._crashes.get(thread.thread_id):
            # Not its first: whether it has made progress since, and so may go on at once, the store knows.
            self._chores.spawn(self._recover(thread.thread_id, name))
        else:
            self._lines.add(thread)

    async def give_up(self, graph_key: str, reason: str) -> None:
        """See `crew.Threads`."""
        # All at once: those that still waited while the first is paused would have further actors started for them.
        await self._pause([thread.thread_id for thread in self._lines.take(graph_key)], reason)

    async def _recover(self, thread_id: str, name: str, *, died: bool = True) -> None:
        """Put a thread of an actor that is gone back in the line. `died`: over whatever it had."""
        try:
            row = await asyncio.to_thread(self._store.thread, thread_id)
        except StoreError:
            return  # the sweep meets it again
        finally:
            # Not before: a sweep in between would take it for the thread of an actor that crashed.
            if self.asking.get(thread_id) == name:
                self._unasked(name, thread_id)
        if row.status.runnable and row.owner in ("", name):
            self._planner.wait(row, died=died and row.owner == name)
        self.act()
