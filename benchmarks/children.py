"""Measured processes: each order is carried out by a new one, so that no side finds another's traces in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from .orders import Answer, Order

TIMEOUT = 1800.0

A = TypeVar("A", bound=Answer)


class ChildFailed(RuntimeError):
    """A measured process failed; the message has the end of what it said."""


def run(side: str, order: Order, answer: type[A]) -> A:
    """Have `perdure_side`, `langgraph_side` or `dbos_side` carry out one order. Raises `ChildFailed`."""
    (found,) = run_all(side, [order])
    if not isinstance(found, answer):
        raise ChildFailed(f"{side}: {type(order).__name__} was answered by {found}")
    return found


def run_all(side: str, orders: Sequence[Order]) -> list[Answer]:
    """Have one process carry out several. Raises `ChildFailed`."""
    environment = {**os.environ, "LANGSMITH_TRACING": "false"}
    command = [sys.executable, "-m", f"{__package__}.{side}_side", msgspec.json.encode(orders).decode()]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[1],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise ChildFailed(f"{side}: {[type(order).__name__ for order in orders]} failed:\n{done.stderr[-3000:]}")
    answers: list[Answer] = msgspec.json.decode(done.stdout.splitlines()[-1], type=list[Answer])
    return answers
