"""Copies and deletes LangGraph threads, with all their namespaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..stores.base import CheckpointStore
from ..stores.copying import StoreSource, missing_segments
from ..stores.errors import StoreMisuse, StoreUnavailable, ThreadExists, ThreadReferenced, UnknownThread
from ..stores.operations import ABSENT, EMPTY, Reached, ThreadImage
from ..stores.records import LOADING, Segment, ThreadRecord
from .places import DRIVER, THREAD_KEY, Place, places_of

_ATTEMPTS = 8


def copy_thread(store: CheckpointStore, source: str, target: str) -> None:
    """Copy a thread as it is; nothing if there is none. The target appears when all of it is there; a copy that was
    broken off is made anew by the next.

    Raises `ThreadExists` if there is a target, `StoreUnavailable` if the source does not stay as it is for long enough,
    or somebody else copies to the target, or deletes it, at the same time.
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
    whole = _copy(store, places[0], root)
    if whole is None:
        return
    for place in places[1:]:
        part = _copy(store, place, Place(target, place.namespace))
        if part is not None:
            part.load(complete=True)
    whole.load(complete=True)


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


@dataclass(slots=True)
class _Target:
    """A thread that is being filled, and how far it has come."""

    store: CheckpointStore
    image: ThreadImage
    reached: Reached = ABSENT

    def load(self, segments: Sequence[Segment] = (), *, complete: bool = False) -> None:
        """Add segments, oldest first; only where nobody else has added any, or taken some away."""
        if not self.store.load(self.image, segments, after=self.reached, complete=complete):
            name = self.image.thread.metadata[THREAD_KEY]
            raise StoreUnavailable(
                f"thread {name!r} was not copied to: somebody else copies to it, or deletes it, at the same time; try "
                "again when that is done"
            )
        self.reached = Reached(segments[-1].last, segments[-1].commit_id) if segments else EMPTY


def _copy(store: CheckpointStore, source: Place, target: Place) -> _Target | None:
    """Load all of a thread but its completion; None if there is no source."""
    for _ in range(_ATTEMPTS):
        try:
            row = store.thread(source.thread_id)
        except UnknownThread:
            return None
        fresh = target.record(row.created_at)
        image = _image(replace(row, thread_id=fresh.thread_id, origin=fresh.origin, metadata=fresh.metadata, names={}))
        copied = _Target(store, image)
        copied.load()
        for chunk in missing_segments(StoreSource(store), row, 0, row.seq):
            copied.load([replace(segment, thread_id=target.thread_id) for segment in chunk])
        # Rows are taken out of a thread only after it was claimed: without that, what was read belongs together.
        if store.thread(source.thread_id).epoch == row.epoch:
            return copied
        store.delete(target.thread_id)
    raise StoreUnavailable(
        f"thread {source.thread!r} was not copied: it changes its writers all the time; try again when it is quiet"
    )


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
