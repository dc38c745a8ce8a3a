"""What the rows of a LangGraph thread hold.

A put is one commit: a CHECKPOINT row and the new values of channels. A put_writes is one commit of one RESULT row. The
control record of a checkpoint begins with the fields of the runtime's own, so that whatever walks a thread's history by
its manifests walks these threads too.

Writes belong to a checkpoint by its id, since LangGraph saves in the background: a task's writes may come before the
checkpoint that they belong to, and after the next one. Three rules find them again without an index:

- those that came before their checkpoint: it says from where on (`writes_from`);
- those that came while it was the newest, or at most `SLACK` commits after the next one: they lie there;
- those that came later still (somebody went back to it): each refers to the one before (`link`), the thread's last
  commit to the last (`Tail.late`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from ..stores.errors import Corrupt, NewerFormat
from ..stores.segments import Kind, Row

FORMAT = 1
ENCODING = 140
"""`Row.encoding` of a `Writes` record: none of the codec's."""
SLACK = 16
"""Commits after the next checkpoint within which a straggler counts as punctual. LangGraph saves with a few threads."""
MOST_EARLY = 64
"""Ids of checkpoints that are not there yet of which writes are remembered. A run puts its checkpoints in order: an id
that so many others overtook belongs to a run that died before it put it."""


class Tail(msgspec.Struct, frozen=True, array_like=True):
    """What the next writer has to know of all commits up to this one."""

    newest: int = 0
    """Seq of the last checkpoint put; 0 before the first."""
    before: int = 0
    """Seq of the one put before that."""
    late: int = 0
    """Seq of the last commit with a `link`."""
    ordered: bool = True
    """Each checkpoint had a higher id than all before it: they can be searched."""
    early: dict[str, int] = {}
    """Checkpoints not put yet: id to the seq of their first writes."""


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """A value: how it is encoded, and its bytes (see `values`)."""

    encoding: int
    payload: bytes


class CheckpointRecord(msgspec.Struct, frozen=True, array_like=True):
    """One checkpoint."""

    format: int
    step: int
    since: int
    run: int
    source: str
    parent: int
    """Seq of the checkpoint that it came from; 0 for none, or one that is gone."""
    at: float
    version: str
    next: tuple[Any, ...]
    joins: dict[str, Any]
    manifest: dict[str, int]
    """For each channel that has a value: the seq at which it got it."""
    done: tuple[Any, ...]
    branch: int
    born: int | None
    lag: int
    measures: dict[str, Any]
    # Up to here the fields of the runtime's control records; the rest is LangGraph's.
    id: str
    parent_id: str
    """LangGraph's id of the checkpoint that it came from; empty for none."""
    writes_from: int
    """Seq from which on writes for it were committed; its own if none came early."""
    hidden: bool
    """Pruned or deleted, but younger checkpoints rebuild delta channels from what was written to it."""
    tail: Tail
    checkpoint: Packed
    """All of LangGraph's checkpoint but the values."""
    metadata: Packed


class Write(msgspec.Struct, frozen=True, array_like=True):
    """One write of a task."""

    index: int
    """Its place among the task's writes; negative for special channels, of which a later write replaces an earlier."""
    channel: str
    value: Packed


class Writes(msgspec.Struct, frozen=True, array_like=True):
    """What one put_writes kept; without an id, a mark that only carries the tail on."""

    format: int
    checkpoint_id: str
    task_id: str
    task_path: str
    link: int
    """For a latecomer: seq of the one before it in the thread (0 for the first); -1 for all others."""
    tail: Tail
    writes: tuple[Write, ...]


Record = TypeVar("Record", CheckpointRecord, Writes)

_ENCODER = msgspec.msgpack.Encoder()
_FORMAT: msgspec.msgpack.Decoder[list[Any]] = msgspec.msgpack.Decoder(list[Any])


def checkpoint_row(seq: int, record: CheckpointRecord) -> Row:
    """The CHECKPOINT row of commit `seq`."""
    return Row(Kind.CHECKPOINT, seq, "", seq, record.parent, "", 0, _ENCODER.encode(record))


def writes_row(seq: int, belongs: int, record: Writes) -> Row:
    """The RESULT row of commit `seq`, whose writes belong to the checkpoint at `belongs` (0 if it is not there yet)."""
    return Row(Kind.RESULT, seq, record.task_path, belongs, 0, record.task_id, ENCODING, _ENCODER.encode(record))


def read_checkpoint(thread_id: str, row: Row) -> CheckpointRecord:
    """The record of a CHECKPOINT row. Raises `Corrupt`, `NewerFormat`."""
    return _read(CheckpointRecord, f"thread {thread_id!r}, checkpoint {row.checkpoint}", row.payload)


def read_writes(thread_id: str, row: Row) -> Writes:
    """The record of a RESULT row. Raises `Corrupt`, `NewerFormat`."""
    return _read(Writes, f"thread {thread_id!r}, writes of commit {row.checkpoint}", row.payload)


def read_tail(thread_id: str, seq: int, rows: Iterable[Row]) -> Tail:
    """The tail of commit `seq`, which is among the rows. Raises `Corrupt`, `NewerFormat`."""
    for row in rows:
        if row.checkpoint == seq and row.kind == Kind.CHECKPOINT:
            return read_checkpoint(thread_id, row).tail
        if row.checkpoint == seq and row.kind == Kind.RESULT:
            return read_writes(thread_id, row).tail
    raise Corrupt(f"thread {thread_id!r}: commit {seq} was not written by a PerdureSaver; restore the store's backup")


def _read(kind: type[Record], where: str, payload: bytes) -> Record:
    try:
        record = msgspec.msgpack.decode(payload, type=kind)
        found: Any = record.format
    except msgspec.MsgspecError as error:
        found = _format_of(payload)
        if not isinstance(found, int) or found <= FORMAT:
            raise Corrupt(f"{where}: its record does not decode ({error}); restore the store from a backup") from None
    if found > FORMAT:
        raise NewerFormat(f"{where} was written in format {found}; this Perdure reads up to {FORMAT}: upgrade it")
    return record


def _format_of(payload: bytes) -> Any:
    try:
        fields = _FORMAT.decode(payload)
    except msgspec.MsgspecError:
        return None
    return fields[0] if fields else None
