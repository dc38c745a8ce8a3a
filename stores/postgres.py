"""The store in a Postgres database: any number of processes of any number of machines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg import sql
from psycopg.rows import TupleRow

from .addresses import Address
from .arguments import canonical_json, check_id, check_listing
from .base import CommitResult, NewThread, TakeResult
from .errors import InboxChanged, StoreMisuse, StoreUnavailable, ThreadExists, UnknownThread
from .operations import (
    Claim,
    Claimed,
    Committed,
    Delivery,
    Fork,
    Reached,
    StoreStats,
    ThreadFilter,
    ThreadImage,
    ThreadPage,
)
from .postgres_connections import Connections
from .postgres_errors import Taken
from .postgres_migrations import migrate
from .postgres_options import PostgresOptions
from .postgres_records import (
    LARGEST_SEGMENT,
    claims_input,
    commit_input,
    creation_input,
    filter_cells,
    fork_of,
    graph_cells,
    graph_of,
    message_of,
    owner_cells,
    owner_of,
    run_of,
    step_cells,
    thread_of,
)
from .postgres_transaction import PostgresTransaction, Statements, in_parts, run, transaction
from .records import GraphRecord, Message, OwnerRecord, RunRecord, Status, ThreadRecord
from .sealing import Encoded, StoredSegment
from .statements import statements
from .transactional import TransactionalStore
from .transitions import delivered, is_step
from .vault import PlainVault, Vault

_END = 2**63 - 1
_FRAGMENTS = ("thread_columns", "thread_fields", "thread_input", "message_columns", "run_columns", "listed")
_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_CREATIONS = 3
"""Attempts at creating a thread that others create and delete at the same time."""


class PostgresStore(TransactionalStore):
    """`postgresql://user:password@host:5432/database?schema=perdure`, or whatever else libpq takes as a URL."""

    def __init__(
        self,
        url: str,
        *,
        options: PostgresOptions | None = None,
        vault: Vault | None = None,
        create: bool = True,
    ) -> None:
        """Open the store, or create it in a database that is there.

        Raises `StoreMisuse` for a URL, an option or a user that cannot be, and a server that could lose acknowledged
        commits; `StoreMissing` where there is no store and `create` is False; `NewerFormat`, `StoreUnavailable`.
        """
        address = Address.of(url, options)
        if not isinstance(address.options, PostgresOptions):
            raise StoreMisuse(f"{address.where} is not the URL of a Postgres database; write postgresql://...")
        self.url = address.full
        self.where = address.where
        self.options = address.options
        self.vault = vault or PlainVault()
        self._sql = _statements(self.options.schema)
        self._connections = Connections(address.url, self.options, self.where)
        try:
            with self._connections.using() as connection:
                self.migrated = migrate(connection, self.options.schema, self.where, create=create)
                """The layouts that opening the store brought its schema through; empty where it had the present one."""
        except BaseException:
            self.close()
            raise

    # -- reading ---------------------------------------------------------------------------------------------------

    def _read_thread(self, thread_id: str) -> ThreadRecord:
        check_id("thread id", thread_id)
        found = self._rows("thread", thread_id)
        if not found:
            raise UnknownThread(thread_id, self.where)
        return thread_of(found[0])

    def find(self, thread_ids: Sequence[str]) -> dict[str, ThreadRecord]:
        for thread_id in thread_ids:
            check_id("thread id", thread_id)
        return {name: self._sealing.opened_thread(row) for name, row in self._find(thread_ids).items()}

    def _find(self, thread_ids: Collection[str]) -> dict[str, ThreadRecord]:
        rows = map(thread_of, self._rows("find_threads", list(thread_ids)))
        return {row.thread_id: row for row in rows}

    def _list_threads(self, where: ThreadFilter, limit: int, cursor: str | None) -> ThreadPage:
        asked = [*filter_cells(where, check_listing(where, limit, cursor)), limit + 1]
        with self._connections.using() as connection:
            # Not prepared: conditions that are not asked for fall away only in a plan for these very parameters.
            if where.statuses is None:
                page = connection.execute(self._sql["list_threads"], asked, binary=True, prepare=False)
            else:
                asked.append(sorted(map(str, where.statuses)))
                page = connection.execute(self._sql["list_by_status"], asked, binary=True, prepare=False)
            found = page.fetchall()
        return ThreadPage(
            threads=tuple(map(thread_of, found[:limit])),
            cursor=str(found[limit - 1][-1]) if len(found) > limit else None,
        )

    def owners(self) -> tuple[OwnerRecord, ...]:
        return tuple(map(owner_of, self._rows("owners")))

    def forks(self, thread_id: str) -> tuple[Fork, ...]:
        check_id("thread id", thread_id)
        return tuple(map(fork_of, self._rows("forks", thread_id)))

    def graph_keys(self) -> tuple[str, ...]:
        return tuple(cells[0] for cells in self._rows("graph_keys"))

    def setting(self, name: str) -> Any:
        found = self._rows("setting", name)
        return found[0][0] if found else None

    def stats(self) -> StoreStats:
        (found,) = self._rows("statistics", self.options.schema)
        threads, segments, segment_bytes, messages, message_bytes, graphs, owners, disk_bytes = found
        return StoreStats(
            threads={Status(status): number for status, number in threads.items()},
            segments=segments,
            segment_bytes=segment_bytes,
            messages=messages,
            message_bytes=message_bytes,
            graphs=graphs,
            owners=owners,
            disk_bytes=disk_bytes,
        )

    def _due(self, before: float, limit: int) -> Sequence[ThreadRecord]:
        return [thread_of(cells) for cells in self._rows("due", before, limit)]

    def _runs(self, thread_id: str) -> Sequence[RunRecord]:
        return self._runs_of(thread_id, self._rows("runs", thread_id))

    def _runs_of(self, thread_id: str, found: Sequence[TupleRow]) -> tuple[RunRecord, ...]:
        if not found:
            raise UnknownThread(thread_id, self.where)
        return tuple(run_of(thread_id, cells) for cells in found if cells[0] is not None)

    def _messages(self, thread_id: str, unread: bool) -> Sequence[Message]:
        return [message_of(cells) for cells in self._rows("unread_messages" if unread else "messages", thread_id)]

    def _segments(self, thread_id: str, first: int, last: int | None, limit: int | None) -> list[StoredSegment]:
        return [
            StoredSegment(*cells)
            for cells in self._rows("segments", thread_id, first, _END if last is None else last, limit)
        ]

    def _graph(self, graph_key: str) -> GraphRecord | None:
        found = self._rows("graph", graph_key)
        return graph_of(found[0]) if found else None

    def _image(self, thread_id: str) -> ThreadImage:
        with self._connections.using() as connection:
            with transaction(connection, self._sql, self.where, begin=_SNAPSHOT):
                asked = [run(connection, self._sql[name], (thread_id,)) for name in ("thread", "runs", "messages")]
                rows, runs, messages = (cursor.fetchall() for cursor in asked)
        if not rows:
            raise UnknownThread(thread_id, self.where)
        return ThreadImage(
            thread=thread_of(rows[0]),
            runs=self._runs_of(thread_id, runs),
            messages=tuple(map(message_of, messages)),
        )

    # -- writing ---------------------------------------------------------------------------------------------------

    def _commit(self, group: Sequence[Encoded]) -> list[CommitResult]:
        """One statement in the normal case. What it does not accept is looked at again in a transaction, with locks
        before snapshots: only there it shows whether a commit was applied before."""
        if len(group) == 1 and is_step(group[0].commit) and len(group[0].data) <= LARGEST_SEGMENT:
            accepted = self._rows("commit_step", *step_cells(*group[0]))
            if accepted:
                return [Committed(seq=group[0].commit.last, inbox=accepted[0][0])]
            return super()._commit(group)
        ordered = sorted(group, key=lambda each: each.commit.thread_id)
        if len({each.commit.thread_id for each in group}) < len(group) or len(in_parts(group)) > 1:
            return super()._commit(group)
        answers = {cells[0]: cells[1:] for cells in self._rows("commit", *commit_input(ordered))}
        results: dict[str, CommitResult] = {}
        left: list[Encoded] = []
        for each in group:
            commit = each.commit
            if commit.thread_id not in answers:
                left.append(each)
                continue
            inbox, expected = answers[commit.thread_id]
            if expected:
                results[commit.thread_id] = Committed(seq=commit.last, inbox=inbox)
            else:
                results[commit.thread_id] = InboxChanged(commit.thread_id, commit.expect_inbox or 0, inbox)
        if left:
            again = super()._commit(left)
            results.update((each.commit.thread_id, result) for each, result in zip(left, again, strict=True))
        return [results[each.commit.thread_id] for each in group]

    def _create(self, thread: ThreadRecord, message: Message | None) -> Delivery:
        for _ in range(_CREATIONS):
            try:
                return super()._create(thread, message)
            except Taken:
                # Somebody else created it while this went on: now its row is there to be seen.
                continue
        raise StoreUnavailable(f"{self.where}: thread {thread.thread_id!r} is being created and deleted; try again")

    def _create_many(self, threads: Sequence[NewThread]) -> list[Delivery | ThreadExists]:
        """One statement in the normal case, and one before that which locks the origins of forks. What is there
        already, or comes from another of these threads, is looked at again by itself."""
        if any(thread.origin is not None for thread, _ in threads):
            made = self._fork_many(threads)
        else:
            made = self._insert_many(threads, self._rows)
        return [
            made[thread.thread_id] if thread.thread_id in made else self._create_or_not(thread, message)
            for thread, message in threads
        ]

    def _fork_many(self, threads: Sequence[NewThread]) -> dict[str, Delivery]:
        """Those that were made, by thread id."""
        names = {thread.thread_id for thread, _ in threads}
        known = self._with_ancestors(names | {thread.origin.thread_id for thread, _ in threads if thread.origin})
        new = [
            (thread, message)
            for thread, message in threads
            if thread.thread_id not in known and (thread.origin is None or thread.origin.thread_id not in names)
        ]
        if not new:
            return {}
        with self._transaction() as tx:
            # All at once and in the order of their ids: two who fork from the same threads wait, but not in a circle.
            rows = tx.lock(list(known.keys() - names))
            return self._insert_many(
                [(self._with_origin(tx, thread, rows), message) for thread, message in new], tx.rows
            )

    def _with_ancestors(self, names: Collection[str]) -> dict[str, ThreadRecord]:
        """Those of these threads that are there and all that they were forked from, not locked."""
        known, asked = dict[str, ThreadRecord](), set(names)
        while asked:
            found = self._find(asked)
            known.update(found)
            asked = {row.origin.thread_id for row in found.values() if row.origin} - known.keys()
        return known

    def _insert_many(
        self, threads: Sequence[NewThread], rows_of: Callable[..., Sequence[TupleRow]]
    ) -> dict[str, Delivery]:
        """Those that were not there, by thread id, written by one statement."""
        rows, messages, runs = list[ThreadRecord](), list[tuple[str, Message]](), list[RunRecord]()
        made: dict[str, Delivery] = {}
        for thread, message in threads:
            row, number, run_number = thread, thread.inbox, thread.run
            if message is not None:
                row, kept, run = delivered(thread, message, None)
                messages.append((row.thread_id, kept))
                runs.extend([run] if run is not None else [])
                number, run_number = kept.number, kept.run
            rows.append(row)
            made[row.thread_id] = Delivery(number=number, run=run_number, thread=row)
        new = {cells[0] for cells in rows_of("create_threads", *creation_input(rows, messages, runs))}
        return {thread_id: delivery for thread_id, delivery in made.items() if thread_id in new}

    def _create_or_not(self, thread: ThreadRecord, message: Message | None) -> Delivery | ThreadExists:
        try:
            return self._create(thread, message)
        except ThreadExists as present:
            return present

    def _load(
        self, image: ThreadImage, segments: Sequence[StoredSegment], after: Reached | None, complete: bool
    ) -> bool:
        thread_id = image.thread.thread_id
        for _ in range(_CREATIONS):
            try:
                return super()._load(image, segments, after, complete)
            except Taken:
                continue  # as above
        raise StoreUnavailable(f"{self.where}: thread {thread_id!r} is being created and deleted; try again")

    def _take(self, claims: Sequence[Claim]) -> list[TakeResult]:
        """One round trip in the normal case. What was not as it was seen is looked at again by itself: only there it
        shows whether this very claim was made before."""
        names = [claim.thread_id for claim in claims]
        ordered = sorted(claims, key=lambda claim: claim.thread_id)
        with self._connections.using() as connection, connection.pipeline():
            asked = (("take_threads", claims_input(ordered)), ("runs_of_many", names), ("unread_of_many", names))
            answers = [run(connection, self._sql[name], (parameter,)) for name, parameter in asked]
            taken, runs, messages = (cursor.fetchall() for cursor in answers)
        runs_of, mail_of = defaultdict[str, list[RunRecord]](list), defaultdict[str, list[Message]](list)
        for thread_id, *cells in runs:
            runs_of[thread_id].append(run_of(thread_id, tuple(cells)))
        for thread_id, *cells in messages:
            mail_of[thread_id].append(message_of(tuple(cells)))
        results: dict[str, TakeResult] = {}
        for row in map(thread_of, taken):
            own = tuple(runs_of[row.thread_id]), tuple(mail_of[row.thread_id])
            results[row.thread_id] = Claimed(thread=row, runs=own[0], messages=own[1])
        for claim in claims:
            if claim.thread_id not in results:
                (results[claim.thread_id],) = super()._take([claim])
        return [results[name] for name in names]

    def _renew(self, lease: OwnerRecord) -> None:
        self._do("renew", *owner_cells(lease))

    def forget(self, owner: str) -> None:
        self._do("forget", owner)

    def _put_graph(self, graph: GraphRecord) -> None:
        self._do("put_graph", *graph_cells(graph))

    def _put_setting(self, name: str, value: Any) -> None:
        if value is None:
            self._do("drop_setting", name)
        else:
            self._do("put_setting", name, canonical_json(value))

    def close(self) -> None:
        self._connections.close()

    @contextmanager
    def _transaction(self) -> Iterator[PostgresTransaction]:
        with self._connections.using() as connection, transaction(connection, self._sql, self.where) as tx:
            yield tx

    def _rows(self, name: str, *parameters: Any) -> list[TupleRow]:
        with self._connections.using() as connection:
            return run(connection, self._sql[name], parameters).fetchall()

    def _do(self, name: str, *parameters: Any) -> None:
        with self._connections.using() as connection:
            run(connection, self._sql[name], parameters)


def _statements(schema: str) -> Statements:
    """The statements with the schema's name in them, quoted: no setting of a session decides which tables they mean."""
    texts = {name: sql.SQL(text) for name, text in statements("postgres_queries.sql").items()}
    named: dict[str, sql.Composable] = {"schema": sql.Identifier(schema)}
    named.update((name, texts.pop(name).format(**named)) for name in _FRAGMENTS)
    return {name: text.format(**named).as_bytes(None) for name, text in texts.items()}
