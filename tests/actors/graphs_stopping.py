"""A graph whose node freezes its own process in the middle of the next write to the store, before it is committed."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

from perdure import END, START, StateGraph
from perdure.stores.sqlite_connections import Connections
from tests.actors.graphs_menu import note

_WRITING = Connections.writing


class State(TypedDict, total=False):
    folder: str
    n: int


@contextmanager
def _stopping(self: Connections, *args: Any) -> Iterator[sqlite3.Connection]:
    with _WRITING(self, *args) as connection:
        yield connection
        os.kill(os.getpid(), signal.SIGSTOP)


def freeze(state: State) -> dict[str, Any]:
    folder = state["folder"]
    note(folder, "freeze")
    try:
        (Path(folder) / "frozen").touch(exist_ok=False)
    except FileExistsError:
        return {"n": 1}
    Connections.writing = _stopping  # type: ignore[method-assign]  # as only this process, which is about to die, sees it
    return {"n": 1}


def after(state: State) -> dict[str, Any]:
    note(state["folder"], "after")
    return {"n": state["n"] + 1}


builder = StateGraph(State)
builder.add_node("freeze", freeze)
builder.add_node("after", after)
builder.add_edge(START, "freeze")
builder.add_edge("freeze", "after")
builder.add_edge("after", END)
graph = builder.compile(name="stopping", version="1")
