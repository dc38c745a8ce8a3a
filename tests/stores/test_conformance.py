"""What every store must do: create, deliver, claim, commit, list, delete; each call repeated, raced and refused."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import pytest

from perdure.stores.base import CheckpointStore
from perdure.stores.errors import (
    ClaimLost,
    Fenced,
    InboxChanged,
    Refused,
    StoreMisuse,
    ThreadExists,
    ThreadReferenced,
    UnknownThread,
)
from perdure.stores.records import (
    ENDED,
    PARKED,
    Committed,
    Expect,
    GraphRecord,
    Origin,
    OwnerRecord,
    RunUpdate,
    Status,
    ThreadFilter,
    ThreadRecord,
)
from tests.stores.backends import ANY, TOKEN, Backend, commit, delta, message, new_thread, owned

T = TypeVar("T")


def race(calls: list[Callable[[], T]]) -> list[T | BaseException]:
    """Run them at once; each one's answer or error."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T | BaseException:
        start.wait()
        try:
            return call()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


# -- creation ------------------------------------------------------------------------------------------------------


def test_a_thread_comes_back_as_it_was_given(store: CheckpointStore) -> None:
    given = new_thread(
        graph_key="key",
        driver="inprocess",
        status=Status.PAUSED,
        reason="why",
        run=2,
        runs=3,
        epoch=4,
        head=0,
        crashes=1,
        waits=("i1", "i2"),
        metadata={"user": "ann", "n": 1, "deep": {"a": [1, None, True, 2.5]}},
        tags=("x", "y'\""),
        updated_at=2.25,
    )
    assert store.create(given).thread == given
    assert store.thread("t") == given
    assert pickle.loads(pickle.dumps(store.thread("t"))) == given


def test_what_a_store_holds_is_nobodys_to_change(store: CheckpointStore) -> None:
    metadata = {"list": [1]}
    store.create(new_thread(metadata=metadata))
    metadata["list"].append(2)
    store.thread("t").metadata["list"].append(3)
    assert store.thread("t").metadata == {"list": [1]}


def test_create_writes_the_first_message_and_run(backend: Backend, store: CheckpointStore) -> None:
    delivery = store.create(new_thread(), message(payload=b"input", created_at=3.5))
    assert (delivery.number, delivery.run, delivery.repeated) == (1, 1, False)
    row = store.thread("t")
    assert row == delivery.thread
    assert (row.inbox, row.runs, row.run, row.status) == (1, 1, 0, Status.QUEUED)
    (kept,) = store.messages("t")
    assert (kept.message_id, kept.number, kept.run, kept.payload, kept.applied) == ("m", 1, 1, b"input", 0)
    (run,) = store.runs("t")
    assert (run.run, run.status, run.created_at, run.ended_at) == (1, Status.QUEUED, 3.5, 0.0)
    assert backend.count(store, "t") == {"threads": 1, "runs": 1, "messages": 1, "segments": 0}


def test_create_repeated_is_one_creation(backend: Backend, store: CheckpointStore) -> None:
    first = store.create(new_thread(), message())
    again = store.create(new_thread(), message())
    assert again == replace(first, repeated=True)
    for other in (message("another"), None):
        with pytest.raises(ThreadExists) as caught:
            store.create(new_thread(), other)
        assert caught.value.thread_id == "t"
    assert backend.count(store, "t") == {"threads": 1, "runs": 1, "messages": 1, "segments": 0}


def test_of_many_creators_one_wins(store: CheckpointStore) -> None:
    answers = race([partial(store.create, new_thread(), message(f"m{i}")) for i in range(8)])
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 1
    assert sum(isinstance(answer, ThreadExists) for answer in answers) == 7
    assert len(store.messages("t")) == 1


def test_unknown_threads(store: CheckpointStore) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.thread("no"),
        lambda: store.runs("no"),
        lambda: store.claim("no", epoch=0, token="t", owner="o"),
        lambda: store.deliver("no", message(), ANY),
        lambda: store.create(new_thread(origin=Origin(thread_id="no", seq=1))),
    ]
    for call in calls:
        with pytest.raises(UnknownThread) as caught:
            call()
        assert caught.value.thread_id == "no"
    assert store.messages("no") == ()
    assert store.segments("no") == []
    (result,) = store.commit([commit(1, thread_id="no")])
    assert isinstance(result, Fenced)
    with pytest.raises(UnknownThread):
        store.thread("t")


HOSTILE = [
    "it's; DROP TABLE threads; --",
    'quote"quote',
    "new\nline\ttab",
    "🦊 émoji 漢字",
    "%_\\",
    "a/b?c#d",
    "x" * 512,
    "0",
    "NULL",
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names(backend: Backend, store: CheckpointStore, name: str) -> None:
    store.create(new_thread("other"))
    store.create(
        new_thread(name, tags=(name,), metadata={name: name}, graph=name), message(name, payload=name.encode())
    )
    store.claim(name, epoch=0, token=name, owner=name)
    done = commit(1, thread_id=name, token=name, commit_id=name, reason=name, waits=(name,), applied=((1, 1),))
    assert store.commit([done]) == [Committed(seq=1, inbox=1)]
    assert store.commit([done]) == [Committed(seq=1, inbox=1, repeated=True)]
    row = store.thread(name)
    assert (row.owner, row.reason, row.waits, row.tags) == (name, name, (name,), (name,))
    where = ThreadFilter(graph=name, owner=name, tag=name, metadata={name: name})
    assert [found.thread_id for found in store.threads(where).threads] == [name]
    (segment,) = store.segments(name)
    assert (segment.thread_id, segment.commit_id) == (name, name)
    store.commit([commit(2, thread_id=name, token=name, status=Status.FAILED)])
    store.delete(name)
    assert backend.count(store, name)["threads"] == 0
    assert store.thread("other").status is Status.QUEUED


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 10_240, "漢" * 200, "\ud800"], ids=range(5))
def test_ids_that_are_refused(store: CheckpointStore, name: str) -> None:
    owned(store)
    calls: list[Callable[[], object]] = [
        lambda: store.create(new_thread(name)),
        lambda: store.create(new_thread("n"), message(name)),
        lambda: store.create(new_thread("n", origin=Origin(thread_id=name, seq=1))),
        lambda: store.thread(name),
        lambda: store.deliver("t", message(name), ANY),
        lambda: store.claim("t", epoch=1, token=name, owner="o"),
        lambda: store.commit([commit(1, commit_id=name)]),
        lambda: store.commit([commit(1, token=name)]),
        lambda: store.delete(name),
        lambda: store.renew(OwnerRecord(owner=name, counter=1, host="h", pid=1, started=10)),
    ]
    for call in calls:
        with pytest.raises(StoreMisuse):
            call()
    assert len(store.threads().threads) == 1
    assert store.thread("t").seq == 0


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**63, "a\0b", object(), {1: 2}, b"bytes", {"deep": ["\0"]}], ids=range(8)
)
def test_metadata_that_is_refused(store: CheckpointStore, value: object) -> None:
    with pytest.raises(StoreMisuse):
        store.create(new_thread(metadata={"key": value}))
    with pytest.raises(StoreMisuse):
        store.threads(ThreadFilter(metadata={"key": value}))
    assert store.threads().threads == ()


# -- messages ------------------------------------------------------------------------------------------------------


def test_messages_are_numbered_and_repeats_are_not(backend: Backend, store: CheckpointStore) -> None:
    store.create(new_thread())
    first = store.deliver("t", message("a"), ANY)
    second = store.deliver("t", message("b", kind="pause", run=1), ANY)
    assert [(d.number, d.run, d.repeated) for d in (first, second)] == [(1, 1, False), (2, 1, False)]
    again = store.deliver("t", message("a"), Expect(statuses=frozenset()))
    assert (again.number, again.run, again.repeated, again.thread) == (1, 1, True, store.thread("t"))
    assert [kept.message_id for kept in store.messages("t")] == ["a", "b"]
    store.create(new_thread("u"))
    assert store.deliver("u", message("a"), ANY).repeated is False
    assert backend.count(store, "t") == {"threads": 1, "runs": 1, "messages": 2, "segments": 0}


def test_runs_are_numbered_by_accepted_inputs(store: CheckpointStore) -> None:
    store.create(new_thread(), message("m0"))
    answers = race([partial(store.deliver, "t", message(f"m{i}"), ANY) for i in range(1, 9)])
    assert sorted(answer.run for answer in answers if not isinstance(answer, BaseException)) == list(range(2, 10))
    with pytest.raises(Refused):
        store.deliver("t", message("late"), Expect(statuses=frozenset({Status.FAILED})))
    assert [run.run for run in store.runs("t")] == list(range(1, 10))
    assert [kept.number for kept in store.messages("t")] == list(range(1, 10))
    assert all(kept.run == kept.number for kept in store.messages("t"))
    assert store.thread("t").runs == 9


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("kind", ["input", "resume", "cancel", "pause", "update", "retry"])
def test_which_messages_wake_a_thread(store: CheckpointStore, status: Status, kind: str) -> None:
    store.create(new_thread(status=status))
    after = store.deliver("t", message(kind=kind), ANY).thread.status
    woken = status in PARKED or (status in ENDED and kind != "cancel")
    assert after is (Status.QUEUED if woken else status)
    assert store.thread("t").status is after
    assert store.thread("t").inbox == 1


@pytest.mark.parametrize(
    ("expect", "word"),
    [
        (Expect(statuses=frozenset({Status.RUNNING})), "running"),
        (Expect(statuses=frozenset()), "no status"),
        (Expect(statuses=frozenset({Status.INTERRUPTED}), run=2), "run 2"),
        (Expect(statuses=frozenset({Status.INTERRUPTED}), head=4), "checkpoint 4"),
        (Expect(statuses=frozenset({Status.INTERRUPTED}), wait="i9"), "i9"),
    ],
    ids=["status", "none", "run", "head", "wait"],
)
def test_expectations(backend: Backend, store: CheckpointStore, expect: Expect, word: str) -> None:
    store.create(new_thread(status=Status.INTERRUPTED, run=1, runs=1, head=3, waits=("i1", "i2")))
    before = store.thread("t")
    with pytest.raises(Refused, match=word) as caught:
        store.deliver("t", message(kind="resume"), expect)
    assert (caught.value.thread_id, caught.value.kind, caught.value.status) == ("t", "resume", "interrupted")
    assert store.thread("t") == before
    assert backend.count(store, "t")["messages"] == 0
    good = Expect(statuses=frozenset({Status.INTERRUPTED}), run=1, head=3, wait="i2")
    assert store.deliver("t", message(kind="resume"), good).thread.waits == ("i1",)


def test_one_answer_to_each_interrupt(store: CheckpointStore) -> None:
    store.create(new_thread(status=Status.INTERRUPTED, waits=("i1", "i2", "i3")))
    expect = Expect(statuses=frozenset(Status), wait="i1")
    answers = race([partial(store.deliver, "t", message(f"r{i}", kind="resume"), expect) for i in range(6)])
    assert sum(isinstance(answer, Refused) for answer in answers) == 5
    assert store.thread("t").waits == ("i2", "i3")
    assert store.thread("t").status is Status.QUEUED
    assert store.deliver("t", message("all", kind="resume"), ANY).thread.waits == ()


def test_a_cancel_does_not_wake_what_has_ended(store: CheckpointStore) -> None:
    store.create(new_thread(status=Status.SUCCEEDED))
    alive = Expect(statuses=frozenset(Status) - ENDED)
    with pytest.raises(Refused):
        store.deliver("t", message(kind="cancel"), alive)
    assert store.thread("t").inbox == 0


# -- claims --------------------------------------------------------------------------------------------------------


def test_claim_compares_the_epoch(store: CheckpointStore) -> None:
    store.create(new_thread())
    row = store.claim("t", epoch=0, token="a", owner="one", at=7.5)
    assert (row.epoch, row.token, row.owner, row.status, row.crashes, row.updated_at) == (
        1,
        "a",
        "one",
        Status.RUNNING,
        0,
        7.5,
    )
    assert store.thread("t") == row
    assert store.claim("t", epoch=0, token="a", owner="one", at=8.0) == row
    for epoch in (0, 2, 7):
        with pytest.raises(ClaimLost) as caught:
            store.claim("t", epoch=epoch, token="b", owner="two")
        assert (caught.value.expected, caught.value.found) == (epoch, 1)
    assert store.claim("t", epoch=1, token="b", owner="two", crashed=True).crashes == 1
    with pytest.raises(ClaimLost):
        store.claim("t", epoch=0, token="a", owner="one")


@pytest.mark.parametrize("status", list(Status))
def test_claim_keeps_what_is_parked_or_ended(store: CheckpointStore, status: Status) -> None:
    store.create(new_thread(status=status))
    expected = Status.RUNNING if status.runnable else status
    assert store.claim("t", epoch=0, token="a", owner="one").status is expected


def test_of_many_claimers_one_wins(store: CheckpointStore) -> None:
    store.create(new_thread())
    for epoch in range(5):
        answers = race([partial(store.claim, "t", epoch=epoch, token=f"k{i}", owner=f"o{i}") for i in range(8)])
        winners = [answer for answer in answers if isinstance(answer, ThreadRecord)]
        assert sum(isinstance(answer, ClaimLost) for answer in answers) == 7
        assert winners == [store.thread("t")]


# -- commits -------------------------------------------------------------------------------------------------------


def test_a_commit_changes_what_it_says(store: CheckpointStore) -> None:
    owned(store, run=1, runs=1, waits=("i1",), reason="before", crashes=2)
    assert store.commit([commit(1, 3)]) == [Committed(seq=3, inbox=0)]
    row = store.thread("t")
    assert (row.seq, row.head, row.status, row.waits, row.reason) == (3, 0, Status.RUNNING, ("i1",), "before")
    assert (row.run, row.runs, row.crashes, row.token, row.updated_at) == (1, 1, 2, TOKEN, 0.0)
    full = commit(
        4,
        head=4,
        status=Status.INTERRUPTED,
        reason="",
        run=2,
        waits=("i2", "i3"),
        release=True,
        progress=True,
        at=1_700_000_000.123457,
    )
    assert store.commit([full]) == [Committed(seq=4, inbox=0)]
    row = store.thread("t")
    assert (row.seq, row.head, row.status, row.waits, row.reason) == (4, 4, Status.INTERRUPTED, ("i2", "i3"), "")
    assert (row.run, row.runs, row.crashes, row.token, row.owner) == (2, 2, 0, "", "")
    assert (row.epoch, row.updated_at, row.created_at) == (1, 1_700_000_000.123457, 1.5)


def test_commits_keep_runs_and_messages(store: CheckpointStore) -> None:
    store.create(new_thread(), message("a", created_at=1.0))
    store.deliver("t", message("b"), ANY)
    store.deliver("t", message("c", kind="pause"), ANY)
    store.claim("t", epoch=0, token=TOKEN, owner="o")
    runs = (
        RunUpdate(run=1, status=Status.FAILED, end=2, reason="boom", error=b"\x00err"),
        RunUpdate(run=2, status=Status.RUNNING),
        RunUpdate(run=7, status=Status.QUEUED),
    )
    store.commit([commit(1, 2, runs=runs, applied=((1, 1), (2, 2), (9, 2)), at=5.5)])
    first, second, seventh = store.runs("t")
    assert (first.status, first.end, first.reason, first.error) == (Status.FAILED, 2, "boom", b"\x00err")
    assert (first.created_at, first.ended_at) == (1.0, 5.5)
    assert (second.status, second.ended_at) == (Status.RUNNING, 0.0)
    assert (seventh.run, seventh.created_at) == (7, 5.5)
    assert store.thread("t").runs == 7
    assert [kept.number for kept in store.messages("t")] == [3]
    store.commit([commit(3, applied=((1, 3), (3, 3)))])
    assert [kept.applied for kept in store.messages("t", unread=False)] == [1, 2, 3]
    assert store.messages("t") == ()


def test_rows_come_back(store: CheckpointStore) -> None:
    owned(store)
    rows = tuple(delta(seq, bytes([seq]) * seq, channel=f"c'{seq}🦊") for seq in range(1, 6))
    store.commit([commit(1, 5, rows=rows)])
    store.commit([commit(6, rows=())])
    store.commit([commit(7)])
    segments = store.segments("t")
    assert [(segment.first, segment.last, segment.epoch) for segment in segments] == [(7, 7, 1), (6, 6, 1), (1, 5, 1)]
    assert segments[2].rows == rows
    assert segments[1].rows == ()


def test_segments_that_overlap(store: CheckpointStore) -> None:
    owned(store)
    for first, last in ((1, 3), (4, 4), (5, 9), (10, 10)):
        store.commit([commit(first, last)])

    def firsts(**bounds: Any) -> list[int]:
        return [segment.first for segment in store.segments("t", **bounds)]

    assert firsts() == [10, 5, 4, 1]
    assert firsts(first=3) == [10, 5, 4, 1]
    assert firsts(first=4) == [10, 5, 4]
    assert firsts(first=6, last=7) == [5]
    assert firsts(last=5) == [5, 4, 1]
    assert firsts(last=4, limit=1) == [4]
    assert firsts(first=11) == []
    assert firsts(last=0) == []
    assert firsts(limit=2) == [10, 5]
    with pytest.raises(StoreMisuse):
        store.segments("t", limit=0)


@pytest.mark.parametrize(
    "stale",
    [{"epoch": 0}, {"epoch": 2}, {"token": "other"}, {"first": 2, "last": 2}, {"first": 4, "last": 9}],
    ids=["old epoch", "new epoch", "token", "seq before", "seq after"],
)
def test_a_stale_commit_writes_nothing(backend: Backend, store: CheckpointStore, stale: dict[str, Any]) -> None:
    store.create(new_thread(), message())
    store.claim("t", epoch=0, token=TOKEN, owner="o")
    store.commit([commit(1, 2)])
    before, runs, count = store.thread("t"), store.runs("t"), backend.count(store, "t")
    change = commit(
        3, head=3, status=Status.FAILED, runs=(RunUpdate(run=1, status=Status.FAILED),), applied=((1, 3),), release=True
    )
    (result,) = store.commit([replace(change, **stale)])
    assert isinstance(result, Fenced)
    assert (result.thread_id, result.found) == ("t", 1)
    assert (store.thread("t"), store.runs("t"), backend.count(store, "t")) == (before, runs, count)
    assert len(store.messages("t")) == 1


def test_a_lost_answer_is_found_again(backend: Backend, store: CheckpointStore) -> None:
    owned(store)
    first = commit(1, 2)
    assert store.commit([first]) == [Committed(seq=2, inbox=0)]
    assert store.commit([first]) == [Committed(seq=2, inbox=0, repeated=True)]
    last = commit(3, status=Status.SUCCEEDED, release=True)
    store.commit([last])
    store.deliver("t", message(), ANY)
    store.claim("t", epoch=1, token="next", owner="next")
    # The owner is gone and another one works on: what was applied stays applied, and only that.
    assert store.commit([last, commit(4)])[0] == Committed(seq=3, inbox=1, repeated=True)
    assert isinstance(store.commit([commit(4)])[0], Fenced)
    assert isinstance(store.commit([replace(last, commit_id="never seen")])[0], Fenced)
    assert backend.count(store, "t")["segments"] == 2


def test_in_a_group_each_succeeds_or_fails_alone(backend: Backend, store: CheckpointStore) -> None:
    names = [f"t{i}" for i in range(6)]
    for name in reversed(names):
        owned(store, name)
    store.claim("t3", epoch=1, token="thief", owner="thief")
    store.deliver("t4", message(), ANY)
    repeated = commit(1, thread_id="t5", status=Status.SUCCEEDED)
    store.commit([repeated])
    group = [
        repeated,
        commit(1, thread_id="t4", expect_inbox=0, status=Status.SUCCEEDED),
        *(commit(1, 2, thread_id=name, status=Status.SLEEPING, head=2) for name in names[3::-1]),
    ]
    results = store.commit(group)
    assert results[0] == Committed(seq=1, inbox=0, repeated=True)
    assert isinstance(results[1], InboxChanged)
    assert isinstance(results[2], Fenced)
    assert results[3:] == [Committed(seq=2, inbox=0)] * 3
    statuses = [(store.thread(name).seq, store.thread(name).status.value) for name in names]
    assert statuses == [(2, "sleeping")] * 3 + [(0, "running"), (0, "running"), (1, "succeeded")]
    assert [backend.count(store, name)["segments"] for name in names] == [1, 1, 1, 0, 0, 1]


def test_a_group_may_hold_several_commits_of_a_thread(store: CheckpointStore) -> None:
    owned(store, "a")
    owned(store, "b")
    group = [commit(1, thread_id="b"), commit(1, thread_id="a"), commit(2, 3, thread_id="b"), commit(3, thread_id="a")]
    results = store.commit(group)
    assert [type(result) for result in results] == [Committed, Committed, Committed, Fenced]
    assert (store.thread("a").seq, store.thread("b").seq) == (1, 3)
    twice = commit(4, thread_id="b")
    assert store.commit([twice, twice])[1] == Committed(seq=4, inbox=0, repeated=True)
    assert store.commit([]) == []


def test_a_large_group(store: CheckpointStore) -> None:
    names = [f"t{i}" for i in range(1200)]
    for name in names[:40]:
        owned(store, name)
    group = [commit(1, thread_id=name, runs=(RunUpdate(run=1, status=Status.SUCCEEDED),)) for name in names]
    results = store.commit(group)
    assert [isinstance(result, Committed) for result in results] == [True] * 40 + [False] * 1160
    assert all(store.runs(name)[0].status is Status.SUCCEEDED for name in names[:40])


def test_a_delivery_may_bring_newer_code(store: CheckpointStore) -> None:
    owned(store, "t")
    graph = GraphRecord(graph_key="k2", name="g", version="v2", kind="reference", body=b"m:g")
    store.deliver("t", message("m1"), ANY)
    assert store.thread("t").graph_key != "k2"
    store.deliver("t", message("m2"), ANY, graph=graph)
    assert (store.thread("t").graph_key, store.thread("t").version) == ("k2", "v2")


def test_parking_races_with_delivery(store: CheckpointStore) -> None:
    """Either the message comes first and the thread does not park, or it parks and the message wakes it."""
    for turn in range(20):
        name = f"t{turn}"
        owned(store, name)
        park = commit(1, thread_id=name, status=Status.WAITING, expect_inbox=0, release=True)
        calls: list[Callable[[], Any]] = [
            partial(store.commit, [park]),
            partial(store.deliver, name, message(), ANY),
        ]
        results, delivered = race(calls)
        assert not isinstance(delivered, BaseException)
        assert isinstance(results, list)
        (parked,) = results
        row = store.thread(name)
        if isinstance(parked, InboxChanged):
            assert (parked.expected, parked.inbox) == (0, 1)
            assert (row.seq, row.status, row.token) == (0, Status.RUNNING, TOKEN)
        else:
            assert parked == Committed(seq=1, inbox=0)
            assert (row.seq, row.status, row.token) == (1, Status.QUEUED, "")
        assert row.inbox == 1


def test_of_two_writers_of_one_seq_one_wins(store: CheckpointStore) -> None:
    owned(store)
    for seq in range(1, 11):
        answers = race([partial(store.commit, [commit(seq)]) for _ in range(4)])
        results = [answer[0] for answer in answers if isinstance(answer, list)]
        assert sorted(type(result).__name__ for result in results) == ["Committed", "Fenced", "Fenced", "Fenced"]
    assert [segment.first for segment in store.segments("t")] == list(range(10, 0, -1))


@pytest.mark.parametrize(("first", "last"), [(0, 1), (2, 1), (-1, -1)])
def test_commits_that_are_none(store: CheckpointStore, first: int, last: int) -> None:
    owned(store)
    with pytest.raises(StoreMisuse):
        store.commit([commit(first, last, rows=())])


def test_a_value_of_64_mebibytes(store: CheckpointStore) -> None:
    owned(store)
    payload = b"0123456789abcdef" * (4 << 20)
    store.commit([commit(1, rows=(delta(1, payload),))])
    (segment,) = store.segments("t")
    assert bytes(segment.rows[0].payload) == payload


# -- reading while others write ------------------------------------------------------------------------------------


def test_readers_see_whole_commits(backend: Backend, store: CheckpointStore) -> None:
    owned(store)
    done = threading.Event()
    wrong: list[str] = []

    def read() -> int:
        reads = 0
        reader = backend.open() if backend.shared else store
        while not done.is_set():
            row = reader.thread("t")
            segments = reader.segments("t", first=1, last=row.seq or 1)
            if row.seq and (segments[0].last < row.seq or sum(len(segment.rows) for segment in segments) < row.seq):
                wrong.append(f"seq {row.seq} with segments to {segments[0].last}")
            if row.head != row.seq:
                wrong.append(f"head {row.head}, seq {row.seq}")
            reads += 1
        return reads

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for first in range(1, 120, 3):
                store.commit([commit(first, first + 2, head=first + 2)])
        finally:
            done.set()
        assert all(reader.result() > 0 for reader in readers)
    assert wrong == []


# -- listing -------------------------------------------------------------------------------------------------------


def listed(store: CheckpointStore, where: ThreadFilter | None = None, limit: int = 100) -> list[str]:
    names: list[str] = []
    cursor = None
    while True:
        page = store.threads(where, limit=limit, cursor=cursor)
        assert len(page.threads) <= limit
        names += [row.thread_id for row in page.threads]
        cursor = page.cursor
        if cursor is None:
            return names
        assert len(page.threads) == limit


def test_listing_thousands_with_filters_and_cursors(store: CheckpointStore) -> None:
    statuses = list(Status)
    names = [f"t{i}" for i in range(2500)]
    for i, name in enumerate(names):
        metadata = {"user": f"u{i % 10}", "n": i % 3, "flag": i % 2 == 0, "team": ["a", i % 5]}
        tags = ("even",) if i % 2 == 0 else ()
        fields = {"status": statuses[i % 9], "graph": f"g{i % 4}", "owner": f"o{i % 7}"}
        store.create(new_thread(name, metadata=metadata, tags=tags, **fields))
    expected: list[tuple[ThreadFilter, Callable[[int], bool]]] = [
        (ThreadFilter(), lambda i: True),
        (ThreadFilter(statuses=frozenset({Status.PAUSED})), lambda i: statuses[i % 9] is Status.PAUSED),
        (ThreadFilter(statuses=PARKED), lambda i: statuses[i % 9] in PARKED),
        (ThreadFilter(statuses=frozenset()), lambda i: False),
        (ThreadFilter(graph="g1", tag="even"), lambda i: False),
        (ThreadFilter(graph="g2", tag="even", statuses=ENDED), lambda i: i % 4 == 2 and statuses[i % 9] in ENDED),
        (ThreadFilter(owner="o3", driver="service"), lambda i: i % 7 == 3),
        (ThreadFilter(driver="inprocess"), lambda i: False),
        (ThreadFilter(metadata={"user": "u4", "n": 1}), lambda i: i % 10 == 4 and i % 3 == 1),
        (ThreadFilter(metadata={"flag": True}), lambda i: i % 2 == 0),
        (ThreadFilter(metadata={"team": ["a", 2]}), lambda i: i % 5 == 2),
    ]
    for where, keep in expected:
        found = [name for i, name in reversed(list(enumerate(names))) if keep(i)]
        assert listed(store, where, limit=137) == found
    assert listed(store, limit=2500) == names[::-1]
    assert store.threads(limit=2500).cursor is None


def test_a_listing_while_threads_come_and_go(store: CheckpointStore) -> None:
    for i in range(30):
        store.create(new_thread(f"t{i}", status=Status.FAILED))
    page = store.threads(limit=10)
    store.create(new_thread("new"))
    store.delete("t19")
    store.delete("t25")
    rest = store.threads(limit=30, cursor=page.cursor)
    assert [row.thread_id for row in rest.threads] == [f"t{i}" for i in range(18, -1, -1)]
    store.delete("t29")
    store.create(new_thread("t29"))
    assert listed(store)[:2] == ["t29", "new"]


def test_metadata_is_compared_as_json(store: CheckpointStore) -> None:
    values = [1, 1.5, True, False, None, "1", "true", "", [1], [True], {"a": 1}, 0, "null", 2**53 + 1, "é"]
    for i, value in enumerate(values):
        store.create(new_thread(f"t{i}", metadata={"k": value, "other": [value]}))
    store.create(new_thread("without"))
    for i, value in enumerate(values):
        assert listed(store, ThreadFilter(metadata={"k": value})) == [f"t{i}"], value
        assert listed(store, ThreadFilter(metadata={"other": [value]})) == [f"t{i}"], value
    assert listed(store, ThreadFilter(metadata={"k": 1.0})) == ["t0"]
    assert listed(store, ThreadFilter(metadata={"absent": None})) == []
    for key in ('a"b', "$.k", "k.x", "k'", "🦊", ""):
        assert listed(store, ThreadFilter(metadata={key: 1})) == []
        store.create(new_thread(f"key {key}", metadata={key: 1}))
        assert listed(store, ThreadFilter(metadata={key: 1})) == [f"key {key}"]


@pytest.mark.parametrize(("limit", "cursor"), [(0, None), (-1, None), (5, "x"), (5, "-1"), (5, ""), (5, "9" * 30)])
def test_listings_that_are_refused(store: CheckpointStore, limit: int, cursor: str | None) -> None:
    with pytest.raises(StoreMisuse):
        store.threads(limit=limit, cursor=cursor)


# -- deletion and forks --------------------------------------------------------------------------------------------


def test_deletion_leaves_nothing(backend: Backend, store: CheckpointStore) -> None:
    store.create(new_thread(), message())
    store.claim("t", epoch=0, token=TOKEN, owner="o")
    store.commit([commit(1, 3)])
    with pytest.raises(Refused):
        store.delete("t")
    assert backend.count(store, "t") == {"threads": 1, "runs": 1, "messages": 1, "segments": 1}
    store.commit([commit(4, status=Status.CANCELLED)])
    store.delete("t")
    store.delete("t")
    assert backend.count(store, "t") == {"threads": 0, "runs": 0, "messages": 0, "segments": 0}
    assert isinstance(store.commit([commit(5)])[0], Fenced)
    store.create(new_thread())
    assert (store.messages("t", unread=False), store.segments("t"), store.runs("t")) == ((), [], ())
    assert store.deliver("t", message(), ANY).repeated is False


def test_forks_hold_their_origin(store: CheckpointStore) -> None:
    owned(store)
    store.commit([commit(1, 5, status=Status.SUCCEEDED)])
    for seq in (6, -1):
        with pytest.raises(StoreMisuse):
            store.create(new_thread("wrong", origin=Origin(thread_id="t", seq=seq)))
    fork = new_thread("fork", origin=Origin(thread_id="t", seq=3), seq=3, head=3, status=Status.PAUSED)
    store.create(fork)
    assert store.thread("fork") == fork
    assert store.segments("fork") == []
    with pytest.raises(ThreadReferenced) as caught:
        store.delete("t")
    assert caught.value.forks == ("fork",)
    assert store.thread("t").seq == 5
    store.claim("fork", epoch=0, token=TOKEN, owner="o")
    assert store.commit([commit(4, thread_id="fork")]) == [Committed(seq=4, inbox=0)]
    store.delete("fork")
    store.delete("t")
    assert store.threads().threads == ()


# -- owners and graphs ---------------------------------------------------------------------------------------------


def test_leases_rise(store: CheckpointStore) -> None:
    lease = OwnerRecord(owner="o", counter=3, host="h", pid=7, started=125, threads=(("t'1", 1), ("🦊", 2)))
    store.renew(lease)
    store.renew(lease)
    assert store.owners() == (lease,)
    store.renew(replace(lease, counter=2, threads=()))
    assert store.owners() == (lease,)
    higher = replace(lease, counter=4, threads=())
    store.renew(higher)
    assert store.owners() == (higher,)
    reborn = replace(lease, counter=1, started=25)
    store.renew(reborn)
    store.renew(replace(lease, owner="a"))
    assert store.owners() == (replace(lease, owner="a"), reborn)
    store.forget("o")
    store.forget("o")
    assert [kept.owner for kept in store.owners()] == ["a"]


def test_a_graph_is_kept_once(store: CheckpointStore) -> None:
    graph = GraphRecord(
        graph_key="k", name="n", version="1", kind="pickle", body=b"\x00body", signature=b"s", paths=("/a", "/b'")
    )
    store.put_graph(graph)
    store.put_graph(replace(graph, body=b"other"))
    assert store.graph("k") == graph
    with pytest.raises(StoreMisuse):
        store.graph("none")


def test_the_url_opens_the_same_store(backend: Backend, store: CheckpointStore) -> None:
    owned(store)
    if backend.shared:
        with backend.open() as other:
            assert other.url == store.url
            assert other.thread("t") == store.thread("t")
    store.close()
    store.close()
