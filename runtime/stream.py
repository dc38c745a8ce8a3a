"""Stream modes: what a reader is told of each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import InputError
from .ports import StepEvent

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


def events_of(event: StepEvent, modes: Modes, output: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Iterator[Any]:
    """What a step looks like in each mode: first what changed, then the values. `output` picks the output values."""
    for mode in sorted(modes.names):
        for item in _updates(event) if mode == "updates" else _values(event, output):
            yield (mode, item) if modes.tagged else item


def _values(event: StepEvent, output: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    if event.source == "interrupt":
        if event.interrupts:
            yield {**output(event.values), "__interrupt__": event.interrupts}
        return
    yield output(event.values)


def _updates(event: StepEvent) -> Iterator[dict[str, Any]]:
    if event.source == "interrupt":
        yield {"__interrupt__": event.interrupts}
        return
    for node, update in event.updates:
        yield {node: update or None}
