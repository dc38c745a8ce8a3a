"""SIGKILL of the owner before and after every call to the store, on real Ray and SQLite.

Every case checks: the final state is that of a run without faults, no task runs again whose result was durable, the
history has no gap and no branch, every message was applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import pytest

from perdure import HeadOptions
from tests.actors.services import eventually, service
from tests.recovery.graphs_forty import SUPERSTEPS
from tests.recovery.sweeping import Case, Sweep, owners_left

SPREAD = 9


@pytest.fixture(scope="module")
def sweep(member: HeadOptions, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    with service(member, tmp_path_factory.mktemp("sweep") / "sweep.db", max_actors=8) as client:
        found = Sweep(client)
        yield found
    eventually(lambda: not owners_left(found.done), what="the end of every process that owned a thread")


@pytest.fixture(scope="module")
def calls(sweep: Sweep) -> int:
    """How many calls a run without faults makes. In it, every task runs once, and those that ask twice."""
    (ran,) = sweep.run([Case([], "sync")])
    assert ran.steps == SUPERSTEPS == 40
    assert ran.attempts == ran.tasks + 2
    assert len(ran.calls) > SUPERSTEPS
    return len(ran.calls)


def spread(calls: int, count: int) -> list[tuple[int, str]]:
    """`count` points, evenly over the calls, before and after by turns."""
    return [(1 + round(i * (calls - 1) / (count - 1)), ("before", "after")[i % 2]) for i in range(count)]


@pytest.mark.timeout(900)
def test_killed_at_a_spread_of_calls(sweep: Sweep, calls: int) -> None:
    points = spread(calls, SPREAD)
    # With async durability commits are grouped as they come, so there are fewer calls and no fixed number of them.
    cases = [
        Case([(number // 2 or 1, act)], "async") if i % 3 == 2 else Case([(number, act)], "sync")
        for i, (number, act) in enumerate(points)
    ]
    ran = sweep.run(cases)
    assert sum(len(one.acted) for one in ran) >= SPREAD - 3


@pytest.mark.timeout(900)
def test_killed_again_while_it_recovers(sweep: Sweep, calls: int) -> None:
    """The second kill falls on the claim, on a read of the restore, or on the next owner's first commit."""
    cases = [Case([(30, "after"), (30 + later, act)], "sync") for later, act in ((1, "after"), (4, "before"))]
    ran = sweep.run(cases)
    assert [len(one.acted) for one in ran] == [2] * len(cases)


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_every_third_call_fails_or_loses_its_answer(sweep: Sweep, calls: int, durability: str) -> None:
    """Whether a commit whose answer was lost is in the store, its owner finds out by itself; nobody else takes over."""
    points = [(number, ("lost", "refused")[number % 2]) for number in range(4, 3 * calls, 3)]
    (ran,) = sweep.run([Case(points, durability)])
    # With async durability many steps may go into one commit: how many calls there are depends on the machine's speed.
    reached = [number for number, _ in points if number <= len(ran.calls)]
    assert len(ran.acted) == len(reached)
    assert len(reached) > (10 if durability == "sync" else 0)
    assert "commit lost" in ran.acted


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_killed_at_every_call(sweep: Sweep, calls: int) -> None:
    cases = [Case([(number, act)], "sync") for number in range(1, calls + 1) for act in ("before", "after")]
    ran = sweep.run(cases)
    assert sum(len(one.acted) for one in ran) >= 2 * calls - 4
    assert {name.split()[0] for name in chain.from_iterable(one.acted for one in ran)} >= {
        "take",
        "segments",
        "thread",
        "commit",
    }


@pytest.mark.full
@pytest.mark.timeout(900)
def test_killed_at_a_wide_spread_of_calls_async(sweep: Sweep) -> None:
    (reference,) = sweep.run([Case([(1 << 30, "never")], "async")])
    cases = [Case([point], "async") for point in spread(len(reference.calls), 60)]
    assert sum(len(one.acted) for one in sweep.run(cases)) >= 45
