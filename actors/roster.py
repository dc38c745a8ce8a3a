"""Which actors there are, what each does, and where there is room for more: pure bookkeeping.

The supervisor tells it what happened and carries out what `sharing.plan` says.
"""

from __future__ import annotations

from collections.abc import Mapping

from .members import ANYWHERE, Member, Phase

AVOIDED = 10.0
"""Seconds that nothing is started on a node on which nothing could be, or with which contact was lost, as long as there
are others. Ray counts a node among the living while it drains it, and for half a minute after it was lost."""


class Roster:
    """The pool of one service. `max_actors` counts all that are on one node, spares included."""

    def __init__(self, *, max_actors: int, spares: int, idle: float, shared_actors: int = 4, seats: int = 64) -> None:
        self.max_actors = max_actors
        self.shared_actors = shared_actors
        self.seats = seats
        """Threads that an actor takes which many share."""
        self.spares = spares
        self.idle_seconds = idle
        self.members: dict[str, Member] = {}
        self.nodes: Mapping[str, bool] = {ANYWHERE: True}
        """The living nodes by id, and whether they take work: one that is being drained does not."""
        self._avoided: dict[str, float] = {}
        """Until when, by node."""
        self.cpus: Mapping[str, int] = {}
        """Of each node whose number is known."""
        self.closed = False
        """The whole service is being drained: nothing is given to anybody."""
        self._hosts: dict[str, str] = {}
        """The actor that hosts a thread, by the thread's id."""

    def enter(self, name: str, phase: Phase, graph_key: str, now: float, node: str = ANYWHERE) -> None:
        """An actor was started, or found."""
        self.members[name] = Member(name, phase, graph_key, since=now, born=now, node=node)

    def place(self, name: str, node: str) -> None:
        """An actor has said where it is."""
        member = self.members.get(name)
        if member is not None:
            member.node = node

    def become(self, name: str, phase: Phase, now: float) -> None:
        """An actor's phase changed; one that has left meanwhile stays away."""
        member = self.members.get(name)
        if member is not None and member.phase is not phase:
            member.phase, member.since = phase, now

    def ask(self, name: str, thread_id: str, now: float) -> None:
        """An actor is asked to take a thread."""
        member = self.members.get(name)
        if member is not None:
            member.asked.add(thread_id)
            self.become(name, Phase.BUSY, now)

    def refused(self, name: str, thread_id: str, now: float) -> None:
        """An actor did not take the thread."""
        member = self.members.get(name)
        if member is not None:
            member.asked.discard(thread_id)
            self._rest(member, now)

    def assign(self, name: str, thread_id: str, epoch: int, now: float) -> None:
        """An actor hosts a thread."""
        member = self.members.get(name)
        if member is not None:
            member.asked.discard(thread_id)
            member.threads[thread_id] = epoch
            self._hosts[thread_id] = name
            self.become(name, Phase.BUSY, now)

    def release(self, name: str, thread_id: str, now: float) -> None:
        """An actor gave a thread up."""
        member = self.members.get(name)
        if member is not None:
            member.threads.pop(thread_id, None)
            if self._hosts.get(thread_id) == name:
                del self._hosts[thread_id]
            self._rest(member, now)

    def _rest(self, member: Member, now: float) -> None:
        if not member.threads and not member.asked and member.phase is Phase.BUSY:
            self.become(member.name, Phase.IDLE, now)

    def leave(self, name: str) -> Member | None:
        """An actor is gone; returns what it was."""
        member = self.members.pop(name, None)
        for thread_id in member.threads if member is not None else ():
            if self._hosts.get(thread_id) == name:
                del self._hosts[thread_id]
        return member

    def host_of(self, thread_id: str) -> Member | None:
        """The actor that hosts a thread."""
        return self.members.get(self._hosts.get(thread_id, ""))

    def works(self, member: Member) -> bool:
        """Whether an actor may be given work: it is on no node that is being drained."""
        return not self.closed and self.nodes.get(member.node, True)

    @property
    def open_nodes(self) -> list[str]:
        """The nodes that take work: of several, those that are not to be avoided."""
        found = [node for node, works in self.nodes.items() if works]
        return [node for node in found if node not in self._avoided] or found

    def avoid(self, node: str, now: float) -> None:
        """Nothing could be started on a node, or contact with it was lost."""
        if node != ANYWHERE:
            self._avoided[node] = now + AVOIDED

    def forgive(self, now: float) -> None:
        """Forget what is no reason any more to avoid a node."""
        self._avoided = {node: until for node, until in self._avoided.items() if until > now}

    def load(self) -> dict[str, int]:
        """How many actors each living node has."""
        found = dict.fromkeys(self.nodes, 0)
        for member in self.members.values():
            if member.node in found:
                found[member.node] += 1
        return found

    def beginnings(self) -> dict[str, int]:
        """How many more actors each node that takes work can start at once: each takes a CPU until it is there, and
        more of them are all there later."""
        found = {node: self.cpus.get(node, self.max_actors) for node in self.open_nodes}
        for member in self.members.values():
            if member.phase is Phase.STARTING and member.node in found:
                found[member.node] -= 1
        return found

    def room(self, load: Mapping[str, int]) -> int:
        """How many more may be started. An actor of which it is not known where it is takes a place somewhere."""
        free = sum(max(0, self.max_actors - load[node]) for node in self.open_nodes)
        if ANYWHERE in load:
            return free
        return free - sum(member.node == ANYWHERE for member in self.members.values())

    def news(self) -> list[Member]:
        """The actors that do not know yet whether they are to give up what they host."""
        return [
            member
            for member in self.members.values()
            if member.phase in (Phase.IDLE, Phase.BUSY) and member.draining is not (not self.works(member))
        ]

    def idle(self, graph_key: str) -> list[Member]:
        """The actors that have nothing to do and this graph loaded, of those that take one thread at a time."""
        return [
            one
            for one in self.members.values()
            if one.phase is Phase.IDLE and one.graph_key == graph_key and not one.shared and self.works(one)
        ]
