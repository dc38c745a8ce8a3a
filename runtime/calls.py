"""What a node asked of its thread and was given: its recorded calls, and the call at which it stopped.

A node that is started again begins at its first line. Its calls are numbered in the order in which they start, and each
that is recorded gives what it gave before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeAlias

from ..stores.records import signal_wait
from .commands import Interrupt
from .measures import Measured, decode_measured, encode_measured


class CallKind(StrEnum):
    """What a node may ask for. The values are stored: never change one."""

    INTERRUPT = "interrupt"
    TASK = "task"
    SIGNAL = "signal"
    SLEEP = "sleep"


FUNCTIONS = {
    CallKind.INTERRUPT: "interrupt()",
    CallKind.TASK: "@task",
    CallKind.SIGNAL: "receive",
    CallKind.SLEEP: "sleep()",
}
"""What people call them."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that has been answered."""

    kind: CallKind
    name: str
    """Of the task or the signal; empty for the others."""
    value: Any
    """An answer, a task's result, the deadline of a sleep (Unix seconds); of a signal a list of its value, which is
    empty if it did not come in time."""
    measured: tuple[Measured, ...] = ()
    """What a task measured."""

    def __str__(self) -> str:
        return shown(self.kind, self.name)


Calls: TypeAlias = dict[int, Call]
"""The recorded calls of one task, by their number. One may be missing before others that ran side by side with it."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Where a task waits, and for what."""

    index: int
    """Number of the call."""
    kind: CallKind
    name: str = ""
    """Of the signal."""
    interrupt: Interrupt | None = None
    """The question, where it waits for an answer."""
    until: float | None = None
    """When it is over whatever happens (Unix seconds); None for never."""
    seconds: float | None = None
    """The same, counted from when the owner of the thread hears of it."""

    def begun(self, now: float) -> Stop:
        """The stop with a deadline in place of a duration."""
        return self if self.seconds is None else replace(self, until=now + self.seconds, seconds=None)

    @property
    def wait(self) -> str:
        """How the thread's row names what it waits for; empty for a sleep."""
        if self.interrupt is not None:
            return self.interrupt.id
        return signal_wait(self.name) if self.kind is CallKind.SIGNAL else ""


def shown(kind: CallKind, name: str) -> str:
    """A call for people: `@task 'charge'`, `receive('price')`, `sleep()`."""
    if kind is CallKind.SIGNAL:
        return f"receive({name!r})"
    return f"{FUNCTIONS[kind]} {name!r}" if name else FUNCTIONS[kind]


def encode_call(index: int, call: Call) -> list[Any]:
    """A recorded call as plain data."""
    data = [index, call.kind.value, call.name, call.value]
    return [*data, encode_measured(call.measured)] if call.measured else data


def decode_call(data: Any) -> tuple[int, Call]:
    """The number and the call that `encode_call` described."""
    index, kind, name, value, *measured = data
    return index, Call(CallKind(kind), name, value, decode_measured(*measured) if measured else ())


def encode_stop(stop: Stop) -> list[Any]:
    """A stop as plain data, for rows of two kinds: interrupts, and all others."""
    if stop.interrupt is not None:
        return [[stop.interrupt.id, stop.interrupt.value, stop.index]]
    return [stop.index, stop.kind.value, stop.name, stop.until]


def decode_question(data: Any, recorded: int) -> Stop:
    """The stop of an interrupt. In one written before there were other calls, its number is that of the calls
    `recorded` before."""
    id_, value, *index = data[0]
    return Stop(index[0] if index else recorded, CallKind.INTERRUPT, interrupt=Interrupt(value=value, id=id_))


def decode_wait(data: Any) -> Stop:
    """The stop of a sleep or of a wait for a signal."""
    index, kind, name, until = data
    return Stop(index, CallKind(kind), name, until=until)
