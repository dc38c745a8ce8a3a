"""Follow a run until it ends or waits, with a live line, and say how it came out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from ...runtime.commands import Interrupt
from ...runtime.errors import PerdureError
from ...runtime.failures import Failure
from ...stores.records import Status
from ..client import Client
from ..errors import Cancelled, Interrupted, Paused
from ..handle import ThreadHandle
from ..reader import Reader, Standing
from .call import Answer, Call
from .documents import failure_document, interrupts_document, plain
from .exits import Exit, code_of_status
from .views import duration, interrupts_table, result_text, standing_text

_LOOK = 0.1
"""Seconds between two changes of the live line."""


class LeftRunning(KeyboardInterrupt):
    """Ctrl-C while a run was followed."""

    def __init__(self, thread_id: str, message: str) -> None:
        super().__init__(message)
        self.thread_id = thread_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Where a run stands when there is nothing to follow for the moment."""

    status: Status
    values: dict[str, Any] | None = None
    """The result, or the state at which it waits."""
    interrupts: tuple[Interrupt, ...] = ()
    message: str = ""
    failure: Failure | None = None


class Line:
    """The live line of one thread."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = time.monotonic()
        self._standing: Standing | None = None
        self._spinner = Spinner("line")

    def show(self, standing: Standing) -> None:
        """Where the thread stands now; the time goes on by itself."""
        self._standing = standing

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw the line while the block runs."""
        with Live(get_renderable=self._render, console=self._console, refresh_per_second=8, transient=True):
            yield

    def _render(self) -> Spinner:
        if self._standing is not None:
            self._spinner.update(text=standing_text(self._standing, time.monotonic() - self._begun))
        return self._spinner


def follow(call: Call, client: Client, handle: ThreadHandle, *, wanted: Status = Status.SUCCEEDED) -> Answer:
    """Wait until the run ends, waits for an answer or is paused. Exit code 0 if it then stands as `wanted`.

    Raises `LeftRunning` on Ctrl-C: the run goes on.
    """
    call.note(f"thread {handle.thread_id}, run {handle.run}")
    begun = time.monotonic()
    reader = Reader(client.store)
    try:
        outcome = _await(call, reader, handle)
    except KeyboardInterrupt:
        attach = call.again("attach", handle.thread_id)
        message = f"thread {handle.thread_id!r} goes on; to follow it again: {attach}"
        raise LeftRunning(handle.thread_id, message) from None
    return _answer(call, handle, outcome, wanted, time.monotonic() - begun)


def started(call: Call, handle: ThreadHandle) -> Answer:
    """What is said of a run that is not followed."""
    return Answer(
        document={"thread_id": handle.thread_id, "run": handle.run, "status": handle.status.value},
        shown=(Text(handle.thread_id),),
        notes=(f"to follow it: {call.again('attach', handle.thread_id)}",),
    )


def _await(call: Call, reader: Reader, handle: ThreadHandle) -> Outcome:
    if (terminal := call.terminal) is None:
        return _outcome(reader, handle, None)
    line = Line(terminal)
    with line.shown():
        while True:
            line.show(reader.standing(handle.thread_id))
            try:
                return _outcome(reader, handle, _LOOK)
            except TimeoutError:
                continue


def _outcome(reader: Reader, handle: ThreadHandle, timeout: float | None) -> Outcome:
    """How the run came out. Raises `TimeoutError` where that is not yet known."""
    try:
        return Outcome(status=Status.SUCCEEDED, values=handle.result(timeout))
    except Interrupted as stop:
        what = "for an answer" if stop.interrupts else "at a breakpoint"
        message = f"thread {handle.thread_id!r} waits {what}"
        return Outcome(status=Status.INTERRUPTED, values=stop.state, interrupts=stop.interrupts, message=message)
    except Paused as pause:
        return Outcome(status=Status.PAUSED, message=str(pause))
    except Cancelled as cancelled:
        return Outcome(status=Status.CANCELLED, message=str(cancelled))
    except PerdureError as error:
        run = next((run for run in reader.runs(handle.thread_id) if run.run == handle.run), None)
        if run is None or run.status is not Status.FAILED:
            raise
        return Outcome(status=Status.FAILED, message=str(error), failure=reader.failure(run))


def _answer(call: Call, handle: ThreadHandle, outcome: Outcome, wanted: Status, seconds: float) -> Answer:
    code = Exit.OK if outcome.status is wanted else code_of_status(outcome.status)
    document = {
        "thread_id": handle.thread_id,
        "run": handle.run,
        "status": outcome.status.value,
        "reason": outcome.message,
        "result": plain(outcome.values) if outcome.status is Status.SUCCEEDED else None,
        "interrupts": interrupts_document(outcome.interrupts),
        "error": failure_document(outcome.failure) if outcome.failure is not None else None,
        "exit_code": int(code),
    }
    if outcome.status is Status.SUCCEEDED:
        took = f" in {duration(seconds)}" if seconds >= _LOOK else ""
        note = f"thread {handle.thread_id}, run {handle.run}: succeeded{took}"
        return Answer(document=document, shown=(result_text(outcome.values),), notes=(note,), code=code)
    shown = (interrupts_table(outcome.interrupts),) if outcome.interrupts else ()
    return Answer(document=document, shown=shown, notes=(outcome.message, *_ways_on(call, handle, outcome)), code=code)


def _ways_on(call: Call, handle: ThreadHandle, outcome: Outcome) -> tuple[str, ...]:
    thread_id = handle.thread_id
    if outcome.status is Status.FAILED:
        return (f"its traceback: {call.again('show', thread_id)}", f"to run it again: {call.again('retry', thread_id)}")
    if outcome.status is Status.PAUSED:
        return (f"to go on: {call.again('resume', thread_id)}",)
    if outcome.status is not Status.INTERRUPTED:
        return ()
    if not outcome.interrupts:
        return (f"to go on: {call.again('resume', thread_id)}",)
    several = ["--interrupt", outcome.interrupts[0].id] if len(outcome.interrupts) > 1 else []
    return (f"to answer: {call.again('resume', thread_id, '<JSON>', *several)}",)
