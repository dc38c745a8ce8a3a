"""What was read once is not read again; it never changes, and which checkpoint is the newest is always asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from perdure import (
    END,
    START,
    CacheOptions,
    CheckpointStore,
    Command,
    CompiledGraph,
    GraphValidationError,
    InputError,
    StateGraph,
    interrupt,
)
from perdure.runtime.cache import ReadCache
from perdure.runtime.preload import preload
from perdure.runtime.restore import Restored, restore
from perdure.runtime.snapshots import SnapshotReader
from perdure.stores.history import HistoryReader
from perdure.stores.memory import MemoryStore
from perdure.stores.records import Origin, ThreadRecord
from perdure.stores.segment_reading import COMMIT
from perdure.stores.segments import Kind, Row
from tests.runtime.engine import THREAD, State, asks, chain, history, says, thread, until
from tests.runtime.test_values import ReadingStore

NOTHING = CacheOptions(max_bytes=0)


@pytest.fixture
def reading(store: CheckpointStore) -> ReadingStore:
    return ReadingStore(store)


def big_then_ask(store: CheckpointStore, **options: Any) -> CompiledGraph:
    """A large state, then a question."""

    def big(state: State) -> dict[str, Any]:
        return {"items": ["x" * 100_000 for _ in range(20)]}

    return chain({"big": big, "ask": asks("?"), "last": says("last")}, store, **options)


def test_a_thread_that_wakes_where_it_was_parked_is_not_read(reading: ReadingStore) -> None:
    graph = big_then_ask(reading)
    graph.invoke({"n": 1}, THREAD)
    reading.reads = 0
    assert len(graph.invoke(Command(resume="!"), THREAD)["items"]) == 22
    graph.invoke({"n": 2}, THREAD)
    assert reading.reads == 0
    other = big_then_ask(reading)
    assert other.get_state(THREAD).values["n"] == 2
    assert reading.reads > 0


def test_it_is_read_where_it_was_not_parked(reading: ReadingStore) -> None:
    big_then_ask(reading).invoke({"n": 1}, THREAD)
    reading.reads = 0
    assert len(big_then_ask(reading).invoke(Command(resume="!"), THREAD)["items"]) == 22
    assert reading.reads > 0


def test_a_thread_that_is_too_large_is_read_anew(reading: ReadingStore) -> None:
    graph = big_then_ask(reading, cache=CacheOptions(max_bytes=100_000))
    graph.invoke({"n": 1}, THREAD)
    reading.reads = 0
    assert len(graph.invoke(Command(resume="!"), THREAD)["items"]) == 22
    assert reading.reads > 0


def test_only_what_is_new_is_read(reading: ReadingStore) -> None:
    writer = chain({"a": says("x" * 50_000)}, reading.inner, cache=NOTHING)
    reader = chain({"a": says()}, reading)
    for turn in range(1, 30):
        writer.invoke({"n": turn}, THREAD)
        reading.reads = 0
        shot = reader.get_state(THREAD)
        assert (shot.values["n"], len(shot.values["items"])) == (turn, turn)
        assert reading.reads <= 3, "not the whole list again"
        assert reader.get_state(THREAD).values == shot.values
        assert reading.reads <= 3, "nothing new"


@pytest.mark.parametrize("node", [1, 2], ids=["reader", "owner"])
def test_a_cached_value_changes_under_nobody(store: CheckpointStore, node: int) -> None:
    def spoil(state: State) -> dict[str, Any]:
        state["items"].append("spoilt in place")
        return {"items": [interrupt("?")]}

    graph = chain({"a": says("a"), "spoil": spoil}, store)
    graph.invoke({"n": 1}, THREAD)
    if node == 1:
        graph.get_state(THREAD).values["items"].append("spoilt by a reader")
        next(iter(history(graph))).values["items"].append("spoilt by a reader")
    assert graph.get_state(THREAD).values["items"] == ["a"]
    found = graph.invoke(Command(resume="!"), THREAD)
    found["items"].append("spoilt by the caller")
    fresh = chain({"a": says()}, store).get_state(THREAD).values
    assert graph.get_state(THREAD).values == fresh
    assert graph.invoke({"n": 2}, thread("u"))["__interrupt__"]


def test_a_thread_made_anew_under_the_same_id(store: CheckpointStore) -> None:
    graph = chain({"a": says("a")}, store)
    for turn in (1, 2):
        graph.invoke({"n": turn}, THREAD)
        assert graph.get_state(THREAD).values["n"] == turn
        assert [shot.values.get("n") for shot in history(graph)] == [turn, turn]
        store.delete("t")


def record(**fields: Any) -> ThreadRecord:
    return replace(ThreadRecord(thread_id="t", graph="g", version="1", created_at=5.0, epoch=3, seq=10), **fields)


ROW = Row(Kind.VALUE, 7, "n", 7, 0, "", 0, b"x" * 600)


@pytest.mark.parametrize(
    ("now", "same"),
    [
        ({}, True),
        ({"seq": 11}, True),
        ({"epoch": 4, "seq": 12}, True),
        ({"created_at": 6.0}, False),
        ({"seq": 9}, False),
        ({"epoch": 2}, False),
        ({"thread_id": "u"}, False),
    ],
    ids=str,
)
def test_what_is_another_thread_under_the_same_id(now: dict[str, Any], same: bool) -> None:
    """Deleted and made anew, or put back to an older state from a backup."""
    cache = ReadCache()
    cache.of(record()).put(("n", 7), [ROW])
    assert (cache.of(record(**now)).get(("n", 7)) is not None) == same


def test_its_bounds() -> None:
    cache = ReadCache(CacheOptions(max_bytes=5_000))
    known = cache.of(record())
    for seq in range(20):
        known.put(("n", seq), [ROW._replace(version=seq)])
    assert cache.bytes <= 5_000
    assert [seq for seq in range(20) if known.get(("n", seq))] == [15, 16, 17, 18, 19]
    assert known.get(("n", 15))
    known.put(("n", 20), [ROW])
    assert known.get(("n", 15)), "the least recently used goes first"
    assert not known.get(("n", 16))
    known.put(("n", 21), [ROW] * 10)
    assert not known.get(("n", 21))
    few = ReadCache(CacheOptions(max_entries=2))
    for seq in range(5):
        few.of(record()).put(("n", seq), [ROW])
    assert len(few) == 2
    none = ReadCache(NOTHING)
    none.of(record()).put((COMMIT, 1), [])
    assert len(none) == 0


@pytest.mark.parametrize("wrong", [{"max_bytes": -1}, {"max_bytes": 1.5}, {"max_entries": True}])
def test_bad_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        CacheOptions(**wrong)
    with pytest.raises(GraphValidationError, match="CacheOptions"):
        until(1, MemoryStore(), cache=5)


def test_a_checkpoint_to_come_is_not_taken_for_absent(store: CheckpointStore) -> None:
    graph = until(2, store)
    graph.invoke({"n": 0}, THREAD, durability="sync")
    cache, row = ReadCache(), store.thread("t")
    with pytest.raises(LookupError):
        SnapshotReader(store, row, graph.codec, cache=cache).at(row.seq + 1)
    graph.invoke({"n": 0}, THREAD, durability="sync")
    row = store.thread("t")
    reader = SnapshotReader(store, row, graph.codec, cache=cache)
    wanted = SnapshotReader(store, row, graph.codec)
    assert [reader.at(shot_id(shot)) for shot in wanted.history()] == list(wanted.history())


def shot_id(shot: Any) -> int:
    return int(shot.checkpoint_id)


def test_a_history_and_its_forks_are_read_once(reading: ReadingStore) -> None:
    graph = until(5, reading, cache=NOTHING)
    graph.invoke({"n": 0}, THREAD, durability="sync")
    cache, row = ReadCache(), reading.thread("t")
    states = [dict(shot.values) for shot in SnapshotReader(reading, row, graph.codec, cache=cache).history()]
    reading.reads = 0
    again = [dict(shot.values) for shot in SnapshotReader(reading, row, graph.codec, cache=cache).history()]
    assert again == states
    assert reading.reads <= 2, "only the listing itself"
    fork = replace(row, thread_id="f", origin=Origin(thread_id="t", seq=3), seq=3, head=3, inbox=0)
    reading.create(fork)
    reading.reads = 0
    forked = SnapshotReader(reading, reading.thread("f"), graph.codec, cache=cache)
    assert dict(forked.head().values) == states[-3]
    assert reading.reads == 0


def test_what_is_cached_and_leads_nowhere_is_read_anew(store: CheckpointStore) -> None:
    graph = chain({"a": says("a"), "b": says("b")}, store)
    graph.invoke({"n": 1}, THREAD)
    row, cache = store.thread("t"), ReadCache()
    version = SnapshotReader(store, row, graph.codec).head()
    lost = Row(Kind.DELTA, row.head, "items", row.head, row.head - 90, "", 0, b"")
    cache.of(row).put(("items", row.head), [lost])
    assert SnapshotReader(store, row, graph.codec, cache=cache).head().values == version.values
    assert HistoryReader(store, "t", cache=cache).channels({"items": row.head})["items"]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_what_an_owner_remembers_over_branches(durability: str) -> None:
    """A list that grew for hundreds of commits, was left for a branch from its middle, and then grew again: what the
    owner remembers of it is the new branch's. (It once was both.)"""
    store = ReadingStore(MemoryStore())
    builder = StateGraph(State).add_node("grow", lambda state: {"n": state["n"] + 1, "items": [state["n"]]})
    builder.add_edge(START, "grow")
    builder.add_conditional_edges("grow", lambda state: "grow" if state["n"] % 300 else END, ["grow", END])
    graph = builder.compile(store)
    graph.invoke({"n": 0}, THREAD)
    middle = next(shot for shot in graph.get_state_history(THREAD) if shot.values["n"] == 200)
    graph.invoke(None, middle.config, durability=durability)
    graph.invoke({"n": 295}, THREAD, durability=durability)
    row = store.thread("t")
    store.reads = 0
    kept = restore(store, row, graph.codec, graph._cache)
    assert kept.position.values["items"] == [*range(300), *range(295, 300)]
    assert store.reads == 0
    assert equal(kept, restore(store, row, graph.codec))


def test_what_is_read_ahead_is_not_read_again(reading: ReadingStore) -> None:
    big_then_ask(reading).invoke({"n": 1}, THREAD)
    graph, cache = big_then_ask(reading), ReadCache()
    assert preload(reading, "t", cache)
    reading.reads = 0
    row = reading.thread("t")
    ahead = restore(reading, row, graph.codec, cache)
    assert reading.reads == 0
    assert equal(ahead, restore(reading, row, graph.codec))


def test_what_was_read_too_early_does_no_harm(reading: ReadingStore) -> None:
    graph, cache = big_then_ask(reading), ReadCache()
    graph.invoke({"n": 1}, THREAD)
    assert preload(reading, "t", cache)
    graph.invoke(Command(resume="!"), THREAD)
    graph.invoke({"n": 2}, THREAD)
    row = reading.thread("t")
    assert equal(restore(reading, row, graph.codec, cache), restore(reading, row, graph.codec))
    assert not preload(reading, "nobody", cache)


def equal(one: Restored, other: Restored) -> bool:
    return (one.position, one.options) == (other.position, other.options)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_what_is_restored_from_a_cache_is_what_the_store_has(store: CheckpointStore, durability: str) -> None:
    builder = StateGraph(State).add_node("split", says("split")).add_node("last", says("last"))
    for name, node in {"a": says("a"), "ask": asks("?"), "ask2": asks("??")}.items():
        builder.add_node(name, node).add_edge("split", name)
    builder.add_edge(START, "split").add_edge(["a", "ask", "ask2"], "last").add_edge("last", END)
    graph = builder.compile(store)
    found: dict[str, Any] = graph.invoke({"n": 1}, THREAD, durability=durability)
    while True:
        row = store.thread("t")
        plain = restore(store, row, graph.codec)
        kept = restore(store, row, graph.codec, graph._cache)
        assert equal(kept, plain)
        if "__interrupt__" not in found:
            break
        answers = {found["__interrupt__"][0].id: "!"}
        found = graph.invoke(Command(resume=answers), THREAD, durability=durability)
