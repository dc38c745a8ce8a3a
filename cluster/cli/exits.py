"""Exit codes, and which error leads to which."""

from __future__ import annotations

from enum import IntEnum

from ray.exceptions import RayError

from ...actors.errors import GraphNotShippable, ServiceError
from ...runtime.errors import CheckpointNotFound, GraphRecursionError, NodeFailed, PerdureError, UnknownInterrupt
from ...stores.errors import (
    Corrupt,
    NewerFormat,
    StoreError,
    StoreMissing,
    StoreUnavailable,
    UnknownCheckpoint,
    UnknownThread,
)
from ...stores.records import Status
from ..endpoint import HeadError
from ..errors import Cancelled, Interrupted, Paused


class Exit(IntEnum):
    """What a script learns from `$?`."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 3
    PAUSED = 4
    CANCELLED = 5
    NOT_FOUND = 6
    UNREACHABLE = 7
    INTERNAL = 70
    LEFT = 130


MEANINGS = {
    Exit.OK: "done; a run that was followed has succeeded",
    Exit.FAILED: "the run failed; of `store` and `many`: something was found damaged, or left undone; "
    "of `replay-check`: a thread diverges, or none was checked",
    Exit.USAGE: "wrong usage or input, or the thread is in no state to take it",
    Exit.INTERRUPTED: "the run waits for an answer: perdure resume",
    Exit.PAUSED: "the run is paused, with a reason: perdure resume, or perdure retry",
    Exit.CANCELLED: "the run was cancelled",
    Exit.NOT_FOUND: "no such thread, checkpoint or open interrupt",
    Exit.UNREACHABLE: "the store or the cluster cannot be reached or read",
    Exit.INTERNAL: "an error of Perdure itself (--debug shows where)",
    Exit.LEFT: "Ctrl-C; what was submitted goes on",
}

_OF_ERRORS: tuple[tuple[tuple[type[BaseException], ...], Exit], ...] = (
    ((KeyboardInterrupt,), Exit.LEFT),
    ((NodeFailed, GraphRecursionError), Exit.FAILED),
    ((Interrupted,), Exit.INTERRUPTED),
    ((Paused,), Exit.PAUSED),
    ((Cancelled,), Exit.CANCELLED),
    ((UnknownThread, UnknownCheckpoint, CheckpointNotFound, UnknownInterrupt), Exit.NOT_FOUND),
    ((StoreUnavailable, StoreMissing, Corrupt, NewerFormat), Exit.UNREACHABLE),
    ((HeadError, ServiceError, RayError, ConnectionError, TimeoutError), Exit.UNREACHABLE),
    ((GraphNotShippable, PerdureError, StoreError), Exit.USAGE),
)
"""The first entry that fits counts."""

_OF_STATUSES = {
    Status.FAILED: Exit.FAILED,
    Status.INTERRUPTED: Exit.INTERRUPTED,
    Status.PAUSED: Exit.PAUSED,
    Status.CANCELLED: Exit.CANCELLED,
}


def code_of(error: BaseException) -> Exit:
    """The exit code of a command that ended by `error`."""
    return next((code for kinds, code in _OF_ERRORS if isinstance(error, kinds)), Exit.INTERNAL)


def code_of_status(status: Status) -> Exit:
    """The exit code of a command that followed a run until it stood so."""
    return _OF_STATUSES.get(status, Exit.OK)
