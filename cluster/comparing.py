"""Old against new: what the threads of a batch re-run came to, beside what their originals had come to.

Read from the store alone, one pair of threads at a time: a batch of any size in little memory.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any

import pyarrow as pa

from ..runtime.batches import RERUNS, Ended, Item, thread_of
from ..runtime.control import RUN_CHANNEL, Control
from ..runtime.diffs import StateDiff, diff_values
from ..runtime.errors import InputError
from ..runtime.measures import since
from ..runtime.reruns import BatchMark, Rerun
from ..runtime.restore import load_control, load_values
from ..runtime.snapshots import checkpoint_id
from ..stores.base import CheckpointStore
from ..stores.codec import Codec, Opaque
from ..stores.errors import Corrupt, NewerFormat, UnknownCheckpoint, UnknownThread
from ..stores.history import HistoryReader
from ..stores.records import Status, ThreadRecord
from .errors import ClientError

_BATCH_ROWS = 1024
_RERUN, _ORIGINAL = "<re-run>", "<original>"
_LONGEST_DIFF, _LONGEST_REASON = 2000, 400
"""Characters."""

_FIELDS: list[pa.Field[Any]] = [
    *(pa.field(name, pa.string()) for name in ("thread_id", "rerun_id", "checkpoint_id", "outcome", "reason")),
    *(pa.field(name, pa.string()) for name in ("old_status", "new_status", "old_reason")),
    pa.field("same", pa.bool_()),
    pa.field("keys", pa.list_(pa.string())),
    pa.field("diff", pa.string()),
    *(pa.field(name, pa.int64()) for name in ("old_steps", "new_steps")),
    *(pa.field(name, pa.float64()) for name in ("old_seconds", "new_seconds")),
    *(pa.field(name, pa.map_(pa.string(), pa.float64())) for name in ("old_measures", "new_measures")),
    pa.field("problem", pa.string()),
]


def compare_schema(measures: Sequence[str]) -> pa.Schema:
    """The columns of a comparison. Raises `InputError` for measures that are no list of different names."""
    if isinstance(measures, str):
        raise InputError(f"measures is {measures!r}; give a list of names")
    if not all(isinstance(name, str) and name for name in measures) or len(set(measures)) < len(measures):
        raise InputError(f"measures is {list(measures)!r}; give different names of numbers")
    pairs = [pa.field(f"{side}.{name}", pa.float64()) for name in measures for side in ("old", "new")]
    return pa.schema([*_FIELDS, *pairs])


def compare_batch(store: CheckpointStore, batch_id: str, measures: Sequence[str] = ()) -> pa.RecordBatchReader:
    """One row an item of the batch, as record batches of at most 1,024 rows; see `BatchRerun.compare`.

    Raises `InputError`, `UnknownThread`, `ClientError` for what is no batch; the batches, as they are read,
    `StoreUnavailable`.
    """
    schema = compare_schema(measures)
    record = store.thread(batch_id)
    if record.graph != RERUNS.name:
        raise ClientError(f"thread {batch_id!r} belongs to graph {record.graph!r}; it is no batch re-run")
    state = batch_values(store, record, "mark", "items", "done")
    ends = {end.place: end for end in (Ended(*one) for one in state.get("done", []))}
    items = [Item(*one) for one in state.get("items", [])]
    compared = _Comparison(store, BatchMark(batch_id, state.get("mark", "")), tuple(measures))
    rows = (compared.row(item, ends.get(place)) for place, item in enumerate(items))
    return pa.RecordBatchReader.from_batches(schema, _batches(rows, schema))


def batch_values(store: CheckpointStore, record: ThreadRecord, *channels: str) -> dict[str, Any]:
    """Channels of a batch's own thread, as of its newest checkpoint; none before the first."""
    if not record.head:
        return {}
    reader = HistoryReader(store, record.thread_id, record=record)
    manifest = load_control(reader, record.head).manifest
    wanted = {name: manifest[name] for name in channels if name in manifest}
    return dict(load_values(reader, wanted, RERUNS.codec, at=record.head))


def _batches(rows: Iterator[dict[str, Any]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    while page := list(islice(rows, _BATCH_ROWS)):
        yield pa.RecordBatch.from_pylist(page, schema=schema)


class _Problem(Exception):
    """A side has nothing to compare, and why."""


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two threads, at the end of the run that is compared."""

    status: str
    reason: str
    """Why it stands so; empty if there is nothing to say."""
    reader: HistoryReader
    seq: int
    control: Control
    steps: int
    seconds: float | None
    measured: dict[str, float]
    """What its nodes measured since the checkpoint from which it was re-run."""


class _Comparison:
    def __init__(self, store: CheckpointStore, mark: BatchMark, measures: tuple[str, ...]) -> None:
        self._store = store
        self._mark = mark
        self._measures = measures
        self._codec = Codec(opaque=True)

    def row(self, item: Item, end: Ended | None) -> dict[str, Any]:
        """All that is known of an item; what cannot be read of it is its `problem`."""
        row: dict[str, Any] = {
            "thread_id": item.thread_id,
            "rerun_id": thread_of(self._mark.batch_id, item.thread_id),
            "checkpoint_id": checkpoint_id(item.seq) if item.seq else None,
            "outcome": str(end.outcome) if end is not None else None,
            "reason": (end.reason if end is not None else item.skipped) or None,
            "problem": item.skipped or None,
        }
        if item.skipped:
            return row
        try:
            new_record = self._rerun(row["rerun_id"])
            new = self._side(new_record, item, began=new_record.created_at)
            row.update(_facts("new", new))
            old = self._side(self._original(item, new_record), item, began=None)
            row.update(_facts("old", old), old_reason=old.reason or None)
            row.update(self._states(item, old, new))
            # Two failures are only the same where they have the same cause.
            if Status.FAILED == old.status == new.status and _cause(row, old.reason) != _cause(row, new.reason):
                row["same"] = False
        except (_Problem, Corrupt, NewerFormat, UnknownCheckpoint, UnknownThread) as problem:
            row["problem"] = str(problem)
        return row

    def _rerun(self, thread_id: str) -> ThreadRecord:
        try:
            record = self._store.thread(thread_id)
        except UnknownThread:
            raise _Problem("it was not begun, or its thread was deleted since") from None
        if not self._mark.on(record):
            raise _Problem(f"thread {thread_id!r} is no part of this batch: the id had been taken")
        return record

    def _original(self, item: Item, rerun: ThreadRecord) -> ThreadRecord:
        mark = Rerun.of(rerun)
        try:
            record = self._store.thread(item.thread_id)
        except UnknownThread:
            raise _Problem("its original was deleted") from None
        if mark is not None and mark.made_at != record.created_at:
            raise _Problem("its original was deleted; another thread has its id now")
        return record

    def _side(self, record: ThreadRecord, item: Item, *, began: float | None) -> _Side:
        """A thread at the end of the run that was re-run, or at its newest checkpoint while that goes on."""
        run = next((run for run in self._store.runs(record.thread_id) if run.run == item.run), None)
        ended = run is not None and run.status.ended
        if not ended and record.run != item.run:
            raise _Problem(f"run {item.run} of thread {record.thread_id!r} has no record any more")
        seq = run.end if run is not None and run.end else record.head
        reader = HistoryReader(self._store, record.thread_id, record=record)
        start, end = load_control(reader, item.seq), load_control(reader, seq)
        begun = start.at if began is None else began
        return _Side(
            status=run.status.value if run is not None and ended else record.status.value,
            reason=run.reason if run is not None and ended else record.reason,
            reader=reader,
            seq=seq,
            control=end,
            steps=end.place - start.place,
            seconds=max(0.0, run.ended_at - begun) if run is not None and ended else None,
            measured=since(start.measures, end.measures, start.step),
        )

    def _states(self, item: Item, old: _Side, new: _Side) -> dict[str, Any]:
        # What neither has written since they parted is the same row: it is read only for a measure.
        before, after = old.control.manifest, new.control.manifest
        shared = {name for name, at in before.items() if at <= item.seq and after.get(name) == at} | {RUN_CHANNEL}
        asked = {_channel(name, manifest) for name in self._measures for manifest in (before, after)}
        old_values, new_values = (self._values(side, (shared - asked) | {RUN_CHANNEL}) for side in (old, new))
        diff = diff_values(old_values, new_values, self._codec, ids=(checkpoint_id(old.seq), checkpoint_id(new.seq)))
        found: dict[str, Any] = {
            "same": not diff and old.status == new.status,
            "keys": _keys(diff),
            "diff": _cut(str(diff)) if diff else None,
        }
        for name in self._measures:
            found[f"old.{name}"] = old.measured[name] if name in old.measured else number_at(old_values, name)
            found[f"new.{name}"] = new.measured[name] if name in new.measured else number_at(new_values, name)
        return found

    def _values(self, side: _Side, left_out: set[str]) -> dict[str, Any]:
        wanted = {name: at for name, at in side.control.manifest.items() if name not in left_out}
        return dict(load_values(side.reader, wanted, self._codec, at=side.seq))


def in_common(row: Mapping[str, Any], reason: str) -> str:
    """A reason without what is of one thread alone, so that those of many can be counted."""
    for own, name in ((row["rerun_id"], _RERUN), (row["thread_id"], _ORIGINAL)):
        reason = reason.replace(repr(own), name)
    if row["checkpoint_id"]:
        reason = reason.replace(row["checkpoint_id"], "<checkpoint>")
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."


def _cause(row: Mapping[str, Any], reason: str) -> str:
    # each names its own thread
    return in_common(row, reason).replace(_ORIGINAL, _RERUN)


def number_at(values: Mapping[str, Any], name: str) -> float | None:
    """The number that a state has under a key, or under the path `key.field.field` in dicts and instances; None where
    there is no number that fits into 64 bits."""
    channel = _channel(name, values)
    value = values.get(channel)
    for part in name[len(channel) + 1 :].split(".") if name != channel else ():
        if isinstance(value, Opaque):
            value = value.data
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, numbers.Real | Decimal):
        return None
    try:
        return float(value)
    except (OverflowError, ValueError):
        return None


def _channel(name: str, known: Mapping[str, Any]) -> str:
    """The key that a measure's name begins with: the whole name, if the state has such a key."""
    return name if name in known else name.partition(".")[0]


def _facts(which: str, side: _Side) -> dict[str, Any]:
    return {
        f"{which}_status": side.status,
        f"{which}_steps": side.steps,
        f"{which}_seconds": side.seconds,
        f"{which}_measures": list(side.measured.items()),
    }


def _keys(diff: StateDiff) -> list[str]:
    return sorted([*diff.added, *diff.removed, *diff.changed, *diff.appended])


def _cut(text: str) -> str:
    # Arrow's texts are UTF-8; a state's key may hold half of a surrogate pair
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _LONGEST_DIFF else f"{text[:_LONGEST_DIFF]}..."
