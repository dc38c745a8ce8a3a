"""`sleep()` and `sleep_until()`: a node waits without holding a process."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from .calls import CallKind, Stop
from .errors import InputError
from .scope import Suspended, scope_of


def sleep(duration: timedelta | float) -> None:
    """Wait for a `timedelta`, or for so many seconds. The thread leaves its process meanwhile, unless other nodes of
    the step run on; the deadline is kept, so that no crash or restart prolongs it.

    The node starts again at its first line when the time has come; so does an async one, in which this is a plain call
    too. Raises `InputError` for what is no duration, `PerdureError` outside a node, `CallMismatch`.
    """
    seconds = duration_of("sleep()", duration)
    scope = scope_of("sleep()")
    index, recorded = scope.begin(CallKind.SLEEP)
    if recorded is None:
        raise Suspended(Stop(index, CallKind.SLEEP, seconds=seconds))


def sleep_until(moment: datetime) -> None:
    """Wait until a moment, as `sleep`. One without a time zone is local time where the node runs; one in the past is
    over at once. Raises `InputError`, `PerdureError` outside a node, `CallMismatch`."""
    if not isinstance(moment, datetime):
        raise InputError(f"sleep_until() was given {moment!r}; give it a datetime, or sleep() a timedelta")
    scope = scope_of("sleep_until()")
    index, recorded = scope.begin(CallKind.SLEEP)
    if recorded is None:
        raise Suspended(Stop(index, CallKind.SLEEP, until=moment.timestamp()))


def duration_of(function: str, duration: timedelta | float) -> float:
    """Seconds; at least 0. Raises `InputError`."""
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise InputError(f"{function} was given {duration!r}; give a timedelta, or seconds, of at least 0")
    return float(seconds)
