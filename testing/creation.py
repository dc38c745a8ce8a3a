"""Creating threads: what comes back, repeats, races, and the names and values that are taken or refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from ..stores.base import CheckpointStore, NewThread
from ..stores.errors import (
    Fenced,
    StoreMisuse,
    ThreadExists,
    UnknownThread,
)
from ..stores.operations import Committed, Delivery, ThreadFilter
from ..stores.records import Message, Origin, OwnerRecord, Status, ThreadRecord
from .harness import Harness, StoreSuite
from .racing import race
from .samples import ANY, commit, message, new_thread, owned

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


class ThreadCreation(StoreSuite):
    def test_a_thread_comes_back_as_it_was_given(self, store: CheckpointStore) -> None:
        given = new_thread(
            graph_key="key",
            driver="inprocess",
            isolation="shared",
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

    def test_what_a_store_holds_is_nobodys_to_change(self, store: CheckpointStore) -> None:
        metadata = {"list": [1]}
        store.create(new_thread(metadata=metadata))
        metadata["list"].append(2)
        store.thread("t").metadata["list"].append(3)
        assert store.thread("t").metadata == {"list": [1]}

    def test_create_writes_the_first_message_and_run(self, harness: Harness, store: CheckpointStore) -> None:
        delivery = store.create(new_thread(), message(payload=b"input", created_at=3.5))
        assert (delivery.number, delivery.run, delivery.repeated) == (1, 1, False)
        row = store.thread("t")
        assert row == delivery.thread
        assert (row.inbox, row.runs, row.run, row.status) == (1, 1, 0, Status.QUEUED)
        (kept,) = store.messages("t")
        assert (kept.message_id, kept.number, kept.run, kept.payload, kept.applied) == ("m", 1, 1, b"input", 0)
        (run,) = store.runs("t")
        assert (run.run, run.status, run.created_at, run.ended_at) == (1, Status.QUEUED, 3.5, 0.0)
        assert harness.count(store, "t") == {"threads": 1, "runs": 1, "messages": 1, "segments": 0}

    def test_create_repeated_is_one_creation(self, harness: Harness, store: CheckpointStore) -> None:
        first = store.create(new_thread(), message())
        again = store.create(new_thread(), message())
        assert again == replace(first, repeated=True)
        for other in (message("another"), None):
            with pytest.raises(ThreadExists) as caught:
                store.create(new_thread(), other)
            assert caught.value.thread_id == "t"
        assert harness.count(store, "t") == {"threads": 1, "runs": 1, "messages": 1, "segments": 0}

    def test_of_many_creators_one_wins(self, store: CheckpointStore) -> None:
        answers = race([partial(store.create, new_thread(), message(f"m{i}")) for i in range(8)])
        assert sum(not isinstance(answer, BaseException) for answer in answers) == 1
        assert sum(isinstance(answer, ThreadExists) for answer in answers) == 7
        assert len(store.messages("t")) == 1

    def test_many_are_created_as_one_by_one(self, store: CheckpointStore) -> None:
        def new(name: str, kind: str = "input") -> tuple[ThreadRecord, Message]:
            row = new_thread(name, metadata={"name": name}, tags=(name,), isolation="shared")
            return row, message(f"m-{name}", kind=kind, payload=name.encode(), created_at=2.5)

        store.create(*new("b"))
        store.create(new_thread("c"))
        given = [new("a"), new("b"), new("c"), (new_thread("bare"), None), new("d", kind="update")]
        a, b, c, bare, d = store.create_many(given)
        assert isinstance(c, ThreadExists)
        assert c.thread_id == "c"
        assert isinstance(b, Delivery)
        assert b.repeated
        for made, name in ((a, "a"), (d, "d"), (bare, "bare")):
            assert isinstance(made, Delivery)
            assert made.thread == store.thread(name)
            assert not made.repeated
        assert isinstance(a, Delivery)
        assert (a.number, a.run, a.thread.runs, a.thread.inbox) == (1, 1, 1, 1)
        assert [(run.run, run.status, run.created_at) for run in store.runs("a")] == [(1, Status.QUEUED, 2.5)]
        assert [(one.number, one.run, one.payload, one.message_id) for one in store.messages("a")] == [
            (1, 1, b"a", "m-a")
        ]
        assert store.runs("d") == store.runs("bare") == ()
        assert store.messages("bare") == ()
        assert [one.payload for one in store.messages("d")] == [b"d"]
        listed = [row.thread_id for row in store.threads().threads]
        assert [name for name in listed if name in ("a", "bare", "d")] == ["d", "bare", "a"]

        again = store.create_many(given)
        assert [isinstance(one, Delivery) and one.repeated for one in again] == [True, True, False, False, True]
        assert all(isinstance(one, ThreadExists) for one in again[2:4])
        assert store.create_many([]) == []

    def test_of_many_that_are_created_at_once_each_is_new_to_one(self, store: CheckpointStore) -> None:
        names = [f"t{number}" for number in range(12)]
        sets = [
            [(new_thread(name), message(f"m{sender}", payload=b"%d" % sender)) for name in names[sender : sender + 8]]
            for sender in range(4)
        ]
        answers = race([partial(store.create_many, each) for each in sets])
        assert all(isinstance(answer, list) for answer in answers), answers
        made = [
            one.thread.thread_id
            for answer in answers
            if isinstance(answer, list)
            for one in answer
            if isinstance(one, Delivery)
        ]
        assert sorted(made) == sorted(names[:11])
        assert all(len(store.messages(name)) == 1 for name in made)

    def test_many_are_found_by_their_ids(self, store: CheckpointStore) -> None:
        for name in ("a", "b", "ü'"):
            store.create(new_thread(name, metadata={"name": name}))
        assert store.find(["b", "no", "ü'", "b"]) == {name: store.thread(name) for name in ("b", "ü'")}
        assert store.find([]) == {}
        with pytest.raises(StoreMisuse):
            store.find([""])

    def test_many_with_an_origin(self, store: CheckpointStore) -> None:
        owned(store, "parent")
        store.commit([commit(1, thread_id="parent", head=1)])
        origin = Origin(thread_id="parent", seq=1)
        made = store.create_many([(new_thread("child", origin=origin, seq=1, head=1), None), (new_thread("t"), None)])
        assert [one.thread.origin for one in made if isinstance(one, Delivery)] == [origin, None]
        with pytest.raises(StoreMisuse, match="twice"):
            store.create_many([(new_thread("x"), None), (new_thread("x"), None)])
        with pytest.raises(UnknownThread):
            store.create_many([(new_thread("y", origin=Origin(thread_id="none", seq=1)), None)])

    def test_many_forks_are_made_as_one_by_one(self, store: CheckpointStore) -> None:
        """Of different threads, of a fork's inherited past, of one made in the same call; some are there already."""

        def fork(name: str, origin: str, seq: int) -> tuple[ThreadRecord, Message]:
            row = new_thread(name, origin=Origin(thread_id=origin, seq=seq), seq=seq, head=seq)
            return row, message(f"m-{name}", kind="retry", payload=name.encode())

        for name in ("p", "q"):
            owned(store, name)
            store.commit([commit(seq, thread_id=name, head=seq) for seq in (1, 2)])
        store.create(*fork("old", "p", 2))
        given = [fork("old", "p", 2), fork("far", "old", 1), fork("of-q", "q", 2), fork("of-of-q", "of-q", 1)]
        made = store.create_many(given)
        assert [one.repeated for one in made if isinstance(one, Delivery)] == [True, False, False, False]
        assert [store.thread(row.thread_id).origin for row, _ in given] == [
            Origin(thread_id=name, seq=seq) for name, seq in (("p", 2), ("p", 1), ("q", 2), ("q", 1))
        ]
        assert [store.messages(row.thread_id)[0].payload for row, _ in given] == [b"old", b"far", b"of-q", b"of-of-q"]
        assert [one.thread_id for one in store.forks("p")] == ["far", "old"]
        with pytest.raises(StoreMisuse, match="commit 3"):
            store.create_many([fork("good", "p", 1), fork("bad", "q", 3)])
        again = store.create_many([*given, (new_thread("p"), None), fork("good", "p", 1)])
        assert [isinstance(one, Delivery) for one in again] == [True] * 4 + [False, True]

    def test_many_fork_the_same_threads_at_once(self, store: CheckpointStore) -> None:
        """In different orders: nobody waits for somebody who waits for him."""
        origins = [f"o{number}" for number in range(12)]
        for name in origins:
            owned(store, name)
            store.commit([commit(1, thread_id=name, head=1)])

        def forks(sender: int) -> list[NewThread]:
            order = origins if sender % 2 else origins[::-1]
            return [
                (new_thread(f"{name}/{sender}", origin=Origin(thread_id=name, seq=1), seq=1, head=1), None)
                for name in order
            ]

        answers = race([partial(store.create_many, forks(sender)) for sender in range(4)])
        assert all(isinstance(answer, list) for answer in answers), answers
        assert all(len(store.forks(name)) == 4 for name in origins)

    def test_unknown_threads(self, store: CheckpointStore) -> None:
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

    @pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
    def test_hostile_names(self, harness: Harness, store: CheckpointStore, name: str) -> None:
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
        assert harness.count(store, name)["threads"] == 0
        assert store.thread("other").status is Status.QUEUED

    @pytest.mark.parametrize("name", ["", "a\0b", "x" * 10_240, "漢" * 200, "\ud800"], ids=range(5))
    def test_ids_that_are_refused(self, store: CheckpointStore, name: str) -> None:
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
    def test_metadata_that_is_refused(self, store: CheckpointStore, value: object) -> None:
        with pytest.raises(StoreMisuse):
            store.create(new_thread(metadata={"key": value}))
        with pytest.raises(StoreMisuse):
            store.threads(ThreadFilter(metadata={"key": value}))
        assert store.threads().threads == ()
