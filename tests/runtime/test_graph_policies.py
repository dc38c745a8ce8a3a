"""Retries: which errors are worth another attempt, how many, and how long to wait."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from perdure.runtime.errors import GraphValidationError, InvalidUpdateError
from perdure.runtime.policies import RetryPolicy, default_retry_on


class Response:
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


class StatusError(Exception):
    def __init__(self, status_code: int) -> None:
        self.response = Response(status_code)


class RequestsError(OSError):
    """As in requests, whose errors are OSErrors."""

    def __init__(self, status_code: int) -> None:
        self.response = Response(status_code)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConnectionError(), True), (ConnectionResetError(), True), (Exception(), True), (EOFError(), True),
        (StatusError(500), True), (StatusError(503), True), (RequestsError(502), True),
        (StatusError(404), False), (RequestsError(429), False),
        (ValueError(), False), (TypeError(), False), (KeyError(), False), (ZeroDivisionError(), False),
        (ImportError(), False), (NameError(), False), (SyntaxError(), False), (RuntimeError(), False),
        (ReferenceError(), False), (StopIteration(), False), (StopAsyncIteration(), False), (OSError(), False),
        (TimeoutError(), False), (InvalidUpdateError("x"), False),
    ],
)  # fmt: skip
def test_which_errors_are_tried_again_by_default(error: Exception, again: bool) -> None:
    assert default_retry_on(error) is again
    assert RetryPolicy().retries(error) is again


def test_retry_on() -> None:
    assert RetryPolicy(retry_on=KeyError).retries(KeyError())
    assert not RetryPolicy(retry_on=KeyError).retries(ValueError())
    assert RetryPolicy(retry_on=[KeyError, OSError]).retries(FileNotFoundError())
    assert RetryPolicy(retry_on=lambda error: str(error) == "again").retries(ValueError("again"))
    assert not RetryPolicy(retry_on=lambda error: True).retries(KeyboardInterrupt())


def test_errors_never_tried_again() -> None:
    class Refused(ConnectionError): ...

    for kind in ("Refused", Refused, "ConnectionError", f"{Refused.__module__}.{Refused.__qualname__}"):
        assert not RetryPolicy(retry_on=Exception, non_retryable_errors=[kind]).retries(Refused())
    assert not RetryPolicy(non_retryable_errors="Refused").retries(Refused())  # a lone name is one, not its letters
    assert RetryPolicy(non_retryable_errors=["Other"]).retries(Refused())


def test_waits_grow_to_their_limit() -> None:
    policy = RetryPolicy(initial_interval=timedelta(seconds=1), backoff_factor=3, max_interval=10.0, jitter=False)
    assert [policy.wait(attempt) for attempt in (1, 2, 3, 4, 5000)] == [1, 3, 9, 10, 10]
    assert RetryPolicy(initial_interval=0, jitter=False).wait(3) == 0


def test_jitter_adds_a_part_of_a_second_and_replays() -> None:
    policy = RetryPolicy(initial_interval=2.0)
    waits = [policy.wait(1, random.Random(seed)) for seed in range(20)]
    assert waits == [policy.wait(1, random.Random(seed)) for seed in range(20)]
    assert all(2 <= wait < 3 for wait in waits)
    assert len(set(waits)) == 20
    assert 2 <= policy.wait(1) < 3


def test_seconds_and_timedeltas_are_the_same() -> None:
    assert RetryPolicy(initial_interval=1.5) == RetryPolicy(initial_interval=timedelta(seconds=1.5))


@pytest.mark.parametrize(
    "options",
    [
        {"initial_interval": -1}, {"initial_interval": "1s"}, {"max_interval": float("nan")}, {"max_interval": 1e300},
        {"backoff_factor": 0.5}, {"backoff_factor": float("nan")}, {"max_attempts": 0}, {"max_attempts": 1.5},
        {"max_attempts": True}, {"retry_on": "ValueError"}, {"retry_on": [5]}, {"retry_on": 5}, {"retry_on": int},
        {"non_retryable_errors": [5]}, {"backoff_factor": "2"},
    ],
)  # fmt: skip
def test_policies_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(GraphValidationError, match=f"RetryPolicy: {next(iter(options))} "):
        RetryPolicy(**options)
