"""Versions of a graph: what becomes of the state of threads that an older one has left."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Annotated, Any, TypedDict

import pytest

from perdure import CheckpointStore, CompiledGraph, GraphValidationError, Migration, PerdureError
from tests.runtime.engine import THREAD, before, chain, thread


class Old(TypedDict, total=False):
    name: str
    n: int
    items: Annotated[list[str], operator.add]


class New(TypedDict, total=False):
    title: str
    n: str
    items: Annotated[list[str], operator.add]


def renames(state: dict[str, Any]) -> dict[str, Any]:
    state["items"].append("migrated")  # in place: it is a copy
    return {"title": state["name"].upper(), "n": str(state["n"]), "items": state["items"]}


TO_2 = Migration(from_version="1", to_version="2", migrate=renames)
TO_3 = Migration(from_version="2", to_version="3", migrate=lambda state: {**state, "title": state["title"] + "!"})


def old(store: CheckpointStore, version: str = "1", **options: Any) -> CompiledGraph:
    nodes = {"a": lambda state: {"items": ["a"]}, "b": lambda state: {"items": ["old b"]}}
    return chain(nodes, store, Old, version=version, **options)


def new(
    store: CheckpointStore, migrations: Iterable[Migration] = (TO_2,), version: str = "2", **options: Any
) -> CompiledGraph:
    nodes = {"a": lambda _: {"items": ["new a"]}, "b": lambda state: {"items": [f"{state['title']} {state['n']!r}"]}}
    return chain(nodes, store, New, version=version, migrations=migrations, **options)


def stopped(store: CheckpointStore) -> None:
    old(store, interrupt_before=["b"]).invoke({"name": "x", "n": 1}, THREAD)


def test_a_thread_goes_on_with_the_state_of_the_new_version(store: CheckpointStore) -> None:
    stopped(store)
    graph = new(store)
    assert graph.get_state(THREAD).version == "1"
    assert graph.invoke(None, THREAD) == {"title": "X", "n": "1", "items": ["a", "migrated", "X '1'"]}
    states = list(graph.get_state_history(THREAD))
    assert [state.version for state in states] == ["2", "1", "1"]
    assert dict(states[0].values) == {"title": "X", "n": "1", "items": ["a", "migrated", "X '1'"]}
    assert dict(states[1].values)["name"] == "x"
    assert graph.invoke({"n": "5"}, THREAD)["items"][-2:] == ["new a", "X '5'"]


def test_migrations_are_chained(store: CheckpointStore) -> None:
    stopped(store)
    assert new(store, [TO_3, TO_2], "3").invoke(None, THREAD)["items"][-1] == "X! '1'"


def test_an_ended_thread_takes_its_next_input_in_the_new_version(store: CheckpointStore) -> None:
    old(store).invoke({"name": "x", "n": 1}, THREAD)
    assert new(store).invoke({"n": "2"}, THREAD)["items"] == ["a", "old b", "migrated", "new a", "X '2'"]


def test_a_fork_and_a_replay_of_an_old_checkpoint_are_migrated(store: CheckpointStore) -> None:
    old(store).invoke({"name": "x", "n": 1}, THREAD)
    graph = new(store)
    begun = before(graph, "b").config
    fork = graph.fork(begun)
    assert graph.invoke(None, fork)["items"] == ["a", "migrated", "X '1'"]
    assert graph.invoke(None, begun)["items"] == ["a", "migrated", "X '1'"]
    assert [state.version for state in graph.get_state_history(THREAD)][:2] == ["2", "2"]


def test_an_update_is_applied_to_the_new_state(store: CheckpointStore) -> None:
    stopped(store)
    graph = new(store, interrupt_before=["b"])
    graph.update_state(THREAD, {"items": ["u"]})
    assert graph.get_state(THREAD).values == {"title": "X", "n": "1", "items": ["a", "migrated", "u"]}


def test_without_a_way_the_thread_is_paused_until_a_version_fits(store: CheckpointStore) -> None:
    stopped(store)
    for _ in range(2):
        with pytest.raises(PerdureError, match=r"state is that of version 1 .*no migration leads .* version 3"):
            new(store, [TO_3], "3").invoke(None, THREAD)
        assert store.thread("t").status == "paused"
    assert new(store, [TO_2, TO_3], "3").invoke(None, THREAD)["items"][-1] == "X! '1'"


@pytest.mark.parametrize("how", ["update", "fork", "input"])
def test_what_cannot_be_migrated_is_not_called_migrated(store: CheckpointStore, how: str) -> None:
    """A checkpoint on top of it once had the new version, and the old state."""
    stopped(store)
    graph = new(store, [TO_3], "3")
    with pytest.raises(PerdureError, match="no migration leads"):
        if how == "update":
            graph.update_state(THREAD, {"n": "5"})
        elif how == "fork":
            graph.fork(THREAD, {"n": "5"}, thread_id="u")
        else:
            graph.invoke({"n": "5"}, THREAD)
    assert graph.get_state(THREAD).version == "1"
    assert new(store, [TO_2, TO_3], "3").update_state(THREAD, {"items": ["u"]}, as_node="b")
    assert graph.get_state(THREAD).values["title"] == "X!"


def test_a_change_inside_a_container_is_a_change(store: CheckpointStore) -> None:
    class Numbers(TypedDict, total=False):
        items: list[Any]

    def graph(version: str, **options: Any) -> CompiledGraph:
        return chain({"a": lambda _: {}}, store, Numbers, version=version, **options)

    graph("1").invoke({"items": [1, 2]}, THREAD)
    floats = Migration(from_version="1", to_version="2", migrate=lambda state: {"items": [1.0, True]})
    graph("2", migrations=[floats]).update_state(THREAD, {}, as_node="a")
    assert repr(graph("2").get_state(THREAD).values["items"]) == "[1.0, True]"


def test_an_input_waits_where_no_migration_fits(store: CheckpointStore) -> None:
    old(store).invoke({"name": "x", "n": 1}, THREAD)
    with pytest.raises(PerdureError, match="no migration leads"):
        new(store, [TO_3], "3").invoke({"n": "2"}, THREAD)
    assert (store.thread("t").status, len(store.messages("t"))) == ("paused", 1)
    assert new(store, [TO_2, TO_3], "3").invoke(None, THREAD)["items"][-1] == "X! '2'"


def test_an_old_checkpoint_without_a_way_is_not_gone_back_to(store: CheckpointStore) -> None:
    stopped(store)
    graph = new(store)
    graph.invoke(None, THREAD)
    begun = before(graph, "b").config
    later = new(store, [TO_3], "3")
    later.update_state(THREAD, {"n": "9"})
    with pytest.raises(PerdureError, match="no migration leads"):
        later.invoke(None, begun)
    assert later.get_state(THREAD).values["n"] == "9"


@pytest.mark.parametrize(
    ("migrate", "why"),
    [
        (lambda state: state["absent"], "KeyError: 'absent'"),
        (lambda state: None, "returned NoneType"),
        (lambda state: {"zz": 1}, "'zz' is no key"),
    ],
)
def test_a_migration_that_fails_pauses_the_thread(store: CheckpointStore, migrate: Any, why: str) -> None:
    stopped(store)
    with pytest.raises(PerdureError, match=f"migration of its state from version 1 to 2 failed: .*{why}"):
        new(store, [Migration(from_version="1", to_version="2", migrate=migrate)]).invoke(None, THREAD)
    assert new(store).invoke(None, THREAD)["items"][-1] == "X '1'"


@pytest.mark.parametrize(
    "migrations",
    [
        ["what"],
        [TO_2, TO_2],
        [TO_2],
        [Migration(from_version="1", to_version="1", migrate=renames)],
    ],
)
def test_migrations_that_lead_nowhere_are_refused(store: CheckpointStore, migrations: Any) -> None:
    with pytest.raises(GraphValidationError, match="migration"):
        new(store, migrations, "3")


def test_a_graph_without_migrations_goes_on_with_what_fits(store: CheckpointStore) -> None:
    stopped(store)
    assert old(store, "7").invoke(None, THREAD)["items"] == ["a", "old b"]
    assert old(store, "7").get_state(thread("t")).version == "7"
