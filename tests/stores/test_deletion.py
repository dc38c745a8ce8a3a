"""A thread with forks is deleted: whoever dies or works beside it, every history that is left reads as before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from perdure.stores.base import CheckpointStore
from perdure.stores.copying import StoreSource, copy_store
from perdure.stores.deletion import delete_thread, deletion
from perdure.stores.errors import Refused, UnknownThread
from perdure.stores.history import HistoryReader
from perdure.stores.memory import MemoryStore
from perdure.stores.records import Origin, Retention, Segment, Status, ThreadRecord
from perdure.stores.verifying import verify_store
from tests.sim.faults import Delegating, Died
from tests.stores.backends import Backend, commit, new_thread, owned
from tests.stores.histories import MEANING, tidied
from tests.stores.test_retention import appended, step

FORKS = {"a": 70, "b": 30, "c": 4}
"""Where each took off from t."""


class Dying(Delegating):
    """Ends the process before or after its n-th call that changes something."""

    def __init__(self, inner: CheckpointStore, calls: int, *, after: bool) -> None:
        super().__init__(inner)
        self.left = calls
        self.after = after

    def graft(self, fork: ThreadRecord, segments: Any) -> bool:
        return bool(self._maybe(lambda: self.inner.graft(fork, segments)))

    def adopt(self, fork: ThreadRecord, origin: ThreadRecord) -> bool:
        return bool(self._maybe(lambda: self.inner.adopt(fork, origin)))

    def delete(self, thread_id: str, *, seen: ThreadRecord | None = None) -> None:
        self._maybe(lambda: self.inner.delete(thread_id, seen=seen))

    def _maybe(self, call: Callable[[], Any]) -> Any:
        self.left -= 1
        if not self.left and not self.after:
            raise Died
        answer = call()
        if not self.left:
            raise Died
        return answer


def branched(store: CheckpointStore, count: int = 75) -> None:
    """t, which has ended, and its forks; each goes on by two commits, and d was forked from a."""
    appended(store, count)
    for name, seq in FORKS.items():
        branch(store, name, "t", seq)
    branch(store, "d", "a", FORKS["a"] + 1)
    ended(store, "t")


def branch(store: CheckpointStore, name: str, origin: str, seq: int) -> None:
    owned(store, name, origin=Origin(thread_id=origin, seq=seq), seq=seq, head=seq, created_at=2.0)
    store.commit([step(seq + 1, thread_id=name), step(seq + 2, thread_id=name)])


def ended(store: CheckpointStore, name: str) -> None:
    seq = store.thread(name).seq + 1
    store.commit([commit(seq, thread_id=name, rows=(), status=Status.SUCCEEDED, release=True)])


def check(store: CheckpointStore, name: str, *, whole: bool = True) -> None:
    """The newest state of a thread, and that where its origin was, reads as it was written."""
    row = store.thread(name)
    reader = HistoryReader(store, name)
    for seq in (row.head, FORKS.get(name, row.head)) if whole else (row.head,):
        reader.checkpoint(seq)
        chains = reader.channels({"log": seq, "x": seq}, at=seq)
        assert [one.version for one in chains["log"]] == list(range(1, seq + 1)), (name, seq)
        assert [(one.version, one.payload) for one in chains["x"]] == [(seq, b"x")]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_process_that_dies_at_any_point_leaves_all_whole(after: bool) -> None:
    """Somebody else tidies what was left, each second time with a retention, before it is done again."""
    calls = 0
    while True:
        calls += 1
        most = 5 if calls % 2 else None
        store = MemoryStore()
        branched(store)
        dying = Dying(store, calls, after=after)
        with suppress(Died):
            delete_thread(dying, "t")
        for row in store.threads().threads:
            tidied(store, row.thread_id, Retention(max_checkpoints=most))
            if row.thread_id != "t":
                check(store, row.thread_id)
        delete_thread(store, "t")
        assert {row.thread_id for row in store.threads().threads} == {*FORKS, "d"}
        for name in (*FORKS, "d"):
            check(store, name, whole=most is None)
            tidied(store, name, Retention(max_checkpoints=most))
            check(store, name, whole=most is None)
        assert [problem for done in verify_store(store, MEANING) for problem in done.problems] == []
        if dying.left > 0:
            assert calls > 8
            return


def test_each_transaction_is_of_bounded_size(store: CheckpointStore) -> None:
    class Counting(Delegating):
        grafts: list[int]

        def graft(self, fork: ThreadRecord, segments: Any) -> bool:
            self.grafts.append(len(segments))
            return self.inner.graft(fork, segments)

    counting = Counting(store)
    counting.grafts = []
    branched(store)
    steps = list(deletion(counting, "t"))
    assert sum(counting.grafts) == sum(FORKS.values())
    assert max(counting.grafts) <= 64
    assert (sum(one.forks for one in steps), sum(one.deleted for one in steps)) == (3, 1)
    for name in (*FORKS, "d"):
        check(store, name)


def test_a_fork_that_is_deleted_itself_takes_over_more_meanwhile(store: CheckpointStore) -> None:
    """The one hands over what it has of the other, while that hands it over itself."""

    class Between(Delegating):
        """Deletes t in the middle of handing over a."""

        done = False

        def graft(self, fork: ThreadRecord, segments: Any) -> bool:
            if not self.done:
                self.done = True
                delete_thread(self.inner, "t")
            return self.inner.graft(fork, segments)

    branched(store)
    ended(store, "a")
    delete_thread(Between(store), "a")
    assert sorted(row.thread_id for row in store.threads().threads) == ["b", "c", "d"]
    for name in "bcd":
        check(store, name)
        assert store.thread(name).origin is None


def test_all_goes_on_meanwhile(sqlite: Backend) -> None:
    """Owners of forks write, readers read, retention tidies, new forks come, and the deleted thread is made anew."""
    store = sqlite.open()
    branched(store)
    failed: list[str] = []
    done = threading.Event()

    def working(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except Exception as error:
                failed.append(repr(error))
                done.set()

        return run

    def write() -> None:
        for seq in range(FORKS["a"] + 3, FORKS["a"] + 60):
            (result,) = store.commit([step(seq, thread_id="a")])
            assert not isinstance(result, Exception), result
            time.sleep(0)  # the others' turn

    def read() -> None:
        while not done.is_set():
            for name in (*FORKS, "d"):
                check(store, name, whole=False)

    def tidy() -> None:
        while not done.is_set():
            for name in ("t", *FORKS):
                with suppress(UnknownThread):  # deleted a moment ago
                    tidied(store, name, Retention(max_checkpoints=20))

    def delete() -> None:
        try:
            for number in range(4):
                with suppress(Refused):
                    delete_thread(store, "t")
                with suppress(UnknownThread):
                    store.create(new_thread(f"late{number}", origin=Origin(thread_id="t", seq=70), seq=70, head=70))
                if number % 2:
                    with suppress(UnknownThread):
                        store.thread("t")
                        continue
                    owned(store, "t", created_at=10.0 + number)
                    store.commit([step(seq, size=3) for seq in range(1, 76)])
                    ended(store, "t")
        finally:
            done.set()

    workers = [threading.Thread(target=working(work)) for work in (write, read, read, tidy, delete)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failed == []
    for name in (*FORKS, "d"):
        check(store, name, whole=False)
        assert name == "d" or store.thread(name).origin is None


def test_a_copy_of_the_store_goes_on_after_it(store: CheckpointStore) -> None:
    """It was broken off when the forks were there in part; what they took over meanwhile comes along."""
    branched(store)
    target = MemoryStore()
    steps = copy_store(StoreSource(store), target, hold=True)
    for _ in steps:
        continue
    delete_thread(store, "t")
    for _ in range(2):
        found = list(copy_store(StoreSource(store), target))[-1]
        assert found.different == []
    for name in (*FORKS, "d"):
        assert target.thread(name).origin == store.thread(name).origin
        check(target, name)


# -- a real process ------------------------------------------------------------------------------------------------


CHILD = """
    import sys
    from perdure.stores.deletion import delete_thread
    from perdure.stores.urls import open_store

    with open_store(sys.argv[1]) as store:
        print("begun", flush=True)
        delete_thread(store, "t")
"""


def grafted(store: CheckpointStore, name: str) -> list[Segment]:
    row = store.thread(name)
    return store.segments(name, last=row.origin.seq, limit=1) if row.origin is not None else []


def until(look: Callable[[], bool]) -> Iterator[None]:
    deadline = time.monotonic() + 30
    while not look():
        assert time.monotonic() < deadline
        yield


def test_a_process_that_is_killed_has_broken_nothing(sqlite: Backend) -> None:
    store = sqlite.open()
    branched(store, 300)
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), sqlite.url], stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        for _ in until(lambda: any(grafted(store, name) for name in FORKS) or child.poll() is not None):
            continue
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
    for name in (*FORKS, "d"):
        check(store, name)
    delete_thread(store, "t")
    assert sorted(row.thread_id for row in store.threads().threads) == ["a", "b", "c", "d"]
    for name in (*FORKS, "d"):
        check(store, name)
