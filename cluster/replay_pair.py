"""A thread beside itself, run again with another version of its graph: where the two part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..runtime.calls import FUNCTIONS, CallKind, Stop, shown
from ..runtime.control import RUN_CHANNEL, Control, Next
from ..runtime.diffs import StateDiff, diff_values
from ..runtime.errors import NotRecorded
from ..runtime.failures import Failure, decode_failure
from ..runtime.position import Position
from ..runtime.restore import add_pending, load_values
from ..runtime.snapshots import checkpoint_id
from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.history import HistoryReader
from ..stores.records import Status
from .replay_run import Again, Stand, Way


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


class Pair:
    """A thread and its re-run, by the places that they came to."""

    def __init__(self, store: CheckpointStore, old: Way, new: Way) -> None:
        self._store = store
        self._old, self._new = old, new
        self._codec = Codec(opaque=True)
        self._old_reader, self._new_reader = (
            HistoryReader(store, way.record.thread_id, record=way.record) for way in (old, new)
        )
        self._common = sorted(old.stands.keys() & new.stands.keys())

    def divergence(self, again: Again, states: bool) -> Divergence | None:
        """The first, by where it is; None if there is none."""
        found = [
            one
            for one in (
                self._of_nodes(),
                self._of_states() if states else None,
                self._of_end(again),
            )
            if one is not None
        ]
        return min(found, key=lambda one: one[0])[1] if found else None

    def _of_nodes(self) -> tuple[int, Divergence] | None:
        for place in self._common[1:]:
            old, new = self._old.stands[place].control, self._new.stands[place].control
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
        return place, self._at(place, "state", _ran(self._new.stands[place].control), str(diff))

    def _of_end(self, again: Again) -> tuple[int, Divergence] | None:
        last, came = self._old.last, self._new.last
        begun = LastStep(self._store, self._old, self._old_reader, self._codec)
        stood = self._new.stands[came].control
        if again.error is None or came > last:
            if not begun.failed:
                return None
            what = f"it would get past the step in which the thread failed: {self._old.record.reason}"
            return last, self._at(last, "status", _names(self._old.stands[last].control.next), what)
        raised = [(task.path, task.node, again.raised[task.path]) for task in stood.next if task.path in again.raised]
        for path, node, error in raised or [("", _names(stood.next), again.error)]:
            if came >= last and begun.tells_nothing_against(path, error):
                continue
            if isinstance(error, NotRecorded):
                stop = begun.stop(path) if came >= last else None
                return came, self._at(came, "effect", error.node, f"{error.what}: the thread {_why(error, stop)}")
            return came, self._at(came, "failed", node, f"{type(error).__name__}: {error}")
        return None

    def _at(self, place: int, kind: str, node: str, what: str) -> Divergence:
        before = max((one for one in self._old.stands if one <= place), default=self._old.first)
        return Divergence(checkpoint_id=checkpoint_id(self._old.stands[before].seq), node=node, kind=kind, what=what)

    def _diff(self, place: int) -> StateDiff:
        old, new = self._old.stands[place], self._new.stands[place]
        shared = {name for name, at in old.control.manifest.items() if new.control.manifest.get(name) == at}
        left_out = {name for name in shared if old.control.manifest[name] <= self._old.stands[self._common[0]].seq}
        values = [
            dict(load_values(reader, _wanted(stand, left_out), self._codec, at=stand.seq))
            for reader, stand in ((self._old_reader, old), (self._new_reader, new))
        ]
        return diff_values(values[0], values[1], self._codec)


class LastStep:
    """What a thread has recorded of the step after its newest checkpoint. There its record ends somewhere: what a
    re-run comes to beyond that is no divergence."""

    def __init__(self, store: CheckpointStore, way: Way, reader: HistoryReader, codec: Codec) -> None:
        self._tasks = Position()
        add_pending(self._tasks, reader, way.stands[way.last].seq, codec)
        self._failure = _failure(store, way)
        self.failed = way.record.status is Status.FAILED and not _cut_off(self._failure)
        """The code of the thread has ended it, by an error in this step: no limit, and nobody from outside."""

    def tells_nothing_against(self, path: str, error: BaseException) -> bool:
        """Whether the record leaves open that the thread would have gone on just so. `path`: the task that raised the
        error; empty if none did."""
        tasks = self._tasks
        if path in tasks.results:
            return False
        stop = self.stop(path)
        if not isinstance(error, NotRecorded):
            # It fails as the thread did, or in a task of which nothing is known.
            return self.failed or bool(path and stop is None and path not in tasks.calls)
        if error.recorded:
            return False
        if error.index is None:
            return not self.failed or bool(path)  # in front of a breakpoint, or of a node that acts without a record
        if stop is not None:
            # Calls that were made side by side with that at which it waits may have no record yet.
            return error.index < stop.index or (error.index, error.called) == (stop.index, shown(stop.kind, stop.name))
        return not self.failed or (_is_task(error) and self._may_have_raised(path, error.index))

    def _may_have_raised(self, path: str, index: int) -> bool:
        """Whether a `@task` call without a record may be one that the thread made: an exception is not recorded, nor
        what ran side by side with a call that raised."""
        failure = self._failure
        if failure is None or failure.path != path:
            return True  # several tasks may fail in a step, and of one of them is kept why
        return failure.call is not None and index <= failure.call

    def stop(self, path: str) -> Stop | None:
        """Where a task waits."""
        return self._tasks.stops.get(path)


def _why(error: NotRecorded, stop: Stop | None) -> str:
    """Why a thread, whose task waits at `stop`, has no record of what `error` says."""
    if error.index is None or error.recorded:
        return error.why
    if stop is not None:
        return f"waits at its call {stop.index} ({shown(stop.kind, stop.name)})"
    return f"{error.why} (of a @task that raised there is no record)" if _is_task(error) else error.why


def _is_task(error: NotRecorded) -> bool:
    return error.called.startswith(FUNCTIONS[CallKind.TASK])


def _failure(store: CheckpointStore, way: Way) -> Failure | None:
    """How the run of a thread failed."""
    run = next((run for run in store.runs(way.record.thread_id) if run.run == way.record.run), None)
    return decode_failure(run.error) if run is not None and run.error else None


def _cut_off(failure: Failure | None) -> bool:
    """Whether a run came to its limit of steps, or was a re-run that came to the end of its own original's record."""
    if failure is None:
        return False
    return bool(failure.limit) or failure.type.rpartition(".")[2] == NotRecorded.__qualname__


def _wanted(stand: Stand, left_out: set[str]) -> dict[str, int]:
    return {name: at for name, at in stand.control.manifest.items() if name not in left_out and name != RUN_CHANNEL}


def _ran(control: Control) -> str:
    return ", ".join(dict.fromkeys(node for _, node in control.done))


def _names(tasks: Sequence[Next]) -> str:
    return ", ".join(dict.fromkeys(task.node for task in tasks)) or "nothing"
