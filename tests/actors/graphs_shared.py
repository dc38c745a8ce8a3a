"""What threads do that share a process: walk, wait for the test, get stuck, or end the process."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, TypedDict

from perdure import END, START, StateGraph


class Walk(TypedDict, total=False):
    name: str
    folder: str
    """Each line of the file `log` there is a step that began: the thread's name, the step, the process."""
    n: int
    until: int
    seconds: float
    """Of each step."""
    at_end: str
    """What the last step does: "" nothing, "poison" ends the process, "stuck" sleeps in C, "spin" is busy in Python;
    the last three wait until the folder has a file `go`, and "stuck" only the first time that it begins."""


def steps(folder: str | Path, name: str = "") -> list[tuple[str, int, int]]:
    """(thread, step, process) of each step that began, in order; of one thread or all."""
    log = Path(folder) / "log"
    found = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [(who, int(step), int(pid)) for who, step, pid in found if not name or who == name]


def step(state: Walk) -> dict[str, Any]:
    n = state["n"] + 1
    file = os.open(Path(state["folder"]) / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{state['name']} {n} {os.getpid()}\n".encode())
    os.close(file)
    time.sleep(state["seconds"])
    if n == state["until"]:
        again = len([one for one in steps(state["folder"], state["name"]) if one[1] == n]) > 1
        _end(state["at_end"], Path(state["folder"]) / "go", again)
    return {"n": n}


def _end(how: str, go: Path, again: bool) -> None:
    if how == "poison":
        while not go.exists():
            time.sleep(0.01)
        os._exit(3)
    if how == "stuck" and not again and not go.exists():
        time.sleep(600)
    while how == "spin" and not go.exists():
        sum(range(1000))


builder = StateGraph(Walk)
builder.add_node("step", step)
builder.add_edge(START, "step")
builder.add_conditional_edges("step", lambda state: "step" if state["n"] < state["until"] else END, ["step", END])
walk = builder.compile(name="walk", version="1")
