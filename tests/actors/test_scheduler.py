"""Many lives on few OS threads: turns, waking, and neighbours that block."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

from perdure.actors.outbox import Outbox
from perdure.actors.scheduler import Life, Rest, Scheduler
from perdure.runtime.clock import SystemClock
from perdure.runtime.writer import Writer
from perdure.stores.memory import MemoryStore

PATIENCE = 20.0


def scheduler(most: int = 64) -> Scheduler:
    return Scheduler(Writer(MemoryStore(), SystemClock()), most)


@contextmanager
def within(seconds: float = PATIENCE) -> Iterator[Callable[[Callable[[], bool]], None]]:
    deadline = time.monotonic() + seconds

    def until(holds: Callable[[], bool]) -> None:
        while not holds():
            assert time.monotonic() < deadline, "it did not come about"
            time.sleep(0.002)

    yield until


def test_short_turns_need_one_os_thread() -> None:
    turns: list[tuple[int, int]] = []
    ended: list[int] = []
    schedule = scheduler()

    def life(number: int) -> Callable[[Callable[[], None]], Life]:
        def begin(wake: Callable[[], None]) -> Life:
            for turn in range(5):
                turns.append((number, threading.get_ident()))
                wake()
                yield Rest()
                assert turn >= 0
            ended.append(number)

        return begin

    for number in range(50):
        schedule.add(life(number))
    with within() as until:
        until(lambda: len(ended) == 50)
    assert len(turns) == 250
    assert schedule.workers < 10


def test_nobody_waits_for_a_neighbour_that_blocks() -> None:
    release = threading.Event()
    ended: list[str] = []
    schedule = scheduler()

    def blocks(wake: Callable[[], None]) -> Life:
        release.wait(PATIENCE)
        ended.append("blocked")
        yield from ()

    def short(wake: Callable[[], None]) -> Life:
        yield from ()
        ended.append("short")

    for _ in range(20):
        schedule.add(blocks)
    for _ in range(20):
        schedule.add(short)
    with within() as until:
        until(lambda: ended.count("short") == 20)
    assert "blocked" not in ended
    release.set()
    with within() as until:
        until(lambda: ended.count("blocked") == 20)


def test_it_never_has_more_os_threads_than_lives() -> None:
    release = threading.Event()
    inside: list[int] = []
    schedule = scheduler(most=4)

    def blocks(wake: Callable[[], None]) -> Life:
        inside.append(threading.get_ident())
        release.wait(PATIENCE)
        yield from ()

    for _ in range(8):
        schedule.add(blocks)
    with within() as until:
        until(lambda: len(inside) == 4)
    assert schedule.workers == 4
    release.set()
    with within() as until:
        until(lambda: len(inside) == 8)


def test_what_is_posted_during_a_turn_is_not_lost() -> None:
    rounds = 300
    posted: list[int] = []
    seen: list[int] = []
    wakes: list[Callable[[], None]] = []
    schedule = scheduler()

    def life(wake: Callable[[], None]) -> Life:
        wakes.append(wake)
        while len(seen) < rounds:
            while posted:
                seen.append(posted.pop(0))
            yield Rest()

    schedule.add(life)
    with within() as until:
        until(lambda: bool(wakes))
        for number in range(rounds):
            posted.append(number)
            wakes[0]()
        until(lambda: len(seen) == rounds)
    assert seen == list(range(rounds))


def test_a_life_gets_its_turn_when_its_time_has_come() -> None:
    attempts: list[float] = []
    schedule = scheduler()

    def life(wake: Callable[[], None]) -> Life:
        for _ in range(3):
            attempts.append(time.monotonic())
            yield Rest(seconds=0.02)
        attempts.append(time.monotonic())

    schedule.add(life)
    with within() as until:
        until(lambda: len(attempts) == 4)
    assert all(after - before >= 0.02 for before, after in pairwise(attempts))


def test_news_are_kept_until_they_were_heard() -> None:
    box = Outbox[str]()
    box.add("a")
    box.add("b")
    assert box.read(0, 0.0) == (2, ["a", "b"])
    assert box.read(0, 0.0) == (2, ["a", "b"])  # the answer was lost
    assert not box.wait_empty(0.0)
    box.add("c")
    assert box.read(2, 0.0) == (3, ["c"])
    assert box.read(3, 0.0) == (3, [])
    assert box.wait_empty(0.0)
    box.add("d")
    assert box.read(0, 0.0) == (4, ["d"])  # a supervisor that was started anew


def test_a_reader_waits_for_news() -> None:
    box = Outbox[str]()
    heard: list[tuple[int, list[str]]] = []
    reader = threading.Thread(target=lambda: heard.append(box.read(0, PATIENCE)))
    reader.start()
    box.add("a")
    reader.join(PATIENCE)
    assert heard == [(1, ["a"])]
