"""The statuses that a caller names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..runtime.errors import InputError
from ..stores.records import Status


def read_statuses(given: Any) -> frozenset[Status] | None:
    """The statuses of a condition: one, several, or None for all. Raises `InputError`."""
    if given is None:
        return None
    if isinstance(given, str) or not isinstance(given, Iterable):
        given = [given]
    return frozenset(map(_status, given))


def _status(name: Any) -> Status:
    try:
        return Status(name)
    except ValueError:
        raise InputError(f"status is {name!r}, which no thread has; there are {', '.join(Status)}") from None
