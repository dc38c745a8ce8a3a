"""Takes checkpoints out of a thread while others may write it.

In two passes, so that nobody ever refers to what goes: the first takes the checkpoints away or hides them, the second
the rows that no checkpoint left needs. Before each a mark is committed, and refused if anybody claimed the
thread meanwhile: then everything is looked at again. Who claims the thread later finds only what stays.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from ..stores.chains import Key
from ..stores.errors import ClaimLost, Fenced
from ..stores.fetching import newest_first
from ..stores.segments import VALUES, Kind, Row
from .places import Place, row_of
from .reader import Found, Reader
from .records import Tail, checkpoint_row, read_checkpoint, read_writes, writes_row
from .writer import Overtaken, Writer

Chooser = Callable[[Sequence[Found]], Sequence[Found]]
"""Given all checkpoints, the last put first: those that are to stay."""


@dataclass(slots=True)
class _Plan:
    """What stays of a thread."""

    stay: dict[int, Found] = field(default_factory=dict)
    hidden: dict[int, Found] = field(default_factory=dict)
    seqs: dict[str, int] = field(default_factory=dict)
    """Where the checkpoints that stay or are hidden lie, by id."""
    awaited: frozenset[str] = frozenset()
    """Checkpoints that are not there yet, whose writes stay."""
    lead: Found | None = None
    values: dict[Key, int] = field(default_factory=dict)
    """For each row of a value: the version that it changes, 0 if it stands alone."""

    def needed(self) -> set[Key]:
        """The rows of values that the checkpoints left are made of."""
        found: set[Key] = set()
        for kept in (*self.stay.values(), *self.hidden.values()):
            for channel, version in kept.record.manifest.items():
                key = (channel, version)
                while key[1] and key not in found:
                    found.add(key)
                    key = (channel, self.values.get(key, 0))
        return found


class Pruner:
    """Prunes threads of one store."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._claims = writer.claims
        self._store = writer.claims.store

    def prune(self, place: Place, choose: Chooser) -> None:
        """Drop all checkpoints but those chosen, with their writes and values. Does nothing where all stay."""
        row = row_of(self._store, place)
        if row is None:
            return
        # Looked at first without a claim: it would send a writer that has nothing to fear back to the start.
        found = _visible(self._survey(place, row.seq)[0])
        if len(choose(found)) == len(found):
            return
        with self._claims.memory.lock(place.thread_id):
            self._claims.patiently(lambda: self._attempt(place, choose), _again)

    def _attempt(self, place: Place, choose: Chooser) -> None:
        # Claimed anew though it may be ours: by the epoch a copy that is being made notices.
        self._claims.forget(place)
        held = self._claims.hold(place)
        if held is None or not held.seq:
            return
        last, tail = held.seq, held.tail
        found, values = self._survey(place, last)
        plan = _plan(self._claims.reader, found, choose(_visible(found)), values, tail)
        try:
            # The head moves first: it must never be one that is gone.
            mark = self._writer.mark(place, after=last, lead=plan.lead)
            self._rewrite(place, last, lambda row: _without_checkpoints(place, plan, row))
            self._writer.mark(place, after=mark, lead=plan.lead)
            needed = plan.needed()
            self._rewrite(place, last, lambda row: _without_values(row, needed))
        finally:
            # What is remembered of the thread may be gone.
            self._claims.forget(place)

    def _survey(self, place: Place, last: int) -> tuple[list[Found], dict[Key, int]]:
        """All checkpoints, the last put first and of each id only that one, and what values are made of."""
        found: dict[str, Found] = {}
        values: dict[Key, int] = {}
        for segment in newest_first(self._store, place.thread_id, last):
            for row in reversed(segment.rows):
                if row.kind == Kind.CHECKPOINT:
                    each = Found(place, row.checkpoint, read_checkpoint(place.thread_id, row))
                    found.setdefault(each.record.id, each)
                elif row.kind in VALUES:
                    values[(row.channel, row.version)] = row.prev if row.kind == Kind.DELTA else 0
        return list(found.values()), values

    def _rewrite(self, place: Place, last: int, sift: Callable[[Row], Row | None]) -> None:
        for segment in newest_first(self._store, place.thread_id, last):
            rows = tuple(_sifted(segment.rows, sift))
            if rows == segment.rows:
                continue
            # A commit id of its own: a second prune that read the segment before must not put back what is gone.
            made = [replace(segment, rows=rows, commit_id=uuid.uuid4().hex)] if rows else []
            if not self._store.rewrite(place.thread_id, [segment], made):
                raise Overtaken(f"thread {place.thread_id!r}: commits {segment.first}..{segment.last} were rewritten")


def _sifted(rows: Sequence[Row], sift: Callable[[Row], Row | None]) -> Iterator[Row]:
    return (after for row in rows if (after := sift(row)) is not None)


def _visible(found: Sequence[Found]) -> list[Found]:
    return [each for each in found if not each.record.hidden]


def _plan(reader: Reader, found: Sequence[Found], stay: Sequence[Found], values: dict[Key, int], tail: Tail) -> _Plan:
    plan = _Plan(stay={each.seq: each for each in stay}, values=values)
    by_id = {each.record.id: each for each in found}
    by_seq = {each.seq: each for each in found}
    for each in stay:
        for needed in _rebuilt_from(reader, each, by_seq, by_id):
            if needed.seq not in plan.stay:
                plan.hidden[needed.seq] = needed
    kept = (*plan.stay.values(), *plan.hidden.values())
    plan.seqs = {each.record.id: each.seq for each in kept}
    plan.awaited = frozenset(tail.early)
    plan.lead = max(stay, key=lambda each: each.record.id, default=None)
    return plan


def _rebuilt_from(
    reader: Reader, found: Found, by_seq: Mapping[int, Found], by_id: Mapping[str, Found]
) -> Iterator[Found]:
    """The ancestors from which a checkpoint's delta channels are rebuilt: down to one that holds their whole values."""
    missing = {channel for channel in _delta_channels(reader, found) if channel not in found.record.manifest}
    while missing:
        parent = by_seq.get(found.record.parent) or by_id.get(found.record.parent_id)
        if parent is None:
            return
        yield parent
        missing -= parent.record.manifest.keys()
        found = parent


def _delta_channels(reader: Reader, found: Found) -> Collection[str]:
    metadata = reader.metadata(found)
    return metadata.get("counters_since_delta_snapshot") or ()


def _without_checkpoints(place: Place, plan: _Plan, row: Row) -> Row | None:
    if row.kind == Kind.CHECKPOINT:
        if row.checkpoint not in plan.stay and row.checkpoint not in plan.hidden:
            return None
        record = read_checkpoint(place.thread_id, row)
        parent = plan.seqs.get(record.parent_id, 0)
        after = msgspec.structs.replace(
            record,
            parent=parent,
            parent_id=record.parent_id if parent else "",
            hidden=row.checkpoint in plan.hidden,
        )
        return row if after == record else checkpoint_row(row.checkpoint, after)
    if row.kind != Kind.RESULT:
        return row
    writes = read_writes(place.thread_id, row)
    if writes.checkpoint_id in plan.seqs or writes.checkpoint_id in plan.awaited:
        return row
    # Of a latecomer the link has to stay: others before it are found through it.
    return writes_row(row.checkpoint, 0, msgspec.structs.replace(writes, writes=())) if writes.link >= 0 else None


def _without_values(row: Row, needed: Collection[Key]) -> Row | None:
    return row if row.kind not in VALUES or (row.channel, row.version) in needed else None


def _again(error: BaseException) -> bool:
    return isinstance(error, (Overtaken, Fenced, ClaimLost))
