"""A process that runs a thread in a SQLite store, to be stopped, killed and taken over by `test_engine_ownership`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from perdure import END, START, CheckpointStore, CompiledGraph, Fenced, PerdureError, StateGraph, open_store
from tests.runtime.engine import State


def note(folder: Path, line: str) -> None:
    """Append a line to the log outside of the store."""
    with (folder / "log").open("a") as log:
        log.write(line + "\n")


def noted(folder: Path) -> list[str]:
    """The lines of the log."""
    return (folder / "log").read_text().splitlines() if (folder / "log").exists() else []


def first(state: State, config: dict[str, Any]) -> dict[str, Any]:
    note(Path(config["configurable"]["folder"]), "first")
    return {"items": ["first"]}


def hold(state: State, config: dict[str, Any]) -> dict[str, Any]:
    """Waits until the file `go` is there; ends the process as the file `die` says."""
    folder = Path(config["configurable"]["folder"])
    note(folder, "hold")
    deadline = time.monotonic() + 60
    while not (folder / "go").exists() and time.monotonic() < deadline:
        if (folder / "die").exists():
            os.kill(os.getpid(), int((folder / "die").read_text()))
        time.sleep(0.01)
    return {"items": [f"hold in {'parent' if (folder / 'parent').exists() else 'child'}"]}


def last(state: State, config: dict[str, Any]) -> dict[str, Any]:
    note(Path(config["configurable"]["folder"]), "last")
    return {"items": ["last"]}


def graph(store: CheckpointStore) -> CompiledGraph:
    builder = StateGraph(State).add_node("first", first).add_node("hold", hold).add_node("last", last)
    builder.add_edge(START, "first").add_edge("first", "hold").add_edge("hold", "last").add_edge("last", END)
    return builder.compile(store, name="owned", version="1")


def config(folder: Path) -> dict[str, Any]:
    return {"configurable": {"thread_id": "t", "folder": str(folder)}}


def main(folder: Path, durability: str, input: Any) -> None:
    """Run it to its end; exits with 3 where the thread was taken away."""
    with open_store(f"sqlite:///{folder}/engine.db") as store:
        try:
            found = graph(store).invoke(input, config(folder), durability=durability)
            note(folder, f"ended with {found['items']}")
        except (Fenced, PerdureError) as error:
            note(folder, type(error).__name__)
            sys.exit(3)
