"""Imports the threads of a file into a store: all that can be refused is refused before anything is written.

Threads are brought in as a copy of a store is (`copying`): held until all of them are there, so that nobody runs or
overwrites half of one. A note in the store's settings tells that the import has begun; by it one that broke off is
known when it is run again, and goes on, also where threads that had been let go have run on since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from .arguments import canonical_json, check_id
from .base import CheckpointStore
from .copying import Copied, copy_store
from .errors import StoreMisuse, ThreadExists, UnknownThread
from .records import IN_PROCESS, LOADING, RERUN, SERVICE, GraphRecord, Origin, Segment, ThreadImage, ThreadRecord
from .thread_file_reading import ThreadFile
from .transitions import first_of

OnConflict: TypeAlias = Literal["refuse", "skip"]
Rename: TypeAlias = Mapping[str, str] | Callable[[str], str]
"""New ids by old ones (those that are not in it stay), or a function that gives them."""


@dataclass(slots=True, kw_only=True)
class Imported(Copied):
    """What an import has come to."""

    thread_ids: list[str] = field(default_factory=list)
    """The ids that the file's threads have in the store, in the order of the file; without those that were skipped."""
    skipped: list[str] = field(default_factory=list)
    """Threads of the file, by their ids in the store, that were not imported since the store has such."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Renamed:
    """A file as a source of a copy: only some of its threads, under the ids that they are to have."""

    file: ThreadFile
    names: Mapping[str, str]
    """Ids in the store by those in the file: of all in the file."""
    wanted: Mapping[str, str]
    """Ids in the file by those in the store: of those that are brought in."""
    graphs: Mapping[str, GraphRecord]
    """By the name of the graph: what runs its threads from now on."""
    fixed = True

    def rows(self) -> Iterator[ThreadRecord]:
        return map(self.thread, self.wanted)

    def thread(self, thread_id: str) -> ThreadRecord:
        return self._row(self.file.thread(self._old(thread_id)))

    def image(self, thread_id: str) -> ThreadImage:
        image = self.file.image(self._old(thread_id))
        runs = tuple(replace(run, thread_id=thread_id) for run in image.runs)
        return replace(image, thread=self._row(image.thread), runs=runs)

    def segments(
        self, thread_id: str, *, first: int = 1, last: int | None = None, limit: int | None = None
    ) -> list[Segment]:
        found = self.file.segments(self._old(thread_id), first=first, last=last, limit=limit)
        return [replace(segment, thread_id=thread_id) for segment in found]

    def graph_keys(self) -> tuple[str, ...]:
        return self.file.graph_keys()

    def graph(self, graph_key: str) -> GraphRecord:
        return self.file.graph(graph_key)

    def setting(self, name: str) -> Any:
        return self.file.setting(name)

    def _old(self, thread_id: str) -> str:
        if thread_id not in self.wanted:
            raise UnknownThread(thread_id, str(self.file))
        return self.wanted[thread_id]

    def _row(self, row: ThreadRecord) -> ThreadRecord:
        origin = row.origin
        if origin is not None:
            origin = Origin(thread_id=self.names[origin.thread_id], seq=origin.seq)
        metadata, mark = row.metadata, row.metadata.get(RERUN)
        if isinstance(mark, Mapping) and mark.get("thread") in self.names:
            metadata = {**metadata, RERUN: {**mark, "thread": self.names[mark["thread"]]}}
        graph = self.graphs.get(row.graph) if row.driver == SERVICE else None
        return replace(
            row,
            thread_id=self.names[row.thread_id],
            origin=origin,
            metadata=metadata,
            version=graph.version if graph is not None else row.version,
            graph_key=graph.graph_key if graph is not None else row.graph_key,
        )


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

    An import that broke off goes on when it is called again alike. `graphs`, called once nothing
    stands against it, puts graphs into the store and gives, by their names, what runs their threads from now on.

    Raises, before anything is written: `Corrupt`, `NewerFormat`, `MissingKey` for a file that does not decode;
    `ThreadExists` for an id that is taken, if those are not to be skipped; `StoreMisuse` for new names that do not fit,
    or a fork of a thread that is skipped and not the same here. While it writes: `StoreUnavailable`, and `ThreadExists`
    for a thread that somebody else has made meanwhile.
    """
    if on_conflict not in ("refuse", "skip"):
        raise StoreMisuse(f'on_conflict is {on_conflict!r}; give "refuse" or "skip"')
    file.check()
    names = _names(file, rename)
    note = _note(file, names)
    present, taken = _look(file, target, names, begun=target.setting(note) is not None)
    if taken and on_conflict == "refuse":
        raise _exists(file, taken)
    _check_origins(file, target, names, taken)
    wanted = {new: old for old, new in names.items() if new not in present and new not in taken}
    done = Imported(thread_ids=[new for new in names.values() if new not in taken], skipped=taken)
    _tell(done, Copied(), len(present))
    target.put_setting(note, {"file": file.path.name, "at": now})
    source = _Renamed(file=file, names=names, wanted=wanted, graphs=graphs())
    for step in copy_store(source, target):
        _tell(done, step, len(present))
        yield done
    if done.different:
        raise _exists(file, done.different)
    target.put_setting(note, None)
    yield done


def _tell(done: Imported, step: Copied, present: int) -> None:
    done.threads, done.total = step.threads + present, step.total + present
    done.present, done.segments, done.size = step.present + present, step.segments, step.size
    done.different, done.gone = step.different, step.gone


def _names(file: ThreadFile, rename: Rename | None) -> dict[str, str]:
    """The ids that the threads are to have. Raises `StoreMisuse`."""
    ids = file.thread_ids
    if isinstance(rename, Mapping):
        if unknown := sorted(rename.keys() - set(ids)):
            raise StoreMisuse(f"{file} holds no thread {unknown[0]!r} that could be renamed to {rename[unknown[0]]!r}")
        names = {one: rename.get(one, one) for one in ids}
    else:
        names = {one: rename(one) if rename is not None else one for one in ids}
    before: dict[str, str] = {}
    for old, new in names.items():
        check_id("thread id", new)
        if new in before:
            raise StoreMisuse(
                f"threads {before[new]!r} and {old!r} of {file} would both be {new!r}; rename one of them"
            )
        before[new] = old
        if new != old and file.thread(old).driver not in (SERVICE, IN_PROCESS):
            raise StoreMisuse(
                f"thread {old!r} of {file} is LangGraph's, which finds it by its id: it cannot become {new!r}"
            )
    return names


def _note(file: ThreadFile, names: Mapping[str, str]) -> str:
    """The setting by which this import is known again."""
    return f"import:{hashlib.blake2b(f'{file.digest}{canonical_json(names)}'.encode(), digest_size=16).hexdigest()}"


def _look(
    file: ThreadFile, target: CheckpointStore, names: Mapping[str, str], *, begun: bool
) -> tuple[set[str], list[str]]:
    """Which threads an earlier attempt of this import has brought in whole, and which ids are taken."""
    present: set[str] = set()
    taken: list[str] = []
    for old, new in names.items():
        try:
            found = target.thread(new)
        except UnknownThread:
            continue
        row = file.thread(old)
        if begun and found.driver == LOADING and found.created_at == row.created_at:
            continue  # that attempt has begun with it
        if begun and found.driver != LOADING and _has_all(target, found, file, row, row.seq):
            present.add(new)
        else:
            taken.append(new)
    return present, taken


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


def _exists(file: ThreadFile, taken: list[str]) -> ThreadExists:
    error = ThreadExists(taken[0])
    more = f" (and {len(taken) - 1} more)" if len(taken) > 1 else ""
    error.args = (
        f"thread {taken[0]!r} of {file} exists in the store already{more}; nothing of it was overwritten. Give it "
        "another id with rename=, or leave such threads as they are with on_conflict='skip'",
    )
    return error
