"""Names, retention, floor and housekeeping marks of threads."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ..stores.base import CheckpointStore
from ..stores.errors import StoreMisuse, UnknownThread
from ..stores.operations import Amendment, Committed, ThreadFilter
from ..stores.records import Retention, Status
from .harness import StoreSuite
from .samples import commit, history, owned

KEEP = Retention(max_checkpoints=3, keep_for=timedelta(hours=1.5), delete_after=timedelta(days=2))


class Amendments(StoreSuite):
    def test_an_amendment_is_kept_and_the_owner_goes_on(self, store: CheckpointStore) -> None:
        history(store, 5)
        row = store.amend("t", Amendment(retention=KEEP, names={"good": 2, "größer 'x\"": 4}, floor=3, tidied=5))
        assert row == store.thread("t")
        assert (row.retention, row.names, row.floor, row.tidied) == (KEEP, {"good": 2, "größer 'x\"": 4}, 3, 5)
        assert isinstance(store.commit([commit(6, head=6)])[0], Committed)
        after = store.thread("t")
        assert (after.retention, after.names, after.floor, after.tidied) == (KEEP, row.names, 3, 5)
        assert (after.seq, after.head, after.epoch) == (6, 6, 1)

    def test_names_come_and_go(self, store: CheckpointStore) -> None:
        history(store, 3)
        store.amend("t", Amendment(names={"a": 1, "b": 2}))
        store.amend("t", Amendment(names={"a": 0, "c": 3, "none": 0}))
        assert store.thread("t").names == {"b": 2, "c": 3}
        store.amend("t", Amendment(names={"b": 1}))
        assert store.thread("t").names == {"b": 1, "c": 3}

    def test_the_floor_never_falls(self, store: CheckpointStore) -> None:
        history(store, 5)
        store.amend("t", Amendment(floor=4, tidied=4))
        store.amend("t", Amendment(floor=2, tidied=1))
        row = store.thread("t")
        assert (row.floor, row.tidied) == (4, 4)

    @pytest.mark.parametrize(
        "change",
        [
            Amendment(names={"n": 6}),
            Amendment(names={"n": 2}),
            Amendment(floor=6),
            Amendment(names={"": 3}),
            Amendment(names={"a\0": 3}),
            Amendment(names={"n": -1}),
            Amendment(floor=-1),
            Amendment(retention=Retention(max_checkpoints=0)),
            Amendment(retention=Retention(keep_for=timedelta(seconds=-1))),
        ],
    )
    def test_amendments_that_are_refused(self, store: CheckpointStore, change: Amendment) -> None:
        history(store, 5)
        store.amend("t", Amendment(names={"kept": 1}))
        store.amend("t", Amendment(floor=3))
        before = store.thread("t")
        with pytest.raises(StoreMisuse):
            store.amend("t", change)
        assert store.thread("t") == before

    def test_a_kept_checkpoint_may_get_another_name(self, store: CheckpointStore) -> None:
        history(store, 5)
        store.amend("t", Amendment(names={"kept": 1}))
        store.amend("t", Amendment(floor=3))
        assert store.amend("t", Amendment(names={"again": 1})).names == {"kept": 1, "again": 1}

    def test_tags_are_put_on_and_taken_off(self, store: CheckpointStore) -> None:
        """Also while somebody owns the thread, whose commits leave them alone; listings go by them at once."""
        owned(store, "t", tags=("a", "b"), metadata={"m": [1]})
        row = store.amend("t", Amendment(tags={"größer/'x\"": True, "a": False, "b": True, "none": False}))
        assert row.tags == ("b", "größer/'x\"")
        store.commit([commit(1, head=1)])
        assert store.thread("t").tags == ("b", "größer/'x\"")
        assert [one.thread_id for one in store.threads(ThreadFilter(tag="größer/'x\"")).threads] == ["t"]
        assert not store.threads(ThreadFilter(tag="a")).threads
        after = store.amend("t", Amendment(tags={"größer/'x\"": False, "b": False}, names={"n": 1}))
        assert (after.tags, after.names, after.metadata) == ((), {"n": 1}, {"m": [1]})
        assert store.amend("t", Amendment(tags={"c": True})).tags == ("c",)
        for wrong in ("", "x" * 513, "a\0"):
            with pytest.raises(StoreMisuse):
                store.amend("t", Amendment(tags={wrong: True}))
        assert store.thread("t").tags == ("c",)

    def test_an_amendment_of_a_thread_that_another_one_has_replaced(self, store: CheckpointStore) -> None:
        history(store, 5)
        before = store.thread("t")
        for made_at in (before.created_at + 1.0, before.created_at - 1e-6, 0.0):
            with pytest.raises(UnknownThread):
                store.amend("t", Amendment(floor=3, tidied=4, names={"n": 4}, tags={"a": True}, made_at=made_at))
        assert store.thread("t") == before
        assert store.amend("t", Amendment(floor=3, made_at=before.created_at)).floor == 3

    def test_amending_an_unknown_thread(self, store: CheckpointStore) -> None:
        with pytest.raises(UnknownThread):
            store.amend("none", Amendment(tidied=1))

    def test_threads_that_housekeeping_looks_for(self, store: CheckpointStore) -> None:
        history(store, 5, "long")
        history(store, 2, "short")
        history(store, 6, "tidy")
        store.amend("tidy", Amendment(tidied=4))
        store.commit([commit(3, thread_id="short", at=50.0)])
        store.commit([commit(6, thread_id="long", at=90.0)])

        def found(where: ThreadFilter) -> set[str]:
            return {thread.thread_id for thread in store.threads(where).threads}

        assert found(ThreadFilter(untidied=3)) == {"long", "short"}
        assert found(ThreadFilter(untidied=4)) == {"long"}
        assert found(ThreadFilter(updated_before=90.0)) == {"short", "tidy"}
        assert found(ThreadFilter(updated_before=50.0, statuses=frozenset({Status.RUNNING}))) == {"tidy"}
