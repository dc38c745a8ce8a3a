"""What goes wrong in a graph: the error its caller gets, what is kept, and how it goes on."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, TypedDict

import pytest

from perdure import (
    END,
    START,
    CheckpointStore,
    GraphRecursionError,
    InputError,
    InvalidUpdateError,
    RetryPolicy,
    Send,
    StateGraph,
    UnencodableState,
    interrupt,
)
from tests.runtime.engine import THREAD, Log, State, chain, fan, history, says, thread, until


class Broken:
    """A node that raises until it is mended."""

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error
        self.calls = 0

    def __call__(self, state: Any) -> dict[str, Any]:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return {"items": ["mended"]}


def test_a_node_that_raises(store: CheckpointStore) -> None:
    error = KeyError("boom")
    broken = Broken(error)
    log = Log()
    graph = chain({"a": log.node("a"), "bad": broken, "z": log.node("z")}, store)
    with pytest.raises(KeyError) as caught:
        graph.invoke({"n": 1}, THREAD)
    assert caught.value is error
    shot = graph.get_state(THREAD)
    assert (shot.values, shot.next) == ({"n": 1, "items": ["a"]}, ("bad",))
    record = store.thread("t")
    assert (record.status, record.owner, record.reason) == ("failed", "", "KeyError: 'boom'")
    assert [(run.status, run.reason) for run in store.runs("t")] == [("failed", "KeyError: 'boom'")]
    with pytest.raises(KeyError):
        graph.invoke(None, THREAD)
    broken.error = None
    assert graph.invoke(None, THREAD)["items"] == ["a", "mended", "z"]
    assert (log.calls, broken.calls) == (["a", "z"], 3)
    assert [run.status for run in store.runs("t")] == ["succeeded"]


def test_a_finished_task_of_an_unfinished_step_never_runs_again(store: CheckpointStore) -> None:
    log, broken = Log(), Broken(ConnectionError("lost"))
    graph = fan({"a": log.node("a"), "b": broken, "c": log.node("c")}, store, last=log.node("end"))
    inputs: list[Any] = [{}, None]
    for input in inputs:
        with pytest.raises(ConnectionError):
            graph.invoke(input, THREAD)
    assert graph.get_state(THREAD).next == ("b",)
    assert {task.name: task.result for task in graph.get_state(THREAD).tasks if task.result} == {
        "a": {"items": ["a"]},
        "c": {"items": ["c"]},
    }
    broken.error = None
    assert graph.invoke(None, THREAD)["items"] == ["a", "mended", "c", "end"]
    assert sorted(log.calls) == ["a", "c", "end"]
    assert broken.calls == 3


def test_finished_sends_never_run_again(store: CheckpointStore) -> None:
    calls: list[int] = []
    mended: list[bool] = []

    def work(part: int) -> dict[str, Any]:
        calls.append(part)
        if part == 3 and not mended:
            raise ValueError("three")
        return {"items": [part]}

    builder = StateGraph(State).add_node("work", work).add_edge("work", END)
    builder.add_conditional_edges(START, lambda state: [Send("work", one) for one in range(6)], ["work"])
    graph = builder.compile(store)
    with pytest.raises(ValueError, match="three"):
        graph.invoke({}, THREAD)
    mended.append(True)
    assert graph.invoke(None, THREAD)["items"] == list(range(6))
    assert sorted(calls) == [0, 1, 2, 3, 3, 4, 5]


def test_a_failure_beside_an_interrupt(store: CheckpointStore) -> None:
    broken = Broken(ConnectionError("lost"))
    graph = fan({"ask": lambda state: {"items": [interrupt("?")]}, "bad": broken}, store)
    with pytest.raises(ConnectionError):
        graph.invoke({}, THREAD)
    broken.error = None
    stopped = graph.invoke(None, THREAD)
    assert stopped["__interrupt__"][0].value == "?"


def test_a_new_input_after_a_failure(store: CheckpointStore) -> None:
    broken = Broken(ValueError("first"))
    graph = chain({"bad": broken}, store)
    with pytest.raises(ValueError, match="first"):
        graph.invoke({"n": 1}, THREAD)
    broken.error = None
    assert graph.invoke({"n": 2}, THREAD) == {"n": 2, "items": ["mended"]}
    assert [run.status for run in store.runs("t")] == ["failed", "succeeded"]


def test_an_error_that_counts_as_false_is_one(store: CheckpointStore) -> None:
    """As those do which are lists of problems, and have none."""

    class Problems(ConnectionError):
        def __len__(self) -> int:
            return 0

    calls: list[int] = []

    def flaky(state: State) -> dict[str, Any]:
        calls.append(1)
        if len(calls) < 3:
            raise Problems
        return {"items": [len(calls)]}

    policy = RetryPolicy(initial_interval=0.0, max_attempts=3)
    builder = StateGraph(State).add_node("a", flaky, retry_policy=policy).add_edge(START, "a").add_edge("a", END)
    assert builder.compile(store).invoke({}, THREAD)["items"] == [3]


def test_retries_by_policy(store: CheckpointStore) -> None:
    calls: list[int] = []

    def flaky(state: State) -> dict[str, Any]:
        calls.append(1)
        if len(calls) % 3:
            raise ConnectionError("lost")
        return {"items": [len(calls)]}

    def graph(**options: Any) -> Any:
        policy = RetryPolicy(initial_interval=timedelta(milliseconds=5), jitter=False, **options)
        builder = StateGraph(State).add_node("a", flaky, retry_policy=policy).add_edge(START, "a").add_edge("a", END)
        return builder.compile(store)

    assert graph(max_attempts=3).invoke({}, THREAD)["items"] == [3]
    with pytest.raises(ConnectionError):
        graph(max_attempts=2).invoke({}, THREAD)
    assert len(calls) == 5
    calls.clear()
    with pytest.raises(ConnectionError):
        graph(retry_on=ValueError).invoke({}, thread("u"))
    assert len(calls) == 1


def merge(left: list[Any], right: Any) -> list[Any]:
    if right == "bad":
        raise ValueError("unfit")
    return [*left, right]


class Merged(TypedDict, total=False):
    items: Annotated[list[Any], merge]


@pytest.mark.parametrize("place", ["router", "entry", "reducer"])
def test_what_raises_outside_of_nodes(store: CheckpointStore, place: str) -> None:
    def path(state: Any) -> str:
        raise KeyError("path")

    builder = StateGraph(Merged).add_node("a", lambda state: {"items": "bad" if place == "reducer" else "ok"})
    if place == "entry":
        builder.add_conditional_edges(START, path, ["a"]).add_edge("a", END)
    else:
        builder.add_edge(START, "a")
        if place == "router":
            builder.add_conditional_edges("a", path, [END])
        else:
            builder.add_edge("a", END)
    graph = builder.compile(store)
    if place == "reducer":
        with pytest.raises(
            InvalidUpdateError, match=r"'items' .*update \(str\) of node 'a': ValueError: unfit"
        ) as caught:
            graph.invoke({"items": "in"}, THREAD)
        assert isinstance(caught.value.__cause__, ValueError)
    else:
        with pytest.raises(KeyError, match="path"):
            graph.invoke({"items": "in"}, THREAD)
    record = store.thread("t")
    assert (record.status, record.owner) == ("failed", "")
    if place == "entry":
        assert "conditional edge of '__start__' raised KeyError" in record.reason
        with pytest.raises(InputError, match="failed before its first step"):
            graph.invoke(None, THREAD)
    else:
        assert (graph.get_state(THREAD).values, graph.get_state(THREAD).next) == ({"items": ["in"]}, ("a",))


def test_the_recursion_limit(store: CheckpointStore) -> None:
    graph = until(5, store)
    assert graph.invoke({"n": 0}, {**THREAD, "recursion_limit": 5})["n"] == 5
    config = {**thread("u"), "recursion_limit": 3}
    with pytest.raises(GraphRecursionError, match="recursion_limit of 3 steps") as caught:
        graph.invoke({"n": 0}, config)
    assert (caught.value.limit, caught.value.thread_id) == (3, "u")
    assert isinstance(caught.value, RecursionError)
    assert graph.get_state(config).values["n"] == 3
    # it counts anew from there, or goes on with a higher one
    assert graph.invoke(None, config)["n"] == 5
    with pytest.raises(GraphRecursionError):
        graph.invoke({"n": -10}, config)
    assert graph.invoke(None, {**config, "recursion_limit": 100})["n"] == 5


class Secret:
    pass


@dataclass
class Unlisted:
    a: int


@pytest.mark.parametrize(
    ("value", "kind"), [(Secret(), "Secret"), (Unlisted(1), "Unlisted"), ([{"a": {1, open}}], "builtin")]
)
def test_a_value_that_cannot_be_stored(store: CheckpointStore, value: Any, kind: str) -> None:
    graph = chain({"a": says("a"), "bad": lambda state: {"n": value}}, store)
    with pytest.raises(
        UnencodableState, match=rf"channel 'n', written by node 'bad': a value of type .*{kind}"
    ) as caught:
        graph.invoke({"n": 1}, THREAD)
    assert (caught.value.channel, caught.value.node) == ("n", "bad")
    shot = graph.get_state(THREAD)
    assert (shot.values, shot.next, store.thread("t").status) == ({"n": 1, "items": ["a"]}, ("bad",), "failed")
    mended = chain({"a": says("a"), "bad": lambda state: {"n": 5}}, store)
    assert mended.invoke(None, THREAD)["n"] == 5


def test_values_that_cannot_be_stored_in_results_and_sends(store: CheckpointStore) -> None:
    graph = fan({"ok": says("ok"), "bad": lambda state: {"items": [Secret()]}}, store)
    with pytest.raises(UnencodableState, match=r"written by node 'bad': .*Secret"):
        graph.invoke({}, THREAD)
    assert graph.get_state(THREAD).next == ("bad",)
    builder = StateGraph(State).add_node("work", says("w")).add_edge("work", END)
    builder.add_conditional_edges(START, lambda state: [Send("work", Secret())], ["work"])
    with pytest.raises(UnencodableState, match=r"'work#0'.*Secret"):
        builder.compile(store).invoke({}, thread("u"))


def test_an_input_that_cannot_be_stored(store: CheckpointStore) -> None:
    graph = chain({"a": says("a")}, store)
    with pytest.raises(Exception, match="Secret"):
        graph.invoke({"n": Secret()}, THREAD)
    assert store.threads().threads == ()


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration("s"), RuntimeError("r"), AssertionError()], ids=repr)
def test_errors_of_any_kind_come_through(store: CheckpointStore, error: BaseException) -> None:
    graph = chain({"a": says("a"), "bad": Broken(error)}, store)
    with pytest.raises(type(error)) as caught:
        graph.invoke({}, THREAD)
    assert caught.value is error
    assert (store.thread("t").status, graph.get_state(THREAD).next) == ("failed", ("bad",))
    assert len(history(graph)) == 2


def test_ctrl_c_leaves_a_thread_that_goes_on(store: CheckpointStore) -> None:
    broken = Broken(KeyboardInterrupt())
    log = Log()
    graph = chain({"a": log.node("a"), "b": broken, "c": log.node("c")}, store)
    with pytest.raises(KeyboardInterrupt):
        graph.invoke({}, THREAD)
    broken.error = None
    assert graph.invoke(None, THREAD)["items"] == ["a", "mended", "c"]
    assert log.calls == ["a", "c"]


class Summed(TypedDict):
    total: Annotated[int, operator.add]


def test_a_reducer_that_cannot_add_what_it_is_given(store: CheckpointStore) -> None:
    graph = chain({"a": lambda state: {"total": "text"}}, store, Summed)
    with pytest.raises(InvalidUpdateError, match=r"'total' \(int by add\).*update \(str\) of node 'a': TypeError"):
        graph.invoke({"total": 1}, THREAD)
    assert graph.get_state(THREAD).values == {"total": 1}
