"""Threads that run inside the caller's process: create, deliver, claim, drive, release."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.errors import ClaimLost, Refused, ThreadHeld, UnknownThread
from ..stores.operations import Expect
from ..stores.records import IN_PROCESS, LOADING, PARKED, Message, Status, ThreadRecord
from .breakpoints import ACCEPTS_BREAKPOINTS, breakpoints_message
from .cache import ReadCache
from .clock import Clock
from .drive import STORE_PATIENCE, Driver, WriterThread, patient
from .errors import InvalidUpdateError, NotInterrupted, ThreadBusy, UnknownInterrupt
from .loop import ThreadLoop
from .payloads import INPUTS, UPDATE, BreakpointsPayload
from .ports import Executor, Gate, LoopLimits, Observer, Ports
from .process import OwnerState, at_work, owner_state
from .restore import restore
from .settled import Settled
from .signals import ACCEPTS_SIGNALS, signal_message
from .topology import Topology
from .upkeep import OwnUpkeep
from .waking import wake_message
from .writer import Writer

ANY_STATUS = frozenset(Status)
_GOES_ON = frozenset({Status.SLEEPING, Status.WAITING})
"""Statuses in which a thread waits for something else than its user."""
_FIRST_LOOK, _LONGEST_LOOK = 0.005, 0.25
"""Seconds between two looks at the store while a thread waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InProcess:
    """Runs one graph's threads in this process."""

    topology: Topology
    store: CheckpointStore
    codec: Codec
    clock: Clock
    executor: Callable[[], Executor]
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    tags: tuple[str, ...] = ()
    cache: ReadCache | None = None

    def thread(self, thread_id: str) -> ThreadRecord:
        """The thread's row. Raises `UnknownThread`, `StoreUnavailable` when the store stays away."""
        return patient(self.store.thread, thread_id)

    def send(
        self,
        thread_id: str,
        kind: str,
        payload: bytes,
        *,
        statuses: frozenset[Status] = ANY_STATUS,
        wait: str = "",
        head: int = 0,
    ) -> int:
        """Deliver a message, creating the thread if an input or update is its first; returns the message's number.

        With `head`, only while that is the newest checkpoint. Raises `ThreadBusy` while another process runs the
        thread, `NotInterrupted`, `UnknownInterrupt`, `Refused` where the head is another, `StoreUnavailable` when the
        store stays away.
        """
        expect = Expect(statuses=statuses, wait=wait, head=head)
        return self._deliver(thread_id, kind, payload, expect)[1]

    def update(self, thread_id: str, payload: bytes, *, head: int = 0) -> int:
        """Deliver an update and see it applied; returns the commit that applied it. Runs no node. Raises as `send` and
        `see_to`."""
        before, number = self._deliver(thread_id, UPDATE, payload, Expect(statuses=ANY_STATUS, head=head))
        return self.see_to(before, number)

    def check_free(self, record: ThreadRecord) -> None:
        """Raise `ThreadBusy` if somebody else runs the thread, `ThreadHeld` if it is being copied in."""
        if record.driver == LOADING:
            raise ThreadHeld(record.thread_id, "nobody can run it yet")
        if record.driver != IN_PROCESS:
            raise ThreadBusy(record.thread_id, "the Ray service drives it; use connect(...).thread(...) for it")
        if record.owner and owner_state(record.owner) is OwnerState.AT_WORK:
            raise ThreadBusy(record.thread_id, f"in process {record.owner}")

    def run(self, thread_id: str, observer: Observer | None = None, gate: Gate | None = None) -> Settled:
        """Claim the thread and drive it until it ends or waits for its user, or `gate` says to drain. An owner that
        died is replaced, one that lives is not. While the thread sleeps or waits for a signal it is nobody's.

        Raises `ThreadBusy`, `Fenced` if it is taken over meanwhile, and `StoreUnavailable` when the store stays away.
        """
        gate = gate or Gate()
        settled, pause = self.drive(thread_id, observer, gate), _FIRST_LOOK
        while settled.status in _GOES_ON and not gate.drain:
            self._until_due(thread_id, gate)
            if gate.drain:
                break
            try:
                settled, pause = self.drive(thread_id, observer, gate), _FIRST_LOOK
            except ThreadBusy:
                # While it slept somebody has sent it something, and sees that applied. Then it is nobody's again.
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_LOOK)
        return settled

    def drive(
        self,
        thread_id: str,
        observer: Observer | None = None,
        gate: Gate | None = None,
    ) -> Settled:
        """Claim the thread and drive it until it is given up, whatever it waits for. Raises as `run`."""
        with at_work(self.clock.unique()) as owner:
            record = self._claim(self.thread(thread_id), owner)
            return self._serve(record, observer, gate or Gate(), LoopLimits())

    def touch(self, thread_id: str, before: ThreadRecord | None = None, number: int = 0) -> Settled:
        """Claim the thread, apply its mail, and give it up: what sleeps goes on sleeping, and what there is to run is
        left to who claims it next. `before` is its row before message `number` woke it. Raises as `run`."""
        with at_work(self.clock.unique()) as owner:
            found = self.thread(thread_id)
            limits = LoopLimits(mail_only=True, own=number)
            return self._serve(self._claim(found, owner), None, Gate(), limits, held=_interrupted(found, before))

    def see_to(self, before: ThreadRecord, number: int) -> int:
        """See a message applied that was delivered, here or by who has the thread at this moment; returns the commit
        that applied it. `before` is the thread's row until then.

        Raises why it could not be applied, `InvalidUpdateError` where somebody else has found that; `StoreUnavailable`.
        """
        thread_id, pause = before.thread_id, _FIRST_LOOK
        while True:
            try:
                settled = self.touch(thread_id, before, number)
                if number in settled.refused:
                    raise settled.refused[number]
            except ThreadBusy:
                # Of two who change a thread at once, one applies what both have sent.
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_LOOK)
            mail = patient(self.store.messages, thread_id, unread=False)
            applied = next(one.applied for one in mail if one.number == number)
            if applied > 0:
                return applied
            if applied < 0:
                raise InvalidUpdateError(f"thread {thread_id!r}: it ended before it read message {number}")

    def signal(self, thread_id: str, name: str, value: Any) -> None:
        """Send a signal, also to a thread that somebody runs. Raises `Refused` for one that has ended, `InputError`,
        `Unencodable`, `UnknownThread`, `StoreUnavailable` when the store stays away."""
        message = signal_message(self.codec, self.clock, name, value)
        patient(self.store.deliver, thread_id, message, ACCEPTS_SIGNALS)

    def change_breakpoints(self, thread_id: str, change: BreakpointsPayload) -> None:
        """Change the breakpoints of the run in progress, also while somebody runs it; runs no node. Raises `Refused`
        for a thread that has ended, why they cannot be changed, `UnknownThread`, `StoreUnavailable` when the store
        stays away."""
        message = breakpoints_message(self.codec, self.clock, change)
        before = self.thread(thread_id)
        number = patient(self.store.deliver, thread_id, message, ACCEPTS_BREAKPOINTS).number
        if before.status not in PARKED or before.driver != IN_PROCESS:
            return
        try:  # nobody else would read it, and until then it would not be parked
            settled = self.touch(thread_id, before, number)
        except ThreadBusy:
            return  # who has claimed it at this moment reads it
        if number in settled.refused:
            raise settled.refused[number]

    def _deliver(self, thread_id: str, kind: str, payload: bytes, expect: Expect) -> tuple[ThreadRecord, int]:
        """`send`, which also returns the thread's row before the message."""
        message = Message(message_id=self.clock.unique(), kind=kind, payload=payload, created_at=self.clock.time())
        try:
            record = self.thread(thread_id)
        except UnknownThread:
            if kind not in INPUTS and kind != UPDATE:
                raise
            record = self._new(thread_id)
            return record, patient(self.store.create, record, message).number
        self.check_free(record)
        try:
            return record, patient(self.store.deliver, thread_id, message, expect).number
        except Refused as refusal:
            if expect.head:
                raise
            if expect.wait:
                raise UnknownInterrupt(thread_id, expect.wait, record.waits) from refusal
            raise NotInterrupted(thread_id, record.status) from refusal

    def _until_due(self, thread_id: str, gate: Gate) -> None:
        """Wait until a parked thread's time has come, or somebody has sent it what wakes it."""
        pause = _FIRST_LOOK
        while not gate.drain:
            record = self.thread(thread_id)
            if record.status not in _GOES_ON:
                return
            left = record.wake_at - self.clock.time() if record.wake_at else pause
            if record.wake_at and left <= 0:
                message, expect = wake_message(record, self.clock.time())
                try:
                    patient(self.store.deliver, thread_id, message, expect)
                except Refused:
                    pass  # it was woken by something else at this moment
                return
            time.sleep(min(left, pause))
            pause = min(pause * 2, _LONGEST_LOOK)

    def _serve(
        self, record: ThreadRecord, observer: Observer | None, gate: Gate, limits: LoopLimits, *, held: bool = False
    ) -> Settled:
        writer = Writer(self.store, self.clock)
        background = WriterThread(writer, STORE_PATIENCE)
        executor = self.executor()
        try:
            restored = patient(restore, self.store, record, self.codec, self.cache)
            restored.position.held = held
            ports = Ports(self.store, self.store, executor, self.clock, gate, limits, observer)
            loop = ThreadLoop(record, restored, self.topology, self.codec, ports)
            driver = Driver(loop, writer)
            lane = writer.lane(record.thread_id, record.epoch, record.token, driver.post)
            loop.attach(lane, driver.post)
            upkeep = OwnUpkeep(self.store, record, self.clock, lane, restored.segments)
            background.between = upkeep.between
            settled = driver.run()
            upkeep.finish(settled.position.head)
            return settled
        finally:
            executor.stop()
            background.close()

    def _claim(self, record: ThreadRecord, owner: str) -> ThreadRecord:
        self.check_free(record)
        died = record.status is Status.RUNNING and bool(record.owner) and owner_state(record.owner) is OwnerState.DEAD
        try:
            return patient(
                self.store.claim,
                record.thread_id,
                epoch=record.epoch,
                token=self.clock.unique(),
                owner=owner,
                crashed=died,
                at=self.clock.time(),
            )
        except ClaimLost as lost:
            raise ThreadBusy(record.thread_id, "another process claimed it at this moment") from lost

    def _new(self, thread_id: str) -> ThreadRecord:
        now = self.clock.time()
        return ThreadRecord(
            thread_id=thread_id,
            graph=self.topology.name,
            version=self.topology.version,
            driver=IN_PROCESS,
            metadata=self.metadata,
            tags=self.tags,
            retention=self.topology.retention,
            created_at=now,
            updated_at=now,
        )


def _interrupted(found: ThreadRecord, before: ThreadRecord | None) -> bool:
    """Whether a thread stands where it was interrupted. A message has made it runnable since `before`, which says how
    it was as long as nobody has claimed it."""
    if before is not None and before.epoch == found.epoch and before.status is Status.INTERRUPTED:
        return True
    return found.status is Status.INTERRUPTED
