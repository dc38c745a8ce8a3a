"""The pool's bookkeeping: who gets which actor, what is started, what is ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hypothesis import given
from hypothesis import strategies as st

from perdure.actors.line import Line, Waiting
from perdure.actors.members import Decision, Dispatch, Phase, Retire, Start
from perdure.actors.roster import AVOIDED, Roster
from perdure.actors.sharing import SLICE, plan


def roster(members: dict[str, tuple[Phase, str]], *, max_actors: int = 8, spares: int = 0, idle: float = 30) -> Roster:
    found = Roster(max_actors=max_actors, spares=spares, idle=idle)
    for name, (phase, graph) in members.items():
        found.enter(name, phase, graph, 0.0)
    return found


def thread(name: str, graph: str = "g", *, crashed: bool = False) -> Waiting:
    return Waiting(name, 0, graph, crashed)


def planned(
    pool: Roster, waiting: Sequence[Waiting] | Line, now: float, expected: Collection[str] = ()
) -> list[Decision]:
    return plan(pool, waiting if isinstance(waiting, Line) else Line(waiting), now, expected)


def given_to(decisions: Sequence[Decision]) -> dict[str, str]:
    return {one.thread.thread_id: one.actor for one in decisions if isinstance(one, Dispatch)}


def started(decisions: Sequence[Decision]) -> list[str]:
    return [one.graph_key for one in decisions if isinstance(one, Start)]


def retired(decisions: Sequence[Decision]) -> list[str]:
    return [one.actor for one in decisions if isinstance(one, Retire)]


IDLE, BUSY, STARTING, LEAVING, SILENT = Phase.IDLE, Phase.BUSY, Phase.STARTING, Phase.LEAVING, Phase.SILENT


def test_threads_get_idle_actors_of_their_graph_in_order() -> None:
    pool = roster({"a": (IDLE, "g"), "b": (IDLE, "h"), "c": (IDLE, "g"), "d": (BUSY, "g")})
    todo = planned(pool, [thread("1"), thread("2"), thread("3", "h")], 1.0)
    assert given_to(todo) == {"1": "a", "2": "c", "3": "b"}
    assert started(todo) == []


def test_what_is_missing_is_started_up_to_the_cap() -> None:
    pool = roster({"a": (BUSY, "g")}, max_actors=3)
    assert started(planned(pool, [thread(str(i)) for i in range(5)], 1.0)) == ["g", "g"]


def test_a_node_that_takes_nothing_is_avoided_for_a_while_if_there_are_others() -> None:
    pool = roster({})
    pool.nodes = {"a": True, "b": True, "c": False}
    pool.enter("there", BUSY, "g", 0.0, "b")
    pool.avoid("a", 5.0)
    assert [one.node for one in planned(pool, [thread("1"), thread("2")], 5.0) if isinstance(one, Start)] == ["b", "b"]
    pool.avoid("b", 9.0)
    assert pool.open_nodes == ["a", "b"]
    pool.forgive(5.0 + AVOIDED)
    assert pool.open_nodes == ["a"]
    pool.forgive(9.0 + AVOIDED)
    assert pool.open_nodes == ["a", "b"]


def test_an_actor_that_is_starting_is_not_started_twice() -> None:
    pool = roster({"a": (STARTING, "g")})
    assert planned(pool, [thread("1")], 1.0) == []
    assert started(planned(pool, [thread("1"), thread("2")], 1.0)) == ["g"]


def test_spares_are_kept_for_graphs_in_use_only() -> None:
    pool = roster({"a": (BUSY, "g"), "b": (IDLE, "h")}, spares=2)
    assert started(planned(pool, [], 1.0)) == ["g", "g"]
    pool = roster({"a": (BUSY, "g"), "b": (IDLE, "g"), "c": (STARTING, "g")}, spares=2)
    assert planned(pool, [], 1.0) == []


def test_spares_never_take_the_place_of_a_thread() -> None:
    pool = roster({"a": (BUSY, "g")}, max_actors=3, spares=2)
    assert started(planned(pool, [thread("1", "h"), thread("2", "h")], 1.0)) == ["h", "h"]


def test_a_full_pool_gives_up_one_idle_actor_for_one_thread() -> None:
    pool = roster({"a": (IDLE, "g"), "b": (IDLE, "g"), "c": (BUSY, "g")}, max_actors=3)
    assert retired(planned(pool, [thread("1", "h")], 1.0)) == ["a"]
    pool.become("a", LEAVING, 1.0)
    # One is on its way out for it: no second one.
    assert planned(pool, [thread("1", "h")], 1.1) == []
    pool.leave("a")
    assert started(planned(pool, [thread("1", "h")], 1.2)) == ["h"]


def test_a_graph_with_many_threads_does_not_keep_the_others_waiting() -> None:
    """The pool used to serve one graph to its end: a thread of another one starved behind a batch that came later."""
    pool = roster({"a": (BUSY, "batch"), "b": (IDLE, "batch")}, max_actors=2)
    queue = [thread("early", "other"), *(thread(f"batch-{i}", "batch") for i in range(100))]
    assert given_to(planned(pool, queue, SLICE / 2)) == {"batch-0": "b"}, "an actor that was just started works first"
    todo = planned(pool, queue, 2.0)
    assert retired(todo) == ["b"]
    assert given_to(todo) == {}
    pool.leave("b")
    assert started(planned(pool, queue, 2.0)) == ["other"]


def test_the_idle_actor_that_nothing_waits_for_is_given_up_first() -> None:
    pool = roster({"a": (IDLE, "wanted"), "b": (IDLE, "unused")}, max_actors=2)
    todo = planned(pool, [thread("1", "new"), thread("2", "wanted")], 1.0)
    assert retired(todo) == ["b"]
    assert given_to(todo) == {"2": "a"}


def test_a_thread_whose_owner_crashed_goes_first() -> None:
    pool = roster({"a": (IDLE, "g")}, max_actors=1)
    assert given_to(planned(pool, [thread("1"), thread("2", crashed=True)], 1.0)) == {"2": "a"}


def test_idle_actors_end_after_a_while_and_spares_stay_as_long_as_their_graph_is_in_use() -> None:
    pool = roster({"a": (BUSY, "g"), "b": (IDLE, "g"), "c": (IDLE, "g"), "d": (IDLE, "h")}, spares=1, idle=30)
    assert retired(planned(pool, [], 29.0)) == []
    assert sorted(retired(planned(pool, [], 31.0))) == ["c", "d"]
    pool.become("a", IDLE, 31.0)
    assert sorted(retired(planned(pool, [], 31.5))) == ["b", "c", "d"]
    assert "a" in retired(planned(pool, [], 62.0))


def test_silent_and_leaving_actors_hold_their_place_and_get_nothing() -> None:
    pool = roster({"a": (SILENT, "g"), "b": (LEAVING, "g")}, max_actors=2)
    assert planned(pool, [thread("1")], 1.0) == []


def test_an_actor_is_busy_as_long_as_it_hosts_anything() -> None:
    pool = roster({"a": (IDLE, "g")})
    pool.assign("a", "1", 4, 1.0)
    pool.assign("a", "2", 7, 1.0)
    assert pool.host_of("2") is pool.members["a"]
    pool.release("a", "1", 2.0)
    assert pool.members["a"].phase is BUSY
    pool.release("a", "2", 3.0)
    assert (pool.members["a"].phase, pool.members["a"].since) == (IDLE, 3.0)
    assert pool.host_of("2") is None
    gone = pool.leave("a")
    assert gone is not None
    assert gone.threads == {}
    pool.assign("a", "3", 1, 4.0)
    pool.release("a", "3", 4.0)
    assert pool.members == {}


PHASES = st.sampled_from(list(Phase))
GRAPHS = st.sampled_from("ghi")


@given(
    st.lists(st.tuples(PHASES, GRAPHS), max_size=8),
    st.lists(st.tuples(GRAPHS, st.booleans()), max_size=12),
    st.integers(1, 8),
    st.integers(0, 3),
    st.floats(0, 100),
)
def test_no_plan_breaks_the_cap_or_uses_an_actor_twice(
    members: list[tuple[Phase, str]], queue: list[tuple[str, bool]], cap: int, spares: int, now: float
) -> None:
    pool = roster({f"m{i}": each for i, each in enumerate(members[:cap])}, max_actors=cap, spares=spares)
    waiting = [thread(f"t{i}", graph, crashed=crashed) for i, (graph, crashed) in enumerate(queue)]
    todo = planned(pool, waiting, now)
    assert len(pool.members) + len(started(todo)) <= cap
    touched = [*given_to(todo).values(), *retired(todo)]
    assert len(touched) == len(set(touched))
    assert all(pool.members[name].phase is IDLE for name in touched)
    for one in todo:
        if isinstance(one, Dispatch):
            assert pool.members[one.actor].graph_key == one.thread.graph_key
    # Nobody who could be served is left out: an idle actor that stays has no thread of its graph waiting.
    served = set(given_to(todo))
    left = {one.graph_key for one in waiting if one.thread_id not in served}
    stay = {member.graph_key for name, member in pool.members.items() if member.phase is IDLE and name not in touched}
    assert not left & stay


def test_a_spare_is_made_ready_for_a_thread_that_is_about_to_wake() -> None:
    pool = roster({"a": (BUSY, "g")}, spares=1)
    assert started(planned(pool, [], 1.0, ["sleepy"])) == ["g", "sleepy"]
    pool = roster({"a": (IDLE, "sleepy")}, spares=1, idle=30)
    assert planned(pool, [], 60.0, ["sleepy"]) == []


def test_a_thread_gets_the_actor_that_has_read_it_already() -> None:
    pool = roster({"a": (IDLE, "g"), "b": (IDLE, "g"), "c": (IDLE, "h")})
    assert given_to(planned(pool, [Waiting("1", 0, "g", near="b"), thread("2")], 1.0)) == {"1": "b", "2": "a"}
    assert given_to(planned(pool, [Waiting("1", 0, "g", near="gone")], 1.0)) == {"1": "a"}
