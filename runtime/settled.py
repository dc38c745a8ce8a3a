"""What is left of a loop that has ended."""

from __future__ import annotations

from dataclasses import dataclass

from ..stores.records import Status
from .failures import Failure
from .position import Position


@dataclass(frozen=True, slots=True)
class Settled:
    """How an owner gave its thread up."""

    status: Status
    position: Position
    failure: Failure | None
    exception: BaseException | None
    """The exception itself, where the run failed in this process."""
    refused: Exception | None = None
    """Why the last message could not be applied."""
