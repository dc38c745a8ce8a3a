"""Writes of tasks: in any order with their checkpoints, once each, and for ever."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME

from perdure.runtime.control import decode_control
from perdure.saver import PerdureSaver
from perdure.saver.records import SLACK
from perdure.stores.base import CheckpointStore
from perdure.stores.memory import MemoryStore
from perdure.stores.segments import Kind
from tests.saver.puts import Run, at, new_id, writes_at
from tests.saver.twin import TwinSaver, shown


def test_regular_writes_stay_and_special_ones_are_replaced(any_saver: PerdureSaver) -> None:
    twin = TwinSaver(any_saver)
    config = Run(twin).put({"a": 1})
    for number in range(3):
        twin.put_writes(config, [("a", number), (ERROR, f"error{number}"), ("b", number)], "task", "path")
        twin.put_writes(config, [(INTERRUPT, number), (RESUME, [number])], "other", f"path{number}")
    twin.put_writes(config, [("a", 7), ("b", 8), ("c", 9)], "task", "path")
    twin.get_tuple(config)
    assert len(writes_at(twin, config)) == 6


@pytest.mark.parametrize("seed", range(6))
def test_writes_in_any_order_and_at_any_distance(seed: int) -> None:
    """Early, on time, as stragglers, and long after; checkpoints of several branches; read with and without memory."""
    chance = random.Random(seed)
    twin = TwinSaver(PerdureSaver(MemoryStore()))
    ids = [new_id() for _ in range(30)]
    waiting = list(ids)
    run = Run(twin)
    for number in range(400):
        if waiting and chance.random() < 0.15:
            if chance.random() < 0.2 and len(waiting) < 30:
                run.go_back(at("t", ids[chance.randrange(30 - len(waiting))]))
            run.put({"count": number}, checkpoint_id=waiting.pop(0))
        put = 30 - len(waiting)
        # Mostly near the newest, sometimes far behind it; and a few before their checkpoint is there.
        place = (
            max(0, min(29, put - 1 + round(chance.gauss(-0.5, 1.5)))) if chance.random() < 0.9 else chance.randrange(30)
        )
        twin.put_writes(at("t", ids[place]), [("w", number)], f"task{chance.randrange(40)}", f"{chance.randrange(3)}")
    while waiting:
        run.put({"count": -1}, checkpoint_id=waiting.pop(0))
    for ours in (twin.ours, PerdureSaver(twin.ours.store)):
        twin.ours = ours
        for checkpoint_id in ids:
            twin.get_tuple(at("t", checkpoint_id))
        assert len([*twin.list(at("t"))]) == 30
    for checkpoint_id in ids:
        assert twin.get_delta_channel_history(config=at("t", checkpoint_id), channels=["w", "count"])


def test_a_wide_step_is_saved_from_many_threads(any_url: str) -> None:
    with PerdureSaver(any_url) as saver, ThreadPoolExecutor(12) as pool:
        run = Run(saver)
        config = run.put({"a": 1})
        jobs = [pool.submit(saver.put_writes, config, [("a", n), ("b", [n])], f"task{n:03}") for n in range(60)]
        jobs += [pool.submit(saver.put_writes, config, [("a", -n)], f"task{n:03}", "") for n in range(0, 60, 7)]
        for job in jobs:
            job.result()
        run.put({"a": 2})
        found = writes_at(saver, config)
        assert len(found) == 120
        assert {(task, channel) for task, channel, _ in found} == {(f"task{n:03}", c) for n in range(60) for c in "ab"}


class Counting(MemoryStore):
    """Counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.commits = 0

    def segments(self, thread_id: str, **range_: Any) -> Any:
        self.calls += 1
        return super().segments(thread_id, **range_)

    def thread(self, thread_id: str) -> Any:
        self.calls += 1
        return super().thread(thread_id)

    def commit(self, commits: Any) -> Any:
        self.commits += 1
        return super().commit(commits)

    def asked(self, call: Any) -> int:
        before = self.calls
        call()
        return self.calls - before


def test_what_a_call_asks_of_the_store_does_not_grow_with_the_history() -> None:
    store = Counting()
    saver = PerdureSaver(store)
    run = Run(saver)
    configs = [run.put({"count": number}) for number in range(20)]
    few = store.asked(lambda: saver.get_tuple(at("t")))
    for number in range(600):
        configs.append(run.put({"count": number}))
        saver.put_writes(run.config, [("a", 1)], "task")
    assert store.asked(lambda: saver.get_tuple(at("t"))) == few <= 8
    # A put asks nothing at all: it is one commit.
    commits = store.commits
    assert store.asked(lambda: run.put({"count": 1})) == 0
    assert store.commits == commits + 1
    # One that remembers nothing finds any id by halves.
    assert store.asked(lambda: PerdureSaver(store).get_tuple(configs[77])) < 40


def test_calls_that_wait_for_one_commit_go_together_in_the_next() -> None:
    store = Counting()
    saver = PerdureSaver(store)
    config = Run(saver).put({"a": 1})
    before = store.commits
    thread_id = store.threads().threads[0].thread_id
    lock, waiting = saver._memory.lock(thread_id), saver._memory.queues._waiting
    with ThreadPoolExecutor(8) as pool:
        with lock:
            jobs = [pool.submit(saver.put_writes, config, [("a", n)], f"task{n}") for n in range(8)]
            while len(waiting.get(thread_id, ())) < 8 and not any(job.done() for job in jobs):
                time.sleep(0.001)
    assert store.commits == before + 1
    assert len(writes_at(saver, config)) == 8


def test_one_call_that_fails_does_not_harm_those_beside_it() -> None:
    saver = PerdureSaver(MemoryStore())
    run = Run(saver)
    config = run.put({"a": 1})
    with ThreadPoolExecutor(8) as pool:
        jobs = [
            pool.submit(saver.put_writes, config, [("a", object() if number % 2 else number)], f"task{number}")
            for number in range(20)
        ]
    assert sum(job.exception() is not None for job in jobs) == 10
    assert len(writes_at(saver, config)) == 10


def manifests(store: CheckpointStore) -> list[Any]:
    thread = store.threads().threads[0].thread_id
    rows = [row for segment in store.segments(thread) for row in segment.rows if row.kind == Kind.CHECKPOINT]
    return [decode_control(row.payload, "here") for row in rows]


def test_checkpoints_look_like_the_runtime_s_to_whatever_walks_histories(saver: PerdureSaver) -> None:
    run = Run(saver)
    run.put({"a": 1, "b": 2})
    run.put({"a": 3})
    newest, first = manifests(saver.store)
    assert (first.manifest, newest.manifest) == ({"a": 1, "b": 1}, {"a": 2, "b": 1})
    assert (newest.parent, newest.step, newest.source) == (1, 1, "loop")


def test_stragglers_are_found_without_a_chain_and_latecomers_by_one(saver: PerdureSaver) -> None:
    run = Run(saver)
    first = run.put({"a": 1})
    run.put({"a": 2})
    for number in range(SLACK + 3):
        saver.put_writes(first, [("w", number)], f"task{number:02}")
    for number in range(100):
        saver.put_writes(run.config, [("w", number)], f"task{number:02}")
    theirs = InMemorySaver()
    assert theirs.get_tuple(first) is None
    assert [value for _, _, value in writes_at(PerdureSaver(saver.store), first)] == list(range(SLACK + 3))
    assert shown(next(iter(saver.list(first))))["writes"][-1][2] == SLACK + 2
