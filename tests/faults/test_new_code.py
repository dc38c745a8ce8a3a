"""Code that was changed while its threads were parked: what fits goes on, what does not stops with the reason."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from perdure import END, START, Command, CompiledGraph, PerdureError, StateGraph, Status, interrupt, open_store
from perdure.stores.base import CheckpointStore

CONFIG = {"configurable": {"thread_id": "t"}}


class Before(TypedDict, total=False):
    n: int
    trail: Annotated[list[str], operator.add]


class Wider(Before, total=False):
    note: str


class Looser(Before, total=False):
    trail: Annotated[list[Any], operator.add]


class OtherType(TypedDict, total=False):
    n: int
    trail: Annotated[int, operator.add]


def first(state: Any) -> dict[str, Any]:
    return {"n": 1, "trail": ["first"]}


def ask(state: Any) -> dict[str, Any]:
    return {"trail": [interrupt("go on?")]}


def after(state: Any) -> dict[str, Any]:
    return {"n": state["n"] + 1, "trail": ["after"]}


def note(state: Any) -> dict[str, Any]:
    return {"note": f"{len(state['trail'])} entries", "trail": ["note"]}


def count(state: Any) -> dict[str, Any]:
    return {"trail": 1}


def chain(schema: type, version: str, store: CheckpointStore, **nodes: Callable[[Any], Any]) -> CompiledGraph:
    """A graph of these nodes, one after the other."""
    builder = StateGraph(schema)
    for name, function in nodes.items():
        builder.add_node(name, function)
    for start, end in zip([START, *nodes], [*nodes, END], strict=True):
        builder.add_edge(start, end)
    return builder.compile(name="changed", version=version, checkpointer=store)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with open_store(f"sqlite:///{tmp_path}/old.db") as opened:
        chain(Before, "1", opened, first=first, ask=ask, after=after).invoke({}, CONFIG)
        assert opened.thread("t").status is Status.INTERRUPTED
        yield opened


def test_a_new_node_and_a_new_channel_fit(store: CheckpointStore) -> None:
    newer = chain(Wider, "2", store, first=first, ask=ask, note=note, after=after)
    state = newer.invoke(Command(resume="yes"), CONFIG)
    assert state == {"n": 2, "trail": ["first", "yes", "note", "after"], "note": "2 entries"}
    assert store.thread("t").status is Status.SUCCEEDED


def test_a_type_that_takes_what_is_there_fits(store: CheckpointStore) -> None:
    looser = chain(Looser, "2", store, first=first, ask=ask, after=after)
    assert looser.invoke(Command(resume=7), CONFIG)["trail"] == ["first", 7, "after"]


def test_a_pending_node_that_is_gone_pauses_and_its_return_goes_on(store: CheckpointStore) -> None:
    without = chain(Before, "2", store, first=first, after=after)
    with pytest.raises(PerdureError, match=r"paused: .*version 2 has no node 'ask'.*update_state"):
        without.invoke(Command(resume="yes"), CONFIG)
    assert store.thread("t").status is Status.PAUSED
    again = chain(Before, "3", store, first=first, ask=ask, after=after)
    assert again.invoke(None, CONFIG)["trail"] == ["first", "yes", "after"]


def test_a_channel_of_another_type_pauses_and_the_old_code_goes_on(store: CheckpointStore) -> None:
    other = chain(OtherType, "2", store, first=first, ask=count, after=lambda state: {"n": 5})
    with pytest.raises(PerdureError, match="paused: "):
        other.invoke(Command(resume="yes"), CONFIG)
    row = store.thread("t")
    assert row.status is Status.PAUSED
    assert row.reason == (
        "graph 'changed' version 2 has channel 'trail' as int, but it was list[str] when this run began, and holds a "
        "value of type list; deploy a version in which it is list[str] and retry, and give what is of another type a "
        "key of its own"
    )
    with pytest.raises(PerdureError, match="paused: "):
        other.invoke(None, CONFIG)
    again = chain(Before, "3", store, first=first, ask=ask, after=after)
    assert again.invoke(None, CONFIG)["trail"] == ["first", "yes", "after"]
