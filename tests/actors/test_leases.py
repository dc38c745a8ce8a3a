"""LeaseWatch and LeaseKeeper, without a cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

from perdure.actors.lease import RENEWALS, LeaseKeeper, LeaseWatch
from perdure.stores.errors import StoreUnavailable
from perdure.stores.memory import MemoryStore
from perdure.stores.records import OwnerRecord


def lease(owner: str, counter: int) -> OwnerRecord:
    return OwnerRecord(owner=owner, counter=counter, host="h", pid=1, started=1)


def names(expired: list[OwnerRecord]) -> list[str]:
    return [one.owner for one in expired]


def watch(seconds: float = 30, gap: float = 10) -> LeaseWatch:
    return LeaseWatch(timedelta(seconds=seconds), timedelta(seconds=gap))


def test_a_lease_expires_when_its_counter_stood_still_for_its_whole_length() -> None:
    eyes = watch()
    for now in range(0, 30, 5):
        assert eyes.look(now, [lease("still", 7), lease("moves", now)]) == []
    assert names(eyes.look(30, [lease("still", 7), lease("moves", 30)])) == ["still"]
    # It is told of as long as it is there.
    assert names(eyes.look(35, [lease("still", 7)])) == ["still"]
    assert eyes.look(40, []) == []


def test_one_renewal_begins_the_time_anew() -> None:
    eyes = watch()
    for now in range(0, 30, 5):
        eyes.look(now, [lease("late", 1)])
    assert eyes.look(30, [lease("late", 2)]) == []
    for now in range(35, 60, 5):
        assert eyes.look(now, [lease("late", 2)]) == []
    assert names(eyes.look(60, [lease("late", 2)])) == ["late"]


def test_a_counter_that_falls_is_a_new_process_of_that_name() -> None:
    eyes = watch()
    for now in range(0, 30, 5):
        eyes.look(now, [lease("again", 9)])
    assert eyes.look(30, [lease("again", 1)]) == []


def test_the_time_of_an_outage_counts_against_nobody() -> None:
    eyes = watch()
    eyes.look(0, [lease("a", 1)])
    eyes.look(10, [lease("a", 1)])
    eyes.outage()
    assert eyes.look(1000, [lease("a", 1)]) == []
    assert eyes.look(1010, [lease("a", 1)]) == []
    assert names(eyes.look(1020, [lease("a", 1)])) == ["a"]


def test_a_supervisor_that_was_stopped_itself_does_not_blame_the_owners() -> None:
    eyes = watch()
    eyes.look(0, [lease("a", 1)])
    # An hour passed, of which it saw at most ten seconds.
    assert eyes.look(3600, [lease("a", 1)]) == []
    assert eyes.look(3605, [lease("a", 1)]) == []
    assert eyes.look(3615, [lease("a", 1)]) == []
    assert names(eyes.look(3620, [lease("a", 1)])) == ["a"]


def test_a_lease_that_was_away_is_a_new_one() -> None:
    eyes = watch()
    for now in range(0, 30, 5):
        eyes.look(now, [lease("a", 1)])
    eyes.look(30, [])
    assert eyes.look(35, [lease("a", 1)]) == []


class Moody(MemoryStore):
    """Refuses to renew while it is away."""

    away = False

    def renew(self, lease: OwnerRecord) -> None:
        if self.away:
            raise StoreUnavailable("away")
        super().renew(lease)


def soon(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_keeper_renews_closes_its_gate_during_an_outage_and_opens_it_again() -> None:
    store = Moody()
    opened: list[bool] = []
    hosted: list[tuple[str, int]] = []
    period = 0.02
    keeper = LeaseKeeper(store, lease("me", 0), timedelta(seconds=period * RENEWALS), lambda: tuple(hosted))
    keeper.start(lambda: opened.append(True))
    assert store.owners()[0].counter == 1
    hosted.append(("t", 4))
    soon(lambda: store.owners()[0].threads == (("t", 4),))
    soon(lambda: store.owners()[0].counter > 3)
    soon(lambda: keeper.gate.open)
    store.away = True
    soon(lambda: not keeper.gate.open)
    # A machine that stalled may have closed it before.
    opened.clear()
    store.away = False
    soon(lambda: keeper.gate.open)
    soon(lambda: bool(opened))
    keeper.stop()
    assert store.owners() == ()
    time.sleep(3 * period)
    assert store.owners() == ()


class Silent(MemoryStore):
    """Answers no renewal while it is frozen, not even with an error."""

    def __init__(self) -> None:
        super().__init__()
        self.goes = threading.Event()
        self.goes.set()

    def renew(self, lease: OwnerRecord) -> None:
        assert self.goes.wait(30)
        super().renew(lease)


def test_a_renewal_that_is_never_answered_closes_the_gate_too() -> None:
    """A frozen server once left the gate open: the renewal hung, and what hangs does not fail."""
    store = Silent()
    keeper = LeaseKeeper(store, lease("me", 0), timedelta(seconds=0.12), lambda: ())
    opened = threading.Event()
    keeper.start(opened.set)
    store.goes.clear()
    soon(lambda: not keeper.gate.open)
    opened.clear()
    store.goes.set()
    soon(lambda: keeper.gate.open)
    assert opened.wait(5)
    keeper.stop()
