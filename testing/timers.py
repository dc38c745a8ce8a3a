"""Timers: a parked thread is due at a time that is kept with its status."""

from __future__ import annotations

import pytest

from ..stores.base import CheckpointStore
from ..stores.errors import StoreMisuse
from ..stores.records import Status
from .harness import StoreSuite
from .samples import ANY, TOKEN, commit, message, owned


def park(store: CheckpointStore, thread_id: str, wake_at: float | None, status: Status = Status.SLEEPING) -> None:
    """A thread that sleeps until a time."""
    owned(store, thread_id)
    store.commit([commit(1, thread_id=thread_id, status=status, wake_at=wake_at, release=True)])


def due(store: CheckpointStore, before: float, limit: int = 100) -> list[str]:
    return [thread.thread_id for thread in store.due(before, limit=limit)]


class Timers(StoreSuite):
    def test_the_longest_due_come_first(self, store: CheckpointStore) -> None:
        for thread_id, wake_at in (("c", 30.5), ("a", 10.25), ("b", 20.0), ("never", None), ("cleared", 0.0)):
            park(store, thread_id, wake_at)
        assert due(store, 10.0) == []
        assert due(store, 10.25) == ["a"]
        assert due(store, 1e10) == ["a", "b", "c"]
        assert due(store, 1e10, limit=2) == ["a", "b"]
        assert store.due(1e10)[0] == store.thread("a")
        assert store.thread("c").wake_at == 30.5

    @pytest.mark.parametrize("status", [Status.SLEEPING, Status.WAITING, Status.INTERRUPTED, Status.PAUSED])
    def test_every_parked_thread_may_be_due(self, store: CheckpointStore, status: Status) -> None:
        park(store, "t", 5.0, status)
        assert due(store, 6.0) == ["t"]

    @pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.CANCELLED])
    def test_what_has_ended_is_not_due(self, store: CheckpointStore, status: Status) -> None:
        park(store, "t", 5.0, status)
        assert due(store, 6.0) == []

    def test_a_message_comes_before_the_timer(self, store: CheckpointStore) -> None:
        park(store, "t", 5.0)
        store.deliver("t", message("m", "update"), ANY)
        assert store.thread("t").status is Status.QUEUED
        assert due(store, 6.0) == []

    def test_the_owner_that_wakes_it_sets_the_next_time(self, store: CheckpointStore) -> None:
        park(store, "t", 5.0)
        row = store.claim("t", epoch=1, token=TOKEN, owner="o2")
        assert (row.status, row.wake_at) == (Status.SLEEPING, 5.0)
        store.commit([commit(2, epoch=2, status=Status.RUNNING)])
        assert due(store, 6.0) == []
        store.commit([commit(3, epoch=2, status=Status.SLEEPING)])
        assert due(store, 6.0) == ["t"]
        store.commit([commit(4, epoch=2, wake_at=8.0)])
        assert due(store, 6.0) == []
        assert due(store, 8.0) == ["t"]
        store.commit([commit(5, epoch=2, wake_at=0.0)])
        assert due(store, 1e10) == []

    def test_a_refused_commit_sets_no_timer(self, store: CheckpointStore) -> None:
        owned(store)
        store.commit([commit(1, epoch=7, status=Status.SLEEPING, wake_at=5.0)])
        store.commit([commit(1, expect_inbox=3, status=Status.SLEEPING, wake_at=5.0)])
        assert due(store, 1e10) == []
        assert store.thread("t").wake_at == 0.0

    def test_a_deleted_thread_is_not_due(self, store: CheckpointStore) -> None:
        park(store, "t", 5.0)
        store.delete("t")
        assert due(store, 6.0) == []

    @pytest.mark.parametrize("wake_at", [float("nan"), float("inf"), -1.0])
    def test_times_that_are_none(self, store: CheckpointStore, wake_at: float) -> None:
        owned(store)
        with pytest.raises(StoreMisuse):
            store.commit([commit(1, wake_at=wake_at)])
        with pytest.raises(StoreMisuse):
            store.due(wake_at)
        with pytest.raises(StoreMisuse):
            store.due(1.0, limit=0)
