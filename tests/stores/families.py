"""Threads with all that a thread can have, and whether another store has the same."""

from __future__ import annotations

from dataclasses import replace

from perdure.stores.base import CheckpointStore
from perdure.stores.operations import Amendment, RunUpdate, ThreadImage
from perdure.stores.records import GraphRecord, Origin, Retention, Status
from perdure.stores.verifying import Verified, verify_store
from tests.stores.backends import ANY, commit, message, new_thread
from tests.stores.histories import MEANING, control_row, tidied
from tests.stores.test_retention import appended

GRAPH = GraphRecord(graph_key="k", name="g", version="1", kind="reference", body=b"m:g", paths=("/p",))


def verified(store: CheckpointStore) -> Verified:
    *_, done = verify_store(store, MEANING)
    return done


def problems(store: CheckpointStore) -> list[str]:
    return [f"{one.thread_id}: {one.what}" for one in verified(store).problems]


def family(store: CheckpointStore) -> None:
    """Threads with all that a thread can have."""
    store.put_graph(GRAPH)
    store.put_setting("retention", {"max_checkpoints": 5})
    appended(store, 12)
    store.deliver("t", message("one", payload=b"in", created_at=3.0), ANY)
    store.deliver("t", message("two", "signal", name="price", payload=b"3"), ANY)
    runs = (RunUpdate(run=1, status=Status.FAILED, end=13, reason="why", error=b"trace"),)
    rows = (control_row(13, {"log": 12, "x": 12}, 12),)
    store.commit([commit(13, rows=rows, head=13, applied=((1, 13),), runs=runs, run=1)])
    store.amend("t", Amendment(names={"good": 3}, retention=Retention(max_checkpoints=4)))
    store.create(new_thread("child", origin=Origin(thread_id="t", seq=5), seq=5, head=5, metadata={"a": [1]}))
    store.create(new_thread("asleep", status=Status.SLEEPING, wake_at=99.0, tags=("x",), created_at=2.5))
    tidied(store, "t", Retention())


def image_of(store: CheckpointStore, thread_id: str) -> ThreadImage:
    """What is to be the same in a copy: all but the owner."""
    image = store.image(thread_id)
    status = Status.QUEUED if image.thread.status is Status.RUNNING else image.thread.status
    return replace(image, thread=replace(image.thread, token="", owner="", status=status))


def assert_same(source: CheckpointStore, target: CheckpointStore) -> None:
    assert_same_threads(source, target)
    assert source.setting("retention") == target.setting("retention")


def assert_same_threads(source: CheckpointStore, target: CheckpointStore) -> None:
    ids = {row.thread_id for row in source.threads(limit=1000).threads}
    assert ids == {row.thread_id for row in target.threads(limit=1000).threads}
    for thread_id in ids:
        assert image_of(source, thread_id) == image_of(target, thread_id)
        assert source.segments(thread_id) == target.segments(thread_id)
        assert source.forks(thread_id) == target.forks(thread_id)
    assert source.graph_keys() == target.graph_keys()
    assert all(source.graph(key) == target.graph(key) for key in source.graph_keys())
