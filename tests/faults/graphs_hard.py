"""Nodes that are hard on their process: they take all memory, return what cannot be stored, or never give the GIL back.

The state's `folder` is where they note what they do; with the file `fixed` in it they behave.
"""

from __future__ import annotations

import ctypes
import operator
import os
import resource
import threading
from pathlib import Path
from typing import Annotated, Any, TypedDict

from perdure import END, START, Send, StateGraph
from tests.actors.graphs_menu import fixed, note

ROOM = 64 << 20
"""Bytes that a node which takes all memory is left."""


class Hard(TypedDict, total=False):
    do: str
    folder: str
    microseconds: int
    items: Annotated[list[Any], operator.add]


def hoard(folder: str) -> list[bytes]:
    """Take memory until there is none: the process may grow by `ROOM`, as long as this runs."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, before[1]))
    taken = []
    try:
        while not fixed(folder):
            taken.append(bytes(1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    return taken


def misbehave(do: str, folder: str) -> Any:
    note(folder, do)
    if fixed(folder):
        return f"no {do}"
    return len(hoard(folder)) if do == "hoard" else threading.Lock()


def wedge(state: Hard) -> dict[str, Any]:
    """Leave a process that can start no OS thread for whoever comes next."""
    threading.stack_size(1 << 48)
    return {"items": [os.getpid()]}


def choose(state: Hard) -> str | list[Send]:
    do = state["do"]
    if do.startswith("fan-"):
        return [Send("part", {"do": do.removeprefix("fan-"), "i": i, "folder": state["folder"]}) for i in range(2)]
    return do if do in ("hold", "wedge") else "single"


def single(state: Hard) -> dict[str, Any]:
    return {"items": [misbehave(state["do"], state["folder"])]}


def part(arg: dict[str, Any]) -> dict[str, Any]:
    return {"items": [misbehave(arg["do"], arg["folder"]) if arg["i"] else "well"]}


def hold(state: Hard) -> dict[str, Any]:
    """Keep the GIL, the first time."""
    path = Path(state["folder"]) / "held"
    first = not path.exists()
    path.touch()
    note(state["folder"], "hold")
    if first:
        ctypes.PyDLL(None).usleep(state["microseconds"])
    return {"items": ["held"]}


builder = StateGraph(Hard)
for node in (single, part, hold, wedge):
    builder.add_node(node.__name__, node)
    builder.add_edge(node.__name__, END)
builder.add_conditional_edges(START, choose, ["single", "part", "hold", "wedge"])
graph = builder.compile(name="hard", version="1")
