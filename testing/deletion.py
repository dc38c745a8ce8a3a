"""Deleting threads, and the forks that hold them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ..stores.base import CheckpointStore
from ..stores.errors import (
    Fenced,
    Refused,
    StoreMisuse,
    ThreadReferenced,
    UnknownThread,
)
from ..stores.operations import Committed
from ..stores.records import Origin, Status
from .harness import Harness, StoreSuite
from .samples import ANY, TOKEN, commit, message, new_thread, owned


class Deletion(StoreSuite):
    def test_deletion_leaves_nothing(self, harness: Harness, store: CheckpointStore) -> None:
        store.create(new_thread(), message())
        store.claim("t", epoch=0, token=TOKEN, owner="o")
        store.commit([commit(1, 3)])
        with pytest.raises(Refused):
            store.delete("t")
        assert harness.count(store, "t") == {"threads": 1, "runs": 1, "messages": 1, "segments": 1}
        store.commit([commit(4, status=Status.CANCELLED)])
        store.delete("t")
        store.delete("t")
        assert harness.count(store, "t") == {"threads": 0, "runs": 0, "messages": 0, "segments": 0}
        assert isinstance(store.commit([commit(5)])[0], Fenced)
        store.create(new_thread())
        assert (store.messages("t", unread=False), store.segments("t"), store.runs("t")) == ((), [], ())
        assert store.deliver("t", message(), ANY).repeated is False

    def test_only_what_is_as_it_was_seen_is_deleted(self, store: CheckpointStore) -> None:
        owned(store)
        store.commit([commit(1, 3, status=Status.SUCCEEDED)])
        seen = store.thread("t")
        another = replace(seen, created_at=seen.created_at - 1e-6)
        for wrong in (replace(seen, seq=2), replace(seen, seq=4), another, replace(seen, created_at=0.0)):
            with pytest.raises(Refused):
                store.delete("t", seen=wrong)
        assert store.thread("t") == seen
        store.delete("t", seen=seen)
        with pytest.raises(UnknownThread):
            store.thread("t")
        store.delete("t", seen=seen)

    def test_forks_hold_their_origin(self, store: CheckpointStore) -> None:
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
