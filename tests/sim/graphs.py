"""The graphs that are simulated: small, deterministic, and each with something that could go wrong."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, Any

from typing_extensions import TypedDict

from perdure.runtime.checkpoints import Checkpoints, checkpoint
from perdure.runtime.commands import END, START, Command, Send
from perdure.runtime.errors import ReceiveTimeout
from perdure.runtime.graph import StateGraph
from perdure.runtime.interrupts import interrupt
from perdure.runtime.messages import add_messages
from perdure.runtime.signals import receive
from perdure.runtime.sleeping import sleep
from perdure.runtime.tasks import task
from perdure.runtime.topology import Topology
from perdure.stores.codec import Codec

ROUNDS = 3


def nested(old: str, new: str) -> str:
    """A reducer without a closed form, for which the order of the writes matters."""
    return f"{old[-40:]}({new})"


def merged(old: dict[str, int], new: dict[str, int]) -> dict[str, int]:
    """A reducer of dicts, whose result is stored whole."""
    return {**old, **new}


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    total: Annotated[int, operator.add]
    text: Annotated[str, nested]
    facts: Annotated[dict[str, int], merged]
    word: Annotated[str, operator.add]
    table: Annotated[dict[str, str], operator.or_]
    messages: Annotated[list[dict[str, str]], add_messages]
    n: int
    last: str


Update = dict[str, Any]
NodeFunc = Callable[[State], Any]


@dataclass(frozen=True)
class SimGraph:
    """A graph with what its readers need."""

    topology: Topology
    codec: Codec
    breakpoints: tuple[str, ...] = ()
    """Nodes that a run may be told to stop before."""


def says(name: str) -> NodeFunc:
    """A node that writes to every reducer what it saw."""

    def node(state: State) -> Update:
        seen = len(state["log"])
        return {"log": [f"{name}:{seen}"], "total": seen, "text": name, "facts": {name: seen}, "word": name[0]}

    return node


def asks(name: str, questions: int = 1) -> NodeFunc:
    """A node that asks, so many times."""

    def node(state: State) -> Update:
        seen = len(state["log"])
        answers = [interrupt(f"{name}?{seen}.{index}") for index in range(questions)]
        return {"log": [f"{name}:{seen}", *answers]}

    return node


def counts(state: State) -> Update:
    if state.get("n", 0) % 2:
        checkpoint()
    return {"n": state.get("n", 0) + 1, "last": "counts", "log": [f"count {state.get('n', 0)}"]}


def again(state: State) -> str:
    return "a" if state["n"] % ROUNDS else END


def raises(state: State) -> Update:
    if any("bad" in line for line in state["log"]) and not any("fixed" in line for line in state["log"]):
        raise ValueError("told to")
    return {"log": ["fine"]}


def clashes(state: State) -> Update:
    if any("bad" in line for line in state["log"]):
        return {"last": object()}  # of a type that cannot be stored
    return {"last": "clash"} if state["log"][0].endswith("0") else {"log": ["no clash"]}


def fills(name: str) -> NodeFunc:
    """A node whose deltas soon outgrow the values that they change."""

    def node(state: State) -> Update:
        seen = len(state["log"])
        message = {"role": "user", "content": f"{name}{seen}", "id": f"{name}{seen % 2}"}
        return {"table": {name: f"{seen}" * 1500, "both": name}, "messages": [message], "log": [f"{name}:{seen}"]}

    return node


def plans(state: State) -> Update:
    return {"log": ["plan"], "n": state.get("n", 0) + 1}


def spread(state: State) -> list[Send | str]:
    return [*(Send("work", {"job": job, "of": len(state["log"])}) for job in range(3)), "side"]


def works(job: dict[str, int]) -> Update:
    return {"log": [f"job {job['job']} of {job['of']}"], "total": job["job"], "facts": {f"job{job['job']}": job["of"]}}


def leads(state: State) -> Command[str]:
    n = state.get("n", 0) + 1
    return Command(update={"n": n, "log": [f"leads {n}"]}, goto=["a", Send("b", n)] if n % 2 else "b")


def told(arg: Any) -> Update:
    return {"log": [f"b got {arg if isinstance(arg, int) else arg['n']}"]}


def _edges(graph: StateGraph, *paths: str) -> StateGraph:
    """Edges along paths like `- a b -`, where `-` is the start and the end."""
    for path in paths:
        names = path.split()
        ends = [START if names[0] == "-" else names[0], *names[1:-1], END if names[-1] == "-" else names[-1]]
        for start, end in pairwise(ends):
            graph.add_edge(start, end)
    return graph


def chain() -> StateGraph:
    graph = StateGraph(State)
    for name in ("a", "b", "c", "d"):
        graph.add_node(name, says(name), effects=name == "c")
    return _edges(graph, "- a b c d -")


def loop() -> StateGraph:
    graph = StateGraph(State).add_node("a", says("a")).add_node("count", counts)
    return _edges(graph, "- a count").add_conditional_edges("count", again, ["a", END])


def fan() -> StateGraph:
    """A fan-out whose branches have different lengths, joined by a barrier."""
    graph = StateGraph(State)
    for name in ("split", "c", "b", "a", "long", "tail"):
        graph.add_node(name, says(name))
    _edges(graph, "- split a", "split b", "split c long", "tail -")
    return graph.add_edge(["a", "b", "long"], "tail")


def sends() -> StateGraph:
    graph = StateGraph(State).add_node("plan", plans).add_node("work", works).add_node("side", says("side"))
    graph.add_node("collect", says("collect"))
    graph.add_conditional_edges("plan", spread, ["work", "side"])
    return _edges(graph, "- plan", "work collect -", "side collect")


def ask() -> StateGraph:
    graph = StateGraph(State).add_node("a", says("a")).add_node("ask", asks("ask", 2)).add_node("b", says("b"))
    return _edges(graph, "- a ask b -")


def asks_aside() -> StateGraph:
    """Two nodes ask and two do not, side by side."""
    graph = StateGraph(State).add_node("x", asks("x")).add_node("y", asks("y", 2))
    graph.add_node("a", says("a")).add_node("b", says("b")).add_node("tail", says("tail"))
    _edges(graph, "- x", "- y", "- a", "- b", "tail -")
    return graph.add_edge(["a", "b", "x", "y"], "tail")


def ask_loop() -> StateGraph:
    """The same node asks in every round, beside another."""
    graph = StateGraph(State).add_node("a", asks("a")).add_node("b", says("b")).add_node("count", counts)
    _edges(graph, "- a", "- b")
    graph.add_edge(["a", "b"], "count").add_edge("b", END)
    return graph.add_conditional_edges("count", lambda state: ["a", "b"] if state["n"] % 2 else END, ["a", "b", END])


def fails() -> StateGraph:
    graph = StateGraph(State).add_node("a", says("a")).add_node("b", says("b")).add_node("bad", raises)
    graph.add_node("c", says("c"))
    _edges(graph, "- a b", "a bad", "c -")
    return graph.add_edge(["b", "bad"], "c")


def clash() -> StateGraph:
    graph = StateGraph(State).add_node("a", clashes).add_node("b", clashes).add_node("c", says("c"))
    return _edges(graph, "- a c -", "- b c")


def commands() -> StateGraph:
    graph = StateGraph(State).add_node("lead", leads, destinations=("a", "b")).add_node("a", says("a"), run="task")
    return _edges(graph.add_node("b", told), "- lead", "a -", "b -")


def alone() -> StateGraph:
    """A single node whose result cannot be stored, or leads nowhere."""
    graph = StateGraph(State).add_node("a", clashes).add_node("b", says("b"))
    return _edges(graph, "- a b -")


def growing() -> StateGraph:
    graph = StateGraph(State).add_node("a", fills("a")).add_node("b", fills("b")).add_node("count", counts)
    _edges(graph, "- a", "- b")
    graph.add_edge(["a", "b"], "count")
    return graph.add_conditional_edges("count", lambda state: ["a", "b"] if state["n"] % 4 else END, ["a", "b", END])


@task
def kept(name: str, seen: int) -> str:
    return f"kept {name}:{seen}"


def sleeps(name: str, ticks: float) -> NodeFunc:
    """A node that keeps a result, sleeps, and keeps another."""

    def node(state: State) -> Update:
        seen = len(state["log"])
        first = kept(f"{name}1", seen)
        sleep(ticks)
        return {"log": [first, kept(f"{name}2", seen)]}

    return node


def receives(name: str, times: int = 1) -> NodeFunc:
    """A node that receives so many signals, and gives up waiting for one that never comes."""

    def node(state: State) -> Update:
        found = [str(receive("go")) for _ in range(times)]
        try:
            receive("never", timeout=30)
        except ReceiveTimeout:
            found.append("timeout")
        return {"log": [kept(name, len(found)), *found]}

    return node


def naps() -> StateGraph:
    """Nodes that sleep, alone and beside others."""
    graph = StateGraph(State).add_node("a", sleeps("a", 20)).add_node("x", sleeps("x", 60))
    graph.add_node("y", sleeps("y", 5)).add_node("z", says("z")).add_node("tail", says("tail"))
    _edges(graph, "- a x", "a y", "a z", "tail -")
    return graph.add_edge(["x", "y", "z"], "tail")


def hears() -> StateGraph:
    """A node that receives signals, then one that also asks, beside one that sleeps."""
    graph = StateGraph(State).add_node("a", receives("a", 2)).add_node("ask", asks("ask"))
    graph.add_node("x", sleeps("x", 40)).add_node("b", receives("b"))
    _edges(graph, "- a ask", "a x", "b -")
    return graph.add_edge(["ask", "x"], "b")


GRAPHS: Mapping[str, tuple[Callable[[], StateGraph], tuple[str, ...]]] = {
    "chain": (chain, ("b", "d")),
    "loop": (loop, ("count",)),
    "fan": (fan, ("tail", "b")),
    "sends": (sends, ("collect",)),
    "ask": (ask, ("b",)),
    "asks_aside": (asks_aside, ("tail", "x")),
    "ask_loop": (ask_loop, ("count",)),
    "fails": (fails, ("c",)),
    "clash": (clash, ("c",)),
    "commands": (commands, ("b",)),
    "alone": (alone, ("b",)),
    "growing": (growing, ("count",)),
    "naps": (naps, ("tail",)),
    "hears": (hears, ("b",)),
}


POLICIES: Mapping[str, Checkpoints] = {"growing": Checkpoints(every=2), "fails": Checkpoints(manual=True)}
"""Which steps become full checkpoints, of the graphs that are compiled with that."""


@cache
def graph_named(name: str) -> SimGraph:
    """A graph of the catalogue."""
    build, breakpoints = GRAPHS[name]
    topology = build().topology(name=name, checkpoints=POLICIES.get(name))
    return SimGraph(topology, Codec(topology.types), breakpoints)
