"""Nodes as Ray tasks: the parallel tasks of a step, grouped so that each Ray task pays for itself."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import NodeDiedError, RayTaskError, TaskCancelledError

from ..runtime.desk import Ticket
from ..runtime.execute import Step, execute
from ..runtime.nodes import Resources
from ..runtime.portal import BackgroundLoop, Portal
from ..runtime.task import Done, Failed, Origin, Outcome, Past, Task
from ..stores.records import GraphRecord
from .grouping import NodeTimes
from .inline import InlineExecutor
from .remote_desk import Owner, RemoteDesk
from .shipping import GraphCache


class WorkerState:
    """What a Ray worker process keeps between tasks: graphs and, for async nodes, one event loop."""

    def __init__(self, signing_key: bytes) -> None:
        self.packages: dict[str, ObjectRef[bytes]] = {}
        """Where the packages of the graphs that tasks ask for are, by key."""
        self.graphs = GraphCache(signing_key, lambda key: ray.get(self.packages[key]))
        self._loop: BackgroundLoop | None = None

    def portal(self) -> Portal:
        """The process's event loop."""
        self._loop = self._loop or BackgroundLoop()
        return self._loop


@dataclass(frozen=True, slots=True)
class Shared:
    """What all tasks of a step have in common, put into the object store once."""

    graph: GraphRecord
    signing_key: bytes = field(repr=False)
    values: dict[str, Any]
    config: dict[str, Any]
    owner: Owner
    ticket: Ticket
    origin: Origin
    packages: dict[str, ObjectRef[bytes]] = field(default_factory=dict)
    """The code that the graph needs, by key."""


_WORKER: dict[bytes, WorkerState] = {}  # one per process and key: a worker process serves many tasks


@ray.remote(max_retries=0)
def run_group(boxed: list[ObjectRef[Shared]], tasks: list[Task]) -> list[Outcome]:
    """Run tasks one after the other in a worker process.

    What they share comes boxed and is fetched here: as an argument Ray would hold it for the task, and never let go of
    it if the owner dies meanwhile.
    """
    shared = ray.get(boxed[0])
    boxed.clear()
    state = _WORKER.setdefault(shared.signing_key, WorkerState(shared.signing_key))
    state.packages.update(shared.packages)
    try:
        graph = state.graphs.get(shared.graph)
    finally:
        state.packages.clear()  # what it refers to is to go with the step
    desk = RemoteDesk(shared.owner, shared.ticket, shared.origin)
    step = Step(graph.topology, shared.values, shared.config, desk)
    return [portable(execute(step, task, state.portal)) for task in tasks]


def portable(outcome: Outcome) -> Outcome:
    """The outcome without what may not cross processes."""
    return replace(outcome, exception=None) if isinstance(outcome, Failed) else outcome


def ray_options(wanted: Resources) -> dict[str, Any]:
    """A node's wishes as Ray takes them."""
    options: dict[str, Any] = {
        "num_cpus": wanted.num_cpus,
        "num_gpus": wanted.num_gpus,
        "memory": wanted.memory,
        "resources": dict(wanted.resources) or None,
        "runtime_env": dict(wanted.runtime_env) if wanted.runtime_env else None,
    }
    return {name: value for name, value in options.items() if value is not None}


@dataclass(slots=True)
class _Group:
    """One Ray task under way."""

    ref: ObjectRef[list[Outcome]]
    tasks: list[Task]


class RayExecutor(InlineExecutor):
    """Runs one node inline, several as Ray tasks. Belongs to one hosted thread."""

    def __init__(
        self,
        portal: Callable[[], Portal],
        graph: GraphRecord,
        signing_key: bytes,
        times: NodeTimes,
        slots: int,
        crash_budget: int,
        packages: Mapping[str, ObjectRef[bytes]],
        owner: Owner,
    ) -> None:
        super().__init__(portal)
        self._owner = owner
        self._graph = graph
        self._signing_key = signing_key
        self._times = times
        self._slots = max(2, 2 * slots)
        self._crash_budget = crash_budget
        self._packages = packages
        self._lock = threading.RLock()
        self._waiting: deque[Task] = deque()
        self._groups: dict[int, _Group] = {}
        self._crashes: dict[str, int] = {}
        self._batch = 0
        self._step: Step | None = None
        self._shared: ObjectRef[Shared] | None = None
        self._ended: Callable[[Outcome], None] = lambda outcome: None

    def start(self, step: Step, tasks: Sequence[Task], ended: Callable[[Outcome], None]) -> None:
        """Hand tasks to Ray. Those of nodes marked `run="inline"` are run here, after the others were handed over."""
        nodes = step.topology.nodes
        with self._lock:
            if step is not self._step:
                shared = Shared(
                    self._graph,
                    self._signing_key,
                    dict(step.values),
                    dict(step.config),
                    self._owner,
                    step.desk.ticket,
                    step.desk.origin,
                    dict(self._packages),
                )
                self._step, self._shared = step, ray.put(shared)
            self._ended = ended
            self._waiting.extend(task for task in tasks if nodes[task.node].run != "inline")
            self._fill()
        for task in tasks:
            if nodes[task.node].run == "inline":
                ended(self.run(step, task))

    def stop(self) -> None:
        """Stop the node that runs inline and kill the Ray tasks."""
        with self._lock:
            self._batch += 1
            self._waiting.clear()
            groups, self._groups = list(self._groups.values()), {}
            self._step = self._shared = None
        for group in groups:
            ray.cancel(group.ref, force=True)
        super().stop()

    def _fill(self) -> None:
        """Start groups as long as there are slots and tasks."""
        assert self._step is not None
        while self._waiting and len(self._groups) < self._slots:
            node = self._waiting[0].node
            size = self._times.group_size(node, len(self._waiting), self._slots)
            tasks: list[Task] = []
            while self._waiting and len(tasks) < size and self._waiting[0].node == node:
                tasks.append(self._waiting.popleft())
            self._launch(tasks)

    def _launch(self, tasks: list[Task]) -> None:
        assert self._step is not None
        assert self._shared is not None
        options = ray_options(self._step.topology.nodes[tasks[0].node].resources)
        ref = run_group.options(**options).remote([self._shared], tasks)
        group = _Group(ref, tasks)
        self._groups[id(group)] = group
        batch = self._batch
        ref.future().add_done_callback(lambda done: self._on_done(batch, group, done))

    def _on_done(self, batch: int, group: _Group, done: Any) -> None:
        with self._lock:
            if batch != self._batch:
                return
            self._groups.pop(id(group), None)
            error = done.exception()
            outcomes = done.result() if error is None else self._lost(group.tasks, error)
            times = [outcome.seconds for outcome in outcomes if isinstance(outcome, Done)]
            if times:
                self._times.learn(group.tasks[0].node, sum(times) / len(times))
            self._fill()
            ended = self._ended
        for outcome in outcomes:
            ended(outcome)

    def _lost(self, tasks: list[Task], error: BaseException) -> list[Outcome]:
        """What becomes of the tasks of a group that gave no answer. A group that died is run again task by task, so
        that the crash is charged to the task that causes it; the loss of a node is charged to none."""
        if isinstance(error, TaskCancelledError):
            return [Failed(task.path, task.node, "Cancelled", str(error), cancelled=True) for task in tasks]
        if isinstance(error, RayTaskError):
            # The worker lives: loading the graph or sending the results failed.
            cause = error.cause if isinstance(error.cause, BaseException) else error
            if len(tasks) == 1:
                name = type(cause).__qualname__
                return [Failed(tasks[0].path, tasks[0].node, name, str(cause), traceback=str(error))]
        outcomes: list[Outcome] = []
        for task in tasks:
            if len(tasks) == 1 and not isinstance(error, NodeDiedError):
                self._crashes[task.path] = self._crashes.get(task.path, 0) + 1
                if self._crashes[task.path] >= self._crash_budget:
                    text = f"the worker process that ran it died {self._crash_budget} times ({_first_line(error)})"
                    outcomes.append(Failed(task.path, task.node, type(error).__name__, text, crashed=True))
                    continue
            self._launch([_tried_again(task) if len(tasks) == 1 else task])
        return outcomes


def _tried_again(task: Task) -> Task:
    past = task.past or Past()
    return replace(task, past=replace(past, attempt=past.attempt + 1))


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
