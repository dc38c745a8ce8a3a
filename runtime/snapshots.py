"""What a thread looked like at a checkpoint, for people and programs that read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.errors import UnknownCheckpoint
from ..stores.history import HistoryReader
from ..stores.records import RunRecord, ThreadRecord
from ..stores.segments import Row
from .cache import ReadCache
from .commands import Interrupt
from .control import RUN_CHANNEL, TYPES, Control, Next, decode_control
from .diffs import StateDiff, diff_values
from .errors import CheckpointNotFound, InputError
from .options import RunOptions
from .position import Heartbeat, Position
from .restore import add_pending, load_control, load_head, load_values, position_at
from .schema import Schema
from .values import LazyValues, values_at

T = TypeVar("T")

_ABSENT = object()
_MOST = 2**63 - 1
"""No store counts further."""


@dataclass(frozen=True, slots=True)
class TaskSnapshot:
    """A task that a checkpoint leaves to be run, as far as it has come."""

    id: str
    """Its path: unique in its step."""
    name: str
    """The node."""
    interrupts: tuple[Interrupt, ...] = ()
    result: dict[str, Any] | None = None
    """What it wrote, if it has finished while others of its step have not."""
    heartbeat: Any = None
    """What it last said of its progress."""
    waits_for: str | None = None
    """The name of the signal that it waits for."""
    wake_at: datetime | None = None
    """When it goes on whatever happens (UTC): the end of a sleep, or of the wait for a signal."""


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """A thread's state at one checkpoint. Fields as in LangGraph."""

    values: Mapping[str, Any]
    """Equal to a dict of the state; each value is decoded when it is first looked at, and one of the past only then
    read. So looking at it may raise `StoreError`, or `CheckpointNotFound` once retention has dropped the checkpoint.
    `dict(values)` takes all of it."""
    next: tuple[str, ...]
    """Nodes to run next, one entry per task; empty at the end of a run. At the newest checkpoint without the tasks that
    have finished; at an older one all that it left to be run, as a fork from there would."""
    config: dict[str, Any]
    """Names this checkpoint: give it to `get_state`, `update_state` or `invoke`."""
    metadata: dict[str, Any]
    """source, step, run, version, writes (the nodes that made it), measures (the numbers that nodes have recorded by
    `measure()`, if any have), and what the run was submitted with."""
    created_at: str
    """ISO 8601, UTC."""
    parent_config: dict[str, Any] | None
    tasks: tuple[TaskSnapshot, ...]
    interrupts: tuple[Interrupt, ...]

    @property
    def checkpoint_id(self) -> str:
        """Id of the checkpoint within its thread; empty before the first."""
        return str(self.config["configurable"].get("checkpoint_id", ""))

    @property
    def parent_id(self) -> str | None:
        """Id of the checkpoint that it was made from; None for a thread's first."""
        return str(self.parent_config["configurable"]["checkpoint_id"]) if self.parent_config is not None else None

    @property
    def version(self) -> str:
        """The version of the graph that made it; empty before the first checkpoint."""
        return str(self.metadata.get("version", ""))


def checkpoint_id(seq: int) -> str:
    """The id that users see. Ids of one thread sort as text in the order in which they were made."""
    return f"{seq:010d}"


def checkpoint_seq(thread_id: str, given: str | int) -> int:
    """The seq that an id names. Raises `CheckpointNotFound` for what is no id."""
    written = isinstance(given, str) and given.isascii() and given.isdecimal() and len(given) <= len(str(_MOST))
    if written or (isinstance(given, int) and not isinstance(given, bool)):
        seq = int(given)
        if 1 <= seq <= _MOST:
            return seq
    raise CheckpointNotFound(thread_id, str(given))


@contextmanager
def looking_for(thread_id: str, seq: int) -> Iterator[None]:
    """Raises `CheckpointNotFound` where what is done with a checkpoint finds none."""
    try:
        yield
    except UnknownCheckpoint:
        raise CheckpointNotFound(thread_id, checkpoint_id(seq)) from None


def config_of(thread_id: str, seq: int) -> dict[str, Any]:
    """The config that names a checkpoint."""
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": checkpoint_id(seq)}}


class SnapshotReader:
    """Reads the states of one thread. `codec` decides which classes come back as themselves; with the `schema` of its
    graph's state they also show the keys that start with a value and were never written."""

    def __init__(
        self,
        store: CheckpointStore,
        record: ThreadRecord,
        codec: Codec,
        schema: Schema | None = None,
        cache: ReadCache | None = None,
    ) -> None:
        self._store = store
        self._record = record
        self._reader = HistoryReader(store, record.thread_id, record=record, cache=cache)
        self._cache = cache
        self._codec = codec
        self._schema = schema
        self._options: dict[int, dict[str, Any]] = {}
        """Of each run seen so far, by their version."""
        self._runs: Mapping[int, RunRecord] = {run.run: run for run in store.runs(record.thread_id)}

    def head(self) -> StateSnapshot:
        """The newest state; an empty one before the first checkpoint."""
        if self._record.head:
            return self._newest(self._read)
        config = {"configurable": {"thread_id": self._record.thread_id, "checkpoint_ns": ""}}
        created = _iso(self._record.created_at)
        return StateSnapshot({}, (), config, dict(self._record.metadata), created, None, (), ())

    def options(self) -> RunOptions:
        """The options of the run in progress, or of the last one; the defaults before the first checkpoint."""
        return self._newest(self._options_at) if self._record.head else RunOptions()

    def heartbeats(self) -> dict[str, Heartbeat]:
        """What the tasks of the step in progress last said of their progress, by path."""
        record, position = self._record, Position()
        if record.head and not record.status.ended:
            add_pending(position, self._reader, record.head, self._codec)
        return position.beats

    def at(self, seq: int) -> StateSnapshot:
        """The state at one checkpoint. Raises `CheckpointNotFound`."""
        control = self._control(seq)
        with looking_for(self._record.thread_id, seq):
            return self._read(seq, control)

    def history(
        self, *, where: Mapping[str, Any] | None = None, before: int | None = None, limit: int | None = None
    ) -> Iterator[StateSnapshot]:
        """States, newest first, over forks into the thread that this one was forked from. `where` names metadata that
        must be equal. Raises `InputError`."""
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise InputError(f"limit is {limit!r}; give how many states at most, or None")
        if not isinstance(where, Mapping | None):
            raise InputError(f"filter is {where!r}; give a dict of metadata that must be equal")
        found = 0
        for thread_id, row in self._reader.checkpoints(before=before, limit=None if where else limit):
            if limit is not None and found >= limit:
                return
            control = decode_control(row.payload, f"checkpoint {row.checkpoint} of thread {thread_id!r}")
            try:
                snapshot = self._unread(thread_id, row.checkpoint, control)
            except UnknownCheckpoint:
                continue  # retention drops it at this moment
            if where and any(snapshot.metadata.get(key, _ABSENT) != value for key, value in where.items()):
                continue
            found += 1
            yield snapshot

    def diff(self, first: int, second: int) -> StateDiff:
        """What the state at checkpoint `second` has that the one at `first` has not; 0 is the empty state before the
        first checkpoint. Channels that did not change between the two are not read. Raises `CheckpointNotFound`."""
        before, after = ({} if seq == 0 else self._control(seq).manifest for seq in (first, second))
        same = {name for name, version in before.items() if after.get(name) == version}
        values = [self._values_but(same, seq, manifest) for seq, manifest in ((first, before), (second, after))]
        ids = tuple(checkpoint_id(seq) if seq else "" for seq in (first, second))
        return diff_values(values[0], values[1], self._codec, ids=(ids[0], ids[1]))

    def _newest(self, read: Callable[[int, Control], T]) -> T:
        """What is read of the newest checkpoint."""
        while True:
            record = self._record
            try:
                return read(record.head, load_control(self._reader, record.head))
            except UnknownCheckpoint:
                # A thread that went on may have dropped what was its newest checkpoint a moment ago.
                self._record = fresh = self._store.thread(record.thread_id)
                self._reader = HistoryReader(self._store, fresh.thread_id, record=fresh, cache=self._cache)
                if self._record.head == record.head:
                    load_head(self._reader, record)
                    raise

    def _options_at(self, seq: int, control: Control) -> RunOptions:
        data = self._run_options(control.manifest.get(RUN_CHANNEL, 0), seq)
        position = Position()
        add_pending(position, self._reader, seq, self._codec)
        kept = data if position.options is None else position.options
        return RunOptions.from_data({key: value for key, value in kept.items() if key != TYPES})

    def _values_but(self, left_out: set[str], seq: int, manifest: Mapping[str, int]) -> Mapping[str, Any]:
        if not seq:
            return {}
        wanted = {name: at for name, at in manifest.items() if name not in left_out and name != RUN_CHANNEL}
        with looking_for(self._record.thread_id, seq):
            values = load_values(self._reader, wanted, self._codec, at=seq)
        if self._schema is None:
            return values
        started = self._schema.started(values)
        return {name: started[name] for name in started if name not in left_out}

    def _control(self, seq: int) -> Control:
        with looking_for(self._record.thread_id, seq):
            return load_control(self._reader, seq)

    def _read(self, seq: int, control: Control) -> StateSnapshot:
        """With values that are read now: whoever asked for one state may close the store before looking at it."""
        values = load_values(self._reader, control.manifest, self._codec, at=seq)
        return self._snapshot(self._record.thread_id, seq, control, values, values.pop(RUN_CHANNEL, {}))

    def _unread(self, thread_id: str, seq: int, control: Control) -> StateSnapshot:
        """With values that are read when they are looked at: of a long history most never are."""

        def read(versions: Mapping[str, int]) -> Mapping[str, Sequence[Row]]:
            with looking_for(self._record.thread_id, seq):
                return self._reader.channels(versions, at=seq)

        versions = dict(control.manifest)
        options = self._run_options(versions.pop(RUN_CHANNEL, 0), seq)
        values = values_at(versions, read, self._codec, self._record.thread_id)
        return self._snapshot(thread_id, seq, control, values, options)

    def _run_options(self, version: int, seq: int) -> dict[str, Any]:
        """The options that a run had at checkpoint `seq`: the same row for all its steps."""
        if version and version not in self._options:
            found = load_values(self._reader, {RUN_CHANNEL: version}, self._codec, at=seq)
            self._options[version] = found[RUN_CHANNEL]
        return self._options.get(version, {})

    def _snapshot(
        self, thread_id: str, seq: int, control: Control, values: LazyValues, options: dict[str, Any]
    ) -> StateSnapshot:
        position = position_at(seq, control, values)
        if control.next:
            add_pending(position, self._reader, seq, self._codec)
        tasks = tuple(_task(task, position) for task in control.next)
        parent = config_of(thread_id, control.parent) if control.parent else None
        past = seq != self._record.head
        return StateSnapshot(
            values=values if self._schema is None else self._schema.started(values),
            next=tuple(task.node for task in control.next if past or task.path not in position.results),
            config=config_of(self._record.thread_id, seq),
            metadata={
                **self._record.metadata,
                **(self._runs[control.run].metadata if control.run in self._runs else {}),
                **options.get("metadata", {}),
                "tags": list(options.get("tags", self._record.tags)),
                "source": control.source,
                "step": control.step,
                "run": control.run,
                "version": control.version,
                "writes": [node for _, node in control.done],
                "thread_id": thread_id,
                **_measures(control),
            },
            created_at=_iso(control.at),
            parent_config=parent,
            tasks=tasks,
            interrupts=tuple(stop for task in tasks for stop in task.interrupts),
        )


def _task(task: Next, position: Position) -> TaskSnapshot:
    result, stop = position.results.get(task.path), position.stops.get(task.path)
    beat = position.beats.get(task.path)
    return TaskSnapshot(
        id=task.path,
        name=task.node,
        interrupts=(stop.interrupt,) if stop is not None and stop.interrupt is not None else (),
        result=dict(result.writes) if result is not None else None,
        heartbeat=beat.progress if beat is not None else None,
        waits_for=(stop.name or None) if stop is not None else None,
        wake_at=datetime.fromtimestamp(stop.until, UTC) if stop is not None and stop.until is not None else None,
    )


def _measures(control: Control) -> dict[str, Any]:
    """What metadata say of what nodes measured: nothing where they did not."""
    return {"measures": {name: one.number for name, one in control.measures.items()}} if control.measures else {}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
