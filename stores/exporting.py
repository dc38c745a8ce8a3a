"""Exports threads into one file: each whole, as it was after one of its commits, while it runs on.

A fork whose origin goes along refers to it in the file too, which costs nothing. One whose origin does not gets what it
has of that as its own, as it would before that is deleted: a file never needs what is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from .base import CheckpointStore
from .columns import size_of
from .copying import Copied, Source, StoreSource, missing_segments, parents_first, stands
from .errors import StoreMisuse, StoreUnavailable, UnknownThread
from .history import PENDING
from .operations import ThreadImage
from .records import IN_PROCESS, SERVICE, GraphRecord, Origin, Segment, ThreadRecord
from .thread_file_writing import ThreadFileWriter
from .transitions import adopted, check_whole, first_of, run_of_fork

_TRIES = 10
"""How often a thread is looked at anew, because something of it was dropped or deleted while it was read."""

Needs = Callable[[GraphRecord], str]
"""Key of another graph record that a graph needs; empty for none."""


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Commits up to `last` that a thread has of `row`'s own."""

    row: ThreadRecord
    last: int


@dataclass(frozen=True, slots=True)
class _Thread:
    """A thread as the file will have it, and where what it inherits lies, the newest first."""

    image: ThreadImage
    row: ThreadRecord
    """Its row in the store."""
    inherited: tuple[_Stretch, ...] = ()


def export_threads(
    store: CheckpointStore, file: ThreadFileWriter, thread_ids: Iterable[str], needs: Needs
) -> Iterator[Copied]:
    """Write whole threads, and the graphs that they need, and finish the file; yields how far it has come.

    A thread that runs is written as it is after its last commit; one that is not there, or is deleted meanwhile, is
    left out, and named as gone. Raises `StoreMisuse` for one that is being copied in, that belongs to another or has
    still to replay another, which is not exported; `Corrupt`, `NewerFormat`; `StoreUnavailable` where a thread was
    changed all the time.
    """
    source = StoreSource(store)
    done = Copied()
    rows = {row.thread_id: row for row in _chosen(store, thread_ids, done)}
    _check_replays(store, rows)
    chosen = set(rows)
    done.total = len(rows) + len(done.gone)
    written: dict[str, ThreadRecord] = {}
    for thread_id in parents_first({one: _nearest(source, row, chosen) for one, row in rows.items()}):
        yield done
        row = _export(source, file, thread_id, written, done)
        if row is None:
            done.gone.append(thread_id)
        else:
            written[thread_id] = row
            done.threads += 1
    for key in _graph_keys(store, written.values(), needs):
        file.graph(store.graph(key))
    file.finish()
    yield done


def _chosen(store: CheckpointStore, thread_ids: Iterable[str], done: Copied) -> Iterator[ThreadRecord]:
    for thread_id in dict.fromkeys(thread_ids):
        try:
            row = store.thread(thread_id)
        except UnknownThread:
            done.gone.append(thread_id)  # since it was listed
            continue
        check_whole(row, "it cannot be exported yet")
        yield row
        if row.driver not in (SERVICE, IN_PROCESS):
            # A LangGraph thread has one for each namespace of its subgraphs, which refer to its beginning.
            yield from store.find([fork.thread_id for fork in store.forks(thread_id) if not fork.seq]).values()


def _check_replays(store: CheckpointStore, rows: Mapping[str, ThreadRecord]) -> None:
    """Raise `StoreMisuse` for a re-run that has still to replay a thread that does not go along: of what tasks recorded
    a fork takes over nothing. What that one replayed, as it is a re-run too, is needed with it."""
    for thread_id, row in rows.items():
        while not rows[thread_id].status.ended and (original := row.replays) is not None:
            if original.thread_id not in rows:
                if _is_there(store, original.thread_id):
                    raise StoreMisuse(
                        f"thread {thread_id!r} has still to replay what thread {original.thread_id!r} recorded; export "
                        "that one with it, or wait until it has ended"
                    )
                break
            row = rows[original.thread_id]  # noqa: PLW2901 — up the line of originals


def _is_there(store: CheckpointStore, thread_id: str) -> bool:
    try:
        store.thread(thread_id)
    except UnknownThread:
        return False
    return True


def _nearest(source: Source, row: ThreadRecord, chosen: set[str]) -> str:
    """The nearest of a thread's origins that goes along; empty for none."""
    while row.origin is not None:
        if row.origin.thread_id in chosen:
            return row.origin.thread_id
        if not row.origin.seq:
            raise StoreMisuse(
                f"thread {row.thread_id!r} is a part of thread {row.origin.thread_id!r}; export that one with it"
            )
        try:
            row = source.thread(row.origin.thread_id)
        except UnknownThread:
            return ""  # deleted meanwhile: what was its origin's is its own now
    return ""


def _export(
    source: Source, file: ThreadFileWriter, thread_id: str, written: dict[str, ThreadRecord], done: Copied
) -> ThreadRecord | None:
    """The row that the thread has in the file; None if it is gone."""
    mark, segments, size = file.mark(), done.segments, done.size
    for _ in range(_TRIES):
        gone = False
        try:
            found = _whole(source, thread_id, written)
            file.image(found.image)
            for chunk in _segments(source, found):
                file.segments(chunk)
                done.segments += len(chunk)
                done.size += sum(size_of(segment.rows) for segment in chunk)
            if _stands(source, found):
                return found.image.thread
        except UnknownThread as error:
            gone = error.thread_id == thread_id
            # Otherwise an origin was deleted while it was read: what was its is the fork's own now.
        file.back(mark)
        done.segments, done.size = segments, size
        if gone:
            return None
    raise StoreUnavailable(f"thread {thread_id!r} was changed {_TRIES} times while it was exported; export it again")


def _whole(source: Source, thread_id: str, written: dict[str, ThreadRecord]) -> _Thread:
    """The thread as it is to be in the file, where only those that are `written` can be origins."""
    image = source.image(thread_id)
    row, inherited = image.thread, list[_Stretch]()
    while row.origin is not None and row.origin.thread_id not in written:
        parent, last = source.thread(row.origin.thread_id), row.origin.seq
        inherited.append(_Stretch(parent, last))
        row = adopted(row, parent)
        if row.origin is not None and row.origin.seq > last:
            row = replace(row, origin=Origin(thread_id=row.origin.thread_id, seq=last))
    if row.origin is not None and written[row.origin.thread_id].seq < row.origin.seq:
        raise StoreUnavailable(
            f"thread {row.origin.thread_id!r}, from which {thread_id!r} was forked, was made anew while it was "
            "exported; export them again"
        )
    if not inherited:
        return _Thread(replace(image, thread=_unowned(row)), image.thread)
    runs = image.runs
    if row.run and all(run.run != row.run for run in runs):
        runs = tuple(sorted((run_of_fork(row), *runs), key=lambda run: run.run))
    whole = ThreadImage(thread=_unowned(row), runs=runs, messages=image.messages)
    return _Thread(whole, image.thread, tuple(inherited))


def _unowned(row: ThreadRecord) -> ThreadRecord:
    # Who owns it here owns nothing elsewhere.
    return replace(row, token="", owner="")


def _segments(source: Source, found: _Thread) -> Iterator[list[Segment]]:
    """All segments, oldest first: what it inherits, then its own."""
    thread = found.image.thread
    for stretch in reversed(found.inherited):
        for chunk in missing_segments(source, stretch.row, first_of(stretch.row) - 1, stretch.last):
            yield [_handed_over(segment, thread.thread_id) for segment in chunk]
    after = max((stretch.last for stretch in found.inherited), default=first_of(thread) - 1)
    yield from missing_segments(source, thread, after, thread.seq)


def _handed_over(segment: Segment, thread_id: str) -> Segment:
    """A fork's own, of a segment that it inherits: without what became known of the origin's tasks."""
    rows = tuple(row for row in segment.rows if row.kind not in PENDING)
    return replace(segment, thread_id=thread_id, rows=rows)


def _stands(source: Source, found: _Thread) -> bool:
    """Whether all that was written was there while it was read, and nothing else was."""
    rows = (found.row, *(stretch.row for stretch in found.inherited))
    return all(stands(row, source.thread(row.thread_id)) for row in rows)


def _graph_keys(store: CheckpointStore, rows: Iterable[ThreadRecord], needs: Needs) -> list[str]:
    """The graphs that threads refer to, and what these need."""
    keys: dict[str, None] = {}
    for row in rows:
        key = row.graph_key
        while key and key not in keys:
            keys[key] = None
            key = needs(store.graph(key))
    return list(keys)
