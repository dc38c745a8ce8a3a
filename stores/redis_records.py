"""Records to and from what Redis keeps: rows as hashes of text, the others as msgpack."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import msgspec

from .arguments import canonical_json
from .errors import Corrupt, StoreMisuse
from .operations import Commit, ThreadFilter
from .records import ISOLATED, GraphRecord, Message, Origin, OwnerRecord, RunRecord, Status, ThreadRecord
from .retention_form import retention_of, retention_text
from .sealing import StoredSegment
from .transitions import highest_run, run_after

Arg = str | bytes | int

LARGEST = 2**53
"""Up to here Lua and sorted sets count exactly."""

LARGEST_STRING = (512 << 20) - 1024
"""Bytes of a value (`proto-max-bulk-len`), with some room for what is packed with it."""

_pack = msgspec.msgpack.Encoder().encode
_ROW = msgspec.msgpack.Decoder(list[str])
_BODY = msgspec.msgpack.Decoder(tuple[str, str, str, bytes, float])
_MADE = msgspec.msgpack.Decoder(tuple[float, str])
_NOW = msgspec.msgpack.Decoder(tuple[str, int, str, bytes, float])
_GRAPH = msgspec.msgpack.Decoder(tuple[str, str, str, bytes, bytes, tuple[str, ...]])


@contextmanager
def reading(what: str, where: str) -> Iterator[None]:
    """Whatever does not decode is `Corrupt`, naming the record."""
    try:
        yield
    except (msgspec.MsgspecError, ValueError, KeyError, IndexError, TypeError) as error:
        raise Corrupt(f"{what} in {where} does not decode ({error}); restore it from a backup") from error


def countable(what: str, *numbers: int | None) -> None:
    """Raise `StoreMisuse` for a number that Redis could not count on from."""
    for number in numbers:
        if number is not None and not -LARGEST <= number < LARGEST:
            raise StoreMisuse(f"{what}: the number {number} is too large for a Redis store, which counts to 2**53")


def check_size(what: str, data: bytes) -> None:
    """Raise `StoreMisuse` for what Redis would answer by closing the connection, which looks like an outage."""
    if len(data) > LARGEST_STRING:
        raise StoreMisuse(
            f"{what}: {len(data)} bytes are more than the {LARGEST_STRING} that Redis takes at once; keep data of this "
            "size in files or object storage and its address in the state"
        )


def call_id() -> str:
    """By which a script knows the second copy of a call that the driver sent twice."""
    return os.urandom(8).hex()


def flat(pairs: Sequence[tuple[str, Arg]]) -> list[Arg]:
    """Pairs as scripts take them: how many, then one after the other."""
    return [len(pairs), *(part for pair in pairs for part in pair)]


def row_fields(row: ThreadRecord) -> list[tuple[str, Arg]]:
    """A whole row, all but what only the store knows."""
    numbers = (row.run, row.runs, row.epoch, row.seq, row.head, row.inbox, row.crashes, row.floor, row.tidied)
    countable(f"thread {row.thread_id!r}", *numbers, *row.names.values())
    return [
        ("thread", row.thread_id),
        ("graph", row.graph),
        ("version", row.version),
        ("graph_key", row.graph_key),
        ("driver", row.driver),
        ("isolation", row.isolation),
        ("status", str(row.status)),
        ("reason", row.reason),
        ("run", row.run),
        ("runs", row.runs),
        ("epoch", row.epoch),
        ("token", row.token),
        ("owner", row.owner),
        ("seq", row.seq),
        ("head", row.head),
        ("inbox", row.inbox),
        ("crashes", row.crashes),
        ("waits", canonical_json(row.waits)),
        ("wake_at", repr(row.wake_at)),
        ("origin_thread", row.origin.thread_id if row.origin else ""),
        ("origin_seq", row.origin.seq if row.origin else 0),
        ("metadata", canonical_json(row.metadata)),
        ("tags", canonical_json(row.tags)),
        ("retention", retention_text(row.retention) or ""),
        ("floor", row.floor),
        ("tidied", row.tidied),
        ("created_at", repr(row.created_at)),
        ("updated_at", repr(row.updated_at)),
        *((f"name:{name}", seq) for name, seq in row.names.items()),
    ]


class Found:
    """A thread's row with its number, by which listings go."""

    __slots__ = ("number", "record")

    def __init__(self, packed: bytes, where: str) -> None:
        with reading("a thread's row", where):
            cells = _ROW.decode(packed)
            fields = dict(zip(cells[::2], cells[1::2], strict=True))
        with reading(f"the row of thread {fields.get('thread', '')!r}", where):
            self.number = int(fields["number"])
            self.record = _thread_of(fields)


def _thread_of(fields: dict[str, str]) -> ThreadRecord:
    origin = fields["origin_thread"]
    return ThreadRecord(
        thread_id=fields["thread"],
        graph=fields["graph"],
        version=fields["version"],
        graph_key=fields["graph_key"],
        driver=fields["driver"],
        isolation=fields.get("isolation", ISOLATED),  # not in rows of before there was a choice
        status=Status(fields["status"]),
        reason=fields["reason"],
        run=int(fields["run"]),
        runs=int(fields["runs"]),
        epoch=int(fields["epoch"]),
        token=fields["token"],
        owner=fields["owner"],
        seq=int(fields["seq"]),
        head=int(fields["head"]),
        inbox=int(fields["inbox"]),
        crashes=int(fields["crashes"]),
        waits=tuple(json.loads(fields["waits"])),
        wake_at=float(fields["wake_at"]),
        origin=Origin(thread_id=origin, seq=int(fields["origin_seq"])) if origin else None,
        metadata=json.loads(fields["metadata"]),
        tags=tuple(json.loads(fields["tags"])),
        retention=retention_of(fields["retention"] or None),
        names={field[5:]: int(seq) for field, seq in fields.items() if field.startswith("name:")},
        floor=int(fields["floor"]),
        tidied=int(fields["tidied"]),
        created_at=float(fields["created_at"]),
        updated_at=float(fields["updated_at"]),
    )


# -- messages and runs -----------------------------------------------------------------------------------------------


def body_of(message: Message) -> bytes:
    """What of a message never changes."""
    check_size(f"message {message.message_id!r}", message.payload)
    return _pack((message.message_id, message.kind, message.name, message.payload, float(message.created_at)))


def messages_of(thread_id: str, cells: Sequence[bytes], where: str) -> list[Message]:
    """Messages from (number, run, applied, body), flat."""
    found = []
    for at in range(0, len(cells), 4):
        with reading(f"message {cells[at].decode(errors='replace')} of thread {thread_id!r}", where):
            message_id, kind, name, payload, created_at = _BODY.decode(cells[at + 3])
            found.append(
                Message(
                    message_id=message_id,
                    kind=kind,
                    name=name,
                    payload=payload,
                    number=int(cells[at]),
                    run=int(cells[at + 1]),
                    created_at=created_at,
                    applied=int(cells[at + 2]),
                )
            )
    return found


def made_of(run: RunRecord) -> bytes:
    """What of a run never changes."""
    return _pack((float(run.created_at), canonical_json(run.metadata)))


def now_of(run: RunRecord) -> bytes:
    """What of a run changes."""
    return _pack((str(run.status), run.end, run.reason, run.error, float(run.ended_at)))


def runs_of(thread_id: str, cells: Sequence[bytes], where: str) -> list[RunRecord]:
    """Runs in order, from the hash that keeps them, flat."""
    fields = dict(zip(cells[::2], cells[1::2], strict=True))
    found = []
    with reading(f"the runs of thread {thread_id!r}", where):
        numbers = sorted(int(field.removesuffix(b":made")) for field in fields if field.endswith(b":made"))
        for run in numbers:
            created_at, metadata = _MADE.decode(fields[b"%d:made" % run])
            record = RunRecord(thread_id=thread_id, run=run, created_at=created_at, metadata=json.loads(metadata))
            now = fields.get(b"%d:now" % run)
            found.append(record if now is None else _with_now(record, now))
    return found


def _with_now(run: RunRecord, now: bytes) -> RunRecord:
    status, end, reason, error, ended_at = _NOW.decode(now)
    return replace(run, status=Status(status), end=end, reason=reason, error=error, ended_at=ended_at)


# -- commits and segments --------------------------------------------------------------------------------------------


def commit_args(commit: Commit, data: bytes) -> list[Arg]:
    """What the script `commit` takes after the time to live."""
    countable(f"thread {commit.thread_id!r}", commit.last, commit.head, highest_run(commit))
    changed: tuple[tuple[str, Arg | None], ...] = (
        ("seq", commit.last),
        ("head", commit.head),
        ("status", None if commit.status is None else str(commit.status)),
        ("reason", commit.reason),
        ("run", commit.run),
        ("waits", None if commit.waits is None else canonical_json(commit.waits)),
        ("wake_at", None if commit.wake_at is None else repr(commit.wake_at)),
        ("token", "" if commit.release else None),
        ("owner", "" if commit.release else None),
        ("crashes", 0 if commit.progress else None),
        ("updated_at", repr(commit.at) if commit.at else None),
    )
    runs = [run_after(None, commit.thread_id, update, commit.at) for update in commit.runs]
    return [
        commit.epoch,
        commit.token,
        commit.commit_id,
        commit.first,
        commit.first - 1,
        "" if commit.expect_inbox is None else commit.expect_inbox,
        highest_run(commit),
        "" if commit.status is None else str(commit.status),
        "" if commit.wake_at is None else repr(commit.wake_at),
        *entry_and_data(StoredSegment(commit.first, commit.last, commit.epoch, commit.commit_id, data)),
        *flat([(field, value) for field, value in changed if value is not None]),
        len(runs),
        *(part for run in runs for part in (run.run, made_of(run), now_of(run))),
        len(commit.applied),
        *(part for each in commit.applied for part in each),
    ]


def entry_and_data(segment: StoredSegment) -> tuple[str, bytes]:
    """A segment as it is kept: its entry in the index, and its bytes."""
    check_size(f"commits {segment.first}..{segment.last} (commit id {segment.commit_id})", segment.data)
    return f"{segment.first}:{segment.last}:{segment.epoch}:{segment.commit_id}", segment.data


def segment_of(thread_id: str, entry: bytes, data: bytes, where: str) -> StoredSegment:
    with reading(f"a segment of thread {thread_id!r}", where):
        first, last, epoch, commit_id = entry.decode().split(":", 3)
        return StoredSegment(int(first), int(last), int(epoch), commit_id, data)


# -- graphs, leases, filters -----------------------------------------------------------------------------------------


def packed_graph(graph: GraphRecord) -> bytes:
    return _pack((graph.name, graph.version, graph.kind, graph.body, graph.signature, graph.paths))


def graph_of(graph_key: str, packed: bytes, where: str) -> GraphRecord:
    with reading(f"graph {graph_key!r}", where):
        name, version, kind, body, signature, paths = _GRAPH.decode(packed)
    return GraphRecord(
        graph_key=graph_key, name=name, version=version, kind=kind, body=body, signature=signature, paths=paths
    )


def lease_args(lease: OwnerRecord) -> list[Arg]:
    """What the script `renew` takes."""
    countable(f"owner {lease.owner!r}", lease.counter)
    process = canonical_json([lease.host, lease.pid, lease.started])
    return [lease.owner, process, lease.counter, canonical_json(lease.threads)]


def lease_of(owner: bytes, kept: bytes, where: str) -> OwnerRecord:
    with reading(f"the lease of owner {owner.decode(errors='replace')!r}", where):
        head, threads = kept.decode().split("\n", 1)
        counter, process = head.split(" ", 1)
        host, pid, started = json.loads(process)
        return OwnerRecord(
            owner=owner.decode(),
            counter=int(counter),
            host=host,
            pid=pid,
            started=started,
            threads=tuple((thread_id, epoch) for thread_id, epoch in json.loads(threads)),
        )


def row_conditions(where: ThreadFilter) -> list[Arg]:
    """What the script `rows` compares: all of a filter but tag and metadata."""
    statuses = "" if where.statuses is None else f",{','.join(sorted(where.statuses))},"
    return [
        statuses,
        *("" if wanted is None else f"={wanted}" for wanted in (where.graph, where.driver, where.owner)),
        "" if where.updated_before is None else repr(float(where.updated_before)),
        "" if where.untidied is None else where.untidied,
    ]


def no_conditions() -> list[Arg]:
    return row_conditions(ThreadFilter())
