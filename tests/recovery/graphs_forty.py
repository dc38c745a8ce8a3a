"""A graph of 40 supersteps: nodes alone, fan-outs of sends, nodes side by side, and two questions."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from perdure import END, START, Send, StateGraph, interrupt
from tests.recovery.faults import install, note_attempt

STEPS = 28
FANS = frozenset({3, 8, 13, 18, 23})
PAIRS = frozenset({5, 10, 15, 20, 25})
ASK, PAIR_ASK = 12, 22
SUPERSTEPS = STEPS + len(FANS) + len(PAIRS) + 2


class State(TypedDict, total=False):
    n: int
    trail: Annotated[list[str], operator.add]
    total: Annotated[int, operator.add]
    last: str


def step(state: State, config: dict[str, Any]) -> State:
    note_attempt(config)
    n = state.get("n", 0) + 1
    return {"n": n, "trail": [f"step {n}"], "total": n, "last": f"after {len(state.get('trail', []))}"}


def part(arg: tuple[int, int], config: dict[str, Any]) -> State:
    note_attempt(config)
    return {"trail": [f"part {arg[0]}.{arg[1]}"], "total": arg[1]}


def left(state: State, config: dict[str, Any]) -> State:
    note_attempt(config)
    return {"trail": [f"left {state['n']}"], "total": 100}


def right(state: State, config: dict[str, Any]) -> State:
    note_attempt(config)
    return {"trail": [f"right {state['n']}"], "total": 1000}


def ask(state: State, config: dict[str, Any]) -> State:
    note_attempt(config)
    return {"trail": [f"told {interrupt(state['n'])}"]}


def after_step(state: State) -> Any:
    n = state["n"]
    if n in FANS:
        return [Send("part", (n, i)) for i in range(3)]
    if n in PAIRS:
        return ["left", "right"]
    if n == PAIR_ASK:
        return ["ask", "right"]
    if n == ASK:
        return "ask"
    return END if n >= STEPS else "step"


def answer_to(question: int) -> str:
    return f"yes to {question}"


def expected() -> State:
    """The final state, worked out without the engine."""
    trail: list[str] = []
    total = 0
    last = ""
    for n in range(1, STEPS + 1):
        last = f"after {len(trail)}"
        trail.append(f"step {n}")
        total += n
        if n in FANS:
            trail += [f"part {n}.{i}" for i in range(3)]
            total += 3
        elif n in PAIRS:
            trail += [f"left {n}", f"right {n}"]
            total += 1100
        elif n in (ASK, PAIR_ASK):
            trail.append(f"told {answer_to(n)}")
            if n == PAIR_ASK:
                trail.append(f"right {n}")
                total += 1000
    return {"n": STEPS, "trail": trail, "total": total, "last": last}


def build() -> StateGraph:
    builder = StateGraph(State)
    for node in (step, part, left, right, ask):
        builder.add_node(node.__name__, node)
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", after_step, ["step", "part", "left", "right", "ask", END])
    for node in (part, left, right, ask):
        builder.add_edge(node.__name__, "step")
    return builder


install()
graph = build().compile(name="forty")
