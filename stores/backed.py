"""A store of bytes behind the interface: arguments are checked, payloads encoded and sealed, here and once for all.

A backend supplies the calls that begin with an underscore. It is handed checked arguments and sealed bytes, moves them
in one transaction, and hands back what it kept.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from .arguments import (
    canonical_json,
    check_amendment,
    check_claim,
    check_commit,
    check_due,
    check_id,
    check_json,
    check_lease,
    check_message,
    check_thread,
)
from .base import CheckpointStore, CommitResult
from .errors import Corrupt, MissingKey, NewerFormat, StoreMisuse
from .records import (
    Amendment,
    Commit,
    Delivery,
    Expect,
    GraphRecord,
    Message,
    OwnerRecord,
    RunRecord,
    RunUpdate,
    Segment,
    ThreadImage,
    ThreadRecord,
)
from .segments import Row, decode_segment, encode_segment
from .vault import PlainVault, Vault, sealing_key


class Encoded(NamedTuple):
    """A commit whose payloads are sealed, and its rows as they will be kept (empty where it has none)."""

    commit: Commit
    data: bytes


class StoredSegment(NamedTuple):
    """A segment as it is kept."""

    first: int
    last: int
    epoch: int
    commit_id: str
    data: bytes


class BackedStore(CheckpointStore):
    """Checks, encodes and seals; the backend stores."""

    where: str
    """What messages call this store, without a password."""
    vault: Vault = PlainVault()

    # -- what a backend supplies -----------------------------------------------------------------------------------

    @abstractmethod
    def _create(self, thread: ThreadRecord, message: Message | None) -> Delivery:
        """`create`."""

    @abstractmethod
    def _claim(self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool, at: float) -> ThreadRecord:
        """`claim`."""

    @abstractmethod
    def _commit(self, group: Sequence[Encoded]) -> list[CommitResult]:
        """`commit`, of at least one."""

    @abstractmethod
    def _deliver(self, thread_id: str, message: Message, expect: Expect, graph: GraphRecord | None) -> Delivery:
        """`deliver`."""

    @abstractmethod
    def _delete(self, thread_id: str) -> None:
        """`delete`."""

    @abstractmethod
    def _due(self, before: float, limit: int) -> Sequence[ThreadRecord]:
        """`due`."""

    @abstractmethod
    def _runs(self, thread_id: str) -> Sequence[RunRecord]:
        """`runs`, errors sealed."""

    @abstractmethod
    def _messages(self, thread_id: str, unread: bool) -> Sequence[Message]:
        """`messages`, payloads sealed."""

    @abstractmethod
    def _segments(self, thread_id: str, first: int, last: int | None, limit: int | None) -> list[StoredSegment]:
        """`segments`, as they are kept."""

    @abstractmethod
    def _renew(self, lease: OwnerRecord) -> None:
        """`renew`."""

    @abstractmethod
    def _put_graph(self, graph: GraphRecord) -> None:
        """`put_graph`, its body sealed."""

    @abstractmethod
    def _graph(self, graph_key: str) -> GraphRecord | None:
        """`graph`, its body sealed; None if there is none."""

    @abstractmethod
    def _amend(self, thread_id: str, change: Amendment) -> ThreadRecord:
        """`amend`."""

    @abstractmethod
    def _rewrite(self, thread_id: str, old: Sequence[Segment], new: Sequence[StoredSegment]) -> bool:
        """`rewrite`, of at least one old segment."""

    @abstractmethod
    def _image(self, thread_id: str) -> ThreadImage:
        """`image`, payloads sealed."""

    @abstractmethod
    def _load(self, image: ThreadImage, segments: Sequence[StoredSegment], complete: bool) -> None:
        """`load`, payloads sealed."""

    @abstractmethod
    def _put_setting(self, name: str, value: Any) -> None:
        """`put_setting`."""

    # -- running threads -------------------------------------------------------------------------------------------

    def create(self, thread: ThreadRecord, message: Message | None = None) -> Delivery:
        check_thread(thread)
        if message is not None:
            check_message(message)
            message = self._sealed_message(thread.thread_id, message)
        return self._create(owned_metadata(thread), message)

    def claim(
        self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool = False, at: float = 0.0
    ) -> ThreadRecord:
        check_claim(thread_id, token, owner)
        return self._claim(thread_id, epoch=epoch, token=token, owner=owner, crashed=crashed, at=at)

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        for commit in commits:
            check_commit(commit)
        if not commits:
            return []
        # Encoded before any lock is taken: nobody waits for another's compression.
        return self._commit([self._encoded(commit) for commit in commits])

    def deliver(
        self, thread_id: str, message: Message, expect: Expect, *, graph: GraphRecord | None = None
    ) -> Delivery:
        check_id("thread id", thread_id)
        check_message(message)
        return self._deliver(thread_id, self._sealed_message(thread_id, message), expect, graph)

    def delete(self, thread_id: str) -> None:
        check_id("thread id", thread_id)
        self._delete(thread_id)

    def due(self, before: float, *, limit: int = 100) -> tuple[ThreadRecord, ...]:
        check_due(before, limit)
        return tuple(self._due(before, limit))

    def renew(self, lease: OwnerRecord) -> None:
        check_lease(lease)
        self._renew(lease)

    # -- reading ---------------------------------------------------------------------------------------------------

    def runs(self, thread_id: str) -> tuple[RunRecord, ...]:
        check_id("thread id", thread_id)
        return tuple(self._opened_run(run) for run in self._runs(thread_id))

    def messages(self, thread_id: str, *, unread: bool = True) -> tuple[Message, ...]:
        check_id("thread id", thread_id)
        return tuple(self._opened_message(thread_id, message) for message in self._messages(thread_id, unread))

    def segments(
        self, thread_id: str, *, first: int = 1, last: int | None = None, limit: int | None = None
    ) -> list[Segment]:
        check_id("thread id", thread_id)
        if limit is not None and limit < 1:
            raise StoreMisuse(f"thread {thread_id!r}: a limit of segments must be at least 1, not {limit}")
        return [self._decoded(thread_id, stored) for stored in self._segments(thread_id, first, last, limit)]

    # -- graphs ----------------------------------------------------------------------------------------------------

    def put_graph(self, graph: GraphRecord) -> None:
        check_id("graph key", graph.graph_key)
        self._put_graph(replace(graph, body=self.vault.seal(_graph_place(graph), graph.body)))

    def graph(self, graph_key: str) -> GraphRecord:
        graph = self._graph(graph_key)
        if graph is None:
            raise StoreMisuse(f"no graph {graph_key!r} in {self.where}; submit the graph again to register it")
        return replace(graph, body=self._open(_graph_place(graph), graph.body))

    # -- upkeep ----------------------------------------------------------------------------------------------------

    def amend(self, thread_id: str, change: Amendment) -> ThreadRecord:
        check_id("thread id", thread_id)
        check_amendment(thread_id, change)
        return self._amend(thread_id, change)

    def rewrite(self, thread_id: str, old: Sequence[Segment], new: Sequence[Segment]) -> bool:
        check_id("thread id", thread_id)
        if not old:
            return True
        first, last = old[0].first, old[-1].last
        if any(segment.thread_id != thread_id or not first <= segment.first <= segment.last <= last for segment in new):
            raise StoreMisuse(f"thread {thread_id!r}: commits {first}..{last} are rewritten only by segments of theirs")
        return self._rewrite(thread_id, old, [self._stored(segment) for segment in new])

    def image(self, thread_id: str) -> ThreadImage:
        check_id("thread id", thread_id)
        image = self._image(thread_id)
        return replace(
            image,
            runs=tuple(map(self._opened_run, image.runs)),
            messages=tuple(self._opened_message(thread_id, message) for message in image.messages),
        )

    def load(self, image: ThreadImage, segments: Sequence[Segment] = (), *, complete: bool = False) -> None:
        check_thread(image.thread)
        for message in image.messages:
            check_message(message)
        thread_id = image.thread.thread_id
        sealed = ThreadImage(
            thread=owned_metadata(image.thread),
            runs=tuple(replace(run, error=self._sealed_error(thread_id, run)) for run in image.runs),
            messages=tuple(self._sealed_message(thread_id, message) for message in image.messages),
        )
        self._load(sealed, [self._stored(segment) for segment in segments], complete)

    def put_setting(self, name: str, value: Any) -> None:
        check_id("setting", name)
        check_json(f"setting {name!r}", value)
        self._put_setting(name, value)

    def key_ids(self, thread_id: str) -> frozenset[str]:
        """Ids of the keys that a thread's payloads are encrypted with, "" among them if some are not encrypted: what is
        left to be written anew before a key can be given up. Reads all of the thread, decrypts nothing."""
        check_id("thread id", thread_id)
        kept = [stored.data for stored in self._segments(thread_id, 1, None, None)]
        kept += [message.payload for message in self._messages(thread_id, False)]
        kept += [run.error for run in self._runs(thread_id) if run.error]
        return frozenset(sealing_key(data) or "" for data in kept)

    # -- encoding --------------------------------------------------------------------------------------------------

    def _encoded(self, commit: Commit) -> Encoded:
        data = self._sealed_segment(commit.thread_id, commit.first, commit.last, commit.commit_id, commit.rows)
        if any(update.error for update in commit.runs):
            runs = tuple(replace(update, error=self._sealed_error(commit.thread_id, update)) for update in commit.runs)
            commit = replace(commit, runs=runs)
        return Encoded(commit, data)

    def _stored(self, segment: Segment) -> StoredSegment:
        data = self._sealed_segment(segment.thread_id, segment.first, segment.last, segment.commit_id, segment.rows)
        return StoredSegment(segment.first, segment.last, segment.epoch, segment.commit_id, data)

    def _sealed_segment(self, thread_id: str, first: int, last: int, commit_id: str, rows: Sequence[Row]) -> bytes:
        # Sealed also where there are no rows: an encrypted store notices a segment that somebody has emptied.
        data = encode_segment(thread_id, rows) if rows else b""
        return self.vault.seal(_segment_place(thread_id, first, last, commit_id), data)

    def _decoded(self, thread_id: str, stored: StoredSegment) -> Segment:
        first, last, _, commit_id, kept = stored
        try:
            data = self.vault.open(_segment_place(thread_id, first, last, commit_id), kept)
            written_for, rows = decode_segment(data) if data else (thread_id, ())
            if written_for != thread_id:
                raise Corrupt(f"the segment kept there belongs to thread {written_for!r}; restore a backup")
        except (Corrupt, NewerFormat, MissingKey) as error:
            place = f"thread {thread_id!r}, commits {first}..{last} (commit id {commit_id}) in {self.where}"
            raise type(error)(f"{place}: {error}") from error
        return Segment(
            thread_id=thread_id,
            first=stored.first,
            last=stored.last,
            epoch=stored.epoch,
            commit_id=stored.commit_id,
            rows=tuple(rows),
        )

    def _sealed_message(self, thread_id: str, message: Message) -> Message:
        return replace(message, payload=self.vault.seal(_message_place(thread_id, message), message.payload))

    def _opened_message(self, thread_id: str, message: Message) -> Message:
        return replace(message, payload=self._open(_message_place(thread_id, message), message.payload))

    def _sealed_error(self, thread_id: str, run: RunRecord | RunUpdate) -> bytes:
        # None at all is no payload: there is nothing to seal.
        return self.vault.seal(_run_place(thread_id, run.run), run.error) if run.error else b""

    def _opened_run(self, run: RunRecord) -> RunRecord:
        return replace(run, error=self._open(_run_place(run.thread_id, run.run), run.error)) if run.error else run

    def _open(self, place: tuple[str, ...], kept: bytes) -> bytes:
        try:
            return bytes(self.vault.open(place, kept))
        except (Corrupt, NewerFormat, MissingKey) as error:
            raise type(error)(f"{self.where}: {error}") from error


def owned_metadata(thread: ThreadRecord) -> ThreadRecord:
    """The row with metadata of its own: what a store keeps and answers is not the caller's dict, which may change."""
    return replace(thread, metadata=json.loads(canonical_json(thread.metadata)), names=dict(thread.names))


def _segment_place(thread_id: str, first: int, last: int, commit_id: str) -> tuple[str, ...]:
    return ("segment", thread_id, str(first), str(last), commit_id)


def _message_place(thread_id: str, message: Message) -> tuple[str, ...]:
    return ("message", thread_id, message.message_id)


def _run_place(thread_id: str, run: int) -> tuple[str, ...]:
    return ("run", thread_id, str(run))


def _graph_place(graph: GraphRecord) -> tuple[str, ...]:
    return ("graph", graph.graph_key)
