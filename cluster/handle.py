"""A handle of one thread: watch it, read it, steer it. Works from any process that is connected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Self

from ..runtime.cache import ReadCache
from ..runtime.clock import Clock, SystemClock
from ..runtime.compiled import CompiledGraph
from ..runtime.control import RUN_CHANNEL
from ..runtime.errors import NotInterrupted, UnknownInterrupt
from ..runtime.failures import as_error, decode_failure
from ..runtime.follow import Follower
from ..runtime.payloads import CANCEL, PAUSE, RESUME, RETRY, pack
from ..runtime.position import Heartbeat
from ..runtime.requests import answers_of
from ..runtime.restore import load_control, load_values
from ..runtime.signals import ACCEPTS_SIGNALS, signal_message
from ..runtime.snapshots import SnapshotReader
from ..runtime.stream import events_of, read_modes
from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.errors import Refused, ThreadHeld
from ..stores.history import HistoryReader
from ..stores.operations import Expect
from ..stores.records import LOADING, PARKED, SERVICE, Message, RunRecord, Status, ThreadRecord
from .errors import Cancelled, ClientError, Interrupted, Paused
from .looks import deadline_of, looks
from .travel import LIVE, ThreadTravel

UNSET: Any = object()
"""No answer was given: `resume()` passes a breakpoint, `resume(None)` answers None."""


class ThreadHandle(ThreadTravel):
    """One thread, and the run of it that this handle was made for (`run`, counted from 1)."""

    def __init__(
        self,
        store: CheckpointStore,
        thread_id: str,
        run: int,
        *,
        notify: Callable[[str], None],
        stalled: Callable[[str], str],
        graph: CompiledGraph | None = None,
        cache: ReadCache | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.thread_id = thread_id
        self.run = run
        self._store = store
        self._notify = notify
        self._stalled = stalled
        self._graph = graph
        self._cache = cache
        self._codec = graph.codec if graph is not None else Codec(opaque=True)
        self._clock = clock or SystemClock()

    def __repr__(self) -> str:
        return f"ThreadHandle({self.thread_id!r}, run {self.run})"

    # -- looking -------------------------------------------------------------------------------------------------

    @property
    def info(self) -> ThreadRecord:
        """The thread's row. Raises `UnknownThread` if it was deleted."""
        return self._store.thread(self.thread_id)

    @property
    def status(self) -> Status:
        """Where the thread stands."""
        return self.info.status

    @property
    def reason(self) -> str:
        """Why it is paused, failed or cancelled or, while it runs, why it makes no progress (such as a full disk)."""
        record = self.info
        return record.reason or (self._stalled(self.thread_id) if record.status.runnable else "")

    @property
    def interrupts(self) -> tuple[str, ...]:
        """Ids of the open interrupts."""
        return self.info.interrupts

    def heartbeats(self) -> dict[str, Heartbeat]:
        """What the nodes of the step in progress last said of their progress, by task (the node's name, or `node#i` for
        the i-th `Send`). Up to some seconds old."""
        return self._reader().heartbeats()

    def result(self, timeout: float | timedelta | None = None) -> dict[str, Any]:
        """The output values of the handle's run; waits for its end, at most `timeout` (seconds, or a timedelta).

        Raises `TimeoutError`, `Interrupted` where the run waits for an answer, `Paused`, `Cancelled`, `NodeFailed`,
        `GraphRecursionError`.
        """
        deadline = deadline_of(timeout)
        for _ in looks(deadline, f"thread {self.thread_id!r}, run {self.run}: no result"):
            record = self.info
            run = self._run_after(record)
            if run is not None and run.status.ended:
                return self._outcome(run)
            if record.run == self.run or (run is not None and not record.status.runnable):
                self._raise_if_parked(record)
        raise AssertionError("unreachable")

    def stream(
        self, stream_mode: str | Sequence[str] = "updates", *, timeout: float | timedelta | None = None
    ) -> Iterator[Any]:
        """The run's steps from its beginning, each once it is durable, until it ends or waits for an answer.

        Modes as in `CompiledGraph.stream`. An owner's crash is not seen here, except as a pause.
        """
        modes = read_modes(stream_mode)
        follower = Follower(
            self._store,
            self.thread_id,
            self._codec,
            run=self.run,
            after=self._before_run(),
            values="values" in modes.names,
            cache=self._cache,
        )
        for _ in looks(deadline_of(timeout), f"thread {self.thread_id!r}: the stream did not end"):
            over = self._over()
            for event in follower.read():
                yield from events_of(event, modes, self._complete)
            if over:
                return

    # -- steering ------------------------------------------------------------------------------------------------

    def resume(self, answer: Any = UNSET, *, interrupt_id: str | None = None) -> None:
        """Answer an interrupt; without a value, pass a static breakpoint or end a pause.

        A thread that waits at several interrupts is answered one at a time by `interrupt_id`, or with a dict of ids and
        answers. Returns once the answer is in the store. Raises `NotInterrupted`, `UnknownInterrupt`, `InputError`.
        """
        record = self.info
        if answer is UNSET:
            if record.status not in PARKED:
                raise NotInterrupted(self.thread_id, record.status)
            if record.interrupts and record.status is not Status.PAUSED:
                raise ClientError(f"thread {self.thread_id!r} waits for an answer; give one: resume(value)")
            self._send(RESUME, pack(self._codec, "", None, None), PARKED)
            return
        answers = {interrupt_id: answer} if interrupt_id is not None else answers_of(answer, record)
        for wait, value in answers.items():
            try:
                self._send(RESUME, pack(self._codec, wait, value, None), LIVE, wait=wait)
            except Refused as refusal:
                raise UnknownInterrupt(self.thread_id, wait, self.info.interrupts) from refusal

    def signal(self, name: str, value: Any = None) -> None:
        """Send a signal: a node's `receive(name)` returns `value`. It is kept until a node receives it, in the order in
        which signals of one name were sent; one that nobody has when the thread ends is recorded as undelivered.
        Returns once it is in the store; also for threads that an `invoke` drives.

        Raises `Refused` for a thread that has ended, `InputError`, `Unencodable`.
        """
        message = signal_message(self._codec, self._clock, name, value)
        self._store.deliver(self.thread_id, message, ACCEPTS_SIGNALS)
        self._notify(self.thread_id)

    def pause(self, reason: str = "") -> None:
        """Stop between two steps, until `resume()`. Raises `Refused` for a thread that has ended."""
        self._send(PAUSE, pack(self._codec, reason), LIVE)

    def retry(self) -> None:
        """Run the tasks that failed again, and only those; or go on after a pause. Raises `Refused` for any other."""
        self._send(RETRY, b"", frozenset({Status.FAILED, Status.PAUSED}))

    def cancel(self, reason: str = "") -> None:
        """End the thread's runs, also in the middle of a node. Raises `Refused` for a thread that has ended."""
        self._send(CANCEL, pack(self._codec, reason), LIVE)

    # -- inside --------------------------------------------------------------------------------------------------

    def _other(self, thread_id: str, run: int) -> Self:
        return type(self)(
            self._store,
            thread_id,
            run,
            notify=self._notify,
            stalled=self._stalled,
            graph=self._graph,
            cache=self._cache,
        )

    def _reader(self) -> SnapshotReader:
        schema = self._graph.topology.state if self._graph is not None else None
        return SnapshotReader(self._store, self.info, self._codec, schema, self._cache)

    def _complete(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values as they are shown: with the keys that start with a value, where the graph is known."""
        return self._graph.topology.state.complete(values) if self._graph is not None else dict(values)

    def _send(self, kind: str, payload: bytes, statuses: frozenset[Status], wait: str = "", head: int = 0) -> int:
        self._check_driver(self.info)
        now = self._clock.time()
        message = Message(message_id=self._clock.unique(), kind=kind, payload=payload, created_at=now)
        delivery = self._store.deliver(self.thread_id, message, Expect(statuses=statuses, wait=wait, head=head))
        self._notify(self.thread_id)
        return delivery.number

    def _check_driver(self, record: ThreadRecord) -> None:
        if record.driver == LOADING:
            raise ThreadHeld(self.thread_id, "nobody can run it yet")
        if record.driver != SERVICE:
            raise ClientError(
                f"thread {self.thread_id!r} is driven by invoke() in somebody's process, where no service reads its "
                "mail; use the graph's own invoke, update_state and get_state for it"
            )

    def _run_record(self) -> RunRecord | None:
        return next((run for run in self._store.runs(self.thread_id) if run.run == self.run), None)

    def _run_after(self, record: ThreadRecord) -> RunRecord | None:
        """The handle's run, after `record`; None where a retry or replay was accepted and has still to open it."""
        run = self._run_record()
        if run is None or not run.status.ended or not record.status.runnable or record.run != self.run:
            return run
        if any(message.kind in (RETRY, RESUME) for message in self._store.messages(self.thread_id)):
            return None
        return self._run_record()

    def _outcome(self, run: RunRecord) -> dict[str, Any]:
        if run.status is Status.SUCCEEDED:
            reader = HistoryReader(self._store, self.thread_id, cache=self._cache)
            manifest = load_control(reader, run.end).manifest
            output = self._graph.topology.output if self._graph is not None else None
            shown = manifest.keys() - {RUN_CHANNEL} if output is None else manifest.keys() & output.fields.keys()
            wanted = {name: version for name, version in manifest.items() if name in shown}
            values = load_values(reader, wanted, self._codec, at=run.end)
            return output.select(values) if output is not None else dict(values)
        if run.status is Status.CANCELLED:
            raise Cancelled(self.thread_id, run.reason)
        raise as_error(decode_failure(run.error), self.info.graph, self.thread_id)

    def _raise_if_parked(self, record: ThreadRecord) -> None:
        if record.status is Status.PAUSED:
            raise Paused(self.thread_id, record.reason)
        if record.status is Status.INTERRUPTED:
            state = self.get_state()
            raise Interrupted(self.thread_id, dict(state.values), state.interrupts)

    def _over(self) -> bool:
        """Whether a stream of the run has nothing more to come."""
        record = self.info
        run = self._run_after(record)
        return run is not None and (run.status.ended or not record.status.runnable)

    def _before_run(self) -> int:
        """Seq of the last commit before the run began."""
        ends = [run.end for run in self._store.runs(self.thread_id) if run.run < self.run]
        origin = self.info.origin
        return max([*ends, origin.seq if origin is not None else 0])
