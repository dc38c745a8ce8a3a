"""Forks, and what retention leaves them."""

from __future__ import annotations

import pytest

from ..stores.base import CheckpointStore
from ..stores.errors import StoreMisuse, UnknownThread
from ..stores.operations import Amendment, Fork
from ..stores.records import Origin
from .harness import StoreSuite
from .samples import history, new_thread


class Forks(StoreSuite):
    def test_forks_are_listed_by_seq(self, store: CheckpointStore) -> None:
        history(store, 5)
        assert store.forks("t") == ()
        for fork, seq in (("late", 5), ("early", 2)):
            store.create(new_thread(fork, origin=Origin(thread_id="t", seq=seq), seq=seq, head=seq))
        assert store.forks("t") == (Fork(thread_id="early", seq=2), Fork(thread_id="late", seq=5))
        with pytest.raises(UnknownThread):
            store.create(new_thread("x", origin=Origin(thread_id="none", seq=1)))
        assert len(store.forks("t")) == 2

    def test_a_fork_of_what_a_fork_inherited_belongs_to_the_origin(self, store: CheckpointStore) -> None:
        history(store, 5)
        store.create(new_thread("child", origin=Origin(thread_id="t", seq=4), seq=4, head=4))
        store.create(new_thread("grandchild", origin=Origin(thread_id="child", seq=3), seq=3, head=3))
        assert store.thread("grandchild").origin == Origin(thread_id="t", seq=3)
        assert store.forks("child") == ()
        assert [fork.thread_id for fork in store.forks("t")] == ["grandchild", "child"]

    def test_no_fork_of_what_retention_dropped(self, store: CheckpointStore) -> None:
        history(store, 5)
        store.amend("t", Amendment(names={"kept": 1}))
        store.create(new_thread("old", origin=Origin(thread_id="t", seq=2), seq=2, head=2))
        store.amend("t", Amendment(floor=4))
        with pytest.raises(StoreMisuse, match="retention"):
            store.create(new_thread("x", origin=Origin(thread_id="t", seq=3), seq=3, head=3))
        for fork, seq in (("named", 1), ("forked", 2), ("new", 4)):
            store.create(new_thread(fork, origin=Origin(thread_id="t", seq=seq), seq=seq, head=seq))
        assert [fork.seq for fork in store.forks("t")] == [1, 2, 2, 4]

    def test_an_inherited_checkpoint_is_named_where_it_was_written(self, store: CheckpointStore) -> None:
        history(store, 5)
        store.create(new_thread("child", origin=Origin(thread_id="t", seq=4), seq=4, head=4))
        with pytest.raises(StoreMisuse, match="'t'"):
            store.amend("child", Amendment(names={"n": 3}))
