"""The store in a Redis server or a Redis Cluster: any number of processes of any machines.

Each call that changes a thread is one script, which compares first and then writes: nothing comes between, and nothing
is written by halves. See `redis_keys` for what is where, `lua` for the scripts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .addresses import Address
from .arguments import canonical_json, check_id, check_listing
from .base import CommitResult
from .errors import (
    Fenced,
    InboxChanged,
    NewerFormat,
    StoreMissing,
    ThreadExists,
    UnknownThread,
)
from .lua import scripts
from .operations import Commit, Committed, Delivery, Expect, ThreadFilter, ThreadPage
from .records import RUN_KINDS, SIGNAL, GraphRecord, Message, OwnerRecord, RunRecord, ThreadRecord, signal_wait
from .redis_connections import Connections
from .redis_forks import UNHELD, Forks
from .redis_keys import LAYOUT, Keys, layout_key
from .redis_listing import Listing
from .redis_options import RedisOptions
from .redis_records import (
    Arg,
    body_of,
    call_id,
    commit_args,
    countable,
    flat,
    graph_of,
    lease_args,
    lease_of,
    made_of,
    messages_of,
    packed_graph,
    reading,
    row_fields,
    runs_of,
    segment_of,
)
from .redis_safety import check_servers
from .redis_upkeep import RedisUpkeep
from .sealing import Encoded, StoredSegment
from .transitions import check_expectation, claimed, delivered
from .vault import PlainVault, Vault

_BYTES_AT_ONCE = 8 << 20
"""Of segments in one answer, but for the last one: a server does nothing else while it copies them."""
_READS = 5
"""How often segments are read again from the newest because somebody rewrote them meanwhile."""


class RedisStore(RedisUpkeep):
    """`redis://`, `rediss://` (TLS), `redis+cluster://`, `rediss+cluster://`, `unix:///path.sock?db=0`."""

    def __init__(
        self, url: str, *, options: RedisOptions | None = None, vault: Vault | None = None, create: bool = True
    ) -> None:
        """Open the store, or create it. Raises `StoreMisuse` for a URL that is none, a server that refuses the user or
        could lose acknowledged commits, `StoreMissing` where there is no store and `create` is False, `NewerFormat`,
        `StoreUnavailable`."""
        address = Address.of(url, options)
        chosen = address.options if isinstance(address.options, RedisOptions) else RedisOptions()
        self.url = address.full
        self.where = address.where
        self.options = chosen
        self.vault = vault or PlainVault()
        self._ttl = round(chosen.ttl.total_seconds() * 1000) if chosen.ttl else 0
        self._connections = Connections(address.url, self.where, chosen, scripts())
        try:
            check_servers(self._connections, self.where, chosen)
            self._keys = Keys(chosen.prefix, self._opened(chosen, create))
        except BaseException:
            self._connections.close()
            raise
        self._forks = Forks(self._connections, self._keys, self.where, self._ttl)
        self._listing = Listing(self._connections, self._keys, self.where)

    def close(self) -> None:
        self._connections.close()

    # -- running threads -------------------------------------------------------------------------------------------

    def _create(self, thread: ThreadRecord, message: Message | None) -> Delivery:
        # Who is there already needs no origin any more.
        answer = self._insert(thread, message, "" if thread.origin is None else UNHELD)
        if answer is not None:
            return answer[0]
        return self._forks.forked(thread, lambda row, token: self._insert(row, message, token))

    def _insert(self, thread: ThreadRecord, message: Message | None, token: str) -> tuple[Delivery, bool] | None:
        kept, run, message_args = None, None, list[Arg]()
        row = thread
        if message is not None:
            row, kept, run = delivered(thread, message, None)
            record = made_of(run) if run else b""
            message_args = [kept.number, kept.run, body_of(kept), len(kept.payload), record]
        others = [self._tombstone(row, token)] if token not in {"", UNHELD} else []
        verdict, *rest = self._connections.ask(
            self._connections.script(
                "create",
                self._keys.thread(row.thread_id, *others),
                self._ttl,
                row.thread_id,
                message.message_id if message else "",
                token,
                call_id(),
                *flat(row_fields(row)),
                *message_args,
            ),
            writes=True,
        )
        if verdict == b"void":
            return None
        if verdict == b"exists":
            raise ThreadExists(row.thread_id)
        present = self._row(rest[-1])
        if verdict == b"repeated":
            return Delivery(number=int(rest[0]), run=int(rest[1]), thread=present, repeated=True), False
        number, for_run = (kept.number, kept.run) if kept else (row.inbox, row.run)
        return Delivery(number=number, run=for_run, thread=present), True

    def _claim(self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool, at: float) -> ThreadRecord:
        countable(f"thread {thread_id!r}", epoch)
        verdict, *rest = self._change(
            "claim", thread_id, epoch, epoch + 1, token, owner, int(crashed), repr(at) if at else ""
        )
        if verdict == b"unknown":
            raise UnknownThread(thread_id, self.where)
        row = self._row(rest[0])
        if verdict == b"lost":
            claimed(row, epoch=epoch, token=token, owner=owner, crashed=crashed, at=at)
            raise self._disagreement("claim", thread_id)
        return row

    def _commit(self, group: Sequence[Encoded]) -> list[CommitResult]:
        calls = [
            self._script("commit", each.commit.thread_id, self._ttl, *commit_args(each.commit, each.data))
            for each in group
        ]
        answers = self._connections.run(calls, writes=True)
        return [_result(each.commit, answer) for each, answer in zip(group, answers, strict=True)]

    def _deliver(self, thread_id: str, message: Message, expect: Expect, graph: GraphRecord | None) -> Delivery:
        starts = message.kind in RUN_KINDS
        record = made_of(RunRecord(thread_id=thread_id, run=0, created_at=message.created_at)) if starts else b""
        verdict, *rest = self._change(
            "deliver",
            thread_id,
            self._ttl,
            message.message_id,
            body_of(message),
            len(message.payload),
            message.run,
            int(starts),
            record,
            int(message.kind not in {"cancel", SIGNAL}),
            signal_wait(message.name) if message.kind == SIGNAL else "",
            int(message.kind == "resume"),
            repr(message.created_at) if message.created_at else "",
            f",{','.join(sorted(expect.statuses))},",
            expect.wait,
            expect.run,
            expect.head,
            *flat([("version", graph.version), ("graph_key", graph.graph_key)] if graph is not None else []),
        )
        if verdict == b"unknown":
            raise UnknownThread(thread_id, self.where)
        row = self._row(rest[-1])
        if verdict == b"refused":
            check_expectation(row, message, expect)
            raise self._disagreement("deliver", thread_id)
        return Delivery(number=int(rest[0]), run=int(rest[1]), thread=row, repeated=verdict == b"repeated")

    def _delete(self, thread_id: str, seen: ThreadRecord | None) -> None:
        self._forks.delete(thread_id, seen)

    def _renew(self, lease: OwnerRecord) -> None:
        call = self._connections.script("renew", [self._keys.owners], *lease_args(lease))
        self._connections.ask(call, writes=True)

    def owners(self) -> tuple[OwnerRecord, ...]:
        kept = self._connections.ask(self._connections.plain("HGETALL", self._keys.owners))
        return tuple(lease_of(owner, kept[owner], self.where) for owner in sorted(kept))

    def forget(self, owner: str) -> None:
        self._connections.ask(self._connections.plain("HDEL", self._keys.owners, owner), writes=True)

    # -- reading ---------------------------------------------------------------------------------------------------

    def _read_thread(self, thread_id: str) -> ThreadRecord:
        check_id("thread id", thread_id)
        found = self._found(thread_id)
        if found is None:
            raise UnknownThread(thread_id, self.where)
        return found

    def _list_threads(self, where: ThreadFilter, limit: int, cursor: str | None) -> ThreadPage:
        below = check_listing(where, limit, cursor)
        records, last = self._listing.page(where, limit, below)
        return ThreadPage(threads=tuple(records), cursor=None if last is None else str(last))

    def _due(self, before: float, limit: int) -> Sequence[ThreadRecord]:
        return self._listing.due(before, limit)

    def _runs(self, thread_id: str) -> Sequence[RunRecord]:
        answer = self._connections.ask(self._script("runs", thread_id))
        if not answer:
            raise UnknownThread(thread_id, self.where)
        return runs_of(thread_id, answer[0], self.where)

    def _messages(self, thread_id: str, unread: bool) -> Sequence[Message]:
        cells = self._connections.ask(self._script("messages", thread_id, int(unread)))
        return messages_of(thread_id, cells, self.where)

    def _segments(self, thread_id: str, first: int, last: int | None, limit: int | None) -> list[StoredSegment]:
        for left in reversed(range(_READS)):
            # The last time all at once, whatever it takes.
            found = self._read_segments(thread_id, first, last, limit, _BYTES_AT_ONCE if left else 2**40)
            if found is not None:
                return found
        raise AssertionError("one answer does not overlap itself")

    def _read_segments(
        self, thread_id: str, first: int, last: int | None, limit: int | None, budget: int
    ) -> list[StoredSegment] | None:
        """Piece by piece; None if somebody rewrote segments across the border of two pieces."""
        found: list[StoredSegment] = []
        while True:
            end = found[-1].first - 1 if found else last
            most = -1 if limit is None else limit - len(found)
            *cells, more = self._connections.ask(
                self._script("segments", thread_id, first, "+inf" if end is None else end, most, budget)
            )
            pairs = zip(cells[::2], cells[1::2], strict=True)
            part = [segment_of(thread_id, entry, data, self.where) for entry, data in pairs]
            if found and part and part[0].last >= found[-1].first:
                return None
            found += part
            if more == b"0":
                return found

    # -- graphs and settings ---------------------------------------------------------------------------------------

    def _put_graph(self, graph: GraphRecord) -> None:
        call = self._connections.plain("HSETNX", self._keys.graphs, graph.graph_key, packed_graph(graph))
        self._connections.ask(call, writes=True)

    def _graph(self, graph_key: str) -> GraphRecord | None:
        packed = self._connections.ask(self._connections.plain("HGET", self._keys.graphs, graph_key))
        return None if packed is None else graph_of(graph_key, packed, self.where)

    def graph_keys(self) -> tuple[str, ...]:
        kept = self._connections.ask(self._connections.plain("HKEYS", self._keys.graphs))
        return tuple(sorted(key.decode() for key in kept))

    def setting(self, name: str) -> Any:
        kept = self._connections.ask(self._connections.plain("HGET", self._keys.settings, name))
        with reading(f"setting {name!r}", self.where):
            return None if kept is None else json.loads(kept)

    def _put_setting(self, name: str, value: Any) -> None:
        command = ("HDEL",) if value is None else ("HSET",)
        values = () if value is None else (canonical_json(value),)
        self._connections.ask(self._connections.plain(*command, self._keys.settings, name, *values), writes=True)

    def _opened(self, options: RedisOptions, create: bool) -> int:
        """The store's number of partitions."""
        call = self._connections.script("open", [layout_key(options.prefix)], LAYOUT, options.partitions, int(create))
        found = self._connections.ask(call, writes=create)
        if not found:
            raise StoreMissing(
                f"there is no store with the prefix {options.prefix!r} in {self.where}; check the URL and the prefix, "
                "or open it without create=False"
            )
        with reading("the layout", self.where):
            layout, partitions = map(int, found)
        if layout > LAYOUT:
            raise NewerFormat(
                f"{self.where} has layout {layout}, this Perdure knows up to {LAYOUT}; upgrade perdure to open it"
            )
        return partitions


def _result(commit: Commit, answer: Sequence[bytes]) -> CommitResult:
    verdict, number = answer[0], int(answer[1])
    if verdict == b"fenced":
        return Fenced(commit.thread_id, commit.epoch, number)
    if verdict == b"inbox":
        return InboxChanged(commit.thread_id, commit.expect_inbox or 0, number)
    return Committed(seq=commit.last, inbox=number, repeated=verdict == b"repeated")
