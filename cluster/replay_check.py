"""Would another version of a graph go the way that recorded threads went? Run again with what they recorded, on copies.

Nothing is written to the threads' store: each thread is copied into a store in memory, and runs there, in this process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..runtime.compiled import CompiledGraph
from ..runtime.control import RUN_CHANNEL, Control, Next
from ..runtime.diffs import StateDiff, diff_values
from ..runtime.errors import InputError, NotRecorded
from ..runtime.reruns import Effects
from ..runtime.restore import load_values
from ..runtime.snapshots import checkpoint_id, config_of
from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.copying import StoreSource, copy_store
from ..stores.errors import UnknownThread
from ..stores.history import HistoryReader
from ..stores.memory import MemoryStore
from ..stores.records import IN_PROCESS, SERVICE, Status, ThreadRecord
from .choosing import Choice, Where, chosen, led_to_head


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Where the other version first leaves the way that a thread went."""

    checkpoint_id: str
    """The newest checkpoint of the thread that both have in common, or the first at which they differ."""
    node: str
    """The nodes that ran last, or that were to run; comma-separated."""
    kind: str
    """effect (it asks for what has no record), failed, nodes (others are to run next), status or state."""
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What came of one thread."""

    thread_id: str
    steps: int = 0
    """Supersteps that ran again."""
    divergence: Divergence | None = None
    skipped: str = ""
    """Why there was nothing to run again."""


def replay_check(
    store: CheckpointStore,
    graph: CompiledGraph,
    where: Where | None = None,
    *,
    limit: int | None = None,
    sample: int | float | None = None,
    states: bool = True,
) -> Iterator[Checked]:
    """Run `graph` over the threads of its name that `where`, `sample` and `limit` choose (as in `client.rerun`), one
    at a time, and say of each where it diverges. `states`: whether a state with other values counts.

    A node may raise anything; that is a divergence, unless the thread had failed there too. Raises `InputError`,
    `UnknownThread`, `StoreUnavailable`, `Corrupt`, `NewerFormat`.
    """
    choice = Choice.of(where, graph=graph.name)
    if choice.graph != graph.name:
        raise InputError(f"where names graph {choice.graph!r}, but {graph.name!r} is to be checked; leave it out")
    copies = MemoryStore()
    runner = CompiledGraph(graph.topology, copies)
    for record in chosen(store, choice, limit=limit, sample=sample, seed=graph.name):
        line = _line(store, record)
        try:
            for _ in copy_store(_Only(store, line), copies):
                continue
            yield _checked(runner, copies, record, states)
        finally:
            for row in line:
                _forget(copies, row.thread_id)


class _Only(StoreSource):
    """Some threads of a store, without their code, and under no retention."""

    def __init__(self, store: CheckpointStore, rows: Sequence[ThreadRecord]) -> None:
        super().__init__(store)
        self._rows = rows
        self.graph_keys = lambda: ()
        self.setting = lambda name: None

    def rows(self) -> Iterator[ThreadRecord]:
        yield from self._rows


def _line(store: CheckpointStore, record: ThreadRecord) -> list[ThreadRecord]:
    """A thread, and all that it has its history or its records from: those after those that need them."""
    found = {record.thread_id: record}
    todo = [record]
    while todo:
        row = todo.pop()
        for origin in (row.origin, row.replays):
            if origin is None or origin.thread_id in found:
                continue
            try:
                above = store.thread(origin.thread_id)
            except UnknownThread:
                continue  # what it recorded has gone with it
            found[above.thread_id] = above
            todo.append(above)
    return list(found.values())


def _forget(copies: MemoryStore, thread_id: str) -> None:
    try:
        copies.delete(thread_id)
    except UnknownThread:
        pass  # it was not copied: deleted meanwhile


class _Step(NamedTuple):
    seq: int
    control: Control


def _checked(graph: CompiledGraph, copies: CheckpointStore, chosen_record: ThreadRecord, states: bool) -> Checked:
    thread_id = chosen_record.thread_id
    if chosen_record.driver not in (SERVICE, IN_PROCESS):
        return Checked(thread_id=thread_id, skipped=f"its driver is {chosen_record.driver!r}")
    try:
        record = copies.thread(thread_id)
    except UnknownThread:
        return Checked(thread_id=thread_id, skipped="it was deleted meanwhile")
    way = _way(copies, record)
    if not way:
        return Checked(thread_id=thread_id, skipped="its newest run has no checkpoint of its own to go on from")
    start = way[0]
    fork = graph.fork(config_of(thread_id, start.seq), effects=Effects.RECORDED.value)
    fork_id = str(fork["configurable"]["thread_id"])
    try:
        raised: Exception | None = None
        try:
            graph.invoke(None, fork)
        except Exception as error:  # noqa: BLE001 — a node may raise anything; it is what is to be told
            raised = error
        again = copies.thread(fork_id)
        new = _by_place(_Step(*one) for one in led_to_head(copies, again) if one[0] >= start.seq)
        pair = _Pair(copies, record, again, _by_place(way), new)
        return Checked(
            thread_id=thread_id,
            steps=max(new) - start.control.place,
            divergence=pair.divergence(raised, states),
        )
    finally:
        copies.delete(fork_id)


def _way(store: CheckpointStore, record: ThreadRecord) -> list[_Step]:
    """The checkpoints of the newest run, oldest first, from the last on that was made from outside: a re-run does not
    repeat updates. Empty where nothing was to run after it."""
    way: list[_Step] = []
    for seq, control in led_to_head(store, record):
        inherited = record.origin is not None and seq <= record.origin.seq
        if control.run != record.run or inherited:
            break
        if control.source != "loop":
            if control.next:
                return [_Step(seq, control), *reversed(way)]
            way = []  # an update at the end of the run, which left nothing to run: what came before it counts
            continue
        way.append(_Step(seq, control))
    return list(reversed(way)) if way and way[-1].control.next else []


def _by_place(steps: Any) -> dict[int, _Step]:
    """By `Control.place`: of several at one place the newest."""
    found: dict[int, _Step] = {}
    for step in steps:
        known = found.get(step.control.place)
        if known is None or known.seq < step.seq:
            found[step.control.place] = step
    return found


class _Pair:
    """A thread and its re-run, by the places that they came to."""

    def __init__(
        self,
        store: CheckpointStore,
        old: ThreadRecord,
        new: ThreadRecord,
        old_way: Mapping[int, _Step],
        new_way: Mapping[int, _Step],
    ) -> None:
        self._old, self._new = old_way, new_way
        self._record = old
        self._codec = Codec(opaque=True)
        self._old_reader = HistoryReader(store, old.thread_id, record=old)
        self._new_reader = HistoryReader(store, new.thread_id, record=new)
        self._common = sorted(old_way.keys() & new_way.keys())

    def divergence(self, raised: Exception | None, states: bool) -> Divergence | None:
        """The first, by where it is; None if there is none."""
        found = [
            one
            for one in (
                self._of_nodes(),
                self._of_states() if states else None,
                self._of_end(raised),
            )
            if one is not None
        ]
        return min(found, key=lambda one: one[0])[1] if found else None

    def _of_nodes(self) -> tuple[int, Divergence] | None:
        for place in self._common[1:]:
            old, new = self._old[place].control, self._new[place].control
            if sorted(task.path for task in old.next) != sorted(task.path for task in new.next):
                what = f"{_names(new.next)} would run next, and not {_names(old.next)}"
                return place, self._at(place, "nodes", _ran(new), what)
        return None

    def _of_states(self) -> tuple[int, Divergence] | None:
        """The first place from which on the states differ, where those at the last place in common do."""
        if not (diff := self._diff(self._common[-1])):
            return None
        low, high = 0, len(self._common) - 1
        while high - low > 1:
            middle = (low + high) // 2
            if found := self._diff(self._common[middle]):
                high, diff = middle, found
            else:
                low = middle
        place = self._common[high]
        return place, self._at(place, "state", _ran(self._new[place].control), str(diff))

    def _of_end(self, raised: Exception | None) -> tuple[int, Divergence] | None:
        status, last, came = self._record.status, max(self._old), max(self._new)
        stood = self._new[came].control
        if raised is None:
            if status is not Status.FAILED:
                return None
            what = f"it would succeed where the thread failed: {self._record.reason}"
            return last, self._at(last, "status", _names(self._old[last].control.next), what)
        # Beyond what it has done the thread has recorded nothing: there its record ends, and no way is left.
        if isinstance(raised, NotRecorded):
            if not status.ended and came >= last:
                return None
            return came, self._at(came, "effect", raised.node, f"{raised.what}: the thread {raised.why}")
        if status is Status.FAILED and came == last:
            return None
        what = f"{type(raised).__name__}: {raised}"
        return came, self._at(came, "failed", _names(stood.next), what)

    def _at(self, place: int, kind: str, node: str, what: str) -> Divergence:
        before = max((one for one in self._old if one <= place), default=min(self._old))
        return Divergence(checkpoint_id=checkpoint_id(self._old[before].seq), node=node, kind=kind, what=what)

    def _diff(self, place: int) -> StateDiff:
        old, new = self._old[place], self._new[place]
        shared = {name for name, at in old.control.manifest.items() if new.control.manifest.get(name) == at}
        left_out = {name for name in shared if old.control.manifest[name] <= self._old[self._common[0]].seq}
        values = [
            dict(load_values(reader, _wanted(step.control, left_out), self._codec, at=step.seq))
            for reader, step in ((self._old_reader, old), (self._new_reader, new))
        ]
        return diff_values(values[0], values[1], self._codec)


def _wanted(control: Control, left_out: set[str]) -> dict[str, int]:
    return {name: at for name, at in control.manifest.items() if name not in left_out and name != RUN_CHANNEL}


def _ran(control: Control) -> str:
    return ", ".join(dict.fromkeys(node for _, node in control.done))


def _names(tasks: Sequence[Next]) -> str:
    return ", ".join(dict.fromkeys(task.node for task in tasks)) or "nothing"
