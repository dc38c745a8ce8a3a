"""Forks over partitions: whatever crashes or races, no fork is without its origin and no origin is held for ever."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from perdure.stores.deletion import delete_thread
from perdure.stores.errors import (
    StoreError,
    StoreMisuse,
    StoreUnavailable,
    ThreadExists,
    ThreadReferenced,
    UnknownThread,
)
from perdure.stores.operations import Amendment, ThreadImage
from perdure.stores.records import Origin, Status, ThreadRecord
from perdure.stores.redis import RedisStore
from perdure.stores.redis_connections import Call
from perdure.stores.redis_options import RedisOptions
from perdure.testing.racing import race
from tests.stores import redis_raw
from tests.stores.backends import ANY, TOKEN, commit, message, new_thread, owned

FORK = new_thread("fork", origin=Origin(thread_id="t", seq=3), seq=3, status=Status.FAILED)
MAIL = message(kind="cancel")
"""Does not wake what has ended."""


@pytest.fixture(params=["one server", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    name = "redis_url" if request.param == "one server" else "redis_cluster_url"
    return str(request.getfixturevalue(name))


@pytest.fixture
def store(url: str) -> Iterator[RedisStore]:
    with RedisStore(url) as store:
        yield store


def parent(store: RedisStore, thread_id: str = "t") -> None:
    owned(store, thread_id)
    store.commit([commit(1, 5, thread_id=thread_id, head=5, status=Status.FAILED)])


def registered(store: RedisStore, thread_id: str = "t") -> int:
    return len(redis_raw.dump(store).get(redis_raw.key(store, "forks", thread_id), ()))


class Crash(StoreUnavailable):
    pass


@contextmanager
def crashing(store: RedisStore, call: int, *, after: bool) -> Iterator[list[int]]:
    """Before or after the given round trip the process is gone; yields the number of round trips made."""
    connections = store._connections
    real = connections.run
    made = [0]

    def run(calls: Sequence[Call], *, writes: bool = False) -> list[Any]:
        made[0] += 1
        if made[0] == call and not after:
            raise Crash("before")
        if made[0] > call:
            raise Crash("gone already")
        answers = real(calls, writes=writes)
        if made[0] == call:
            raise Crash("after")
        return answers

    connections.run = run  # type: ignore[method-assign] # the wire is cut here
    try:
        yield made
    finally:
        del connections.run


def copied(store: RedisStore) -> None:
    row = new_thread("copy", origin=Origin(thread_id="t", seq=2), seq=2, status=Status.PAUSED)
    for complete in (False, False, True):
        store.load(ThreadImage(thread=row, runs=(), messages=()), complete=complete)


def forked(store: RedisStore) -> None:
    parent(store)
    store.create(FORK, MAIL)


def between(store: RedisStore) -> None:
    """A thread that is a fork itself, and has one."""
    parent(store)
    fork = partial(new_thread, status=Status.PAUSED)
    store.create(fork("mid", origin=Origin(thread_id="t", seq=2), seq=2))
    store.claim("mid", epoch=0, token=TOKEN, owner="o")
    store.commit([commit(3, thread_id="mid"), commit(4, thread_id="mid", release=True)])
    store.create(fork("fork", origin=Origin(thread_id="mid", seq=4), seq=4))


SCENES: dict[str, tuple[Callable[[RedisStore], None], Callable[[RedisStore], Any], list[str]]] = {
    "create": (parent, lambda store: store.create(FORK, MAIL), ["fork", "t"]),
    "delete the fork": (forked, lambda store: store.delete("fork"), ["t"]),
    "delete the origin": (parent, lambda store: store.delete("t"), []),
    "load": (forked, lambda store: copied(store), ["copy", "fork", "t"]),
    "delete what is between": (between, lambda store: delete_thread(store, "mid"), ["fork", "t"]),
    "forks": (forked, lambda store: store.forks("t"), ["fork", "t"]),
}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_point_is_finished_by_a_repetition(redis_url: str, scene: str, after: bool) -> None:
    prepare, act, left = SCENES[scene]
    crash = 0
    while True:
        crash += 1
        with RedisStore(redis_url, options=RedisOptions(prefix=f"s{crash}")) as store:
            prepare(store)
            try:
                with crashing(store, crash, after=after):
                    act(store)
            except Crash:
                with suppress(ThreadExists):
                    act(store)
                crashed = True
            else:
                crashed = False
            assert sorted(row.thread_id for row in store.threads().threads) == left
            if "t" in left:
                present = sorted(name for name in left if name in {"fork", "copy"})
                assert sorted(fork.thread_id for fork in store.forks("t")) == present
                # Whoever asked has removed what a crash had left.
                assert registered(store) == len(present)
                for name in present:
                    with pytest.raises(ThreadReferenced):
                        store.delete("t")
                    store.delete(name)
                store.delete("t")
            redis_raw.check_whole(
                {key: held for key, held in redis_raw.dump(store).items() if key.startswith(f"s{crash}:")}
            )
        if not crashed:
            assert crash > 1
            return


def test_a_creator_that_comes_late_finds_its_origin_gone(store: RedisStore) -> None:
    """It had registered, slept, and its origin was deleted meanwhile."""
    parent(store)
    assert FORK.origin is not None
    held = store._forks._hold(FORK, FORK.origin)
    assert held is not None
    store.delete("t")
    parent(store)
    assert store._insert(FORK, None, held.token) is None
    assert [row.thread_id for row in store.threads().threads] == ["t"]
    # Anew, with the origin that is there now.
    store.create(FORK)
    assert [fork.thread_id for fork in store.forks("t")] == ["fork"]


def test_a_creator_that_comes_late_finds_its_checkpoint_dropped(store: RedisStore) -> None:
    """Retention asked which forks there are, was told none, and dropped the checkpoint."""
    parent(store)
    assert FORK.origin is not None
    arrived: list[ThreadRecord] = []

    def late(row: ThreadRecord, token: str) -> tuple[None, bool] | None:
        if not arrived:
            store.amend("t", Amendment(floor=5))
            assert store.forks("t") == ()
        arrived.append(row)
        return None if store._insert(row, None, token) is None else (None, True)

    with pytest.raises(StoreMisuse, match="retention has dropped"):
        store._forks.forked(FORK, late)
    assert len(arrived) == 1
    with pytest.raises(UnknownThread):
        store.thread("fork")


def test_a_look_at_the_forks_does_not_fail_their_creation(store: RedisStore) -> None:
    parent(store)
    looks = iter([True, True, False])

    def late(row: ThreadRecord, token: str) -> tuple[None, bool] | None:
        if next(looks):
            assert store.forks("t") == ()
        return None if store._insert(row, None, token) is None else (None, True)

    store._forks.forked(FORK, late)
    assert [fork.thread_id for fork in store.forks("t")] == ["fork"]
    assert registered(store) == 1


def test_forks_race_with_the_deletion_of_their_origin(url: str) -> None:
    with RedisStore(url) as one, RedisStore(url) as two:
        for turn in range(25):
            parent(one)
            names = [f"f{i}" for i in range(3)]
            forks = [
                new_thread(name, origin=Origin(thread_id="t", seq=3), seq=3, status=Status.FAILED) for name in names
            ]
            calls: list[Callable[[], Any]] = [partial(two.create, fork) for fork in forks]
            calls.insert(turn % 4, lambda: one.delete("t"))
            answers = race(calls)
            there = {row.thread_id for row in one.threads().threads}
            errors = [type(answer) for answer in answers if isinstance(answer, BaseException)]
            assert set(errors) <= {UnknownThread, ThreadReferenced}, answers
            if "t" in there:
                assert ThreadReferenced in errors
                assert {fork.thread_id for fork in one.forks("t")} == there - {"t"}
            else:
                assert there == set()
            for name in sorted(there):
                one.delete(name)
            assert one.threads().threads == ()
        redis_raw.check_whole(redis_raw.dump(one))


def test_forks_of_forks_race_with_deletions(url: str) -> None:
    """Every thread that has an origin has one that is there and knows it, however they come and go."""
    names = ["a", "b", "c", "d"]

    def churn(seed: int) -> list[str]:
        chance = random.Random(seed)
        odd = []
        with RedisStore(url) as store:
            for _ in range(60):
                name, other = chance.sample(names, 2)
                origin = Origin(thread_id=other, seq=chance.randint(0, 2)) if chance.random() < 0.7 else None
                try:
                    if chance.random() < 0.5:
                        store.create(new_thread(name, origin=origin, seq=3, status=Status.FAILED))
                    else:
                        store.delete(name)
                except (UnknownThread, ThreadExists, ThreadReferenced):
                    pass
                except StoreError as error:
                    odd.append(repr(error))
        return odd

    answers = race([partial(churn, seed) for seed in range(3)])
    assert answers == [[], [], []]
    with RedisStore(url) as store:
        rows = {row.thread_id: row for row in store.threads().threads}
        for row in rows.values():
            if row.origin is not None:
                assert row.origin.thread_id in rows
                assert row.thread_id in {fork.thread_id for fork in store.forks(row.origin.thread_id)}
        for name in names:
            known = {fork.thread_id for fork in store.forks(name)}
            assert known == {row.thread_id for row in rows.values() if row.origin and row.origin.thread_id == name}
        while rows:
            for name in list(rows):
                with suppress(ThreadReferenced):
                    store.delete(name)
                    del rows[name]
        redis_raw.check_whole(redis_raw.dump(store))


def bare(row: ThreadRecord) -> ThreadImage:
    return ThreadImage(thread=row, runs=(), messages=())


def test_no_thread_becomes_its_own_origin(store: RedisStore) -> None:
    """A copy that is made again, from a source in which all has changed."""
    parent(store)
    loading = bare(replace(FORK, thread_id="a"))
    store.load(loading)
    store.load(bare(new_thread("b", origin=Origin(thread_id="a", seq=3), seq=3, status=Status.FAILED)), complete=True)
    store.load(bare(new_thread("c", origin=Origin(thread_id="a", seq=3), seq=3, status=Status.FAILED)), complete=True)
    assert [fork.thread_id for fork in store.forks("t")] == ["a", "b", "c"]
    store.load(replace(loading, thread=replace(loading.thread, origin=None, seq=5)))
    store.load(bare(new_thread("d", origin=Origin(thread_id="a", seq=4), seq=4, status=Status.FAILED)), complete=True)
    for origin in (Origin(thread_id="d", seq=2), Origin(thread_id="a", seq=2)):
        with pytest.raises(StoreMisuse, match="leads back to it"):
            store.load(replace(loading, thread=replace(loading.thread, origin=origin)))
    assert registered(store, "a") == 1
    for name in ("b", "c", "d", "a", "t"):
        store.delete(name)
    redis_raw.check_whole(redis_raw.dump(store))


def test_a_forked_thread_does_not_expire(redis_url: str) -> None:
    with RedisStore(redis_url, options=RedisOptions(ttl=timedelta(hours=1))) as store:
        parent(store)
        row = redis_raw.key(store, "row", "t")
        assert f"{row} expires" in redis_raw.dump(store)
        store.create(FORK)
        kept = redis_raw.dump(store)
        assert not [key for key in kept if key.endswith(":t expires")]
        # Not by going on and ending again either.
        store.deliver("t", message(), ANY)
        store.claim("t", epoch=1, token=TOKEN, owner="o")
        store.commit([commit(6, epoch=2, status=Status.FAILED)])
        assert f"{row} expires" not in redis_raw.dump(store)
        store.delete("fork")
        kept = redis_raw.dump(store)
        own = {key for key in kept if key.endswith(":t")}
        assert {key for key in own if f"{key} expires" in kept} == own


def test_an_origin_expires_after_its_forks_did(redis_url: str) -> None:
    with RedisStore(redis_url, options=RedisOptions(ttl=timedelta(hours=1))) as store:
        parent(store)
        store.create(new_thread("fork", origin=Origin(thread_id="t", seq=3), seq=3, status=Status.FAILED))
        row = redis_raw.key(store, "row", "t")
        (client,) = redis_raw.clients(store)
        client.delete(redis_raw.key(store, "row", "fork"))
        assert f"{row} expires" not in redis_raw.dump(store)
        assert store.forks("t") == ()
        assert f"{row} expires" in redis_raw.dump(store)
