"""Changes a thread's position and records each change in a commit, so that the two never part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..stores.codec import Codec
from ..stores.operations import RunUpdate
from ..stores.records import Message, Status
from ..stores.segments import Kind, Row
from .calls import Call, Stop, encode_call, encode_stop
from .checkpoints import EVERY_STEP, ON_REQUEST
from .clock import Clock
from .control import FORMAT, RUN_CHANNEL, TYPES, Control
from .draft import Draft
from .kept import KeptRows
from .measures import Measured, standing
from .merge import ChannelSizes, RowMaker, Write, gather, merge_writes
from .options import Durability, RunOptions
from .plan import Successors, moves_on
from .position import NEW_BRANCH, Heartbeat, Position
from .restore import encode_result
from .retyping import types_of
from .topology import Topology


class Recorder:
    """Builds the commits of one owned thread. Holds at most one open draft; a sealed one is handed to `submit`."""

    def __init__(
        self,
        topology: Topology,
        codec: Codec,
        sizes: ChannelSizes,
        at: Position,
        seq: int,
        clock: Clock,
        kept: KeptRows | None = None,
    ) -> None:
        self.at = at
        self.sealed = seq
        """Number of the last draft handed over."""
        self._policy = EVERY_STEP
        self._full_at = 0.0
        """When the last full checkpoint was handed over, on the monotonic clock."""
        self._topology = topology
        self._types = types_of(topology.channels)
        self._maker = RowMaker(topology, codec, sizes)
        self._clock = clock
        self._kept = kept
        self._draft: Draft | None = None
        self._submit: Callable[[Draft], None] = _no_writer

    def attach(self, submit: Callable[[Draft], None]) -> None:
        """Hand sealed drafts to `submit`."""
        self._submit = submit

    def pace(self, options: RunOptions) -> None:
        """From now on make full checkpoints as a run's options say, or else its graph; other steps are folded into the
        next that is one."""
        thinned = options.checkpoints or self._topology.checkpoints
        self._policy = ON_REQUEST if options.durability is Durability.EXIT else thinned
        self._full_at = self._now()

    def open(self) -> Draft:
        """The draft that takes what changes now."""
        if self._draft is None:
            self._draft = Draft(self.sealed + 1)
        return self._draft

    def seal(self) -> None:
        """Hand the open draft over, if it holds anything."""
        draft = self._draft
        if draft is None or draft.empty:
            return
        self._draft = None
        draft.seal()
        self.sealed = draft.seq
        if draft.checkpoint:
            self._full_at = self._now()
        if self._kept is not None:
            self._kept.add(draft)
        self._submit(draft)

    def hand_over(self) -> None:
        """`seal`, unless the open draft is a step that is no full checkpoint."""
        draft = self._draft
        if draft is not None and not (draft.checkpoint and draft.folds):
            self.seal()

    def take_back(self, draft: Draft, unread: Sequence[Message] = ()) -> None:
        """Open a draft again that was to give the thread up and was not written, because mail came first. `unread` is
        what would have been abandoned by it."""
        draft.reopen()
        draft.undelivered = [number for number in draft.undelivered if all(one.number != number for one in unread)]
        self.at.mail = sorted((*self.at.mail, *unread), key=lambda message: message.number)
        self._draft = draft
        self.sealed = draft.seq - 1

    # -- tasks ---------------------------------------------------------------------------------------------------

    def task(self, kind: Kind, path: str, data: Any) -> None:
        """Record something about one task of the step in progress. Raises `UnencodableState`."""
        draft = self.open()
        draft.rows.append(self._maker.task(kind, draft.seq, self.at.head, path, data))
        draft.progress = draft.progress or kind == Kind.RESULT

    def call(self, path: str, index: int, call: Call) -> None:
        """Record a call of a task that has been answered. Never in a commit with a checkpoint, of which it would look
        like a part that an update had carried along. Raises `UnencodableState`."""
        if self._draft is not None and self._draft.checkpoint:
            self.seal()
        self.task(Kind.CALL, path, encode_call(index, call))
        self.open().progress = True
        self.at.calls.setdefault(path, {})[index] = call
        stop = self.at.stops.get(path)
        if stop is not None and stop.index == index:
            del self.at.stops[path]

    def stop(self, path: str, stop: Stop) -> None:
        """Record that a task waits. Raises `UnencodableState`."""
        self.task(Kind.WAIT if stop.interrupt is None else Kind.INTERRUPT, path, encode_stop(stop))
        self.at.stops[path] = stop

    def beat(self, path: str, beat: Heartbeat) -> None:
        """Record what a task said of its progress. Raises `UnencodableState`."""
        self.task(Kind.BEAT, path, [beat.progress, beat.at])

    def check(self, path: str, value: Any) -> None:
        """Raise `UnencodableState` for what a task could not have recorded."""
        self._maker.task(Kind.BEAT, 0, self.at.head, path, value)

    def pass_breakpoint(self) -> None:
        """Record that the breakpoint at the newest checkpoint was passed."""
        self.task(Kind.PASS, "", None)
        self.at.passed = True

    def change_options(self, options: dict[str, Any]) -> None:
        """Record that the run goes on with other options."""
        self.task(Kind.OPTIONS, "", options)
        self.at.options = options

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def checkpoint(
        self,
        source: str,
        writes: Sequence[Write],
        after: Successors,
        done: tuple[tuple[str, str], ...],
        *,
        carry: bool = False,
        options: dict[str, Any] | None = None,
        full: bool = False,
        measured: Iterable[Measured] = (),
    ) -> Draft:
        """Merge `writes` into the channels and make the result the newest checkpoint.

        `carry` keeps what is known of the tasks in progress (an update between two steps leaves them as they are);
        otherwise it belongs to the step that ended. `options` starts a run with these options. `full` makes it a full
        checkpoint whatever the policy says. `measured` is what the step's tasks measured, in their order.
        Raises `InvalidUpdateError`, `UnencodableState`, `InputError`; then nothing has changed.
        """
        at = self.at
        options = at.options if options is None else options
        grouped = gather(writes)
        merges = merge_writes(self._topology.channels, at.values, grouped)
        measures = standing(at.measures, measured, at.step + 1)
        # Only steps of one run are folded: the end of a run, an update or a fork is a checkpoint that somebody may
        # name.
        folding = self._draft is not None and self._draft.folds and source == "loop"
        if self._draft is not None and self._draft.checkpoint and not folding:
            self.seal()
        draft = self.open()
        seq = draft.seq
        values: dict[str, list[Row]] = {}
        rows: list[Row] = []
        for name, merge in merges.items():
            values[name] = self._maker.channel(name, seq, self._prev(name, seq), merge)
            if not merge.tells_writes:
                rows.extend(self._maker.write(name, seq, writer, update) for writer, update in grouped[name])
        if options is not None:
            kept = {**options, TYPES: self._types}
            values[RUN_CHANNEL] = [self._maker.value(RUN_CHANNEL, seq, self._prev(RUN_CHANNEL, seq), kept)]
        for path, arg in after.sends.items():
            rows.append(self._maker.task(Kind.SEND, seq, seq, path, arg))
        for name, value in at.adopted.items():
            changes = values.setdefault(name, [])
            if not changes or changes[-1].kind == Kind.DELTA:
                whole = merges[name].value if name in merges else value
                changes.append(self._maker.value(name, seq, 0, whole, kind=Kind.SNAPSHOT))

        # From here on nothing can fail.
        if folding:
            # What was said of the checkpoint whose number this one takes over, and of its tasks.
            draft.rows = [row for row in draft.rows if row.version != seq]
        else:
            draft.parent = at.head
        for name, merge in merges.items():
            at.values[name] = merge.value
            at.manifest[name] = seq
        at.manifest.update(dict.fromkeys(at.adopted, seq))
        at.adopted = {}
        at.version = self._topology.version
        if options is not None:
            at.manifest[RUN_CHANNEL] = seq
            at.options = None
        at.head = seq
        at.step += 1
        at.measures = measures
        at.lag += not moves_on(source, at.next, done, carry=carry)
        if at.branch == NEW_BRANCH:
            at.branch = seq
        at.next, at.joins, at.done = after.next, after.joins, done
        if not carry:
            at.forget_step()
            at.born = at.step
        at.sends = after.sends
        if source == "input":
            at.since = at.step
        # The results of the step that ended are in the channels now.
        if draft.rows:
            draft.rows = [row for row in draft.rows if row.kind != Kind.RESULT]
        draft.rows.append(self._maker.control(seq, self._control(source, draft.parent)))
        draft.rows.extend(rows)
        if folding:
            for name, changes in values.items():
                self._put(draft, name, changes)
        else:
            draft.values = values
        draft.checkpoint = draft.progress = True
        draft.steps += source == "loop"
        draft.folds = source in ("input", "loop") and not (full or self._full(draft.steps))
        if carry:
            self._carry()
        return draft

    def _prev(self, channel: str, seq: int) -> int:
        """Version before this commit. A folded commit may write a channel several times: all changes have one base."""
        version = self.at.manifest.get(channel, 0)
        if version != seq or self._draft is None:
            return version
        return self._draft.values[channel][0].prev

    def _put(self, draft: Draft, channel: str, changes: list[Row]) -> None:
        """Add a channel's changes to those of the steps folded into the draft; a whole value takes their place."""
        if channel in draft.values and all(row.kind == Kind.DELTA for row in changes):
            draft.values[channel] += changes
        else:
            draft.values[channel] = changes

    def _full(self, steps: int) -> bool:
        return self._policy.full(steps, self._now() - self._full_at)

    def _now(self) -> float:
        return self._clock.monotonic() if self._policy.interval is not None else 0.0

    def _control(self, source: str, parent: int) -> Control:
        at = self.at
        return Control(
            format=FORMAT,
            step=at.step,
            since=at.since,
            run=at.run,
            source=source,
            parent=parent,
            at=self._clock.time(),
            version=self._topology.version,
            next=at.next,
            joins=at.joins,
            manifest=at.manifest,
            done=at.done,
            branch=at.branch,
            born=None if at.born == at.step else at.born,
            lag=at.lag,
            measures=at.measures,
        )

    def _carry(self) -> None:
        """Tell of the tasks in progress again, now that they belong to another checkpoint."""
        at = self.at
        for path, calls in at.calls.items():
            for index, call in calls.items():
                self.task(Kind.CALL, path, encode_call(index, call))
        for path, stop in at.stops.items():
            self.stop(path, stop)
        for path, beat in at.beats.items():
            self.beat(path, beat)
        for result in at.results.values():
            self.task(Kind.RESULT, result.path, encode_result(result))
        if at.passed:
            self.pass_breakpoint()

    # -- runs and messages ---------------------------------------------------------------------------------------

    def consume(self, message: Message) -> None:
        """Record that a message was applied by the commit in the making. That is never one with a checkpoint: what the
        message does would go into the next, and a crash between the two would lose it."""
        if self._draft is not None and self._draft.checkpoint:
            self.seal()
        self.at.mail.remove(message)
        self.open().applied.append(message.number)

    def abandon(self, messages: Sequence[Message]) -> None:
        """Record that the thread ends without having read these."""
        for message in list(messages):
            self.at.mail.remove(message)
            self.open().undelivered.append(message.number)

    def open_run(self, run: int) -> None:
        """Make `run` the run in progress."""
        at = self.at
        at.run, at.run_open, at.run_status, at.run_reason = run, True, Status.RUNNING, ""
        draft = self.open()
        draft.run = run
        draft.runs.append(RunUpdate(run=run, status=Status.RUNNING))
        self.pause("")

    def close_run(self, status: Status, reason: str = "", error: bytes = b"") -> None:
        """End the run in progress at the newest checkpoint."""
        at = self.at
        at.run_open, at.run_status, at.run_reason = False, status, reason
        draft = self.open()
        draft.folds = False
        draft.runs.append(RunUpdate(run=at.run, status=status, end=at.head, reason=reason, error=error))

    def take_back_end(self) -> None:
        """Undo the end of the run in progress, if it was not handed over yet."""
        at, draft = self.at, self._draft
        if draft is not None and draft.runs and draft.runs[-1].run == at.run and draft.runs[-1].status.ended:
            draft.runs.pop()
            at.run_open, at.run_status, at.run_reason = True, Status.RUNNING, ""

    def pause(self, reason: str) -> None:
        """Pause the thread (or, with an empty reason, end its pause)."""
        self.at.paused = reason
        self.open().reason = reason


def _no_writer(draft: Draft) -> None:
    raise RuntimeError(f"commit {draft.seq} was sealed before the loop was attached to a writer")
