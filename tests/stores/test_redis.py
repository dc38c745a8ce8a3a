"""What of the Redis store the conformance suite does not see: its keys, partitions, round trips and scripts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from perdure.stores import redis as redis_module
from perdure.stores.errors import (
    Corrupt,
    NewerFormat,
    StoreFull,
    StoreMissing,
    StoreMisuse,
    UnknownThread,
)
from perdure.stores.lua import scripts
from perdure.stores.operations import Amendment, Committed, RunUpdate
from perdure.stores.records import Origin, OwnerRecord, Status
from perdure.stores.redis import RedisStore
from perdure.stores.redis_options import RedisOptions
from perdure.stores.urls import open_store
from tests.stores import redis_raw
from tests.stores.backends import ANY, TOKEN, commit, message, new_thread, owned
from tests.stores.proxy import Proxy


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisStore]:
    with RedisStore(redis_url) as store:
        yield store


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


# -- keys --------------------------------------------------------------------------------------------------------------


def test_nothing_is_left_of_what_was_deleted(store: RedisStore) -> None:
    lived(store)
    store.create(new_thread("fork", origin=Origin(thread_id="t", seq=2), seq=2, status=Status.PAUSED, wake_at=9.0))
    store.put_setting("s", [1])
    store.renew(OwnerRecord(owner="o", counter=1, host="h", pid=1, started=1))
    for thread_id in ("fork", "t"):
        store.delete(thread_id)
    store.put_setting("s", None)
    store.forget("o")
    left = redis_raw.dump(store)
    kinds = sorted({key.split(":", 3)[2] for key in left})
    assert kinds in (["clock", "store"], ["clock", "store", "tomb"])
    # A tombstone goes by itself.
    assert all(f"{key} expires" in left for key in left if ":tomb:" in key and not key.endswith(" expires"))


def test_all_of_a_thread_is_in_its_partition(store: RedisStore) -> None:
    for i in range(64):
        lived(store, f"t{i}")
    keys = list(redis_raw.dump(store))
    assert {key.split(":")[1] for key in keys} == {"{layout}", *(f"{{p{n}}}" for n in range(16))}
    for i in range(64):
        assert len({key.split(":")[1] for key in keys if key.endswith(f":t{i}")}) == 1


def test_ids_that_look_like_keys_keep_apart(store: RedisStore) -> None:
    names = ["t", "t:1", "{p0}", "}", "row:t", "1:run", "i:m", "name:x"]
    for name in names:
        store.create(new_thread(name, metadata={"of": name}), message(name))
        store.amend(name, Amendment(names={name: 0}))
    for name in names:
        row = store.thread(name)
        assert (row.metadata, row.inbox) == ({"of": name}, 1)
        (kept,) = store.messages(name)
        assert kept.message_id == name
    redis_raw.check_whole(redis_raw.dump(store))


def test_stores_of_one_database_do_not_see_each_other(redis_url: str, store: RedisStore) -> None:
    store.create(new_thread())
    with RedisStore(redis_url, options=RedisOptions(prefix="other", partitions=1)) as other:
        with pytest.raises(UnknownThread):
            other.thread("t")
        other.create(new_thread("o", status=Status.FAILED))
        assert [row.thread_id for row in other.threads().threads] == ["o"]
        assert other.url == f"{redis_url}?prefix=other"
        with open_store(other.url) as again:
            assert again.thread("o") == other.thread("o")
        other.delete("o")
    assert [row.thread_id for row in store.threads().threads] == ["t"]


def test_partitions_are_those_that_it_was_created_with(redis_url: str) -> None:
    with RedisStore(redis_url, options=RedisOptions(partitions=3)) as store:
        for i in range(20):
            store.create(new_thread(f"t{i}"))
        with RedisStore(redis_url, options=RedisOptions(partitions=100)) as other:
            assert [other.thread(f"t{i}").thread_id for i in range(20)] == [f"t{i}" for i in range(20)]
            assert len(other.threads().threads) == 20
        assert {key.split(":")[1] for key in redis_raw.dump(store)} == {"{layout}", "{p0}", "{p1}", "{p2}"}


def test_a_newer_layout_is_refused(redis_url: str, store: RedisStore, raw: Redis) -> None:
    raw.hset("perdure:{layout}:store", "layout", "2")
    with pytest.raises(NewerFormat, match="layout 2"):
        RedisStore(redis_url)
    raw.hset("perdure:{layout}:store", "layout", "no number")
    with pytest.raises(Corrupt):
        RedisStore(redis_url)


def test_a_store_that_is_not_there_stays_so(redis_url: str, raw: Redis) -> None:
    with pytest.raises(StoreMissing):
        RedisStore(redis_url, create=False)
    assert raw.keys() == []
    with RedisStore(redis_url):
        pass
    with RedisStore(redis_url, create=False) as store:
        assert store.threads().threads == ()


def test_a_key_of_another_program(store: RedisStore, raw: Redis) -> None:
    raw.set(redis_raw.key(store, "row", "t"), "mine")
    with pytest.raises(Corrupt, match="prefix"):
        store.thread("t")
    with pytest.raises(Corrupt, match="prefix"):
        store.claim("t", epoch=0, token=TOKEN, owner="o")


@pytest.mark.parametrize(
    ("kind", "field", "value", "read"),
    [
        ("row", "epoch", b"x", lambda store: store.thread("t")),
        ("row", "status", b"odd", lambda store: store.threads()),
        ("row", "metadata", b"\xff", lambda store: store.thread("t")),
        ("runs", "1:made", b"\x93", lambda store: store.runs("t")),
        ("messages", "2", b"", lambda store: store.messages("t", unread=False)),
        ("segments", None, b"1:x", lambda store: store.segments("t")),
    ],
    ids=["number", "status", "text", "run", "message", "segment"],
)
def test_damage_names_the_record(
    store: RedisStore, raw: Redis, kind: str, field: str | None, value: bytes, read: Any
) -> None:
    lived(store)
    key = redis_raw.key(store, kind, "t")
    if field is None:
        raw.zremrangebyrank(key, 0, -1)
        raw.zadd(key, {value: 1})
    else:
        raw.hset(key, field, value)
    with pytest.raises(Corrupt, match=r":t'|'t'|thread's row"):
        read(store)


def test_numbers_that_redis_cannot_count_are_refused(store: RedisStore) -> None:
    with pytest.raises(StoreMisuse, match="2\\*\\*53"):
        store.create(new_thread(seq=2**53))
    owned(store)
    with pytest.raises(StoreMisuse, match="2\\*\\*53"):
        store.commit([commit(2**53, rows=())])
    with pytest.raises(StoreMisuse, match="Unicode"):
        store.create(new_thread("u", reason="\ud800"))
    largest = 2**53 - 2
    store.create(new_thread("l", seq=largest - 1, epoch=largest - 1))
    row = store.claim("l", epoch=largest - 1, token=TOKEN, owner="o")
    done = commit(largest, thread_id="l", epoch=row.epoch, rows=())
    assert store.commit([done]) == [Committed(seq=largest, inbox=0)]
    assert store.commit([done]) == [Committed(seq=largest, inbox=0, repeated=True)]
    assert [segment.first for segment in store.segments("l", first=largest)] == [largest]


# -- round trips and scripts -------------------------------------------------------------------------------------------


def test_a_call_is_one_round_trip(redis_url: str, raw: Redis) -> None:
    for text in scripts().values():
        raw.script_load(text)
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with Proxy(("127.0.0.1", port)) as proxy, RedisStore(redis_url.replace(str(port), str(proxy.port))) as store:
        names = [f"t{i}" for i in range(50)]
        for name in names:
            owned(store, name)
        before = proxy.trips
        assert len(store.commit([commit(1, thread_id=name) for name in names])) == 50
        assert proxy.trips == before + 1
        calls: list[Any] = [
            lambda: store.commit([commit(2, thread_id="t0")]),
            lambda: store.deliver("t0", message(), ANY),
            lambda: store.claim("t0", epoch=1, token="other", owner="o"),
            lambda: store.create(new_thread("new"), message()),
            lambda: store.thread("t0"),
            lambda: store.messages("t0"),
            lambda: store.segments("t0"),
            lambda: store.image("t0"),
        ]
        for call in calls:
            before = proxy.trips
            call()
            assert proxy.trips == before + 1


def test_scripts_that_the_server_forgot(store: RedisStore, raw: Redis) -> None:
    owned(store)
    raw.script_flush()
    group = [commit(1), commit(2), commit(3)]
    assert [type(result) for result in store.commit(group)] == [Committed] * 3
    raw.script_flush()
    assert store.deliver("t", message(), ANY).number == 1
    raw.script_flush()
    assert store.thread("t").seq == 3


def test_scripts_are_forgotten_while_others_write(redis_url: str, store: RedisStore, raw: Redis) -> None:
    owned(store)
    done = threading.Event()

    def forget() -> None:
        while not done.is_set():
            raw.script_flush()
            time.sleep(0.002)

    forgetting = threading.Thread(target=forget)
    forgetting.start()
    try:
        for first in range(1, 200, 2):
            results = store.commit([commit(first), commit(first + 1)])
            assert [type(result) for result in results] == [Committed] * 2
    finally:
        done.set()
        forgetting.join()
    assert store.thread("t").seq == 200


def test_a_full_server_writes_nothing(redis_url: str, store: RedisStore, raw: Redis) -> None:
    lived(store)
    store.create(new_thread("running"))
    store.claim("running", epoch=0, token=TOKEN, owner="o")
    before = redis_raw.dump(store)
    raw.config_set("maxmemory", "1")
    try:
        for call in (
            lambda: store.commit([commit(1, thread_id="running")]),
            lambda: store.create(new_thread("new"), message()),
            lambda: store.deliver("running", message(), ANY),
            lambda: store.create(new_thread("fork", origin=Origin(thread_id="t", seq=2), seq=2)),
        ):
            with pytest.raises(StoreFull, match="maxmemory"):
                call()
        assert store.thread("running").seq == 0
        # There must be a way out.
        store.delete("t")
    finally:
        raw.config_set("maxmemory", "0")
    redis_raw.check_whole(redis_raw.dump(store))
    after = redis_raw.dump(store)
    assert {key: held for key, held in before.items() if "running" in key} == {
        key: held for key, held in after.items() if "running" in key
    }
    assert store.commit([commit(1, thread_id="running")]) == [Committed(seq=1, inbox=0)]


# -- reading -----------------------------------------------------------------------------------------------------------


def test_many_segments_come_in_pieces(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    owned(store)
    for first in range(1, 40, 2):
        store.commit([commit(first, first + 1)])
    whole = store.segments("t")
    monkeypatch.setattr(redis_module, "_BYTES_AT_ONCE", 600)
    assert store.segments("t") == whole
    assert store.segments("t", first=6, last=31, limit=9) == [s for s in whole if s.last >= 6 and s.first <= 31][:9]
    assert [segment.first for segment in store.segments("t", limit=3)] == [39, 37, 35]


def test_segments_read_while_they_are_rewritten(
    redis_url: str, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "_BYTES_AT_ONCE", 600)
    owned(store)
    for seq in range(1, 61):
        store.commit([commit(seq)])
    done = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        with RedisStore(redis_url) as reader:
            while not done.is_set():
                seqs = [row.version for segment in reader.segments("t")[::-1] for row in segment.rows]
                if seqs != list(range(1, 61)):
                    wrong.append(seqs)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for width in (2, 3, 5):
        old = store.segments("t", last=59)[::-1]
        for at in range(0, len(old) - width + 1, width):
            part = old[at : at + width]
            rows = tuple(row for segment in part for row in segment.rows)
            merged = replace(part[-1], first=part[0].first, rows=rows)
            assert store.rewrite("t", part, [merged])
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_threads_of_one_number_are_listed_once(store: RedisStore, raw: Redis) -> None:
    """Partitions number on their own: threads of two of them may have the same number."""
    future = f"{int(time.time() * 1e6) + 10**12:016d}"
    for n in range(16):
        raw.set(f"perdure:{{p{n}}}:clock", future)
    names = [f"t{i}" for i in range(100)]
    for name in names:
        store.create(new_thread(name))
    numbers = {row[b"number"] for key, row in redis_raw.dump(store).items() if ":row:" in key}
    assert len(numbers) < 100
    for limit in (1, 7, 100):
        found: list[str] = []
        cursor = None
        while True:
            page = store.threads(limit=limit, cursor=cursor)
            found += [row.thread_id for row in page.threads]
            cursor = page.cursor
            if cursor is None:
                break
        assert sorted(found) == sorted(names)
    assert [row.thread_id for row in store.threads(limit=100).threads] == found
