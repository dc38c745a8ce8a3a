"""Images of threads, and loading them elsewhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ..stores.base import CheckpointStore
from ..stores.errors import (
    Fenced,
    Refused,
    ThreadExists,
    ThreadHeld,
    ThreadReferenced,
    UnknownThread,
    WrongOrigin,
)
from ..stores.operations import ABSENT, EMPTY, Amendment, Committed, Reached, RunUpdate, ThreadImage
from ..stores.records import LOADING, SERVICE, Origin, Retention, Segment, Status
from .harness import StoreSuite
from .samples import ANY, TOKEN, commit, history, message, new_thread

KEEP = Retention(max_checkpoints=3, keep_for=timedelta(hours=1.5), delete_after=timedelta(days=2))


class Copies(StoreSuite):
    def test_an_image_comes_back_as_it_was(self, store: CheckpointStore) -> None:
        self.eventful(store)
        image, segments = store.image("t"), store.segments("t")
        assert image.thread == store.thread("t")
        assert image.runs == store.runs("t")
        assert image.messages == store.messages("t", unread=False)
        store.commit([commit(3, status=Status.CANCELLED, release=True)])
        store.delete("t")

        store.load(image, segments[1:])
        loading = store.thread("t")
        assert (loading.driver, loading.token, loading.owner) == (LOADING, "", "")
        store.load(image, segments, complete=True)
        assert store.thread("t") == replace(image.thread, token="", owner="", status=Status.QUEUED)
        assert store.runs("t") == image.runs
        assert store.messages("t", unread=False) == image.messages
        assert store.segments("t") == segments
        claimed = store.claim("t", epoch=1, token="new", owner="o2")
        assert claimed.epoch == 2
        assert isinstance(store.commit([commit(3, epoch=2, token="new")])[0], Committed)

    def eventful(self, store: CheckpointStore) -> None:
        store.create(new_thread(metadata={"a": [1, None]}, tags=("x",), retention=KEEP), message("m1", payload=b"one"))
        store.claim("t", epoch=0, token=TOKEN, owner="owner")
        failed = RunUpdate(run=1, status=Status.FAILED, end=2, reason="why", error=b"trace")
        store.commit([commit(1, head=1, applied=((1, 1),))])
        store.commit([commit(2, head=2, runs=(failed,), wake_at=77.5, waits=("w",))])
        store.deliver("t", message("m2", "signal", name="price", payload=b"two"), ANY)
        store.amend("t", Amendment(names={"n": 1}))

    def taken_out(self, store: CheckpointStore) -> tuple[ThreadImage, list[Segment]]:
        """Such a thread as it was, which is gone from the store."""
        self.eventful(store)
        image, segments = store.image("t"), store.segments("t")
        store.commit([commit(3, status=Status.CANCELLED, release=True)])
        store.delete("t")
        return image, segments

    def test_a_thread_that_is_there_is_not_overwritten(self, store: CheckpointStore) -> None:
        self.eventful(store)
        before = store.image("t")
        with pytest.raises(ThreadExists):
            store.load(replace(before, messages=()), complete=True)
        assert store.image("t") == before

    def test_a_held_thread_takes_no_messages_and_can_be_given_up(self, store: CheckpointStore) -> None:
        """A message that was accepted was gone when the next piece came; and one that was never finished stayed."""
        image, segments = self.taken_out(store)
        store.load(image, segments)
        assert store.thread("t").status is Status.QUEUED
        with pytest.raises(Refused, match="being copied"):
            store.deliver("t", message("m3", "signal", name="price"), ANY)
        assert store.messages("t", unread=False) == image.messages
        store.delete("t")
        with pytest.raises(UnknownThread):
            store.thread("t")
        assert not store.threads().threads
        store.load(image, segments, complete=True)
        assert store.deliver("t", message("m3", "signal", name="price"), ANY).number == 3

    def test_loading_goes_on_only_from_where_it_was_seen(self, store: CheckpointStore) -> None:
        """Somebody deleted the thread between two pieces of it: the second one was added, and the first was missing."""
        image, (second, first) = self.taken_out(store)
        one = Reached(1, first.commit_id)
        for wrong in (EMPTY, one):
            assert not store.load(image, [first], after=wrong)
        with pytest.raises(UnknownThread):
            store.thread("t")
        assert store.load(image, [first], after=ABSENT)
        for wrong in (ABSENT, EMPTY, Reached(1, "another"), Reached(2, first.commit_id)):
            assert not store.load(replace(image, messages=()), [second], after=wrong)
            assert not store.load(replace(image, messages=()), after=wrong, complete=True)
        assert store.thread("t").driver == LOADING
        assert store.segments("t") == [first]
        assert store.messages("t", unread=False) == image.messages
        assert store.load(image, [second], after=one)
        assert not store.load(image, [second], after=one)
        store.delete("t")
        assert not store.load(image, after=Reached(2, second.commit_id), complete=True)
        assert not store.threads().threads
        assert store.load(image, after=ABSENT)
        assert store.load(image, [first, second], after=EMPTY)
        assert store.load(image, after=Reached(2, second.commit_id), complete=True)
        assert store.segments("t") == [second, first]
        with pytest.raises(ThreadExists):
            store.load(image, after=Reached(2, second.commit_id), complete=True)

    def test_what_a_thread_inherited_is_loaded_below_its_own(self, store: CheckpointStore) -> None:
        """Its origin was deleted where it comes from: only what lies below counts for where that goes on."""
        history(store, 4)
        store.commit([commit(5, status=Status.SUCCEEDED, release=True)])
        fifth, fourth, third, second, first = (replace(one, thread_id="child") for one in store.segments("t"))
        row = new_thread("child", origin=Origin(thread_id="t", seq=4), seq=5, head=4)
        image = ThreadImage(thread=row, runs=(), messages=())
        assert not store.load(image, [fifth], after=EMPTY)
        assert store.load(image, [fifth], after=ABSENT)
        assert not store.load(image, [first, second], after=Reached(5, fifth.commit_id))
        assert store.load(image, [first, second], after=EMPTY)
        assert not store.load(image, [fourth], after=EMPTY)
        assert store.load(image, [third, fourth], after=Reached(2, second.commit_id))
        whole = replace(image, thread=replace(row, origin=None))
        assert store.load(whole, after=Reached(5, fifth.commit_id), complete=True)
        assert store.segments("child") == [fifth, fourth, third, second, first]
        assert store.forks("t") == ()

    def test_a_held_thread_takes_no_names_and_has_no_forks(self, store: CheckpointStore) -> None:
        """Both were accepted: the names were gone with the next piece, and what the fork was made of was another's."""
        image, segments = self.taken_out(store)
        store.load(image, segments)
        held = store.image("t")
        for change in (Amendment(names={"m": 2}), Amendment(tags={"urgent": True}), Amendment(retention=KEEP)):
            with pytest.raises(ThreadHeld, match=r"'t' is being copied .* start the same import or copy again"):
                store.amend("t", change)
        assert store.image("t") == held
        row = new_thread("child", origin=Origin(thread_id="t", seq=2), seq=2, head=2)
        with pytest.raises(ThreadHeld, match="'child' cannot be forked from it yet"):
            store.create(row)
        store.load(ThreadImage(thread=row, runs=(), messages=()))
        of_it = new_thread("grandchild", origin=Origin(thread_id="child", seq=1), seq=1, head=1)
        with pytest.raises(ThreadHeld):
            store.create(of_it)
        assert [fork.thread_id for fork in store.forks("t")] == ["child"]
        store.load(image, complete=True)
        with pytest.raises(ThreadHeld, match="'child' is being copied"):
            store.create(of_it)
        store.load(ThreadImage(thread=row, runs=(), messages=()), complete=True)
        store.create(of_it)
        assert store.amend("t", Amendment(names={"m": 2})).names == {"n": 1, "m": 2}

    def test_a_fork_of_what_its_origin_has_not_is_told_from_other_misuse(self, store: CheckpointStore) -> None:
        history(store, 3)
        row = new_thread("child", origin=Origin(thread_id="t", seq=9), seq=9, head=9)
        with pytest.raises(WrongOrigin, match="last durable commit is 3"):
            store.load(ThreadImage(thread=row, runs=(), messages=()))
        with pytest.raises(WrongOrigin, match="last durable commit is 3"):
            store.create(row)

    def test_loading_needs_the_origin(self, store: CheckpointStore) -> None:
        row = new_thread("child", origin=Origin(thread_id="none", seq=1), seq=1, head=1)
        with pytest.raises(UnknownThread):
            store.load(ThreadImage(thread=row, runs=(), messages=()))
        with pytest.raises(UnknownThread):
            store.thread("child")

    def test_a_loaded_fork_holds_its_origin(self, store: CheckpointStore) -> None:
        history(store, 3)
        store.commit([commit(4, status=Status.SUCCEEDED, release=True)])
        row = new_thread("child", origin=Origin(thread_id="t", seq=2), seq=2, head=2)
        store.load(ThreadImage(thread=row, runs=(), messages=()), complete=True)
        assert store.thread("child").driver == SERVICE
        with pytest.raises(ThreadReferenced):
            store.delete("t")

    def test_the_stale_owner_of_a_copy_is_fenced(self, store: CheckpointStore) -> None:
        image, segments = self.taken_out(store)
        store.load(image, segments, complete=True)
        assert isinstance(store.commit([commit(3)])[0], Fenced)
