"""Servers that a Redis store refuses, servers that fail while it writes, and what their errors become."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis

from perdure.stores.errors import StoreError, StoreMisuse, StoreUnavailable
from perdure.stores.records import Commit, Committed, Status
from perdure.stores.redis import RedisStore
from perdure.stores.redis_options import RedisOptions
from tests.servers.cluster import RedisCluster
from tests.servers.redis import RedisServer
from tests.stores import redis_raw
from tests.stores.backends import ANY, commit, message, new_thread, owned
from tests.stores.tls import Authority, TlsProxy

SECRET = "pa:ss/w@rd?&#%"
QUOTED = "pa%3Ass%2Fw%40rd%3F%26%23%25"
IMPATIENT = RedisOptions(socket_timeout=timedelta(milliseconds=300), connect_timeout=timedelta(seconds=5))


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def raw(server: RedisServer) -> Iterator[Redis]:
    with closing(Redis.from_url(server.empty())) as client:
        yield client


# -- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value", "safe"),
    [
        ("appendfsync", "everysec", "always"),
        ("appendfsync", "no", "always"),
        ("appendonly", "no", "yes"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
        ("maxmemory-policy", "volatile-ttl", "noeviction"),
    ],
)
def test_a_server_that_could_lose_commits(server: RedisServer, raw: Redis, setting: str, value: str, safe: str) -> None:
    raw.config_set(setting, value)
    try:
        with pytest.raises(StoreMisuse, match=f"{setting} is {value} and must be {safe}.*allow_loss=True"):
            RedisStore(server.url)
        assert raw.keys() == []
        with RedisStore(server.url, options=RedisOptions(allow_loss=True)) as store:
            store.create(new_thread())
    finally:
        raw.config_set(setting, safe)
        while setting == "appendonly" and raw.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.01)
    with RedisStore(server.url) as store:
        assert store.thread("t").thread_id == "t"


def test_a_server_that_does_not_tell(raw: Redis, server: RedisServer) -> None:
    raw.execute_command("ACL SETUSER", "app", "on", ">word", "~*", "+@all", "-config")
    url = server.url.replace("redis://", "redis://app:word@")
    with pytest.raises(StoreMisuse, match=r"does not tell its settings appendfsync.*allow_unchecked=True"):
        RedisStore(url)
    with RedisStore(url, options=RedisOptions(allow_unchecked=True)) as store:
        store.create(new_thread())
        assert store.stats().disk_bytes
    raw.config_set("maxmemory-policy", "allkeys-lru")
    try:
        # What INFO tells counts.
        with pytest.raises(StoreMisuse, match="maxmemory-policy is allkeys-lru"):
            RedisStore(url, options=RedisOptions(allow_unchecked=True))
    finally:
        raw.config_set("maxmemory-policy", "noeviction")


def test_a_replica_is_refused_and_replicas_are_waited_for(server: RedisServer, raw: Redis) -> None:
    options = RedisOptions(min_replicas=1, replica_timeout=timedelta(milliseconds=200))
    with RedisStore(server.url) as plain:
        owned(plain)
    with pytest.raises(StoreUnavailable, match="0 of min_replicas=1"):
        RedisStore(server.url, options=options)
    for name, value in (("repl-diskless-sync", "yes"), ("repl-diskless-sync-delay", "0")):
        raw.config_set(name, value)
    with RedisServer() as replica:
        with closing(Redis.from_url(replica.url)) as copy:
            copy.execute_command("REPLICAOF", "127.0.0.1", server.port)
            deadline = time.monotonic() + 60
            while copy.info("replication")["master_link_status"] != "up":
                assert time.monotonic() < deadline
                time.sleep(0.02)
        with pytest.raises(StoreMisuse, match="is a replica"):
            RedisStore(replica.url)
        with RedisStore(server.url, options=replace(options, replica_timeout=timedelta(seconds=30))) as store:
            done = commit(1)
            assert store.commit([done]) == [Committed(seq=1, inbox=0)]
        with RedisStore(server.url, options=options) as store:
            last = commit(2)
            with replica.frozen():
                # Applied here, but not known to be anywhere else; nor is it on a second attempt that writes nothing.
                for _ in range(2):
                    with pytest.raises(StoreUnavailable, match="0 of min_replicas=1"):
                        store.commit([last])
            deadline = time.monotonic() + 60
            while True:
                with suppress(StoreUnavailable):
                    assert store.commit([last]) == [Committed(seq=2, inbox=0, repeated=True)]
                    break
                assert time.monotonic() < deadline


def test_what_is_not_what_its_url_says(server: RedisServer) -> None:
    with pytest.raises(StoreMisuse, match="redis://"):
        RedisStore(server.url.replace("redis://", "redis+cluster://").removesuffix("/0"))
    with RedisServer(settings={"cluster-enabled": "yes"}) as node:
        with pytest.raises(StoreMisuse, match=r"redis\+cluster://"):
            RedisStore(node.url)


def test_nobody_there() -> None:
    with RedisServer() as gone:
        url = gone.url
    with pytest.raises(StoreUnavailable, match="try again"):
        RedisStore(url)
    with pytest.raises(StoreUnavailable, match="try again"):
        RedisStore(url.replace("redis://", "redis+cluster://").removesuffix("/0"))


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"prefix": "a{b}"}, "prefix"),
        ({"prefix": ""}, "prefix"),
        ({"partitions": 0}, "partitions"),
        ({"partitions": 257}, "partitions"),
        ({"max_connections": True}, "max_connections"),
        ({"min_replicas": -1}, "min_replicas"),
        ({"ttl": timedelta()}, "ttl"),
        ({"socket_timeout": None}, "socket_timeout"),
        ({"connect_timeout": 3}, "connect_timeout"),
    ],
)
def test_options_that_cannot_be(fields: dict[str, object], word: str) -> None:
    with pytest.raises(StoreMisuse, match=word):
        RedisOptions(**fields)  # type: ignore[arg-type] # on purpose


# -- secrets ---------------------------------------------------------------------------------------------------------


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error.__dict__)


def test_a_password_is_used_and_never_shown() -> None:
    with RedisServer(settings={"requirepass": SECRET}) as server:
        place = server.url.removeprefix("redis://")
        good = [
            (f"redis://:{QUOTED}@{place}", RedisOptions()),
            (f"redis://default:{QUOTED}@{place}", RedisOptions()),
            (server.url, RedisOptions(password=SECRET)),
            (f"redis://nobody:wrong@{place}", RedisOptions(username="default", password=SECRET)),
        ]
        for url, options in good:
            with RedisStore(url, options=options) as store:
                owned(store)
                for text in (store.where, repr(store), repr(options), repr(store._connections), repr(store.options)):
                    assert SECRET not in text
                    assert QUOTED not in text
                with pytest.raises(StoreError) as caught:
                    store.thread("no")
                assert SECRET not in shown(caught.value)
                store.commit([commit(1, status=Status.FAILED)])
                store.delete("t")
        other = f"redis://default:{QUOTED}x@{place}"
        for url in (server.url, other):
            with pytest.raises(StoreMisuse, match="username and password") as caught:
                RedisStore(url)
            assert QUOTED not in str(caught.value)
        server.kill()
        with pytest.raises(StoreUnavailable) as unavailable:
            RedisStore(good[0][0])
        assert SECRET not in str(unavailable.value)
        assert QUOTED not in str(unavailable.value)


def test_a_user_without_rights(server: RedisServer, raw: Redis) -> None:
    raw.execute_command("ACL SETUSER", "reader", "on", ">word", "~*", "+@all", "-@write")
    url = server.url.replace("redis://", "redis://reader:word@")
    with RedisStore(server.url) as store:
        store.create(new_thread())
    with RedisStore(url, create=False) as store:
        assert store.thread("t").thread_id == "t"
        with pytest.raises(StoreMisuse, match="may use all keys"):
            store.claim("t", epoch=0, token="t", owner="o")
        with pytest.raises(StoreMisuse, match="may use all keys"):
            store.put_setting("s", 1)


# -- faults ----------------------------------------------------------------------------------------------------------


def test_a_server_that_becomes_a_replica(server: RedisServer, raw: Redis) -> None:
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


def test_a_server_that_is_silent(server: RedisServer, raw: Redis) -> None:
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


# -- TLS -------------------------------------------------------------------------------------------------------------


def test_tls_with_certificates(server: RedisServer, raw: Redis, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("client")
    (tmp_path / "other").mkdir()
    with TlsProxy(server.port, authority) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}/0"
        options = RedisOptions(ssl_ca_certs=str(authority.ca), ssl_certfile=str(certificate), ssl_keyfile=str(key))
        with RedisStore(url, options=options) as store:
            owned(store)
            assert store.commit([commit(1)]) == [Committed(seq=1, inbox=0)]
        with RedisStore(f"{url}?ssl_ca_certs={authority.ca}&ssl_certfile={certificate}&ssl_keyfile={key}") as store:
            assert store.thread("t").seq == 1
        # Nobody knows that authority; nobody knows this client.
        stranger = replace(options, ssl_ca_certs=str(Authority(tmp_path / "other").ca))
        for wrong in (RedisOptions(), stranger, replace(options, ssl_certfile=None, ssl_keyfile=None)):
            with pytest.raises(StoreUnavailable):
                RedisStore(url, options=wrong)
        with pytest.raises(StoreUnavailable):
            RedisStore(url.replace("rediss", "redis"), options=IMPATIENT)
