"""Graphs whose nodes keep results, sleep and receive, alone (inline in their actor) and side by side (in Ray tasks).

They note what they do in a folder, so that what ran, and where, is seen from outside.
"""

from __future__ import annotations

import operator
import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

from perdure import END, START, StateGraph, get_context, heartbeat, measure, receive, sleep, task

PATIENCE = 60.0


class State(TypedDict, total=False):
    folder: str
    done: Annotated[list[Any], operator.add]


def note(folder: str, line: str) -> None:
    """Append a line to the log outside of the store."""
    with (Path(folder) / "log").open("a") as log:
        log.write(line + "\n")


def noted(folder: str) -> list[str]:
    """The lines of the log."""
    log = Path(folder) / "log"
    return log.read_text().splitlines() if log.exists() else []


@task
def first(folder: str, node: str) -> str:
    note(folder, f"first {node}")
    measure("firsts", 1, add=True)
    return get_context().idempotency_key


@task
def second(folder: str, node: str) -> str:
    """Ends its process the first time that it is called."""
    note(folder, f"second {node} {get_context().idempotency_key}")
    marker = Path(folder) / f"died {node}"
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "second"


def dies(name: str) -> Any:
    """A node whose process is killed between two kept results."""

    def node(state: State) -> State:
        measure("nodes", 1, add=True)
        key = first(state["folder"], name)
        return {"done": [[name, key == first_key(state["folder"], name, key), second(state["folder"], name)]]}

    return node


def first_key(folder: str, name: str, key: str) -> str:
    """The key that the first execution of the node was given."""
    path = Path(folder) / f"key {name}"
    if not path.exists():
        path.write_text(key)
    return path.read_text()


def waits(name: str) -> Any:
    """A node that tells of its progress, sleeps, and receives two signals."""

    def node(state: State) -> State:
        kept = first(state["folder"], name)
        heartbeat(f"{name} at work")
        sleep(0.3)
        found = [receive(f"to {name}") for _ in range(2)]
        return {"done": [[name, *found, bool(kept)]]}

    return node


def holds(state: State) -> None:
    """Runs until somebody lets it go on."""
    heartbeat("holding")
    deadline = time.monotonic() + PATIENCE
    while not (Path(state["folder"]) / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def build(name: str, *nodes: tuple[str, Any]) -> Any:
    builder = StateGraph(State)
    for key, node in nodes:
        builder.add_node(key, node)
        builder.add_edge(START, key).add_edge(key, END)
    return builder.compile(name=name, version="1")


dies_inline = build("dies_inline", ("a", dies("a")))
dies_beside = build("dies_beside", ("a", dies("a")), ("b", dies("b")))
waits_inline = build("waits_inline", ("a", waits("a")))
waits_beside = build("waits_beside", ("a", waits("a")), ("b", waits("b")))
beats = build("beats", ("a", holds), ("b", holds))
