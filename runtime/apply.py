"""Carry out the messages that a thread was sent: input, resume, update, pause, retry, cancel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.errors import StoreError, StoreUnavailable, UnknownCheckpoint
from ..stores.history import HistoryReader
from ..stores.operations import RunUpdate
from ..stores.records import Message, Status
from .breakpoints import keep_pinned, with_change
from .calls import Call, CallKind
from .commands import END, START, Send
from .control import RUN_CHANNEL, TYPES
from .errors import CheckpointConflict, InvalidUpdateError, PerdureError, VersionMismatch
from .options import RunOptions
from .payloads import (
    BREAKPOINTS,
    INPUTS,
    PAUSE,
    RESUME,
    UPDATE,
    WAKE,
    BreakpointsPayload,
    ReasonPayload,
    ResumePayload,
    RetryPayload,
    SignalPayload,
    UpdatePayload,
    WakePayload,
    unpack,
    unpack_input,
)
from .plan import Successors, Wiring, successors
from .position import CHANGED, FORKED, NEW_BRANCH, Position
from .recorder import Recorder
from .restore import load_control, load_sends, load_values, position_at
from .snapshots import checkpoint_id
from .topology import Topology
from .upgrading import upgrade

Router = Callable[[str, tuple[tuple[str, Any], ...]], tuple[str | Send, ...]]
"""Asks the conditional edges of a node where to go, after its writes."""


class Applier:
    """Applies messages to a position through its recorder, so that each is consumed by the commit that holds its
    effect."""

    def __init__(
        self,
        topology: Topology,
        codec: Codec,
        store: CheckpointStore | None,
        thread_id: str,
        recorder: Recorder,
        route: Router,
        *,
        origin: int = 0,
    ) -> None:
        self._topology = topology
        self._wiring = Wiring(topology)
        self._codec = codec
        self._store = store
        self._thread_id = thread_id
        self._recorder = recorder
        self._route = route
        self._origin = origin
        """Up to this seq the history is that of the thread this one was forked from."""
        self.own = 0
        """Number of a message whose sender asks this owner what became of it; 0 for none."""
        self.refused: dict[int, PerdureError | StoreError] = {}
        """Why the last message could not be applied."""
        self.woken = 0.0
        """The latest time by which somebody found the thread due: an owner whose clock is behind goes by that."""

    @property
    def _at(self) -> Position:
        return self._recorder.at

    def begin(self, message: Message) -> RunOptions:
        """Start the run that an input message asks for. Raises `PerdureError` or `StoreError` for an input that cannot
        be used; the run is open then and has to be closed. Raises `StoreUnavailable`; then nothing has changed."""
        past, unfit = self._past(message)
        self._recorder.consume(message)
        self._recorder.open_run(message.run)
        if unfit is not None:
            raise unfit
        payload = unpack_input(self._codec, message)
        if past is not None:
            self._go_back(past)
        else:
            self._bring_up(self._at)
        self._recorder.pace(payload.options)
        updates = self._topology.input.updates(payload.input, START)
        self._write(START, tuple(updates.items()), "input", options=payload.options.to_data())
        return payload.options

    def apply(self, message: Message, *, idle: bool, options: RunOptions) -> RunOptions:
        """Apply a message that changes a thread between two steps. What turns out not to be possible pauses the thread
        with the reason: the message was accepted, so it must not vanish. `idle` says that the thread only waits for its
        user; then it goes on waiting after an update that gives it other work. Returns the options with which the run
        goes on, which are `options` unless the message brings others.

        Raises `StoreUnavailable`; then nothing has changed.
        """
        past, unfit = self._past(message)
        self._recorder.consume(message)
        try:
            if unfit is not None:
                raise unfit
            if message.kind == RESUME:
                resume = ResumePayload(*unpack(self._codec, message))
                self._resume(resume)
                options = self._with_options(options, self._stepping(options, resume))
            elif message.kind == UPDATE:
                payload = UpdatePayload(*unpack(self._codec, message))
                if self._comes_late(payload):
                    self._refuse(message, payload)
                    return options
                if payload.options is not None:
                    self._at.options, options = payload.options, RunOptions.from_data(payload.options)
                self._update(payload, past, options)
                if idle and (payload.as_node is not None or payload.parent) and self._at.run_open:
                    self._hold()
            elif message.kind == PAUSE:
                reason = ReasonPayload(*unpack(self._codec, message)).reason
                self._recorder.pause(reason or "paused by a user; resume() goes on")
            elif message.kind == BREAKPOINTS:
                change = BreakpointsPayload(*unpack(self._codec, message))
                changed = change.options or with_change(options, change, self._topology).to_data()
                options = self._with_options(options, changed)
            elif message.kind == WAKE:
                self.woken = max(self.woken, WakePayload(*unpack(self._codec, message)).now)
            else:
                retry = RetryPayload(*unpack(self._codec, message)) if message.payload else RetryPayload()
                self._retry()
                options = self._with_options(options, retry.options)
        except (PerdureError, StoreError) as error:
            self.refused[message.number] = error
            if message.number == self.own:
                self._recorder.seal()  # it has changed nothing, and whoever sent it is told
            else:
                self._recorder.pause(f"{message.kind} message {message.number} could not be applied: {error}")
        return options

    def receive(self, path: str, index: int, message: Message) -> Call | None:
        """Give a signal to the task that waits for it, or asks for it. None if it cannot be read: then the thread is
        paused with the reason."""
        self._recorder.consume(message)
        try:
            value = SignalPayload(*unpack(self._codec, message)).value
            call = Call(CallKind.SIGNAL, message.name, [value])
            self._recorder.call(path, index, call)
        except (PerdureError, StoreError) as error:
            node = path.partition("#")[0]
            self._recorder.pause(
                f"signal {message.name!r} (message {message.number}) could not be given to node {node!r}: {error}"
            )
            return None
        self._at.since = self._at.step
        return call

    def cancel(self, message: Message) -> None:
        """End the run in progress, and those that are still queued. Everything else unread is recorded as
        undelivered."""
        at, recorder = self._at, self._recorder
        # The cancel was accepted before the run had ended for others to see: then it is the run's end.
        recorder.take_back_end()
        recorder.consume(message)
        reason = ReasonPayload(*unpack(self._codec, message)).reason or "cancelled by a user"
        draft = recorder.open()
        queued = [other for other in at.mail if other.kind in INPUTS]
        recorder.abandon(at.mail)
        at.failures.clear()
        recorder.pause("")
        if at.run_open:
            recorder.close_run(Status.CANCELLED, reason)
        else:
            at.run_status, at.run_reason = Status.CANCELLED, reason
        draft.runs.extend(RunUpdate(run=other.run, status=Status.CANCELLED, reason=reason) for other in queued)

    def _resume(self, payload: ResumePayload) -> None:
        self._recorder.open().progress = True
        if payload.interrupt_id:
            # Of a run that ended meanwhile it is kept for a retry; it does not bring a cancelled run back to life.
            self._answer(payload.interrupt_id, payload.answer)
        else:
            self._go_on(payload.step)
        if payload.update is not None:
            self._update(UpdatePayload(payload.update, None))

    def _go_on(self, step: bool) -> None:
        at, recorder = self._at, self._recorder
        paused = at.paused
        self._reopen()
        if paused:
            recorder.pause("")
        # Who ends a pause of their own making does not thereby agree to the breakpoint behind it.
        if at.next and (step or paused in ("", CHANGED, FORKED)):
            recorder.pass_breakpoint()
            at.since = at.step

    def _answer(self, interrupt_id: str, answer: Any) -> None:
        at = self._at
        for path, stop in at.stops.items():
            if stop.interrupt is not None and stop.interrupt.id == interrupt_id:
                self._recorder.call(path, stop.index, Call(CallKind.INTERRUPT, "", answer))
                at.since = at.step
                return
        # The branch that raised it was left by a fork; the answer has nowhere to go.

    def _retry(self) -> None:
        at, recorder = self._at, self._recorder
        if self._reopen():
            # The limit counts from here, and the breakpoint was passed before the task failed.
            recorder.pass_breakpoint()
            at.since = at.step
        at.failures.clear()
        recorder.pause("")
        recorder.open().progress = True

    def _reopen(self) -> bool:
        at = self._at
        if at.run_open or not at.next:
            return False
        self._recorder.open_run(at.run)
        return True

    def _hold(self) -> None:
        """Leave it to the user to go on from where the thread is now; where nothing is left to run, it ends there."""
        if self._at.next:
            self._recorder.pause(CHANGED)
        elif self._at.paused in (CHANGED, FORKED):
            self._recorder.pause("")

    def _comes_late(self, payload: UpdatePayload) -> bool:
        """Whether an update was meant for another head. It was accepted while that was the newest checkpoint; by now
        another one may be, even with the message before it."""
        return bool(payload.expected) and payload.expected != self._at.head

    def _refuse(self, message: Message, payload: UpdatePayload) -> None:
        """Consume an update that was meant for another head, in a commit that makes no checkpoint: so its sender, who
        looks there, learns that nothing came of it."""
        found = checkpoint_id(self._at.head)
        expected = checkpoint_id(payload.expected)
        self.refused[message.number] = CheckpointConflict(self._thread_id, expected, found, yours=payload.values)
        self._recorder.seal()

    def _stepping(self, options: RunOptions, resume: ResumePayload) -> dict[str, Any] | None:
        """The options' data with which a run goes on after a resume: a single step is over once the thread goes on
        without taking another; an answer belongs to the step that asked."""
        if resume.step:
            return replace(options, stop_after=(self._thread_id, self._at.born)).to_data()
        given = resume.options
        if options.stop_after is None:
            return given
        if resume.interrupt_id:
            return {**given, "stop_after": list(options.stop_after)} if given is not None else None
        return given if given is not None else replace(options, stop_after=None).to_data()

    def _with_options(self, options: RunOptions, data: dict[str, Any] | None) -> RunOptions:
        at = self._at
        if data is None or not at.run_open or not at.head:
            return options
        data = keep_pinned(options, data)
        if data == options.to_data():
            return options
        changed = RunOptions.from_data(data)
        self._recorder.change_options(data)
        return changed

    def _update(self, payload: UpdatePayload, past: Position | None = None, options: RunOptions | None = None) -> None:
        before = replace(self._at)
        if past is None:
            self._bring_up(self._at)
        else:
            kept = past.options
            self._go_back(past)
            # It is still the same run: it goes on with its own options, not with those of the run it goes back to.
            if options is not None and options.to_data() != kept:
                self._at.options = options.to_data()
        try:
            self._make_update(payload)
        except PerdureError:
            self._at.become(before)
            raise

    def _make_update(self, payload: UpdatePayload) -> None:
        source = "fork" if payload.parent else "update"
        node = payload.as_node
        if node is None:
            at = self._at
            after = Successors(at.next, at.joins, at.sends)
            self._recorder.checkpoint(source, self._writes(payload.values, "update_state"), after, at.done, carry=True)
            return
        if node == END:
            self._recorder.checkpoint(
                source, self._writes(payload.values, node), Successors((), {}, {}), (), carry=False
            )
            return
        if node != START and node not in self._topology.nodes:
            raise InvalidUpdateError(f"update_state(as_node={node!r}): the graph has no such node", nodes=(node,))
        updates = self._topology.state.updates(payload.values, node)
        self._write(node, tuple(updates.items()), source)

    def _writes(self, values: Any, writer: str) -> list[tuple[str, str, Any]]:
        return [(writer, channel, value) for channel, value in self._topology.state.updates(values, writer).items()]

    def _write(
        self, node: str, writes: Sequence[tuple[str, Any]], source: str, options: dict[str, Any] | None = None
    ) -> None:
        """A checkpoint as `node` would make it: its writes, and what follows it."""
        goto = self._route(node, tuple(writes)) if node in self._topology.branches else ()
        joins = {} if source == "input" else self._at.joins
        after = successors(self._wiring, [(node, goto)], joins)
        done = () if source == "input" else ((node, node),)
        self._recorder.checkpoint(
            source, [(node, channel, value) for channel, value in writes], after, done, options=options
        )

    def _past(self, message: Message) -> tuple[Position | None, PerdureError | StoreError | None]:
        """The older checkpoint that a message starts from, or why it cannot be had. Read before anything is changed."""
        try:
            if message.kind == UPDATE:
                seq = UpdatePayload(*unpack(self._codec, message)).parent
            else:
                seq = unpack_input(self._codec, message).parent if message.kind in INPUTS else 0
            return (self._position(seq) if seq else None), None
        except StoreUnavailable:
            raise
        except (PerdureError, StoreError) as error:
            return None, error

    def _position(self, seq: int) -> Position:
        assert self._store is not None, "only a thread with a store has older checkpoints"
        if seq > self._recorder.sealed:
            # Another owner's, who has taken the thread over: this one will be told with its next commit.
            raise UnknownCheckpoint(self._thread_id, seq)
        reader = HistoryReader(self._store, self._thread_id)
        control = load_control(reader, seq)
        values = load_values(reader, control.manifest, self._codec, at=seq)
        # Of its origin's checkpoints a fork holds only the one that it took off from; others may be dropped any time.
        past = control.manifest.items() if seq < self._origin else ()
        adopted = {name: values[name] for name, version in past if version > 0}
        options = dict(values.pop(RUN_CHANNEL, {}))
        options.pop(TYPES, None)
        position = position_at(seq, control, values)
        position.options = options
        position.adopted = adopted
        position.sends = load_sends(reader.rows_of(seq), self._codec)
        self._bring_up(position)
        return position

    def _bring_up(self, position: Position) -> None:
        """Migrate a position that is another version's. Raises `VersionMismatch` where that cannot be done: a
        checkpoint on top of it would say that it was."""
        found = position.version
        if why := upgrade(position, self._topology, self._codec):
            raise VersionMismatch(self._thread_id, self._topology.name, found, self._topology.version, why)

    def _go_back(self, then: Position) -> None:
        """Make an older checkpoint the one that goes on. The branch that is left keeps its history; its pending work,
        its answers and its interrupts are void, since they belong to checkpoints that are not the head's ancestors."""
        at = self._at
        at.forget_step()
        at.values = then.values.copy()
        for name in then.values.keys() - self._topology.channels.keys():
            del at.values[name]
        at.manifest, at.head, at.step, at.since = then.manifest, then.head, then.step, then.since
        at.next, at.joins, at.done, at.sends = then.next, then.joins, then.done, then.sends
        at.adopted, at.version = then.adopted, then.version
        at.born, at.lag, at.branch, at.measures = then.born, then.lag, NEW_BRANCH, then.measures
