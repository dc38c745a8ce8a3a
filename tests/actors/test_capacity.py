"""Seats in actors that many threads share: who gets which, what is started and ended, who is charged for a crash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from perdure.actors.capacity import plan_shared
from perdure.actors.charging import charged, shares
from perdure.actors.line import Line, Waiting
from perdure.actors.members import Decision, Dispatch, Phase, Retire, Start
from perdure.actors.names import is_shared, new_owner, owner_prefix
from perdure.actors.roster import Roster
from perdure.actors.sharing import plan
from perdure.stores.records import ThreadRecord

IDLE, BUSY, STARTING, LEAVING = Phase.IDLE, Phase.BUSY, Phase.STARTING, Phase.LEAVING


class Pool:
    """A roster whose actors have short names here and real ones there."""

    def __init__(self, *, seats: int = 3, shared_actors: int = 2, max_actors: int = 8, idle: float = 30.0) -> None:
        self.roster = Roster(max_actors=max_actors, spares=0, idle=idle, shared_actors=shared_actors, seats=seats)
        self.line = Line()
        self.names: dict[str, str] = {}

    def actor(self, name: str, graph: str = "g", phase: Phase = IDLE, threads: int = 0, *, shared: bool = True) -> None:
        self.names[name] = real = new_owner("key", shared=shared)
        self.roster.enter(real, phase, graph, 0.0)
        for number in range(threads):
            self.roster.assign(real, f"{name}-{number}", 1, 0.0)

    def wait(self, count: int, graph: str = "g") -> None:
        for number in range(count):
            self.line.add(Waiting(f"{graph}{number}", 0, graph, shared=True))

    def plan(self, now: float = 10.0) -> Sequence[Decision]:
        return plan_shared(self.roster, self.line, now)

    def given(self, decisions: Sequence[Decision]) -> Counter[str]:
        short = {real: name for name, real in self.names.items()}
        return Counter(short[one.actor] for one in decisions if isinstance(one, Dispatch))

    def retired(self, decisions: Sequence[Decision]) -> list[str]:
        short = {real: name for name, real in self.names.items()}
        return [short[one.actor] for one in decisions if isinstance(one, Retire)]


def started(decisions: Sequence[Decision]) -> list[str]:
    assert all(one.shared for one in decisions if isinstance(one, Start))
    return [one.graph_key for one in decisions if isinstance(one, Start)]


def test_threads_get_seats_where_most_are_free() -> None:
    pool = Pool(seats=4)
    pool.actor("a", threads=3)
    pool.actor("b", threads=1)
    pool.actor("c", "other")
    pool.wait(2)
    todo = pool.plan()
    assert pool.given(todo) == {"b": 2}
    assert [one.thread.thread_id for one in todo if isinstance(one, Dispatch)] == ["g0", "g1"]
    assert not started(todo)


def test_threads_that_were_asked_for_take_seats_too() -> None:
    pool = Pool(seats=2)
    pool.actor("a")
    pool.roster.ask(pool.names["a"], "x", 0.0)
    pool.wait(2)
    assert pool.given(pool.plan()) == {"a": 1}
    pool.roster.refused(pool.names["a"], "x", 0.0)
    assert pool.given(pool.plan()) == {"a": 2}
    assert pool.roster.members[pool.names["a"]].phase is IDLE


def test_what_is_missing_is_started_up_to_the_cap() -> None:
    pool = Pool(seats=3, shared_actors=4)
    pool.actor("a", threads=2)
    pool.actor("b", phase=STARTING)
    pool.wait(1 + 3 + 4)
    assert started(pool.plan()) == ["g", "g"]
    pool.wait(100)
    assert started(pool.plan()) == ["g", "g"]


def test_a_node_starts_as_many_at_once_as_it_has_cpus() -> None:
    """Four processes that start on two CPUs are all there when two would have been through."""
    pool = Pool(seats=3, shared_actors=4)
    pool.roster.nodes, pool.roster.cpus = {"one": True, "two": True, "full": False}, {"one": 2, "two": 1, "full": 8}
    pool.wait(100)
    assert Counter(one.node for one in pool.plan() if isinstance(one, Start)) == {"one": 2, "two": 1}
    pool.actor("a", phase=STARTING)
    pool.roster.place(pool.names["a"], "one")
    assert Counter(one.node for one in pool.plan() if isinstance(one, Start)) == {"one": 1, "two": 1}
    pool.roster.become(pool.names["a"], IDLE, 1.0)
    assert Counter(one.node for one in pool.plan() if isinstance(one, Start)) == {"one": 2, "two": 1}


def test_more_are_started_only_once_those_that_are_there_have_been_at_work_for_a_while() -> None:
    pool = Pool(seats=3, shared_actors=4)
    pool.actor("a", threads=3)
    pool.actor("b", "other", threads=3)
    pool.wait(1)
    assert started(pool.plan(0.9)) == []
    assert started(pool.plan(1.0)) == ["g"]
    # One that takes no more, and one that begins with another graph's threads, are no reason to wait.
    pool.roster.members[pool.names["a"]].closed = True
    assert started(pool.plan(0.9)) == ["g"]


def test_a_place_is_left_for_those_that_share_nothing() -> None:
    pool = Pool(seats=1, shared_actors=8, max_actors=3)
    pool.wait(5)
    assert started(pool.plan()) == ["g", "g"]


def test_a_graph_without_a_seat_gets_the_actor_of_another() -> None:
    pool = Pool(seats=1)
    pool.actor("a", threads=1)
    pool.actor("b", threads=1)
    pool.wait(4, "g")
    pool.wait(1, "h")
    assert pool.plan() == []
    closed = [member for member in pool.roster.members.values() if member.closed]
    assert len(closed) == 1
    # Its thread ends: nothing is given to it, it goes, and the other graph gets one of its own.
    pool.roster.release(closed[0].name, next(iter(closed[0].threads)), 11.0)
    todo = pool.plan(11.0)
    assert [one.actor for one in todo if isinstance(one, Retire)] == [closed[0].name]
    assert not pool.given(todo)
    pool.roster.become(closed[0].name, LEAVING, 11.0)
    assert pool.plan(11.0) == []
    pool.roster.leave(closed[0].name)
    assert started(pool.plan(11.1)) == ["h"]


def test_actors_of_graphs_without_threads_make_way_for_what_is_missing() -> None:
    """As many as are needed, the one that is longest without a thread first, and none that has only begun."""
    pool = Pool(seats=3, shared_actors=4)
    pool.actor("a", threads=3)
    for name, since in (("old", 1.0), ("older", 0.0), ("new", 9.5)):
        pool.actor(name, "before")
        pool.roster.members[pool.names[name]].since = since
    pool.wait(3)
    todo = pool.plan()
    assert pool.retired(todo) == ["older"]
    assert not started(todo)
    # One is enough, as long as it takes to go: all warm actors of all graphs were ended within that time.
    pool.roster.become(pool.names["older"], LEAVING, 10.0)
    assert pool.plan(10.01) == []
    pool.roster.leave(pool.names["older"])
    pool.wait(100)
    todo = pool.plan()
    assert (pool.retired(todo), started(todo)) == (["old"], ["g"])
    pool.line.add(Waiting("x", 0, "before", shared=True))
    pool.roster.leave(pool.names["old"])
    assert pool.retired(pool.plan(20.0)) == []


def test_one_closed_actor_at_a_time_and_none_that_has_only_begun() -> None:
    pool = Pool(seats=1)
    pool.actor("a", "g", threads=1)
    pool.actor("b", "h", threads=1)
    pool.wait(2, "i")
    pool.wait(2, "j")
    pool.plan(0.5)
    assert not any(member.closed for member in pool.roster.members.values())
    pool.plan(5.0)
    pool.plan(5.0)
    assert sum(member.closed for member in pool.roster.members.values()) == 1


def test_actors_without_threads_end_after_a_while() -> None:
    pool = Pool(idle=5.0)
    pool.actor("a")
    pool.actor("b", threads=1)
    assert pool.plan(4.0) == []
    assert pool.retired(pool.plan(6.0)) == ["a"]
    pool.wait(1)
    assert pool.retired(pool.plan(6.0)) == []


def test_where_the_others_have_all_places_an_idle_one_of_them_is_ended() -> None:
    pool = Pool(max_actors=2)
    pool.actor("a", shared=False)
    pool.actor("b", shared=False, threads=1)
    pool.wait(1)
    assert pool.retired(pool.plan()) == ["a"]


def test_the_two_kinds_of_actors_are_pools_of_their_own() -> None:
    pool = Pool()
    pool.actor("shared")
    pool.actor("own", shared=False)
    line = Line([Waiting("t", 0, "g")])
    assert pool.given(plan(pool.roster, line, 1.0)) == {"own": 1}
    pool.wait(2)
    assert pool.given(pool.plan()) == {"shared": 2}


def test_nothing_is_given_by_a_service_that_is_drained() -> None:
    pool = Pool()
    pool.actor("a")
    pool.wait(2)
    pool.roster.closed = True
    assert pool.retired(pool.plan()) == ["a"]
    assert not pool.given(pool.plan())


@pytest.mark.parametrize(
    ("isolation", "crashes", "owner", "died", "expected"),
    [
        ("thread", 0, "", False, (False, False)),
        ("thread", 0, "own", True, (True, False)),
        ("shared", 0, "", False, (False, True)),
        # One of many ended it: nobody is charged, and each runs alone.
        ("shared", 0, "shared", True, (False, False)),
        # It did it alone: charged, and it stays alone as long as that counts.
        ("shared", 0, "own", True, (True, False)),
        ("shared", 1, "", False, (False, False)),
        # Its owner gave it up, or is of another session of the cluster.
        ("shared", 0, "shared", False, (False, True)),
    ],
)
def test_only_a_crash_alone_is_charged(
    isolation: str, crashes: int, owner: str, died: bool, expected: tuple[bool, bool]
) -> None:
    name = new_owner("key", shared=owner == "shared") if owner else ""
    row = ThreadRecord(
        thread_id="t", graph="g", version="1", isolation=isolation, crashes=crashes, owner=name, token=owner and "k"
    )
    assert (charged(row, died=died), shares(row, died=died)) == expected


def test_names_tell_whether_an_actor_is_shared() -> None:
    for shared in (False, True):
        name = new_owner("key", shared=shared)
        assert name.startswith(owner_prefix("key"))
        assert is_shared(name) is shared
    assert not is_shared("")
