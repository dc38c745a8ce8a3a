"""The scheduler: everything that happens is a move that it draws, so that a seed is a whole history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from random import Random

from perdure.runtime.cache import CacheOptions
from perdure.runtime.checkpoints import Checkpoints
from perdure.runtime.clock import Clock
from perdure.runtime.loop import ThreadLoop
from perdure.runtime.options import Durability, RunOptions
from perdure.runtime.ports import LoopLimits, StepEvent
from perdure.runtime.settled import Settled
from perdure.runtime.snapshots import StateSnapshot
from perdure.runtime.waking import wake_message
from perdure.runtime.writer import Writer
from perdure.stores.base import CheckpointStore
from perdure.stores.errors import Refused, StoreUnavailable
from perdure.stores.records import ThreadRecord
from tests.sim.clients import ScriptedClient
from tests.sim.faults import CALM, Actor, Chances, Died, LoggedStore
from tests.sim.graphs import GRAPHS, graph_named
from tests.sim.journal import Journal, Violation, require, watched
from tests.sim.observer import Observer
from tests.sim.owners import Hosted, Owner
from tests.sim.quick import QuickMemoryStore
from tests.sim.wild import Reader, WildClient

Move = tuple[float, Callable[[], object]]
LONGEST = 4000
"""Moves within which everything has to come to rest once faults have stopped."""


@dataclass(frozen=True)
class Tampering:
    """What a test breaks on purpose, to see that it is noticed."""

    store: Callable[[CheckpointStore], CheckpointStore] = lambda store: store
    loop_class: type[ThreadLoop] = ThreadLoop
    writer_class: type[Writer] = Writer


UNTOUCHED = Tampering()
NO_CACHE = CacheOptions(max_bytes=0)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What a seed is made of, drawn before anything happens."""

    scripted: bool
    graph: str
    options: RunOptions
    texts: tuple[str, ...] = ()
    queues: bool = False
    clients: int = 1
    owners: int = 1
    moves: int = 0
    """Moves before the faults stop."""
    chances: Chances = CALM
    limits: LoopLimits = field(default_factory=LoopLimits)
    deaths: float = 0.0
    """How often an owner dies or freezes between two operations, against other moves."""
    observed: bool = False
    """Whether somebody listens to every step."""
    cache: CacheOptions = NO_CACHE
    """What owners and readers remember of what they read."""
    rivals: float = 0.0
    """How often a thread is claimed although its owner lives."""


CHECKPOINTS = (
    None,
    None,
    Checkpoints(every=2),
    Checkpoints(every=5),
    Checkpoints(interval=timedelta(seconds=30)),  # seconds of `SimClock`, which counts how often it was asked
    Checkpoints(manual=True),
)


def draw_scenario(random: Random) -> Scenario:
    """A scenario of this random source."""
    graph = random.choice(sorted(GRAPHS))
    scripted = random.random() < 0.5
    level = random.choice([0.0, 0.3, 1.0, 2.0])
    breakpoints = graph_named(graph).breakpoints
    return Scenario(
        scripted=scripted,
        graph=graph,
        options=RunOptions(
            durability=random.choice(list(Durability)),
            interrupt_before=breakpoints if random.random() < 0.3 else None,
            interrupt_after=breakpoints[:1] if random.random() < 0.15 else None,
            recursion_limit=10_000 if scripted or random.random() < 0.8 else 2,
            checkpoints=random.choice(CHECKPOINTS),
        ),
        texts=tuple(random.choice(["in", "in", "bad"]) + f" {place}" for place in range(random.choice([1, 2]))),
        queues=random.random() < 0.5,
        clients=1 if scripted else random.choice([1, 2]),
        owners=random.choice([1, 2, 3]),
        moves=random.choice([30, 60, 120]),
        chances=Chances(
            before=0.03 * level,
            after=0.03 * level,
            late=0.04 * level,
            die=0.008 * level,
            pause=0.04 * level,
        ),
        limits=LoopLimits(
            ahead_commits=random.choice([0, 1, 3, 512]),
            crash_budget=random.choice([1, 3, 1000]),
            careful_commits=random.choice([0, 0, 2, 64]),
        ),
        observed=random.random() < 0.5,
        cache=CacheOptions(max_bytes=random.choice([0, 5_000, 1_000_000])),
        deaths=0.06 * level,
        rivals=random.choice([0.0, 0.05, 0.4]) * level,
    )


class SimClock:
    """Time is a count; ids are numbered."""

    def __init__(self) -> None:
        self._ticks = 0

    def time(self) -> float:
        self._ticks += 1
        return float(self._ticks)

    def monotonic(self) -> float:
        return self.time()

    def unique(self) -> str:
        self._ticks += 1
        return f"id{self._ticks}"


class World:
    """One simulated cluster and those who use it."""

    def __init__(self, scenario: Scenario, random: Random, tampering: Tampering = UNTOUCHED) -> None:
        self.scenario = scenario
        self.random = random
        self.draw = random.random
        self.clock: Clock = SimClock()
        self.journal = Journal()
        self.memory = QuickMemoryStore()
        self.store: CheckpointStore = LoggedStore(tampering.store(self.memory), self.journal)
        self.limits = scenario.limits
        self.cache = scenario.cache
        self.loop_class = tampering.loop_class
        self.writer_class = tampering.writer_class
        self.observed = scenario.observed
        self.observer = Observer(self.memory)
        self.owners: list[Owner] = []
        self._spawned = 0
        self._late: list[Callable[[], object]] = []
        self._chances = scenario.chances
        self._depth = 0
        self.threads: list[str] = []
        self.script: ScriptedClient | None = None
        self.wild: list[WildClient] = []
        self.reader = Reader(self)
        if scenario.scripted:
            self.threads.append("t")
            self.script = ScriptedClient(self, scenario.graph, scenario.options, scenario.texts, queues=scenario.queues)
        else:
            names = [f"c{number}" for number in range(scenario.clients)]
            self.wild = [WildClient(self, name, scenario.graph, scenario.options, self.threads) for name in names]

    # -- what others ask of it -------------------------------------------------------------------------------------

    def chances(self) -> Chances:
        return self._chances

    def meanwhile(self, actor: Actor) -> None:
        """Others move while an actor stands still in the middle of a call: briefly, or long enough to be replaced."""
        if actor.busy or self._depth >= 3:
            return
        actor.busy = True
        self._depth += 1
        try:
            for _ in range(self.random.choice([1, 3, 8, 25])):
                self._move()
        finally:
            self._depth -= 1
            actor.busy = False

    def later(self, call: Callable[[], object]) -> None:
        self._late.append(call)

    def settled(self, hosted: Hosted, settled: Settled) -> None:
        self.journal.note("settled", hosted.record.thread_id, f"epoch {hosted.record.epoch}", settled.status)
        self.observer.settled(hosted.record, settled, hosted.loop._options)

    def told(self, record: ThreadRecord, event: StepEvent) -> None:
        known = any(
            one.commit.first <= event.seq <= one.commit.last and one.commit.epoch == record.epoch
            for one in self.journal.applied.get(record.thread_id, ())
        )
        require(known, "V2", f"{record.thread_id}: {event} was told before it was durable")

    def seen(self, thread_id: str, snapshot: StateSnapshot) -> None:
        self.observer.seen(thread_id, snapshot)

    # -- the course of events --------------------------------------------------------------------------------------

    def run(self) -> None:
        """From the first move until everything rests. Raises `Violation`."""
        for _ in range(self.scenario.moves):
            self._move()
        self._chances = CALM
        self.journal.note("-- faults stop --")
        for owner in self.owners:
            owner.frozen = False
            for hosted in owner.hosted:
                hosted.gate.open, hosted.gate.drain = True, False
        for _ in range(LONGEST):
            moves = self._calm_moves()
            if not moves:
                return
            self._make(moves)
        raise Violation("V5", f"nothing came to rest within {LONGEST} moves after the faults had stopped")

    def _move(self) -> None:
        self._make(self._wild_moves())

    def _make(self, moves: list[Move]) -> None:
        if not moves:
            return
        point = self.draw() * sum(weight for weight, _ in moves)
        with watched("a move"):
            for weight, move in moves:
                point -= weight
                if point < 0:
                    move()
                    return
            moves[-1][1]()

    def _wild_moves(self) -> list[Move]:
        scenario = self.scenario
        moves: list[Move] = [(0.5, partial(self._do_late, call)) for call in self._late]
        for owner in self.owners:
            if owner.busy:
                continue
            if owner.frozen:
                moves.append((0.2, partial(self._freeze, owner, False)))
                continue
            moves += self._moves_of(owner)
            moves.append((scenario.deaths, partial(self._kill, owner)))
            moves.append((scenario.deaths, partial(self._freeze, owner, True)))
            for hosted in owner.hosted:
                moves.append((0.15, partial(self._by, owner, owner.poke, hosted)))
                if not hosted.ready:
                    moves.append((0.15, partial(self._by, owner, owner.advance, hosted)))
                moves.append((scenario.deaths / 2, partial(self._turn_gate, hosted)))
        if len(self.owners) < scenario.owners:
            moves.append((2.0, self._spawn))
        if self.owners:
            moves += self._claims(scenario.rivals)
        moves += self._timers()
        if self.script is not None and not self.script.busy:
            moves.append((1.5, self.script.act))
        moves += [(1.5 / len(self.wild), client.act) for client in self.wild if not client.busy]
        if self.threads and not self.reader.busy:
            moves.append((0.25, self._read))
        return moves

    def _calm_moves(self) -> list[Move]:
        """Moves that lead somewhere; none if everything rests."""
        moves: list[Move] = [(0.5, partial(self._do_late, call)) for call in self._late]
        for owner in self.owners:
            moves += self._moves_of(owner)
        moves += self._claims(0.0)
        moves += self._timers()
        if moves and not self.owners:
            return [(1.0, self._spawn)]
        moves += [(1.0, client.finish) for client in self.wild if client.outbox]
        if self.script is not None and (self.script.outbox or not self.script.done):
            moves.append((0.5, self.script.act))
        return moves

    def _timers(self) -> list[Move]:
        """Somebody sees to parked threads whose time has come; time passes while nobody does."""
        return [(0.5, partial(self._look_at_clock, record)) for record in self.memory.timed()]

    def _look_at_clock(self, record: ThreadRecord) -> None:
        now = self.clock.time()
        if record.wake_at > now:
            return
        message, expect = wake_message(record, now)
        try:
            # Over and over, as several supervisors would: of one parking only the first counts.
            self.store.deliver(record.thread_id, message, expect)
            self.journal.note("woken", record.thread_id, message.message_id)
        except (Refused, StoreUnavailable):
            pass

    def _moves_of(self, owner: Owner) -> list[Move]:
        moves: list[Move] = []
        for hosted in owner.hosted:
            if hosted.ready:
                moves.append((4.0, partial(self._by, owner, owner.advance, hosted)))
        for claiming in owner.claiming:
            moves.append((3.0, partial(self._by, owner, owner.claim, claiming)))
        for beside in owner.beside:
            moves.append((1.5, partial(self._by, owner, owner.end_task, beside)))
        if owner.writer.busy:
            moves.append((2.5, partial(self._by, owner, owner.flush)))
        return moves

    def _claims(self, rivals: float) -> list[Move]:
        """Proposals of threads to owners: of those that nobody holds, and now and then of others."""
        held = {(hosted.record.thread_id, hosted.record.epoch) for owner in self.owners for hosted in owner.hosted}
        coming = {claiming.thread_id for owner in self.owners for claiming in owner.claiming}
        moves: list[Move] = []
        for record in self.memory.runnable():
            orphan = (record.thread_id, record.epoch) not in held and record.thread_id not in coming
            weight = 2.0 if orphan else rivals
            if weight:
                moves.append((weight, partial(self._propose, record)))
        return moves

    # -- moves -----------------------------------------------------------------------------------------------------

    def _by(self, owner: Owner, act: Callable[..., object], *what: object) -> None:
        if owner not in self.owners:
            return
        try:
            act(*what)
        except Died:
            self._kill(owner)

    def _kill(self, owner: Owner) -> None:
        self.journal.note("dies", owner.name)
        self.owners.remove(owner)

    def _freeze(self, owner: Owner, frozen: bool) -> None:
        self.journal.note("freezes" if frozen else "thaws", owner.name)
        owner.frozen = frozen

    def _turn_gate(self, hosted: Hosted) -> None:
        if self.draw() < 0.5:
            hosted.gate.open = not hosted.gate.open
        else:
            hosted.gate.drain = not hosted.gate.drain

    def _spawn(self) -> None:
        self._spawned += 1
        self.owners.append(Owner(f"o{self._spawned}", self))
        self.journal.note("starts", self.owners[-1].name)

    def _propose(self, record: ThreadRecord) -> None:
        owner = self.random.choice(self.owners)
        crashed = bool(record.owner) and record.owner not in {one.name for one in self.owners}
        owner.propose(record.thread_id, record.epoch, crashed=crashed)

    def _do_late(self, call: Callable[[], object]) -> None:
        self._late.remove(call)
        self.journal.note("late")
        call()

    def _read(self) -> None:
        self.reader.act(self.random.choice(self.threads))
