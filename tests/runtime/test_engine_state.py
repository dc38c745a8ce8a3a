"""States of every kind, reducers, several runs of a thread, and what its history tells."""

from __future__ import annotations

import operator
import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

import pytest
from pydantic import BaseModel

from perdure import (
    END,
    START,
    CheckpointNotFound,
    CheckpointStore,
    InputError,
    StateGraph,
    StateValidationError,
    UnknownThread,
    add_messages,
)
from tests.runtime.engine import THREAD, State, Sum, chain, history, says, story, thread, until


@dataclass
class Account:
    owner: str
    total: int = 0
    log: Annotated[list[str], operator.add] = field(default_factory=list)


class Order(BaseModel):
    product: str
    amount: int = 1
    notes: Annotated[list[str], operator.add] = []


class Many(TypedDict, total=False):
    words: Annotated[list[str], operator.add]
    facts: Annotated[dict[str, int], operator.or_]
    tags: Annotated[set[str], operator.or_]
    total: Annotated[int, operator.add]
    text: Annotated[str, operator.add]
    best: Annotated[int, max]
    messages: Annotated[list[Any], add_messages]


def test_a_dataclass_state_is_handed_to_nodes_as_itself(store: CheckpointStore) -> None:
    seen: list[Account] = []

    def deposit(account: Account) -> dict[str, Any]:
        seen.append(account)
        return {"total": account.total + 5, "log": ["deposit"]}

    graph = chain({"deposit": deposit, "again": deposit}, store, Account)
    assert graph.invoke({"owner": "ann"}, THREAD) == {"owner": "ann", "total": 10, "log": ["deposit", "deposit"]}
    assert seen == [Account("ann"), Account("ann", 5, ["deposit"])]
    assert graph.invoke(Account("bob", 1), thread("u"))["total"] == 11


def test_a_pydantic_state_is_validated_where_it_is_written(store: CheckpointStore) -> None:
    def double(order: Order) -> dict[str, Any]:
        assert isinstance(order, Order)
        return {"amount": str(order.amount * 2), "notes": ["doubled"]}

    graph = chain({"double": double}, store, Order)
    assert graph.invoke(Order(product="tea", amount=2), THREAD) == {"product": "tea", "amount": 4, "notes": ["doubled"]}
    with pytest.raises(StateValidationError, match="'amount'"):
        graph.invoke({"product": "tea", "amount": "many"}, thread("u"))
    with pytest.raises(UnknownThread):
        store.thread("u")

    broken = chain({"double": lambda order: {"amount": "lots"}}, store, Order)
    with pytest.raises(StateValidationError, match="node 'double' returned does not fit Order in 'amount'"):
        broken.invoke({"product": "tea"}, thread("v"))
    assert broken.get_state(thread("v")).next == ("double",)


def test_reducers_of_every_kind_survive_the_store(store: CheckpointStore) -> None:
    def step(state: dict[str, Any]) -> dict[str, Any]:
        turn = len(state["words"])
        return {
            "words": [f"w{turn}"],
            "facts": {f"f{turn}": turn},
            "tags": {f"t{turn}"},
            "total": turn,
            "text": str(turn),
            "best": turn % 3,
            "messages": [{"role": "user", "content": f"m{turn}", "id": f"m{turn % 4}"}],
        }

    builder = StateGraph(Many)
    builder.add_node("step", step)
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", lambda state: "step" if len(state["words"]) < 12 else END, ["step", END])
    graph = builder.compile(store)
    result = graph.invoke({"best": 0}, THREAD)
    assert result["words"] == [f"w{turn}" for turn in range(12)]
    assert result["facts"] == {f"f{turn}": turn for turn in range(12)}
    assert result["tags"] == {f"t{turn}" for turn in range(12)}
    assert (result["total"], result["text"], result["best"]) == (66, "01234567891011", 2)
    assert [message["content"] for message in result["messages"]] == ["m8", "m9", "m10", "m11"]
    assert graph.get_state(THREAD).values == result
    # every older state is that of its own step, and not touched by those after it
    for turn, shot in enumerate(history(graph)[1:], start=1):
        assert shot.values["words"] == [f"w{one}" for one in range(turn)]
        assert shot.values["total"] == sum(range(turn))


def test_a_node_that_changes_its_state_in_place_does_not_change_the_past(store: CheckpointStore) -> None:
    def append(state: dict[str, Any]) -> dict[str, Any]:
        return {"items": [len(state["items"])]}

    graph = chain({"a": append, "b": append}, store)
    result = graph.invoke({}, THREAD)
    result["items"].append("by the caller")
    assert [shot.values["items"] for shot in history(graph)] == [[], [0], [0, 1]]
    assert graph.invoke({}, THREAD)["items"] == [0, 1, 2, 3]


def test_runs_of_one_thread_follow_each_other(store: CheckpointStore) -> None:
    graph = chain({"a": lambda state: {"items": [state["n"]], "n": state["n"] + 1}}, store)
    assert graph.invoke({"n": 1}, THREAD) == {"n": 2, "items": [1]}
    assert graph.invoke({"n": 10}, THREAD) == {"n": 11, "items": [1, 10]}
    assert graph.invoke({"items": ["in"]}, THREAD) == {"n": 12, "items": [1, 10, "in", 11]}
    assert [run.status for run in store.runs("t")] == ["succeeded"] * 3
    assert [shot.metadata["run"] for shot in history(graph)] == [1, 1, 2, 2, 3, 3]
    assert graph.invoke({"n": 0}, thread("other")) == {"n": 1, "items": [0]}


def test_the_history_tells_each_step(store: CheckpointStore) -> None:
    graph = chain({"a": says("a"), "b": says("b")}, store)
    graph.invoke({"n": 1}, {**THREAD, "metadata": {"who": "ann"}, "tags": ["x"]})
    assert story(graph) == [
        ("input", ("a",), {"n": 1, "items": []}),
        ("loop", ("b",), {"n": 1, "items": ["a"]}),
        ("loop", (), {"n": 1, "items": ["a", "b"]}),
    ]
    shots = history(graph)
    assert [shot.metadata["step"] for shot in shots] == [-1, 0, 1]
    assert [shot.metadata["writes"] for shot in shots] == [[], ["a"], ["b"]]
    assert all(shot.metadata["who"] == "ann" and shot.metadata["tags"] == ["x"] for shot in shots)
    assert [shot.parent_config for shot in shots] == [None, shots[0].config, shots[1].config]
    assert [shot.checkpoint_id for shot in shots] == sorted(shot.checkpoint_id for shot in shots)
    for shot in shots:
        assert graph.get_state(shot.config) == shot
    assert graph.get_state(THREAD) == shots[-1]


def test_the_history_can_be_filtered_and_paged(store: CheckpointStore) -> None:
    graph = until(4, store)
    graph.invoke({"n": 0}, THREAD)
    newest_first = list(graph.get_state_history(THREAD))
    assert len(newest_first) == 5
    assert list(graph.get_state_history(THREAD, limit=2)) == newest_first[:2]
    assert list(graph.get_state_history(THREAD, before=newest_first[1].config)) == newest_first[2:]
    assert list(graph.get_state_history(THREAD, filter={"source": "loop"}, limit=3)) == newest_first[:3]
    assert [shot.values["n"] for shot in graph.get_state_history(THREAD, filter={"step": 1})] == [2]


def test_a_thread_that_is_not_there(store: CheckpointStore) -> None:
    graph = chain({"a": says("a")}, store)
    assert graph.get_state(THREAD).values == {}
    assert list(graph.get_state_history(THREAD)) == []
    with pytest.raises(UnknownThread, match="'t'"):
        graph.invoke(None, THREAD)
    with pytest.raises(CheckpointNotFound, match="0000000007"):
        graph.get_state(thread("t", checkpoint_id="0000000007"))
    graph.invoke({}, THREAD)
    for wrong in ("0000000099", "no number", "-1"):
        with pytest.raises(CheckpointNotFound, match="get_state_history"):
            graph.get_state(thread("t", checkpoint_id=wrong))


def test_input_that_cannot_be_used_is_refused_before_anything_is_kept(store: CheckpointStore) -> None:
    graph = chain({"a": says("a")}, store)
    for wrong, why in (({"zz": 1}, "'zz'"), ([1], "list"), ("text", "str"), (5, "int")):
        with pytest.raises(InputError, match=why):
            graph.invoke(wrong, THREAD)
    with pytest.raises(InputError, match="thread_id"):
        graph.invoke({"n": 1})
    with pytest.raises(InputError, match="recursion_limit"):
        graph.invoke({"n": 1}, {**THREAD, "recursion_limit": 0})
    with pytest.raises(InputError, match="durability 'often'"):
        graph.invoke({"n": 1}, THREAD, durability="often")
    with pytest.raises(InputError, match="'b', which is no node"):
        graph.invoke({"n": 1}, THREAD, interrupt_before=["b"])
    with pytest.raises(InputError, match="'thread'"):
        graph.invoke({"n": 1}, {"thread": "t"})
    assert store.threads().threads == ()


def test_thread_ids_may_be_numbers_and_uuids(store: CheckpointStore) -> None:
    graph = chain({"a": says("a")}, store)
    name = uuid.uuid4()
    graph.invoke({}, {"configurable": {"thread_id": 7}})
    graph.invoke({}, {"configurable": {"thread_id": name}})
    assert {row.thread_id for row in store.threads().threads} == {"7", str(name)}
    with pytest.raises(InputError, match="thread_id"):
        graph.invoke({}, {"configurable": {"thread_id": ["t"]}})


@pytest.mark.parametrize("text", ["grüße 🎉 \u2028 \x00 \ud7ff", "x" * 3_000_000, ""], ids=["unicode", "big", "empty"])
def test_texts_of_any_kind_come_back(store: CheckpointStore, text: str) -> None:
    graph = chain({"a": says({text[:50]: text}), "b": says(text.encode())}, store)
    assert graph.invoke({"items": [text]}, THREAD)["items"] == [text, {text[:50]: text}, text.encode()]
    assert graph.get_state(THREAD).values["items"] == [text, {text[:50]: text}, text.encode()]


def test_names_may_be_unicode(store: CheckpointStore) -> None:
    graph = chain({"prüfen": says("ok"), "送信": says("gesendet")}, store)
    config = thread("thread ünïcode 🎉")
    assert graph.invoke({}, config)["items"] == ["ok", "gesendet"]
    assert [shot.metadata["writes"] for shot in history(graph, config)] == [[], ["prüfen"], ["送信"]]


def test_input_and_output_schemas_are_views_of_the_state(store: CheckpointStore) -> None:
    class Question(TypedDict):
        q: str

    class Answer(TypedDict):
        a: str

    class Whole(Question, Answer):
        draft: str

    builder = StateGraph(Whole, input_schema=Question, output_schema=Answer)
    builder.add_node("draft", lambda state: {"draft": state["q"] + "?"})
    builder.add_node("answer", lambda state: {"a": state["draft"] + "!"})
    builder.add_edge(START, "draft").add_edge("draft", "answer").add_edge("answer", END)
    graph = builder.compile(store)
    assert graph.invoke({"q": "why"}, THREAD) == {"a": "why?!"}
    assert graph.get_state(THREAD).values == {"q": "why", "draft": "why?", "a": "why?!"}
    with pytest.raises(InputError, match="'draft'"):
        graph.invoke({"q": "why", "draft": "x"}, THREAD)


def test_nodes_are_handed_the_config_of_the_call(store: CheckpointStore) -> None:
    def node(state: State, config: dict[str, Any]) -> dict[str, Any]:
        inner = config["configurable"]
        return {"items": [inner.get("user"), inner["thread_id"], config["metadata"].get("why")]}

    graph = chain({"a": node}, store)
    config = {"configurable": {"thread_id": "t", "user": "ann"}, "metadata": {"why": "test"}}
    assert graph.invoke({}, config)["items"] == ["ann", "t", "test"]
    assert graph.invoke({}, THREAD)["items"][3:] == [None, "t", None]


def test_an_empty_input_runs_the_graph(store: CheckpointStore) -> None:
    graph = chain({"a": lambda state: {"v": 1}}, store, Sum)
    assert graph.invoke({}, THREAD) == {"v": 1}
    assert graph.invoke({}, THREAD) == {"v": 2}
