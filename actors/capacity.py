"""Who gets a seat in the actors that many threads share, and which of these are started or ended: a pure decision.

They are a pool of their own. It never takes so many places that threads which want a process for themselves find none,
and no graph keeps the others out.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from itertools import islice

from .line import Line, Waiting
from .members import Dispatch, Member, Phase, Retire, Start
from .roster import Roster

SLICE = 1.0
"""Seconds that an actor takes threads of its graph before it may be closed for one that has none, and before it is
clear that more of them are needed."""
_OPEN = (Phase.IDLE, Phase.BUSY)


def plan_shared(roster: Roster, line: Line, now: float) -> list[Dispatch | Start | Retire]:
    """What to do now for the threads in `line`, which may run beside others.

    Each gets a seat in the actor of its graph that has the most free ones. Where seats are missing actors are started,
    on a node as many at once as it has CPUs, and more only once these have been at work for a while: short threads are
    through before another process is there. There are up to `roster.shared_actors` on each node; where there are as
    many, those that have had no threads for a while make way. A graph that can get none has one of another graph ended;
    if none of these is without threads, one takes no more, and comes to its end by itself.
    """
    return _Plan(roster, line, now).decisions()


class _Plan:
    def __init__(self, roster: Roster, line: Line, now: float) -> None:
        self._roster = roster
        self._line = line
        self._now = now
        self._todo: list[Dispatch | Start | Retire] = []
        self._members = [member for member in roster.members.values() if member.shared]
        self._held = Counter(one.graph_key for one in self._members if self._takes(one) or one.phase is Phase.STARTING)
        self._load = roster.load()
        self._room = roster.room(self._load)
        self._beginnings = roster.beginnings()
        # At least one place of each node is for threads that share nothing.
        self._most = len(roster.open_nodes) * min(roster.shared_actors, max(1, roster.max_actors - 1))

    def _takes(self, member: Member) -> bool:
        return member.phase in _OPEN and not member.closed and self._roster.works(member)

    def decisions(self) -> list[Dispatch | Start | Retire]:
        if not self._roster.closed:
            # The graph with the fewest actors first; among equals, the one whose last turn is longest ago.
            for graph_key, queue in sorted(self._line.queues().items(), key=lambda each: self._held[each[0]]):
                self._serve(graph_key, list(islice(queue, self._most * self._roster.seats)))
        self._retire()
        return self._todo

    def _serve(self, graph_key: str, threads: list[Waiting]) -> None:
        seats = [
            (self._taken(member), member.name)
            for member in self._members
            if member.graph_key == graph_key and self._takes(member) and self._taken(member) < self._roster.seats
        ]
        heapq.heapify(seats)
        served = 0
        for thread in threads:
            if not seats:
                break
            taken, name = heapq.heappop(seats)
            self._todo.append(Dispatch(name, thread))
            served += 1
            if taken + 1 < self._roster.seats:
                heapq.heappush(seats, (taken + 1, name))
        self._grow(graph_key, len(threads) - served)

    def _taken(self, member: Member) -> int:
        return len(member.threads) + len(member.asked)

    def _grow(self, graph_key: str, missing: int) -> None:
        """See to it that before long there are seats for so many more."""
        coming = sum(one.graph_key == graph_key and one.phase is Phase.STARTING for one in self._members)
        missing -= coming * self._roster.seats
        if missing > 0 and any(self._has_begun(one) for one in self._members if one.graph_key == graph_key):
            return
        while missing > 0 and self._room > 0 and len(self._members) + self._started < self._most:
            free = [node for node in self._roster.open_nodes if self._beginnings[node] > 0]
            if not free:
                return
            node = min(free, key=lambda each: self._load[each])
            self._beginnings[node] -= 1
            self._load[node] += 1
            self._room -= 1
            self._held[graph_key] += 1
            self._todo.append(Start(graph_key, node, shared=True))
            missing -= self._roster.seats
        if missing > 0 and self._held[graph_key]:
            self._close_unused(math.ceil(missing / self._roster.seats))
        elif missing > 0:
            self._make_room(graph_key)

    def _has_begun(self, member: Member) -> bool:
        """Whether an actor was given threads only now, and may be through with them before long."""
        return member.phase is Phase.BUSY and self._takes(member) and self._now - member.since < SLICE

    @property
    def _started(self) -> int:
        return sum(isinstance(one, Start) for one in self._todo)

    def _close_unused(self, count: int) -> None:
        """Have up to `count` actors ended, those that are on their way out included, whose graphs have had no threads
        for a while, nor have any in the line."""
        count -= sum(one.closed or one.phase is Phase.LEAVING for one in self._members)
        unused = [
            one
            for one in self._members
            if one.phase is Phase.IDLE
            and self._takes(one)
            and self._now - one.since > SLICE
            and not self._line.wants(one.graph_key)
        ]
        for one in sorted(unused, key=lambda each: each.since)[: max(0, count)]:
            one.closed = True

    def _make_room(self, graph_key: str) -> None:
        """For a graph that has no actor and can start none. One that is on its way out already is enough."""
        if any(one.phase is Phase.LEAVING or one.closed for one in self._members):
            return
        if len(self._members) < self._most:
            # The places are taken by actors of the other kind.
            idle = [one for one in self._roster.members.values() if one.phase is Phase.IDLE and not one.shared]
            if idle:
                self._todo.append(Retire(min(idle, key=lambda one: one.since).name))
            return
        others = [
            one
            for one in self._members
            if self._takes(one) and (self._held[one.graph_key] > 1 or self._now - one.born > SLICE)
        ]
        if not others:
            return
        least = min(others, key=lambda one: (-self._held[one.graph_key], self._taken(one)))
        self._held[least.graph_key] -= 1
        least.closed = True

    def _retire(self) -> None:
        """End those without threads that are closed, not needed, or on a node that is being drained."""
        given = {one.actor for one in self._todo if isinstance(one, Dispatch)}
        for member in self._members:
            if member.phase is not Phase.IDLE or member.name in given:
                continue
            unused = self._now - member.since > self._roster.idle_seconds
            if member.closed or unused or not self._roster.works(member):
                self._todo.append(Retire(member.name))
