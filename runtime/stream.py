"""Stream modes: what a reader is told of each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import InputError
from .ports import StepEvent
from .topology import Topology

MODES = ("values", "updates")


@dataclass(frozen=True, slots=True)
class Modes:
    """The modes that a reader asked for."""

    names: tuple[str, ...]
    tagged: bool
    """Whether each event is a pair of mode and event."""


def read_modes(given: str | Sequence[str]) -> Modes:
    """The modes in a `stream_mode` argument. Raises `InputError`."""
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if name not in MODES:
            raise InputError(f"stream_mode {name!r} is unknown; choose from {', '.join(MODES)}")
    return Modes(names, not isinstance(given, str))


def events_of(event: StepEvent, modes: Modes, topology: Topology) -> Iterator[Any]:
    """What a step looks like in each mode."""
    for mode in modes.names:
        for item in _updates(event) if mode == "updates" else _values(event, topology):
            yield (mode, item) if modes.tagged else item


def _values(event: StepEvent, topology: Topology) -> Iterator[dict[str, Any]]:
    if event.source == "interrupt":
        if event.interrupts:
            yield {"__interrupt__": event.interrupts}
        return
    yield topology.output.select(event.values)


def _updates(event: StepEvent) -> Iterator[dict[str, Any]]:
    if event.source == "interrupt":
        yield {"__interrupt__": event.interrupts}
        return
    for node, update in event.updates:
        yield {node: update or None}
