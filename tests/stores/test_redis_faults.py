"""Redis servers that fail while a store writes to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis

from perdure.stores.errors import StoreMisuse, StoreUnavailable
from perdure.stores.operations import Commit, Committed
from perdure.stores.redis import RedisStore
from perdure.stores.redis_options import RedisOptions
from tests.servers.cluster import RedisCluster
from tests.servers.redis import RedisServer
from tests.stores import redis_raw
from tests.stores.backends import ANY, commit, message, owned

IMPATIENT = RedisOptions(socket_timeout=timedelta(milliseconds=300), connect_timeout=timedelta(seconds=5))


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def raw(server: RedisServer) -> Iterator[Any]:
    with closing(Redis.from_url(server.empty())) as client:
        yield client


def test_a_server_that_becomes_a_replica(server: RedisServer, raw: Any) -> None:
    """A failover: the connections stay, the server takes no more writes."""
    with RedisStore(server.url) as store:
        owned(store)
        raw.config_set("replica-serve-stale-data", "no")
        raw.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:
            for call in (lambda: store.commit([commit(1)]), lambda: store.thread("t")):
                with pytest.raises(StoreUnavailable):
                    call()
            raw.config_set("replica-serve-stale-data", "yes")
            with pytest.raises(StoreUnavailable):
                store.commit([commit(1)])
        finally:
            raw.execute_command("REPLICAOF", "NO", "ONE")
        assert store.commit([commit(1)]) == [Committed(seq=1, inbox=0)]


def test_a_server_that_is_silent(server: RedisServer, raw: Any) -> None:
    with RedisStore(server.url, options=IMPATIENT) as store:
        owned(store)
        with server.frozen():
            with pytest.raises(StoreUnavailable):
                store.commit([commit(1, commit_id="c")])
        # It may have come through.
        (result,) = store.commit([commit(1, commit_id="c")])
        assert isinstance(result, Committed)
        assert store.thread("t").seq == 1


def persistent(call: Callable[[], object]) -> None:
    """Repeat it until the store is back."""
    deadline = time.monotonic() + 120
    while True:
        with suppress(StoreUnavailable):
            call()
            return
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Writer(threading.Thread):
    """Commits and delivers, repeats what it had no answer to, and remembers what was acknowledged."""

    def __init__(self, store: RedisStore, thread_id: str) -> None:
        super().__init__()
        self.store = store
        self.thread_id = thread_id
        self.acknowledged = 0
        self.mail = 0
        self.wrong: list[object] = []
        self.stopped = threading.Event()
        owned(store, thread_id)

    def run(self) -> None:
        while not self.stopped.is_set():
            done = commit(self.acknowledged + 1, thread_id=self.thread_id)
            persistent(lambda done=done: self._commit(done))  # type: ignore[misc] # bound now
            letter = message(f"m{self.mail}", kind="update")
            persistent(lambda letter=letter: self.store.deliver(self.thread_id, letter, ANY))  # type: ignore[misc]
            self.mail += 1

    def _commit(self, done: Commit) -> None:
        (result,) = self.store.commit([done])
        if isinstance(result, Committed):
            self.acknowledged = result.seq
        else:
            self.wrong.append(result)
            self.stopped.set()

    def check(self) -> None:
        assert self.wrong == []
        row = self.store.thread(self.thread_id)
        assert (row.seq, row.inbox) == (self.acknowledged, self.mail)
        assert [segment.first for segment in self.store.segments(self.thread_id)] == list(range(row.seq, 0, -1))
        assert [kept.message_id for kept in self.store.messages(self.thread_id)] == [f"m{n}" for n in range(self.mail)]


def test_nothing_acknowledged_is_lost_by_kills() -> None:
    with RedisServer() as server, RedisStore(server.url) as store:
        writers = [Writer(store, f"t{i}") for i in range(3)]
        for writer in writers:
            writer.start()
        for _ in range(4):
            before = writers[0].acknowledged
            while writers[0].acknowledged < before + 20:
                time.sleep(0.005)
            server.kill()
            time.sleep(0.05)
            server.start()
        for writer in writers:
            writer.stopped.set()
        for writer in writers:
            writer.join(60)
            writer.check()
        redis_raw.check_whole(redis_raw.dump(store))


def test_nothing_acknowledged_is_lost_by_a_node_of_a_cluster() -> None:
    with RedisCluster() as cluster, RedisStore(cluster.url) as store:
        writers = [Writer(store, f"t{i}") for i in range(4)]
        for writer in writers:
            writer.start()
        for node in cluster.nodes[:1]:
            for writer in writers:
                before = writer.acknowledged
                while writer.acknowledged < before + 5:
                    time.sleep(0.005)
            node.kill()
            time.sleep(0.2)
            cluster.start()
        for writer in writers:
            before = writer.acknowledged
            while writer.acknowledged < before + 2:
                time.sleep(0.005)
            writer.stopped.set()
        for writer in writers:
            writer.join(60)
            writer.check()
        assert len(store.threads().threads) == 4
        redis_raw.check_whole(redis_raw.dump(store))


def test_every_node_of_a_cluster_is_looked_at(redis_cluster_url: str) -> None:
    with RedisStore(redis_cluster_url) as store:
        clients = redis_raw.clients(store)
    assert len(clients) == 3
    for client in clients:
        client.config_set("appendfsync", "everysec")
        try:
            with pytest.raises(StoreMisuse, match="appendfsync is everysec"):
                RedisStore(redis_cluster_url)
        finally:
            client.config_set("appendfsync", "always")


def test_a_cluster_that_moves_a_slot(redis_cluster_url: str) -> None:
    """Its keys are moved one by one while an owner writes; the driver follows."""
    with RedisStore(redis_cluster_url) as store:
        owned(store)
        persistent(lambda: store.commit([commit(1)]))
        nodes = {client.execute_command("CLUSTER MYID").decode(): client for client in redis_raw.clients(store)}
        slot = next(iter(nodes.values())).execute_command("CLUSTER KEYSLOT", redis_raw.key(store, "row", "t"))
        homes = {name for name, client in nodes.items() if client.execute_command("CLUSTER COUNTKEYSINSLOT", slot)}
        (home,) = homes
        away = next(name for name in nodes if name != home)
        writer = Writer(store, "u")
        twin = next(f"t{i}" for i in range(1000) if store._keys.partition(f"t{i}") == store._keys.partition("t"))
        moving = Writer(store, twin)
        for each in (writer, moving):
            each.start()
        for source, target in ((home, away), (away, home)):
            nodes[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source)
            nodes[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target)
            while keys := nodes[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 1):
                port = nodes[target].connection_pool.connection_kwargs["port"]
                nodes[source].execute_command("MIGRATE", "127.0.0.1", port, keys[0], 0, 5000)
                time.sleep(0.005)
            for client in nodes.values():
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", target)
            before = moving.acknowledged
            while moving.acknowledged < before + 5:
                time.sleep(0.005)
        for each in (writer, moving):
            each.stopped.set()
            each.join(60)
            each.check()
        assert store.thread("t").seq == 1
        redis_raw.check_whole(redis_raw.dump(store))
