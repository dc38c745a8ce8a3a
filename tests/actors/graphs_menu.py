"""One graph whose input says what is to happen: one graph means one warm pool for a whole test module.

Nodes write what they do into the file `log` of the folder that the state names, outside the store.
"""

from __future__ import annotations

import asyncio
import ctypes
import operator
import os
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

from perdure import END, START, Send, StateGraph, interrupt, sleep


class Menu(TypedDict, total=False):
    do: str
    folder: str
    parts: int
    until: int
    """Where the node `count` stops, if the test does not stop it earlier."""
    n: int
    items: Annotated[list[Any], operator.add]


def note(folder: str, text: str) -> None:
    """Append one line to the log; a single write, so that processes do not mix."""
    file = os.open(Path(folder) / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{text} {os.getpid()}\n".encode())
    os.close(file)


def lines(folder: str | Path, prefix: str = "") -> list[str]:
    """What was noted so far: the texts without the pids."""
    log = Path(folder) / "log"
    found = log.read_text().splitlines() if log.exists() else []
    return [line.rpartition(" ")[0] for line in found if line.startswith(prefix)]


def pid_of(folder: str | Path, text: str) -> int:
    """The process that noted `text` last."""
    log = Path(folder) / "log"
    found = [line for line in log.read_text().splitlines() if line.startswith(text)]
    return int(found[-1].rpartition(" ")[2])


def fixed(folder: str) -> bool:
    """Whether the test has taken the cause away."""
    return (Path(folder) / "fixed").exists()


def misbehave(how: str, folder: str) -> None:
    """Raise, exit or crash, as `how` says, as long as nothing was fixed."""
    if fixed(folder):
        return
    if how == "raise":
        raise ValueError("no such luck")
    if how == "exit":
        os._exit(3)
    if how == "segfault":
        ctypes.string_at(0)


def first(state: Menu) -> dict[str, Any]:
    note(state["folder"], "first")
    return {"items": ["first"]}


def choose(state: Menu) -> str | list[Send]:
    do = state["do"]
    if do.startswith("fan-"):
        count = state.get("parts", 3)
        return [Send("part", {"how": do.removeprefix("fan-"), "i": i, "folder": state["folder"]}) for i in range(count)]
    return {"raise": "fault", "exit": "fault", "segfault": "fault"}.get(do, do)


def fault(state: Menu) -> dict[str, Any]:
    note(state["folder"], "fault")
    misbehave(state["do"], state["folder"])
    return {"items": ["fault"]}


def part(arg: dict[str, Any]) -> dict[str, Any]:
    how, i, folder = arg["how"], arg["i"], arg["folder"]
    note(folder, f"part {i} {how}")
    if how == "wait":
        time.sleep(600)
    if how == "ask":
        return {"items": [f"{i}:{interrupt({'part': i})}"]}
    if i == 1:
        time.sleep(0.3)
        misbehave(how, folder)
    return {"items": [i]}


def spin(state: Menu) -> dict[str, Any]:
    note(state["folder"], "spin")
    while not fixed(state["folder"]):
        sum(range(1000))
    return {"items": ["spun"]}


def doze(state: Menu) -> dict[str, Any]:
    note(state["folder"], "doze")
    if not fixed(state["folder"]):
        time.sleep(600)
    return {"items": ["slept"]}


async def await_long(state: Menu) -> dict[str, Any]:
    note(state["folder"], "await")
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        note(state["folder"], "await-cancelled")
        raise
    return {"items": ["awaited"]}


def hold_gil(state: Menu) -> dict[str, Any]:
    note(state["folder"], "hold-gil")
    ctypes.PyDLL(None).usleep(int(state["n"]))
    return {"items": ["held"]}


def count(state: Menu) -> dict[str, Any]:
    n = state.get("n", 0) + 1
    note(state["folder"], f"count {n}")
    time.sleep(0.01)
    return {"n": n}


def counted(state: Menu) -> str:
    return "count" if state["n"] < state["until"] and not fixed(state["folder"]) else "last"


def ask(state: Menu) -> dict[str, Any]:
    note(state["folder"], "ask")
    return {"items": [interrupt("go on?")]}


def nap(state: Menu) -> dict[str, Any]:
    note(state["folder"], "nap")
    sleep(state["n"])
    note(state["folder"], f"woke {time.time()}")
    return {"items": ["slept"]}


def last(state: Menu) -> dict[str, Any]:
    note(state["folder"], "last")
    return {"items": ["last"]}


builder = StateGraph(Menu)
for node in (first, fault, part, spin, doze, await_long, hold_gil, count, ask, nap, last):
    builder.add_node(node.__name__, node)
builder.add_edge(START, "first")
builder.add_conditional_edges(
    "first", choose, ["fault", "part", "spin", "doze", "await_long", "hold_gil", "count", "ask", "nap", "last"]
)
builder.add_conditional_edges("count", counted, ["count", "last"])
for name in ("fault", "part", "spin", "doze", "await_long", "hold_gil", "ask", "nap"):
    builder.add_edge(name, "last")
builder.add_edge("last", END)
graph = builder.compile(name="menu", version="1")


def enter(state: Menu) -> str:
    note(state["folder"], "gate")
    misbehave("exit", state["folder"])
    return "last"


gate_builder = StateGraph(Menu)
gate_builder.add_node("last", last)
gate_builder.add_conditional_edges(START, enter, ["last"])
gate_builder.add_edge("last", END)
gate = gate_builder.compile(name="gate", version="1")
