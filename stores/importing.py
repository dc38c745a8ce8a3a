"""Imports the threads of a file into a store: all that can be refused is refused before anything is written.

First the threads are brought in, and held, so that nobody runs or overwrites half of one. When all are there they are
let go, origins first. By its notes an import that broke off is known when it is run again, and goes on; several who run
it at the same time help each other, and all of them come to its end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from .arguments import canonical_json
from .base import CheckpointStore
from .copying import Copied, copy_thread
from .errors import StoreMisuse, ThreadExists, UnknownThread
from .import_notes import ImportNotes, Stage
from .records import LOADING, GraphRecord, ThreadRecord
from .renamed_threads import Rename, RenamedThreads, new_names
from .thread_file_reading import ThreadFile
from .transitions import first_of

OnConflict: TypeAlias = Literal["refuse", "skip"]


@dataclass(slots=True, kw_only=True)
class Imported(Copied):
    """What an import has come to. `gone` are threads that were deleted from the store before all was done."""

    thread_ids: list[str] = field(default_factory=list)
    """The ids that the file's threads have in the store, in the order of the file; without those that were skipped, or
    are gone."""
    skipped: list[str] = field(default_factory=list)
    """Threads of the file, by their ids in the store, that were not imported since the store has such."""


def import_threads(
    file: ThreadFile,
    target: CheckpointStore,
    now: float,
    *,
    on_conflict: OnConflict = "refuse",
    rename: Rename | None = None,
    graphs: Callable[[], Mapping[str, GraphRecord]] = dict,
) -> Iterator[Imported]:
    """Bring a file's threads into a store, at `now` (Unix seconds); yields how far it has come.

    An import that broke off goes on when it is called again alike, also where threads that had been let go have run on
    since; one that several call alike at the same time is done once. `graphs`, called once nothing stands against it,
    puts graphs into the store and gives, by their names, what runs their threads from now on.

    Raises, before anything is written: `Corrupt`, `NewerFormat`, `MissingKey` for a file that does not decode or makes
    no sense; `ThreadExists` for an id that is taken, if those are not to be skipped; `StoreMisuse` for new names that
    do not fit, or a fork of a thread that is skipped and not the same here; what `graphs` raises. While it writes:
    `StoreUnavailable`, and `ThreadExists` for a thread that somebody else has made meanwhile.
    """
    if on_conflict not in ("refuse", "skip"):
        raise StoreMisuse(f'on_conflict is {on_conflict!r}; give "refuse" or "skip"')
    file.check()
    names = new_names(file, rename)
    notes = ImportNotes(target, _key(file, names))
    stage, taken = _look(file, target, names, notes)
    if taken and on_conflict == "refuse":
        raise _exists(file, target, taken)
    if not stage.whole:
        _check_origins(file, target, names, taken)
    wanted = {new: old for old, new in names.items() if new not in taken}
    source = RenamedThreads(file=file, names=names, wanted=wanted, graphs=graphs())
    done = Imported(total=len(wanted), thread_ids=list(wanted), skipped=taken)
    if not stage.whole:
        notes.begin(file.path.name, now, taken)
        for key in source.graph_keys():
            target.put_graph(source.graph(key))
        yield from _bring_in(source, target, notes, done)
        notes.all_there()
    yield from _let_go(source, target, done)
    notes.end()
    yield done


def _bring_in(
    source: RenamedThreads, target: CheckpointStore, notes: ImportNotes, done: Imported
) -> Iterator[Imported]:
    """Bring all threads in, held; until somebody else who does the same has them all there."""
    for thread_id in source.wanted:
        yield done
        if _over(notes.read()):
            return
        try:
            copy_thread(source, target, thread_id, done)
        except ThreadExists:
            if _over(notes.read()):
                return
            if not _is_ours(source.file, target, thread_id, source.wanted[thread_id]):
                raise _exists(source.file, target, [thread_id]) from None


def _over(stage: Stage) -> bool:
    """Whether nothing is to be brought in any more. The note was there: if it is not, another one has ended it all."""
    return stage.whole or not stage.begun


def _let_go(source: RenamedThreads, target: CheckpointStore, done: Imported) -> Iterator[Imported]:
    """Let all threads go that are held still. What is not there was let go before, and deleted since; or somebody has
    given it up."""
    for thread_id in list(source.wanted):
        yield done
        try:
            found = target.thread(thread_id)
            if found.created_at != source.thread(thread_id).created_at:
                raise UnknownThread(thread_id, "the store")  # another one has its id now
            if found.driver == LOADING:
                copy_thread(source, target, thread_id, done, begun=True, complete=True)
            else:
                done.present += 1
        except UnknownThread as error:
            if error.thread_id != thread_id:
                raise
            done.gone.append(thread_id)
            done.thread_ids.remove(thread_id)
            continue
        except ThreadExists:
            if _is_held(target, thread_id):
                raise _exists(source.file, target, [thread_id]) from None
            done.present += 1  # somebody else has let it go
        done.threads += 1


def _key(file: ThreadFile, names: Mapping[str, str]) -> str:
    """By which this import is known again."""
    return hashlib.blake2b(f"{file.digest}{canonical_json(names)}".encode(), digest_size=16).hexdigest()


def _look(
    file: ThreadFile, target: CheckpointStore, names: Mapping[str, str], notes: ImportNotes
) -> tuple[Stage, list[str]]:
    """How far this import has come already, and which ids are taken by others."""
    while True:
        stage = notes.read()
        taken = _taken(file, target, names, stage)
        # Somebody who does the same may have let some go since the notes were read.
        if not taken or notes.read() == stage:
            return stage, taken


def _taken(file: ThreadFile, target: CheckpointStore, names: Mapping[str, str], stage: Stage) -> list[str]:
    if stage.whole:
        return [new for new in names.values() if new in stage.skipped]
    taken: list[str] = []
    for old, new in names.items():
        try:
            found = target.thread(new)
        except UnknownThread:
            continue
        held = found.driver == LOADING and found.created_at == file.thread(old).created_at
        if not stage.begun or not (held or _is_ours(file, target, new, old)):
            taken.append(new)
    return taken


def _is_ours(file: ThreadFile, target: CheckpointStore, new: str, old: str) -> bool:
    """Whether a thread of the store, which is not held, is that of the file, brought in and let go."""
    try:
        found, row = target.thread(new), file.thread(old)
    except UnknownThread:
        return False
    return found.driver != LOADING and _has_all(target, found, file, row, row.seq)


def _has_all(target: CheckpointStore, found: ThreadRecord, file: ThreadFile, row: ThreadRecord, seq: int) -> bool:
    """Whether the store's thread is that of the file, gone on since if anything, as far as its commit `seq` tells. One
    that cannot be told is another."""
    if found.created_at != row.created_at or found.seq < seq:
        return False
    if seq < max(first_of(row), first_of(found)):
        return True  # no commit of its own: there is nothing in which it could differ
    mine = target.segments(found.thread_id, first=seq, last=seq, limit=1)
    theirs = file.segments(row.thread_id, first=seq, last=seq, limit=1)
    return bool(mine and theirs) and (mine[0].last, mine[0].commit_id) == (theirs[0].last, theirs[0].commit_id)


def _check_origins(file: ThreadFile, target: CheckpointStore, names: Mapping[str, str], taken: list[str]) -> None:
    """Raise `StoreMisuse` for a fork of a thread that is skipped, where the store's is not the one it was forked from,
    or has not what it needs of that any more."""
    for old, new in names.items():
        row = file.thread(old)
        origin = row.origin
        if origin is None or new in taken or names[origin.thread_id] not in taken:
            continue
        if _is_held(target, new):
            continue  # as it is there, so is what it was forked from
        above = target.thread(names[origin.thread_id])
        original = file.thread(origin.thread_id)
        # A re-run replays what followed.
        last = origin.seq if row.replays is None or row.status.ended else original.seq
        same = _has_all(target, above, file, original, last)
        if not same or above.driver == LOADING or origin.seq < above.floor:
            raise StoreMisuse(
                f"thread {old!r} of {file} was forked from {origin.thread_id!r}, and the {above.thread_id!r} that is "
                "here is not that thread, or has no such history any more: rename both, or export the fork alone"
            )


def _is_held(target: CheckpointStore, thread_id: str) -> bool:
    try:
        return target.thread(thread_id).driver == LOADING
    except UnknownThread:
        return False


def _exists(file: ThreadFile, target: CheckpointStore, taken: list[str]) -> ThreadExists:
    error = ThreadExists(taken[0])
    more = f" (and {len(taken) - 1} more)" if len(taken) > 1 else ""
    held = (
        ". Another import or copy has begun with it, and has not ended: start that one again, or give it up by "
        "deleting the thread"
        if _is_held(target, taken[0])
        else ""
    )
    error.args = (
        f"thread {taken[0]!r} of {file} exists in the store already{more}; nothing of it was overwritten{held}. Give "
        "it another id with rename=, or leave such threads as they are with on_conflict='skip'",
    )
    return error
