"""Puts LangGraph's checkpoints and writes: what to commit, given the thread as it is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from langgraph.checkpoint.base import Checkpoint

from .channels import ChannelWriter
from .claims import Claims
from .memory import Draft, Held
from .places import Place
from .reader import Found, numbered
from .records import (
    FORMAT,
    MOST_EARLY,
    SLACK,
    CheckpointRecord,
    Packed,
    Tail,
    Write,
    Writes,
    checkpoint_row,
    writes_row,
)


class Overtaken(Exception):
    """Somebody else wrote the thread first."""


class Writer:
    """Writes to one store."""

    def __init__(self, claims: Claims) -> None:
        self.claims = claims
        self._reader = claims.reader
        self._channels = ChannelWriter(claims.reader, claims.memory)

    def put(
        self,
        place: Place,
        checkpoint: Checkpoint,
        metadata: Mapping[str, Any],
        new_versions: Mapping[str, Any],
        parent_id: str,
    ) -> None:
        """Commit a checkpoint, with the values of those channels whose versions are new."""
        where = f"thread {place.thread!r}: checkpoint {checkpoint['id']}"
        without = {key: part for key, part in checkpoint.items() if key != "channel_values"}
        body = self._reader.values.pack(without, where)
        about = self._reader.values.pack(dict(metadata), f"{where}: metadata")

        def draft(held: Held) -> Draft:
            seq = held.seq + 1
            parent = self._known(place, held, parent_id) if parent_id else None
            channels = self._channels.rows(place, held, checkpoint, new_versions, parent)
            again = self._known(place, held, checkpoint["id"])
            begun = held.tail.early.get(checkpoint["id"], seq)
            highest = held.head is None or checkpoint["id"] >= held.head.record.id
            tail = Tail(
                newest=seq,
                before=held.tail.newest,
                late=held.tail.late,
                ordered=held.tail.ordered and highest,
                early={key: first for key, first in held.tail.early.items() if key != checkpoint["id"]},
            )
            record = _record(
                checkpoint["id"],
                metadata,
                parent=parent.seq if parent else 0,
                parent_id=parent_id,
                manifest=channels.manifest,
                writes_from=min(begun, again.record.writes_from) if again else begun,
                tail=tail,
                checkpoint=body,
                about=about,
            )
            found = Found(place, seq, record)
            rows = (checkpoint_row(seq, record), *channels.rows)
            return Draft(rows=rows, tail=tail, put=found, moves=highest, lead=found, bases=channels.bases)

        self.claims.write(place, draft)

    def put_writes(
        self, place: Place, checkpoint_id: str, task_id: str, task_path: str, writes: Sequence[tuple[str, Any]]
    ) -> None:
        """Commit what a task wrote. It is not compared with what is there: readers take what stands of it."""
        packed = []
        for index, (channel, value) in zip(numbered(channel for channel, _ in writes), writes, strict=True):
            where = f"thread {place.thread!r}: a write of task {task_id} to {channel!r}"
            packed.append(Write(index, channel, self._reader.values.pack(value, where)))

        def draft(held: Held) -> Draft:
            seq, tail, link = held.seq + 1, held.tail, -1
            owner = self._known(place, held, checkpoint_id)
            if owner is None:
                tail = msgspec.structs.replace(tail, early=_with_early(tail.early, checkpoint_id, seq))
            elif owner.seq != tail.newest and not (owner.seq == tail.before and seq <= tail.newest + SLACK):
                link = tail.late
                tail = msgspec.structs.replace(tail, late=seq)
            record = Writes(FORMAT, checkpoint_id, task_id, task_path, link, tail, tuple(packed))
            return Draft(rows=(writes_row(seq, owner.seq if owner else 0, record),), tail=tail)

        self.claims.write(place, draft)

    def mark(self, place: Place, *, after: int, lead: Found | None) -> int:
        """Commit a mark as the very next commit after `after`, with `lead` as the newest checkpoint (None if there is
        none left). Returns its seq; all before it may be rewritten. Raises `Overtaken` if others came first. Under the
        thread's lock only."""

        def draft(held: Held) -> Draft:
            if held.seq != after:
                raise Overtaken(f"thread {place.thread_id!r}: commit {held.seq} came after {after}")
            record = Writes(FORMAT, "", "", "", -1, held.tail, ())
            return Draft(rows=(writes_row(held.seq + 1, 0, record),), tail=held.tail, moves=True, lead=lead)

        return self.claims.write_alone(place, draft)

    def _known(self, place: Place, held: Held, checkpoint_id: str) -> Found | None:
        """A checkpoint that was put and is still there."""
        found = held.recent.get(checkpoint_id)
        if found is None:
            if held.tail.ordered and (held.head is None or checkpoint_id > held.head.record.id):
                return None
            head = held.head.seq if held.head else 0
            found = self._reader.find(place, checkpoint_id, last=held.seq, head=head)
            if found is None or found.record.hidden:
                return None
        held.note(found)
        return found


def _with_early(early: Mapping[str, int], checkpoint_id: str, seq: int) -> dict[str, int]:
    after = {**early}
    after.setdefault(checkpoint_id, seq)
    while len(after) > MOST_EARLY:
        del after[next(iter(after))]
    return after


def _record(
    checkpoint_id: str,
    metadata: Mapping[str, Any],
    *,
    parent: int,
    parent_id: str,
    manifest: dict[str, int],
    writes_from: int,
    tail: Tail,
    checkpoint: Packed,
    about: Packed,
) -> CheckpointRecord:
    step = metadata.get("step")
    return CheckpointRecord(
        format=FORMAT,
        step=step if type(step) is int else 0,
        since=0,
        run=0,
        source=str(metadata.get("source") or ""),
        parent=parent,
        at=time.time(),
        version="",
        next=(),
        joins={},
        manifest=manifest,
        done=(),
        branch=0,
        born=None,
        lag=0,
        measures={},
        id=checkpoint_id,
        parent_id=parent_id,
        writes_from=writes_from,
        hidden=False,
        tail=tail,
        checkpoint=checkpoint,
        metadata=about,
    )
