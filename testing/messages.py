"""Deliveries: numbered once, refused where what they expect does not hold, racing with parking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from ..stores.base import CheckpointStore
from ..stores.errors import (
    InboxChanged,
    Refused,
)
from ..stores.operations import Committed, Expect
from ..stores.records import ENDED, PARKED, GraphRecord, Status
from .harness import Harness, StoreSuite
from .racing import race
from .samples import ANY, TOKEN, commit, message, new_thread, owned


class Messages(StoreSuite):
    def test_messages_are_numbered_and_repeats_are_not(self, harness: Harness, store: CheckpointStore) -> None:
        store.create(new_thread())
        first = store.deliver("t", message("a"), ANY)
        second = store.deliver("t", message("b", kind="pause", run=1), ANY)
        assert [(d.number, d.run, d.repeated) for d in (first, second)] == [(1, 1, False), (2, 1, False)]
        again = store.deliver("t", message("a"), Expect(statuses=frozenset()))
        assert (again.number, again.run, again.repeated, again.thread) == (1, 1, True, store.thread("t"))
        assert [kept.message_id for kept in store.messages("t")] == ["a", "b"]
        store.create(new_thread("u"))
        assert store.deliver("u", message("a"), ANY).repeated is False
        assert harness.count(store, "t") == {"threads": 1, "runs": 1, "messages": 2, "segments": 0}

    def test_runs_are_numbered_by_accepted_inputs(self, store: CheckpointStore) -> None:
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
    def test_which_messages_wake_a_thread(self, store: CheckpointStore, status: Status, kind: str) -> None:
        store.create(new_thread(status=status))
        after = store.deliver("t", message(kind=kind), ANY).thread.status
        woken = status in PARKED or (status in ENDED and kind != "cancel")
        assert after is (Status.QUEUED if woken else status)
        assert store.thread("t").status is after
        assert store.thread("t").inbox == 1

    @pytest.mark.parametrize("status", list(Status))
    def test_a_signal_wakes_who_waits_for_it(self, store: CheckpointStore, status: Status) -> None:
        store.create(new_thread(status=status, waits=("i1", "signal:price")))
        other = store.deliver("t", replace(message("a", kind="signal"), name="weather"), ANY)
        assert (other.thread.status, other.thread.inbox) == (status, 1)
        wanted = store.deliver("t", replace(message("b", kind="signal"), name="price"), ANY)
        woken = status in PARKED and status is not Status.PAUSED
        assert wanted.thread.status is (Status.QUEUED if woken else status)
        assert (wanted.thread, wanted.thread.waits) == (store.thread("t"), ("i1", "signal:price"))
        assert [(kept.kind, kept.name) for kept in store.messages("t")] == [("signal", "weather"), ("signal", "price")]

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
    def test_expectations(self, harness: Harness, store: CheckpointStore, expect: Expect, word: str) -> None:
        store.create(new_thread(status=Status.INTERRUPTED, run=1, runs=1, head=3, waits=("i1", "i2")))
        before = store.thread("t")
        with pytest.raises(Refused, match=word) as caught:
            store.deliver("t", message(kind="resume"), expect)
        assert (caught.value.thread_id, caught.value.kind, caught.value.status) == ("t", "resume", "interrupted")
        assert store.thread("t") == before
        assert harness.count(store, "t")["messages"] == 0
        good = Expect(statuses=frozenset({Status.INTERRUPTED}), run=1, head=3, wait="i2")
        assert store.deliver("t", message(kind="resume"), good).thread.waits == ("i1",)

    def test_one_answer_to_each_interrupt(self, store: CheckpointStore) -> None:
        store.create(new_thread(status=Status.INTERRUPTED, waits=("i1", "i2", "i3")))
        expect = Expect(statuses=frozenset(Status), wait="i1")
        answers = race([partial(store.deliver, "t", message(f"r{i}", kind="resume"), expect) for i in range(6)])
        assert sum(isinstance(answer, Refused) for answer in answers) == 5
        assert store.thread("t").waits == ("i2", "i3")
        assert store.thread("t").status is Status.QUEUED
        assert store.deliver("t", message("all", kind="resume"), ANY).thread.waits == ()

    def test_a_cancel_does_not_wake_what_has_ended(self, store: CheckpointStore) -> None:
        store.create(new_thread(status=Status.SUCCEEDED))
        alive = Expect(statuses=frozenset(Status) - ENDED)
        with pytest.raises(Refused):
            store.deliver("t", message(kind="cancel"), alive)
        assert store.thread("t").inbox == 0

    def test_a_delivery_may_bring_newer_code(self, store: CheckpointStore) -> None:
        owned(store, "t")
        graph = GraphRecord(graph_key="k2", name="g", version="v2", kind="reference", body=b"m:g")
        store.deliver("t", message("m1"), ANY)
        assert store.thread("t").graph_key != "k2"
        store.deliver("t", message("m2"), ANY, graph=graph)
        assert (store.thread("t").graph_key, store.thread("t").version) == ("k2", "v2")

    def test_parking_races_with_delivery(self, store: CheckpointStore) -> None:
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
