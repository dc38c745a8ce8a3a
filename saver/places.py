"""Where a LangGraph thread lives: each of its namespaces is a Perdure thread of its own.

Subgraphs that run side by side then do not queue for one another, and the newest checkpoint of each is its thread's
head. The threads of the subgraphs' namespaces refer to the root namespace's as their origin, at its beginning, of which
they inherit nothing: so a store finds them without looking at every thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from ..stores.base import CheckpointStore
from ..stores.errors import StoreMisuse, UnknownThread
from ..stores.operations import ThreadFilter
from ..stores.records import LOADING, Origin, Status, ThreadRecord

DRIVER = "langgraph"
"""`ThreadRecord.driver` of these threads: no service and no `invoke` of Perdure takes them."""
THREAD_KEY, NAMESPACE_KEY = "langgraph_thread", "langgraph_namespace"
"""Keys of a thread's metadata."""

_SHOWN = 64
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Place:
    """One namespace of one LangGraph thread."""

    thread: str
    namespace: str
    thread_id: str = field(init=False, compare=False)
    """The Perdure thread: readable, of bounded length, and unlike that of any other place."""

    def __post_init__(self) -> None:
        name = hashlib.blake2b(msgspec.json.encode((self.thread, self.namespace)), digest_size=16).hexdigest()
        shown = self.thread[:_SHOWN].encode("ascii", "replace").decode().replace("\0", "?")
        object.__setattr__(self, "thread_id", f"{DRIVER}:{shown}:{name}")

    @property
    def root(self) -> Place:
        """The root graph's namespace."""
        return Place(self.thread, "")

    def record(self, at: float) -> ThreadRecord:
        """The row of a new thread. It waits, for ever: that is, it is neither runnable nor ended."""
        return ThreadRecord(
            thread_id=self.thread_id,
            graph=DRIVER,
            version="",
            driver=DRIVER,
            status=Status.WAITING,
            origin=Origin(thread_id=self.root.thread_id, seq=0) if self.namespace else None,
            metadata={THREAD_KEY: self.thread, NAMESPACE_KEY: self.namespace},
            created_at=at,
            updated_at=at,
        )


def place_of(row: ThreadRecord) -> Place:
    """The place whose row this is."""
    return Place(str(row.metadata[THREAD_KEY]), str(row.metadata[NAMESPACE_KEY]))


def row_of(store: CheckpointStore, place: Place) -> ThreadRecord | None:
    """The place's row; None if nothing was ever written there, or it is still being copied in.

    Raises `StoreMisuse` where its id belongs to a thread that is not LangGraph's.
    """
    try:
        row = store.thread(place.thread_id)
    except UnknownThread:
        return None
    if row.driver == LOADING:
        return None
    if row.driver != DRIVER:
        raise StoreMisuse(
            f"thread {row.thread_id!r} in {store.url.partition('://')[0]} store is driven by {row.driver!r}, not by "
            "LangGraph; delete it, or choose another thread_id"
        )
    return row


def places_of(store: CheckpointStore, thread: str) -> list[Place]:
    """The namespaces of a LangGraph thread, the root first; empty if there is none."""
    root = Place(thread, "")
    if row_of(store, root) is None:
        return []
    rows = []
    for fork in store.forks(root.thread_id):
        try:
            rows.append(store.thread(fork.thread_id))
        except UnknownThread:
            continue
    return [root, *(place_of(row) for row in rows if row.driver == DRIVER)]


def all_places(store: CheckpointStore) -> Iterator[Place]:
    """Every namespace of every LangGraph thread in the store."""
    cursor: str | None = None
    while True:
        page = store.threads(ThreadFilter(driver=DRIVER), limit=_PAGE, cursor=cursor)
        yield from map(place_of, page.threads)
        cursor = page.cursor
        if cursor is None:
            return
