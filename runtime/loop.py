"""The loop that owns a thread: asks `plan.decide` what to do, does it, and hands what changed to the writer.

It is a generator: it yields what it waits for and goes on when something was posted to `events`. So the same code runs
under an actor, inside `invoke`, and under the simulator, which decides itself what happens when.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

from ..stores.codec import Codec
from ..stores.errors import StoreError, StoreUnavailable
from ..stores.records import SIGNAL, Message, Status, ThreadRecord
from . import plan
from .ahead import Ahead
from .announcer import Announcer
from .apply import Applier
from .attempts import Attempts
from .breakpoints import limits_of
from .calls import Call, CallKind
from .clerk import Clerk, StepDesk
from .commands import Send
from .control import Next
from .desk import Request, Ticket
from .draft import Draft
from .endings import Endings
from .errors import PerdureError, RouterRaised
from .execute import Step
from .fitness import Fitness
from .mailroom import Mailroom
from .options import Durability, RunOptions
from .payloads import BREAKPOINTS
from .ports import Ended, Event, Need, Poke, Ports
from .position import CHANGED
from .recorder import Recorder
from .recordings import recordings_of
from .rerunning import Rerunning
from .restore import Restored
from .results import Results
from .settled import Settled
from .task import Failed, Outcome, Task
from .topology import Topology
from .writer import Durable, Lane, ParkRefused, WriteFailed

_LONGEST_WAIT = 60.0
"""Seconds after which an owner looks at the clock again, which may have been set."""

LoopRun: TypeAlias = Generator[Need, None, Settled]


class ThreadLoop:
    """Owns one claimed thread until it ends, parks, or is taken away.

    `run()` raises `Fenced` when somebody else has taken the thread over, and any other `StoreError` that is final; then
    nothing that was not durable has been released.
    """

    def __init__(
        self, record: ThreadRecord, restored: Restored, topology: Topology, codec: Codec, ports: Ports
    ) -> None:
        self.thread_id = record.thread_id
        self.at = restored.position
        self.events: deque[Event] = deque()
        self._topology = topology
        self._ports = ports
        self._kept = restored.kept
        self._recorder = Recorder(topology, codec, restored.sizes, self.at, record.seq, ports.clock, restored.kept)
        self._fitness = Fitness(self.at, restored.types, topology, codec)
        origin = record.origin.seq if record.origin is not None else 0
        self._applier = Applier(
            topology, codec, ports.history, record.thread_id, self._recorder, self._route, origin=origin
        )
        self._applier.own = ports.limits.own
        self._clerk = Clerk(
            topology.name, record.thread_id, self._recorder, self._applier, ports.clock, ports.executor.shield
        )
        self._clerk.surroundings = ports.surroundings
        self._desk = StepDesk(self._clerk)
        self._effects = frozenset(name for name, node in topology.nodes.items() if node.effects)
        last = self.at.mail[-1].number if self.at.mail else 0
        self._mail = Mailroom(ports.mail, record, max(record.inbox, last))
        self._announcer = Announcer(ports.observer, self._recorder)
        self._endings = Endings(record.thread_id, self._recorder)
        wiring = plan.Wiring(topology)
        self._results = Results(self.at, self._recorder, self._endings, self._announcer, wiring)
        recordings = recordings_of(record, ports.history, codec, restored.origin)
        self._attempts = Attempts(record.thread_id, self.at, record.crashes, recordings)
        self._rerunning = Rerunning(record, self._attempts, self._recorder, self._endings, recordings)
        self._wake_at = record.wake_at
        self._durable = record.seq
        self._ahead = Ahead(topology)
        self._dead: StoreError | None = None
        self._refused: ParkRefused | None = None
        self._set_options(RunOptions.from_data(restored.options))
        # After a crash nothing runs ahead of the store for a while: otherwise a node that had ended, and was not yet
        # durable, would be taken for the one that ended the process.
        self._careful = record.seq + ports.limits.careful_commits if record.crashes else 0
        if not self.at.paused:
            self.at.paused = self._fitness.objection() or self._attempts.spent(ports.limits.crash_budget)

    def attach(self, lane: Lane, post: Callable[[Event], None]) -> None:
        """Give the loop its way into the writer. `post` puts an event into `events` and wakes whoever drives the loop;
        the lane's answers go through it too."""
        self._lane = self._clerk.lane = lane
        self._post = post
        self._recorder.attach(self._submit)

    def run(self) -> LoopRun:
        """Drive the thread. Yields what it waits for; may be resumed at any time, needed or not."""
        steps = self._run()
        try:
            while True:
                with self._clerk.monitor:
                    try:
                        need = next(steps)
                    except StopIteration as end:
                        settled: Settled = end.value
                        return settled
                yield need
        finally:
            self._clerk.close()

    def answer(self, ticket: Ticket, request: Request) -> Any:
        """Do what a node in another process asks for; blocks until it is done. From any thread.

        Raises `NodeCancelled` where the node is not this owner's any more, `PerdureError`, `StoreError`.
        """
        return self._clerk.wait(self._clerk.answer(ticket, request))

    def patience(self) -> float | None:
        """How long it waits for an event at most (seconds); None for as long as it takes."""
        until = self._clerk.beats_due()
        if (wake_at := self.at.wake_at) > 0:
            until = min(until, wake_at - self._now(), _LONGEST_WAIT)
        return max(0.0, until) if until != float("inf") else None

    def _run(self) -> LoopRun:
        while True:
            self._take_events()
            if self._mail.due:
                yield from self._read_mail()
            self._limits.drain = self._ports.gate.drain
            if self.at.stops and not self._limits.mail_only:
                self._limits.now = self._now()
            action = plan.decide(self.at, self._limits)
            if isinstance(action, plan.RunTasks):
                yield from self._run_tasks(action.tasks)
            elif isinstance(action, plan.Merge):
                self._results.merge()
            elif isinstance(action, plan.Apply):
                yield from self._apply(action.message)
            elif isinstance(action, plan.Begin):
                yield from self._begin(action.message)
            elif isinstance(action, plan.PassAsThen):
                yield from self._rerunning.pass_breakpoint()
            elif isinstance(action, plan.EndRun) and action.limit and self._rerunning.replays:
                yield from self._rerunning.pass_limit(action)
            elif isinstance(action, plan.Wait):
                if self._clerk.beats_due() <= 0:
                    self._clerk.write_beats()
                self._recorder.hand_over()
                yield Need.EVENT
            elif isinstance(action, plan.Settle):
                if (yield from self._settle(action)):
                    failure, exception = self._endings.failure, self._endings.exception
                    return Settled(action.status, self.at, failure, exception, self._applier.refused)
            else:
                self._change(action)

    def _change(self, action: plan.Action) -> None:
        if isinstance(action, plan.EndRun):
            self._endings.end(action)
        elif isinstance(action, plan.Fire):
            self._fire(action)
        elif isinstance(action, plan.Halt):
            self._ports.executor.stop()
            self.at.running.clear()
            self._clerk.batch += 1
            self._applier.cancel(action.message)

    def _apply(self, message: Message) -> Generator[Need, None, None]:
        idle, stood = plan.idle(self.at, self._limits), plan.stands(self.at, self._limits)
        try:
            options = self._applier.apply(message, idle=idle, options=self._options)
        except StoreUnavailable:
            yield Need.STORE
            return
        if options is not self._options:
            self._set_options(options)
            if message.kind == BREAKPOINTS and stood and not plan.stands(self.at, self._limits):
                # Who takes a breakpoint away at which a thread stands has not told it to go on.
                self._recorder.pause(CHANGED)
        if not self.at.paused and (reason := self._fitness.objection()):
            self._recorder.pause(reason)
        self._announcer.note("update")

    # -- events --------------------------------------------------------------------------------------------------

    def _take_events(self) -> None:
        while self.events:
            event = self.events.popleft()
            if isinstance(event, Durable):
                self._durable = event.seq
                self._mail.saw(event.inbox)
                self._announcer.tell(event.seq)
            elif isinstance(event, Ended):
                if event.batch == self._clerk.batch and event.outcome.path in self.at.running:
                    self._take_outcome(event.outcome)
            elif isinstance(event, Poke):
                self._mail.hint()
            elif isinstance(event, WriteFailed):
                self._dead = event.error
            else:
                self._refused = event
                self._mail.saw(event.inbox)
        if self._dead is not None:
            raise self._dead

    def _read_mail(self) -> Generator[Need, None, None]:
        while True:
            try:
                self.at.mail.extend(self._mail.read())
                return
            except StoreUnavailable:
                yield Need.STORE
                self._take_events()

    def _submit(self, draft: Draft) -> None:
        if draft.events:
            self._announcer.hold(draft)
        # With sync durability the loop itself writes before it goes on, unless it only waits for tasks.
        self._lane.submit(draft, soon=self._options.durability is not Durability.SYNC or bool(self.at.running))

    def _until_durable(self) -> Generator[Need, None, None]:
        while self._durable < self._recorder.sealed and self._refused is None:
            yield Need.DURABLE
            self._take_events()

    # -- running nodes -------------------------------------------------------------------------------------------

    def _run_tasks(self, todo: tuple[Next, ...]) -> Generator[Need, None, None]:
        effects = bool(self._effects) and any(task.node in self._effects for task in todo)
        careful = self._recorder.sealed < self._careful
        if effects or careful:
            self._recorder.seal()
        else:
            self._recorder.hand_over()
        if effects or careful or self._options.durability is Durability.SYNC:
            yield from self._until_durable()
        else:
            yield from self._room()
        if not self._ports.gate.open:
            yield Need.GATE
            return
        if self._mail.due:
            return
        at = self.at
        self._ahead.decode(at.values, (task.node for task in todo))
        desk = self._desk
        if desk.ticket != self._clerk.ticket:
            desk = self._desk = StepDesk(self._clerk)
        step = Step(self._topology, at.values, self._config, desk)
        tasks = yield from self._rerunning.tasks(todo)
        if not tasks:
            return
        if len(tasks) == 1 and not at.running and self._topology.nodes[todo[0].node].stays:
            self._take_outcome(self._run_here(step, tasks[0]))
            return
        batch = self._clerk.batch
        at.running.update(task.path for task in tasks)
        self._clerk.monitor.release()
        try:
            self._ports.executor.start(step, tasks, lambda outcome: self._post(Ended(outcome, batch)))
        finally:
            self._clerk.monitor.acquire()

    def _run_here(self, step: Step, task: Task) -> Outcome:
        clerk = self._clerk
        clerk.inside = task.path
        clerk.monitor.release()
        try:
            return self._ports.executor.run(step, task)
        finally:
            clerk.monitor.acquire()
            clerk.inside = ""

    def _room(self) -> Generator[Need, None, None]:
        lane, limits = self._lane, self._ports.limits
        while lane.backlog > limits.ahead_commits or lane.bytes > limits.ahead_bytes:
            yield Need.ROOM
            self._take_events()

    def _take_outcome(self, outcome: Outcome) -> None:
        self.at.running.discard(outcome.path)
        if isinstance(outcome, Failed) and outcome.cancelled:
            # Stopped for a cancel that is on its way; should none come, the task is simply run again.
            self._mail.hint()
        else:
            self._results.take(outcome, self._now)

    def _fire(self, action: plan.Fire) -> None:
        """Give a task what it waits for."""
        at, path = self.at, action.path
        stop = at.stops[path]
        if action.message is not None:
            self._applier.receive(path, stop.index, action.message)
            return
        value: Any = [] if stop.kind is CallKind.SIGNAL else stop.until
        self._recorder.call(path, stop.index, Call(stop.kind, stop.name, value))
        at.since = at.step

    def _now(self) -> float:
        """The time that deadlines are compared with. Clocks of machines differ and jump: an owner whose own is behind
        goes by that of whoever woke the thread."""
        return max(self._ports.clock.time(), self._applier.woken)

    # -- beginnings and ends -------------------------------------------------------------------------------------

    def _begin(self, message: Message) -> Generator[Need, None, None]:
        self._endings.forget()
        try:
            self._set_options(self._applier.begin(message))
        except StoreUnavailable:
            yield Need.STORE
            return
        except (PerdureError, StoreError) as error:
            self._endings.fail(error)
            return
        self._announcer.note("input")

    def _set_options(self, options: RunOptions) -> None:
        self._options = options
        self._recorder.pace(options)
        self._results.together = options.durability is Durability.EXIT
        self._limits = limits_of(self._topology, options, self.thread_id, self._ports, replays=self._rerunning.replays)
        self._config = options.as_config(self.thread_id)

    def _route(self, source: str, writes: tuple[tuple[str, Any], ...]) -> tuple[str | Send, ...]:
        step = Step(self._topology, self.at.values, self._config, self._desk)
        try:
            return self._ports.executor.route(step, source, writes)
        except PerdureError:
            raise
        except Exception as error:
            raise RouterRaised(source, error) from error

    def _settle(self, action: plan.Settle) -> Generator[Need, None, bool]:
        """Give the thread up. False if mail came first: then the loop goes on as if it had not tried."""
        reason = self.at.run_reason if action.status.ended else action.reason
        if action.status is Status.INTERRUPTED:
            self._announcer.note("interrupt", interrupts=self.at.interrupts)
        unread = [message for message in self.at.mail if message.kind == SIGNAL] if action.status.ended else []
        self._recorder.abandon(unread)
        wake_at = None if action.wake_at == self._wake_at else action.wake_at
        self._clerk.note_beats()
        self._recorder.open().settle(action.status, reason, action.waits, self._mail.seen, wake_at)
        self._recorder.seal()
        yield from self._until_durable()
        if self._refused is None:
            if self._kept is not None:
                self._kept.give()
            return True
        refused, self._refused = self._refused, None
        self._announcer.take_back(refused.draft)
        self._recorder.take_back(refused.draft, unread)
        return False
