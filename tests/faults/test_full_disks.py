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

import pytest

from perdure.stores.base import CheckpointStore, CommitResult
from perdure.stores.errors import StoreFull, StoreUnavailable
from perdure.stores.records import Commit, Expect, Message, Status, ThreadRecord
from perdure.stores.redis_options import RedisOptions
from perdure.stores.urls import open_store
from tests.faults.full import log_on_a_small_disk, redis_on_a_small_disk, tables_on_a_small_disk
from tests.faults.graphs_load import talk_input
from tests.faults.lives import live
from tests.faults.load import PATIENCE
from tests.faults.senders import insist
from tests.servers.postgres import PostgresServer
from tests.sim.faults import Delegating

LONG = talk_input(rounds=12, steps=20, pause=0.004)


class Watched(Delegating):
    """A store whose commits are counted."""

    def __init__(self, inner: CheckpointStore) -> None:
        super().__init__(inner)
        self.done = 0
        self.refused: list[StoreUnavailable] = []

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        try:
            results = self.inner.commit(commits)
        except StoreUnavailable as error:
            self.refused.append(error)
            raise
        self.done += 1
        return results

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
        self._ended = threading.Event()
        store.create(ThreadRecord(thread_id="mail", graph="none", version="1"))

    def run(self) -> None:
        for number in count(1):
            if self._ended.wait(0.05):
                return
            message = Message(message_id=str(number), kind="update", payload=os.urandom(30_000))
            insist(lambda message=message: self._send(message))  # type: ignore[misc]
            self.sent = number

    def _send(self, message: Message) -> None:
        try:
            self._store.deliver("mail", message, Expect(statuses=frozenset(Status)))
        except StoreFull:
            self.full += 1
            raise

    def end(self) -> None:
        self._ended.set()
        self.join()
        kept = self._store.messages("mail", unread=False)
        assert [message.message_id for message in kept] == [str(number) for number in range(1, self.sent + 1)]


@contextmanager
def under_load(store: CheckpointStore, folder: Path) -> Iterator[tuple[Watched, Sender, Sequence[Future[None]]]]:
    """Two threads that run, and messages to a third; at the end all is judged."""
    watched, sender = Watched(store), Sender(store)
    sender.start()
    with ThreadPoolExecutor(2) as pool:
        lives = [
            pool.submit(live, watched, store, folder / f"acks {durability}", durability, durability, LONG)
            for durability in ("sync", "async")
        ]
        wait_for(lambda: watched.done > 30 and sender.sent > 3, lives)
        yield watched, sender, lives
        for one in lives:
            one.result(PATIENCE)
    sender.end()


def test_tables_of_postgres(tmp_path: Path) -> None:
    with PostgresServer() as server, tables_on_a_small_disk(server) as disk, open_store(disk.url) as store:
        with under_load(store, tmp_path) as (watched, sender, lives):
            disk.fill()
            wait_for(lambda: len(watched.refused) > 4 and sender.full > 4, lives)
            assert all(isinstance(error, StoreFull) for error in watched.refused)
            assert "cannot be written" in str(watched.refused[-1])
            assert "free space" in str(watched.refused[-1])
            # What is there can be read all the while.
            assert store.thread("sync").status is Status.RUNNING
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
            assert store.thread("sync").status is Status.RUNNING
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
