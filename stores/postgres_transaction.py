"""A transaction in Postgres: what is written is sent together with what is asked next, or with the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, LiteralString

import psycopg
from psycopg import Cursor
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from .errors import StoreUnavailable
from .operations import EMPTY, Commit, Fork, Reached
from .postgres_connections import Connection
from .postgres_records import (
    LARGEST_SEGMENT,
    commit_input,
    fork_of,
    message_input,
    message_of,
    run_input,
    thread_input,
    thread_of,
)
from .records import Message, RunRecord, Segment, ThreadRecord
from .sealing import Encoded, StoredSegment
from .transactional import Transaction
from .transitions import Found

Statements = Mapping[str, bytes]

_DELETIONS = ("delete_segments", "delete_messages", "delete_runs", "delete_thread")


def run(connection: Connection, statement: bytes, parameters: Sequence[Any] = ()) -> Cursor[TupleRow]:
    """Execute a statement; values of bytes come back as they are instead of as text."""
    return connection.execute(statement, parameters, binary=True)


@contextmanager
def transaction(
    connection: Connection, statements: Statements, where: str, *, begin: LiteralString = "BEGIN"
) -> Iterator[PostgresTransaction]:
    """A transaction for the block: committed at its end, rolled back by an exception."""
    try:
        with connection.pipeline() as pipeline:
            connection.execute(begin)
            yield PostgresTransaction(connection, pipeline, statements, where)
            end = connection.execute("COMMIT")
        if end.statusmessage != "COMMIT":
            raise StoreUnavailable(f"{where}: the transaction was rolled back; try again")
    except BaseException:
        if not connection.closed and connection.pgconn.transaction_status != TransactionStatus.IDLE:
            # If even that fails the connection is broken, and the server rolls back by itself.
            with suppress(psycopg.Error):
                connection.rollback()
        raise


class PostgresTransaction(Transaction):
    """Reads go out with the writes before them, in one round trip. A row that was locked is read in its newest state;
    the other tables are asked in statements after the lock, which see what its last holder did."""

    def __init__(self, connection: Connection, pipeline: psycopg.Pipeline, statements: Statements, where: str) -> None:
        self._connection = connection
        self._pipeline = pipeline
        self._statements = statements
        self._where = where

    def thread(self, thread_id: str) -> ThreadRecord | None:
        found = self._asked("lock_thread", thread_id).fetchone()
        return thread_of(found) if found else None

    def lock(self, thread_ids: Sequence[str]) -> dict[str, ThreadRecord]:
        """The rows of those that are there, by id, locked in the order of their ids."""
        rows = map(thread_of, self.rows("lock_rows", list(thread_ids)))
        return {row.thread_id: row for row in rows}

    def insert_thread(self, thread: ThreadRecord) -> None:
        self._run("insert_thread", thread_input(thread))

    def update_thread(self, thread: ThreadRecord) -> None:
        self._run("update_thread", thread_input(thread))

    def replace_thread(self, thread: ThreadRecord) -> None:
        self._run("replace_thread", thread_input(thread))
        self._run("delete_messages", thread.thread_id)
        self._run("delete_runs", thread.thread_id)

    def set_tags(self, thread: ThreadRecord) -> None:
        self._run("set_tags", thread.thread_id, list(thread.tags))

    def move_thread(self, thread: ThreadRecord) -> None:
        self._run("update_thread", thread_input(thread))
        origin = thread.origin
        self._run("set_origin", thread.thread_id, origin.thread_id if origin else None, origin.seq if origin else None)

    def message(self, thread_id: str, message_id: str) -> Message | None:
        found = self._asked("message", thread_id, message_id).fetchone()
        return message_of(found) if found else None

    def insert_message(self, thread_id: str, message: Message) -> None:
        self._run("insert_message", *message_input(thread_id, message))

    def insert_run(self, run: RunRecord) -> None:
        self._run("insert_run", *run_input(run))

    def forks(self, thread_id: str) -> tuple[Fork, ...]:
        return tuple(map(fork_of, self._asked("forks", thread_id).fetchall()))

    def remove(self, thread_id: str) -> None:
        for name in _DELETIONS:
            self._run(name, thread_id)

    def look(self, commits: Sequence[Commit]) -> Mapping[str, Found]:
        names = [commit.thread_id for commit in commits]
        locked = self._run("lock_threads", names)
        # A statement of its own: its snapshot is taken when the locks are held.
        kept = self._asked("commit_ids", names, [commit.first for commit in commits])
        commit_ids: dict[str, str] = dict(kept.fetchall())
        return {
            thread_id: Found(epoch, token, seq, inbox, commit_ids.get(thread_id, ""))
            for thread_id, epoch, token, seq, inbox in locked.fetchall()
        }

    def write(self, group: Sequence[Encoded]) -> None:
        parts = [self._run("commit", *commit_input(part)) for part in in_parts(group)]
        self._pipeline.sync()
        if sum(len(part.fetchall()) for part in parts) != len(group):
            # Cannot be while this transaction holds the rows' locks; if it was, nothing must be kept.
            raise StoreUnavailable(f"{self._where}: rows changed under their locks; nothing was written, try again")

    def replace_segments(self, thread_id: str, old: Sequence[Segment], new: Sequence[StoredSegment]) -> bool:
        span = (thread_id, old[0].first, old[-1].first)
        present = self._asked("old_segments", *span).fetchall()
        if present != [(segment.first, segment.last, segment.commit_id) for segment in old]:
            return False
        self._run("drop_segments", *span)
        self.add_segments(thread_id, new)
        return True

    def newest(self, thread_id: str, last: int) -> Reached:
        found = self._asked("newest", thread_id, last).fetchone()
        return Reached(*found) if found else EMPTY

    def add_segments(self, thread_id: str, segments: Sequence[StoredSegment]) -> None:
        for segment in segments:
            self._run("add_segment", thread_id, *segment)

    def rows(self, name: str, *parameters: Any) -> Sequence[TupleRow]:
        """What a statement returns."""
        return self._asked(name, *parameters).fetchall()

    def _asked(self, name: str, *parameters: Any) -> Cursor[TupleRow]:
        cursor = self._run(name, *parameters)
        # A flush would bring the answer too, but leave the server in the middle of a statement, for which it waits
        # without a limit; after a sync it knows that the transaction is idle.
        self._pipeline.sync()
        return cursor

    def _run(self, name: str, *parameters: Any) -> Cursor[TupleRow]:
        return run(self._connection, self._statements[name], parameters)


def in_parts(group: Sequence[Encoded]) -> list[list[Encoded]]:
    """The commits split so that each part fits one statement."""
    parts: list[list[Encoded]] = [[]]
    size = 0
    for each in group:
        bytes_of = len(each.data) + sum(len(update.error) for update in each.commit.runs)
        if parts[-1] and size + bytes_of > LARGEST_SEGMENT:
            parts.append([])
            size = 0
        parts[-1].append(each)
        size += bytes_of
    return parts
