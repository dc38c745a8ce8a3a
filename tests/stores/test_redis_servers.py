"""Servers that a Redis store refuses, servers that fail while it writes, and what their errors become."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from perdure.stores.errors import StoreError, StoreMisuse, StoreUnavailable
from perdure.stores.operations import Committed
from perdure.stores.records import Status
from perdure.stores.redis import RedisStore
from perdure.stores.redis_options import RedisOptions
from tests.servers.redis import RedisServer
from tests.stores.backends import commit, new_thread, owned
from tests.stores.tls import Authority, TlsProxy

SECRET = "pa:ss/w@rd?&#%"
QUOTED = "pa%3Ass%2Fw%40rd%3F%26%23%25"
IMPATIENT = RedisOptions(socket_timeout=timedelta(milliseconds=300), connect_timeout=timedelta(seconds=5))


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def raw(server: RedisServer) -> Iterator[Any]:
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
def test_a_server_that_could_lose_commits(server: RedisServer, raw: Any, setting: str, value: str, safe: str) -> None:
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


def test_a_server_that_does_not_tell(raw: Any, server: RedisServer) -> None:
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


def test_a_replica_is_refused_and_replicas_are_waited_for(server: RedisServer, raw: Any) -> None:
    options = RedisOptions(min_replicas=1, replica_timeout=timedelta(milliseconds=200))
    with RedisStore(server.url) as plain:
        owned(plain)
    with pytest.raises(StoreUnavailable, match="0 of min_replicas=1"):
        RedisStore(server.url, options=options)
    for name, value in (("repl-diskless-sync", "yes"), ("repl-diskless-sync-delay", "0")):
        raw.config_set(name, value)
    with RedisServer() as replica:
        copy: Any
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


def test_a_user_without_rights(server: RedisServer, raw: Any) -> None:
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


# -- TLS -------------------------------------------------------------------------------------------------------------


def test_tls_with_certificates(server: RedisServer, raw: Any, tmp_path: Path) -> None:
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
