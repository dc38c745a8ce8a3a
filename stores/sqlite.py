"""The store in a SQLite file: any number of processes of one machine."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .arguments import canonical_json, check_id, check_listing
from .base import CommitResult
from .errors import StoreUnavailable, UnknownThread
from .operations import EMPTY, Commit, Committed, Fork, Reached, StoreStats, ThreadFilter, ThreadImage, ThreadPage
from .processes import Holder
from .records import GraphRecord, Message, OwnerRecord, RunRecord, Segment, Status, ThreadRecord
from .sealing import Encoded, StoredSegment
from .sqlite_connections import Connections
from .sqlite_lock import lock_holder
from .sqlite_records import (
    CHANGING_CELLS,
    THREAD_CELLS,
    Cells,
    commit_cells,
    conditions,
    graph_cells,
    graph_of,
    message_cells,
    message_of,
    newest_first,
    owner_cells,
    owner_of,
    run_cells,
    run_of,
    segment_cells,
    step_cells,
    thread_cells,
    thread_of,
)
from .statements import statements, with_rows
from .transactional import Transaction, TransactionalStore
from .transitions import Found, is_step, run_after
from .vault import PlainVault, Vault

_ROWS_AT_ONCE = 500
"""Rows of parameters in one statement (SQLite takes 32,766 parameters)."""
_END = 2**63 - 1


class SqliteStore(TransactionalStore):
    """`sqlite:///relative.db`, `sqlite:////absolute.db`.

    Writers of all processes queue on the file `<path>-lock`; readers never wait for them.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        shared_path: bool = False,
        create: bool = True,
        vault: Vault | None = None,
    ) -> None:
        """Open the store, or create it. Raises `StoreMisuse` for a path that cannot hold one, `StoreMissing` where
        there is none and `create` is False, `NewerFormat`, `Corrupt`, `StoreUnavailable`."""
        self.path = Path(os.path.abspath(os.fspath(path)))
        self.url = f"sqlite:///{quote(str(self.path))}"
        self.where = self.url
        self.shared_path = shared_path
        """Declared by the user: other machines see the same file under the same path."""
        self.vault = vault or PlainVault()
        self._sql = statements("sqlite_queries.sql")
        self._connections = Connections(self.path, self.where, create=create)

    def lock_holder(self) -> Holder | None:
        """The process that holds the write lock, None while nobody does; answers while that process is stopped.

        Only a holder that stays the same, with the same `acquisitions`, over seconds has to be suspected.
        """
        return lock_holder(self.path)

    def _read_thread(self, thread_id: str) -> ThreadRecord:
        check_id("thread id", thread_id)
        with self._connections.reading() as connection:
            cells = connection.execute(self._sql["thread"], (thread_id,)).fetchall()
        if not cells:
            raise UnknownThread(thread_id, self.where)
        return thread_of(cells[0])

    def _list_threads(self, where: ThreadFilter, limit: int, cursor: str | None) -> ThreadPage:
        clauses, values = conditions(where, check_listing(where, limit, cursor), self._sql)
        # One query for each status: each walks its part of the index in order, where one for all would sort them all.
        if where.statuses is not None:
            queries = [(["status = ?", *clauses], [str(status), *values]) for status in where.statuses]
        else:
            queries = [(clauses, values)]
        with self._connections.reading(snapshot=True) as connection:
            pages = [
                connection.execute(
                    self._sql["list_threads"].replace("{conditions}", " AND ".join(each)), (*given, limit + 1)
                ).fetchall()
                for each, given in queries
            ]
        found = newest_first(pages, limit + 1)
        return ThreadPage(
            threads=tuple(thread_of(cells) for cells in found[:limit]),
            cursor=str(found[limit - 1][-1]) if len(found) > limit else None,
        )

    def _runs(self, thread_id: str) -> Sequence[RunRecord]:
        with self._connections.reading(snapshot=True) as connection:
            return self._runs_of(connection, thread_id)

    def _runs_of(self, connection: sqlite3.Connection, thread_id: str) -> tuple[RunRecord, ...]:
        number = connection.execute(self._sql["number_of"], (thread_id,)).fetchone()
        if number is None:
            raise UnknownThread(thread_id, self.where)
        return tuple(run_of(thread_id, cells) for cells in connection.execute(self._sql["runs"], number).fetchall())

    def _messages(self, thread_id: str, unread: bool) -> Sequence[Message]:
        with self._connections.reading() as connection:
            found = connection.execute(self._sql["unread_messages" if unread else "messages"], (thread_id,)).fetchall()
        return tuple(message_of(cells) for cells in found)

    def _due(self, before: float, limit: int) -> Sequence[ThreadRecord]:
        with self._connections.reading() as connection:
            return [thread_of(cells) for cells in connection.execute(self._sql["due"], (before, limit)).fetchall()]

    def _renew(self, lease: OwnerRecord) -> None:
        with self._connections.writing() as connection:
            connection.execute(self._sql["renew"], owner_cells(lease))

    def owners(self) -> tuple[OwnerRecord, ...]:
        with self._connections.reading() as connection:
            return tuple(owner_of(cells) for cells in connection.execute(self._sql["owners"]).fetchall())

    def forget(self, owner: str) -> None:
        with self._connections.writing() as connection:
            connection.execute(self._sql["forget"], (owner,))

    def _put_graph(self, graph: GraphRecord) -> None:
        with self._connections.writing() as connection:
            connection.execute(self._sql["put_graph"], graph_cells(graph))

    def _graph(self, graph_key: str) -> GraphRecord | None:
        with self._connections.reading() as connection:
            found = connection.execute(self._sql["graph"], (graph_key,)).fetchall()
        return graph_of(found[0]) if found else None

    def graph_keys(self) -> tuple[str, ...]:
        with self._connections.reading() as connection:
            return tuple(row[0] for row in connection.execute(self._sql["graph_keys"]).fetchall())

    def forks(self, thread_id: str) -> tuple[Fork, ...]:
        check_id("thread id", thread_id)
        with self._connections.reading() as connection:
            return _forks_of(connection, self._sql, thread_id)

    def _image(self, thread_id: str) -> ThreadImage:
        with self._connections.reading(snapshot=True) as connection:
            cells = connection.execute(self._sql["thread"], (thread_id,)).fetchone()
            if cells is None:
                raise UnknownThread(thread_id, self.where)
            messages = connection.execute(self._sql["messages"], (thread_id,)).fetchall()
            return ThreadImage(
                thread=thread_of(cells),
                runs=self._runs_of(connection, thread_id),
                messages=tuple(message_of(cells) for cells in messages),
            )

    def setting(self, name: str) -> Any:
        with self._connections.reading() as connection:
            found = connection.execute(self._sql["setting"], (name,)).fetchone()
        return json.loads(found[0]) if found else None

    def _put_setting(self, name: str, value: Any) -> None:
        with self._connections.writing() as connection:
            if value is None:
                connection.execute(self._sql["drop_setting"], (name,))
            else:
                connection.execute(self._sql["put_setting"], (name, canonical_json(value)))

    def stats(self) -> StoreStats:
        with self._connections.reading(snapshot=True) as connection:
            threads = {Status(status): count for status, count in connection.execute(self._sql["count_statuses"])}
            segments, segment_bytes, messages, message_bytes, graphs, owners = connection.execute(
                self._sql["count_payloads"]
            ).fetchone()
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return StoreStats(
            threads=threads,
            segments=segments,
            segment_bytes=segment_bytes,
            messages=messages,
            message_bytes=message_bytes,
            graphs=graphs,
            owners=owners,
            disk_bytes=sum(file.stat().st_size for file in files if file.exists()),
        )

    @property
    def migrated(self) -> list[int]:
        """The layouts that opening the store brought its file through; empty where it had the present one."""
        return self._connections.migrated

    def close(self) -> None:
        self._connections.close()

    def _commit(self, group: Sequence[Encoded]) -> list[CommitResult]:
        """Two statements for one step; each would be one more to take apart where many could come in it."""
        if len(group) == 1 and is_step(group[0].commit):
            (encoded,) = group
            with self._connections.writing() as connection:
                found = connection.execute(self._sql["commit_step"], step_cells(encoded.commit)).fetchall()
                if found:
                    number, inbox = found[0]
                    connection.execute(self._sql["commit_step_segment"], segment_cells(number, encoded))
                    return [Committed(seq=encoded.commit.last, inbox=inbox)]
            # Not accepted: what follows finds out why, or that it had been applied.
        return super()._commit(group)

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        with self._connections.writing() as connection:
            yield _SqliteTransaction(connection, self._sql, self.where)

    def _segments(self, thread_id: str, first: int, last: int | None, limit: int | None) -> list[StoredSegment]:
        asked = {
            "thread_id": thread_id,
            "first": first,
            "last": _END if last is None else last,
            "limit": -1 if limit is None else limit,
        }
        with self._connections.reading() as connection:
            found = connection.execute(self._sql["segments"], asked).fetchall()
        return [StoredSegment(*cells) for cells in found]


class _SqliteTransaction(Transaction):
    """One transaction. SQLite locks the whole file, so every row that is read in it stays as it was."""

    def __init__(self, connection: sqlite3.Connection, sql: Mapping[str, str], where: str) -> None:
        self._connection = connection
        self._sql = sql
        self._where = where
        self._numbers: dict[str, int] = {}

    def thread(self, thread_id: str) -> ThreadRecord | None:
        found = self._connection.execute(self._sql["thread"], (thread_id,)).fetchall()
        return thread_of(found[0]) if found else None

    def insert_thread(self, thread: ThreadRecord) -> None:
        self._rows("insert_thread", [thread_cells(thread)], THREAD_CELLS)

    def update_thread(self, thread: ThreadRecord) -> None:
        self._connection.execute(self._sql["update_thread"], thread_cells(thread)[:CHANGING_CELLS])

    def set_tags(self, thread: ThreadRecord) -> None:
        self._connection.execute(self._sql["set_tags"], (thread.thread_id, canonical_json(thread.tags)))

    def move_thread(self, thread: ThreadRecord) -> None:
        self.update_thread(thread)
        origin = thread.origin
        cells = (thread.thread_id, origin.thread_id if origin else None, origin.seq if origin else None)
        self._connection.execute(self._sql["set_origin"], cells)

    def message(self, thread_id: str, message_id: str) -> Message | None:
        found = self._connection.execute(self._sql["message"], (thread_id, message_id)).fetchall()
        return message_of(found[0]) if found else None

    def insert_message(self, thread_id: str, message: Message) -> None:
        self._connection.execute(self._sql["insert_message"], message_cells(thread_id, message))

    def insert_run(self, run: RunRecord) -> None:
        self._connection.execute(self._sql["insert_run"], (run.thread_id, *run_cells(run)))

    def replace_thread(self, thread: ThreadRecord) -> None:
        self._connection.execute(self._sql["replace_thread"], thread_cells(thread))
        for statement in ("delete_messages", "delete_runs"):
            self._connection.execute(self._sql[statement], (self._number(thread.thread_id),))

    def forks(self, thread_id: str) -> tuple[Fork, ...]:
        return _forks_of(self._connection, self._sql, thread_id)

    def remove(self, thread_id: str) -> None:
        number = self._number(thread_id)
        for statement in ("delete_segments", "delete_messages", "delete_runs", "delete_thread"):
            self._connection.execute(self._sql[statement], (number,))

    def look(self, commits: Sequence[Commit]) -> Mapping[str, Found]:
        found: dict[str, Found] = {}
        for start in range(0, len(commits), _ROWS_AT_ONCE):
            asked = [
                cell for commit in commits[start : start + _ROWS_AT_ONCE] for cell in (commit.thread_id, commit.first)
            ]
            statement = with_rows(self._sql["look"], 2, len(asked) // 2)
            for thread_id, number, *checked in json.loads(self._connection.execute(statement, asked).fetchone()[0]):
                self._numbers[thread_id] = number
                found[thread_id] = Found(*checked)
        return found

    def write(self, group: Sequence[Encoded]) -> None:
        commits = [(self._numbers[encoded.commit.thread_id], encoded.commit) for encoded in group]
        written = self._rows("commit_threads", [commit_cells(*each) for each in commits], 13)
        if written != len(group):
            # Cannot be while this transaction holds SQLite's lock; if it was broken, nothing must be kept.
            raise StoreUnavailable(f"{self._where}: rows changed under the write lock; nothing was written, try again")
        segments = [segment_cells(number, encoded) for (number, _), encoded in zip(commits, group, strict=True)]
        self._rows("commit_segments", segments, 6)
        statuses = [
            (number, commit.last, str(commit.status)) for number, commit in commits if commit.status is not None
        ]
        self._rows("commit_statuses", statuses, 3)
        wakes = [(number, commit.last, commit.wake_at) for number, commit in commits if commit.wake_at is not None]
        self._rows("commit_wakes", wakes, 3)
        runs = [
            (number, *run_cells(run_after(None, commit.thread_id, update, commit.at)))
            for number, commit in commits
            for update in commit.runs
        ]
        self._rows("commit_runs", runs, 9)
        self._rows("commit_applied", [(number, *each) for number, commit in commits for each in commit.applied], 3)

    def replace_segments(self, thread_id: str, old: Sequence[Segment], new: Sequence[StoredSegment]) -> bool:
        span = (self._number(thread_id), old[0].first, old[-1].first)
        present = self._connection.execute(self._sql["old_segments"], span).fetchall()
        if present != [(segment.first, segment.last, segment.commit_id) for segment in old]:
            return False
        self._connection.execute(self._sql["drop_segments"], span)
        self.add_segments(thread_id, new)
        return True

    def newest(self, thread_id: str, last: int) -> Reached:
        found = self._connection.execute(self._sql["newest"], (self._number(thread_id), last)).fetchall()
        return Reached(*found[0]) if found else EMPTY

    def add_segments(self, thread_id: str, segments: Sequence[StoredSegment]) -> None:
        number = self._number(thread_id)
        self._rows("add_segments", [(number, *segment) for segment in segments], 6)

    def _number(self, thread_id: str) -> int:
        number: int = self._connection.execute(self._sql["number_of"], (thread_id,)).fetchone()[0]
        return number

    def _rows(self, name: str, rows: Sequence[Cells], columns: int) -> int:
        """Run a statement for all rows at once: each call may lose the GIL to a computing thread for 5 ms."""
        changed = 0
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = rows[start : start + _ROWS_AT_ONCE]
            cells: list[Any] = [cell for row in part for cell in row]
            changed += self._connection.execute(with_rows(self._sql[name], columns, len(part)), cells).rowcount
        return changed


def _forks_of(connection: sqlite3.Connection, sql: Mapping[str, str], thread_id: str) -> tuple[Fork, ...]:
    found = connection.execute(sql["forks"], (thread_id,)).fetchall()
    return tuple(Fork(thread_id=fork, seq=seq) for fork, seq in found)
