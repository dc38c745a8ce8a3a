"""What a caller of `invoke` asks of a thread, put into messages to it."""

from __future__ import annotations

import re
from typing import Any

from ..stores.errors import UnknownThread
from ..stores.history import HistoryReader
from ..stores.records import Status, ThreadRecord
from ..stores.segments import Kind
from .commands import START, Command
from .config import Config
from .control import Control
from .errors import CheckpointNotFound, InputError, NotInterrupted, UnknownInterrupt
from .inprocess import InProcess
from .payloads import INPUT, REPLACE, RESUME, RETRY, InputPayload, pack, pack_input
from .restore import load_control, load_head
from .snapshots import checkpoint_id, looking_for
from .topology import Topology

_ANSWERABLE = frozenset({Status.INTERRUPTED, Status.QUEUED, Status.RUNNING, Status.PAUSED})
_STEP_BEGUN = frozenset({Kind.RESULT, Kind.INTERRUPT, Kind.ANSWER, Kind.CALL, Kind.WAIT})
_ID = re.compile(r"[0-9a-f]{32}")


def ask(runner: InProcess, given: Config, input: Any) -> None:
    """Send what `input` means: a run's input, answers in a `Command`, or None to go on where the thread stopped.

    Raises `InputError`, `UnknownThread`, `CheckpointNotFound`, `NotInterrupted`, `UnknownInterrupt`, `ThreadBusy`.
    """
    if input is None:
        _go_on(runner, given, runner.thread(given.thread_id))
    elif isinstance(input, Command):
        _answer(runner, given, runner.thread(given.thread_id), input)
    else:
        runner.topology.input.updates(input, "")
        record = find(runner, given.thread_id)
        parent = 0
        if given.checkpoint and (record is None or given.checkpoint != record.head):
            parent = given.checkpoint
            check_checkpoint(runner, given.thread_id, parent)
        payload = pack_input(runner.codec, InputPayload(input, given.options, parent))
        runner.send(given.thread_id, INPUT if record is None else REPLACE, payload)


def ask_step(runner: InProcess, given: Config) -> None:
    """Send word that a thread is to take one step. Raises `NotInterrupted` where it has none to take,
    `CheckpointNotFound`, `ThreadBusy`, `UnknownThread`."""
    record = runner.thread(given.thread_id)
    reader = HistoryReader(runner.store, given.thread_id, record=record)
    back = given.checkpoint if given.checkpoint != record.head else 0
    with looking_for(given.thread_id, back):
        start = load_control(reader, back) if back else load_head(reader, record) if record.head else None
    if start is None or not start.next:
        raise NotInterrupted(given.thread_id, record.status, stepping=True)
    if back:
        _go_back(runner, record, back)
    runner.send(given.thread_id, RESUME, pack(runner.codec, "", None, None, None, True))


def make_update(runner: InProcess, given: Config, values: Any, as_node: str | None, expected: int = 0) -> int:
    """Update the state, whatever the head is or only if it is the `expected` one; returns the commit that consumed the
    update. Raises `CheckpointNotFound`, `ThreadBusy`, `Refused` where the head is another, why it cannot be applied."""
    if expected:
        check_checkpoint(runner, given.thread_id, expected)
    if given.checkpoint:
        check_checkpoint(runner, given.thread_id, given.checkpoint)
    node = _asked_again(runner, given) if as_node is None else as_node
    payload = pack(runner.codec, values, node, given.checkpoint, expected)
    return runner.update(given.thread_id, payload, head=expected)


def answers_of(resume: Any, record: ThreadRecord) -> dict[str, Any]:
    """Which open interrupt each answer is for. A dict whose keys are ids of interrupts answers those.

    Raises `NotInterrupted`, `UnknownInterrupt`, and `InputError` where several wait and none is named.
    """
    waits = record.interrupts
    if not waits:
        raise NotInterrupted(record.thread_id, record.status)
    if isinstance(resume, dict) and resume and all(isinstance(key, str) and _ID.fullmatch(key) for key in resume):
        for key in resume:
            if key not in waits:
                raise UnknownInterrupt(record.thread_id, key, waits)
        return dict(resume)
    if len(waits) > 1:
        raise InputError(
            f"thread {record.thread_id!r} waits at {len(waits)} interrupts; answer by id: "
            f"{{{', '.join(f'{wait!r}: ...' for wait in waits)}}}"
        )
    return {waits[0]: resume}


def find(runner: InProcess, thread_id: str) -> ThreadRecord | None:
    """The thread's row, if there is one."""
    try:
        return runner.thread(thread_id)
    except UnknownThread:
        return None


def check_checkpoint(runner: InProcess, thread_id: str, seq: int) -> None:
    """Raise `CheckpointNotFound` unless the thread has this checkpoint."""
    try:
        with looking_for(thread_id, seq):
            HistoryReader(runner.store, thread_id).checkpoint(seq)
    except UnknownThread:
        raise CheckpointNotFound(thread_id, checkpoint_id(seq)) from None


def _go_on(runner: InProcess, given: Config, record: ThreadRecord) -> None:
    options = given.options.to_data()
    go_on = pack(runner.codec, "", None, None, options)
    if given.checkpoint and given.checkpoint != record.head:
        _go_back(runner, record, given.checkpoint)
        runner.send(given.thread_id, RESUME, go_on)
    elif record.status is Status.FAILED:
        if not record.head or load_head(HistoryReader(runner.store, record.thread_id), record).run != record.run:
            raise InputError(
                f"thread {record.thread_id!r}: its last run failed before its first step ({record.reason}); "
                "give it an input"
            )
        runner.send(given.thread_id, RETRY, pack(runner.codec, options))
    elif record.status is Status.PAUSED or (record.status is Status.INTERRUPTED and not record.interrupts):
        runner.send(given.thread_id, RESUME, go_on)


def _go_back(runner: InProcess, record: ThreadRecord, seq: int) -> None:
    """Make an older checkpoint the one that goes on. Raises why it cannot be: what comes next was not meant for the
    thread as it is."""
    check_checkpoint(runner, record.thread_id, seq)
    runner.update(record.thread_id, pack(runner.codec, None, None, seq))


def _answer(runner: InProcess, given: Config, record: ThreadRecord, command: Command[Any]) -> None:
    if command.goto:
        raise InputError("Command(goto=...) cannot be given to invoke; use update_state(config, ..., as_node=...)")
    if command.resume is None and command.update is not None:
        raise InputError("Command(update=...) without resume= answers nothing; use update_state(config, ...)")
    if given.checkpoint and given.checkpoint != record.head:
        raise InputError(
            f"checkpoint {checkpoint_id(given.checkpoint)} is not the newest of thread {given.thread_id!r}, and only "
            "there an interrupt can be answered; invoke(None, config) with this checkpoint first, which asks again"
        )
    runner.topology.state.updates(command.update, "update_state")
    answers = answers_of(command.resume, record)
    last = list(answers)[-1]
    for interrupt_id, answer in answers.items():
        update = command.update if interrupt_id == last else None
        payload = pack(runner.codec, interrupt_id, answer, update, given.options.to_data())
        runner.send(given.thread_id, RESUME, payload, statuses=_ANSWERABLE, wait=interrupt_id)
    if record.status is Status.PAUSED:
        runner.send(given.thread_id, RESUME, pack(runner.codec, "", None, None))


def last_node(topology: Topology, control: Control) -> str | None:
    """Whose conditional edges an update from nobody asks again: those of the node that ran last, if it ran alone. None
    leaves the tasks as they are."""
    if len(control.done) > 1:
        return None
    node = control.done[0][1] if control.done else START
    return node if node in topology.branches else None


def _asked_again(runner: InProcess, given: Config) -> str | None:
    """`last_node` of the checkpoint that is to be changed, if what follows it has not begun."""
    record = find(runner, given.thread_id)
    if record is None or not record.head:
        return START
    reader = HistoryReader(runner.store, given.thread_id)
    control = load_control(reader, given.checkpoint) if given.checkpoint else load_head(reader, record)
    node = last_node(runner.topology, control)
    if node is None:
        return None
    begun = not given.checkpoint and any(row.kind in _STEP_BEGUN for row in reader.pending(record.head))
    return None if begun else node
