"""Read a thread's position from its store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.errors import Corrupt, UnknownCheckpoint
from ..stores.history import HistoryReader
from ..stores.operations import Claimed
from ..stores.records import RunRecord, Status, ThreadRecord
from ..stores.segments import Kind, Row
from ..stores.strands import chain_of
from .cache import ReadCache
from .calls import Call, CallKind, Calls, decode_call, decode_question, decode_wait
from .commands import Send
from .control import RUN_CHANNEL, TYPES, Control, decode_control
from .kept import KeptRows
from .measures import decode_measured, encode_measured
from .merge import ChannelSizes
from .position import CHANGED_AFTER_END, Heartbeat, Position
from .task import Done
from .values import LazyValues, Values, values_of


@dataclass(slots=True)
class Restored:
    """A position with what the loop needs besides."""

    position: Position
    options: dict[str, Any]
    """Options of the run in progress, as its input message gave them."""
    types: dict[str, str] = field(default_factory=dict)
    """The channels' types when the run began (`retyping.types_of`); empty where nobody has noted them."""
    sizes: ChannelSizes = field(default_factory=ChannelSizes)
    kept: KeptRows | None = None
    """The rows that the position was made of, where they are to be remembered."""
    segments: int = 0
    """How many segments had to be read for its values."""
    origin: ThreadRecord | None = None
    """The row of the thread that it was forked from, where that was read."""


def restore(
    store: CheckpointStore,
    record: ThreadRecord,
    codec: Codec,
    cache: ReadCache | None = None,
    *,
    claimed: Claimed | None = None,
) -> Restored:
    """The position of a claimed thread, from its newest checkpoint and what was committed since. With a `cache` only
    what that does not have is read, and with what was `claimed` (of this record) its runs and messages are not.

    Raises `Corrupt`, `NewerFormat`, `DisallowedType` naming the record, `StoreUnavailable`. A channel's value may still
    raise the first or the third when it is looked at.
    """
    reader = HistoryReader(store, record.thread_id, record=record, cache=cache)
    kept = KeptRows(cache.of(record), cache.options.max_bytes) if cache is not None else None
    sizes = ChannelSizes()
    position = Position()
    options: dict[str, Any] = {}
    types: dict[str, str] = {}
    if record.head:
        control, rows, sends, pending = reader.steadily(lambda: _head(reader, record))
        for channel, found in rows.items():
            whole, *deltas = chain_of(found).lengths()
            sizes.start(channel, whole, sum(deltas))
        if kept is not None:
            kept.start(rows)
        values = values_of(rows, codec, record.thread_id)
        options = dict(values.pop(RUN_CHANNEL, {}))
        types = options.pop(TYPES, {})
        position = position_at(record.head, control, values)
        position.sends = load_sends(sends, codec)
        _add_pending(position, pending, record.head, codec)
        options = options if position.options is None else position.options
    runs = claimed.runs if claimed is not None else store.runs(record.thread_id)
    _add_run(position, record, runs)
    position.mail = list(claimed.messages if claimed is not None else store.messages(record.thread_id))
    return Restored(position, options, types, sizes, kept, reader.segments, reader.origin)


def _head(
    reader: HistoryReader, record: ThreadRecord
) -> tuple[Control, Mapping[str, Sequence[Row]], Sequence[Row], Sequence[Row]]:
    """What is kept of the newest checkpoint: its control record, its channels' rows, those that hold the arguments of
    its `Send` tasks, and what is known of its tasks."""
    control = load_head(reader, record)
    rows = reader.channels(control.manifest, at=record.head)
    sends = reader.told(record.head) if any(task.send for task in control.next) else ()
    return control, rows, sends, reader.pending(record.head)


def position_at(seq: int, control: Control, values: Values) -> Position:
    """The position right after checkpoint `seq`."""
    return Position(
        values=values,
        manifest=dict(control.manifest),
        head=seq,
        step=control.step,
        since=control.since,
        next=control.next,
        joins=dict(control.joins),
        version=control.version,
        done=control.done,
        branch=control.branch,
        born=control.step if control.born is None else control.born,
        lag=control.lag,
        measures=control.measures,
        run=control.run,
    )


def load_control(reader: HistoryReader, seq: int) -> Control:
    """A checkpoint's control record. Raises `UnknownCheckpoint`."""
    thread_id, row = reader.checkpoint(seq)
    return decode_control(row.payload, f"checkpoint {seq} of thread {thread_id!r}")


def load_head(reader: HistoryReader, record: ThreadRecord) -> Control:
    """The newest checkpoint's control record. Raises `Corrupt` if it is not where the thread's row says."""
    try:
        return load_control(reader, record.head)
    except UnknownCheckpoint:
        raise Corrupt(
            f"thread {record.thread_id!r}: its newest checkpoint, {record.head}, is missing; restore the store from a "
            "backup"
        ) from None


def load_values(
    reader: HistoryReader,
    manifest: Mapping[str, int],
    codec: Codec,
    *,
    at: int | None = None,
) -> LazyValues:
    """The channels' values at the versions that a manifest names, which is that of checkpoint `at`. They are read now
    and decoded when they are looked at, which may raise `Corrupt`, `DisallowedType`.

    Raises `UnknownCheckpoint` where retention drops it at this moment.
    """
    return values_of(reader.channels(manifest, at=at), codec, reader.thread_id)


def load_sends(rows: Iterable[Row], codec: Codec) -> dict[str, Any]:
    """The arguments of a checkpoint's `Send` tasks, by path."""
    return {row.channel: codec.decode(row.encoding, row.payload) for row in rows if row.kind == Kind.SEND}


def add_pending(position: Position, reader: HistoryReader, head: int, codec: Codec) -> None:
    """Add what is known of the tasks after the newest checkpoint."""
    _add_pending(position, reader.pending(head), head, codec)


def _add_pending(position: Position, rows: Iterable[Row], head: int, codec: Codec) -> None:
    for row in rows:
        _add_row(position, row, codec.decode(row.encoding, row.payload), carried=row.checkpoint == head)


def add_recorded(position: Position, reader: HistoryReader, seq: int, codec: Codec) -> None:
    """Add what the tasks after checkpoint `seq`, of any age, were given; and whether its breakpoint was passed."""
    _add_pending(position, (row for row in reader.pending(seq) if row.kind in GIVEN), seq, codec)


GIVEN = frozenset({Kind.CALL, Kind.ANSWER, Kind.PASS})
"""Kinds of rows that say what the tasks after a checkpoint (their `version`) were given, or that it was passed."""


def _add_row(position: Position, row: Row, data: Any, *, carried: bool) -> None:
    path, waited = row.channel, False
    if row.kind == Kind.RESULT:
        position.results[path] = decode_result(path, data)
        position.stops.pop(path, None)
    elif row.kind == Kind.INTERRUPT:
        position.stops[path] = decode_question(data, len(position.calls.get(path, ())))
    elif row.kind == Kind.WAIT:
        position.stops[path] = decode_wait(data)
    elif row.kind == Kind.CALL:
        index, call = decode_call(data)
        _add_calls(position, path, {index: call})
        waited = call.kind is not CallKind.TASK
    elif row.kind == Kind.ANSWER:
        _add_calls(position, path, {index: Call(CallKind.INTERRUPT, "", answer) for index, answer in enumerate(data)})
        waited = True
    elif row.kind == Kind.BEAT:
        position.beats[path] = Heartbeat(*data)
    elif row.kind == Kind.PASS:
        position.passed = waited = True
    elif row.kind == Kind.OPTIONS:
        position.options = data
    if waited and not carried:
        # One that an update carried along was counted from before: the control record has it.
        position.since = position.step


def _add_calls(position: Position, path: str, calls: Calls) -> None:
    position.calls.setdefault(path, {}).update(calls)
    stop = position.stops.get(path)
    if stop is not None and stop.index in calls:
        del position.stops[path]


def _add_run(position: Position, record: ThreadRecord, runs: tuple[RunRecord, ...]) -> None:
    position.run = record.run
    current = next((run for run in runs if run.run == record.run), None)
    if current is not None:
        position.run_status = current.status
        position.run_reason = current.reason
        position.run_open = not current.status.ended
    elif record.origin is not None and position.head:
        # A fork: the history up to here is the origin's, and so was the run; this thread goes on with it.
        position.run_status = Status.RUNNING
        position.run_open = True
    # Of a run that has ended the row's reason tells how, or that the state was changed since. Any other one is a pause
    # that still holds, before a run that is yet to begin.
    if position.run_open or record.reason not in (position.run_reason, CHANGED_AFTER_END):
        position.paused = record.reason


def encode_result(done: Done) -> list[Any]:
    """A task's result as plain data."""
    targets = [[item.node, item.arg] if isinstance(item, Send) else item for item in done.goto]
    data = [[list(pair) for pair in done.writes], targets]
    if done.measured:
        return [*data, done.checkpoint, encode_measured(done.measured)]
    return [*data, True] if done.checkpoint else data


def decode_result(path: str, data: Any) -> Done:
    """The result that `encode_result` described."""
    writes, targets, *more = data
    checkpoint = bool(more and more[0])
    measured = decode_measured(more[1]) if len(more) > 1 else ()
    goto = tuple(Send(item[0], item[1]) if isinstance(item, list) else item for item in targets)
    pairs = tuple((channel, update) for channel, update in writes)
    return Done(path, pairs, goto, checkpoint=checkpoint, measured=measured)
