"""Runs a recorded thread again in this process, with what it recorded, as far as its record goes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..runtime.clock import SystemClock
from ..runtime.compiled import CompiledGraph
from ..runtime.control import RUN_CHANNEL, TYPES, Control
from ..runtime.errors import PerdureError
from ..runtime.execute import Step, failure
from ..runtime.failures import as_error
from ..runtime.inprocess import InProcess
from ..runtime.local import LocalExecutor
from ..runtime.options import Durability, RunOptions
from ..runtime.payloads import RESUME, pack
from ..runtime.portal import BackgroundLoop, Portal
from ..runtime.reruns import Effects
from ..runtime.restore import load_values
from ..runtime.settled import Settled
from ..runtime.snapshots import config_of
from ..runtime.task import Failed, Outcome, Task
from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.history import HistoryReader
from ..stores.records import Status, ThreadRecord
from ..stores.segments import Kind


class Stand(NamedTuple):
    """A checkpoint of a thread."""

    seq: int
    control: Control


class Way:
    """The checkpoints of a thread's run that it is run again over, by their `Control.place`: of several at one place
    the newest."""

    def __init__(self, record: ThreadRecord, stands: Mapping[int, Stand]) -> None:
        self.record = record
        self.stands = stands
        self.first, self.last = min(stands), max(stands)

    @property
    def start(self) -> Stand:
        """Where it begins."""
        return self.stands[self.first]


@dataclass(slots=True)
class Again:
    """What came of a thread that was run again."""

    thread_id: str
    """Id of the fork that was run."""
    error: BaseException | None = None
    """Why it failed, or could not be run; None where it came to the end of the record."""
    raised: dict[str, BaseException] = field(default_factory=dict)
    """What the tasks of the step in which it failed raised, by path. Empty where no task did."""


class EndOfRecord(Exception):
    """A thread that is run again is to begin a step of which its record has nothing."""


class Replayer:
    """Runs recorded threads again, with another version of their graph. Use it in a `with` block."""

    def __init__(self, graph: CompiledGraph) -> None:
        self._topology = graph.topology
        self._portal: BackgroundLoop | None = None

    def run(self, store: CheckpointStore, way: Way) -> Again:
        """Run a thread of `store` again, there, up to the end of the last step that it has begun.

        Nothing that a node raises is raised here, `sys.exit()` included: no check in a pipeline is to end with the code
        that a node chose. Only Ctrl-C leaves it.
        """
        graph = CompiledGraph(self._topology, store)
        forked = graph.fork(config_of(way.record.thread_id, way.start.seq), effects=Effects.RECORDED.value)
        again = Again(str(forked["configurable"]["thread_id"]))
        try:
            error = self._why(self._settled(graph, store, way, again))
        except (Exception, SystemExit) as raised:  # noqa: BLE001 — a graph may raise anything; it is what is told
            error = raised
        again.error = None if isinstance(error, EndOfRecord) else error
        return again

    def _settled(self, graph: CompiledGraph, store: CheckpointStore, way: Way, again: Again) -> Settled:
        options = RecordedOptions(store, way, graph.codec)
        executor = _AsThen(self._async_nodes, options, way, again.raised)
        runner = InProcess(
            topology=graph.topology,
            store=store,
            codec=graph.codec,
            clock=SystemClock(),
            executor=lambda: executor,
        )
        runner.send(again.thread_id, RESUME, pack(graph.codec, "", None, None, options.to_go_on().to_data()))
        return runner.run(again.thread_id)

    def _why(self, settled: Settled) -> BaseException | None:
        if settled.exception is not None:
            return settled.exception
        if settled.failure is not None:
            return as_error(settled.failure, self._topology.name, "")
        if settled.status is Status.PAUSED:
            return PerdureError(f"the thread is paused: {settled.position.paused}")
        return None

    def _async_nodes(self) -> Portal:
        self._portal = self._portal or BackgroundLoop()
        return self._portal

    def __enter__(self) -> Replayer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._portal is not None:
            self._portal.close()


class RecordedOptions:
    """What a thread's caller had chosen for its run, which may change whenever somebody goes on with it."""

    def __init__(self, store: CheckpointStore, way: Way, codec: Codec) -> None:
        self._reader = HistoryReader(store, way.record.thread_id, record=way.record)
        self._way = way
        self._codec = codec
        self._of_version: dict[int, RunOptions] = {}

    def at(self, place: int) -> RunOptions:
        """The options of the step after a place."""
        before = max(one for one in self._way.stands if one <= max(place, self._way.first))
        stand = self._way.stands[before]
        changed = [row for row in self._reader.pending(stand.seq) if row.kind == Kind.OPTIONS]
        if changed:
            return RunOptions.from_data(self._codec.decode(changed[-1].encoding, changed[-1].payload))
        version = stand.control.manifest.get(RUN_CHANNEL, 0)
        if version not in self._of_version:
            self._of_version[version] = self._read(stand, version)
        return self._of_version[version]

    def to_go_on(self) -> RunOptions:
        """Those that the thread is run again with. Its breakpoints are those at which it stands. How many steps it may
        take is bounded by the record, however often its count began anew in it."""
        return replace(
            self.at(self._way.last),
            recursion_limit=sys.maxsize,
            durability=Durability.ASYNC,
            checkpoints=None,
            stop_after=None,
        )

    def _read(self, stand: Stand, version: int) -> RunOptions:
        if not version:
            return RunOptions()
        data = dict(load_values(self._reader, {RUN_CHANNEL: version}, self._codec, at=stand.seq)[RUN_CHANNEL])
        data.pop(TYPES, None)
        return RunOptions.from_data(data)


class _AsThen(LocalExecutor):
    """Hands nodes the config that they had then, starts none where the record has ended, and notes what they raise."""

    def __init__(
        self,
        portal: Callable[[], Portal],
        options: RecordedOptions,
        way: Way,
        raised: dict[str, BaseException],
    ) -> None:
        super().__init__(portal)
        self._options = options
        self._way = way
        self._raised = raised
        # A thread that has come to its end has begun no step after its newest checkpoint.
        self._last = way.last if way.stands[way.last].control.next else way.last - 1

    def run(self, step: Step, task: Task) -> Outcome:
        if self._place(step) > self._last:
            return failure(task, EndOfRecord())
        outcome = super().run(self._then(step), task)
        self._note(outcome)
        return outcome

    def start(self, step: Step, tasks: Sequence[Task], ended: Callable[[Outcome], None]) -> None:
        def noted(outcome: Outcome) -> None:
            self._note(outcome)
            ended(outcome)

        if self._place(step) > self._last:
            for task in tasks:
                ended(failure(task, EndOfRecord()))
        else:
            super().start(self._then(step), tasks, noted)

    def _place(self, step: Step) -> int:
        return step.desk.origin.step - 1 - self._way.start.control.lag

    def _then(self, step: Step) -> Step:
        options = self._options.at(self._place(step))
        return replace(step, config=options.as_config(str(step.config["configurable"]["thread_id"])))

    def _note(self, outcome: Outcome) -> None:
        if isinstance(outcome, Failed) and outcome.exception is not None:
            self._raised[outcome.path] = outcome.exception
