"""The compiled structure: what conditional edges and Commands may answer, versions, and that it travels."""

from __future__ import annotations

import operator
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from ray import cloudpickle
from typing_extensions import TypedDict

from perdure.runtime.commands import END, START, Send
from perdure.runtime.errors import RoutingError
from perdure.runtime.graph import StateGraph
from perdure.runtime.messages import RemoveMessage
from perdure.runtime.topology import Branch, Topology


class Narrow(TypedDict):
    n: int


class State(TypedDict, total=False):
    n: int
    items: Annotated[list[int], operator.add]


def nothing(state: State) -> dict[str, Any]:
    return {}


def graph(*names: str) -> StateGraph:
    made = StateGraph(State)
    for name in names or ("a", "b"):
        made.add_node(name, nothing).add_edge(START, name).add_edge(name, END)
    return made


def branch_of(path: Any, path_map: Any = None) -> Branch:
    return graph().add_conditional_edges("a", path, path_map).topology(name="demo").branches["a"][0]


# -- conditional edges -------------------------------------------------------------------------------------------


def test_answers_without_a_map() -> None:
    branch = branch_of(nothing)
    send = Send("b", 1)
    assert branch.resolve("b") == ["b"]
    assert branch.resolve(END) == [END]
    assert branch.resolve([send, "a", send]) == [send, "a", send]
    assert branch.resolve(("a", "b")) == ["a", "b"]
    assert branch.resolve([]) == []


def test_answers_with_a_map() -> None:
    branch = branch_of(nothing, {True: "b", False: END, 3: "a"})
    assert branch.resolve(True) == ["b"]
    assert branch.resolve([False, 3]) == [END, "a"]
    assert branch.resolve(Send("b", 1)) == [Send("b", 1)]
    assert branch_of(nothing, ["a", END]).mapping == {"a": "a", END: END}


def test_answers_by_annotation() -> None:
    def route(state: State) -> Literal["b", "__end__"]:
        return "b"

    def several(state: State) -> list[Literal["a", "b"]]:
        return ["a", "b"]

    def yes_or_no(state: State) -> Literal[True, False]:
        return True

    assert branch_of(route).mapping == {"b": "b", END: END}
    assert branch_of(several).mapping == {"a": "a", "b": "b"}
    assert branch_of(yes_or_no).mapping is None


@pytest.mark.parametrize("answer", [None, "x", START, True, {"a"}, ["a", None], Send("x", 1), Send(END, 1)])
def test_answers_that_lead_nowhere(answer: Any) -> None:
    def choose(state: State) -> Any:
        return answer

    with pytest.raises(RoutingError, match=r"conditional edge 'choose' of node 'a' .* known are 'a', 'b'") as caught:
        branch_of(choose).resolve(answer)
    assert caught.value.source == "a"


def test_answers_that_the_map_does_not_have() -> None:
    with pytest.raises(
        RoutingError, match=r"returned 'aprove', which its path_map .* known are 'approve'; did you mean"
    ):
        branch_of(nothing, {"approve": "b"}).resolve("aprove")
    with pytest.raises(RoutingError, match="path_map"):
        branch_of(nothing, {"yes": "b"}).resolve({"unhashable": 1})


def test_paths_take_config_and_a_class_of_their_own() -> None:
    async def path(state: Narrow, config: Any) -> str:
        return str(config)

    branch = branch_of(path)
    assert (branch.is_async, branch.takes_config, branch.input and branch.input.cls) == (True, True, Narrow)
    assert branch_of(lambda state: state["n"]).call({"n": "b"}, None) == "b"


# -- commands ----------------------------------------------------------------------------------------------------


def test_routes_of_commands() -> None:
    topology = graph("a", "check").topology(name="demo")
    assert topology.route((), "a") == []
    assert topology.route("check", "a") == ["check"]
    assert topology.route([END, Send("a", 1)], "a") == [END, Send("a", 1)]
    with pytest.raises(RoutingError, match=r"Command of node 'a' leads to 'chekc'.*'demo'.*did you mean 'check'"):
        topology.route("chekc", "a")
    with pytest.raises(RoutingError, match="sends to '__end__'"):
        topology.route([Send(END, 1)], "a")
    for target in (None, START, 5):
        with pytest.raises(RoutingError):
            topology.route([target], "a")


# -- versions ----------------------------------------------------------------------------------------------------


def version(made: StateGraph) -> str:
    return made.topology().version


def test_a_version_is_the_users_or_follows_the_structure() -> None:
    assert graph().topology(version="7").version == "7"
    same = version(graph())
    assert len(same) == 12
    assert same == version(graph()) == version(graph("b", "a"))
    changed = StateGraph(State).add_node("a", lambda state: {"n": 1}).add_node("b", nothing, effects=True)
    for name in ("a", "b"):
        changed.add_edge(START, name).add_edge(name, END)
    assert same == version(changed)
    other = {
        same,
        version(graph("a", "c")),
        version(graph().add_edge("a", "b")),
        version(graph().add_edge(["a", "b"], "b")),
        version(graph().add_conditional_edges("a", nothing)),
        version(graph().add_conditional_edges("a", nothing, ["b"])),
    }
    assert len(other) == 6


def test_a_version_follows_the_channels_types() -> None:
    def of(annotation: Any) -> str:
        state = TypedDict("state", {"n": annotation})  # noqa: UP013 — made for each case
        return version(
            StateGraph(state).add_node("a", nothing, input_schema=state).add_edge(START, "a").add_edge("a", END)
        )

    cases = [int, str, list[int], list[str], Annotated[list[int], operator.add], Annotated[list[int], max], int | None]
    assert len({of(case) for case in cases}) == len(cases)
    assert of(list[int]) == of(list[int])


def test_a_version_is_the_same_in_another_process() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import operator\nfrom typing import Annotated\nfrom typing_extensions import TypedDict\n"
        "from perdure.runtime.graph import StateGraph\n"
        "class State(TypedDict, total=False):\n    n: int\n    items: Annotated[list[int], operator.add]\n"
        "g = StateGraph(State)\n"
        "for name in 'ab':\n    g.add_node(name, lambda s: {}).add_edge('__start__', name).add_edge(name, '__end__')\n"
        "print(g.topology().version)"
    )
    link = Path(__file__).parents[2] / "typings"
    found = subprocess.run([sys.executable, "-c", code, str(link)], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == version(graph())


# -- the rest ----------------------------------------------------------------------------------------------------


def test_types_that_stored_values_may_have() -> None:
    class Own: ...

    assert {Own, RemoveMessage, int} <= graph().topology(allow=[Own]).types


def test_a_topology_travels() -> None:
    topology = graph().add_conditional_edges("a", lambda state: "b").topology(name="demo")
    again: Topology = cloudpickle.loads(cloudpickle.dumps(topology))  # type: ignore[no-untyped-call]
    assert (again.name, again.version, list(again.nodes)) == ("demo", topology.version, ["a", "b"])
    assert again.branches["a"][0].resolve("b") == ["b"]
    assert again.state.updates({"n": 1}, "a") == {"n": 1}
    assert again.fingerprint == topology.fingerprint
