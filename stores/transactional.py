"""A store whose backend has transactions: the policy is here, a backend supplies the hooks of `Transaction`."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import NamedTuple

from .arguments import canonical_json, check_claim, check_commit, check_id, check_message, check_thread
from .base import CheckpointStore, CommitResult
from .errors import (
    Corrupt,
    NewerFormat,
    StoreMisuse,
    ThreadExists,
    ThreadReferenced,
    UnknownThread,
)
from .records import Commit, Committed, Delivery, Expect, GraphRecord, Message, RunRecord, Segment, ThreadRecord
from .segments import Row, decode_segment, encode_segment
from .transitions import Found, check_deletable, claimed, delivered, verdict, waves


class Encoded(NamedTuple):
    """A commit and its rows as they will be kept (empty where it has none)."""

    commit: Commit
    data: bytes


class StoredSegment(NamedTuple):
    """A segment as it is kept."""

    first: int
    last: int
    epoch: int
    commit_id: str
    data: bytes


class Transaction(ABC):
    """What a backend does inside one transaction that holds the threads' locks. All of it happens or none."""

    @abstractmethod
    def thread(self, thread_id: str) -> ThreadRecord | None:
        """The thread's row, locked until the transaction ends."""

    @abstractmethod
    def insert_thread(self, thread: ThreadRecord) -> None:
        """Write the row of a thread that is not there yet."""

    @abstractmethod
    def update_thread(self, thread: ThreadRecord) -> None:
        """Replace what of a locked row can change: not graph, version, metadata, tags, origin or creation time."""

    @abstractmethod
    def message(self, thread_id: str, message_id: str) -> Message | None:
        """A message by its id."""

    @abstractmethod
    def insert_message(self, thread_id: str, message: Message) -> None:
        """Keep a numbered message."""

    @abstractmethod
    def insert_run(self, run: RunRecord) -> None:
        """Keep a new run's row."""

    @abstractmethod
    def forks(self, thread_id: str) -> tuple[str, ...]:
        """Ids of some threads (at most ten) whose origin is this one."""

    @abstractmethod
    def remove(self, thread_id: str) -> None:
        """Remove a thread's row, runs, messages and segments."""

    @abstractmethod
    def look(self, commits: Sequence[Commit]) -> Mapping[str, Found]:
        """What is to be compared with the commits (of different threads), by thread id; the rows stay locked."""

    @abstractmethod
    def write(self, group: Sequence[Encoded]) -> None:
        """Write accepted commits of different threads as `transitions.committed` and `run_after` say, conditional on
        the same epoch, token and seq once more."""


class TransactionalStore(CheckpointStore):
    """Creation, delivery, claims, commits and deletion over a backend's transactions."""

    where: str
    """What messages call this store, without a password."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[Transaction]:
        """A write transaction: committed at the end of the block, rolled back by an exception."""

    @abstractmethod
    def _stored_segments(self, thread_id: str, first: int, last: int | None, limit: int | None) -> list[StoredSegment]:
        """Segments that overlap `first..last`, newest first."""

    def create(self, thread: ThreadRecord, message: Message | None = None) -> Delivery:
        check_thread(thread)
        if message is not None:
            check_message(message)
        # What the store keeps and answers is not the caller's own dict, which may change under it.
        thread = replace(thread, metadata=json.loads(canonical_json(thread.metadata)))
        with self._transaction() as tx:
            present = tx.thread(thread.thread_id)
            if present is not None:
                kept = tx.message(thread.thread_id, message.message_id) if message else None
                if kept is None:
                    raise ThreadExists(thread.thread_id)
                return Delivery(number=kept.number, run=kept.run, thread=present, repeated=True)
            self._check_origin(tx, thread)
            if message is None:
                tx.insert_thread(thread)
                return Delivery(number=thread.inbox, run=thread.run, thread=thread)
            row, kept, run = delivered(thread, message, None)
            tx.insert_thread(row)
            return _keep(tx, row, kept, run)

    def _check_origin(self, tx: Transaction, thread: ThreadRecord) -> None:
        if thread.origin is None:
            return
        parent = tx.thread(thread.origin.thread_id)
        if parent is None:
            raise UnknownThread(thread.origin.thread_id, self.where)
        if not 0 <= thread.origin.seq <= parent.seq:
            raise StoreMisuse(
                f"thread {thread.thread_id!r} cannot fork from commit {thread.origin.seq} of thread "
                f"{parent.thread_id!r}, whose last durable commit is {parent.seq}"
            )

    def deliver(
        self, thread_id: str, message: Message, expect: Expect, *, graph: GraphRecord | None = None
    ) -> Delivery:
        check_id("thread id", thread_id)
        check_message(message)
        with self._transaction() as tx:
            row = self._locked(tx, thread_id)
            before = tx.message(thread_id, message.message_id)
            if before is not None:
                return Delivery(number=before.number, run=before.run, thread=row, repeated=True)
            after, kept, run = delivered(row, message, expect, graph)
            tx.update_thread(after)
            return _keep(tx, after, kept, run)

    def claim(
        self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool = False, at: float = 0.0
    ) -> ThreadRecord:
        check_claim(thread_id, token, owner)
        with self._transaction() as tx:
            row = self._locked(tx, thread_id)
            after = claimed(row, epoch=epoch, token=token, owner=owner, crashed=crashed, at=at)
            if after is not row:
                tx.update_thread(after)
            return after

    def delete(self, thread_id: str) -> None:
        check_id("thread id", thread_id)
        with self._transaction() as tx:
            row = tx.thread(thread_id)
            if row is None:
                return
            check_deletable(row)
            forks = tx.forks(thread_id)
            if forks:
                raise ThreadReferenced(thread_id, forks)
            tx.remove(thread_id)

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        for commit in commits:
            check_commit(commit)
        # Encoded before the lock is taken: nobody waits for another's compression.
        data = {id(commit): encode_segment(commit.thread_id, commit.rows) if commit.rows else b"" for commit in commits}
        results: dict[int, CommitResult] = {}
        if not commits:
            return []
        with self._transaction() as tx:
            for wave in waves(commits):
                found = tx.look(wave)
                verdicts = [verdict(found.get(commit.thread_id), commit) for commit in wave]
                accepted = [
                    Encoded(commit, data[id(commit)])
                    for commit, result in zip(wave, verdicts, strict=True)
                    if isinstance(result, Committed) and not result.repeated
                ]
                if accepted:
                    tx.write(accepted)
                results.update(zip(map(id, wave), verdicts, strict=True))
        return [results[id(commit)] for commit in commits]

    def segments(
        self, thread_id: str, *, first: int = 1, last: int | None = None, limit: int | None = None
    ) -> list[Segment]:
        check_id("thread id", thread_id)
        if limit is not None and limit < 1:
            raise StoreMisuse(f"thread {thread_id!r}: a limit of segments must be at least 1, not {limit}")
        return [self._decoded(thread_id, stored) for stored in self._stored_segments(thread_id, first, last, limit)]

    def _decoded(self, thread_id: str, stored: StoredSegment) -> Segment:
        commits = f"commits {stored.first}..{stored.last} (commit id {stored.commit_id})"
        place = f"thread {thread_id!r}, {commits} in {self.where}"
        rows: tuple[Row, ...] = ()
        if stored.data:
            try:
                written_for, rows = decode_segment(stored.data)
            except (Corrupt, NewerFormat) as error:
                raise type(error)(f"{place}: {error}") from error
            if written_for != thread_id:
                raise Corrupt(f"{place}: the segment kept there belongs to thread {written_for!r}; restore a backup")
        return Segment(
            thread_id=thread_id,
            first=stored.first,
            last=stored.last,
            epoch=stored.epoch,
            commit_id=stored.commit_id,
            rows=tuple(rows),
        )

    def _locked(self, tx: Transaction, thread_id: str) -> ThreadRecord:
        row = tx.thread(thread_id)
        if row is None:
            raise UnknownThread(thread_id, self.where)
        return row


def _keep(tx: Transaction, row: ThreadRecord, message: Message, run: RunRecord | None) -> Delivery:
    """Write a delivery's message and run; the row itself is written already."""
    tx.insert_message(row.thread_id, message)
    if run is not None:
        tx.insert_run(run)
    return Delivery(number=message.number, run=message.run, thread=row)
