"""What the benchmarks' nodes do: the same functions for perdure and for LangGraph. Imports neither."""

from __future__ import annotations

import operator
import os
import random
import string
import time
from typing import Annotated, Any, TypedDict

LETTERS = (string.ascii_letters + string.digits + "-_").encode()
"""64 letters, so that a random byte picks each with the same chance."""
_LETTER_OF = bytes(LETTERS[byte % 64] for byte in range(256))


class Steps(TypedDict, total=False):
    """A counter that goes to `steps`."""

    n: int
    steps: int
    report: str
    """Pipe that marks are written to; empty for none."""


class Appends(TypedDict, total=False):
    """A list that grows by one text a step."""

    n: int
    steps: int
    report: str
    texts: Annotated[list[str], operator.add]


class Fan(TypedDict, total=False):
    """Tasks side by side."""

    width: int
    cpu_seconds: float
    """CPU time that each task burns."""
    report: str
    results: Annotated[list[int], operator.add]


def mark(report: str, what: str, number: int = 0) -> None:
    """Write a line about this moment, which `marks.Mark` reads; nothing without a pipe. The clock is the machine's
    monotonic one."""
    if not report:
        return
    line = f"{what} {number} {time.monotonic_ns()} {os.getpid()} {bytes_written()} {time.process_time_ns()}\n"
    pipe = os.open(report, os.O_WRONLY)
    try:
        os.write(pipe, line.encode())
    finally:
        os.close(pipe)


def bytes_written() -> int:
    """Bytes that this process has had written to disk."""
    with open("/proc/self/io") as facts:
        return next(int(line.split()[1]) for line in facts if line.startswith("write_bytes"))


def tick(state: Steps) -> dict[str, Any]:
    """One tiny step."""
    if not state["n"]:
        mark(state["report"], "first")
    return {"n": state["n"] + 1}


def append(state: Appends) -> dict[str, Any]:
    """Append a kilobyte that does not compress below 6 bits a letter."""
    done = state["n"]
    if done % (state["steps"] // 4) == 0:
        mark(state["report"], "first" if not done else "step", done)
    return {"n": done + 1, "texts": [random_text(1024)]}


def more(state: Steps | Appends) -> bool:
    """Whether there are steps left."""
    return state["n"] < state["steps"]


def spread(state: Fan) -> dict[str, Any]:
    """The node before the parallel ones."""
    mark(state["report"], "first")
    return {}


def work(task: dict[str, Any]) -> dict[str, Any]:
    """One of the parallel tasks."""
    burn(task["cpu_seconds"])
    return {"results": [task["index"]]}


def tasks_of(state: Fan) -> list[dict[str, Any]]:
    """The arguments of the parallel tasks."""
    return [{"index": index, "cpu_seconds": state["cpu_seconds"]} for index in range(state["width"])]


def finish(state: Any) -> dict[str, Any]:
    """Held back until everything before it is durable."""
    mark(state["report"], "last")
    return {}


def burn(seconds: float) -> None:
    """Use the CPU for so long; time in which the thread does not run does not count."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        random.random()


def random_text(size: int) -> str:
    """Random letters."""
    return os.urandom(size).translate(_LETTER_OF).decode("ascii")
