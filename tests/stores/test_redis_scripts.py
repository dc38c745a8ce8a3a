"""Scripts compare first and write then: what they refuse wrote nothing, and after its first write none refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from importlib.resources import files
from typing import Any

import pytest

from perdure.stores import lua
from perdure.stores.errors import (
    ClaimLost,
    Fenced,
    InboxChanged,
    Refused,
    StoreError,
    StoreMisuse,
    ThreadExists,
    ThreadHeld,
    ThreadReferenced,
    UnknownThread,
)
from perdure.stores.operations import EMPTY, Amendment, Expect, Reached, RunUpdate, ThreadImage
from perdure.stores.records import Origin, OwnerRecord, Status
from perdure.stores.redis import RedisStore
from perdure.stores.redis_forks import UNHELD
from perdure.stores.redis_options import RedisOptions
from tests.stores import redis_raw
from tests.stores.backends import ANY, TOKEN, commit, message, new_thread

WRITES = re.compile(
    r"\b(SET|HSET|HSETNX|HDEL|HINCRBY|ZADD|ZREM|UNLINK|PEXPIREAT|PERSIST)\b'"
    r"|\b(write_pairs|enter|leave|change_status|schedule|next_number|settle|add_message|add_segment)\("
)


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisStore]:
    """Threads in which every script finds something to write, and something to object to."""
    with RedisStore(redis_url, options=RedisOptions(ttl=timedelta(hours=1))) as store:
        store.create(new_thread("t", run=1, runs=1), message(payload=b"input"))
        store.claim("t", epoch=0, token=TOKEN, owner="o")
        store.commit([commit(seq, head=seq) for seq in range(1, 6)])
        store.amend("t", Amendment(names={"kept": 2}, floor=4))
        store.create(new_thread("fork", origin=Origin(thread_id="t", seq=5), seq=5, status=Status.PAUSED))
        store.create(new_thread("parked", status=Status.INTERRUPTED, waits=("i1",), head=0), message())
        store.create(new_thread("ended", status=Status.FAILED))
        store.create(new_thread("ended fork", status=Status.FAILED))
        image = store.image("parked")
        store.load(
            replace(image, thread=replace(image.thread, thread_id="loading", origin=Origin(thread_id="t", seq=4)))
        )
        store.renew(OwnerRecord(owner="o", counter=5, host="h", pid=1, started=1))
        yield store


FULL: dict[str, Any] = {
    "status": Status.FAILED,
    "reason": "r",
    "head": 6,
    "run": 1,
    "wake_at": 4.0,
    "waits": ("x",),
    "runs": (RunUpdate(run=1, status=Status.FAILED),),
    "applied": ((1, 6),),
    "release": True,
    "progress": True,
    "at": 9.0,
}
PARKED_RUN = Expect(statuses=frozenset(Status), wait="i1", run=0, head=0)

REFUSED: dict[str, tuple[type[StoreError] | None, Callable[[RedisStore], Any]]] = {
    "claim: epoch": (ClaimLost, lambda s: s.claim("t", epoch=0, token="new", owner="new", crashed=True, at=3.0)),
    "claim: repeated": (None, lambda s: s.claim("t", epoch=0, token=TOKEN, owner="o", crashed=True, at=3.0)),
    "claim: unknown": (UnknownThread, lambda s: s.claim("no", epoch=0, token="new", owner="new")),
    "commit: epoch": (Fenced, lambda s: s.commit([commit(6, epoch=0, **FULL)])),
    "commit: token": (Fenced, lambda s: s.commit([commit(6, token="other", **FULL)])),
    "commit: seq": (Fenced, lambda s: s.commit([commit(7, **FULL)])),
    "commit: unknown": (Fenced, lambda s: s.commit([commit(6, thread_id="no", **FULL)])),
    "commit: inbox": (InboxChanged, lambda s: s.commit([commit(6, expect_inbox=0, **FULL)])),
    "commit: repeated": (
        None,
        lambda s: s.commit([commit(5, commit_id=s.segments("t", limit=1)[0].commit_id, **FULL)]),
    ),
    "deliver: status": (Refused, lambda s: s.deliver("parked", message("n"), Expect(statuses=frozenset()))),
    "deliver: run": (Refused, lambda s: s.deliver("parked", message("n"), replace(PARKED_RUN, run=9))),
    "deliver: head": (Refused, lambda s: s.deliver("parked", message("n"), replace(PARKED_RUN, head=9))),
    "deliver: wait": (Refused, lambda s: s.deliver("parked", message("n", "resume"), replace(PARKED_RUN, wait="i2"))),
    "deliver: repeated": (None, lambda s: s.deliver("parked", message(), ANY)),
    "deliver: unknown": (UnknownThread, lambda s: s.deliver("no", message(), ANY)),
    "create: there": (ThreadExists, lambda s: s.create(new_thread("t"), message("new"))),
    "create: repeated": (None, lambda s: s.create(new_thread("t"), message())),
    "create: no origin": (UnknownThread, lambda s: s.create(new_thread("n", origin=Origin(thread_id="no", seq=0)))),
    "register: seq": (StoreMisuse, lambda s: s.create(new_thread("n", origin=Origin(thread_id="t", seq=6)))),
    "register: floor": (StoreMisuse, lambda s: s.create(new_thread("n", origin=Origin(thread_id="t", seq=3)))),
    "amend: name above": (StoreMisuse, lambda s: s.amend("t", Amendment(names={"kept": 0, "n": 6}, floor=5))),
    "amend: name below": (StoreMisuse, lambda s: s.amend("t", Amendment(names={"kept": 0, "n": 3}, tidied=2))),
    "amend: inherited": (StoreMisuse, lambda s: s.amend("fork", Amendment(names={"n": 2}))),
    "amend: floor": (StoreMisuse, lambda s: s.amend("t", Amendment(names={"kept": 0, "m": 5}, floor=6, tidied=4))),
    "amend: unknown": (UnknownThread, lambda s: s.amend("no", Amendment(tidied=1))),
    "amend: held": (ThreadHeld, lambda s: s.amend("loading", Amendment(names={"n": 5}, tidied=4))),
    "register: held": (ThreadHeld, lambda s: s.create(new_thread("n", origin=Origin(thread_id="loading", seq=4)))),
    "rewrite: last differs": (
        None,
        lambda s: s.rewrite("t", _old(s, 3, last={"commit_id": "other"}), [_merged(s, 3)]),
    ),
    "rewrite: one more": (None, lambda s: s.rewrite("t", [_old(s, 3)[0], _old(s, 3)[2]], [_merged(s, 3)])),
    "rewrite: newest": (None, lambda s: s.rewrite("t", _old(s, 5), [_merged(s, 5)])),
    "rewrite: unknown": (None, lambda s: s.rewrite("no", _old(s, 3), [])),
    "load: there": (ThreadExists, lambda s: s.load(s.image("t"), s.segments("t"), complete=True)),
    "load: further": (None, lambda s: s.load(s.image("loading"), _old(s, 2), after=Reached(1, "c"), complete=True)),
    "load: not there": (None, lambda s: s.load(_renamed(s.image("t")), s.segments("t"), after=EMPTY)),
    "delete: runnable": (Refused, lambda s: s.delete("t")),
    "delete: not there": (None, lambda s: s.delete("no")),
    "renew: lower": (None, lambda s: s.renew(OwnerRecord(owner="o", counter=4, host="h", pid=1, started=1))),
    "open: nothing there": (
        StoreMisuse,
        lambda s: RedisStore(s.url, options=RedisOptions(prefix="none"), create=False),
    ),
}


def _old(store: RedisStore, count: int, last: dict[str, Any] | None = None) -> list[Any]:
    segments = store.segments("t")[::-1][:count]
    return [*segments[:-1], replace(segments[-1], **last)] if last else segments


def _renamed(image: ThreadImage) -> ThreadImage:
    return replace(image, thread=replace(image.thread, thread_id="no"))


def _merged(store: RedisStore, count: int) -> Any:
    segments = _old(store, count)
    return replace(segments[-1], first=1, rows=())


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_wrote_nothing(store: RedisStore, name: str) -> None:
    error, call = REFUSED[name]
    before = redis_raw.dump(store)
    if error in (Fenced, InboxChanged):
        (result,) = call(store)
        assert type(result) is error
    elif error is not None:
        with pytest.raises(error):
            call(store)
    else:
        call(store)
    assert redis_raw.dump(store) == before
    redis_raw.check_whole(before)


def test_a_parent_with_forks_is_left(store: RedisStore) -> None:
    store.commit([commit(6, status=Status.FAILED)])
    before = redis_raw.dump(store)
    with pytest.raises(ThreadReferenced) as caught:
        store.delete("t")
    assert set(caught.value.forks) == {"fork", "loading"}
    assert redis_raw.dump(store) == before


def test_a_void_token_writes_nothing(store: RedisStore) -> None:
    thread = new_thread("late", origin=Origin(thread_id="t", seq=5), seq=5)
    image = store.image("loading")
    late_copy = replace(image, thread=replace(image.thread, thread_id="late copy"))
    for row, arrives in (
        (thread, lambda row, token: store._insert(row, message(), token)),
        (late_copy.thread, lambda row, token: store._put(row, late_copy, [], None, token)),
    ):
        held = store._forks._hold(row, row.origin)  # type: ignore[arg-type] # it has one
        assert held is not None
        assert [fork.thread_id for fork in store.forks("t")] == ["loading", "fork"]
        before = redis_raw.dump(store)
        assert arrives(row, held.token) is None
        assert redis_raw.dump(store) == before
    # Whoever finds out that the id is not taken has still to register.
    before = redis_raw.dump(store)
    assert store._insert(thread, message(), UNHELD) is None
    assert redis_raw.dump(store) == before
    # What is loading has another origin than this one knows.
    before = redis_raw.dump(store)
    other = replace(image.thread, origin=Origin(thread_id="t", seq=5))
    assert not store._put(other, image, [], None, "kept")
    assert redis_raw.dump(store) == before


SCRIPTS = [name for name in lua.scripts() if name not in {"unregister", "sweep"}]


@pytest.mark.parametrize("name", SCRIPTS)
def test_after_its_first_write_a_script_goes_to_its_end(name: str) -> None:
    lines = (files(lua) / f"{name}.lua").read_text().splitlines()
    code = [line.partition("--")[0].rstrip() for line in lines if line.partition("--")[0].strip()]
    writing = [number for number, line in enumerate(code) if WRITES.search(line)]
    returns = [number for number, line in enumerate(code) if re.search(r"\breturn\b", line)]
    if writing:
        assert [number for number in returns if number >= writing[0]] in ([], [len(code) - 1]), code[writing[0]]


def test_every_script_is_loaded() -> None:
    there = {entry.name for entry in files(lua).iterdir() if entry.name.endswith(".lua")}
    assert there == {f"{name}.lua" for name in (*lua.scripts(), "thread")}


def test_a_group_is_not_held_up_by_one_that_is_refused(store: RedisStore) -> None:
    store.claim("parked", epoch=0, token=TOKEN, owner="o")
    calls = partial(commit, 1, thread_id="parked")
    results = store.commit([commit(6, token="other"), calls(), commit(6), commit(9, thread_id="no")])
    assert [type(result).__name__ for result in results] == ["Fenced", "Committed", "Committed", "Fenced"]
