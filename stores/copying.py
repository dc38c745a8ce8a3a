"""Copy any store into any other, thread by thread, while threads run and after a copy that broke off.

Each thread is copied as it was at one moment: its row, runs and messages are read together, then its segments up to
there. While it is copied it is held (its driver is `LOADING`), so that nobody runs half of it; a copy that broke off
goes on where the newest segment that arrived ends. Only when all threads are there are they let go, parents first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from .base import CheckpointStore
from .columns import size_of
from .errors import StoreUnavailable, ThreadExists, UnknownThread, WrongOrigin
from .fetching import cut
from .held_thread import HeldThread, Kept, Overtaken
from .operations import ABSENT, Reached, ThreadImage
from .records import LOADING, GraphRecord, Segment, ThreadRecord
from .retention import SETTING
from .transitions import first_of

_TRIES = 10
"""How often a thread is looked at anew, because retention dropped something while it was read."""
_BYTES = 4 << 20
"""What one transaction should write."""
_PAGE = 500


class Source(Kept, Protocol):
    """What a copy reads."""

    def rows(self) -> Iterable[ThreadRecord]:
        """Every thread's row."""
        ...

    def thread(self, thread_id: str) -> ThreadRecord:
        """See `CheckpointStore.thread`."""
        ...

    def image(self, thread_id: str) -> ThreadImage:
        """See `CheckpointStore.image`."""
        ...

    def graph_keys(self) -> tuple[str, ...]:
        """See `CheckpointStore.graph_keys`."""
        ...

    def graph(self, graph_key: str) -> GraphRecord:
        """See `CheckpointStore.graph`."""
        ...

    def setting(self, name: str) -> Any:
        """See `CheckpointStore.setting`."""
        ...


class StoreSource:
    """A store as a source."""

    fixed = False

    def __init__(self, store: CheckpointStore) -> None:
        self.thread = store.thread
        self.image = store.image
        self.segments = store.segments
        self.graph_keys = store.graph_keys
        self.graph = store.graph
        self.setting = store.setting
        self._store = store

    def rows(self) -> Iterator[ThreadRecord]:
        """Every thread's row, newest first."""
        cursor = None
        while True:
            page = self._store.threads(limit=_PAGE, cursor=cursor)
            yield from page.threads
            cursor = page.cursor
            if cursor is None:
                return


@dataclass(slots=True, kw_only=True)
class Copied:
    """What a copy has come to."""

    threads: int = 0
    """Threads that are all there."""
    total: int = 0
    """Threads that there are to copy."""
    present: int = 0
    """Threads that had been there already, the same."""
    segments: int = 0
    """Segments written..."""
    size: int = 0
    """...and the bytes of their rows."""
    different: list[str] = field(default_factory=list)
    """Threads of the target that are not those of the source, or not as they are now; left as they are."""
    gone: list[str] = field(default_factory=list)
    """Threads that were deleted from the source meanwhile."""


def copy_store(source: Source, target: CheckpointStore, *, hold: bool = False) -> Iterator[Copied]:
    """Copy all threads, graphs and the store's retention; yields how far it has come, again and again.

    `hold` leaves the threads in the target held, so that a later copy only has to bring what is new; the one without it
    lets them go. A thread that was created meanwhile is for the next copy. Raises `StoreUnavailable`; then the same
    call goes on from there. Raises `Corrupt` for a record that does not decode.
    """
    done = Copied()
    _copy_around(source, target)
    order = parents_first({row.thread_id: row.origin.thread_id if row.origin else "" for row in source.rows()})
    done.total = len(order)
    copying: list[str] = []
    for thread_id in order:
        yield done
        if _is_there(source, target, thread_id, done):
            continue
        if _copy(source, target, thread_id, done, complete=False):
            copying.append(thread_id)
    for thread_id in copying:
        # Once more, for what has been added since: the last look at it is the one that counts.
        if not hold and not _copy(source, target, thread_id, done, complete=True):
            continue
        done.threads += 1
        yield done


def parents_first(origins: dict[str, str]) -> list[str]:
    """Thread ids, each after its origin (empty if it has none), if that is among them."""
    order: dict[str, None] = {}
    for thread_id in origins:
        line = [thread_id]
        while (above := origins.get(line[-1], "")) in origins and above not in order:
            line.append(above)
        order.update(dict.fromkeys(reversed(line)))
    return list(order)


def copy_thread(
    source: Source,
    target: CheckpointStore,
    thread_id: str,
    done: Copied,
    *,
    after: int = 0,
    begun: bool = False,
    complete: bool = False,
) -> ThreadImage:
    """Bring a held thread of the target to where the source's is, from commit `after` on; returns what it is now. With
    `begun`, only one that is there. Others may do the same at the same time; one that is deleted meanwhile is brought
    in anew, from its first commit on.

    Raises `ThreadExists` where the target has another of this id, `UnknownThread`; for its origin in the target what
    `load` does.
    """
    tidied = overtaken = 0
    seen: Reached | None = None
    while max(tidied, overtaken) < _TRIES:
        image = source.image(thread_id)
        held = HeldThread.of(target, source, image.thread)
        if begun and held.newest == ABSENT:
            raise UnknownThread(thread_id, "the target")
        # Who is overtaken finds that others have come further, unless they only delete it.
        overtaken = overtaken + 1 if held.newest == seen else 0
        seen = held.newest
        try:
            rest = _bring(source, held, image.thread, after, done)
            if source.fixed or stands(image.thread, source.thread(thread_id)):
                # The last piece comes with the rest of the thread, which for most threads is all of it.
                last = image if complete else replace(image, thread=_held(image.thread))
                held.add(last, rest, complete=complete)
                _count(done, rest)
                return image
            tidied += 1
        except Overtaken:
            continue
    raise StoreUnavailable(
        f"thread {thread_id!r} was tidied or deleted {_TRIES} times while it was being copied; run the same copy again"
    )


def _bring(source: Source, held: HeldThread, row: ThreadRecord, after: int, done: Copied) -> list[Segment]:
    """Add all segments but the last piece of them, which is returned. Raises `Overtaken`."""
    if held.origin != row.origin:
        # The origin was deleted since then, and what the thread had of it is its own now.
        bare = ThreadImage(thread=_held(replace(row, origin=held.origin)), runs=(), messages=())
        first, last = held.inherited
        for chunk in missing_segments(source, row, max(first, first_of(row) - 1), last):
            held.add_below(bare, chunk)
            _count(done, chunk)
    bare = ThreadImage(thread=_held(row), runs=(), messages=())
    rest: list[Segment] = []
    for chunk in missing_segments(source, row, max(after, held.own), row.seq):
        if rest:
            held.add(bare, rest)
            _count(done, rest)
        rest = chunk
    return rest


def _count(done: Copied, chunk: Sequence[Segment]) -> None:
    done.segments += len(chunk)
    done.size += sum(size_of(segment.rows) for segment in chunk)


def _copy(source: Source, target: CheckpointStore, thread_id: str, done: Copied, *, complete: bool) -> bool:
    try:
        copy_thread(source, target, thread_id, done, complete=complete)
    except UnknownThread as error:
        if error.thread_id != thread_id:
            raise
        done.gone.append(thread_id)
        return False
    except (ThreadExists, WrongOrigin):
        # Another copy may have let it go. Or its origin in the target is another, or is not as far.
        if not _is_there(source, target, thread_id, done):
            done.different.append(thread_id)
        return False
    return True


def _is_there(source: Source, target: CheckpointStore, thread_id: str, done: Copied) -> bool:
    try:
        found = target.thread(thread_id)
        if found.driver == LOADING:
            return False
        wanted = source.thread(thread_id)
    except UnknownThread:
        return False
    if _sign(found) == _sign(wanted):
        done.present += 1
        done.threads += 1
    else:
        done.different.append(thread_id)
    return True


def _sign(row: ThreadRecord) -> tuple[Any, ...]:
    return (row.created_at, row.seq, row.epoch, row.head, row.inbox, row.floor, dict(row.names))


def _copy_around(source: Source, target: CheckpointStore) -> None:
    for key in source.graph_keys():
        target.put_graph(source.graph(key))
    retention = source.setting(SETTING)
    if retention is not None and target.setting(SETTING) is None:
        target.put_setting(SETTING, retention)


def _held(row: ThreadRecord) -> ThreadRecord:
    """The row while it is held: without its floor, since forks of what lies below it are still to come."""
    return replace(row, floor=0)


def missing_segments(source: Source, row: ThreadRecord, have: int, end: int) -> Iterator[list[Segment]]:
    """The thread's segments after commit `have`, oldest first, in pieces of bounded size; none reaches beyond commit
    `end` or back before `have`, however they were put together meanwhile."""
    width = 8
    while have < end:
        last = min(have + width, end)
        found = [cut(segment, have + 1, end) for segment in source.segments(row.thread_id, first=have + 1, last=last)]
        if found:
            yield found[::-1]
        size = sum(size_of(segment.rows) for segment in found)
        width = max(1, width // 2) if size > _BYTES else width * 2 if size < _BYTES // 4 else width
        have = max([last, *(segment.last for segment in found)])


def stands(then: ThreadRecord, now: ThreadRecord) -> bool:
    """Whether all that the row of then refers to was there while the segments were read."""
    return (
        (then.created_at, then.origin) == (now.created_at, now.origin)
        and then.floor == now.floor
        and all(now.names.get(name) == seq for name, seq in then.names.items())
    )
