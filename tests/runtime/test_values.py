"""Values are decoded when somebody looks at them, and those of the past are read only then."""

from __future__ import annotations

import copy
import json
import operator
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from threading import Barrier
from typing import Annotated, Any

import pytest
from typing_extensions import TypedDict

from perdure import (
    END,
    START,
    CheckpointNotFound,
    CheckpointStore,
    Corrupt,
    DisallowedType,
    StateGraph,
    UnknownThread,
    interrupt,
    open_store,
)
from perdure.runtime.clock import SystemClock
from perdure.runtime.inprocess import InProcess
from perdure.runtime.local import LocalExecutor
from perdure.runtime.payloads import RESUME, pack
from perdure.runtime.portal import Portal
from perdure.runtime.snapshots import SnapshotReader
from perdure.runtime.values import LazyValues, Pending, values_at
from perdure.stores.codec import Codec
from perdure.stores.records import Segment
from perdure.stores.segment_codec import decode_segment, encode_segment
from perdure.stores.segments import Kind, Row
from tests.runtime.engine import THREAD, Log, chain, says, until
from tests.runtime.test_engine_damage import change_newest
from tests.sim.faults import Delegating


class CountingCodec(Codec):
    """Counts what it decodes."""

    def __init__(self, types: Any = ()) -> None:
        super().__init__(types)
        self.decoded: list[Any] = []

    def decode(self, encoding: int, payload: bytes | memoryview) -> Any:
        value = super().decode(encoding, payload)
        self.decoded.append(value)
        return value


class ReadingStore(Delegating):
    """Counts what is read of histories."""

    def __init__(self, inner: CheckpointStore) -> None:
        super().__init__(inner)
        self.reads = 0

    def segments(
        self, thread_id: str, *, first: int = 1, last: int | None = None, limit: int | None = None
    ) -> list[Segment]:
        self.reads += 1
        return super().segments(thread_id, first=first, last=last, limit=limit)


class Many(TypedDict, total=False):
    a: str
    b: str
    c: Annotated[list[str], operator.add]
    d: dict[str, int]


def lazy(values: Mapping[str, Any]) -> tuple[LazyValues, list[str]]:
    """Values that note the order in which they are made."""
    made: list[str] = []

    def make(name: str) -> Callable[[], Any]:
        def value() -> Any:
            made.append(name)
            return values[name]

        return value

    return LazyValues({name: Pending(make(name)) for name in values}), made


PLAIN = {"a": "1", "b": [2], "c": {"x": None}}


def test_a_value_is_made_once_and_when_it_is_looked_at() -> None:
    values, made = lazy(PLAIN)
    assert (len(values), list(values), "b" in values, "x" in values, made) == (3, ["a", "b", "c"], True, False, [])
    assert values["b"] is values["b"]
    assert values.get("c") is values.copy()["c"]
    assert values.get("x", 7) == 7
    assert made == ["b", "c"]
    values["a"] = "mine"
    del values["b"]
    assert values == {"a": "mine", "c": {"x": None}}
    assert made == ["b", "c"]


@pytest.mark.parametrize(
    "look",
    [
        lambda values: values == PLAIN,
        lambda values: PLAIN == values,  # noqa: SIM300 — from the other side
        lambda values: values != {**PLAIN, "a": "2"},
        lambda values: values == lazy(PLAIN)[0],
        lambda values: (1, values) == (1, PLAIN),
        lambda values: {**values} == PLAIN,
        lambda values: dict(values) == PLAIN,
        lambda values: values | {"d": 1} == {**PLAIN, "d": 1},
        lambda values: {"a": 0, "d": 1} | values == {"d": 1, **PLAIN},
        lambda values: repr(values) == repr(PLAIN),
        lambda values: list(values.items()) == list(PLAIN.items()),
        lambda values: json.loads(json.dumps(dict(values))) == PLAIN,
        lambda values: type(copy.copy(values)) is dict and copy.copy(values) == PLAIN,
        lambda values: type(copy.deepcopy(values)) is dict and copy.deepcopy(values)["b"] is not values["b"],
        lambda values: type(pickle.loads(pickle.dumps(values))) is dict,
    ],
)
def test_it_looks_like_a_dict(look: Callable[[LazyValues], bool]) -> None:
    assert look(lazy(PLAIN)[0])


def test_what_was_set_meanwhile_stays() -> None:
    """A node that still reads while the loop goes on must not bring the old value back."""
    values, _ = lazy(PLAIN)
    values["a"] = Pending(lambda: values.__setitem__("a", "new") or "old")  # type: ignore[func-returns-value]
    assert values["a"] == "old"
    assert values["a"] == "new"


def test_readers_side_by_side_get_the_same_object() -> None:
    start = Barrier(8)
    made: list[list[int]] = []

    def make() -> list[int]:
        made.append([1])
        return made[-1]

    values = LazyValues({"a": Pending(make)})

    def look(_: int) -> Any:
        start.wait()
        return values["a"]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(look, range(8)))
    assert len(made) == 1
    assert all(one is made[0] for one in found)


def test_rows_are_read_in_two_goes_at_most() -> None:
    codec = Codec()
    encoding, payload = codec.encode("x")
    asked: list[dict[str, int]] = []

    def read(versions: Mapping[str, int]) -> dict[str, list[Row]]:
        asked.append(dict(versions))
        return {
            name: [Row(Kind.VALUE, version, name, version, 0, "", encoding, payload)]
            for name, version in versions.items()
        }

    values = values_at({"a": 1, "b": 2, "c": 3, "d": 4}, read, codec, "t")
    assert asked == []
    assert values["b"] == values["b"] == "x"
    assert asked == [{"b": 2}]
    assert dict(values) == dict.fromkeys("abcd", "x")
    assert asked == [{"b": 2}, {"a": 1, "c": 3, "d": 4}]


def many(store: CheckpointStore, codec: CountingCodec) -> tuple[StateGraph, SnapshotReader]:
    graph = StateGraph(Many).add_node("a", lambda state: {"c": ["x"], "d": {"n": 1}}).add_edge(START, "a")
    graph.add_edge("a", END).compile(store).invoke({"a": "a", "b": "b"}, THREAD)
    return graph, SnapshotReader(store, store.thread("t"), codec)


def test_only_what_is_looked_at_is_decoded(store: CheckpointStore) -> None:
    codec = CountingCodec()
    _, reader = many(store, codec)
    head = reader.head()
    codec.decoded.clear()
    assert head.values["b"] == "b"
    assert codec.decoded == ["b"]
    assert head.values == {"a": "a", "b": "b", "c": ["x"], "d": {"n": 1}}
    assert len(codec.decoded) == 4


def test_a_listing_of_metadata_reads_and_decodes_no_values(store: CheckpointStore) -> None:
    until(40, store).invoke({"n": 0}, {**THREAD, "metadata": {"user": "u"}}, durability="sync")
    reading, codec = ReadingStore(store), CountingCodec()
    shots = list(SnapshotReader(reading, store.thread("t"), codec).history())
    assert [shot.metadata["step"] for shot in shots] == list(range(39, -2, -1))
    assert {shot.metadata["user"] for shot in shots} == {"u"}
    assert len(codec.decoded) == 1, "the run's options, which are metadata"
    before = reading.reads
    assert shots[5].values["n"] == 35
    assert reading.reads > before
    assert len(codec.decoded) == 2


def test_one_state_can_be_looked_at_after_the_store_was_closed(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        graph = until(3, store)
        graph.invoke({"n": 0}, THREAD)
        shot = graph.get_state(THREAD)
    assert shot.values == {"n": 3, "items": []}


def test_a_past_state_of_a_deleted_thread(store: CheckpointStore) -> None:
    graph = until(3, store)
    graph.invoke({"n": 0}, THREAD)
    fresh = SnapshotReader(store, store.thread("t"), graph.codec)
    shots = list(fresh.history())
    assert shots[1].values == {"n": 2}
    store.delete("t")
    with pytest.raises((UnknownThread, CheckpointNotFound)):
        dict(shots[0].values)


def none() -> Portal:
    raise AssertionError("no async nodes here")


class Narrow(TypedDict, total=False):
    a: str


def test_an_owner_decodes_what_its_nodes_read(store: CheckpointStore) -> None:
    def ask(state: Narrow) -> dict[str, Any]:
        return {"c": [state["a"] + interrupt("?")]}

    graph = StateGraph(Many).add_node("ask", ask).add_node("tail", lambda state: {"b": "new"}, input_schema=Narrow)
    graph.add_edge(START, "ask").add_edge("ask", "tail").add_edge("tail", END)
    compiled = graph.compile(store)
    compiled.invoke({"a": "a", "b": "b", "c": ["c"], "d": {"unread": 1}}, THREAD)
    codec = CountingCodec(compiled.topology.types)
    runner = InProcess(
        topology=compiled.topology,
        store=store,
        codec=codec,
        clock=SystemClock(),
        executor=lambda: LocalExecutor(none),
    )
    runner.send("t", RESUME, pack(codec, store.thread("t").waits[0], "!", None))
    codec.decoded.clear()
    settled = runner.run("t")
    assert "a" in codec.decoded
    assert ["c"] in codec.decoded
    assert "b" not in codec.decoded
    assert {"unread": 1} not in codec.decoded
    assert settled.position.values == {"a": "a", "b": "new", "c": ["c", "a!"], "d": {"unread": 1}}


def damage(folder: Path, channel: str) -> None:
    """Make a channel's newest value one that does not decode, in a segment that is sound."""

    def change(data: bytes) -> bytes:
        thread_id, rows = decode_segment(data)
        changed = tuple(
            row._replace(payload=b"\xc1") if row.channel == channel and row.kind != Kind.CHECKPOINT else row
            for row in rows
        )
        return encode_segment(thread_id, changed)

    change_newest(folder, change)


def test_a_damaged_value_stops_the_owner_before_a_node_that_reads_it(sqlite: CheckpointStore, tmp_path: Path) -> None:
    log = Log()
    nodes = {"a": log.node("a"), "b": log.node("b")}
    chain(nodes, sqlite, interrupt_before=["b"]).invoke({"n": 1}, THREAD, durability="exit")
    damage(tmp_path, "n")
    graph = chain(nodes, sqlite, interrupt_before=["b"])
    for _ in range(2):
        with pytest.raises(Corrupt, match=r"thread 't', channel 'n' at version \d+"):
            graph.invoke(None, THREAD)
        assert log.calls == ["a"]
        assert not sqlite.runs("t")[-1].status.ended, "it is no failure of the run: a repaired store lets it go on"
    with pytest.raises(Corrupt, match=r"thread 't', channel 'n' at version \d+"):
        dict(graph.get_state(THREAD).values)
    assert graph.get_state(THREAD).values["items"] == ["a"]
    assert graph.get_state(THREAD).next == ("b",)


def test_a_damaged_value_that_nobody_reads_stops_nobody(sqlite: CheckpointStore, tmp_path: Path) -> None:
    builder = StateGraph(Many).add_node("a", lambda state: {"b": "b"}, input_schema=Narrow).add_edge(START, "a")
    builder.add_node("b", lambda state: {"d": {"n": 1}}, input_schema=Narrow).add_edge("a", "b").add_edge("b", END)
    builder.compile(sqlite, interrupt_before=["b"]).invoke({"a": "a", "d": {}}, THREAD, durability="exit")
    damage(tmp_path, "d")
    graph = builder.compile(sqlite, interrupt_before=["b"])
    assert graph.invoke(None, THREAD) == {"a": "a", "b": "b", "c": [], "d": {"n": 1}}


class Color(Enum):
    RED = 1


def test_a_class_that_is_not_allowed_is_told_when_it_is_looked_at(store: CheckpointStore) -> None:
    nodes = {"a": says(Color.RED)}
    chain(nodes, store, allow=[Color]).invoke({"n": 1}, THREAD)
    shot = chain(nodes, store).get_state(THREAD)
    assert shot.values["n"] == 1
    for _ in range(2):
        with pytest.raises(
            DisallowedType, match=r"thread 't', channel 'items' at version \d+: a stored value"
        ) as caught:
            shot.values["items"]
        assert caught.value.tag.endswith("Color")
