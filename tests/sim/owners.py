"""Simulated processes that own threads: the engine's real parts, driven one move at a time, mortal at every one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from perdure.runtime.cache import CacheOptions, ReadCache
from perdure.runtime.clock import Clock
from perdure.runtime.commands import Send
from perdure.runtime.execute import Step, execute, route
from perdure.runtime.loop import LoopRun, ThreadLoop
from perdure.runtime.portal import Portal
from perdure.runtime.ports import Event, Gate, LoopLimits, Need, Poke, Ports, StepEvent
from perdure.runtime.restore import restore
from perdure.runtime.settled import Settled
from perdure.runtime.task import Failed, Outcome, Task
from perdure.runtime.writer import Writer
from perdure.stores.base import CheckpointStore
from perdure.stores.errors import ClaimLost, Fenced, StoreUnavailable, UnknownThread
from perdure.stores.records import ThreadRecord
from tests.sim.desks import waiting
from tests.sim.faults import CALM, Actor, Died, Fate, FaultyStore
from tests.sim.graphs import graph_named
from tests.sim.journal import Journal, Violation


class Surroundings(Fate, Protocol):
    """What an owner is given; the scheduler."""

    store: CheckpointStore
    clock: Clock
    journal: Journal
    limits: LoopLimits
    cache: CacheOptions
    loop_class: type[ThreadLoop]
    writer_class: type[Writer]
    observed: bool

    def settled(self, hosted: Hosted, settled: Settled) -> None:
        """A loop has given its thread up."""
        ...

    def told(self, record: ThreadRecord, event: StepEvent) -> None:
        """An observer was told of a step."""
        ...


@dataclass(eq=False)
class Hosted:
    """A thread that an owner holds, or believes that it holds."""

    record: ThreadRecord
    loop: ThreadLoop
    steps: LoopRun
    gate: Gate
    need: Need | None = None
    """None before its first move."""

    @property
    def ready(self) -> bool:
        """Whether it has something to do."""
        if self.loop.events or self.need in (None, Need.STORE):
            return True
        if self.need is Need.EVENT and self.loop.patience() is not None:
            return True
        return self.need is Need.GATE and self.gate.open

    def post(self, event: Event) -> None:
        self.loop.events.append(event)


@dataclass(eq=False)
class Claiming:
    """A claim under way. It is repeated with the same token until the store answers."""

    thread_id: str
    epoch: int
    token: str
    crashed: bool
    record: ThreadRecord | None = None


@dataclass(eq=False)
class Beside:
    """A task that was started beside its loop."""

    executor: SimExecutor
    step: Step
    task: Task
    ended: Callable[[Outcome], None]


def _no_portal() -> Portal:
    raise AssertionError("the simulated graphs have no async nodes")


class SimExecutor:
    """Runs nodes: one at once, several whenever the scheduler says so."""

    def __init__(self, owner: Owner, record: ThreadRecord) -> None:
        self._owner = owner
        self._record = record

    def run(self, step: Step, task: Task) -> Outcome:
        self._note(task)
        self._owner.falter()
        if self._owner.world.draw() < self._owner.world.chances().die:
            return Failed(task.path, task.node, "Cancelled", "stopped from outside", cancelled=True)
        outcome = execute(step, task, _no_portal)
        self._owner.check()
        self._owner.falter()
        return outcome

    def start(self, step: Step, tasks: Sequence[Task], ended: Callable[[Outcome], None]) -> None:
        for task in tasks:
            self._note(task)
            self._owner.beside.append(Beside(self, step, task, ended))

    def route(self, step: Step, source: str, writes: tuple[tuple[str, object], ...]) -> tuple[str | Send, ...]:
        return route(step, source, writes, _no_portal)

    def shield(self) -> AbstractContextManager[None]:
        return nullcontext()

    def stop(self) -> None:
        # Half of what runs does not hear of it, and ends when nobody waits for it.
        owner = self._owner
        owner.beside = [one for one in owner.beside if one.executor is not self or owner.world.draw() < 0.5]

    def _note(self, task: Task) -> None:
        thread_id, head, path = task.key.split("\n")
        self._owner.world.journal.executed(thread_id, self._record.epoch, int(head), path)


class Owner(Actor):
    """One process. Its moves are the methods; each may raise `Died`."""

    def __init__(self, name: str, world: Surroundings) -> None:
        super().__init__(name, mortal=True)
        self.world = world
        self.frozen = False
        self.store = FaultyStore(world.store, self, world)
        self.cache = ReadCache(world.cache)
        self.writer = waiting(world.writer_class)(self.store, world.clock)
        self.writer.falter = self.falter
        self.hosted: list[Hosted] = []
        self.claiming: list[Claiming] = []
        self.beside: list[Beside] = []

    def falter(self) -> None:
        """A node runs: others may act meanwhile, and the process may die."""
        chances = self.world.chances()
        if chances is CALM:
            return
        if self.world.draw() < chances.pause:
            self.world.meanwhile(self)
        if self.world.draw() < chances.die:
            raise Died

    def check(self) -> None:
        """Die of what happened inside a node, which took it for an error of its own."""
        if self.writer.died:
            raise Died

    def propose(self, thread_id: str, epoch: int, *, crashed: bool) -> None:
        """Somebody asks it to claim a thread, which was seen with this epoch."""
        self.claiming.append(Claiming(thread_id, epoch, self.world.clock.unique(), crashed))

    def claim(self, claiming: Claiming) -> None:
        """Go on with a claim: the store's answer, then the position, then the loop."""
        try:
            if claiming.record is None:
                claiming.record = self.store.claim(
                    claiming.thread_id,
                    epoch=claiming.epoch,
                    token=claiming.token,
                    owner=self.name,
                    crashed=claiming.crashed,
                    at=self.world.clock.time(),
                )
            self._host(claiming.record)
        except StoreUnavailable:
            return
        except (ClaimLost, UnknownThread):
            pass
        self.claiming.remove(claiming)

    def _host(self, record: ThreadRecord) -> None:
        graph = graph_named(record.graph)
        restored = restore(self.store, record, graph.codec, self.cache)
        gate = Gate()
        executor = SimExecutor(self, record)
        observer = partial(self.world.told, record) if self.world.observed else None
        ports = Ports(self.store, self.store, executor, self.world.clock, gate, self.world.limits, observer)
        loop = self.world.loop_class(record, restored, graph.topology, graph.codec, ports)
        hosted = Hosted(record, loop, loop.run(), gate)
        loop.attach(self.writer.lane(record.thread_id, record.epoch, record.token, hosted.post), hosted.post)
        self.hosted.append(hosted)

    def advance(self, hosted: Hosted) -> None:
        """Let a loop go on until it waits."""
        try:
            hosted.need = next(hosted.steps)
        except StopIteration as end:
            self.hosted.remove(hosted)
            self.world.settled(hosted, end.value)
        except Fenced:
            self.world.journal.note("fenced", self.name, hosted.record.thread_id, f"epoch {hosted.record.epoch}")
            self.hosted.remove(hosted)
        except StoreUnavailable as error:
            raise Violation("V5", f"a loop gave up over a store that was away for a moment: {error}") from error

    def flush(self) -> None:
        """Write one group."""
        try:
            self.writer.flush()
        except StoreUnavailable:
            self.world.journal.note("unanswered", self.name)

    def end_task(self, beside: Beside) -> None:
        """A task that runs beside its loop ends, in whatever order."""
        self.beside.remove(beside)
        task = beside.task
        if self.world.draw() < self.world.chances().die:
            beside.ended(Failed(task.path, task.node, "Crashed", "its process died", crashed=True))
            return
        self.world.journal.note("end", task.path, self.name)
        outcome = execute(beside.step, task, _no_portal)
        self.check()
        beside.ended(outcome)

    def poke(self, hosted: Hosted) -> None:
        """Somebody says that there is mail."""
        hosted.post(Poke())
