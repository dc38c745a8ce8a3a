"""The store for one process: dictionaries under a lock. What it keeps dies with the process."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from threading import RLock
from typing import Any

from .arguments import canonical_json, check_id, check_listing, json_equal
from .errors import UnknownThread
from .operations import EMPTY, Commit, Fork, Reached, StoreStats, ThreadFilter, ThreadImage, ThreadPage
from .records import PARKED, GraphRecord, Message, OwnerRecord, RunRecord, Segment, ThreadRecord
from .sealing import Encoded, StoredSegment
from .transactional import Transaction, TransactionalStore
from .transitions import Found, committed, run_after
from .vault import PlainVault, Vault


@dataclass(slots=True)
class _Kept:
    """All that the store has of one thread."""

    number: int
    """Its place in the order of creation, by which listings go."""
    row: ThreadRecord
    metadata: str
    """As text, so that no caller holds what the store holds."""
    runs: dict[int, RunRecord] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    by_id: dict[str, int] = field(default_factory=dict)
    """Message id to its place in `messages`."""
    segments: list[StoredSegment] = field(default_factory=list)
    """In order of `first`."""

    def record(self) -> ThreadRecord:
        return replace(self.row, metadata=json.loads(self.metadata), names=dict(self.row.names))

    def all_runs(self) -> tuple[RunRecord, ...]:
        return tuple(replace(self.runs[run], metadata=dict(self.runs[run].metadata)) for run in sorted(self.runs))


class MemoryStore(TransactionalStore):
    """`memory://`: each one opened is a store of its own, shared by the threads of this process."""

    def __init__(self, *, vault: Vault | None = None) -> None:
        self.url = "memory://"
        self.vault = vault or PlainVault()
        self.where = "the memory store"
        self._lock = RLock()
        self._created = 0
        self._threads: dict[str, _Kept] = {}
        self._owners: dict[str, OwnerRecord] = {}
        self._graphs: dict[str, GraphRecord] = {}
        self._settings: dict[str, str] = {}

    def _read_thread(self, thread_id: str) -> ThreadRecord:
        check_id("thread id", thread_id)
        with self._lock:
            return self._kept(thread_id).record()

    def _list_threads(self, where: ThreadFilter, limit: int, cursor: str | None) -> ThreadPage:
        below = check_listing(where, limit, cursor)
        with self._lock:
            older = (kept for kept in reversed(self._threads.values()) if below is None or kept.number < below)
            found = list(islice((kept for kept in older if _matches(kept, where)), limit + 1))
            records = tuple(kept.record() for kept in found[:limit])
        return ThreadPage(threads=records, cursor=str(found[limit - 1].number) if len(found) > limit else None)

    def _due(self, before: float, limit: int) -> Sequence[ThreadRecord]:
        with self._lock:
            due = [
                kept for kept in self._threads.values() if 0 < kept.row.wake_at <= before and kept.row.status in PARKED
            ]
            due.sort(key=lambda kept: (kept.row.wake_at, kept.number))
            return [kept.record() for kept in due[:limit]]

    def _runs(self, thread_id: str) -> Sequence[RunRecord]:
        with self._lock:
            return self._kept(thread_id).all_runs()

    def _messages(self, thread_id: str, unread: bool) -> Sequence[Message]:
        with self._lock:
            kept = self._threads.get(thread_id)
            return tuple(message for message in kept.messages if not (unread and message.applied)) if kept else ()

    def _renew(self, lease: OwnerRecord) -> None:
        with self._lock:
            before = self._owners.get(lease.owner)
            same = before and (before.host, before.pid, before.started) == (lease.host, lease.pid, lease.started)
            if not (before and same and lease.counter < before.counter):
                self._owners[lease.owner] = lease

    def owners(self) -> tuple[OwnerRecord, ...]:
        with self._lock:
            return tuple(self._owners[owner] for owner in sorted(self._owners))

    def forget(self, owner: str) -> None:
        with self._lock:
            self._owners.pop(owner, None)

    def _put_graph(self, graph: GraphRecord) -> None:
        with self._lock:
            self._graphs.setdefault(graph.graph_key, graph)

    def _graph(self, graph_key: str) -> GraphRecord | None:
        with self._lock:
            return self._graphs.get(graph_key)

    def graph_keys(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(sorted(self._graphs))

    def forks(self, thread_id: str) -> tuple[Fork, ...]:
        check_id("thread id", thread_id)
        with self._lock:
            return self._forks(thread_id)

    def _forks(self, thread_id: str) -> tuple[Fork, ...]:
        found = [
            Fork(thread_id=kept.row.thread_id, seq=kept.row.origin.seq)
            for kept in self._threads.values()
            if kept.row.origin is not None and kept.row.origin.thread_id == thread_id
        ]
        return tuple(sorted(found, key=lambda fork: fork.seq))

    def _image(self, thread_id: str) -> ThreadImage:
        with self._lock:
            kept = self._kept(thread_id)
            return ThreadImage(thread=kept.record(), runs=kept.all_runs(), messages=tuple(kept.messages))

    def setting(self, name: str) -> Any:
        with self._lock:
            return json.loads(self._settings[name]) if name in self._settings else None

    def _put_setting(self, name: str, value: Any) -> None:
        with self._lock:
            if value is None:
                self._settings.pop(name, None)
            else:
                self._settings[name] = canonical_json(value)

    def stats(self) -> StoreStats:
        with self._lock:
            kept = list(self._threads.values())
            segments = [segment.data for each in kept for segment in each.segments]
            messages = [message.payload for each in kept for message in each.messages]
            return StoreStats(
                threads=Counter(each.row.status for each in kept),
                segments=len(segments),
                segment_bytes=sum(map(len, segments)),
                messages=len(messages),
                message_bytes=sum(map(len, messages)),
                graphs=len(self._graphs),
                owners=len(self._owners),
                disk_bytes=None,
            )

    def close(self) -> None:
        """Nothing to release: the threads are kept as long as the store object is."""

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        with self._lock:
            tx = _MemoryTransaction(self)
            yield tx
            tx.flush()

    def _segments(self, thread_id: str, first: int, last: int | None, limit: int | None) -> list[StoredSegment]:
        with self._lock:
            kept = self._threads.get(thread_id)
            segments = kept.segments if kept else []
            end = len(segments) if last is None else bisect_left(segments, last + 1, key=lambda segment: segment.first)
            start = bisect_left(segments, first, key=lambda segment: segment.last)
            return segments[start:end][::-1][:limit]

    def _kept(self, thread_id: str) -> _Kept:
        if thread_id not in self._threads:
            raise UnknownThread(thread_id, self.where)
        return self._threads[thread_id]


class _MemoryTransaction(Transaction):
    """Changes are gathered and made at the end of the block, so that an exception in it leaves nothing behind.

    Only `look` and `write` may come twice for one thread (two commits of it in a group): they see what is gathered, as
    `thread` sees new ones.
    """

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._rows: dict[str, ThreadRecord] = {}
        self._new: dict[str, _Kept] = {}
        self._messages: list[tuple[str, Message]] = []
        self._runs: list[RunRecord] = []
        self._commits: list[tuple[Encoded, ThreadRecord]] = []
        self._removed: list[str] = []
        self._segments: dict[str, list[StoredSegment]] = {}

    def thread(self, thread_id: str) -> ThreadRecord | None:
        kept = self._new.get(thread_id) or self._store._threads.get(thread_id)
        return kept.record() if kept else None

    def insert_thread(self, thread: ThreadRecord) -> None:
        self._store._created += 1
        self._new[thread.thread_id] = _Kept(self._store._created, thread, canonical_json(thread.metadata))

    def update_thread(self, thread: ThreadRecord) -> None:
        self._rows[thread.thread_id] = thread

    def set_tags(self, thread: ThreadRecord) -> None:
        self._rows[thread.thread_id] = thread

    def move_thread(self, thread: ThreadRecord) -> None:
        self._rows[thread.thread_id] = thread

    def message(self, thread_id: str, message_id: str) -> Message | None:
        kept = self._threads[thread_id]
        return kept.messages[kept.by_id[message_id]] if message_id in kept.by_id else None

    def insert_message(self, thread_id: str, message: Message) -> None:
        self._messages.append((thread_id, message))

    def insert_run(self, run: RunRecord) -> None:
        self._runs.append(run)

    def replace_thread(self, thread: ThreadRecord) -> None:
        before = self._threads[thread.thread_id]
        self._new[thread.thread_id] = _Kept(
            before.number, thread, canonical_json(thread.metadata), segments=list(before.segments)
        )

    def forks(self, thread_id: str) -> tuple[Fork, ...]:
        return self._store._forks(thread_id)

    def remove(self, thread_id: str) -> None:
        self._removed.append(thread_id)

    def look(self, commits: Sequence[Commit]) -> Mapping[str, Found]:
        gathered = {encoded.commit.thread_id: row for encoded, row in self._commits}
        ids = {
            (encoded.commit.thread_id, encoded.commit.first): encoded.commit.commit_id for encoded, _ in self._commits
        }
        found: dict[str, Found] = {}
        for commit in commits:
            kept = self._threads.get(commit.thread_id)
            if kept is None:
                continue
            row = gathered.get(commit.thread_id, kept.row)
            at = bisect_left(kept.segments, commit.first, key=lambda segment: segment.first)
            same = at < len(kept.segments) and kept.segments[at].first == commit.first
            commit_id = kept.segments[at].commit_id if same else ""
            commit_id = ids.get((commit.thread_id, commit.first), commit_id)
            found[commit.thread_id] = Found(row.epoch, row.token, row.seq, row.inbox, commit_id)
        return found

    def write(self, group: Sequence[Encoded]) -> None:
        gathered = {encoded.commit.thread_id: row for encoded, row in self._commits}
        for encoded in group:
            thread_id = encoded.commit.thread_id
            row = gathered.get(thread_id) or self._threads[thread_id].row
            self._commits.append((encoded, committed(row, encoded.commit)))

    def replace_segments(self, thread_id: str, old: Sequence[Segment], new: Sequence[StoredSegment]) -> bool:
        segments = self._threads[thread_id].segments
        start = bisect_left(segments, old[0].first, key=lambda segment: segment.first)
        end = bisect_left(segments, old[-1].first + 1, key=lambda segment: segment.first)
        if _places(segments[start:end]) != _places(old):
            return False
        self._segments[thread_id] = [*segments[:start], *new, *segments[end:]]
        return True

    def newest(self, thread_id: str, last: int) -> Reached:
        segments = self._threads[thread_id].segments
        newest = bisect_left(segments, last + 1, key=lambda segment: segment.first) - 1
        return Reached(segments[newest].last, segments[newest].commit_id) if newest >= 0 else EMPTY

    def add_segments(self, thread_id: str, segments: Sequence[StoredSegment]) -> None:
        kept = self._new.get(thread_id) or self._threads[thread_id]
        by_first = {segment.first: segment for segment in (*segments, *kept.segments)}
        self._segments[thread_id] = [by_first[first] for first in sorted(by_first)]

    @property
    def _threads(self) -> dict[str, _Kept]:
        return self._store._threads

    def flush(self) -> None:
        self._threads.update(self._new)
        for thread_id, row in self._rows.items():
            self._threads[thread_id].row = row
        for thread_id, message in self._messages:
            kept = self._threads[thread_id]
            kept.by_id[message.message_id] = len(kept.messages)
            kept.messages.append(message)
        for run in self._runs:
            self._threads[run.thread_id].runs.setdefault(run.run, run)
        for thread_id, segments in self._segments.items():
            self._threads[thread_id].segments = segments
        for encoded, row in self._commits:
            _apply(self._threads[row.thread_id], encoded, row)
        for thread_id in self._removed:
            del self._threads[thread_id]


def _apply(kept: _Kept, encoded: Encoded, row: ThreadRecord) -> None:
    commit = encoded.commit
    kept.row = row
    kept.segments.append(StoredSegment(commit.first, commit.last, commit.epoch, commit.commit_id, encoded.data))
    for update in commit.runs:
        kept.runs[update.run] = run_after(kept.runs.get(update.run), commit.thread_id, update, commit.at)
    for number, seq in commit.applied:
        # Found by number, not by place: a fork's inbox need not start at one.
        place = bisect_left(kept.messages, number, key=lambda message: message.number)
        if place < len(kept.messages) and kept.messages[place].number == number and not kept.messages[place].applied:
            kept.messages[place] = replace(kept.messages[place], applied=seq)


def _places(segments: Sequence[Segment | StoredSegment]) -> list[tuple[int, int, str]]:
    return [(segment.first, segment.last, segment.commit_id) for segment in segments]


def _matches(kept: _Kept, where: ThreadFilter) -> bool:
    row = kept.row
    if where.statuses is not None and row.status not in where.statuses:
        return False
    named = ((where.graph, row.graph), (where.driver, row.driver), (where.owner, row.owner))
    if any(wanted is not None and wanted != has for wanted, has in named):
        return False
    if where.untidied is not None and row.seq - row.tidied < where.untidied:
        return False
    if where.updated_before is not None and row.updated_at >= where.updated_before:
        return False
    if where.tag is not None and where.tag not in row.tags:
        return False
    if not where.metadata:
        return True
    metadata = json.loads(kept.metadata)
    return all(key in metadata and json_equal(metadata[key], value) for key, value in where.metadata.items())
