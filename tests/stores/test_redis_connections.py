"""Connections of a Redis store: how many there are, when they end, and calls that go over them twice."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from perdure.stores import redis_pool, redis_records
from perdure.stores.errors import (
    StoreMisuse,
    StoreUnavailable,
)
from perdure.stores.operations import Committed
from perdure.stores.records import Message, Origin, Status
from perdure.stores.redis import RedisStore
from perdure.stores.redis_connections import Call
from perdure.stores.redis_options import RedisOptions
from perdure.stores.urls import open_store
from perdure.testing.racing import race
from tests.servers.redis import RedisServer
from tests.stores import redis_raw
from tests.stores.backends import ANY, TOKEN, commit, delta, message, new_thread, owned
from tests.stores.proxy import Proxy


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisStore]:
    with RedisStore(redis_url) as store:
        yield store


@pytest.fixture
def raw(redis_url: str) -> Iterator[Redis]:
    with closing(Redis.from_url(redis_url)) as client:
        yield client


def test_a_closed_store_says_so(redis_url: str) -> None:
    store = RedisStore(redis_url)
    store.close()
    with pytest.raises(StoreMisuse, match="closed"):
        store.thread("t")


def test_connections_are_bounded_and_end(redis_url: str, raw: Redis) -> None:
    before = len(raw.client_list())
    threads = threading.active_count()
    store = RedisStore(redis_url, options=RedisOptions(max_connections=2))
    store.create(new_thread())
    answers = race([lambda: store.thread("t") for _ in range(12)])
    assert {getattr(answer, "thread_id", None) for answer in answers} == {"t"}
    assert len(raw.client_list()) <= before + 2
    store.close()
    assert threading.active_count() == threads
    deadline = time.monotonic() + 10
    while len(raw.client_list()) > before:
        assert time.monotonic() < deadline


def test_a_store_that_is_given_up_takes_its_background_with_it(redis_url: str) -> None:
    threads = threading.active_count()
    store = RedisStore(redis_url)
    assert threading.active_count() == threads + 1
    del store
    gc.collect()
    deadline = time.monotonic() + 10
    while threading.active_count() > threads:
        assert time.monotonic() < deadline


def test_idle_connections_are_closed(redis_url: str, raw: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_pool, "_IDLE", 0.05)
    before = len(raw.client_list())
    with RedisStore(redis_url) as store:
        store.create(new_thread())
        deadline = time.monotonic() + 10
        while len(raw.client_list()) > before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert store.thread("t").thread_id == "t"


def test_the_connections_of_a_node_are_shared(
    redis_url: str, raw: Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Three stores, two places: whoever waits gets one from those who had theirs for long."""
    monkeypatch.setenv("PERDURE_RUNTIME_DIR", str(tmp_path / "run"))
    options = RedisOptions(connections_per_node=2, socket_timeout=timedelta(seconds=60))
    before = len(raw.client_list())
    stores = [RedisStore(redis_url, options=options) for _ in range(3)]
    most = 0
    try:
        stores[0].create(new_thread())

        def work(store: RedisStore) -> int:
            for _ in range(100):
                store.thread("t")
            return 1

        for _ in range(2):
            assert race([partial(work, store) for store in stores]) == [1, 1, 1]
            most = max(most, len(raw.client_list()) - before)
    finally:
        for store in stores:
            store.close()
    assert most <= 2


def test_a_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("r") / "s"
    with RedisServer(settings={"unixsocket": str(path)}), RedisStore(f"unix://{path}?db=1") as store:
        owned(store)
        store.commit([commit(1, rows=(delta(1),))])
        assert store.url == f"unix://{path}?db=1"
        with open_store(store.url) as other:
            assert other.thread("t").seq == 1


def test_a_message_is_delivered_once_in_spite_of_lost_answers(redis_url: str) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with Proxy(("127.0.0.1", port)) as proxy, RedisStore(redis_url.replace(str(port), str(proxy.port))) as store:
        owned(store)
        # A server that does not know a script yet says only that: no call would have got through to be answered.
        store.deliver("t", Message(message_id="first", kind="input"), ANY)
        store.commit([commit(1)])
        lost: list[Any] = [
            lambda: store.deliver("t", Message(message_id="m", kind="input"), ANY),
            lambda: store.commit([commit(2, commit_id="c")]),
        ]
        for call in lost:
            # Connected, so that the call itself gets through.
            store.thread("t")
            proxy.cut_answers = True
            with pytest.raises(StoreUnavailable):
                call()
            proxy.cut_answers = False
        assert store.deliver("t", Message(message_id="m", kind="input"), ANY).repeated
        assert store.commit([commit(2, commit_id="c")]) == [Committed(seq=2, inbox=2, repeated=True)]
        assert (store.thread("t").inbox, store.thread("t").seq) == (2, 2)


def test_the_driver_may_send_a_call_twice(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a new connection, when the first broke before its answer: the caller must not take himself for others."""
    real = store._connections._batch

    def twice(calls: Sequence[Call]) -> list[Any]:
        real(calls)
        return real(calls)

    owned(store)
    store.commit([commit(seq) for seq in range(1, 5)])
    monkeypatch.setattr(store._connections, "_batch", twice)
    first = store.create(new_thread("new"))
    assert (first.repeated, first.number) == (False, 0)
    fork = new_thread("fork", origin=Origin(thread_id="t", seq=2), seq=2, status=Status.FAILED)
    assert not store.create(fork).repeated
    assert [each.thread_id for each in store.forks("t")] == ["fork"]
    old = store.segments("t")[:0:-1]
    merged = replace(old[-1], first=old[0].first, rows=tuple(row for segment in old for row in segment.rows))
    assert store.rewrite("t", old, [merged])
    image = store.image("t")
    store.load(replace(image, thread=replace(image.thread, thread_id="copy")), store.segments("t"), complete=True)
    assert store.claim("new", epoch=0, token=TOKEN, owner="o", crashed=True).epoch == 1
    assert store.commit([commit(1, thread_id="new")])[0] == Committed(seq=1, inbox=0, repeated=True)
    store.delete("fork")
    redis_raw.check_whole(redis_raw.dump(store))


def test_what_is_too_large_is_no_outage(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_records, "LARGEST_STRING", 40)
    owned(store)
    with pytest.raises(StoreMisuse, match="object storage"):
        store.commit([commit(1)])
    with pytest.raises(StoreMisuse, match="object storage"):
        store.deliver("t", message(payload=b"x" * 101), ANY)
    assert (store.thread("t").seq, store.thread("t").inbox) == (0, 0)
