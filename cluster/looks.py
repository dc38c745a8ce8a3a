"""Looking at a store again and again until something has happened there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

_FIRST_LOOK, _LONGEST_LOOK = 0.005, 0.1
"""Seconds between two looks at the store while waiting: short at first, then longer."""


def deadline_of(timeout: float | timedelta | None) -> float | None:
    """When a wait is over, on the monotonic clock; None for never."""
    if timeout is None:
        return None
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)
    return time.monotonic() + seconds


def looks(deadline: float | None, what: str) -> Iterator[None]:
    """One turn per look at the store, until the deadline. Raises `TimeoutError`."""
    pause = _FIRST_LOOK
    while True:
        yield
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError(f"{what} in the time that was given; it goes on, ask again later")
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_LOOK)
