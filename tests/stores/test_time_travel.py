"""Time travel through the public API, on every store: a state that is changed while its thread waits, and a fork from
each of its checkpoints. The thread that was forked stays as it is, byte for byte."""

from __future__ import annotations

import operator
import sqlite3
from contextlib import closing
from typing import Annotated, Any, TypedDict

import pytest

from perdure import END, START, CheckpointStore, CompiledGraph, StateGraph
from perdure.stores.memory import MemoryStore
from perdure.stores.redis import RedisStore
from tests.stores import postgres_raw, redis_raw

THREAD = {"configurable": {"thread_id": "counter"}}


class Plain(TypedDict, total=False):
    count: int


class Adding(TypedDict, total=False):
    count: Annotated[int, operator.add]


def counter(store: CheckpointStore, schema: type[Any]) -> CompiledGraph:
    """Three nodes, interrupted before B. With a plain key A sets 1, B adds 1, C doubles; with an adding one each adds
    what makes the same of it."""
    adding = schema is Adding
    builder = StateGraph(schema)
    builder.add_node("a", lambda _: {"count": 1})
    builder.add_node("b", lambda state: {"count": 1 if adding else state["count"] + 1})
    builder.add_node("c", lambda state: {"count": state["count"] if adding else state["count"] * 2})
    for start, end in ((START, "a"), ("a", "b"), ("b", "c"), ("c", END)):
        builder.add_edge(start, end)
    return builder.compile(store, interrupt_before=["b"])


def raw(store: CheckpointStore, thread_id: str) -> Any:
    """All that is kept of a thread, as its database has it."""
    if isinstance(store, MemoryStore):
        held = store._threads[thread_id]
        return repr((held.row, held.metadata, held.runs, held.messages, held.segments))
    if isinstance(store, RedisStore):
        # Which forks it has is kept beside the thread; their count, in its row.
        own = {
            redis_raw.key(store, kind, thread_id) for kind in ("row", "runs", "messages", "unread", "segments", "data")
        }
        kept = {key: value for key, value in redis_raw.dump(store).items() if key in own}
        kept[redis_raw.key(store, "row", thread_id)].pop(b"registrations", None)
        return kept
    queries = [
        "SELECT * FROM {}threads WHERE thread_id = {}",
        *(
            "SELECT * FROM {}" + table + " WHERE thread = (SELECT number FROM {}threads WHERE thread_id = {})"
            for table in ("runs", "messages", "segments")
        ),
    ]
    return [sorted(_ask(store, query, thread_id), key=repr) for query in queries]


def _ask(store: CheckpointStore, query: str, thread_id: str) -> list[Any]:
    if store.url.startswith("postgres"):
        return postgres_raw.ask(
            store.url, query.replace("{}", "perdure.", query.count("{}") - 1).format("%s"), thread_id
        )
    with closing(sqlite3.connect(store.url.removeprefix("sqlite:///"))) as database:
        return database.execute(query.replace("{}", "", query.count("{}") - 1).format("?"), (thread_id,)).fetchall()


def counts(graph: CompiledGraph, config: dict[str, Any]) -> list[int | None]:
    """The count at each checkpoint, oldest first."""
    return [state.values.get("count") for state in graph.get_state_history(config)][::-1]


@pytest.mark.parametrize(
    ("schema", "changed", "result"),
    [
        (Plain, 50, (50 + 1) * 2),
        (Adding, 51, (1 + 50 + 1) * 2),
    ],
)
def test_a_changed_state_is_gone_on_with(store: CheckpointStore, schema: type[Any], changed: int, result: int) -> None:
    graph = counter(store, schema)
    assert graph.invoke({}, THREAD)["count"] == 1
    assert graph.get_state(THREAD).next == ("b",)
    graph.update_state(THREAD, {"count": 50})
    state = graph.get_state(THREAD)
    assert (state.values["count"], state.next) == (changed, ("b",))
    assert graph.invoke(None, THREAD)["count"] == result
    kept = counts(graph, THREAD)
    assert [one for one in kept if one] == [1, changed, changed + 1, result]

    before = raw(store, "counter")
    history = list(graph.get_state_history(THREAD))[::-1]
    for number, state in enumerate(history):
        fork = {"configurable": {"thread_id": f"fork-{number}"}}
        graph.fork(state.config, thread_id=f"fork-{number}")
        assert counts(graph, fork) == kept[: number + 1]
        graph.invoke(None, fork)
        if graph.get_state(fork).next:  # before B again
            graph.invoke(None, fork)
        own = counts(graph, fork)
        # What was changed by hand is no node's work: in a fork from before that B makes of 1 what it makes of 1.
        expected = result if number >= kept.index(changed) else (1 + 1) * 2
        assert (own[: number + 1], own[-1], graph.get_state(fork).next) == (kept[: number + 1], expected, ())
    assert raw(store, "counter") == before
    assert counts(graph, THREAD) == kept


def test_branches_in_one_thread_leave_their_history(store: CheckpointStore) -> None:
    graph = counter(store, Plain)
    graph.invoke({}, THREAD)
    graph.invoke(None, THREAD)
    past = next(state for state in graph.get_state_history(THREAD) if state.next == ("b",))
    segments = store.segments("counter")
    graph.update_state(past.config, {"count": 50})
    assert graph.invoke(None, THREAD)["count"] == 102
    assert counts(graph, THREAD) == [None, 1, 2, 4, 50, 51, 102]
    assert list(store.segments("counter"))[-len(segments) :] == list(segments)
    parents = {state.checkpoint_id: state.parent_id for state in graph.get_state_history(THREAD)}
    assert list(parents.values()).count(past.checkpoint_id) == 2
