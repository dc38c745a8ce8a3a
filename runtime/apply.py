"""Carry out the messages that a thread was sent: input, resume, update, pause, retry, cancel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.errors import StoreError, StoreUnavailable
from ..stores.history import HistoryReader
from ..stores.records import Message, RunUpdate, Status
from ..stores.segments import Kind
from .commands import START, Send
from .errors import InvalidUpdateError, PerdureError
from .options import RunOptions
from .payloads import (
    INPUTS,
    PAUSE,
    RESUME,
    UPDATE,
    ReasonPayload,
    ResumePayload,
    UpdatePayload,
    unpack,
    unpack_input,
)
from .plan import Successors, Wiring, successors
from .position import Position
from .recorder import Recorder
from .restore import load_control, load_sends, load_values, position_at
from .topology import Topology

Router = Callable[[str, tuple[tuple[str, Any], ...]], tuple[str | Send, ...]]
"""Asks the conditional edges of a node where to go, after its writes."""


class Applier:
    """Applies messages to a position through its recorder, so that each is consumed by the commit that holds its effect."""

    def __init__(
        self, topology: Topology, codec: Codec, store: CheckpointStore | None, thread_id: str, recorder: Recorder, route: Router
    ) -> None:
        self._topology = topology
        self._wiring = Wiring(topology)
        self._codec = codec
        self._store = store
        self._thread_id = thread_id
        self._recorder = recorder
        self._route = route

    @property
    def _at(self) -> Position:
        return self._recorder.at

    def begin(self, message: Message) -> RunOptions:
        """Start the run that an input message asks for. Raises `PerdureError` for an input that cannot be used; the run
        is open then and has to be closed."""
        self._recorder.consume(message)
        self._recorder.open_run(message.run)
        payload = unpack_input(self._codec, message)
        updates = self._topology.input.updates(payload.input, START)
        self._write(START, tuple(updates.items()), "input", options=payload.options.to_data())
        return payload.options

    def apply(self, message: Message, *, idle: bool) -> None:
        """Apply a message that changes a thread between two steps. What turns out not to be possible pauses the thread
        with the reason: the message was accepted, so it must not vanish. `idle` says that the thread only waits for its
        user; then it goes on waiting after an update that gives it other work.

        Raises `StoreUnavailable`; then nothing has changed.
        """
        past, unfit = self._past(message)
        self._recorder.consume(message)
        try:
            if unfit is not None:
                raise unfit
            if message.kind == RESUME:
                self._resume(ResumePayload(*unpack(self._codec, message)))
            elif message.kind == UPDATE:
                payload = UpdatePayload(*unpack(self._codec, message))
                self._update(payload, past)
                if idle and (payload.as_node is not None or payload.parent) and self._at.run_open:
                    self._recorder.pause("the state was changed from outside; resume() goes on from there")
            elif message.kind == PAUSE:
                reason = ReasonPayload(*unpack(self._codec, message)).reason
                self._recorder.pause(reason or "paused by a user; resume() goes on")
            else:
                self._retry()
        except (PerdureError, StoreError) as error:
            self._recorder.pause(f"{message.kind} message {message.number} could not be applied: {error}")

    def cancel(self, message: Message) -> None:
        """End the run in progress, and those that are still queued. Everything else unread is recorded as undelivered."""
        at, recorder = self._at, self._recorder
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
            at.run_status = Status.CANCELLED
        draft.runs.extend(RunUpdate(run=other.run, status=Status.CANCELLED, reason=reason) for other in queued)

    def _resume(self, payload: ResumePayload) -> None:
        self._recorder.open().progress = True
        if payload.interrupt_id:
            # Of a run that ended meanwhile it is kept for a retry; it does not bring a cancelled run back to life.
            self._answer(payload.interrupt_id, payload.answer)
        else:
            self._go_on()
        if payload.update is not None:
            self._update(UpdatePayload(payload.update, None))

    def _go_on(self) -> None:
        at, recorder = self._at, self._recorder
        self._reopen()
        if at.paused:
            recorder.pause("")
        elif at.next:
            recorder.pass_breakpoint()
            at.since = at.step

    def _answer(self, interrupt_id: str, answer: Any) -> None:
        at = self._at
        for path, stops in at.stops.items():
            if any(stop.id == interrupt_id for stop in stops):
                answers = (*at.answers.get(path, ()), answer)
                self._recorder.task(Kind.ANSWER, path, list(answers))
                at.answers[path] = answers
                del at.stops[path]
                at.since = at.step
                return
        # The branch that raised it was left by a fork; the answer has nowhere to go.

    def _retry(self) -> None:
        self._reopen()
        self._at.failures.clear()
        self._recorder.pause("")
        self._recorder.open().progress = True

    def _reopen(self) -> None:
        at = self._at
        if not at.run_open and at.next:
            self._recorder.open_run(at.run)

    def _update(self, payload: UpdatePayload, past: Position | None = None) -> None:
        before = replace(self._at)
        if past is not None:
            self._go_back(past)
        try:
            self._make_update(payload)
        except PerdureError:
            self._at.become(before)
            raise

    def _make_update(self, payload: UpdatePayload) -> None:
        source = "fork" if payload.parent else "update"
        node = payload.as_node
        if node is None:
            updates = self._topology.state.updates(payload.values, "update_state")
            at = self._at
            after = Successors(at.next, at.joins, at.sends)
            writes = [("update_state", channel, value) for channel, value in updates.items()]
            self._recorder.checkpoint(source, writes, after, at.done, carry=True)
            return
        if node != START and node not in self._topology.nodes:
            raise InvalidUpdateError(f"update_state(as_node={node!r}): the graph has no such node", nodes=(node,))
        updates = self._topology.state.updates(payload.values, node)
        self._write(node, tuple(updates.items()), source)

    def _write(
        self, node: str, writes: Sequence[tuple[str, Any]], source: str, options: dict[str, Any] | None = None
    ) -> None:
        """A checkpoint as `node` would make it: its writes, and what follows it."""
        goto = self._route(node, tuple(writes)) if node in self._topology.branches else ()
        joins = {} if source == "input" else self._at.joins
        after = successors(self._wiring, [(node, goto)], joins)
        done = () if source == "input" else ((node, node),)
        self._recorder.checkpoint(source, [(node, channel, value) for channel, value in writes], after, done, options=options)

    def _past(self, message: Message) -> tuple[Position | None, Exception | None]:
        """The older checkpoint that an update starts from, or why it cannot be had. Read before anything is changed."""
        if message.kind != UPDATE:
            return None, None
        try:
            seq = UpdatePayload(*unpack(self._codec, message)).parent
            return (self._position(seq) if seq else None), None
        except StoreUnavailable:
            raise
        except (PerdureError, StoreError) as error:
            return None, error

    def _position(self, seq: int) -> Position:
        assert self._store is not None, "only a thread with a store has older checkpoints"
        reader = HistoryReader(self._store, self._thread_id)
        control = load_control(reader, seq)
        position = position_at(seq, control, load_values(reader, control.manifest, self._codec))
        position.sends = load_sends(reader.rows_of(seq), self._codec)
        return position

    def _go_back(self, then: Position) -> None:
        """Make an older checkpoint the one that goes on. The branch that is left keeps its history; its pending work, its
        answers and its interrupts are void, since they belong to checkpoints that are not the head's ancestors."""
        at = self._at
        at.forget_step()
        at.values = {name: value for name, value in then.values.items() if name in self._topology.channels}
        at.manifest, at.head, at.step, at.since = then.manifest, then.head, then.step, then.since
        at.next, at.joins, at.done, at.sends = then.next, then.joins, then.done, then.sends
