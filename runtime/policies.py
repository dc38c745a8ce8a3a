"""How often, and after how long, a node that failed is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_base, wait_exponential

from .errors import GraphValidationError, PerdureError

RetryOn: TypeAlias = type[Exception] | Sequence[type[Exception]] | Callable[[Exception], bool]

_PROGRAMMING_ERRORS = (
    ValueError,
    TypeError,
    ArithmeticError,
    ImportError,
    LookupError,
    NameError,
    SyntaxError,
    RuntimeError,
    ReferenceError,
    StopIteration,
    StopAsyncIteration,
    OSError,
    PerdureError,
)


def default_retry_on(error: Exception) -> bool:
    """Whether a second attempt may help: lost connections and answers of 500 to 599 yes, errors of the program no."""
    if isinstance(error, ConnectionError):
        return True
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        return 500 <= status < 600
    return not isinstance(error, _PROGRAMMING_ERRORS)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """When to run a failed node again. Durations are `timedelta`, or seconds as a number."""

    initial_interval: timedelta | float = timedelta(seconds=0.5)
    """Wait before the second attempt."""
    backoff_factor: float = 2.0
    """By what each further wait grows; at least 1."""
    max_interval: timedelta | float = timedelta(seconds=128)
    """No wait grows beyond this (jitter comes on top)."""
    max_attempts: int = 3
    """Attempts in all, the first included; at least 1."""
    jitter: bool = True
    """Add a random part of a second to every wait, so that tasks which failed together do not come back together."""
    retry_on: RetryOn = default_retry_on
    """Exception classes, or a function of the exception, that say which errors are tried again."""
    non_retryable_errors: Sequence[str | type[Exception]] = ()
    """Classes, or their names (`PaymentRefused` or `shop.errors.PaymentRefused`), never tried again, whatever
    `retry_on` says. A name also covers the subclasses."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "initial_interval", _duration("initial_interval", self.initial_interval))
        object.__setattr__(self, "max_interval", _duration("max_interval", self.max_interval))
        if isinstance(self.non_retryable_errors, str | type):
            object.__setattr__(self, "non_retryable_errors", (self.non_retryable_errors,))
        if not isinstance(self.backoff_factor, int | float) or not self.backoff_factor >= 1:
            raise _wrong("backoff_factor", self.backoff_factor, "give a number of at least 1")
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int) or self.max_attempts < 1:
            raise _wrong("max_attempts", self.max_attempts, "give a whole number of at least 1")
        kinds = self.retry_on if isinstance(self.retry_on, Sequence) else (self.retry_on,)
        function = callable(self.retry_on) and not isinstance(self.retry_on, type)
        if not function and not all(map(_is_error, kinds)):
            raise _wrong("retry_on", self.retry_on, "give exception classes or a function of the exception")
        if not all(isinstance(kind, str) or _is_error(kind) for kind in self.non_retryable_errors):
            raise _wrong("non_retryable_errors", self.non_retryable_errors, "give exception classes or their names")

    def retries(self, error: BaseException) -> bool:
        """Whether this policy tries `error` again, attempts aside. Only `Exception`s are ever tried again."""
        if not isinstance(error, Exception) or self._refuses(error):
            return False
        if isinstance(self.retry_on, type):
            return isinstance(error, self.retry_on)
        if isinstance(self.retry_on, Sequence):
            return isinstance(error, tuple(self.retry_on))
        return bool(self.retry_on(error))

    def wait(self, attempt: int, rng: random.Random | None = None) -> float:
        """Seconds to wait after attempt number `attempt` (from 1) failed. `rng` draws the jitter."""
        assert isinstance(self.initial_interval, timedelta)
        strategy: wait_base = wait_exponential(
            multiplier=self.initial_interval.total_seconds(), max=self.max_interval, exp_base=self.backoff_factor
        )
        if self.jitter:
            strategy = strategy + _Jitter(rng or random.Random())
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = max(1, attempt)
        return strategy(state)

    def _refuses(self, error: Exception) -> bool:
        kinds = type(error).__mro__
        names = {kind.__name__ for kind in kinds} | {f"{kind.__module__}.{kind.__qualname__}" for kind in kinds}
        return any(
            one in names if isinstance(one, str) else isinstance(error, one) for one in self.non_retryable_errors
        )


class _Jitter(wait_base):
    """Up to a second, drawn from a given source: the simulator replays its seeds."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def __call__(self, retry_state: RetryCallState) -> float:
        return self.rng.random()


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _duration(field: str, value: timedelta | float) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, timedelta | int | float):
        raise _wrong(field, value, "give a timedelta, or seconds as a number")
    try:
        found = value if isinstance(value, timedelta) else timedelta(seconds=value)
    except (OverflowError, ValueError):
        raise _wrong(field, value, "that is no duration") from None
    if found < timedelta(0):
        raise _wrong(field, value, "a duration cannot be negative")
    return found


def _wrong(field: str, value: object, fix: str) -> GraphValidationError:
    return GraphValidationError(f"RetryPolicy: {field} is {value!r}; {fix}")
