"""File locks between the processes of one user: the kernel frees them when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLL = 0.02
"""Seconds between two attempts."""


def try_lock(path: Path) -> int | None:
    """Lock a file exclusively, at once or not at all. Returns the descriptor that holds the lock; close it to unlock.

    Child processes do not inherit it. Raises `OSError` where the file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock."""
    descriptor = try_lock(path)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None


@contextmanager
def locked(path: Path, timeout: float) -> Iterator[None]:
    """Hold the lock. Raises `TimeoutError` when it is not free within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while (descriptor := try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} was held by another process for {timeout:.0f} s")
        time.sleep(POLL)
    try:
        yield
    finally:
        os.close(descriptor)
