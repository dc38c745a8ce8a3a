"""How many tasks a Ray task carries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perdure.actors.grouping import LARGEST, TARGET_SECONDS, NodeTimes


def known(seconds: float) -> NodeTimes:
    times = NodeTimes()
    times.learn("n", seconds)
    return times


def test_tasks_go_alone_until_their_time_is_known() -> None:
    assert NodeTimes().group_size("n", 1000, 4) == 1
    assert known(0.0).group_size("another", 1000, 4) == 1


def test_tiny_tasks_share_and_long_ones_go_alone() -> None:
    assert known(0.0).group_size("n", 10_000, 4) == LARGEST
    assert known(TARGET_SECONDS / 10).group_size("n", 10_000, 4) == 10
    assert known(TARGET_SECONDS).group_size("n", 10_000, 4) == 1
    assert known(60.0).group_size("n", 10_000, 4) == 1


def test_no_slot_goes_empty_for_the_sake_of_a_group() -> None:
    assert known(0.0).group_size("n", 8, 4) == 2
    assert known(0.0).group_size("n", 9, 4) == 3
    assert known(0.0).group_size("n", 3, 4) == 1


def test_the_mean_follows_a_node_that_becomes_slower() -> None:
    times = known(0.0001)
    before = times.group_size("n", 10_000, 4)
    for _ in range(20):
        times.learn("n", 0.01)
    assert times.group_size("n", 10_000, 4) < before
    assert times.group_size("n", 10_000, 4) in (4, 5)


@given(st.floats(0, 100), st.integers(1, 5000), st.integers(0, 64))
def test_a_group_is_never_empty_nor_larger_than_what_waits(seconds: float, waiting: int, slots: int) -> None:
    assert 1 <= known(seconds).group_size("n", waiting, slots) <= min(waiting, LARGEST)
