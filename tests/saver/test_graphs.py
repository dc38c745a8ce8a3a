"""Real graphs, with LangGraph's own saver asked beside ours at every call (see twin.py)."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypedDict, cast

import pytest
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt
from pydantic import BaseModel

from perdure.saver import PerdureSaver
from tests.actors.services import eventually
from tests.saver.twin import TwinSaver

Durability = Literal["sync", "async", "exit"]
Graph = CompiledStateGraph[Any, Any, Any, Any]


def thread(name: str = "t") -> RunnableConfig:
    return {"configurable": {"thread_id": name}}


@pytest.fixture
def twin(any_saver: PerdureSaver) -> Iterator[TwinSaver]:
    twin = TwinSaver(any_saver)
    yield twin
    assert twin.compared > 5


class Story(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]
    count: int
    notes: dict[str, Any]


def stories(saver: TwinSaver) -> Graph:
    """A loop of appends, a question, then a fan-out."""

    def write(state: Story) -> Story:
        count = state.get("count", 0) + 1
        return {
            "log": [f"{count}" * 300],
            "count": count,
            "notes": {**state.get("notes", {}), f"k{count}": (count, 1.5)},
        }

    def ask(state: Story) -> Story:
        return {"log": [interrupt({"how": state["count"]}), interrupt("and then?")]}

    def fan(state: Story) -> list[Send]:
        return [Send("work", {"count": number}) for number in range(4)]

    builder = StateGraph(Story)
    builder.add_node("write", write)
    builder.add_node("ask", ask)
    builder.add_node("work", lambda state: {"log": [state["count"]]})
    builder.add_edge(START, "write")
    builder.add_conditional_edges("write", lambda state: "write" if state["count"] % 3 else "ask")
    builder.add_conditional_edges("ask", fan, ["work"])
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_interrupts_fan_out_updates_and_forks(twin: TwinSaver, durability: Durability) -> None:
    graph, config = stories(twin), thread()
    assert graph.invoke({"log": ["start"]}, config, durability=durability)["__interrupt__"][0].value == {"how": 3}
    graph.invoke(Command(resume="well"), config, durability=durability)
    done = graph.invoke(Command(resume="bye"), config, durability=durability)
    assert done["log"][-6:] == ["well", "bye", 0, 1, 2, 3]
    history = list(graph.get_state_history(config))
    # Go on from the past: a fork, whose unchanged channels are its parent's.
    middle = history[len(history) // 2]
    forked = graph.update_state(middle.config, {"log": ["changed"]})
    graph.invoke(None, forked, durability=durability)
    assert "changed" in graph.get_state(config).values["log"]
    for snapshot in [*history, *graph.get_state_history(config)]:
        graph.get_state(snapshot.config)
    assert [*twin.list(config, filter={"source": "update"})]
    assert len([*twin.list(config, before=middle.config, limit=2)]) == min(2, len(history) - 1 - len(history) // 2)


class Asking(TypedDict):
    log: Annotated[list[Any], operator.add]


def test_subgraphs_that_remember_and_run_side_by_side(twin: TwinSaver) -> None:
    inner = StateGraph(Asking)
    inner.add_node("ask", lambda state: {"log": [interrupt("inner"), *state["log"]]})
    inner.add_edge(START, "ask")
    remembering = StateGraph(Story)
    remembering.add_node("count", lambda state: {"count": state.get("count", 0) + 1, "log": ["again"]})
    remembering.add_edge(START, "count")
    outer = StateGraph(Story)
    outer.add_node("one", inner.compile())
    outer.add_node("two", remembering.compile(checkpointer=True))
    outer.add_edge(START, "one")
    outer.add_edge(START, "two")
    graph, config = outer.compile(checkpointer=twin), thread()
    for _ in range(2):
        graph.invoke({"log": ["x"]}, config)
        state = graph.get_state(config, subgraphs=True)
        assert {item.name for item in state.tasks if item.state is not None} == {"one", "two"}
        graph.invoke(Command(resume="yes"), config)
    assert graph.get_state(config).values["log"].count("yes") >= 2
    twin.delete_thread("t")
    assert [*twin.list({"configurable": {"thread_id": "t"}})] == []


class Note(BaseModel):
    text: str
    tags: set[str] = set()


class Chat(MessagesState):
    note: Note


def test_messages_that_are_replaced_removed_and_models(twin: TwinSaver) -> None:
    def talk(state: Chat) -> dict[str, Any]:
        number = len(state["messages"])
        messages: list[Any] = [AIMessage("a" * 400, id=f"a{number}", tool_calls=[])]
        if number > 6:
            messages.append(HumanMessage("changed", id="h0"))
        if number == 9:
            messages.append(RemoveMessage(id="a3"))
        return {"messages": messages, "note": Note(text=f"{number}", tags={"x"})}

    builder = StateGraph(Chat)
    builder.add_node("talk", talk)
    builder.add_edge(START, "talk")
    graph: Graph = builder.compile(checkpointer=twin)
    config = thread()
    for number in range(8):
        graph.invoke({"messages": [HumanMessage("h" * 400, id=f"h{number}")]}, config)
    state = graph.get_state(config).values
    assert [message.id for message in state["messages"]][:3] == ["h0", "a1", "h1"]
    assert type(state["note"]) is Note
    list(graph.get_state_history(config))


def test_values_that_nodes_change_in_place(twin: TwinSaver) -> None:
    """An append was once taken for the only change of a list whose older item a node had edited."""
    ran = 0

    def edit(state: Story) -> Story:
        nonlocal ran
        # Neither saver may see an edit that the other one did not.
        eventually(lambda: twin.written > ran, what="the writes of the input and of the steps before")
        ran += 1
        state["log"][0]["edited"] = state["log"][0].get("edited", 0) + 1
        if len(state["log"]) > 2:
            state["log"][1]["text"] = "shortened"
        return {"log": [{"text": "x" * 500}]}

    builder = StateGraph(Story)
    builder.add_node("edit", edit)
    builder.add_edge(START, "edit")
    builder.add_conditional_edges("edit", lambda state: "edit" if len(state["log"]) < 9 else END)
    graph, config = builder.compile(checkpointer=twin), thread()
    # In sync mode, or a checkpoint that is saved in the background might have seen an edit or not.
    graph.invoke({"log": [{"text": "first" * 200}]}, config, durability="sync")
    assert twin.written == 1 + ran
    newest, before, *_ = graph.get_state_history(config)
    assert [newest.values["log"][0]["edited"], before.values["log"][0]["edited"]] == [8, 7]


def joined(old: list[Any], writes: list[list[Any]]) -> list[Any]:
    return [*old, *(item for write in writes for item in write)]


class Slow(TypedDict, total=False):
    log: Annotated[list[Any], DeltaChannel(joined, snapshot_frequency=4)]
    rare: Annotated[list[Any], DeltaChannel(joined, snapshot_frequency=100)]
    count: int


def delta_graph(saver: Any) -> Graph:
    builder = StateGraph(Slow)
    builder.add_node("one", lambda state: {"log": [f"one{state['count']}"], "count": state["count"] + 1})
    builder.add_node("two", lambda state: {"log": [f"two{state['count']}"], "rare": [state["count"]]})
    builder.add_edge(START, "one")
    builder.add_edge(START, "two")
    builder.add_conditional_edges("one", lambda state: ["one", "two"] if state["count"] < 7 else END)
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_delta_channels(twin: TwinSaver, durability: Durability) -> None:
    graph, config = delta_graph(twin), thread()
    for _ in range(2):
        graph.invoke({"count": 0, "log": ["in"]}, config, durability=durability)
    assert len(graph.get_state(config).values["rare"]) == 14
    history = list(graph.get_state_history(config))
    forked = graph.update_state(history[len(history) // 2].config, {"log": ["changed"]}, as_node="two")
    assert graph.get_state(forked).values["log"][-1] == "changed"
    for snapshot in history:
        assert graph.get_state(snapshot.config).values == snapshot.values


def test_the_functional_interface_retries_and_failures(twin: TwinSaver) -> None:
    tries: list[int] = []

    def steadied(number: int) -> int:
        tries.append(number)
        if len(tries) == 1:
            raise ValueError("once")
        return number * 2

    retry = RetryPolicy(max_attempts=2, initial_interval=0.001, retry_on=ValueError)
    unsteady: Any = cast(Any, task(retry_policy=retry))(steadied)

    @entrypoint(checkpointer=twin)
    def flow(number: int, *, previous: Any = None) -> Any:
        doubled = unsteady(number).result()
        if interrupt(doubled) == "fail":
            raise RuntimeError("failed")
        return entrypoint.final(value=doubled, save=[previous, (doubled,)])

    config, failing = thread(), thread("failing")
    for number, doubled in ((1, 2), (2, 4)):
        flow.invoke(number, config)
        assert flow.invoke(Command(resume="go on"), config) == doubled
    assert tries == [1, 1, 2]
    flow.invoke(3, failing)
    with pytest.raises(RuntimeError, match="failed"):
        flow.invoke(Command(resume="fail"), failing)
    assert flow.get_state(failing).tasks[0].error is not None
    list(flow.get_state_history(config))


def test_async_graphs(twin: TwinSaver) -> None:
    async def story() -> None:
        graph, config = stories(twin), thread()
        await graph.ainvoke({"log": ["start"]}, config)
        await graph.ainvoke(Command(resume="well"), config)
        await graph.ainvoke(Command(resume="bye"), config)
        history = [snapshot async for snapshot in graph.aget_state_history(config)]
        await graph.aupdate_state(history[3].config, {"log": ["changed"]})
        assert len([each async for each in graph.aget_state_history(config)]) == len(history) + 1
        delta, other = delta_graph(twin), thread("delta")
        await delta.ainvoke({"count": 0, "log": ["in"]}, other)
        assert len((await delta.aget_state(other)).values["rare"]) == 7

    asyncio.run(story())
