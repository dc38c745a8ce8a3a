"""Small graphs for races and kills."""

from __future__ import annotations

import operator
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

from perdure import END, START, StateGraph, interrupt
from tests.recovery.faults import install, note_attempt


class Rounds(TypedDict, total=False):
    round: int
    answers: Annotated[list[str], operator.add]


def ask_a(state: Rounds) -> Rounds:
    return {"answers": [interrupt(f"a {state['round']}")]}


def ask_b(state: Rounds) -> Rounds:
    return {"answers": [interrupt(f"b {state['round']}")]}


def turn(state: Rounds) -> Rounds:
    return {"round": state["round"] - 1}


def build_rounds() -> StateGraph:
    """Two questions side by side, `round` times."""
    builder = StateGraph(Rounds)
    builder.add_node("ask_a", ask_a, run="inline")
    builder.add_node("ask_b", ask_b, run="inline")
    builder.add_node("turn", turn)
    for node in ("ask_a", "ask_b"):
        builder.add_edge(START, node)
        builder.add_edge(node, "turn")
    builder.add_conditional_edges("turn", lambda state: ["ask_a", "ask_b"] if state["round"] else END)
    return builder


class Short(TypedDict, total=False):
    steps: int
    seconds: float
    n: int
    added: Annotated[int, operator.add]


def tick(state: Short, config: dict[str, Any]) -> Short:
    if "log" in config["configurable"]:
        note_attempt(config)
    time.sleep(state.get("seconds", 0.0))
    return {"n": state.get("n", 0) + 1}


def build_ticks() -> StateGraph:
    """`steps` steps of `seconds` each."""
    builder = StateGraph(Short)
    builder.add_node("tick", tick)
    builder.add_edge(START, "tick")
    builder.add_conditional_edges("tick", lambda state: "tick" if state["n"] < state["steps"] else END)
    return builder


class Pair(TypedDict, total=False):
    go: str
    done: Annotated[list[str], operator.add]


def quick(state: Pair, config: dict[str, Any]) -> Pair:
    note_attempt(config)
    return {"done": ["quick"]}


def slow(state: Pair, config: dict[str, Any]) -> Pair:
    note_attempt(config)
    while not Path(state["go"]).exists():
        time.sleep(0.01)
    return {"done": ["slow"]}


def build_pair() -> StateGraph:
    """A node that ends at once beside one that waits for the file `go`."""
    builder = StateGraph(Pair)
    builder.add_node("quick", quick)
    builder.add_node("slow", slow)
    for node in ("quick", "slow"):
        builder.add_edge(START, node)
        builder.add_edge(node, END)
    return builder


install()
rounds = build_rounds().compile(name="rounds")
ticks = build_ticks().compile(name="ticks")
pair = build_pair().compile(name="pair")
