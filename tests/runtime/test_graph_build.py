"""Writing a graph: what `StateGraph` takes, and what it refuses with the node and the fix in the message."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from typing_extensions import TypedDict

from perdure.runtime.commands import END, START, Command, Send
from perdure.runtime.errors import GraphValidationError
from perdure.runtime.graph import StateGraph
from perdure.runtime.nodes import Resources
from perdure.runtime.policies import RetryPolicy
from perdure.runtime.topology import Join, Topology


class State(TypedDict, total=False):
    n: int
    items: Annotated[list[int], operator.add]


class Work(TypedDict):
    job: str


def nothing(state: State) -> dict[str, Any]:
    return {}


def line(*names: str) -> StateGraph:
    """START -> the nodes, one after the other -> END."""
    graph = StateGraph(State)
    for name in names:
        graph.add_node(name, nothing)
    for start, end in zip((START, *names), (*names, END), strict=True):
        graph.add_edge(start, end)
    return graph


def refused(build: Callable[[], object], *words: str) -> GraphValidationError:
    with pytest.raises(GraphValidationError) as caught:
        build()
    for word in words:
        assert word in str(caught.value)
    return caught.value


def test_a_line() -> None:
    topology = line("a", "b").topology(name="demo")
    assert (topology.name, list(topology.nodes)) == ("demo", ["a", "b"])
    assert topology.edges == {START: ("a",), "a": ("b",), "b": (END,)}
    assert list(topology.channels) == ["n", "items"]
    assert (topology.joins, topology.branches, topology.interrupt_before) == ((), {}, frozenset())


def test_building_returns_the_graph_and_takes_functions_by_their_name() -> None:
    graph = StateGraph(State)
    assert graph.add_node(nothing).set_entry_point("nothing").set_finish_point("nothing") is graph
    assert list(graph.topology().nodes) == ["nothing"]


def test_sequence() -> None:
    topology = StateGraph(State).add_sequence([nothing, ("second", nothing)]).set_entry_point("nothing")
    topology.set_finish_point("second")
    assert topology.topology().edges["nothing"] == ("second",)
    refused(lambda: StateGraph(State).add_sequence([]), "no nodes")
    refused(lambda: StateGraph(State).add_sequence([nothing, nothing]), "'nothing' already")


def test_a_list_of_starts_is_a_barrier() -> None:
    graph = line("a", "b")
    graph.add_node("c", nothing).add_edge(START, "b").add_edge(["a", "b", "a"], "c").set_finish_point("c")
    assert graph.topology().joins == (Join("join:a:b:c", ("a", "b"), "c"),)


def test_a_barrier_of_one_is_an_edge_and_one_to_the_end_is_nothing() -> None:
    graph = StateGraph(State).add_node("a", nothing).add_node("b", nothing).add_edge(START, "a").add_edge(START, "b")
    topology = graph.add_edge(["a"], END).add_edge(["a", "b"], END).topology()
    assert (topology.joins, topology.edges["a"]) == ((), (END,))


def test_an_edge_counts_once() -> None:
    assert line("a").add_edge(START, "a").topology().edges[START] == ("a",)


def test_changing_the_graph_later_does_not_change_what_was_compiled() -> None:
    graph = line("a")
    before = graph.topology()
    graph.add_node("b", nothing).add_edge("a", "b").set_finish_point("b")
    assert (list(before.nodes), list(graph.topology().nodes)) == (["a"], ["a", "b"])


def test_node_options() -> None:
    slow, fast = RetryPolicy(max_attempts=5), RetryPolicy(retry_on=KeyError)
    graph = StateGraph(State).add_node(
        "a", nothing, retry_policy=[slow, fast], metadata={"owner": "me"}, run="task", num_cpus=2, num_gpus=0.5,
        memory=1 << 20, resources={"tpu": 1}, runtime_env={"pip": ["x"]}, effects=True,
    )  # fmt: skip
    node = graph.add_node("b", nothing, retry_policy=slow).add_edge(START, "a").add_edge("a", "b").add_edge("b", END)
    first, second = node.topology().nodes.values()
    assert (first.retry, second.retry) == ((slow, fast), (slow,))
    assert (first.run, first.effects, first.metadata) == ("task", True, {"owner": "me"})
    assert first.resources == Resources(
        num_cpus=2, num_gpus=0.5, memory=1 << 20, resources={"tpu": 1}, runtime_env={"pip": ["x"]}
    )
    assert first.resources
    assert not second.resources


def test_a_node_may_read_a_class_of_its_own() -> None:
    def worker(state: Work) -> dict[str, Any]:
        return {"items": [len(state["job"])]}

    graph = StateGraph(State).add_node(worker).add_node("other", nothing, input_schema=Work)
    topology = graph.add_edge(START, "worker").add_edge("worker", "other").add_edge("other", END).topology()
    assert [node.input and node.input.cls for node in topology.nodes.values()] == [Work, Work]
    assert list(topology.channels) == ["n", "items", "job"]
    assert topology.state.updates({"job": "x"}, "worker") == {"job": "x"}
    assert topology.state.view({"n": 1, "job": "x"}) == {"n": 1, "items": []}


def test_input_and_output_classes() -> None:
    class Question(TypedDict):
        question: str

    class Answer(TypedDict):
        items: list[int]

    graph = StateGraph(State, input_schema=Question, output_schema=Answer).add_node("a", nothing)
    topology = graph.add_edge(START, "a").add_edge("a", END).topology()
    assert list(topology.channels) == ["n", "items", "question"]
    assert list(topology.input.channels) == ["question"]
    # Answer repeats the key without its reducer, and means the same channel
    assert topology.output.fields["items"] is topology.channels["items"]
    assert topology.output.select({"n": 1}) == {"items": []}


def test_one_key_cannot_have_two_reducers() -> None:
    class Other(TypedDict):
        items: Annotated[list[int], max]

    graph = StateGraph(State, output_schema=Other).add_node("a", nothing).add_edge(START, "a").add_edge("a", END)
    refused(graph.topology, "'items'", "State", "Other")


def test_async_nodes_config_and_callable_objects() -> None:
    class Adder:
        async def __call__(self, state: State, config: Any) -> dict[str, Any]:
            return {"n": config}

        def method(self, state: State, *, config: Any = None) -> dict[str, Any]:
            return {"n": config}

    async def waits(state: State) -> dict[str, Any]:
        return {}

    def typed(state: State, settings: RunnableConfig) -> dict[str, Any]:  # type: ignore[name-defined]  # noqa: F821 — only its name counts
        return {"n": settings}

    def scaled(factor: int, state: State) -> dict[str, Any]:
        return {"n": factor}

    graph = StateGraph(State).add_node("object", Adder()).add_node("method", Adder().method).add_node(waits)
    graph.add_node(typed).add_node("partial", functools.partial(scaled, 3)).add_node("lambda", lambda state: {"n": 7})
    names = list(graph._nodes)
    for start, end in zip((START, *names), (*names, END), strict=True):
        graph.add_edge(start, end)
    nodes = graph.topology().nodes
    assert {name: node.is_async for name, node in nodes.items() if node.is_async} == {"object": True, "waits": True}
    assert [name for name, node in nodes.items() if node.takes_config] == ["object", "method", "typed"]
    assert nodes["method"].call({}, 5) == nodes["typed"].call({}, 5) == {"n": 5}
    assert nodes["partial"].call({}, 5) == {"n": 3}
    assert nodes["lambda"].call({}, 5) == {"n": 7}


def test_a_bound_config_is_left_alone() -> None:
    def node(state: State, config: Any) -> dict[str, Any]:
        return {"n": config}

    graph = StateGraph(State).add_node("a", functools.partial(node, config=9)).add_edge(START, "a").add_edge("a", END)
    assert graph.topology().nodes["a"].call({}, 5) == {"n": 9}


def test_destinations() -> None:
    def hop(state: State) -> Command[Literal["b", "__end__"]] | None:
        return None

    def jump(state: State):  # type: ignore[no-untyped-def]
        return Command(goto="hop")

    graph = StateGraph(State).add_node(hop).add_node("b", nothing).add_node("c", nothing, destinations=("hop",))
    graph.add_node(jump).add_edge(START, "c").add_edge("b", "jump")
    nodes = graph.topology().nodes
    assert {name: node.destinations for name, node in nodes.items()} == {
        "hop": ("b", END), "b": (), "c": ("hop",), "jump": ()
    }  # fmt: skip
    assert nodes["jump"].routes
    refused(StateGraph(State).add_node(hop).add_edge(START, "hop").topology, "'hop'", "Command[...]", "'b'")


def test_interrupts() -> None:
    topology = line("a", "b").topology(interrupt_before="*", interrupt_after=["b"])
    assert topology.interrupt_before == {"a", "b"}
    assert topology.interrupt_after == {"b"}
    refused(lambda: line("a", "check").topology(interrupt_before=["chekc"]), "interrupts", "did you mean 'check'")
    refused(lambda: line("a").topology(interrupt_after="a"), "['a']")


# -- what is refused ---------------------------------------------------------------------------------------------


def test_unknown_nodes() -> None:
    error = refused(
        line("fetch", "parse").add_edge("fetch", "prase").topology, "'fetch' -> 'prase'", "did you mean 'parse'"
    )
    assert error.node == "prase"
    refused(line("fetch").add_edge("fetsh", END).topology, "did you mean 'fetch'")
    refused(line("a", "b").add_edge(["a", "x"], "b").topology, "['a', 'x']", "'x', which is no node")
    refused(line("a").add_conditional_edges("a", nothing, {"yes": "bee"}).topology, "'nothing' of 'a'", "'bee'")
    refused(line("a").add_conditional_edges("x", nothing).topology, "'x', which is no node")
    refused(line("a").add_node("b", nothing, destinations=["q"]).add_edge("a", "b").topology, "'b'", "'q'")


def test_a_node_without_a_way_in() -> None:
    error = refused(
        line("a").add_node("lost", nothing).add_edge("lost", END).topology, "'lost' has no way in", "add_edge("
    )
    assert error.node == "lost"
    island = line("a").add_node("x", nothing).add_node("y", nothing).add_edge("x", "y").add_edge("y", "x")
    refused(island.topology, "'x' has no way in")


def test_a_node_without_a_way_out() -> None:
    graph = StateGraph(State).add_node("a", nothing).add_edge(START, "a")
    assert refused(graph.topology, "'a' has no way out", "add_edge('a', END)", "Command[Literal").node == "a"


def test_conditional_edges_without_a_map_may_lead_anywhere() -> None:
    graph = line("a").add_node("x", nothing).add_edge("x", END)
    assert list(graph.add_conditional_edges("a", lambda state: "x").topology().nodes) == ["a", "x"]
    closed = line("a").add_node("x", nothing).add_edge("x", END).add_conditional_edges("a", nothing, [END])
    refused(closed.topology, "'x' has no way in")


def test_no_nodes_no_entry() -> None:
    refused(StateGraph(State).topology, "no nodes")
    refused(StateGraph(State).add_node("a", nothing).add_edge("a", END).topology, "no entry", "add_edge(START, 'a')")


def test_directions() -> None:
    graph = line("a")
    refused(lambda: graph.add_edge(END, "a"), "cannot start at END")
    refused(lambda: graph.add_edge("a", START), "cannot lead to START")
    refused(lambda: graph.add_edge([], "a"), "empty list")
    refused(lambda: graph.add_edge([START, "a"], "a"), "START cannot be waited for")
    refused(lambda: graph.add_edge("a", nothing), "is none")  # type: ignore[arg-type]
    refused(lambda: graph.add_conditional_edges(END, nothing), "cannot start at")


@pytest.mark.parametrize("name", ["__start__", "__end__", "__interrupt__", "", "a:b", "a#1", "a|b", "a\nb", "\x00"])
def test_names_that_cannot_be(name: str) -> None:
    refused(lambda: StateGraph(State).add_node(name, nothing))


@pytest.mark.parametrize("name", ["a b", "größer", "node-1", "审计", "n", "_x", "items"])
def test_names_that_can(name: str) -> None:
    assert list(line(name).topology().nodes) == [name]


def test_duplicates() -> None:
    assert refused(lambda: line("a").add_node("a", nothing), "'a' already").node == "a"
    graph = line("a").add_conditional_edges("a", nothing, {None: END})
    refused(lambda: graph.add_conditional_edges("a", nothing), "'nothing' already")
    graph.add_conditional_edges("a", lambda state: END).add_conditional_edges("a", lambda state: [])
    assert [branch.name for branch in graph.topology().branches["a"]] == ["nothing", "condition", "condition-2"]


def test_what_is_no_node() -> None:
    def generator(state: State) -> Any:
        yield {}

    async def async_generator(state: State) -> Any:
        yield {}

    class Runnable:
        def invoke(self, state: State) -> None: ...

    graph = StateGraph(State)
    refused(lambda: graph.add_node("g", generator), "'g' is a generator")
    refused(lambda: graph.add_node(async_generator), "'async_generator' is a generator")
    refused(lambda: graph.add_node("r", Runnable()), "'r'", "thing.invoke(state)")  # type: ignore[arg-type]
    refused(lambda: graph.add_node("c", dict), "class dict")
    refused(lambda: graph.add_node("n"), "add_node('n', function)")
    refused(lambda: graph.add_node(lambda state: {}), "no name")
    refused(lambda: graph.add_node("z", lambda *, config: {}), "'z' takes no state")
    refused(lambda: graph.add_node("w", lambda state, writer: {}), "'writer'", "functools.partial")
    refused(lambda: graph.add_node("i", 5), "cannot be called")  # type: ignore[arg-type]
    graph.add_node("d", lambda state, extra=1: {}).add_node("v", lambda *args, **kwargs: {})


def test_options_that_make_no_sense() -> None:
    graph = StateGraph(State)
    refused(lambda: graph.add_node("a", nothing, run="ray"), "'ray'", "'inline'")  # type: ignore[arg-type]
    refused(lambda: graph.add_node("a", nothing, num_cpus=-1), "num_cpus", "-1")
    refused(lambda: graph.add_node("a", nothing, resources={"tpu": "x"}), "tpu")  # type: ignore[dict-item]
    refused(lambda: graph.add_node("a", nothing, run="inline", num_gpus=1), "run='task'")
    refused(lambda: graph.add_node("a", nothing, retry_policy=3), "retry_policy")  # type: ignore[arg-type]
    refused(lambda: StateGraph(State, context_schema=State), "configurable")
    refused(lambda: line("a").topology(name=""), "name")
    refused(lambda: line("a").topology(version="1\n2"), "version")
    refused(lambda: line("a").topology(allow=["x"]), "'x'")  # type: ignore[list-item]
    refused(lambda: line("a").add_conditional_edges("a", nothing, "b"), "path_map")


def test_a_store_of_another_kind_is_refused() -> None:
    class MemorySaver:
        def get_tuple(self) -> None: ...
        def put(self) -> None: ...

    refused(lambda: line("a").compile(MemorySaver()), "LangGraph saver", "sqlite:///")  # type: ignore[arg-type]
    refused(lambda: line("a").compile(True), "no store")  # type: ignore[arg-type]


def test_sends_need_no_map() -> None:
    def spread(state: State) -> list[Send]:
        return [Send("w", {"n": n}) for n in range(3)]

    topology: Topology = (
        line("a").add_node("w", nothing).add_edge("w", END).add_conditional_edges("a", spread).topology()
    )
    assert topology.branches["a"][0].resolve(spread({}))[2] == Send("w", {"n": 2})
