"""`add_messages`: merging by id, removals, ids for those that have none."""

from __future__ import annotations

import dataclasses
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from perdure.runtime.channels import Change
from perdure.runtime.commands import END, START
from perdure.runtime.errors import InvalidUpdateError
from perdure.runtime.graph import StateGraph
from perdure.runtime.messages import REMOVE_ALL_MESSAGES, MessagesState, RemoveMessage, add_messages, message_ids
from perdure.runtime.schema import Schema
from perdure.stores.deltas import Delta, Op
from perdure.stores.segments import Kind


def said(id_: str, text: str = "") -> dict[str, Any]:
    return {"role": "user", "content": text, "id": id_}


def ids(messages: list[Any]) -> list[str]:
    return [one["id"] for one in messages]


def test_new_ones_are_appended_and_known_ones_take_their_place() -> None:
    old = [said("1", "a"), said("2", "b")]
    assert add_messages(old, [said("3"), said("1", "new")]) == [said("1", "new"), said("2", "b"), said("3")]
    assert old == [said("1", "a"), said("2", "b")]
    assert add_messages([], [said("9", "c"), said("9", "d")]) == [said("9", "d")]


def test_shorthands() -> None:
    numbers = count(1)
    with message_ids(lambda: f"id-{next(numbers)}"):
        found = add_messages("hi", ["there", ("assistant", "hello"), {"role": "tool", "content": "x"}])
    assert found == [
        {"role": "user", "content": "hi", "id": "id-1"},
        {"role": "user", "content": "there", "id": "id-2"},
        {"role": "assistant", "content": "hello", "id": "id-3"},
        {"role": "tool", "content": "x", "id": "id-4"},
    ]
    assert add_messages([], said("1")) == [said("1")]


def test_ids_are_random_unless_told() -> None:
    first, second = add_messages([], ["a", "a"])
    assert first["id"] != second["id"]
    assert len(first["id"]) == 36


def test_a_message_without_an_id_is_copied_not_changed() -> None:
    class Model(BaseModel):
        type: str = "human"
        id: str | None = None

    @dataclasses.dataclass
    class Data:
        id: str | None = None

    for message in (Model(), Data(), {"role": "user", "content": ""}):
        (found,) = add_messages([], [message])
        assert type(found) is type(message)
        assert (found["id"] if isinstance(found, dict) else found.id) is not None
        assert message in (Model(), Data(), {"role": "user", "content": ""})


def test_removals() -> None:
    old = [said("1"), said("2"), said("3")]
    assert ids(add_messages(old, [RemoveMessage("2")])) == ["1", "3"]
    assert ids(add_messages(old, {"role": "remove", "id": "1"})) == ["2", "3"]
    assert ids(add_messages(old, SimpleNamespace(type="remove", id="3"))) == ["1", "2"]
    assert add_messages(old, [RemoveMessage("1"), said("1", "back")])[0] == said("1", "back")
    assert ids(add_messages(old, [said("1", "new"), RemoveMessage("1")])) == ["2", "3"]
    assert ids(add_messages(old, [said("4"), RemoveMessage("4")])) == ["1", "2", "3"]
    assert ids(add_messages(old, [said("8"), RemoveMessage(REMOVE_ALL_MESSAGES), said("9")])) == ["9"]
    assert add_messages(old, RemoveMessage(REMOVE_ALL_MESSAGES)) == []
    with pytest.raises(ValueError, match="no message with the id 'x'"):
        add_messages(old, RemoveMessage("x"))


@pytest.mark.parametrize("message", [None, 5, {"content": "no role"}, object(), [["nested"]]])
def test_what_is_no_message(message: Any) -> None:
    with pytest.raises(TypeError, match="message"):
        add_messages([], message)


def test_an_id_that_cannot_be_given() -> None:
    with pytest.raises(TypeError, match="SimpleNamespace has no id"):
        add_messages([], SimpleNamespace(id=None))


def test_the_channel() -> None:
    channel = Schema(MessagesState).channels["messages"]
    assert channel.initial() == []
    old = [said("1"), said("2")]
    grown = channel.merge(old, [("a", [said("3")]), ("b", said("4"))])
    assert [change.value for change in grown.changes] == [Delta(Op.APPEND, [said("3")]), Delta(Op.APPEND, [said("4")])]
    assert grown.tells_writes
    assert channel.updates(grown.changes) == {"a": [said("3")], "b": [said("4")]}
    edited = channel.merge(old, [("a", [said("2", "x"), RemoveMessage("1"), said("3")])])
    assert edited.value == [said("2", "x"), said("3")]
    assert edited.changes == (Change(Kind.DELTA, Delta(Op.MESSAGES, [[(1, said("2", "x"))], [0], [said("3")]]), "a"),)
    assert not edited.tells_writes
    with pytest.raises(InvalidUpdateError, match=r"'messages'.*node 'a'.*no message with the id"):
        channel.merge(old, [("a", RemoveMessage("7"))])


def test_a_graph_of_messages() -> None:
    graph = (
        StateGraph(MessagesState).add_node("a", lambda state: {"messages": "x"}).add_edge(START, "a").add_edge("a", END)
    )
    topology = graph.topology()
    assert RemoveMessage in topology.types
    assert topology.state.view({}) == {"messages": []}
