"""Threads of a Redis store that expire after their end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis

from perdure.stores.errors import (
    UnknownThread,
)
from perdure.stores.operations import RunUpdate, ThreadFilter
from perdure.stores.records import Status
from perdure.stores.redis import RedisStore
from perdure.stores.redis_options import RedisOptions
from tests.stores import redis_raw
from tests.stores.backends import ANY, TOKEN, commit, message, new_thread, owned

TTL = RedisOptions(ttl=timedelta(hours=1))


@pytest.fixture
def raw(redis_url: str) -> Iterator[Redis]:
    with closing(Redis.from_url(redis_url)) as client:
        yield client


def lived(store: RedisStore, thread_id: str = "t") -> None:
    """A thread that has ended and has a bit of everything."""
    store.create(new_thread(thread_id, metadata={"a": 1}, tags=("x",)), message(payload=b"input"))
    store.deliver(thread_id, message("m2", kind="update"), ANY)
    store.claim(thread_id, epoch=0, token=TOKEN, owner="o")
    runs = (RunUpdate(run=1, status=Status.FAILED, error=b"e"),)
    store.commit([commit(1, 3, thread_id=thread_id, runs=runs, applied=((1, 1),), head=3)])
    store.commit([commit(4, thread_id=thread_id, status=Status.FAILED, wake_at=5.0)])


def expiring(store: RedisStore, thread_id: str = "t") -> set[str]:
    """Which of a thread's keys expire; all or none."""
    kept = redis_raw.dump(store)
    own = {key for key in kept if key.endswith(f":{thread_id}") and key.split(":")[2] in redis_raw.OWN}
    found = {key for key in own if f"{key} expires" in kept}
    assert found in (set(), own)
    return found


def expire(store: RedisStore, raw: Redis, thread_id: str = "t") -> None:
    """Let its time pass."""
    for kind in redis_raw.OWN:
        key = redis_raw.key(store, kind, thread_id)
        if raw.pttl(key) > 0:
            raw.delete(key)


def test_a_thread_expires_after_its_end(redis_url: str, raw: Redis) -> None:
    with RedisStore(redis_url, options=TTL) as store:
        owned(store)
        store.commit([commit(1)])
        assert not expiring(store)
        store.commit([commit(2, status=Status.SUCCEEDED)])
        assert len(expiring(store)) == 3
        assert 3_590_000 < raw.pttl(redis_raw.key(store, "row", "t")) <= 3_600_000
        # Keys that come later go with the others; a cancel does not wake what has ended.
        store.deliver("t", message("c", kind="cancel"), ANY)
        assert len(expiring(store)) == 5
        store.commit([commit(3, applied=((1, 3),), runs=(RunUpdate(run=1, status=Status.SUCCEEDED),))])
        assert len(expiring(store)) == 5
        store.deliver("t", message("next"), ANY)
        assert store.thread("t").status is Status.QUEUED
        assert not expiring(store)
        store.create(new_thread("born ended", status=Status.FAILED))
        assert expiring(store, "born ended")


def test_a_thread_really_expires(redis_url: str) -> None:
    with RedisStore(redis_url, options=RedisOptions(ttl=timedelta(milliseconds=50))) as store:
        lived(store)
        store.create(new_thread("stays"))
        deadline = time.monotonic() + 30
        while any(key.endswith(":t") for key in redis_raw.dump(store)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(UnknownThread):
            store.thread("t")
        assert [row.thread_id for row in store.threads().threads] == ["stays"]
        redis_raw.check_whole(redis_raw.dump(store))


def test_what_expired_is_swept_out_of_the_indexes(redis_url: str, raw: Redis) -> None:
    looks: list[Any] = [
        lambda store: [row.thread_id for row in store.threads().threads],
        lambda store: [row.thread_id for row in store.threads(ThreadFilter(graph="g")).threads],
        lambda store: sorted(store.stats().threads),
    ]
    with RedisStore(redis_url, options=TTL) as store:
        for look in looks:
            lived(store)
            store.create(new_thread("stays"))
            expire(store, raw)
            assert look(store) in (["stays"], ["queued"])
            for each in looks:
                each(store)
            store.threads(ThreadFilter(statuses=frozenset({Status.FAILED})))
            redis_raw.check_whole(redis_raw.dump(store))
            # The next of that name is another thread.
            store.create(new_thread("t", status=Status.PAUSED))
            assert store.threads().threads[0].thread_id == "t"
            assert store.segments("t") == []
            for thread_id in ("t", "stays"):
                store.deliver(thread_id, message("end"), ANY)
                store.claim(thread_id, epoch=0, token=TOKEN, owner="o")
                store.commit([commit(1, thread_id=thread_id, status=Status.FAILED)])
                store.delete(thread_id)


def test_what_expired_and_came_again_is_listed_once(redis_url: str, raw: Redis) -> None:
    with RedisStore(redis_url, options=TTL) as store:
        lived(store)
        expire(store, raw)
        store.create(new_thread("t", status=Status.PAUSED, wake_at=1.0))
        assert [row.status for row in store.threads().threads] == [Status.PAUSED]
        assert store.threads(ThreadFilter(statuses=frozenset({Status.FAILED}))).threads == ()
        assert [row.thread_id for row in store.due(2.0)] == ["t"]
        store.threads(ThreadFilter(graph="g"))
        redis_raw.check_whole(redis_raw.dump(store))


def test_a_thread_that_is_copied_in_does_not_expire_before_it_is_there(redis_url: str) -> None:
    with RedisStore(redis_url, options=TTL) as store:
        lived(store)
        image = store.image("t")
        copy = replace(image, thread=replace(image.thread, thread_id="copy"), runs=())
        store.load(copy)
        assert not expiring(store, "copy")
        store.load(copy, complete=True)
        assert expiring(store, "copy")


def test_without_the_option_nothing_expires(redis_url: str) -> None:
    with RedisStore(redis_url) as store:
        lived(store)
        assert not expiring(store)
