"""What is left of a loop that has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    refused: Mapping[int, Exception] = field(default_factory=dict)
    """Why messages could not be applied, by their numbers."""
