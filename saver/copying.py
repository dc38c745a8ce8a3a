"""Copies and deletes LangGraph threads, with all their namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..stores.base import CheckpointStore
from ..stores.errors import StoreMisuse, StoreUnavailable, ThreadExists, ThreadReferenced, UnknownThread
from ..stores.fetching import newest_first
from ..stores.records import LOADING, Segment, ThreadImage, ThreadRecord
from .places import DRIVER, Place, places_of

_BATCH = 64
"""Segments that are written at a time."""
_ATTEMPTS = 8


def copy_thread(store: CheckpointStore, source: str, target: str) -> None:
    """Copy a thread as it is; nothing if there is none. The target appears when all of it is there; a copy that was
    broken off is made anew by the next.

    Raises `ThreadExists` if there is a target, `StoreUnavailable` if the source does not stay as it is for long enough.
    """
    places = places_of(store, source)
    if not places or source == target:
        return
    root = Place(target, "")
    begun = _row(store, root)
    if begun is not None and begun.driver != LOADING:
        raise ThreadExists(target)
    delete_thread(store, target)
    # The others refer to the root's thread, so it is begun first; and as it ends last, the target appears with it.
    image = _copy(store, places[0], root)
    if image is None:
        return
    for place in places[1:]:
        copied = _copy(store, place, Place(target, place.namespace))
        if copied is not None:
            store.load(copied, complete=True)
    store.load(image, complete=True)


def delete_thread(store: CheckpointStore, thread: str) -> None:
    """Delete a thread with all its namespaces. Deleting what is not there does nothing."""
    root = Place(thread, "")
    while _row(store, root) is not None:
        for fork in store.forks(root.thread_id):
            store.delete(fork.thread_id)
        try:
            store.delete(root.thread_id)
        except ThreadReferenced:
            continue  # a subgraph began meanwhile


def _copy(store: CheckpointStore, source: Place, target: Place) -> ThreadImage | None:
    """Load all of a thread but its completion, for which the image is returned; None if there is no source."""
    for _ in range(_ATTEMPTS):
        try:
            row = store.thread(source.thread_id)
        except UnknownThread:
            return None
        fresh = target.record(row.created_at)
        image = _image(replace(row, thread_id=fresh.thread_id, origin=fresh.origin, metadata=fresh.metadata, names={}))
        for batch in _batches(store, source, target, row.seq):
            store.load(image, batch)
        # Rows are taken out of a thread only after it was claimed: without that, what was read belongs together.
        if store.thread(source.thread_id).epoch == row.epoch:
            return image
        store.delete(target.thread_id)
    raise StoreUnavailable(
        f"thread {source.thread!r} was not copied: it changes its writers all the time; try again when it is quiet"
    )


def _batches(store: CheckpointStore, source: Place, target: Place, last: int) -> Iterator[list[Segment]]:
    batch: list[Segment] = []
    for segment in newest_first(store, source.thread_id, last):
        batch.append(replace(segment, thread_id=target.thread_id))
        if len(batch) == _BATCH:
            yield batch
            batch = []
    yield batch


def _image(thread: ThreadRecord) -> ThreadImage:
    return ThreadImage(thread=thread, runs=(), messages=())


def _row(store: CheckpointStore, place: Place) -> ThreadRecord | None:
    try:
        row = store.thread(place.thread_id)
    except UnknownThread:
        return None
    if row.driver not in (DRIVER, LOADING):
        raise StoreMisuse(f"thread {row.thread_id!r} is driven by {row.driver!r}, not by LangGraph; leave it alone")
    return row
