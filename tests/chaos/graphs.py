"""What the threads of the chaos do: each input holds a script of stages, and one graph that can play any of them.

The end is known without the engine: `expected` works it out from the inputs. Nodes note each attempt outside the store.
"""

from __future__ import annotations

import operator
import os
import signal
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Annotated, Any, TypedDict

from perdure import (
    END,
    START,
    RetryPolicy,
    Send,
    StateGraph,
    get_context,
    heartbeat,
    interrupt,
    receive,
    sleep,
    task,
)
from tests.chaos import witness
from tests.recovery.faults import note, note_attempt

Stage = tuple[str, int]
"""What is done, and how often or with how many."""

STAGES = ("steps", "fan", "pair", "ask", "asks", "flaky", "burn", "nap", "hear", "charge")
PAUSE = 0.01
"""Seconds that a step takes."""
NAP = 0.2
"""Seconds that a sleep takes."""


class State(TypedDict, total=False):
    run: str
    """Name of the run, which its input gives."""
    script: list[Stage]
    at: int
    """The stage that is played."""
    left: int
    """Steps still to go in it."""
    trail: Annotated[list[str], operator.add]
    heard: Annotated[list[str], operator.add]
    """What clients said meanwhile."""
    total: Annotated[int, operator.add]
    receipts: Annotated[list[str], operator.add]
    """What the sink outside gave for each charge; another one for each time that it is charged."""


class Part(TypedDict):
    name: str
    number: int


def begin(state: State, config: dict[str, Any]) -> dict[str, Any]:
    note_attempt(config)
    return {"at": 0, "left": _length(state["script"], 0), "trail": [f"begin {state['run']}"]}


def step(state: State, config: dict[str, Any]) -> dict[str, Any]:
    note_attempt(config)
    time.sleep(PAUSE)
    left = state["left"] - 1
    after = _next(state) if left == 0 else {"left": left}
    return {**after, "trail": [f"{_name(state)} step {left}"], "total": 1}


def part(arg: Part, config: dict[str, Any]) -> dict[str, Any]:
    note_attempt(config)
    heartbeat(arg["number"])
    time.sleep(PAUSE)
    return {"trail": [f"{arg['name']} part {arg['number']}"], "total": arg["number"]}


def question(arg: Part, config: dict[str, Any]) -> dict[str, Any]:
    note_attempt(config)
    told = interrupt(f"{arg['name']} question {arg['number']}")
    return {"trail": [f"{arg['name']} {told}"]}


def left(state: State, config: dict[str, Any]) -> dict[str, Any]:
    note_attempt(config)
    time.sleep(PAUSE)
    return {"trail": [f"{_name(state)} left"], "total": 100}


def right(state: State, config: dict[str, Any]) -> dict[str, Any]:
    note_attempt(config)
    return {"trail": [f"{_name(state)} right"], "total": 1000}


def ask(state: State, config: dict[str, Any]) -> dict[str, Any]:
    """One question after the other, in one node."""
    note_attempt(config)
    answers = [interrupt(f"{_name(state)} question {number}") for number in range(_count(state))]
    return {**_next(state), "trail": [f"{_name(state)} {answer}" for answer in answers]}


def flaky(state: State, config: dict[str, Any]) -> dict[str, Any]:
    """Raises as often as the stage says, over all attempts by whomever; the graph's retry policy copes."""
    note_attempt(config)
    if _times(config, _name(state)) <= _count(state):
        raise ConnectionError("no such luck")
    return {**_next(state), "trail": [f"{_name(state)} lucky"]}


def burn(state: State, config: dict[str, Any]) -> dict[str, Any]:
    """Ends its process as often as the stage says."""
    note_attempt(config)
    if _times(config, _name(state)) <= _count(state):
        os.kill(os.getpid(), signal.SIGKILL)
    return {**_next(state), "trail": [f"{_name(state)} burnt"]}


def nap(state: State, config: dict[str, Any]) -> dict[str, Any]:
    """Sleeps, as often as the stage says."""
    note_attempt(config)
    for _ in range(_count(state)):
        sleep(NAP)
    return {**_next(state), "trail": [f"{_name(state)} slept"]}


def hear(state: State, config: dict[str, Any]) -> dict[str, Any]:
    """Waits for signals."""
    note_attempt(config)
    heard = [receive(channel_of(_name(state))) for _ in range(_count(state))]
    return {**_next(state), "trail": [f"{_name(state)} received {value}" for value in heard]}


def charge(state: State, config: dict[str, Any]) -> dict[str, Any]:
    """Has effects outside, each kept by a recorded call; its process dies between two of them, the first time."""
    note_attempt(config)
    name, log = _name(state), config["configurable"]["log"]
    note(log, effect=name, key=get_context().idempotency_key)
    receipts = []
    for number in range(_count(state)):
        receipts.append(f"{name} {number} {pay(log, f'{name} {number}')}")
        if number == 0 and _times(config, name) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return {**_next(state), "trail": [f"{name} charged"], "receipts": receipts}


@task
def pay(log: str, what: str) -> str:
    """A sink that gives another receipt each time."""
    receipt = uuid.uuid4().hex
    note(log, effect=what, key=get_context().idempotency_key, receipt=receipt)
    return receipt


def gather(state: State, config: dict[str, Any]) -> dict[str, Any]:
    note_attempt(config)
    return {**_next(state), "trail": [f"{_name(state)} gathered"]}


def route(state: State) -> str | list[str] | list[Send]:
    if state["at"] >= len(state["script"]):
        return END
    kind, count = state["script"][state["at"]]
    if kind in ("fan", "asks"):
        node = "part" if kind == "fan" else "question"
        return [Send(node, {"name": _name(state), "number": number}) for number in range(count)]
    if kind == "pair":
        return ["left", "right"]
    return "step" if kind == "steps" else kind


def _next(state: State) -> dict[str, Any]:
    at = state["at"] + 1
    return {"at": at, "left": _length(state["script"], at)}


def _length(script: Sequence[Stage], at: int) -> int:
    return script[at][1] if at < len(script) else 0


def _count(state: State) -> int:
    return state["script"][state["at"]][1]


def _name(state: State) -> str:
    return f"{state['run']}.{state['at']}"


def _times(config: dict[str, Any], name: str) -> int:
    """How often this was called with a name, by this call too; counted in a file, which no crash undoes."""
    marks = Path(f"{config['configurable']['log']}.{name}")
    file = os.open(marks, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, b".")
    finally:
        os.close(file)
    return marks.stat().st_size


# -- what comes of it --------------------------------------------------------------------------------------------------


def draw_script(random: Random) -> list[Stage]:
    """Some stages."""
    return [_draw_stage(random) for _ in range(random.randint(2, 5))]


def _draw_stage(random: Random) -> Stage:
    kind = random.choices(STAGES, (6, 3, 2, 2, 1, 1, 0.5, 2, 2, 2))[0]
    most = {
        "steps": 12,
        "fan": 6,
        "pair": 1,
        "ask": 2,
        "asks": 3,
        "flaky": 2,
        "burn": 1,
        "nap": 2,
        "hear": 2,
        "charge": 3,
    }[kind]
    least = 2 if kind in ("fan", "asks") else 1
    return kind, random.randint(least, most)


def answer_to(asked: str) -> str:
    return f"told {asked}"


def channel_of(stage: str) -> str:
    """The name of the signals that a stage waits for: one of two."""
    return "even" if int(stage.rpartition(".")[2]) % 2 == 0 else "odd"


def expected(
    inputs: Iterable[tuple[str, Sequence[Stage]]], signals: Mapping[str, Sequence[str]] | None = None
) -> tuple[list[str], int]:
    """Trail and total after these runs (name and script), given the signals that were received, in order, by name."""
    left = {name: iter(values) for name, values in (signals or {}).items()}
    trail: list[str] = []
    total = 0
    for run, script in inputs:
        trail.append(f"begin {run}")
        for at, (kind, count) in enumerate(script):
            name = f"{run}.{at}"
            if kind == "hear":
                received = islice(left.get(channel_of(name), iter(())), count)
                trail += [f"{name} received {value}" for value in received]
                continue
            lines, added = _played(name, kind, count)
            trail += [f"{name} {line}" for line in lines]
            total += added
    return trail, total


def _played(name: str, kind: str, count: int) -> tuple[list[str], int]:
    if kind == "steps":
        return [f"step {left}" for left in reversed(range(count))], count
    if kind == "fan":
        return [*(f"part {number}" for number in range(count)), "gathered"], sum(range(count))
    if kind == "pair":
        return ["left", "right", "gathered"], 1100
    told = [answer_to(f"{name} question {number}") for number in range(count)]
    if kind == "ask":
        return told, 0
    if kind == "asks":
        return [*told, "gathered"], 0
    return [{"flaky": "lucky", "burn": "burnt", "nap": "slept", "charge": "charged"}[kind]], 0


def build() -> StateGraph:
    retry = RetryPolicy(initial_interval=0.02, jitter=False, max_attempts=5)
    builder = StateGraph(State)
    for node in (begin, step, part, question, left, right, ask, burn, nap, hear, charge, gather):
        builder.add_node(node.__name__, node)
    builder.add_node("flaky", flaky, retry_policy=retry)
    builder.add_edge(START, "begin")
    ends = ["step", "part", "question", "left", "right", "ask", "flaky", "burn", "nap", "hear", "charge", END]
    for name in ("begin", "step", "ask", "flaky", "burn", "nap", "hear", "charge", "gather"):
        builder.add_conditional_edges(name, route, ends)
    for name in ("part", "question", "left", "right"):
        builder.add_edge(name, "gather")
    return builder


witness.install()
graph = build().compile(name="chaos", version="1")
