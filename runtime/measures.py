"""Numbers that nodes record beside the state: tokens, costs, scores."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from threading import Lock
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
    step: int
    """Of the checkpoint that changed it last."""


Measures: TypeAlias = dict[str, Measure]

MOST_NAMES = 256
"""That a thread may measure under: each checkpoint has them all."""


def checked(name: Any, number: Any, add: Any) -> Measured:
    """The number, if it is one. Raises `InputError`."""
    if not isinstance(name, str) or not name:
        raise InputError(f"measure({name!r}, ...): the name has to be a text that is not empty")
    plain = str.__str__(name)
    try:
        plain.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"measure({plain!r}, ...): the name has half of a surrogate pair, and cannot be stored"
        ) from None
    if isinstance(number, bool) or not isinstance(number, numbers.Real | Decimal):
        raise InputError(f"measure({plain!r}, {number!r}): that is no number but {type(number).__name__}")
    try:
        found = float(number)
    except (OverflowError, ValueError):
        found = math.inf
    if not math.isfinite(found):
        raise InputError(f"measure({plain!r}, {number!r}): that is no finite number of 64 bits")
    return Measured(plain, found, bool(add))


_Notes: TypeAlias = dict[str, Measured]
"""By name: what several numbers under it come to."""
_noting = Lock()
"""A node may measure from several threads; it takes a moment, so one lock for all of them will do."""


class Measuring:
    """What one execution of a node measures, in an order that does not depend on which of its calls ends first."""

    __slots__ = ("_calls", "_ended", "_own")

    def __init__(self) -> None:
        self._own: dict[int, _Notes] = {}
        """Outside of any `@task`, by how many calls had started before."""
        self._calls: dict[int, _Notes] = {}
        """Inside of `@task` calls that have not ended."""
        self._ended: dict[int, Sequence[Measured]] = {}
        """Inside of those that have."""

    def note(self, measured: Measured, call: int | None, started: int) -> None:
        """Take a number in. `call`: the `@task` call that measures it, if that has not ended; `started`: how many calls
        there were."""
        with _noting:
            if call is None:
                _fold(self._own.setdefault(started, {}), measured)
            elif call not in self._ended:
                _fold(self._calls.setdefault(call, {}), measured)

    def begin(self, call: int) -> None:
        """An attempt of a call begins, or has failed: what was noted of it so far is void."""
        with _noting:
            self._calls.pop(call, None)

    def of(self, call: int) -> tuple[Measured, ...]:
        """What a call that ends now has measured."""
        with _noting:
            return tuple(self._calls.get(call, {}).values())

    def end(self, call: int, measured: Sequence[Measured]) -> None:
        """A call has ended, and this is recorded of it."""
        with _noting:
            self._calls.pop(call, None)
            self._ended[call] = measured

    def all(self) -> tuple[Measured, ...]:
        """What counts when the node has returned, by its calls: nothing of those that failed or have not ended."""
        if not (self._own or self._ended):
            return ()
        with _noting:
            own = (((started, 0), tuple(notes.values())) for started, notes in self._own.items())
            of_calls = (((call, 1), tuple(measured)) for call, measured in self._ended.items())
            ordered = sorted((*own, *of_calls), key=lambda pair: pair[0])
        folded: _Notes = {}
        for _, measured in ordered:
            for one in measured:
                _fold(folded, one)
        return tuple(folded.values())


def _fold(notes: _Notes, one: Measured) -> None:
    before = notes.get(one.name)
    notes[one.name] = one if before is None or not one.add else before._replace(number=before.number + one.number)


def standing(before: Measures, measured: Iterable[Measured], step: int) -> Measures:
    """What stands after the nodes of a step have measured more. Raises `InputError` for more than 256 names, and for a
    sum that is not finite any more."""
    after = before
    for one in measured:
        after = dict(before) if after is before else after
        old = after.get(one.name)
        total = one.add and (old is None or old.total)
        number = one.number + (old.number if one.add and old is not None else 0.0)
        if not math.isfinite(number):
            raise InputError(f"measure({one.name!r}, ..., add=True): the sum is no finite number of 64 bits any more")
        after[one.name] = Measure(number, total, step)
    if len(after) > MOST_NAMES:
        raise InputError(
            f"measure(): the thread's nodes have measured under {len(after)} names, more than the {MOST_NAMES} that a "
            "checkpoint may have; put what differs from thread to thread into the state"
        )
    return after


def since(start: Mapping[str, Measure], end: Mapping[str, Measure], step: int) -> dict[str, float]:
    """What was measured after the checkpoint of `step`, from what stood there and at the end: of sums what was added
    since, of other numbers the newest, and nothing of those that nobody has measured since."""
    found = {}
    for name, measure in end.items():
        if measure.step <= step:
            continue
        before = start.get(name)
        added = measure.total and before is not None and before.total
        found[name] = measure.number - before.number if added and before is not None else measure.number
    return found


def encode_measured(measured: Sequence[Measured]) -> list[list[Any]]:
    """Numbers of a task or a call as plain data."""
    return [list(one) for one in measured]


def decode_measured(data: Iterable[Iterable[Any]]) -> tuple[Measured, ...]:
    """The numbers that `encode_measured` described."""
    return tuple(Measured(*one) for one in data)
