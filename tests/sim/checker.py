"""The judge: looks at what the store holds and at the outside log, and at nothing that the engine says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.runtime.calls import Calls, decode_call
from perdure.runtime.checkpoints import EVERY_STEP
from perdure.runtime.control import RUN_CHANNEL, Control, decode_control
from perdure.runtime.options import Durability
from perdure.runtime.payloads import INPUTS, UPDATE, unpack, unpack_input
from perdure.runtime.restore import load_sends, load_values
from perdure.runtime.snapshots import SnapshotReader
from perdure.stores.history import HistoryReader
from perdure.stores.records import SIGNAL, UNDELIVERED, Message, Segment, Status, ThreadRecord
from perdure.stores.segments import Kind, Row
from tests.sim.graphs import SimGraph, graph_named
from tests.sim.journal import Applied, Journal, Violation, require
from tests.sim.replay import Replay, Standing, first_of

if TYPE_CHECKING:
    from tests.sim.world import World


def check(world: World) -> None:
    """Hold a finished world to its promises. Raises `Violation`."""
    for thread_id in world.threads:
        if any(one.thread_id == thread_id for one in world.journal.acknowledged) or thread_id in world.journal.applied:
            _History(world, thread_id).check()
    for ack in world.journal.acknowledged:
        kept = [one for one in world.memory.messages(ack.thread_id, unread=False) if one.message_id == ack.message_id]
        require(len(kept) == 1 and kept[0].number == ack.number, "V4", f"{ack} is kept as {kept}")
        runs = {run.run for run in world.memory.runs(ack.thread_id)}
        require(ack.kind not in INPUTS or ack.run in runs, "V1", f"{ack} was accepted and there is no such run")


class _History:
    """One thread's story, as it is stored and as it was seen from outside."""

    def __init__(self, world: World, thread_id: str) -> None:
        self._world = world
        self._journal: Journal = world.journal
        self._thread_id = thread_id
        self._row: ThreadRecord = world.memory.thread(thread_id)
        self._graph: SimGraph = graph_named(self._row.graph)
        self._reader = HistoryReader(world.memory, thread_id)
        self._segments: list[Segment] = world.memory.segments(thread_id)[::-1]
        self._rows: list[Row] = [row for segment in self._segments for row in segment.rows]
        self._applied: list[Applied] = world.journal.applied.get(thread_id, [])
        self._messages: dict[int, Message] = {
            message.number: message for message in world.memory.messages(thread_id, unread=False)
        }
        self._last: dict[int, int] = {}
        """For each seq the last message that it applied: the one that made its checkpoint, if any did."""
        for one in self._applied:
            self._last.update((seq, number) for number, seq in one.commit.applied)
        self._controls: dict[int, Control] = {}
        self._standings: dict[int, Standing] = {}

    def check(self) -> None:
        self._one_writer()
        self._tree()
        self._messages_once()
        self._no_task_twice()
        self._durable_first()
        self._full_often_enough()
        self._at_rest()
        self._every_step()
        self._readable()

    # -- V3 --------------------------------------------------------------------------------------------------------

    def _one_writer(self) -> None:
        """Seq rises by one, epochs never fall, the log and the store tell the same commits, and none is stale."""
        where, origin = self._thread_id, self._row.origin
        seq, epoch = origin.seq if origin else 0, 0
        for segment in self._segments:
            require(segment.first == seq + 1, "V3", f"{where}: commit {segment.first} follows {seq}")
            require(segment.epoch >= epoch, "V3", f"{where}: epoch {segment.epoch} follows {epoch} at {segment.first}")
            seq, epoch = segment.last, segment.epoch
        require(self._row.seq == seq, "V3", f"{where}: the row says seq {self._row.seq}, the history ends at {seq}")
        told = [(one.commit.first, one.commit.last, one.commit.commit_id) for one in self._applied]
        kept = [(segment.first, segment.last, segment.commit_id) for segment in self._segments]
        require(told == kept, "V3", f"{where}: acknowledged were {told}, kept are {kept}")
        claims = self._journal.claims.get(where, [])
        require([epoch for _, epoch in claims] == sorted({epoch for _, epoch in claims}), "V3", f"{where}: {claims}")
        for one in self._applied:
            newest = max((epoch for at, epoch in claims if at < one.at), default=0)
            require(
                one.commit.epoch == newest,
                "V3",
                f"{where}: epoch {one.commit.epoch} wrote {one.commit.first} when {newest} owned it",
            )

    def _tree(self) -> None:
        """Every checkpoint was made from the one before it, unless a user went back."""
        where, origin = self._thread_id, self._row.origin
        head = origin.seq if origin else 0
        for row in self._rows:
            if row.kind != Kind.CHECKPOINT:
                continue
            control = decode_control(row.payload, where)
            self._controls[row.checkpoint] = control
            parent, seq = control.parent, row.checkpoint
            require(row.prev == parent < seq, "V3", f"{where}: checkpoint {seq} has parent {parent} and {row.prev}")
            allowed = parent == head or control.source == "fork" or self._told_to_start_at(parent, seq)
            require(allowed, "V3", f"{where}: {seq} was made from {parent}, not {head}")
            require(parent == 0 or self._control(parent), "V3", f"{where}: parent {parent} of {seq} is no checkpoint")
            head = seq
        require(self._row.head == head, "V3", f"{where}: the row's head is {self._row.head}, the last made is {head}")

    def _told_to_start_at(self, parent: int, seq: int) -> bool:
        message = self._messages.get(self._last.get(seq, 0))
        if message is None or message.kind not in INPUTS:
            return False
        return unpack_input(self._graph.codec, message).parent == parent

    def _control(self, seq: int) -> Control:
        if seq not in self._controls:
            self._controls[seq] = decode_control(self._reader.checkpoint(seq)[1].payload, self._thread_id)
        return self._controls[seq]

    # -- V1, V4 ----------------------------------------------------------------------------------------------------

    def _messages_once(self) -> None:
        """Each message is applied by one commit, or recorded as undelivered by a cancel; none of a kind overtakes."""
        where = self._thread_id
        applied: dict[int, int] = {}
        for one in self._applied:
            numbers = [number for number, _ in one.commit.applied]
            cancels = [self._messages[number] for number in numbers if self._messages[number].kind == "cancel"]
            for number, seq in one.commit.applied:
                require(number not in applied, "V4", f"{where}: message {number} was applied twice, at {seq}")
                ends = one.commit.status is not None and one.commit.status.ended
                dropped = cancels or (ends and self._messages[number].kind == SIGNAL)
                require(seq != UNDELIVERED or dropped, "V4", f"{where}: message {number} was dropped without a cancel")
                applied[number] = seq
        newest: dict[str, int] = {}
        for number, message in sorted(self._messages.items()):
            seq = applied.get(number, 0)
            require(message.applied == seq, "V4", f"{where}: message {number} says {message.applied}, its commit {seq}")
            require(seq or not self._row.status.ended, "V4", f"{where} ended without reading {message}: {self._row}")
            kept = message.kind in INPUTS or message.kind == SIGNAL
            require(seq or kept, "V4", f"{where}: {message} was never applied")
            if seq > 0:
                kind = message.kind + message.name
                require(seq >= newest.get(kind, 0), "V4", f"{where}: {kind} {number} was overtaken")
                newest[kind] = seq
        for number, message in self._messages.items():
            if message.kind == "cancel" and applied.get(number, 0) > 0:
                late = [one for one, seq in applied.items() if one < number and seq > applied[number]]
                require(not late, "V4", f"{where}: cancel {number} did not overtake {late}")
        self._runs_kept(applied)

    def _runs_kept(self, applied: dict[int, int]) -> None:
        runs = {run.run: run for run in self._world.memory.runs(self._thread_id)}
        for number, message in self._messages.items():
            if message.kind not in INPUTS:
                continue
            run = runs.get(message.run)
            require(run is not None, "V1", f"{self._thread_id}: run {message.run} of message {number} is gone")
            assert run is not None
            begun = number in applied
            alive = run.status is Status.QUEUED if not begun else run.status.ended or self._row.run == run.run
            require(alive, "V1", f"{self._thread_id}: {run} after {message}; the row is {self._row}")

    # -- V2 --------------------------------------------------------------------------------------------------------

    def _no_task_twice(self) -> None:
        """No task was started by an owner that could have known that its result was committed."""
        committed: dict[tuple[int, str], Applied] = {}
        for one in self._applied:
            for row in one.commit.rows:
                if row.kind == Kind.RESULT:
                    committed.setdefault((row.version, row.channel), one)
                elif row.kind == Kind.CHECKPOINT:
                    control = self._controls[row.checkpoint]
                    parent = self._control(control.parent).step if control.parent else -2
                    if control.source == "loop" and control.step == parent + 1:
                        for path, _ in control.done:
                            committed.setdefault((control.parent, path), one)
        for run in self._journal.executions:
            if run.thread_id == self._thread_id and (known := committed.get((run.head, run.path))) is not None:
                require(
                    run.at < known.at or run.epoch < known.commit.epoch,
                    "V2",
                    f"{self._thread_id}: {run} although its result was committed at {known.at} by epoch "
                    f"{known.commit.epoch} in {known.commit.first}",
                )

    def _durable_first(self) -> None:
        """With sync durability, and for nodes with effects, what comes before a node is durable when it starts: all of
        it, or with sync durability and thinned checkpoints all but the step that may yet be folded."""
        options = self._world.scenario.options
        sync = options.durability is Durability.SYNC
        thinned = any(
            policy != EVERY_STEP for policy in (options.checkpoints, self._graph.topology.checkpoints) if policy
        )
        for run in self._journal.executions:
            if run.thread_id != self._thread_id:
                continue
            effects = self._graph.topology.nodes[run.path.partition("#")[0]].effects
            if sync or effects:
                last = run.head - 1 if thinned and not effects else run.head
                inherited = self._row.origin is not None and last <= self._row.origin.seq
                durable = not last or any(one.commit.last >= last and one.at < run.at for one in self._applied)
                by_default = not effects and self._without_options(run.at)
                what = f"{self._thread_id}: {run} before its checkpoint was durable"
                require(inherited or durable or by_default, "V2", what)

    def _full_often_enough(self) -> None:
        """No more steps lie between two full checkpoints than the run and its graph allow."""
        options, own = self._world.scenario.options, self._graph.topology.checkpoints
        policies = [options.checkpoints or own, own]
        if options.durability is Durability.EXIT or any(one.manual or one.interval for one in policies):
            return
        # A state that was only ever updated has no run's options. An input is a step that is not counted.
        most = max(one.every for one in policies)
        for seq, control in list(self._controls.items()):
            if control.source == "loop":
                steps = control.step - (self._control(control.parent).step if control.parent else -2)
                folds = most if most > 1 else 0
                require(steps <= folds + 1, "V6", f"{self._thread_id}: {steps} steps lie before checkpoint {seq}")

    def _without_options(self, at: int) -> bool:
        """Whether what was durable at that time holds no run's options: a state that was only ever updated."""
        made = [
            row.checkpoint
            for one in self._applied
            if one.at < at
            for row in one.commit.rows
            if row.kind == Kind.CHECKPOINT
        ]
        newest = made[-1] if made else self._row.origin.seq if self._row.origin else 0
        return newest > 0 and RUN_CHANNEL not in self._control(newest).manifest

    # -- V5 --------------------------------------------------------------------------------------------------------

    def _at_rest(self) -> None:
        row = self._row
        require(not row.status.runnable, "V5", f"{row} is left to be run")
        require(row.status is not Status.PAUSED or row.reason, "V5", f"{row} is paused without a reason")
        waits = row.waits or row.status is not Status.INTERRUPTED or self._control(row.head).next
        require(waits, "V5", f"{row} waits for nothing")
        for run in self._world.memory.runs(self._thread_id):
            rests = run.status.ended or run.run == row.run or (run.status is Status.QUEUED and not row.status.ended)
            require(rests, "V5", f"{run} is left over; the row is {row}")

    # -- V6 --------------------------------------------------------------------------------------------------------

    def _every_step(self) -> None:
        """Each checkpoint is what the one before it and the messages applied make of it."""
        recorded: dict[int, dict[str, Calls]] = {}
        for row in self._rows:
            if row.kind == Kind.CALL:
                index, call = decode_call(self._graph.codec.decode(row.encoding, row.payload))
                known = recorded.setdefault(row.version, {}).setdefault(row.channel, {})
                where = f"{self._thread_id}: call {index} of {row.channel} at {row.version}"
                require(known.setdefault(index, call) == call, "V2", f"{where} was {known[index]} and is {call}")
            elif row.kind == Kind.RESULT:
                self._check_result(row, recorded.get(row.version, {}))
            elif row.kind == Kind.CHECKPOINT:
                control, seq = self._controls[row.checkpoint], row.checkpoint
                parent = self._standing(control.parent)
                message = self._messages.get(self._last.get(seq, 0))
                possible = self._successors(control, parent, message, recorded.get(control.parent, {}))
                found = self._standing(seq)
                require(
                    found in possible,
                    "V6",
                    f"{self._thread_id}: checkpoint {seq} ({control.source} after {control.parent}) is {found}; it "
                    f"should be one of {len(possible)}, such as {possible[:3]}",
                )

    def _successors(
        self, control: Control, parent: Standing, message: Message | None, calls: dict[str, Calls]
    ) -> list[Standing]:
        replay = Replay(self._graph.topology)
        steps = control.step - (self._control(control.parent).step if control.parent else -2)
        older = self._older(control.parent)
        now = [parent]
        if message is not None and (control.source != "loop" or message.kind in INPUTS):
            now, steps, older = self._changed(replay, parent, message), steps - 1, []
        for _ in range(steps):
            now = [after for before in now for after in replay.loop(before, calls, older)]
            calls, older = {}, []
        return now

    def _changed(self, replay: Replay, parent: Standing, message: Message) -> list[Standing]:
        fields = unpack(self._graph.codec, message)
        if message.kind in INPUTS:
            return first_of(lambda: replay.jump(parent, "__start__", fields[0], fresh=True))
        if message.kind == UPDATE and fields[1] is not None:
            return first_of(lambda: replay.jump(parent, fields[1], fields[0], fresh=False))
        return first_of(lambda: replay.update(parent, fields[0] if message.kind == UPDATE else fields[2]))

    def _check_result(self, row: Row, calls: dict[str, Calls]) -> None:
        """A recorded result is what its node gives."""
        standing = self._standing(row.version)
        task = next((task for task in standing.next if task.path == row.channel), None)
        require(task is not None, "V2", f"{self._thread_id}: {row} is of no task of checkpoint {row.version}")
        assert task is not None
        outcomes = Replay(self._graph.topology).outcomes(task, standing, calls, self._older(row.version))
        stored = self._graph.codec.decode(row.encoding, row.payload)[0]
        require(
            stored in [[list(pair) for pair in done.writes] for done in outcomes],
            "V6",
            f"{self._thread_id}: the result of {row.channel} at {row.version} is {stored}, its node gives {outcomes}",
        )

    def _older(self, seq: int) -> list[dict[str, Any]]:
        """Values before the updates that left the tasks of checkpoint `seq` as they were."""
        found: list[dict[str, Any]] = []
        while seq and (control := self._control(seq)).source == "update" and control.parent:
            if self._control(control.parent).next != control.next:
                break
            seq = control.parent
            found.append(dict(self._standing(seq).values))
        return found

    def _standing(self, seq: int) -> Standing:
        if not seq:
            return Standing({})
        if seq not in self._standings:
            control, codec = self._control(seq), self._graph.codec
            values = load_values(self._reader, control.manifest, codec)
            values.pop(RUN_CHANNEL, None)
            joins = {key: frozenset(starts) for key, starts in control.joins.items()}
            sends = load_sends(self._reader.rows_of(seq), codec)
            self._standings[seq] = Standing(values, control.next, joins, sends)
        return self._standings[seq]

    def _readable(self) -> None:
        """The whole history reads, over forks, and shows what was seen of it before."""
        try:
            found = list(SnapshotReader(self._world.memory, self._row, self._graph.codec).history())
        except Exception as error:
            raise Violation("V2", f"{self._thread_id}: its history does not read: {error}") from error
        for snapshot in found:
            self._world.observer.seen(self._thread_id, snapshot)
        seen = {seq for thread_id, seq in self._world.observer.states if thread_id == self._thread_id}
        have = {int(snapshot.checkpoint_id) for snapshot in found}
        require(seen <= have, "V2", f"{self._thread_id}: checkpoints {seen - have} were seen and are gone")
