"""This process as an owner of threads: its name, and whether another such owner is still at work."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto

from ..stores.processes import ProcessId, boot

_AT_WORK: set[str] = set()  # owners of this process: the process lives on when a run of it was broken off


class OwnerState(Enum):
    """What can be told of an in-process owner from here."""

    AT_WORK = auto()
    BROKEN_OFF = auto()
    """Its process lives, but it left the run (an exception, Ctrl-C)."""
    DEAD = auto()
    """Its process is gone; or it is of another host, where only the store's fence can tell."""


@contextmanager
def at_work(unique: str) -> Iterator[str]:
    """Be an owner; yields its name: host, boot, pid, start time, and which run of the process."""
    own = ProcessId.own()
    name = f"{socket.gethostname()}:{boot()}:{own.pid}:{own.started}:{unique}"
    _AT_WORK.add(name)
    try:
        yield name
    finally:
        _AT_WORK.discard(name)


def owner_state(owner: str) -> OwnerState:
    """What became of the owner that `at_work` named."""
    parts = owner.rsplit(":", 4)
    if len(parts) != 5 or parts[:2] != [socket.gethostname(), boot()] or not (parts[2] + parts[3]).isdecimal():
        return OwnerState.DEAD
    process = ProcessId(int(parts[2]), int(parts[3]))
    if process == ProcessId.own():
        return OwnerState.AT_WORK if owner in _AT_WORK else OwnerState.BROKEN_OFF
    return OwnerState.AT_WORK if process.alive else OwnerState.DEAD
