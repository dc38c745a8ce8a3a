"""Numbers that nodes record beside the state: tokens, costs, scores."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias

import msgspec

from .errors import InputError


class Measured(NamedTuple):
    """A number as a node gave it."""

    name: str
    number: float
    add: bool
    """To what stands under the name, instead of taking its place."""


class Measure(msgspec.Struct, frozen=True, array_like=True):
    """What a thread's nodes have measured under one name, as of a checkpoint."""

    number: float
    total: bool
    """A sum of what was added; False once it was set."""


Measures: TypeAlias = dict[str, Measure]


def checked(name: Any, number: Any, add: Any) -> Measured:
    """The number, if it is one. Raises `InputError`."""
    if not isinstance(name, str) or not name:
        raise InputError(f"measure({name!r}, ...): the name has to be a text that is not empty")
    if isinstance(number, bool) or not isinstance(number, numbers.Real | Decimal):
        raise InputError(f"measure({name!r}, {number!r}): that is no number but {type(number).__name__}")
    try:
        found = float(number)
    except (OverflowError, ValueError):
        found = math.inf
    if not math.isfinite(found):
        raise InputError(f"measure({name!r}, {number!r}): that is no finite number of 64 bits")
    return Measured(name, found, bool(add))


class Measuring:
    """What one execution of a node measures, in an order that does not depend on which of its calls ends first."""

    __slots__ = ("_calls", "_own")

    def __init__(self) -> None:
        self._own: list[tuple[int, Measured]] = []
        """Outside of any `@task`, and how many calls had started before."""
        self._calls: dict[int, Sequence[Measured]] = {}
        """Inside of each `@task` call."""

    def note(self, measured: Measured, call: int | None, started: int) -> None:
        """Take a number in. `call`: the `@task` call that measures it; `started`: how many calls there were."""
        if call is None:
            self._own.append((started, measured))
        else:
            self._calls[call] = (*self._calls.get(call, ()), measured)

    def of(self, call: int) -> tuple[Measured, ...]:
        """What a call has measured."""
        return tuple(self._calls.get(call, ()))

    def keep(self, call: int, measured: Sequence[Measured]) -> None:
        """What a call measured, whatever was noted of it so far."""
        self._calls[call] = measured

    def all(self) -> tuple[Measured, ...]:
        """Everything, by its calls."""
        own = (((started, 0), one) for started, one in self._own)
        of_calls = (((call, 1), one) for call, measured in self._calls.items() for one in measured)
        return tuple(one for _, one in sorted((*own, *of_calls), key=lambda pair: pair[0]))


def standing(before: Measures, measured: Iterable[Measured]) -> Measures:
    """What stands after nodes have measured more."""
    after = before
    for one in measured:
        after = dict(before) if after is before else after
        old = after.get(one.name)
        if not one.add:
            after[one.name] = Measure(one.number, total=False)
        elif old is None:
            after[one.name] = Measure(one.number, total=True)
        else:
            after[one.name] = Measure(old.number + one.number, old.total)
    return after


def since(start: Mapping[str, Measure], end: Mapping[str, Measure]) -> dict[str, float]:
    """What a stretch of a thread has measured, from what stood at its start and at its end: of sums what was added on
    the way, of other numbers the newest."""
    found = {}
    for name, measure in end.items():
        before = start.get(name)
        both = before is not None and before.total and measure.total
        found[name] = measure.number - before.number if both and before is not None else measure.number
    return found


def encode_measured(measured: Sequence[Measured]) -> list[list[Any]]:
    """Numbers of a task or a call as plain data."""
    return [list(one) for one in measured]


def decode_measured(data: Iterable[Iterable[Any]]) -> tuple[Measured, ...]:
    """The numbers that `encode_measured` described."""
    return tuple(Measured(*one) for one in data)
