"""What a batch re-run is going to do: its threads, with the checkpoint and the update of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from ..runtime.batches import RERUNS, BatchState, Item, thread_of
from ..runtime.compiled import CompiledGraph
from ..runtime.errors import InputError, PerdureError
from ..runtime.payloads import pack
from ..runtime.reruns import new_rerun, read_effects
from ..runtime.snapshots import StateSnapshot, checkpoint_id
from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.errors import StoreError, StoreUnavailable
from ..stores.records import SERVICE, GraphRecord, ThreadRecord
from .amounts import check_rate, check_whole
from .choosing import At, Skip, place_of
from .handle import ThreadHandle

Update: TypeAlias = Mapping[str, Any] | Callable[[StateSnapshot], Mapping[str, Any] | None]
"""An update of the state, or a function of the state at the checkpoint that returns one; None for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunPlan:
    """A batch before it is begun. `dry_run=True` returns it."""

    batch_id: str
    items: tuple[Item, ...]
    effects: str

    def __len__(self) -> int:
        return len(self.items)

    @property
    def skipped(self) -> dict[str, str]:
        """Threads that are not re-run, and why."""
        return {item.thread_id: item.skipped for item in self.items if item.skipped}

    def table(self) -> pa.Table:
        """One row a thread: `thread_id`, `rerun_id`, `checkpoint_id` and `skipped`, the reason or null."""
        return pa.table(
            {
                "thread_id": [item.thread_id for item in self.items],
                "rerun_id": [thread_of(self.batch_id, item.thread_id) for item in self.items],
                "checkpoint_id": [checkpoint_id(item.seq) if item.seq else None for item in self.items],
                "skipped": [item.skipped or None for item in self.items],
            },
            schema=_SCHEMA,
        )


_SCHEMA = pa.schema([(name, pa.string()) for name in ("thread_id", "rerun_id", "checkpoint_id", "skipped")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a batch goes on. Raises `InputError`."""

    concurrency: int = 8
    """Threads under way at a time."""
    rate: float | None = None
    """Threads begun per second."""
    max_failures: int | None = None
    """How many may fail before the batch stops and asks."""

    def __post_init__(self) -> None:
        check_whole("concurrency", self.concurrency, least=1)
        if self.concurrency is None:
            raise InputError("concurrency is None; give a whole number of at least 1")
        check_rate(self.rate)
        check_whole("max_failures", self.max_failures, least=0)


class Planner:
    """Makes the items of a batch. Raises, as soon as it is made, `InputError`, and for an update that suits no thread
    `InvalidUpdateError`, `Unencodable`."""

    def __init__(
        self,
        store: CheckpointStore,
        handle: Callable[[str], ThreadHandle],
        *,
        at: At,
        graph: CompiledGraph | None,
        update: Update | None,
        effects: str,
    ) -> None:
        self._store = store
        self._handle = handle
        self._at = at
        self._graph = graph
        self._effects = read_effects(effects)
        self._codec = graph.codec if graph is not None else Codec(opaque=True)
        self._update: Callable[[StateSnapshot], Any] | bytes = update if callable(update) else self._packed(update)

    def plan(self, batch_id: str, records: Sequence[ThreadRecord]) -> RerunPlan:
        """The plan for these threads. Raises `StoreUnavailable`; what a function of the user's raises."""
        return RerunPlan(
            batch_id=batch_id, items=tuple(self._item(record) for record in records), effects=self._effects.value
        )

    def _item(self, record: ThreadRecord) -> Item:
        try:
            if record.graph == RERUNS.name:
                # a copy of it would begin what is left of its items, in its name
                raise Skip("it is a batch itself; re-run its threads, or those that failed, with failed()")
            if self._graph is None and (record.driver != SERVICE or not record.graph_key):
                raise Skip("it was run by invoke() in somebody's process; name the graph to re-run it with")
            if self._graph is not None and record.graph != self._graph.name:
                raise Skip(f"it belongs to graph {record.graph!r}")
            place = place_of(self._store, record, self._at, self._handle)
            new_rerun(record, place.seq, place.run, self._effects)
            return Item(record.thread_id, place.seq, place.run, self._payload(record, place.seq))
        except StoreUnavailable:
            raise
        except (Skip, PerdureError, StoreError) as error:
            return Item(record.thread_id, 0, skipped=str(error))

    def _payload(self, record: ThreadRecord, seq: int) -> bytes:
        if isinstance(self._update, bytes):
            return self._update
        return self._packed(self._update(self._handle(record.thread_id).get_state(checkpoint_id(seq))))

    def _packed(self, update: Any) -> bytes:
        """The payload of an update, empty for None. Raises `InputError`, `InvalidUpdateError`, `Unencodable`."""
        if update is None:
            return b""
        if not isinstance(update, Mapping):
            raise InputError(f"update is {update!r}; give a dict of keys and values, or a function that returns one")
        if self._graph is not None:
            self._graph.check_update(update, None)
        return pack(self._codec, dict(update), None, 0)


def batch_input(plan: RerunPlan, pace: Pace, graph: GraphRecord | None, mark: str) -> BatchState:
    """What the batch's thread begins with. `mark`: a text that no other batch has."""
    return {
        **_unbegun(plan.batch_id, plan.items, mark),
        "effects": plan.effects,
        "graph_key": graph.graph_key if graph is not None else "",
        "version": graph.version if graph is not None else "",
        "concurrency": pace.concurrency,
        "rate": pace.rate,
        "max_failures": pace.max_failures,
    }


def once_more(wishes: Mapping[str, Any], batch_id: str, items: Sequence[Item], mark: str) -> dict[str, Any]:
    """What the thread of another batch begins with, which does the same with some of the items. `wishes`: the channels
    of the first that say how; `mark`: a text that no other batch has."""
    return {**wishes, **_unbegun(batch_id, items, mark)}


def _unbegun(batch_id: str, items: Sequence[Item], mark: str) -> BatchState:
    """What is known of any batch of which no item was begun."""
    return BatchState(
        batch=batch_id,
        mark=mark,
        items=[list(item) for item in items],
        begun=0,
        open=[],
        failures=0,
        accepted=0,
        paced=0.0,
    )
