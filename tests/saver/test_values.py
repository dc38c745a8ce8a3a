"""What comes back is what was put: of the same types, whatever was edited meanwhile, and by whose serializer."""

from __future__ import annotations

import copy
from collections import deque
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Interrupt, Send
from pydantic import BaseModel

from perdure.saver import PerdureSaver
from perdure.stores.errors import Corrupt, Unencodable
from perdure.stores.memory import MemoryStore
from perdure.stores.segments import Kind
from tests.saver.puts import Run, at, values_at, writes_at


class Model(BaseModel):
    text: str
    when: datetime


class Point(NamedTuple):
    x: int
    y: int


class Unknown:
    __slots__ = ("a",)

    def __init__(self) -> None:
        self.a = 1


KEPT: list[Any] = [
    None,
    True,
    1,
    1.5,
    2**70,
    "text \ud800 é",
    b"bytes",
    bytearray(b"x"),
    (1, (2, [3])),
    {1, 2},
    frozenset({"a"}),
    {1: "a", "1": "b", (2, 3): None},
    Decimal("1.10"),
    UUID(int=5),
    datetime(2025, 1, 1, tzinfo=UTC),
    deque([1, 2]),
    HumanMessage("hi", id="1"),
    [AIMessage("a", id="2"), ("tuple", {"in": (1, 2)})],
    {"deep": [{"deeper": [Model(text="x", when=datetime(2025, 1, 1)), (1,)]}]},
    Model(text="x", when=datetime(2025, 1, 1, tzinfo=UTC)),
    Point(1, 2),
    Send("node", {"a": 1}),
    Interrupt(value={"a": 1}, id="i"),
    ({"a": HumanMessage("in a tuple", id="3")},),
]


def typed(value: Any) -> Any:
    """A value with the types at every depth that containers have."""
    if isinstance(value, dict):
        return type(value), [(typed(key), typed(item)) for key, item in value.items()]
    if type(value) in (list, tuple, deque):
        return type(value), [typed(item) for item in value]
    return type(value), value


@pytest.mark.parametrize("value", KEPT, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_as_it_was(saver: PerdureSaver, value: Any) -> None:
    config = Run(saver).put({"value": value, "list": [value, "x" * 600]})
    saver.put_writes(config, [("value", value)], "task")
    found = values_at(saver, config)
    assert typed(found["value"]) == typed(value)
    assert typed(found["list"]) == typed([value, "x" * 600])
    assert typed(writes_at(saver, config)[0][2]) == typed(value)


def test_arrays_and_tables(saver: PerdureSaver) -> None:
    array, table = np.arange(1000, dtype=np.int16).reshape(10, 100), pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    found = values_at(saver, Run(saver).put({"array": array, "table": table}))
    assert found["array"].dtype == array.dtype
    np.testing.assert_array_equal(found["array"], array)
    pd.testing.assert_frame_equal(found["table"], table)


def test_what_cannot_be_kept_is_named_and_nothing_is_pickled(saver: PerdureSaver) -> None:
    run = Run(saver)
    config = run.put({"fine": 1})
    with pytest.raises(Unencodable, match=r"thread 't': channel 'bad'.*Unknown"):
        run.put({"bad": [1, Unknown()]})
    with pytest.raises(Unencodable, match="a write of task task to 'bad'"):
        saver.put_writes(config, [("bad", Unknown())], "task")
    assert writes_at(saver, config) == []
    with PerdureSaver("memory://", serde=JsonPlusSerializer(pickle_fallback=True)) as trusting:
        assert type(values_at(trusting, Run(trusting).put({"bad": Unknown()}))["bad"]) is Unknown


class Cipher:
    """Not one to use."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return "flip", bytes(byte ^ 0x55 for byte in plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        assert ciphername == "flip"
        return bytes(byte ^ 0x55 for byte in ciphertext)


def test_a_serializer_that_encrypts_is_asked_for_everything() -> None:
    store = MemoryStore()
    saver = PerdureSaver(store, serde=EncryptedSerializer(Cipher()))
    run = Run(saver)
    run.put({"log": ["secret" * 200]}, about="secret")
    config = run.put({"log": ["secret" * 200, "secret too"]})
    saver.put_writes(config, [("log", "secret")], "task")
    thread = store.threads().threads[0].thread_id
    rows = [row for segment in store.segments(thread) for row in segment.rows]
    assert {row.kind for row in rows} == {Kind.CHECKPOINT, Kind.VALUE, Kind.DELTA, Kind.RESULT}
    assert not any(b"secret" in row.payload for row in rows)
    assert values_at(saver, config)["log"] == ["secret" * 200, "secret too"]
    assert writes_at(saver, config) == [("task", "log", "secret")]
    with pytest.raises(Corrupt, match="another serde"):
        PerdureSaver(store).get_tuple(config)


ITEMS = st.one_of(
    st.text(max_size=3),
    st.integers(-3, 3),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False, width=16),
    st.binary(max_size=16),
    st.lists(st.integers(0, 2), max_size=2),
    st.tuples(st.integers(0, 1), st.text(max_size=1)),
    st.dictionaries(st.sampled_from(["id", "text"]), st.sampled_from(["a", "b"]), max_size=2),
    st.builds(HumanMessage, st.text(max_size=2), id=st.sampled_from(["1", "2"])),
)
KEYS = st.one_of(st.text(max_size=1), st.integers(0, 2), st.booleans(), st.none())
STATES = st.one_of(
    st.lists(ITEMS, max_size=8),
    st.dictionaries(KEYS, ITEMS, max_size=6),
    st.sets(st.one_of(st.text(max_size=1), st.integers(0, 5), st.booleans()), max_size=6),
    st.text(max_size=8).map(lambda text: "base" * 200 + text),
    st.binary(max_size=8).map(lambda data: bytes(600) + data),
)
PADDING = "p" * 600
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), ITEMS),
        st.tuples(st.just("edit"), ITEMS),
        st.tuples(st.just("remove"), st.integers(0, 8)),
        st.tuples(st.just("replace"), STATES),
        st.tuples(st.just("back"), st.integers(0, 20)),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=14,
)


def edited(state: Any, how: str, what: Any) -> Any:
    """The state after an edit, which changes parts of it in place."""
    if how == "replace":
        return [PADDING, *what] if type(what) is list else {"pad": PADDING, **what} if type(what) is dict else what
    if type(state) is list:
        if how == "append":
            return [*state, what]
        if how == "remove":
            return [item for place, item in enumerate(state) if place != what]
        for item in state:
            if isinstance(item, dict):
                item["text"] = what if isinstance(what, str) else "edited"
            elif isinstance(item, HumanMessage):
                item.content = "edited"
        state.reverse()
    elif type(state) is dict:
        if how == "append":
            state[len(state) % 3] = what
        else:
            state.pop(next(iter(state), None), None)
    elif type(state) is set:
        state.add(repr(what))
    elif isinstance(state, str):
        return state + repr(what)
    return state


@settings(max_examples=150, deadline=None)
@given(EDITS)
def test_any_history_of_edits_reads_back_exactly(edits: list[tuple[str, Any]]) -> None:
    """Every checkpoint of it, by the saver that wrote it and by one that remembers nothing."""
    store = MemoryStore()
    run = Run(PerdureSaver(store))
    state: Any = [PADDING]
    wanted = [(run.put({"state": state, "other": 1}), copy.deepcopy(state))]
    for how, what in edits:
        if how == "restart":
            run.saver = PerdureSaver(store)
        elif how == "back":
            config, _ = wanted[what % len(wanted)]
            run.go_back(config)
            state = run.values["state"]
        else:
            state = edited(state, how, copy.deepcopy(what))
            wanted.append((run.put({"state": state}), copy.deepcopy(state)))
    for saver in (run.saver, PerdureSaver(store)):
        for config, state in wanted:
            found = values_at(saver, config)
            assert typed(found["state"]) == typed(state)
            assert found["other"] == 1


def test_the_newest_is_the_one_with_the_highest_id_whoever_came_last(saver: PerdureSaver) -> None:
    run = Run(saver)
    for name in ("b", "d", "a", "c"):
        run.put({"name": name}, checkpoint_id=name)
    assert values_at(saver, at("t"))["name"] == "d"
    assert [found.checkpoint["id"] for found in saver.list(at("t"))] == ["d", "c", "b", "a"]
    other = PerdureSaver(saver.store)
    assert [values_at(other, at("t", name))["name"] for name in "abcd"] == ["a", "b", "c", "d"]
    assert other.get_tuple(at("t", "bb")) is None


def test_a_checkpoint_put_again_replaces_the_one_before(saver: PerdureSaver) -> None:
    run = Run(saver)
    for name in ("a", "b"):
        config = run.put({"name": name}, checkpoint_id=name)
        saver.put_writes(config, [("x", name)], "task")
    run.config = at("t", "a")
    config = run.put({"name": "again"}, checkpoint_id="b")
    run.put({"name": "c"}, checkpoint_id="c")
    assert [found.checkpoint["id"] for found in saver.list(at("t"))] == ["c", "b", "a"]
    for each in (saver, PerdureSaver(saver.store)):
        assert values_at(each, config)["name"] == "again"
        assert writes_at(each, config) == [("task", "x", "b")]
