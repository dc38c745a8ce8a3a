"""Who gets how much of a full pool, over time and over nodes: a pool that is played through without processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

from perdure.actors.line import Line, Waiting
from perdure.actors.members import Dispatch, Phase, Retire, Start
from perdure.actors.roster import Roster
from perdure.actors.sharing import plan

START = 0.5
"""Seconds that a process takes to start."""
RUN = 0.25
"""Seconds that a thread runs."""


class Play:
    """A pool in play: carries out what is planned, in steps of a quarter of a second."""

    def __init__(self, max_actors: int, nodes: Mapping[str, bool] | None = None, spares: int = 0) -> None:
        self.pool = Roster(max_actors=max_actors, spares=spares, idle=30)
        if nodes is not None:
            self.pool.nodes = dict(nodes)
        self.line = Line()
        self.now = 0.0
        self.ended: list[str] = []
        self._until: dict[str, float] = {}
        self._runs: dict[str, str] = {}
        self._number = 0

    def queue(self, graph: str, count: int) -> None:
        for i in range(count):
            self.line.add(Waiting(f"{graph}-{i}", 0, graph))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self._finish()
            self._act()
            assert self.pool.room(self.pool.load()) >= 0
            self.now += RUN

    def places(self) -> Counter[str]:
        return Counter(member.node for member in self.pool.members.values())

    def _finish(self) -> None:
        for name in [name for name, until in self._until.items() if until <= self.now]:
            del self._until[name]
            member = self.pool.members[name]
            if member.phase is Phase.LEAVING:
                self.pool.leave(name)
            elif member.phase is Phase.STARTING:
                self.pool.become(name, Phase.IDLE, self.now)
            else:
                thread_id = self._runs.pop(name)
                self.pool.release(name, thread_id, self.now)
                self.ended.append(thread_id)

    def _act(self) -> None:
        for one in plan(self.pool, self.line, self.now):
            if isinstance(one, Dispatch):
                self.line.remove(one.thread.thread_id)
                self.pool.assign(one.actor, one.thread.thread_id, 1, self.now)
                self._runs[one.actor] = one.thread.thread_id
                self._until[one.actor] = self.now + RUN
            elif isinstance(one, Retire):
                self.pool.become(one.actor, Phase.LEAVING, self.now)
                self._until[one.actor] = self.now + RUN
            else:
                assert isinstance(one, Start)
                self._number += 1
                name = f"m{self._number}"
                self.pool.enter(name, Phase.STARTING, one.graph_key, self.now, one.node)
                self._until[name] = self.now + START


@pytest.mark.parametrize("cap", [1, 2, 3, 8])
def test_a_graph_with_ten_thousand_threads_does_not_starve_another(cap: int) -> None:
    play = Play(cap)
    play.queue("batch", 10_000)
    play.run(10)
    play.queue("late", 3)
    play.run(12)
    assert [name for name in play.ended if name.startswith("late")] == ["late-0", "late-1", "late-2"]
    # And those that came first get on: what the switches cost is small.
    before = len(play.ended)
    play.run(10)
    assert len(play.ended) - before >= 0.8 * cap * 10 / RUN


def test_many_graphs_share_one_actor_in_turns() -> None:
    play = Play(1)
    for graph in "abcdef":
        play.queue(graph, 1000)
    play.run(120)
    share = Counter(name[0] for name in play.ended)
    assert set(share) == set("abcdef")
    assert max(share.values()) <= 2 * min(share.values())


def test_a_full_pool_is_shared_evenly_by_two_graphs() -> None:
    play = Play(4)
    play.queue("a", 10_000)
    play.run(5)
    play.queue("b", 10_000)
    play.run(20)
    assert Counter(member.graph_key for member in play.pool.members.values()) == {"a": 2, "b": 2}


def test_actors_spread_over_the_nodes_each_of_which_has_its_cap() -> None:
    play = Play(2, {"n1": True, "n2": True, "n3": True})
    play.queue("g", 3)
    play.run(1)
    assert play.places() == {"n1": 1, "n2": 1, "n3": 1}
    play.queue("h", 100)
    play.run(5)
    assert play.places() == {"n1": 2, "n2": 2, "n3": 2}


def test_a_drained_node_gets_nothing_and_its_idle_actors_end() -> None:
    play = Play(2, {"n1": True, "n2": True})
    play.queue("g", 8)
    play.run(4)
    assert play.places() == {"n1": 2, "n2": 2}
    play.pool.nodes = {"n1": False, "n2": True}
    play.queue("h", 8)
    play.run(3)
    assert play.places() == {"n2": 2}
    play.pool.closed = True
    play.queue("i", 8)
    play.run(3)
    assert (play.places(), len(play.line) > 0) == (Counter(), True)
    play.pool.closed = False
    play.run(20)
    assert len(play.line) == 0


def test_a_thread_that_keeps_crashing_waits_unless_somebody_asks_for_it() -> None:
    line = Line([Waiting("t", 3, "g", crashed=True, not_before=7.0), Waiting("u", 3, "g")])
    assert (len(line.crashed), line.wants("g"), len(line)) == (0, True, 2)
    line.ripen(6.9)
    assert not line.crashed
    line.ripen(7.0)
    assert [one.thread_id for one in line.crashed] == ["t"]
    line.remove("t")
    line.add(Waiting("t", 4, "g", crashed=True, not_before=9.0))
    line.hasten("t")
    assert [one.thread_id for one in line.crashed] == ["t"]
