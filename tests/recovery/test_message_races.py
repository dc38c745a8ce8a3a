"""Messages that arrive at the very moment when their thread parks or ends."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from perdure import Cancelled, Client, HeadOptions, Refused, Status, ThreadHandle
from perdure.stores.records import UNDELIVERED
from tests.actors.services import eventually, service
from tests.recovery.checks import check_history
from tests.recovery.graphs_small import rounds, ticks

T = TypeVar("T")

ROUNDS = 60
THREADS = 50


@pytest.fixture(scope="module")
def client(member: HeadOptions, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with service(member, tmp_path_factory.mktemp("races") / "races.db", max_actors=6) as found:
        yield found


def waits(thread: ThreadHandle, count: int) -> tuple[str, ...]:
    """The open questions, once there are so many and the thread is parked at them."""

    def look() -> tuple[str, ...]:
        row = thread.info
        return row.waits if row.status is Status.INTERRUPTED and len(row.waits) == count else ()

    return eventually_quick(look)


def eventually_quick(look: Callable[[], T]) -> T:
    """As `eventually`, but looking all the time: what is measured here takes milliseconds."""
    deadline = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("durability", ["async", "sync"])
def test_an_answer_at_the_moment_of_parking(client: Client, durability: str) -> None:
    """Two questions side by side: the answer to the first wakes the thread, which parks again at the second; the answer
    to that one comes at any moment from before the claim until after the park."""
    thread = client.submit(rounds, {"round": ROUNDS}, durability=durability)
    delay = 0.01
    for number in range(ROUNDS):
        first, second = waits(thread, 2)
        epoch = thread.info.epoch
        thread.resume(f"a {number}", interrupt_id=first)
        time.sleep(delay * (0.9, 0.95, 1.0, 1.05, 1.1)[number % 5])
        thread.resume(f"b {number}", interrupt_id=second)
        # Hunts for the moment of the park: later after an answer that the same owner took, else earlier.
        eventually_quick(lambda: thread.status is Status.SUCCEEDED or len(thread.interrupts) == 2)
        delay = min(delay * 1.1, 0.5) if thread.info.epoch == epoch + 1 else delay / 1.1
    state = thread.result(timeout=60)
    assert state["answers"] == [f"{question} {number}" for number in range(ROUNDS) for question in "ab"]
    segments = check_history(client.store, thread.thread_id)
    messages = client.store.messages(thread.thread_id, unread=False)
    assert len(messages) == 1 + 2 * ROUNDS
    epochs = {seq: segment.epoch for segment in segments for seq in range(segment.first, segment.last + 1)}
    met = Counter(epochs[a.applied] == epochs[b.applied] for a, b in zip(messages[1::2], messages[2::2], strict=True))
    # Both sides of the moment were hit: the owner that took the first answer took the second, or had parked before.
    assert min(met[True], met[False]) >= ROUNDS // 10, met


def start(client: Client, number: int, durability: str) -> tuple[ThreadHandle, float]:
    """A thread of five steps that has just been claimed."""
    thread = client.submit(ticks, {"steps": 5, "seconds": 0.001}, durability=durability)
    eventually_quick(lambda: thread.info.epoch)
    return thread, time.monotonic()


def race(client: Client, act: Callable[[ThreadHandle], None]) -> Iterator[tuple[ThreadHandle, bool]]:
    """Threads to which something was sent at a moment around their end, and whether it was accepted."""
    thread, began = start(client, 0, "async")
    thread.result(timeout=60)
    delays = dict.fromkeys(("async", "sync"), time.monotonic() - began)
    for number in range(THREADS):
        durability = ("async", "sync")[number % 2]
        thread, _ = start(client, number, durability)
        time.sleep(delays[durability] * (0.8, 0.9, 1.0, 1.1, 1.2)[number % 5])
        try:
            act(thread)
            accepted = True
        except Refused:
            accepted = False
        # Hunts for the moment of the end, which a busy machine moves: later after what was accepted, else earlier.
        delays[durability] = min(delays[durability] * 1.2, 2.0) if accepted else delays[durability] / 1.2
        yield thread, accepted
        check_history(client.store, thread.thread_id)


def applied(client: Client, thread: ThreadHandle) -> list[int]:
    """Where each message after the input was applied, once none is unread and nobody owns the thread."""

    def read() -> bool:
        row = thread.info
        return not row.token and not row.status.runnable and not client.store.messages(thread.thread_id)

    eventually(read, 30, "that every message is read")
    found = client.store.messages(thread.thread_id, unread=False)
    assert [message.number for message in found] == list(range(1, len(found) + 1))
    return [message.applied for message in found[1:]]


def test_a_cancel_at_the_end(client: Client) -> None:
    met: Counter[bool] = Counter()
    for thread, accepted in race(client, lambda thread: thread.cancel("enough")):
        met[accepted] += 1
        places = applied(client, thread)
        if accepted:
            assert places[0] > 0
            assert thread.status is Status.CANCELLED
            assert thread.reason == "enough"
            with pytest.raises(Cancelled, match="enough"):
                thread.result(timeout=60)
        else:
            assert places == []
            assert thread.status is Status.SUCCEEDED
    assert min(met[True], met[False]) >= 1, met


def test_a_pause_at_the_end(client: Client) -> None:
    met: Counter[str] = Counter()
    for thread, accepted in race(client, lambda thread: thread.pause("wait")):
        places = applied(client, thread)
        assert all(place > 0 for place in places)
        assert len(places) == accepted
        met[f"{thread.status} {accepted}"] += 1
        if thread.status is Status.PAUSED:
            assert thread.reason == "wait"
            thread.resume()
        assert thread.result(timeout=60)["n"] == 5
    # How many hit each side depends on how busy the machine is; every single one was checked above.
    assert met["paused True"], met
    assert met["succeeded False"], met


def test_a_signal_at_the_end(client: Client) -> None:
    """The thread never asks for it: it is refused, or recorded as undelivered."""
    met: Counter[bool] = Counter()
    for thread, accepted in race(client, lambda thread: thread.signal("go", 1)):
        met[accepted] += 1
        assert applied(client, thread) == ([UNDELIVERED] if accepted else [])
        assert thread.result(timeout=60)["n"] == 5
    assert min(met[True], met[False]) >= 1, met


def test_an_update_at_the_end(client: Client) -> None:
    """An update is taken by a thread that runs and by one that has ended: in any case once."""

    def act(thread: ThreadHandle) -> None:
        thread.update_state({"added": 1})

    for thread, accepted in race(client, act):
        assert accepted
        (place,) = applied(client, thread)
        assert place > 0
        assert thread.get_state().values["added"] == 1
        assert thread.status is Status.SUCCEEDED
        assert thread.get_state().values["n"] == 5


def test_several_at_the_end(client: Client) -> None:
    """Two pauses, then a cancel that overtakes those that were not read: they are recorded as undelivered."""
    met: Counter[int] = Counter()

    def act(thread: ThreadHandle) -> None:
        for reason in ("first", "second"):
            thread.pause(reason)
        thread.cancel("enough")

    for thread, accepted in race(client, act):
        places = applied(client, thread)
        assert all(place > 0 or place == UNDELIVERED for place in places)
        assert thread.status is (Status.CANCELLED if accepted else Status.SUCCEEDED)
        if accepted:
            assert places[-1] > 0
            met.update(places[:-1])
    assert met[UNDELIVERED] > 0, met
