"""Which actors there are, what each does, and what to do for the threads that wait: pure bookkeeping.

The supervisor tells it what happened and carries out what `plan` says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias


class Phase(Enum):
    """What an actor is doing."""

    STARTING = auto()
    IDLE = auto()
    BUSY = auto()
    """It hosts a thread, or has been asked to."""
    LEAVING = auto()
    SILENT = auto()
    """Found by its name, but it did not answer: its lease will tell."""


@dataclass(slots=True)
class Member:
    """One actor of the pool."""

    name: str
    phase: Phase
    graph_key: str
    """The graph that it has loaded, or is loading."""
    threads: dict[str, int] = field(default_factory=dict)
    """Epoch of each thread that it hosts."""
    since: float = 0.0
    """When it entered its phase (monotonic seconds)."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A runnable thread without an owner."""

    thread_id: str
    epoch: int
    """The epoch at which it was seen; a claim succeeds only if that still stands."""
    graph_key: str
    crashed: bool = False
    """Its last owner crashed: counts against the thread's crash budget."""
    near: str = ""
    """An actor that has read its state already."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Give a thread to an actor."""

    actor: str
    thread: Waiting


@dataclass(frozen=True, slots=True)
class Start:
    """Start an actor for a graph."""

    graph_key: str


@dataclass(frozen=True, slots=True)
class Retire:
    """End an actor that has nothing to do."""

    actor: str


Decision: TypeAlias = Dispatch | Start | Retire


class Roster:
    """The pool of one service. `max_actors` counts all, spares included."""

    def __init__(self, *, max_actors: int, spares: int, idle: float) -> None:
        self._max = max_actors
        self._spares = spares
        self._idle = idle
        self.members: dict[str, Member] = {}

    def enter(self, name: str, phase: Phase, graph_key: str, now: float) -> None:
        """An actor was started, or found."""
        self.members[name] = Member(name, phase, graph_key, since=now)

    def become(self, name: str, phase: Phase, now: float) -> None:
        """An actor's phase changed; one that has left meanwhile stays away."""
        member = self.members.get(name)
        if member is not None and member.phase is not phase:
            member.phase, member.since = phase, now

    def assign(self, name: str, thread_id: str, epoch: int, now: float) -> None:
        """An actor hosts a thread."""
        member = self.members.get(name)
        if member is not None:
            member.threads[thread_id] = epoch
            self.become(name, Phase.BUSY, now)

    def release(self, name: str, thread_id: str, now: float) -> None:
        """An actor gave a thread up."""
        member = self.members.get(name)
        if member is not None:
            member.threads.pop(thread_id, None)
            if not member.threads and member.phase is Phase.BUSY:
                self.become(name, Phase.IDLE, now)

    def leave(self, name: str) -> Member | None:
        """An actor is gone; returns what it was."""
        return self.members.pop(name, None)

    def host_of(self, thread_id: str) -> Member | None:
        """The actor that hosts a thread."""
        return next((member for member in self.members.values() if thread_id in member.threads), None)

    def idle(self, graph_key: str) -> list[Member]:
        """The actors that have nothing to do and this graph loaded."""
        return [one for one in self.members.values() if one.phase is Phase.IDLE and one.graph_key == graph_key]

    def plan(self, waiting: Collection[Waiting], now: float, expected: Collection[str] = ()) -> list[Decision]:
        """What to do now. Threads get idle actors in order, those that lost theirs in a crash first; what is missing is
        started, what has been idle for long is ended.

        No thread waits for another graph's sake: where the pool is full, the first in the queue that finds no actor of
        its graph has an idle one of another graph ended, whatever waits behind it. `expected` names graphs of which a
        thread is about to wake: they count as in use, so that a spare is ready.
        """
        decisions: list[Decision] = []
        idle = [member for member in self.members.values() if member.phase is Phase.IDLE]
        coming = Counter(member.graph_key for member in self.members.values() if member.phase is Phase.STARTING)
        leaving = sum(member.phase is Phase.LEAVING for member in self.members.values())
        active = {member.graph_key for member in self.members.values() if member.phase is Phase.BUSY}
        active.update(expected)
        room = self._max - len(self.members)
        for thread in (*(one for one in waiting if one.crashed), *(one for one in waiting if not one.crashed)):
            key = thread.graph_key
            active.add(key)
            ready = _ready(idle, thread)
            if ready is not None:
                idle.remove(ready)
                decisions.append(Dispatch(ready.name, thread))
            elif coming[key] > 0:
                coming[key] -= 1
            elif room > 0:
                room -= 1
                decisions.append(Start(key))
            elif leaving > 0:
                leaving -= 1
            elif idle:
                decisions.append(Retire(_least_wanted(idle, waiting).name))
            elif not coming.total():
                break
        for key in sorted(active):
            ready_count = sum(member.graph_key == key for member in idle)
            for _ in range(min(self._spares - ready_count - coming[key], room)):
                room -= 1
                decisions.append(Start(key))
        decisions.extend(self._superfluous(idle, active, now))
        return decisions

    def _superfluous(self, idle: list[Member], active: set[str], now: float) -> list[Decision]:
        kept: dict[str, int] = {}
        retired: list[Decision] = []
        for member in sorted(idle, key=lambda one: -one.since):
            kept[member.graph_key] = kept.get(member.graph_key, 0) + 1
            spare = member.graph_key in active and kept[member.graph_key] <= self._spares
            if not spare and now - member.since > self._idle:
                retired.append(Retire(member.name))
        return retired


def _ready(idle: list[Member], thread: Waiting) -> Member | None:
    """The actor for a thread: the one that knows it already, else the first of its graph."""
    fitting = (member for member in idle if member.graph_key == thread.graph_key)
    return min(fitting, key=lambda member: member.name != thread.near, default=None)


def _least_wanted(idle: list[Member], waiting: Collection[Waiting]) -> Member:
    """Take out of `idle` the actor that can best be spared: of a graph that nothing waits for, longest without work."""
    wanted = {thread.graph_key for thread in waiting}
    spare = min(idle, key=lambda member: (member.graph_key in wanted, member.since))
    idle.remove(spare)
    return spare
