"""Several processes on one thread, and processes that die."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

from perdure.saver import PerdureSaver
from perdure.stores.base import CommitResult
from perdure.stores.errors import Fenced, StoreUnavailable
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Commit
from tests.forks import FORKS
from tests.saver import workers
from tests.saver.conftest import url_of
from tests.saver.puts import Run, at, values_at, writes_at

SHARED = ["sqlite", "postgres", "redis", "redis_cluster"]


def worker(what: Callable[..., None], *arguments: Any) -> BaseProcess:
    process = FORKS.Process(target=what, args=arguments)
    process.start()
    return process


def ended(process: BaseProcess) -> int | None:
    """Its exit code, or minus the signal that killed it."""
    process.join(120)
    return process.exitcode


@pytest.mark.parametrize("store", SHARED)
def test_two_processes_write_one_thread(store: str, request: pytest.FixtureRequest) -> None:
    """Nothing is lost and nothing doubled, and each branch reads back as its writer wrote it."""
    url, count = url_of(store, request), 25
    with PerdureSaver(url) as saver:
        root = Run(saver, "shared")
        config = root.put({"log": ["root" * 200], "other": ["kept" * 200]})
        writers = [worker(workers.write, url, name, root.id, count) for name in "AB"]
        assert [ended(each) for each in writers] == [0, 0]
        found = writes_at(saver, config)
        assert sorted(value for _, _, value in found) == sorted(f"{name}{n}" for name in "AB" for n in range(count))
        listed = [*saver.list(at("shared"))]
        assert len(listed) == 2 * count + 1
        for each in listed[:-1]:
            name, number = each.checkpoint["channel_values"]["mine"]
            wanted = ["root" * 200, *(f"{name}{n}" * 50 for n in range(number + 1))]
            assert each.checkpoint["channel_values"]["log"] == wanted
            assert each.checkpoint["channel_values"]["other"] == ["kept" * 200]


def test_a_crash_between_a_checkpoint_and_its_writes(sqlite_url: str) -> None:
    assert ended(worker(workers.die, sqlite_url, "t")) == -signal.SIGKILL
    with PerdureSaver(sqlite_url) as saver:
        (found,) = saver.list(at("t"))
        assert found.checkpoint["channel_values"] == {"log": ["before the crash"]}
        assert found.pending_writes == []
        saver.put_writes(found.config, [("w", 1)], "task")
        run = Run(saver)
        run.go_back(found.config)
        run.put({"log": ["before the crash", "after"]})
        assert writes_at(saver, found.config) == [("task", "w", 1)]


def test_all_that_was_acknowledged_survives_a_kill(sqlite_url: str) -> None:
    ours, theirs = FORKS.Pipe(duplex=False)
    writer = worker(workers.append, sqlite_url, "t", theirs)
    theirs.close()
    said = [ours.recv() for _ in range(40)]
    writer.kill()
    with suppress(EOFError):
        while True:
            said.append(ours.recv())
    assert ended(writer) == -signal.SIGKILL
    with PerdureSaver(sqlite_url) as saver:
        log = values_at(saver, at("t"))["log"]
        assert len(log) >= said[-1] >= 40
        assert log == [f"{number}-" * 100 for number in range(len(log))]
        by_length = {len(each.checkpoint["channel_values"]["log"]): each for each in saver.list(at("t"))}
        for number in range(1, said[-1] + 1):
            assert by_length[number].pending_writes == [("task", "w", number)]


class Flaky(MemoryStore):
    """Fails on order: before a commit, or after it so that only the answer is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "before":
            raise StoreUnavailable("not now")
        results = super().commit(commits)
        if fault == "after":
            raise StoreUnavailable("the answer was lost")
        if fault == "stolen":
            row = self.thread(commits[0].thread_id)
            self.claim(row.thread_id, epoch=row.epoch, token="thief", owner="thief")
        return results


FAULTS = [["before"], ["after"], ["after", "before"], ["before", "after", "after"], ["stolen"], ["after", "stolen"]]


@pytest.mark.parametrize("faults", FAULTS, ids="-".join)
def test_a_call_that_fails_on_the_way_has_the_effect_of_one(faults: list[str]) -> None:
    store = Flaky()
    saver = PerdureSaver(store)
    run = Run(saver)
    wanted: list[Any] = []
    for number in range(8):
        wanted = [*wanted, f"{number}" * 600]
        store.faults = list(faults) if number % 2 else []
        config = run.put({"log": wanted})
        store.faults = list(faults) if number % 3 == 0 else []
        saver.put_writes(config, [("w", number)], "task")
    listed = [*saver.list(at("t"))]
    assert [len(each.checkpoint["channel_values"]["log"]) for each in listed] == list(range(8, 0, -1))
    assert listed[0].checkpoint["channel_values"]["log"] == wanted
    assert [each.pending_writes for each in listed] == [[("task", "w", number)] for number in range(7, -1, -1)]
    thread = store.threads().threads[0]
    assert thread.seq == 16


def test_patience_ends(saver: PerdureSaver) -> None:
    store = Flaky()
    impatient = PerdureSaver(store, patience=timedelta(seconds=0.05))
    run = Run(impatient)
    config = run.put({"a": 1})
    store.faults = ["before"] * 1000
    with pytest.raises(StoreUnavailable):
        impatient.put_writes(config, [("w", 1)], "task")
    store.faults = []
    impatient.put_writes(config, [("w", 2)], "task")
    assert writes_at(impatient, config) == [("task", "w", 2)]


class Robbed(MemoryStore):
    """Somebody else claims the thread before every commit."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        row = self.thread(commits[0].thread_id)
        self.claim(row.thread_id, epoch=row.epoch, token="thief", owner="thief")
        return super().commit(commits)


def test_a_writer_that_never_comes_first_says_so() -> None:
    with pytest.raises(Fenced):
        Run(PerdureSaver(Robbed(), patience=timedelta(seconds=0.2))).put({"a": 1})
