"""A server's disk fills up under load, and has room again: threads wait for it, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest

from perdure.stores.base import CheckpointStore, CommitResult
from perdure.stores.errors import StoreError, StoreFull, StoreUnavailable
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Commit, Delivery, Expect
from perdure.stores.records import Message, Status, ThreadRecord
from perdure.stores.redis_options import RedisOptions
from perdure.stores.urls import open_store
from tests.faults.acks import Acknowledged
from tests.faults.full import log_on_a_small_disk, redis_on_a_small_disk, tables_on_a_small_disk
from tests.faults.graphs_load import talk_input
from tests.faults.lives import live
from tests.faults.senders import PATIENCE, insist
from tests.servers.postgres import PostgresServer
from tests.sim.faults import Delegating, FaultyStore

T = TypeVar("T")

LONG = talk_input(rounds=12, steps=20, pause=0.004)


class Over(StoreError):
    """The test has failed: nobody brings the store back."""


class Watched(FaultyStore):
    """A store whose commits are counted, and what was not written."""

    def __init__(self, inner: CheckpointStore) -> None:
        Delegating.__init__(self, inner)
        self.done = 0
        self.refused: list[StoreUnavailable] = []
        """Of every kind of write: a thread that waits for an answer commits nothing, but hears nothing either."""
        self._over = threading.Event()

    def give_up(self) -> None:
        """From now on every call raises `Over`, for which nobody waits as for a store that is away."""
        self._over.set()

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        results = super().commit(commits)
        self.done += 1
        return results

    def _call(self, call: Callable[[], T], *, writes: bool = False) -> T:
        if self._over.is_set():
            raise Over("the test is over")
        try:
            return call()
        except StoreUnavailable as error:
            if writes:
                self.refused.append(error)
            raise

    def close(self) -> None:
        """Several threads use it: it stays open."""


def wait_for(look: Callable[[], bool], lives: Sequence[Future[None]]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < deadline
        for one in lives:
            if one.done():
                one.result()
                raise AssertionError("a thread ended too early")
        time.sleep(0.01)


class Sender(threading.Thread):
    """Sends large messages to a thread that nobody runs, each until it is acknowledged."""

    def __init__(self, store: CheckpointStore) -> None:
        super().__init__(daemon=True)
        self.sent = 0
        self.full = 0
        """How often there was no room."""
        self._store = store
        self._error: StoreUnavailable | None = None
        self._ended = threading.Event()
        self._given_up = threading.Event()
        store.create(ThreadRecord(thread_id="mail", graph="none", version="1"))

    def run(self) -> None:
        for number in count(1):
            if self._ended.wait(0.05):
                return
            message = Message(message_id=str(number), kind="update", payload=os.urandom(30_000))
            try:
                insist(lambda message=message: self._send(message), self._given_up.is_set)  # type: ignore[misc]
            except StoreUnavailable as error:
                self._error = error
                return
            self.sent = number

    def _send(self, message: Message) -> None:
        try:
            self._store.deliver("mail", message, Expect(statuses=frozenset(Status)))
        except StoreFull:
            self.full += 1
            raise

    def give_up(self) -> None:
        """End without insisting on an answer."""
        self._ended.set()
        self._given_up.set()
        self.join()

    def end(self) -> None:
        self._ended.set()
        self.join()
        assert self._error is None, self._error
        kept = self._store.messages("mail", unread=False)
        assert [message.message_id for message in kept] == [str(number) for number in range(1, self.sent + 1)]


@contextmanager
def under_load(store: CheckpointStore, folder: Path) -> Iterator[tuple[Watched, Sender, Sequence[Future[None]]]]:
    """Two threads that run, and messages to a third; at the end all is judged. If the block fails all ends at once."""
    watched, sender = Watched(store), Sender(store)
    sender.start()
    with ThreadPoolExecutor(2) as pool:
        lives = [
            pool.submit(live, watched, store, acks_of(folder, durability), durability, durability, LONG)
            for durability in ("sync", "async")
        ]
        try:
            wait_for(lambda: watched.done > 30 and sender.sent > 3, lives)
            yield watched, sender, lives
            for one in lives:
                one.result(PATIENCE)
        except BaseException:
            watched.give_up()
            sender.give_up()
            raise
    sender.end()


def acks_of(folder: Path, thread_id: str) -> Path:
    """Where it is noted what the thread's users were told."""
    return folder / f"acks {thread_id}"


def check_that_it_can_be_read(store: CheckpointStore, folder: Path) -> None:
    """All that was acknowledged so far, of threads that run or stand at one of their questions."""
    for thread_id in ("sync", "async"):
        acked = Acknowledged.of(acks_of(folder, thread_id))
        kept = {(segment.first, segment.last, segment.commit_id) for segment in store.segments(thread_id)}
        assert acked.commits[thread_id]
        assert acked.commits[thread_id] <= kept
        messages = {message.message_id: message.number for message in store.messages(thread_id, unread=False)}
        assert acked.messages[thread_id].items() <= messages.items()
        assert not store.thread(thread_id).status.ended


def test_tables_of_postgres(tmp_path: Path) -> None:
    with PostgresServer() as server, tables_on_a_small_disk(server) as disk, open_store(disk.url) as store:
        with under_load(store, tmp_path) as (watched, sender, lives):
            disk.fill()
            wait_for(lambda: len(watched.refused) > 4 and sender.full > 4, lives)
            assert all(isinstance(error, StoreFull) for error in watched.refused)
            assert "cannot be written" in str(watched.refused[-1])
            assert "free space" in str(watched.refused[-1])
            check_that_it_can_be_read(store, tmp_path)
            disk.free()


@pytest.mark.full
def test_the_log_of_postgres(tmp_path: Path) -> None:
    """There Postgres gives up; it comes back when somebody has made room and starts it."""
    with log_on_a_small_disk() as disk, open_store(disk.server.database()) as store:
        with under_load(store, tmp_path) as (watched, _, lives):
            disk.fill()
            wait_for(lambda: len(watched.refused) > 4, lives)
            assert not disk.server.running
            disk.free()


def test_redis_that_syncs_each_second(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    options = RedisOptions(allow_loss=True)
    with redis_on_a_small_disk(place, sync="everysec") as disk, open_store(disk.server.url, options=options) as store:
        with under_load(store, tmp_path) as (watched, sender, lives):
            disk.fill()
            wait_for(lambda: len(watched.refused) > 4 and sender.full > 4, lives)
            assert isinstance(watched.refused[-1], StoreFull)
            assert "takes no more data" in str(watched.refused[-1])
            check_that_it_can_be_read(store, tmp_path)
            disk.free()


def test_redis_that_syncs_always(tmp_path: Path) -> None:
    """It ends, rather than to go on with what it could not write; and is started when there is room."""
    place = tmp_path / "disk"
    place.mkdir()
    with redis_on_a_small_disk(place, sync="always") as disk, open_store(disk.server.url) as store:
        with under_load(store, tmp_path) as (watched, _, lives):
            disk.fill()
            wait_for(lambda: len(watched.refused) > 4 and not disk.server.running, lives)
            disk.free()


class NoRoom(Delegating):
    """A store that is full for good as soon as it is told so."""

    def __init__(self, inner: CheckpointStore) -> None:
        super().__init__(inner)
        self.full = False

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        self._check()
        return super().commit(commits)

    def deliver(self, *args: Any, **named: Any) -> Delivery:
        self._check()
        return super().deliver(*args, **named)

    def _check(self) -> None:
        if self.full:
            raise StoreFull("no room")


def test_the_load_ends_with_a_test_that_fails(tmp_path: Path) -> None:
    """One that failed while its disk was full once waited for the load, and the load for the disk, until both were
    killed."""
    store = NoRoom(MemoryStore())
    with pytest.raises(ZeroDivisionError), under_load(store, tmp_path) as (watched, sender, lives):
        store.full = True
        wait_for(lambda: len(watched.refused) > 4 and sender.full > 4, lives)
        raise ZeroDivisionError
    assert all(one.done() for one in lives)
    assert not sender.is_alive()
