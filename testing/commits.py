"""Commits: what they change, who is fenced, lost answers, groups."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from ..stores.base import CheckpointStore
from ..stores.errors import (
    Fenced,
    InboxChanged,
    StoreMisuse,
)
from ..stores.operations import Committed, RunUpdate
from ..stores.records import Status
from .harness import Harness, StoreSuite
from .racing import race
from .samples import ANY, TOKEN, commit, message, new_thread, owned


class Commits(StoreSuite):
    def test_a_commit_changes_what_it_says(self, store: CheckpointStore) -> None:
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

    def test_commits_keep_runs_and_messages(self, store: CheckpointStore) -> None:
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

    def test_a_run_that_begins_and_ends_in_one_commit(self, store: CheckpointStore) -> None:
        """Postgres refused it, since its statement would have changed one row twice."""
        store.create(new_thread(), message("a", created_at=1.0))
        store.claim("t", epoch=0, token=TOKEN, owner="o")
        begun = RunUpdate(run=1, status=Status.RUNNING)
        ended = RunUpdate(run=1, status=Status.FAILED, end=2, reason="boom", error=b"err")
        (made,) = store.commit([commit(1, 3, run=1, runs=(begun, ended), at=7.0)])
        assert made == Committed(seq=3, inbox=1)
        (run,) = store.runs("t")
        assert (run.status, run.end, run.reason, run.error) == (Status.FAILED, 2, "boom", b"err")
        assert (run.created_at, run.ended_at) == (1.0, 7.0)

    @pytest.mark.parametrize(
        "stale",
        [{"epoch": 0}, {"epoch": 2}, {"token": "other"}, {"first": 2, "last": 2}, {"first": 4, "last": 9}],
        ids=["old epoch", "new epoch", "token", "seq before", "seq after"],
    )
    def test_a_stale_commit_writes_nothing(
        self, harness: Harness, store: CheckpointStore, stale: dict[str, Any]
    ) -> None:
        store.create(new_thread(), message())
        store.claim("t", epoch=0, token=TOKEN, owner="o")
        store.commit([commit(1, 2)])
        before, runs, count = store.thread("t"), store.runs("t"), harness.count(store, "t")
        change = commit(
            3,
            head=3,
            status=Status.FAILED,
            runs=(RunUpdate(run=1, status=Status.FAILED),),
            applied=((1, 3),),
            release=True,
        )
        (result,) = store.commit([replace(change, **stale)])
        assert isinstance(result, Fenced)
        assert (result.thread_id, result.found) == ("t", 1)
        assert (store.thread("t"), store.runs("t"), harness.count(store, "t")) == (before, runs, count)
        assert len(store.messages("t")) == 1

    def test_a_lost_answer_is_found_again(self, harness: Harness, store: CheckpointStore) -> None:
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
        assert harness.count(store, "t")["segments"] == 2

    def test_in_a_group_each_succeeds_or_fails_alone(self, harness: Harness, store: CheckpointStore) -> None:
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
        assert [harness.count(store, name)["segments"] for name in names] == [1, 1, 1, 0, 0, 1]

    def test_a_group_may_hold_several_commits_of_a_thread(self, store: CheckpointStore) -> None:
        owned(store, "a")
        owned(store, "b")
        group = [
            commit(1, thread_id="b"),
            commit(1, thread_id="a"),
            commit(2, 3, thread_id="b"),
            commit(3, thread_id="a"),
        ]
        results = store.commit(group)
        assert [type(result) for result in results] == [Committed, Committed, Committed, Fenced]
        assert (store.thread("a").seq, store.thread("b").seq) == (1, 3)
        twice = commit(4, thread_id="b")
        assert store.commit([twice, twice])[1] == Committed(seq=4, inbox=0, repeated=True)
        assert store.commit([]) == []

    def test_a_large_group(self, store: CheckpointStore) -> None:
        names = [f"t{i}" for i in range(1200)]
        for name in names[:40]:
            owned(store, name)
        group = [commit(1, thread_id=name, runs=(RunUpdate(run=1, status=Status.SUCCEEDED),)) for name in names]
        results = store.commit(group)
        assert [isinstance(result, Committed) for result in results] == [True] * 40 + [False] * 1160
        assert all(store.runs(name)[0].status is Status.SUCCEEDED for name in names[:40])

    def test_of_two_writers_of_one_seq_one_wins(self, store: CheckpointStore) -> None:
        owned(store)
        for seq in range(1, 11):
            answers = race([partial(store.commit, [commit(seq)]) for _ in range(4)])
            results = [answer[0] for answer in answers if isinstance(answer, list)]
            assert sorted(type(result).__name__ for result in results) == ["Committed", "Fenced", "Fenced", "Fenced"]
        assert [segment.first for segment in store.segments("t")] == list(range(10, 0, -1))

    @pytest.mark.parametrize(("first", "last"), [(0, 1), (2, 1), (-1, -1)])
    def test_commits_that_are_none(self, store: CheckpointStore, first: int, last: int) -> None:
        owned(store)
        with pytest.raises(StoreMisuse):
            store.commit([commit(first, last, rows=())])
