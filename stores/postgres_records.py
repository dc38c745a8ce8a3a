"""Records to and from what the Postgres statements take and give, and filters to their parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from .arguments import canonical_json
from .errors import StoreMisuse
from .operations import Claim, Commit, Fork, ThreadFilter
from .records import GraphRecord, Message, Origin, OwnerRecord, Retention, RunRecord, Status, ThreadRecord
from .sealing import Encoded
from .transitions import highest_run, run_after

Cells = tuple[Any, ...]

LARGEST_SEGMENT = (1 << 30) - (1 << 20)
"""Bytes; a statement of Postgres takes less than 1 GiB."""


def thread_input(row: ThreadRecord) -> str:
    """The parameter of the statements that write a whole row."""
    return _json(_thread_fields(row))


def creation_input(
    rows: Sequence[ThreadRecord], messages: Sequence[tuple[str, Message]], runs: Sequence[RunRecord]
) -> tuple[str, str, bytes, str]:
    """The parameters of `create_threads`; messages with their thread's id."""
    blob = _Blob()
    sent = [{**_message_fields(thread_id, message), **blob.add(message.payload)} for thread_id, message in messages]
    allotted = [{"thread_id": run.thread_id, **_run_fields(run), "metadata": _raw(run.metadata)} for run in runs]
    return _json(list(map(_thread_fields, rows))), _json(sent), blob.whole(), _json(allotted)


def claims_input(claims: Sequence[Claim]) -> str:
    """The parameter of `take_threads`."""
    return _json(
        [
            {
                "claimed": claim.thread_id,
                "seen": claim.epoch,
                "new_token": claim.token,
                "new_owner": claim.owner,
                "crashed": claim.crashed,
                "at": claim.at or None,
            }
            for claim in claims
        ]
    )


def _thread_fields(row: ThreadRecord) -> dict[str, Any]:
    return {
        "thread_id": row.thread_id,
        "epoch": row.epoch,
        "token": row.token,
        "seq": row.seq,
        "head": row.head,
        "inbox": row.inbox,
        "status": str(row.status),
        "reason": row.reason,
        "run": row.run,
        "runs": row.runs,
        "owner": row.owner,
        "crashes": row.crashes,
        "waits": row.waits,
        "updated_at": row.updated_at,
        "graph": row.graph,
        "version": row.version,
        "graph_key": row.graph_key,
        "driver": row.driver,
        "wake_at": row.wake_at,
        "retention": row.retention,
        "names": dict(row.names),
        "floor": row.floor,
        "tidied": row.tidied,
        "origin_thread": row.origin.thread_id if row.origin else None,
        "origin_seq": row.origin.seq if row.origin else None,
        "metadata": _raw(row.metadata),
        "tags": row.tags,
        "created_at": row.created_at,
        "isolation": row.isolation,
    }


def thread_of(cells: Cells) -> ThreadRecord:
    return ThreadRecord(
        thread_id=cells[0],
        epoch=cells[1],
        token=cells[2],
        seq=cells[3],
        head=cells[4],
        inbox=cells[5],
        status=Status(cells[6]),
        reason=cells[7],
        run=cells[8],
        runs=cells[9],
        owner=cells[10],
        crashes=cells[11],
        waits=tuple(cells[12]),
        updated_at=cells[13],
        graph=cells[14],
        version=cells[15],
        graph_key=cells[16],
        driver=cells[17],
        wake_at=cells[18],
        retention=None if cells[19] is None else msgspec.convert(cells[19], Retention),
        names=cells[20],
        floor=cells[21],
        tidied=cells[22],
        origin=Origin(thread_id=cells[23], seq=cells[24]) if cells[23] is not None else None,
        metadata=cells[25],
        tags=tuple(cells[26]),
        created_at=cells[27],
        isolation=cells[28],
    )


def commit_input(group: Sequence[Encoded]) -> tuple[str, bytes]:
    """The parameters of `commit`: what the commits say, and all of their bytes in one piece."""
    entries: list[dict[str, Any]] = []
    blob = _Blob()
    for commit, data in group:
        if len(data) > LARGEST_SEGMENT:
            raise StoreMisuse(
                f"thread {commit.thread_id!r}: one commit holds {len(data)} bytes, more than the {LARGEST_SEGMENT} "
                "that Postgres takes; keep data of this size in files or object storage and its address in the state"
            )
        entry: dict[str, Any] = {
            "thread_id": commit.thread_id,
            "epoch": commit.epoch,
            "token": commit.token,
            "first": commit.first,
            "last": commit.last,
            "commit_id": commit.commit_id,
            **blob.add(data),
            "head": commit.head,
            "status": commit.status,
            "reason": commit.reason,
            "run": commit.run,
            "highest": highest_run(commit),
            "waits": commit.waits,
            "wake_at": commit.wake_at,
            "expect_inbox": commit.expect_inbox,
            "release": commit.release,
            "progress": commit.progress,
            "at": commit.at or None,
        }
        if commit.applied:
            entry["applied"], entry["applied_by"] = zip(*commit.applied, strict=True)
        if commit.runs:
            # A run that began and ended in one commit is told twice, and a statement changes a row once.
            last = {update.run: update for update in commit.runs}
            runs = (run_after(None, commit.thread_id, update, commit.at) for update in last.values())
            entry["ends"] = [{**_run_fields(run), **blob.add(run.error)} for run in runs]
        entries.append(entry)
    return _json(entries), blob.whole()


def step_cells(commit: Commit, data: bytes) -> Cells:
    """The parameters of `commit_step`."""
    return (
        commit.thread_id,
        commit.epoch,
        commit.token,
        commit.first,
        commit.last,
        commit.head,
        commit.progress,
        commit.at or None,
        commit.commit_id,
        data,
    )


class _Blob:
    """Many pieces of bytes as one parameter."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, part: bytes) -> dict[str, int]:
        """Where `substring` finds the part."""
        place = {"start": self._size + 1, "size": len(part)}
        self._parts.append(part)
        self._size += len(part)
        return place

    def whole(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


def run_input(run: RunRecord) -> tuple[str, bytes]:
    """The parameters of `insert_run`."""
    return _json({"thread_id": run.thread_id, **_run_fields(run), "metadata": _raw(run.metadata)}), run.error


def _run_fields(run: RunRecord) -> dict[str, Any]:
    return {
        "run": run.run,
        "status": str(run.status),
        "end": run.end,
        "reason": run.reason,
        "created_at": run.created_at,
        "ended_at": run.ended_at,
    }


def run_of(thread_id: str, cells: Cells) -> RunRecord:
    return RunRecord(
        thread_id=thread_id,
        run=cells[0],
        status=Status(cells[1]),
        end=cells[2],
        reason=cells[3],
        error=cells[4],
        metadata=cells[5],
        created_at=cells[6],
        ended_at=cells[7],
    )


def message_input(thread_id: str, message: Message) -> tuple[str, bytes]:
    """The parameters of `insert_message`."""
    return _json(_message_fields(thread_id, message)), message.payload


def _message_fields(thread_id: str, message: Message) -> dict[str, Any]:
    return {
        "thread_id": thread_id,
        "number": message.number,
        "message_id": message.message_id,
        "kind": message.kind,
        "name": message.name,
        "run": message.run,
        "created_at": message.created_at,
        "applied": message.applied,
    }


def message_of(cells: Cells) -> Message:
    return Message(
        message_id=cells[0],
        kind=cells[1],
        payload=cells[2],
        number=cells[3],
        run=cells[4],
        created_at=cells[5],
        applied=cells[6],
        name=cells[7],
    )


def fork_of(cells: Cells) -> Fork:
    return Fork(thread_id=cells[0], seq=cells[1])


def owner_cells(lease: OwnerRecord) -> Cells:
    return lease.owner, lease.counter, lease.host, lease.pid, lease.started, canonical_json(lease.threads)


def owner_of(cells: Cells) -> OwnerRecord:
    threads = tuple((thread_id, epoch) for thread_id, epoch in cells[5])
    return OwnerRecord(owner=cells[0], counter=cells[1], host=cells[2], pid=cells[3], started=cells[4], threads=threads)


def graph_cells(graph: GraphRecord) -> Cells:
    return (
        graph.graph_key,
        graph.name,
        graph.version,
        graph.kind,
        graph.body,
        graph.signature,
        list(graph.paths),
    )


def graph_of(cells: Cells) -> GraphRecord:
    return GraphRecord(
        graph_key=cells[0],
        name=cells[1],
        version=cells[2],
        kind=cells[3],
        body=cells[4],
        signature=cells[5],
        paths=tuple(cells[6]),
    )


def filter_cells(where: ThreadFilter, below: int | None) -> list[Any]:
    """The first nine parameters of the listings: all conditions but the statuses'."""
    asked = {key: _texts(value) for key, value in where.metadata.items()}
    # The index compares numbers as decimals; a number that Postgres could have under two of them is left to the rest.
    indexed = {
        key: msgspec.Raw(texts[0].encode()) for key, texts in asked.items() if len(set(map(_decimal, texts))) == 1
    }
    return [
        2**63 - 1 if below is None else below,
        where.graph,
        where.driver,
        where.owner,
        where.tag,
        where.untidied,
        where.updated_before,
        _json(indexed) if indexed else None,
        _json(asked) if asked else None,
    ]


def _texts(value: Any) -> list[str]:
    """The JSON texts of the values that equal this one: a number may be kept as an integer or as a float."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        texts = {json.dumps(value)}
        if value == int(value):
            texts.add(json.dumps(int(value)))
        if _as_float(value) == value:
            texts.add(json.dumps(_as_float(value)))
            # The one number that floats have twice.
            texts |= {"0.0", "-0.0"} if value == 0 else set()
        return sorted(texts)
    return [canonical_json(value)]


def _as_float(value: float) -> float:
    return float(value)


def _decimal(text: str) -> Decimal | str:
    return Decimal(text) if text[0] in "-0123456789" else text


def _raw(value: Mapping[str, Any]) -> msgspec.Raw:
    """The mapping as the one text by which it is kept and compared."""
    return msgspec.Raw(canonical_json(value).encode())


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
