"""Who gets which actor, and what is started or ended for it: one look at the pool and at those that wait for it."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection

from .line import Line, Waiting
from .members import Decision, Dispatch, Member, Phase, Retire, Start
from .roster import Roster

SLICE = 1.0
"""Seconds that an actor works for the graph that it has loaded before it is ended for one that has none: to start a
process takes half of that."""


def plan(roster: Roster, line: Line, now: float, expected: Collection[str] = ()) -> list[Decision]:
    """What to do now. Threads get idle actors, what is missing is started, what has been idle for long is ended.

    `expected` names graphs of which a thread is about to wake: they count as in use, so that a spare is ready.

    Threads whose actor crashed go first. Then it is the turn of the graph that has the fewest actors, and of its thread
    that came first: in a full pool, a graph with ten thousand threads in the line shares it with one that has a single
    one. Only within a graph is it first come, first served.
    """
    line.ripen(now)
    return _Plan(roster, line, expected, now).decisions()


class _Plan:
    def __init__(self, roster: Roster, line: Line, expected: Collection[str], now: float) -> None:
        self._roster = roster
        self._line = line
        self._now = now
        self._todo: list[Decision] = []
        members = [member for member in roster.members.values() if not member.shared]
        self._idle: dict[str, list[Member]] = {}
        for member in members:
            if member.phase is Phase.IDLE and roster.works(member):
                self._idle.setdefault(member.graph_key, []).append(member)
        self._coming = Counter(member.graph_key for member in members if member.phase is Phase.STARTING)
        self._leaving = sum(member.phase is Phase.LEAVING for member in members)
        self._held = Counter(
            member.graph_key
            for member in members
            if member.phase in (Phase.STARTING, Phase.BUSY) or (member.phase is Phase.IDLE and roster.works(member))
        )
        """How many actors each graph has."""
        self._load = roster.load()
        self._room = roster.room(self._load)
        self._queues = line.queues()
        self._active = {member.graph_key for member in members if member.phase is Phase.BUSY}
        self._active.update(expected, self._queues)

    def decisions(self) -> list[Decision]:
        if not self._roster.closed:
            self._serve_crashed()
            self._serve_graphs()
            self._fill_spares()
        self._retire()
        return self._todo

    def _serve_crashed(self) -> None:
        for thread in self._line.crashed:
            self._active.add(thread.graph_key)
            self._serve(thread, first=True)

    def _serve_graphs(self) -> None:
        heads = {key: next(queue) for key, queue in self._queues.items()}
        # Among equals, the graph whose last turn is longest ago: `queues` has them in this order.
        turns = [(self._held[key], place, key) for place, key in enumerate(heads)]
        heapq.heapify(turns)
        while turns:
            _, place, key = heapq.heappop(turns)
            if not self._serve(heads[key], first=False):
                continue
            following = next(self._queues[key], None)
            if following is not None:
                heads[key] = following
                heapq.heappush(turns, (self._held[key], place, key))

    def _serve(self, thread: Waiting, *, first: bool) -> bool:
        """Find a place for a thread, now or before long. False if there is none."""
        key = thread.graph_key
        if self._idle.get(key):
            self._dispatch(thread)
        elif self._coming[key] > 0:
            self._coming[key] -= 1
        elif self._room > 0:
            self._start(key)
        elif self._leaving > 0:
            self._leaving -= 1
            self._held[key] += 1
        else:
            return self._make_room(key, first)
        return True

    def _dispatch(self, thread: Waiting) -> None:
        idle = self._idle[thread.graph_key]
        ready = min(idle, key=lambda member: (member.name != thread.near, self._load.get(member.node, 0)))
        idle.remove(ready)
        self._todo.append(Dispatch(ready.name, thread))

    def _start(self, graph_key: str) -> None:
        node = min(self._roster.open_nodes, key=lambda each: self._load[each])
        self._load[node] += 1
        self._room -= 1
        self._held[graph_key] += 1
        self._todo.append(Start(graph_key, node))

    def _make_room(self, graph_key: str, first: bool) -> bool:
        """End an idle actor for a graph that has none to give: one of a graph that nothing waits for, longest without
        work; else one of a graph that has more of them. `first` says that all others have to stand back."""
        spares = [
            member
            for key, idle in self._idle.items()
            for member in idle
            if first or key not in self._queues or self._gives(key, member, graph_key)
        ]
        if not spares:
            return False
        spare = min(spares, key=lambda member: (member.graph_key in self._queues, member.since))
        self._idle[spare.graph_key].remove(spare)
        self._held[spare.graph_key] -= 1
        self._held[graph_key] += 1
        self._todo.append(Retire(spare.name))
        return True

    def _gives(self, key: str, member: Member, needy: str) -> bool:
        """Whether a graph has to give an actor to another, although it has threads of its own in the line."""
        fewer = self._held[needy] == 0 or self._held[key] > self._held[needy] + 1
        return fewer and self._now - member.born > SLICE

    def _fill_spares(self) -> None:
        for key in sorted(self._active):
            missing = self._roster.spares - len(self._idle.get(key, ())) - self._coming[key]
            for _ in range(min(missing, self._room)):
                self._start(key)

    def _retire(self) -> None:
        """End what is not needed, or is on a node that is being drained."""
        roster = self._roster
        for member in roster.members.values():
            if member.phase is Phase.IDLE and not member.shared and not roster.works(member):
                self._todo.append(Retire(member.name))
        for key, idle in self._idle.items():
            spares = roster.spares if key in self._active else 0
            for member in sorted(idle, key=lambda one: -one.since)[spares:]:
                if self._now - member.since > roster.idle_seconds:
                    self._todo.append(Retire(member.name))
