"""What a handle does with its thread's past: look at it, change it, go on from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Self

from ..runtime.bookmarks import find_control, give_name, names_of, take_name
from ..runtime.breakpoints import Breakpoints, breakpoints_message, in_force
from ..runtime.clock import Clock
from ..runtime.compiled import CompiledGraph
from ..runtime.conflicts import conflict_of, update_made, was_refused
from ..runtime.diffs import StateDiff
from ..runtime.errors import NotInterrupted
from ..runtime.forks import ForkWishes, new_fork, options_since
from ..runtime.options import named_nodes, node_list
from ..runtime.payloads import BREAKPOINTS, RESUME, UPDATE, BreakpointsPayload, pack
from ..runtime.reruns import read_effects
from ..runtime.snapshots import SnapshotReader, StateSnapshot, checkpoint_seq
from ..runtime.snapshots import checkpoint_id as id_of
from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.errors import Refused
from ..stores.history import HistoryReader
from ..stores.records import ENDED, PARKED, SERVICE, Status, ThreadRecord
from .errors import Cancelled, ClientError
from .looks import deadline_of, looks

LIVE = frozenset(Status) - ENDED


class ThreadTravel(ABC):
    """The part of `ThreadHandle` that reads and changes what its thread was."""

    thread_id: str
    _store: CheckpointStore
    _graph: CompiledGraph | None
    _codec: Codec
    _clock: Clock
    _notify: Callable[[str], None]

    @property
    @abstractmethod
    def info(self) -> ThreadRecord:
        """The thread's row."""

    @abstractmethod
    def _reader(self) -> SnapshotReader:
        """Reads the thread's states."""

    @abstractmethod
    def _send(self, kind: str, payload: bytes, statuses: frozenset[Status], wait: str = "", head: int = 0) -> int:
        """Deliver a message, wake the thread's service, and return the message's number."""

    @abstractmethod
    def _other(self, thread_id: str, run: int) -> Self:
        """The handle of another thread."""

    @abstractmethod
    def _check_driver(self, record: ThreadRecord) -> None:
        """Raise `ClientError` for a thread whose mail no service reads."""

    # -- looking -------------------------------------------------------------------------------------------------

    def get_state(self, checkpoint_id: str | None = None) -> StateSnapshot:
        """The newest state, or that of a checkpoint id. Raises `CheckpointNotFound`."""
        reader = self._reader()
        return reader.at(checkpoint_seq(self.thread_id, checkpoint_id)) if checkpoint_id else reader.head()

    def get_state_history(
        self, *, filter: Mapping[str, Any] | None = None, before: str | None = None, limit: int | None = None
    ) -> Iterator[StateSnapshot]:
        """The states, newest first, over forks into the threads this one came from."""
        until = checkpoint_seq(self.thread_id, before) if before else None
        reader = self._reader()
        yield from reader.history(where=filter, before=until, limit=limit)

    def diff(self, first: str, second: str | None = None) -> StateDiff:
        """What the state at checkpoint `second` (the newest by default) has that the one at `first` has not: keys
        added, changed, removed, and what lists got appended. Reads only what changed in
        between. Raises `CheckpointNotFound`."""
        last = checkpoint_seq(self.thread_id, second) if second is not None else self.info.head
        return self._reader().diff(checkpoint_seq(self.thread_id, first), last)

    def names(self) -> dict[str, str]:
        """The checkpoints that have names: name to checkpoint id. Retention keeps them."""
        return names_of(self._store, self.thread_id)

    def breakpoints(self) -> Breakpoints:
        """The nodes at which the run stops. Without the graph, those that it was compiled with are not known: then only
        those that were given to the run."""
        options = self._reader().options()
        if self._graph is not None:
            return in_force(self._graph.topology, options)
        return Breakpoints(options.interrupt_before or (), options.interrupt_after or ())

    # -- changing ------------------------------------------------------------------------------------------------

    def update_state(
        self,
        values: Any,
        as_node: str | None = None,
        *,
        checkpoint_id: str | None = None,
        expected_checkpoint: str | None = None,
        timeout: float | timedelta | None = 60.0,
    ) -> str:
        """Change the state through its reducers; a running thread takes it between two steps. With
        `checkpoint_id`, fork from there within the thread; with `expected_checkpoint`, change it only if that is still
        the newest checkpoint. Returns the id of the new checkpoint, once it is durable.

        Raises `InvalidUpdateError`, `CheckpointNotFound`, `CheckpointConflict`, `TimeoutError`.
        """
        if self._graph is not None:
            self._graph.check_update(values, as_node)
        parent = self._checkpoint(checkpoint_id) if checkpoint_id is not None else 0
        expected = self._checkpoint(expected_checkpoint) if expected_checkpoint is not None else 0
        payload = pack(self._codec, values, as_node, parent, expected)
        try:
            number = self._send(UPDATE, payload, frozenset(Status), head=expected)
            applied = self._applied(number, timeout)
        except Refused:
            if not expected:
                raise
            raise conflict_of(self._reader(), expected, values) from None
        if expected and was_refused(HistoryReader(self._store, self.thread_id), applied, expected):
            raise conflict_of(self._reader(), expected, values)
        return id_of(update_made(self._store, self.thread_id, applied))

    def replay(self, checkpoint_id: str, *, timeout: float | timedelta | None = 60.0) -> None:
        """Go back to a checkpoint and run on from there, in the same thread: what came after it stays in the history,
        and is not the state any more. A running thread goes back between two steps. Returns once it is on its way.

        Raises `CheckpointNotFound`, `ClientError`, `TimeoutError`; `InvalidUpdateError` where this version of the graph
        cannot go on from there.
        """
        payload = pack(self._codec, None, None, self._checkpoint(checkpoint_id))
        update_made(self._store, self.thread_id, self._applied(self._send(UPDATE, payload, frozenset(Status)), timeout))
        self._send(RESUME, pack(self._codec, "", None, None), frozenset(Status))

    def fork(
        self,
        checkpoint_id: str | None = None,
        *,
        update: Any = None,
        as_node: str | None = None,
        thread_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        start: bool = True,
        effects: str | None = None,
        timeout: float | timedelta | None = 60.0,
    ) -> Self:
        """Start a new thread from a checkpoint of this one (the newest by default), after `update`, and run it; with
        `start=False` it is paused until `resume()`, or `step()`: returned once it is, which with an `update` takes an
        owner, within `timeout`.

        With `effects` it is a re-run of this thread's run. "recorded": what this one recorded after the checkpoint
        (results of `@task`, answers, signals, sleeps, breakpoints passed) is given again, and what it did not record
        fails the re-run with `NotRecorded`. "live": everything is done anew. Either way keys are new, and
        `get_context().original_key` is the original's.

        Costs one row, whatever the history's size. Raises `CheckpointNotFound`, `ThreadExists`; `InputError` for a
        "recorded" re-run from a checkpoint that this thread has of its own origin; `TimeoutError` where nobody has
        applied the update of a fork that is not started: then the fork is there, and still is to be paused.
        """
        record = self.info
        self._check_driver(record)
        seq = checkpoint_seq(self.thread_id, checkpoint_id) if checkpoint_id is not None else record.head
        if seq == 0:
            raise ClientError(f"thread {self.thread_id!r} has no checkpoint yet to fork from")
        if update is not None and self._graph is not None:
            self._graph.check_update(update, as_node)
        control = find_control(self._store, self.thread_id, seq)
        wishes = ForkWishes(
            update=update,
            as_node=as_node,
            thread_id=thread_id,
            metadata=metadata,
            start=start,
            effects=read_effects(effects) if effects is not None else None,
            options=options_since(self._store, record, seq, self._codec) if effects is None else None,
        )
        forked, message = new_fork(record, seq, control, wishes, self._codec, self._clock, SERVICE)
        self._store.create(forked, message)
        other = self._other(forked.thread_id, control.run)
        if message is not None:
            self._notify(forked.thread_id)
            if not start:
                for _ in looks(deadline_of(timeout), f"fork {forked.thread_id!r}: its update was not applied"):
                    if other.info.status in PARKED or other.info.status.ended:
                        break
        return other

    def step(self, *, timeout: float | timedelta | None = 60.0) -> StateSnapshot:
        """Run one step of a thread that is parked or has failed, passing the breakpoint at which it stands, and stop
        again. Returns the state after it, once it is durable. (Where a node has failed, `result()` says how.)

        Raises `NotInterrupted` where nothing is left to run, `Refused` while it runs, `TimeoutError`; then the step
        goes on.
        """
        if not self._reader().head().next:
            raise NotInterrupted(self.thread_id, self.info.status, stepping=True)
        number = self._send(RESUME, pack(self._codec, "", None, None, None, True), PARKED | {Status.FAILED})
        deadline = deadline_of(timeout)
        for _ in looks(deadline, f"thread {self.thread_id!r}: the step did not end"):
            record = self.info
            if not record.status.runnable and self._is_read(number):
                return self._reader().head()
        raise AssertionError("unreachable")

    def add_breakpoints(self, *, before: Sequence[str] | str = (), after: Sequence[str] | str = ()) -> None:
        """Stop the run, also while it is running, before or after these nodes (`"*"`: all) from its next step on.
        Returns once that is in the store. Raises `InputError`, `Refused` for a thread that has ended."""
        self._change_breakpoints(BreakpointsPayload(add_before=self._nodes(before), add_after=self._nodes(after)))

    def remove_breakpoints(self, *, before: Sequence[str] | str = "*", after: Sequence[str] | str = "*") -> None:
        """Stop the run no more before or after these nodes; by default at none. A thread that stands at one is paused
        until `resume()`. Raises as `add_breakpoints`."""
        change = BreakpointsPayload(remove_before=self._nodes(before), remove_after=self._nodes(after))
        self._change_breakpoints(change)

    def name_checkpoint(self, name: str, checkpoint_id: str | None = None) -> str:
        """Give a checkpoint (the newest by default) a name, under which retention keeps it; a name that another one had
        moves on. Returns the checkpoint's id.

        Raises `CheckpointNotFound`; `StoreMisuse` for a checkpoint that belongs to the thread this one was forked from.
        """
        seq = checkpoint_seq(self.thread_id, checkpoint_id) if checkpoint_id is not None else 0
        return give_name(self._store, self.thread_id, name, seq)

    def remove_name(self, name: str) -> None:
        """Take a checkpoint's name away; from then on retention may drop it."""
        take_name(self._store, self.thread_id, name)

    # -- inside --------------------------------------------------------------------------------------------------

    def _checkpoint(self, given: str) -> int:
        """The seq of a checkpoint that is there. Raises `CheckpointNotFound`."""
        seq = checkpoint_seq(self.thread_id, given)
        find_control(self._store, self.thread_id, seq)
        return seq

    def _applied(self, number: int, timeout: float | timedelta | None) -> int:
        """The commit that applied a message. Raises `TimeoutError`, `Cancelled`."""
        for _ in looks(deadline_of(timeout), f"thread {self.thread_id!r}: the update was accepted and not yet applied"):
            message = next(one for one in self._store.messages(self.thread_id, unread=False) if one.number == number)
            if message.applied > 0:
                return message.applied
            if message.applied < 0:
                raise Cancelled(self.thread_id, "the thread ended before it read the update")
        raise AssertionError("unreachable")

    def _is_read(self, number: int) -> bool:
        return all(message.number != number for message in self._store.messages(self.thread_id))

    def _change_breakpoints(self, change: BreakpointsPayload) -> None:
        self._send(BREAKPOINTS, breakpoints_message(self._codec, self._clock, change).payload, LIVE)

    def _nodes(self, given: Sequence[str] | str) -> tuple[str, ...]:
        names = node_list(given)
        if self._graph is not None:
            named_nodes(self._graph.topology, names)
        return names
