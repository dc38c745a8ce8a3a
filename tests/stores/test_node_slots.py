"""The places for connections of a machine: as many as there are, freed by death, and nobody starves."""

from __future__ import annotations

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from perdure.stores.errors import StoreMisuse, StoreUnavailable
from perdure.stores.node_slots import RUNTIME_VARIABLE, NodeSlots
from tests.stores import postgres_workers

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(RUNTIME_VARIABLE, str(tmp_path / "runtime"))
    return tmp_path / "runtime"


def test_there_are_as_many_as_there_are() -> None:
    one, other = NodeSlots("server", 3), NodeSlots("server", 3)
    held = [one.take(1), other.take(1), one.take(1)]
    with pytest.raises(StoreUnavailable, match=r"all 3 connections.*connections_per_node"):
        other.take(0.05)
    NodeSlots("another server", 3).take(1).release()
    held[1].release()
    held[1].release()
    other.take(1).release()


def test_what_a_dead_process_held_is_free() -> None:
    ours, theirs = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=postgres_workers.hold_slots, args=("server", 2, theirs))
    process.start()
    slots = NodeSlots("server", 2)
    try:
        assert ours.poll(60)
        assert ours.recv() == 2
        with pytest.raises(StoreUnavailable):
            slots.take(0.05)
    finally:
        process.kill()
        process.join()
    slots.take(5).release()


def test_who_stopped_waiting_or_died_in_line_holds_nobody_up(folder: Path) -> None:
    slots = NodeSlots("server", 1)
    slots.take(1).release()
    (line,) = folder.glob("*/line")
    now = time.monotonic()
    # One of a process that is gone, one of a process that is stopped beyond its own time, and none of ours at all.
    for name in (f"{now - 9:020.6f}_{now + 99:020.6f}_1_1", f"{now - 9:020.6f}_{now - 1:020.6f}_1_1", "nonsense"):
        (line / name).touch()
    slots.take(5).release()
    stop = threading.Event()
    held = slots.take(5)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(slots.take, 60, stop)
        stop.set()
        with pytest.raises(StoreUnavailable):
            waiting.result(30)
    held.release()


def test_they_are_given_in_order_of_arrival() -> None:
    slots = NodeSlots("server", 1)
    held = slots.take(1)
    order: list[int] = []

    def wait(number: int) -> None:
        slot = slots.take(60)
        order.append(number)
        slot.release()

    with ThreadPoolExecutor(5) as pool:
        calls = []
        for number in range(5):
            calls.append(pool.submit(wait, number))
            while len(slots._waiting()) <= number:
                time.sleep(0.001)
        held.release()
        for call in calls:
            call.result(60)
    assert order == [0, 1, 2, 3, 4]


def test_nobody_starves_among_more_than_there_are_places() -> None:
    """Each keeps its place for as long as it may: those who wait have to be let in all the same."""
    end = threading.Event()

    def work() -> int:
        slots, turns = NodeSlots("server", 2, tenure=0.1), 0
        while not end.is_set():
            slot = slots.take(60)
            turns += 1
            while not slots.wanted(slot) and not end.is_set():
                end.wait(0.01)
            slot.release()
        return turns

    with ThreadPoolExecutor(6) as pool:
        workers = [pool.submit(work) for _ in range(6)]
        threading.Timer(3, end.set).start()
        turns = [worker.result(60) for worker in workers]
    assert min(turns) >= 2
    assert max(turns) <= 2 * min(turns) + 1


def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(RUNTIME_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(StoreMisuse, match=RUNTIME_VARIABLE):
        NodeSlots("server", 1)
    with pytest.raises(StoreMisuse, match="at least 1"):
        NodeSlots("server", 0)
