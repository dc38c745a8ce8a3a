"""What a measured process is told to do, and what it answers: JSON on its command line, JSON on its last line.

It gets a list of orders, and carries them out one after the other.
"""

from __future__ import annotations

from typing import Any

import msgspec

WARM_UP, MEASURED = "warm-up", "measured"
"""Thread ids."""


class Run(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Run one thread to its end, after another one that only warms the process up."""

    url: str
    """Of the store."""
    saver: str = ""
    """Which of LangGraph's savers (`savers.SAVERS`); empty on perdure's side."""
    graph: str
    given: dict[str, Any]
    warm_up: dict[str, Any]
    durability: str = "async"


class Ran(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Taken when the call that ran it returned, everything being durable by then."""

    ended: int
    """Monotonic nanoseconds."""
    cpu: int
    """Nanoseconds of CPU that the process has used."""
    written: int
    """Bytes that the process has had written to disk."""


class Load(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Read two states of the measured thread, the newest and one in the middle of its history, each time by a store
    that was just opened."""

    url: str
    saver: str = ""
    graph: str
    texts: int
    """How many it has."""
    times: int = 5


class Loaded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What reading took each time, and how many texts the states had."""

    newest: list[float]
    middle: list[float]
    texts: int
    middle_texts: int


class Crowd(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Run many threads side by side, each with `invoke` on an OS thread."""

    url: str
    saver: str = ""
    threads: int
    workers: int
    """OS threads that run them."""
    given: dict[str, Any]


class Crowded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """From the first one's start to the last one's end."""

    seconds: float


class Batch(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Run many threads side by side, as the other side does it best: coroutines of LangGraph, workflows of DBOS."""

    url: str
    way: str
    """One of the side's own ways to do it (`langgraph_batch.WAYS`, `dbos_side.WAYS`)."""
    threads: int
    given: dict[str, Any]


class Compact(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Have the measured thread's small segments put together. Perdure's side only."""

    url: str


class Compacted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How it went."""

    seconds: float
    before: int
    """Segments that were replaced..."""
    after: int
    """...by so many."""


Order = Run | Load | Crowd | Batch | Compact
Answer = Ran | Loaded | Crowded | Compacted


def decoded(text: str) -> list[Order]:
    """Orders from the command line."""
    return msgspec.json.decode(text, type=list[Order])


def encoded(answers: list[Answer]) -> str:
    """Answers, as one line."""
    return msgspec.json.encode(answers).decode()
