"""How long a thread whose process keeps dying waits."""

from __future__ import annotations

from itertools import pairwise

from perdure.actors.backoff import restart_delay


def test_the_first_restart_comes_at_once_and_the_next_ones_later_and_later() -> None:
    delays = [restart_delay(crashes, budget=100) for crashes in range(1, 12)]
    assert delays[0] == 0.0
    assert 0.5 <= delays[1] <= 0.6
    assert all(later >= 1.5 * sooner for sooner, later in pairwise(delays[1:7]))
    assert delays[-1] <= 30.1


def test_what_only_pauses_the_thread_comes_at_once() -> None:
    assert restart_delay(3, budget=3) == 0.0
    assert restart_delay(2, budget=3) > 0.0
