"""What to do next: pure decisions. Nothing here reads a clock, a store or a random number.

`decide` looks at a thread's position and names one action; `successors` says which tasks follow finished ones. The loop
carries both out, and the simulator judges them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..stores.records import SIGNAL, Message, Status
from .calls import CallKind
from .commands import END, Send
from .control import Next
from .payloads import CANCEL, INPUTS, REPLACE, RESUME, WAKE
from .position import CHANGED_AFTER_END, Position
from .task import Failed
from .topology import Join, Topology


@dataclass(frozen=True, slots=True)
class Halt:
    """End every run of the thread: somebody cancelled it."""

    message: Message


@dataclass(frozen=True, slots=True)
class Apply:
    """Carry out one message between two steps (resume, update, pause, retry)."""

    message: Message


@dataclass(frozen=True, slots=True)
class Begin:
    """Start the run that an input message asks for."""

    message: Message


@dataclass(frozen=True, slots=True)
class Fire:
    """What a task waits for has come: a signal, or its time."""

    path: str
    message: Message | None = None
    """The signal; None where its time has come."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Every task of the step has a result: make the next checkpoint."""


@dataclass(frozen=True, slots=True)
class PassAsThen:
    """A re-run stands at a breakpoint: it goes on if its original did."""


@dataclass(frozen=True, slots=True)
class RunTasks:
    """Start these tasks."""

    tasks: tuple[Next, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to decide until something happens."""


@dataclass(frozen=True, slots=True)
class EndRun:
    """The run is over."""

    status: Status
    failure: Failed | None = None
    limit: int = 0
    """The recursion limit that was reached; 0 if that is not why."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Give the thread up: it is parked, ended, or (queued) moves to another owner."""

    status: Status
    reason: str = ""
    waits: tuple[str, ...] = ()
    wake_at: float = 0.0
    """When the thread is due (Unix seconds); 0 for never."""


Action: TypeAlias = Halt | Apply | Begin | Fire | Merge | PassAsThen | RunTasks | Wait | EndRun | Settle

MERGE = Merge()
PASS_AS_THEN = PassAsThen()
WAIT = Wait()


@dataclass(slots=True)
class Limits:
    """What bounds a run."""

    recursion_limit: int = 10_000
    """Supersteps since the run's input or its last resume."""
    interrupt_before: frozenset[str] = frozenset()
    interrupt_after: frozenset[str] = frozenset()
    stop_after: int | None = None
    """Stop once the tasks that this superstep left (`Position.born`) have been merged; None for no such stop."""
    drain: bool = False
    """The owner is to give the thread up after this step."""
    now: float = 0.0
    """The time that the owner goes by (Unix seconds); looked at only where a task waits."""
    replays: bool = False
    """A re-run that stops at the breakpoints of its original goes on from them as that did."""
    stays: bool = False
    """Nobody could wake the thread: the owner keeps it until the time has come that it waits for."""
    mail_only: bool = False
    """The owner applies the mail and gives the thread up: it runs nothing, and merges nothing that has run."""


def decide(at: Position, limits: Limits) -> Action:
    """The one thing to do next.

    Order matters: a finished step becomes a checkpoint before anything else, so that what comes now finds it ended; a
    cancel overtakes all other messages, messages come before new work, and a thread is given up only when nothing else
    can be done.
    """
    if at.run_open and at.next and len(at.results) == len(at.next) and not (at.paused or limits.mail_only):
        return MERGE
    if at.mail and (action := _from_mail(at)) is not None:
        return action
    return _onward(at, limits)


def idle(at: Position, limits: Limits) -> bool:
    """Whether the thread would do nothing but wait for its user, were it not for its mail."""
    action = _onward(at, limits)
    return not at.running and isinstance(action, Settle) and action.status is not Status.QUEUED


def stands(at: Position, limits: Limits) -> bool:
    """Whether it is a breakpoint, and nothing else, at which the thread stands."""
    if not at.run_open or not at.next or at.paused or limits.replays:
        return False
    return _before_step(at) and _at_breakpoint(at, limits)


def _onward(at: Position, limits: Limits) -> Action:
    if not at.run_open:
        return _between_runs(at)
    # Also where it is paused: a deadline that has passed would wake the thread again and again.
    if at.stops and (fire := _fired(at, limits.now)) is not None:
        if not limits.mail_only:
            return fire
        if not at.paused:
            return Settle(Status.QUEUED)
    if at.paused and not at.running:
        return Settle(Status.PAUSED, at.paused, _waits(at), at.wake_at)
    if limits.drain and at.next and not at.running:
        return Settle(Status.QUEUED)
    return _within_run(at, limits)


def _from_mail(at: Position) -> Action | None:
    for message in at.mail:
        if message.kind == CANCEL:
            return Halt(message)
    for message in at.mail:
        if message.kind == SIGNAL:
            continue  # until somebody receives it
        # A resume may join a step whose other tasks still run; what changes the state waits for the step's end.
        if message.kind in (RESUME, WAKE) or (message.kind not in INPUTS and not at.running):
            return Apply(message)
        if message.kind in INPUTS and not at.run_open and not at.paused:
            return Begin(message)
        if message.kind == REPLACE and at.run_open and not at.running:
            return EndRun(Status.CANCELLED)
    return None


def _between_runs(at: Position) -> Action:
    for message in at.mail:
        if message.kind in INPUTS:
            # Paused before its run: by a user, or since its process died each time that it began.
            return Settle(Status.PAUSED, at.paused) if at.paused else Begin(message)
    if at.next and at.run_status is Status.SUCCEEDED:
        return Settle(Status.PAUSED, CHANGED_AFTER_END)
    return Settle(at.run_status)


def _within_run(at: Position, limits: Limits) -> Action:
    if not at.next:
        return EndRun(Status.SUCCEEDED)
    if at.failures:
        if at.running:
            return WAIT
        first = next(at.failures[task.path] for task in at.next if task.path in at.failures)
        return EndRun(Status.FAILED, first)
    if _before_step(at) and (at.held or _at_breakpoint(at, limits)):
        if at.held or not limits.replays:
            return Settle(Status.INTERRUPTED)
        return Settle(Status.QUEUED) if limits.mail_only else PASS_AS_THEN
    if limits.mail_only and (not at.stops or len(at.results) + len(at.stops) < len(at.next)):
        return Settle(Status.QUEUED)
    # A task is in one of the three at most: counting them spares a wide step a look at every task for each that ends.
    if len(at.results) + len(at.stops) + len(at.running) < len(at.next):
        if at.step - at.since >= limits.recursion_limit:
            return EndRun(Status.FAILED, None, limits.recursion_limit)
        known = at.results.keys() | at.stops.keys() | at.running
        return RunTasks(tuple(task for task in at.next if task.path not in known))
    if at.running:
        return WAIT
    return _rest(at, limits)


def _rest(at: Position, limits: Limits) -> Action:
    """Every task that has not finished waits."""
    kinds = {stop.kind for stop in at.stops.values()}
    if CallKind.INTERRUPT in kinds:
        return Settle(Status.INTERRUPTED, waits=_waits(at), wake_at=at.wake_at)
    if limits.stays and at.wake_at:
        return WAIT
    return Settle(Status.WAITING if CallKind.SIGNAL in kinds else Status.SLEEPING, waits=_waits(at), wake_at=at.wake_at)


def _fired(at: Position, now: float) -> Fire | None:
    """What one of the waiting tasks has waited for, in the order of the tasks. Signals come in order."""
    for task in at.next:
        stop = at.stops.get(task.path)
        if stop is None or stop.interrupt is not None:
            continue
        if stop.kind is CallKind.SIGNAL and (message := signal_of(at, stop.name)) is not None:
            return Fire(task.path, message)
        if stop.until is not None and stop.until <= now:
            return Fire(task.path)
    return None


def signal_of(at: Position, name: str) -> Message | None:
    """The oldest unread signal of a name."""
    return next((message for message in at.mail if message.kind == SIGNAL and message.name == name), None)


def _waits(at: Position) -> tuple[str, ...]:
    waits = (stop.wait for task in at.next if (stop := at.stops.get(task.path)) is not None)
    return tuple(dict.fromkeys(wait for wait in waits if wait))


def _before_step(at: Position) -> bool:
    """Whether a breakpoint still stops the step. One that is added once a task has got anywhere is for those to
    come."""
    return not (at.passed or at.running or at.results or at.stops or at.calls)


def _at_breakpoint(at: Position, limits: Limits) -> bool:
    if limits.stop_after is not None and at.born > limits.stop_after:
        return True
    if limits.interrupt_before and any(task.node in limits.interrupt_before for task in at.next):
        return True
    return bool(limits.interrupt_after) and any(node in limits.interrupt_after for _, node in at.done)


class Wiring:
    """A topology's edges, arranged for `successors`."""

    def __init__(self, topology: Topology) -> None:
        self.edges: Mapping[str, tuple[str, ...]] = topology.edges
        self.joins: Mapping[str, Join] = {join.key: join for join in topology.joins}
        self.joins_from: dict[str, tuple[Join, ...]] = {}
        for join in topology.joins:
            for start in join.starts:
                self.joins_from[start] = (*self.joins_from.get(start, ()), join)
        self._alone: dict[tuple[str, str], tuple[Next, ...]] = {}

    def alone(self, node: str, goto: tuple[str | Send, ...]) -> tuple[Next, ...] | None:
        """What follows `node` when it ran alone and leads to at most one node besides its plain edges; None where more
        has to be looked at."""
        if len(goto) > 1 or node in self.joins_from:
            return None
        target = goto[0] if goto else END
        if not isinstance(target, str):
            return None
        found = self._alone.get((node, target))
        if found is None:
            found = self._alone[node, target] = _pulls((*self.edges.get(node, ()), target))
        return found


@dataclass(frozen=True, slots=True)
class Successors:
    """What a checkpoint leaves to be done."""

    next: tuple[Next, ...]
    joins: dict[str, tuple[str, ...]]
    sends: dict[str, Any]
    """Argument of each `Send`, by the path of its task."""


def successors(
    wiring: Wiring, done: Sequence[tuple[str, tuple[str | Send, ...]]], joins: Mapping[str, tuple[str, ...]]
) -> Successors:
    """The tasks that follow when the nodes of `done` (node, where its commands and branches lead) have finished.

    A node is run once however many edges lead to it; each `Send` is a task of its own. The order is fixed: nodes by
    name, then sends in the order of their senders. (LangGraph orders a superstep the same way.)
    """
    if len(done) == 1 and not joins and (alone := wiring.alone(*done[0])) is not None:
        return Successors(alone, {}, {})
    targets: set[str] = set()
    sends: list[Send] = []
    reached: dict[str, set[str]] = {}
    for node, goto in done:
        targets.update(wiring.edges.get(node, ()))
        for target in goto:
            if isinstance(target, Send):
                sends.append(target)
            else:
                targets.add(target)
        for join in wiring.joins_from.get(node, ()):
            reached.setdefault(join.key, set()).add(node)
    waiting = {key: seen for key, seen in joins.items() if key in wiring.joins}
    for key, seen in reached.items():
        join = wiring.joins[key]
        together = seen.union(waiting.pop(key, ()))
        if together.issuperset(join.starts):
            targets.add(join.end)
        else:
            waiting[key] = tuple(start for start in join.starts if start in together)
    paths = {f"{send.node}#{index}": send for index, send in enumerate(sends)}
    return Successors(
        (*_pulls(targets), *(Next(path, send.node, True) for path, send in paths.items())),
        dict(sorted(waiting.items())),
        {path: send.arg for path, send in paths.items()},
    )


def _pulls(targets: Iterable[str]) -> tuple[Next, ...]:
    return tuple(Next(node, node) for node in sorted(set(targets)) if node != END)


def moves_on(source: str, pending: Sequence[Next], done: Sequence[tuple[str, str]], *, carry: bool) -> bool:
    """Whether a checkpoint takes its thread on by a step: after tasks that were run, a new input, or an update that
    stands for one of the tasks that were to be run. Others leave it where it is, or go back over what has been done."""
    if source in ("loop", "input"):
        return True
    return not carry and any(task.node == node for task in pending for _, node in done)


def fits(next_tasks: Iterable[Next], topology: Topology) -> str:
    """Why the pending tasks cannot be run by this graph version; empty if they can."""
    lost = sorted({task.node for task in next_tasks if task.node not in topology.nodes})
    if not lost:
        return ""
    return (
        f"graph {topology.name!r} version {topology.version} has no node {', '.join(map(repr, lost))}, which this "
        "thread is to run next; deploy a version that has it, or update_state(..., as_node=...) to go on elsewhere"
    )
