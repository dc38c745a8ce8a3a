"""Records to and from rows of the SQLite tables, and filters to conditions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .arguments import canonical_json
from .operations import Commit, ThreadFilter
from .records import GraphRecord, Message, Origin, OwnerRecord, RunRecord, Status, ThreadRecord
from .retention_form import retention_of, retention_text
from .sealing import Encoded
from .transitions import highest_run

Cells = tuple[Any, ...]

THREAD_CELLS = 29
CHANGING_CELLS = 23
"""The first of a thread's cells: those that change (`update_thread`)."""


def thread_cells(row: ThreadRecord) -> Cells:
    return (
        row.thread_id,
        row.epoch,
        row.token,
        row.seq,
        row.head,
        row.inbox,
        str(row.status),
        row.reason,
        row.run,
        row.runs,
        row.owner,
        row.crashes,
        canonical_json(row.waits),
        row.updated_at,
        row.graph,
        row.version,
        row.graph_key,
        row.driver,
        row.wake_at,
        retention_text(row.retention),
        canonical_json(row.names),
        row.floor,
        row.tidied,
        row.origin.thread_id if row.origin else None,
        row.origin.seq if row.origin else None,
        canonical_json(row.metadata),
        canonical_json(row.tags),
        row.created_at,
        row.isolation,
    )


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
        waits=tuple(json.loads(cells[12])),
        updated_at=cells[13],
        graph=cells[14],
        version=cells[15],
        graph_key=cells[16],
        driver=cells[17],
        wake_at=cells[18],
        retention=retention_of(cells[19]),
        names=json.loads(cells[20]),
        floor=cells[21],
        tidied=cells[22],
        origin=Origin(thread_id=cells[23], seq=cells[24]) if cells[23] is not None else None,
        metadata=json.loads(cells[25]),
        tags=tuple(json.loads(cells[26])),
        created_at=cells[27],
        isolation=cells[28],
    )


def run_cells(run: RunRecord) -> Cells:
    """A run's cells after its thread's."""
    return (
        run.run,
        str(run.status),
        run.end,
        run.reason,
        run.error,
        canonical_json(run.metadata),
        run.created_at,
        run.ended_at,
    )


def run_of(thread_id: str, cells: Cells) -> RunRecord:
    return RunRecord(
        thread_id=thread_id,
        run=cells[0],
        status=Status(cells[1]),
        end=cells[2],
        reason=cells[3],
        error=cells[4],
        metadata=json.loads(cells[5]),
        created_at=cells[6],
        ended_at=cells[7],
    )


def message_cells(thread_id: str, message: Message) -> Cells:
    return (
        thread_id,
        message.number,
        message.message_id,
        message.kind,
        message.payload,
        message.run,
        message.created_at,
        message.applied,
        message.name,
    )


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


def owner_cells(lease: OwnerRecord) -> Cells:
    return lease.owner, lease.counter, lease.host, lease.pid, lease.started, canonical_json(lease.threads)


def owner_of(cells: Cells) -> OwnerRecord:
    threads = tuple((thread_id, epoch) for thread_id, epoch in json.loads(cells[5]))
    return OwnerRecord(owner=cells[0], counter=cells[1], host=cells[2], pid=cells[3], started=cells[4], threads=threads)


def graph_cells(graph: GraphRecord) -> Cells:
    return (
        graph.graph_key,
        graph.name,
        graph.version,
        graph.kind,
        graph.body,
        graph.signature,
        canonical_json(graph.paths),
    )


def graph_of(cells: Cells) -> GraphRecord:
    return GraphRecord(
        graph_key=cells[0],
        name=cells[1],
        version=cells[2],
        kind=cells[3],
        body=cells[4],
        signature=cells[5],
        paths=tuple(json.loads(cells[6])),
    )


def commit_cells(number: int, commit: Commit) -> Cells:
    """What `commit_threads` takes for one commit."""
    return (
        number,
        commit.epoch,
        commit.token,
        commit.first,
        commit.last,
        commit.head,
        commit.reason,
        commit.run,
        highest_run(commit),
        None if commit.waits is None else canonical_json(commit.waits),
        commit.release,
        commit.progress,
        commit.at or None,
    )


def step_cells(commit: Commit) -> Cells:
    """What `commit_step` takes."""
    return (
        commit.thread_id,
        commit.epoch,
        commit.token,
        commit.first,
        commit.last,
        commit.head,
        commit.progress,
        commit.at or None,
    )


def segment_cells(number: int, encoded: Encoded) -> Cells:
    """A commit's segment as `commit_segments` takes it; `number` is its thread's."""
    commit = encoded.commit
    return (number, commit.first, commit.last, commit.epoch, commit.commit_id, encoded.data)


def conditions(where: ThreadFilter, below: int | None, named: Mapping[str, str]) -> tuple[list[str], list[Any]]:
    """SQL conditions on `threads` and their parameters, all but the statuses'; `named` holds the statements by name."""
    clauses = ["number < ?"]
    parameters: list[Any] = [below if below is not None else 2**63 - 1]
    for clause, wanted in (
        ("graph = ?", where.graph),
        ("driver = ?", where.driver),
        ("owner = ?", where.owner),
        ("seq - tidied >= ?", where.untidied),
        ("updated_at < ?", where.updated_before),
        (named["where_tag"], where.tag),
    ):
        if wanted is not None:
            clauses.append(clause)
            parameters.append(wanted)
    for key, value in where.metadata.items():
        name, wanted_value = _metadata_condition(value)
        clauses.append(named[name])
        parameters.extend((key, wanted_value))
    return clauses, parameters


def _metadata_condition(value: Any) -> tuple[str, Any]:
    if value is None or isinstance(value, bool):
        return "where_constant", canonical_json(value)
    if isinstance(value, str):
        return "where_text", value
    if isinstance(value, (int, float)):
        return "where_number", value
    return "where_nested", canonical_json(value)


def newest_first(pages: Sequence[list[Cells]], limit: int) -> list[Cells]:
    """Several queries' rows as one listing; a row's number is its last cell."""
    return sorted((cells for page in pages for cells in page), key=lambda cells: -int(cells[-1]))[:limit]
