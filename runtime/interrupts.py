"""`interrupt()`: stop a node until somebody answers."""

from __future__ import annotations

import hashlib
from typing import Any

from .calls import CallKind, Stop
from .commands import Interrupt
from .scope import Suspended, scope_of


def interrupt(value: Any) -> Any:
    """Stop the node and show `value` to whoever looks at the thread; returns the answer once there is one.

    The node starts again at its first line when it is resumed; the n-th call returns the n-th answer. `value` and the
    answer must be storable. Raises `PerdureError` outside a node, `CallMismatch` where another call is recorded here.
    """
    scope = scope_of("interrupt()")
    index, recorded = scope.begin(CallKind.INTERRUPT)
    if recorded is not None:
        return recorded.value
    question = Interrupt(value=value, id=interrupt_id(scope.task.key, index))
    raise Suspended(Stop(index, CallKind.INTERRUPT, interrupt=question))


def interrupt_id(key: str, index: int) -> str:
    """Id of the interrupt that is a task's `index`-th call: the same in every execution of the task. 32 hex digits."""
    return hashlib.blake2b(f"{key}\n{index}".encode(), digest_size=16).hexdigest()
