"""Errors hold their ids as attributes, say what to do, and survive the way between processes."""

from __future__ import annotations

import pickle

import pytest

from perdure.runtime import errors
from perdure.runtime.errors import PerdureError

EXAMPLES: list[PerdureError] = [
    errors.GraphValidationError("text", node="a"),
    errors.StateValidationError("State", ["n", "n"], "too small", writer="a#1"),
    errors.InputError("text", channel="n"),
    errors.InvalidUpdateError("text", channel="n", nodes=("a", "b")),
    errors.RoutingError("text", source="a", target=object),
    errors.GraphRecursionError(25, thread_id="t-1"),
    errors.NodeFailed("audit", "a", "t-1", 3, "ValueError: no", trace="Traceback"),
    errors.UnencodableState("n", "a#2", "socket.socket"),
    errors.ThreadBusy("t-1"),
    errors.NotInterrupted("t-1", "running"),
    errors.UnknownInterrupt("t-1", "i-1", ["i-2"]),
    errors.VersionMismatch("t-1", "audit", "1", "2", "node 'a' is gone"),
    errors.CheckpointNotFound("t-1", "9"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_travel(error: PerdureError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.__dict__ == error.__dict__


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.GraphRecursionError(25, thread_id="t-1"), ["'t-1'", "25", "recursion_limit"]),
        (
            errors.NodeFailed("audit", "a", "t-1", 3, "ValueError: no"),
            ["'t-1'", "'a'", "'audit'", "step 3", "ValueError: no"],
        ),
        (errors.UnencodableState("n", "a#2", "socket.socket"), ["'n'", "node 'a'", "socket.socket", "allow=["]),
        (errors.UnencodableState("n", "", "x"), ["by the input"]),
        (errors.NotInterrupted("t-1", "running"), ["'t-1'", "running", "waits for no answer"]),
        (errors.UnknownInterrupt("t-1", "i-1", ["i-2", "i-3"]), ["'t-1'", "'i-1'", "'i-2', 'i-3'"]),
        (errors.UnknownInterrupt("t-1", "i-1", []), ["it waits at none"]),
        (
            errors.VersionMismatch("t-1", "audit", "1", "2", "node 'a' is gone"),
            ["'audit'", "version 1", "version 2", "gone"],
        ),
        (errors.CheckpointNotFound("t-1", "9"), ["'t-1'", "'9'", "get_state_history"]),
        (errors.ThreadBusy("t-1", "pid 7"), ["'t-1'", "pid 7"]),
    ],
)
def test_errors_say_what_and_where(error: PerdureError, words: list[str]) -> None:
    for word in words:
        assert word in str(error)


def test_the_base_classes_that_callers_know() -> None:
    assert isinstance(EXAMPLES[0], ValueError)
    assert isinstance(errors.GraphRecursionError(1), RecursionError)
    assert isinstance(errors.CheckpointNotFound("t", "1"), LookupError)
    assert not isinstance(errors.NodeFailed("g", "n", "t", 1, "x"), ValueError)
