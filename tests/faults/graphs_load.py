"""What threads do while their servers fail: a talk with questions, and a sprint that runs far ahead of the store."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

from perdure import END, START, StateGraph, interrupt
from perdure.runtime.compiled import CompiledGraph
from perdure.stores.base import CheckpointStore

SPRINT = 4000
"""Steps of a sprint: several times what a thread may run ahead of its store."""


class Talk(TypedDict, total=False):
    rounds: int
    steps: int
    """Of each round."""
    pause: float
    """Seconds that a step takes."""
    n: int
    trail: Annotated[list[str], operator.add]
    heard: Annotated[list[str], operator.add]
    """What clients said meanwhile."""


def step(state: Talk) -> Talk:
    time.sleep(state["pause"])
    n = state.get("n", 0) + 1
    return {"n": n, "trail": [f"step {n}"]}


def left(state: Talk) -> Talk:
    return {"trail": [f"left {state['n']}"]}


def right(state: Talk) -> Talk:
    return {"trail": [f"right {state['n']}"]}


def ask(state: Talk) -> Talk:
    return {"trail": [interrupt(state["n"])]}


def answer_to(question: int) -> str:
    return f"told {question}"


def after_step(state: Talk) -> Any:
    return ["left", "right"] if state["n"] % state["steps"] == 0 else "step"


def after_ask(state: Talk) -> Any:
    return "step" if state["n"] < state["steps"] * state["rounds"] else END


def talk_input(*, rounds: int = 3, steps: int = 8, pause: float = 0.003) -> Talk:
    return {"rounds": rounds, "steps": steps, "pause": pause}


def talk_expected(given: Talk) -> dict[str, Any]:
    """The final state, worked out without the engine, but for what clients said."""
    last = given["rounds"] * given["steps"]
    trail = []
    for n in range(1, last + 1):
        trail.append(f"step {n}")
        if n % given["steps"] == 0:
            trail += [f"left {n}", f"right {n}", answer_to(n)]
    return {**given, "n": last, "trail": trail}


def talk_graph(store: CheckpointStore | None = None) -> CompiledGraph:
    """Each round: steps one by one, two nodes side by side, a question."""
    builder = StateGraph(Talk)
    for node in (step, left, right, ask):
        builder.add_node(node.__name__, node)
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", after_step, ["step", "left", "right"])
    builder.add_edge(["left", "right"], "ask")
    builder.add_conditional_edges("ask", after_ask, ["step", END])
    return builder.compile(name="talk", version="1", checkpointer=store)


class Sprint(TypedDict, total=False):
    until: int
    n: int


def sprint_graph(store: CheckpointStore | None, ran: Callable[[str, int], None]) -> CompiledGraph:
    """Steps that take no time; `ran` is told the thread and the step."""

    def run(state: Sprint, config: dict[str, Any]) -> Sprint:
        n = state.get("n", 0) + 1
        ran(config["configurable"]["thread_id"], n)
        return {"n": n}

    builder = StateGraph(Sprint)
    builder.add_node("run", run)
    builder.add_edge(START, "run")
    builder.add_conditional_edges("run", lambda state: "run" if state["n"] < state["until"] else END, ["run", END])
    return builder.compile(name="sprint", version="1", checkpointer=store)


talk = talk_graph()
