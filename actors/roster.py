"""Which actors there are, what each does, and what to do for the threads that wait: pure bookkeeping.

The supervisor tells it what happened and carries out what `plan` says.
"""

from __future__ import annotations

from collections.abc import Iterable
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

    def plan(self, waiting: Iterable[Waiting], now: float) -> list[Decision]:
        """What to do now: threads that wait get idle actors in order; what is missing is started, what is idle ended."""
        decisions: list[Decision] = []
        idle = [member for member in self.members.values() if member.phase is Phase.IDLE]
        starting: dict[str, int] = {}
        for member in self.members.values():
            if member.phase is Phase.STARTING:
                starting[member.graph_key] = starting.get(member.graph_key, 0) + 1
        room = self._max - len(self.members)
        wanted: dict[str, int] = {}
        for thread in waiting:
            ready = next((member for member in idle if member.graph_key == thread.graph_key), None)
            if ready is not None:
                idle.remove(ready)
                decisions.append(Dispatch(ready.name, thread))
            else:
                wanted[thread.graph_key] = wanted.get(thread.graph_key, 0) + 1
        active = {member.graph_key for member in self.members.values() if member.phase is Phase.BUSY} | wanted.keys()
        active |= {decision.thread.graph_key for decision in decisions if isinstance(decision, Dispatch)}
        for graph_key in wanted:
            missing = wanted[graph_key] - starting.get(graph_key, 0)
            for _ in range(missing):
                if room <= 0 and (spare := next((member for member in idle if member.graph_key not in wanted), None)):
                    idle.remove(spare)
                    decisions.append(Retire(spare.name))
                elif room > 0:
                    room -= 1
                    starting[graph_key] = starting.get(graph_key, 0) + 1
                    decisions.append(Start(graph_key))
        for graph_key in sorted(active):
            ready_count = sum(member.graph_key == graph_key for member in idle)
            coming = starting.get(graph_key, 0) - wanted.get(graph_key, 0)
            for _ in range(max(0, min(self._spares - ready_count - max(coming, 0), room))):
                room -= 1
                decisions.append(Start(graph_key))
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
