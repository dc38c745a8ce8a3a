"""`receive()`: a node waits for a signal that somebody sends to its thread."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ..stores.codec import Codec
from ..stores.operations import Expect
from ..stores.records import ENDED, SIGNAL, Message, Status
from .calls import Call, CallKind, Stop
from .clock import Clock
from .errors import InputError, ReceiveTimeout
from .payloads import pack
from .scope import Scope, Suspended, scope_of
from .sleeping import duration_of

ACCEPTS_SIGNALS = Expect(statuses=frozenset(Status) - ENDED)
"""What must hold of a thread that a signal is sent to."""


def receive(name: str, *, timeout: timedelta | float | None = None) -> Any:
    """The value of the oldest signal of this name that nobody has received yet; waits for one, at most `timeout` (a
    `timedelta`, or seconds). Signals of one name come in the order in which they were sent, each once.

    The thread leaves its process while it waits, unless other nodes of the step run on. The node starts again at its
    first line then; so does an async one, in which this is a plain call too.
    Raises `ReceiveTimeout`, which is recorded as a value would be: no signal that comes later takes its place.
    `InputError` for what is no name or no duration, `PerdureError` outside a node, `CallMismatch`.
    """
    check_name(name)
    seconds = None if timeout is None else duration_of("receive(timeout=...)", timeout)
    scope = scope_of("receive()")
    index, recorded = scope.begin(CallKind.SIGNAL, name)
    if recorded is None:
        recorded = scope.take(index, name)
        if recorded is None:
            raise Suspended(Stop(index, CallKind.SIGNAL, name, seconds=seconds))
        scope.keep(index, recorded)
    return _value(scope, recorded)


def signal_message(codec: Codec, clock: Clock, name: str, value: Any) -> Message:
    """The message that sends a signal. Raises `InputError`, `Unencodable`."""
    check_name(name)
    return Message(
        message_id=clock.unique(), kind=SIGNAL, name=name, payload=pack(codec, value), created_at=clock.time()
    )


def check_name(name: object) -> None:
    """Raise `InputError` for what is no name of a signal."""
    if not isinstance(name, str) or not 0 < len(name.encode()) <= 256 or "\0" in name:
        raise InputError(f"a signal was named {name!r}; give a text of 1 to 256 bytes without NUL")


def _value(scope: Scope, call: Call) -> Any:
    if not call.value:
        origin = scope.desk.origin
        raise ReceiveTimeout(call.name, graph=origin.graph, node=scope.task.node, thread_id=origin.thread_id)
    return call.value[0]
