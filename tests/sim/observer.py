"""Watches while things happen: what readers were shown, and what owners believed when they gave a thread up."""

from __future__ import annotations

from typing import Any

from perdure.runtime.options import RunOptions
from perdure.runtime.position import Position
from perdure.runtime.restore import load_control, load_values, restore
from perdure.runtime.settled import Settled
from perdure.runtime.snapshots import StateSnapshot
from perdure.stores.base import CheckpointStore
from perdure.stores.history import HistoryReader
from perdure.stores.records import Status, ThreadRecord
from tests.sim.graphs import graph_named
from tests.sim.journal import require

_KEPT = (
    "values",
    "manifest",
    "head",
    "step",
    "since",
    "next",
    "joins",
    "done",
    "branch",
    "born",
    "sends",
    "stops",
    "calls",
    "beats",
    "passed",
)
_OF_RUN = ("run", "run_open", "run_status", "run_reason")


class Observer:
    """Remembers every state that was seen, and compares."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self.states: dict[tuple[str, int], dict[str, Any]] = {}
        self.results: dict[tuple[str, int, str], Any] = {}

    def seen(self, thread_id: str, snapshot: StateSnapshot) -> None:
        """A reader was shown this."""
        if "checkpoint_id" not in snapshot.config["configurable"]:
            return
        seq = int(snapshot.checkpoint_id)
        known = self.states.setdefault((thread_id, seq), dict(snapshot.values))
        require(
            known == snapshot.values,
            "V2",
            f"checkpoint {seq} of {thread_id} was seen as {known} and is now {snapshot.values}",
        )
        for task in snapshot.tasks:
            if task.result is None:
                continue
            before = self.results.setdefault((thread_id, seq, task.id), task.result)
            require(
                before == task.result,
                "V2",
                f"task {task.id} at checkpoint {seq} of {thread_id} had result {before} and has now {task.result}",
            )

    def settled(self, record: ThreadRecord, settled: Settled, options: RunOptions) -> None:
        """An owner gave a thread up: what it believed must be what the store has."""
        at, codec, thread_id = settled.position, graph_named(record.graph).codec, record.thread_id
        if at.head:
            reader = HistoryReader(self._store, thread_id)
            values = load_values(reader, load_control(reader, at.head).manifest, codec)
            values.pop("__run__", None)
            require(
                values == at.values, "V6", f"{thread_id} at {at.head}: the owner had {at.values}, the store {values}"
            )
        row = self._store.thread(thread_id)
        rests = row.status is not Status.RUNNING or row.epoch != record.epoch
        require(rests, "V5", f"{thread_id} is given up, and running")
        if row.epoch == record.epoch:
            restored = restore(self._store, row, codec)
            _compare(thread_id, at, restored.position)
            kept = RunOptions.from_data(restored.options)
            require(
                kept == options or not at.run_open,
                "V6",
                f"{thread_id}: the run went on with {options}, the store has {kept}",
            )


def _compare(thread_id: str, memory: Position, store: Position) -> None:
    """Nothing was committed by anybody else since: every part of the position can be compared."""
    # A cancel that comes when the run has ended by itself cancels the thread, and leaves the run's own end as it was.
    of_run = _OF_RUN if memory.run_status is not Status.CANCELLED else ()
    for name in (*_KEPT, *of_run, *(("paused",) if memory.run_open else ())):
        mine, kept = getattr(memory, name), getattr(store, name)
        require(mine == kept, "V6", f"{thread_id}: {name} was {mine} in memory and is {kept} in the store")
    had = {path: (done.writes, done.goto) for path, done in memory.results.items()}
    has = {path: (done.writes, done.goto) for path, done in store.results.items()}
    require(had == has, "V6", f"{thread_id}: results were {had} in memory and are {has} in the store")
