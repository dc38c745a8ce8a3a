"""Time travel in process: what differs, forks, names, two who change the same head, single steps, breakpoints."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from perdure import (
    END,
    CheckpointConflict,
    CheckpointNotFound,
    CheckpointStore,
    CompiledGraph,
    InputError,
    NotInterrupted,
    PerdureError,
    Refused,
    StateSnapshot,
    ThreadBusy,
)
from perdure.runtime.diffs import diff_values
from perdure.runtime.meaning import RuntimeMeaning
from perdure.stores.codec import Codec
from perdure.stores.memory import MemoryStore
from perdure.stores.records import Retention
from perdure.stores.tidying import Tidier
from tests.runtime.engine import THREAD, Log, asks, before, chain, fan, says, thread


def at(snapshot: StateSnapshot) -> dict[str, Any]:
    return dict(snapshot.config)


def ahead_of(graph: CompiledGraph, node: str) -> dict[str, Any]:
    """The checkpoint from which a node is run next."""
    return at(before(graph, node))


# -- differences -----------------------------------------------------------------------------------------------------


def test_what_differs_between_two_checkpoints(store: CheckpointStore) -> None:
    graph = chain(
        {"a": lambda state: {"n": 1, "items": ["a"]}, "b": lambda state: {"n": 2, "items": ["b", "c"]}}, store
    )
    graph.invoke({}, THREAD)
    first, second = ahead_of(graph, "b"), at(graph.get_state(THREAD))
    diff = graph.diff(first, second)
    assert (diff.changed, diff.appended, diff.added, diff.removed) == ({"n": (1, 2)}, {"items": ["b", "c"]}, {}, {})
    assert str(diff) == "n: 1 -> 2, items + ['b', 'c']"
    assert graph.diff(ahead_of(graph, "a"), first).added == {"n": 1}
    back = graph.diff(second, first)
    assert (back.changed, back.appended) == ({"n": (2, 1), "items": (["a", "b", "c"], ["a"])}, {})
    assert not graph.diff(first, first)
    assert graph.diff(first, THREAD) == diff
    with pytest.raises(CheckpointNotFound):
        graph.diff(first, thread("t", checkpoint_id="0000000099"))


def test_what_differs_between_two_threads(store: CheckpointStore) -> None:
    graph = chain({"a": lambda state: {"items": [state["n"]]}}, store)
    graph.invoke({"n": 1}, THREAD)
    graph.invoke({"n": 2}, thread("u"))
    assert graph.diff(THREAD, thread("u")).changed == {"n": (1, 2), "items": ([1], [2])}


def test_values_that_have_no_single_truth() -> None:
    old = {"same": np.arange(3), "other": np.arange(3), "list": [np.arange(3)], "kind": 1, "gone": 0}
    new = {"same": np.arange(3), "other": np.arange(4), "list": [np.arange(3), 1], "kind": True, "new": None}
    diff = diff_values(old, new, Codec())
    assert (set(diff.changed), diff.appended) == ({"other", "kind"}, {"list": [1]})
    assert (diff.added, diff.removed) == ({"new": None}, {"gone": 0})


# -- forks -----------------------------------------------------------------------------------------------------------


def test_a_fork_into_a_new_thread_costs_one_row(store: CheckpointStore) -> None:
    log = Log()
    graph = chain({name: log.node(name) for name in "abc"}, store)
    graph.invoke({}, thread("t"))
    segments = store.segments("t")
    fork = graph.fork(ahead_of(graph, "b"), thread_id="u", metadata={"why": "what if"})
    assert (store.thread("u").status, store.segments("u"), log.calls) == ("paused", [], ["a", "b", "c"])
    assert graph.get_state(fork).next == ("b",)
    assert graph.invoke(None, fork)["items"] == ["a", "b", "c"]
    assert log.calls == ["a", "b", "c", "b", "c"]
    assert (store.segments("t"), dict(store.thread("u").metadata)) == (segments, {"why": "what if"})


def test_a_fork_with_an_update(store: CheckpointStore) -> None:
    graph = chain({name: says(name) for name in "abc"}, store)
    graph.invoke({}, THREAD)
    plain = graph.fork(ahead_of(graph, "b"), {"items": ["u"]})
    assert graph.get_state(plain).next == ("b",)
    assert graph.invoke(None, plain)["items"] == ["a", "u", "b", "c"]
    behind = graph.fork(ahead_of(graph, "b"), {"items": ["for b"]}, as_node="b")
    assert graph.get_state(behind).next == ("c",)
    assert graph.invoke(None, behind)["items"] == ["a", "for b", "c"]
    over = graph.fork(ahead_of(graph, "b"), {"items": ["end"]}, as_node=END)
    assert graph.invoke(None, over)["items"] == ["a", "end"]


def test_a_fork_at_a_question_asks_again(store: CheckpointStore) -> None:
    graph = chain({"a": says("a"), "q": asks("?")}, store)
    graph.invoke({}, THREAD)
    fork = graph.fork(THREAD)
    assert [one.value for one in graph.invoke(None, fork)["__interrupt__"]] == ["?"]
    assert [one.value for one in graph.get_state(THREAD).interrupts] == ["?"]


def test_a_fork_passes_the_breakpoint_that_its_origin_stands_at(store: CheckpointStore) -> None:
    graph = chain({name: says(name) for name in "abc"}, store, interrupt_before=["b", "c"])
    graph.invoke({}, THREAD)
    fork = graph.fork(THREAD)
    assert graph.invoke(None, fork)["items"] == ["a", "b"]
    assert graph.get_state(THREAD).next == ("b",)


def test_forks_that_cannot_be_made(store: CheckpointStore) -> None:
    graph = chain({"a": says("a")}, store)
    graph.invoke({}, THREAD)
    with pytest.raises(CheckpointNotFound):
        graph.fork(thread("t", checkpoint_id="0000000099"))
    assert [row.thread_id for row in store.threads().threads] == ["t"]


# -- names -----------------------------------------------------------------------------------------------------------


def test_a_named_checkpoint(store: CheckpointStore) -> None:
    graph = chain({name: says(name) for name in "ab"}, store)
    graph.invoke({}, THREAD)
    given = graph.name_checkpoint(ahead_of(graph, "b"), "before b")
    newest = graph.name_checkpoint(THREAD, "newest")
    assert graph.names(THREAD) == {"before b": given, "newest": newest}
    assert graph.get_state(thread("t", checkpoint_id=given)).next == ("b",)
    graph.remove_name(THREAD, "newest")
    assert graph.names(THREAD) == {"before b": given}
    with pytest.raises(CheckpointNotFound):
        graph.name_checkpoint(thread("t", checkpoint_id="0000000099"), "nothing")


def test_a_name_protects_from_retention(sqlite: CheckpointStore) -> None:
    graph = chain({"a": says("a")}, sqlite, retention=Retention(max_checkpoints=1))
    graph.invoke({"n": 0}, THREAD)
    kept = graph.name_checkpoint(THREAD, "kept")
    dropped = graph.update_state(THREAD, {"n": 1})
    for n in range(2, 5):
        graph.invoke({"n": n}, THREAD)
    list(Tidier.of(sqlite, RuntimeMeaning()).thread("t", time.time(), thorough=True))
    assert graph.get_state(thread("t", checkpoint_id=kept)).values["n"] == 0
    with pytest.raises(CheckpointNotFound):
        graph.get_state(dropped)


def test_a_fork_whose_update_is_refused_is_not_there(store: CheckpointStore) -> None:
    graph = chain({"a": says("a")}, store)
    graph.invoke({}, THREAD)
    with pytest.raises(PerdureError, match="items"):
        graph.fork(THREAD, {"items": 5}, thread_id="u")
    assert graph.get_state(graph.fork(THREAD, {"items": ["x"]}, thread_id="u")).values["items"][-1] == "x"


# -- two who change the same head ------------------------------------------------------------------------------------


def test_of_two_who_change_the_same_head_one_is_told(store: CheckpointStore) -> None:
    graph = chain({name: says(name) for name in "ab"}, store, interrupt_before=["b"])
    graph.invoke({"n": 1}, THREAD)
    head = graph.get_state(THREAD).checkpoint_id
    made = graph.update_state(THREAD, {"n": 50}, expected_checkpoint=head)
    seq = store.thread("t").seq
    with pytest.raises(CheckpointConflict, match=r"'t'.*\{'n': 7\}.*made by update .*n: 1 -> 50") as caught:
        graph.update_state(THREAD, {"n": 7}, expected_checkpoint=head)
    error = caught.value
    assert (error.expected, error.found) == (head, made["configurable"]["checkpoint_id"])
    assert (error.yours, error.theirs.changed) == ({"n": 7}, {"n": (1, 50)})
    assert (store.thread("t").seq, store.thread("t").status) == (seq, "interrupted")
    graph.update_state(THREAD, {"n": 7}, expected_checkpoint=error.found)
    assert graph.invoke(None, THREAD)["n"] == 7


def test_an_update_that_comes_late_is_refused_where_it_is_applied() -> None:
    """Both were accepted while the head was still the one that they name: the second finds another when it is read."""
    with MemoryStore() as store:
        graph = chain({name: says(name) for name in "ab"}, store, interrupt_before=["b"])
        graph.invoke({"n": 1}, THREAD)
        head = int(graph.get_state(THREAD).checkpoint_id)
        runner = graph._runner(graph._thread_config(THREAD))
        for value in (50, 7, 8):
            runner.send("t", "update", graph.codec.encode([{"n": value}, None, 0, head])[1], head=head)
        settled = runner.touch("t")
        assert [type(error) for error in settled.refused.values()] == [CheckpointConflict] * 2
        assert (store.thread("t").status, graph.get_state(THREAD).values["n"]) == ("interrupted", 50)
        applied = [message.applied for message in store.messages("t", unread=False)][-3:]
        assert len({*applied}) == 3
        assert [checkpoint for checkpoint in applied if checkpoint == store.thread("t").head] == applied[:1]


@pytest.mark.parametrize("expecting", [True, False])
def test_each_of_two_at_once_is_told_what_became_of_their_own_update(sqlite: CheckpointStore, expecting: bool) -> None:
    graph = chain({name: says(name) for name in "ab"}, sqlite, interrupt_before=["b"])

    def change(config: Any, value: int, expected: str | None) -> int:
        """What the state had right after the change; 0 if it was refused."""
        together.wait()
        made = None
        while made is None:
            try:
                made = graph.update_state(config, {"n": value}, expected_checkpoint=expected)
            except CheckpointConflict as error:
                return 0 if error.yours == {"n": value} else -1
            except ThreadBusy:
                continue  # the other was at work, and nothing was sent
        found: int = graph.get_state(made).values["n"]
        return found

    together = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        for number in range(20):
            config = thread(f"t{number}")
            graph.invoke({"n": 1}, config)
            head = graph.get_state(config).checkpoint_id if expecting else None
            found = list(pool.map(change, [config] * 2, (50, 7), [head] * 2))
            last = graph.get_state(config).values["n"]
            assert sorted(found) == (sorted([0, last]) if expecting else [7, 50])


def test_an_expected_checkpoint_that_is_none(store: CheckpointStore) -> None:
    graph = chain({"a": says("a")}, store)
    graph.invoke({}, THREAD)
    for wrong in ("0000000099", "what"):
        with pytest.raises(CheckpointNotFound):
            graph.update_state(THREAD, {"n": 1}, expected_checkpoint=wrong)


# -- single steps ----------------------------------------------------------------------------------------------------


def test_one_step_at_a_time(store: CheckpointStore) -> None:
    log = Log()
    graph = chain({name: log.node(name) for name in "abcd"}, store, interrupt_before=["b"])
    graph.invoke({}, THREAD)
    assert graph.step(THREAD)["items"] == ["a", "b"]
    assert (graph.get_state(THREAD).next, store.thread("t").status) == (("c",), "interrupted")
    graph.update_state(THREAD, {"items": ["u"]})
    assert graph.get_state(THREAD).next == ("c",)
    assert graph.step(THREAD)["items"] == ["a", "b", "u", "c"]
    assert graph.invoke(None, THREAD)["items"] == ["a", "b", "u", "c", "d"]
    assert (log.calls, store.thread("t").status) == (["a", "b", "c", "d"], "succeeded")
    with pytest.raises(NotInterrupted):
        graph.step(THREAD)


def test_a_step_from_an_older_checkpoint_and_in_a_fork(store: CheckpointStore) -> None:
    graph = chain({name: says(name) for name in "abc"}, store)
    graph.invoke({}, THREAD)
    assert graph.step(ahead_of(graph, "b"))["items"] == ["a", "b"]
    assert graph.get_state(THREAD).next == ("c",)
    fork = graph.fork(THREAD)
    assert graph.step(fork)["items"] == ["a", "b", "c"]
    # The step that the origin took is not taken over.
    other = graph.fork(ahead_of(graph, "b"))
    assert graph.invoke(None, other)["items"] == ["a", "b", "c"]


def test_a_step_of_parallel_nodes_with_a_question(store: CheckpointStore) -> None:
    graph = fan({"a": says("a"), "b": asks("?")}, store, last=says("end"), interrupt_before=["a"])
    graph.invoke({}, THREAD)
    assert [one.value for one in graph.step(THREAD)["__interrupt__"]] == ["?"]
    waiting = graph.get_state(THREAD)
    assert [task.name for task in waiting.tasks if task.interrupts] == ["b"]


# -- breakpoints -----------------------------------------------------------------------------------------------------


def test_breakpoints_of_a_thread_that_waits(store: CheckpointStore) -> None:
    log = Log()
    graph = chain({name: log.node(name) for name in "abcd"}, store, interrupt_before=["b"])
    graph.invoke({}, THREAD)
    graph.add_breakpoints(THREAD, before=["d"], after="b")
    stops = graph.breakpoints(THREAD)
    assert (stops.before, stops.after, store.thread("t").status) == (("b", "d"), ("b",), "interrupted")
    for expected in ("c", "d"):
        graph.step(THREAD) if expected == "c" else graph.invoke(None, THREAD)
        assert graph.get_state(THREAD).next == (expected,)
    graph.remove_breakpoints(THREAD)
    assert (store.thread("t").status, log.calls) == ("paused", ["a", "b", "c"])
    assert graph.invoke(None, THREAD)["items"] == ["a", "b", "c", "d"]


def test_a_breakpoint_that_a_running_thread_gets(store: CheckpointStore) -> None:
    def adds(state: Any) -> Any:
        graph.add_breakpoints(THREAD, before=["c"])
        return {"items": ["a"]}

    graph = chain({"a": adds, "b": says("b"), "c": says("c")}, store)
    assert graph.invoke({}, THREAD, durability="sync")["items"] == ["a", "b"]
    assert graph.get_state(THREAD).next == ("c",)
    assert graph.invoke(None, THREAD)["items"] == ["a", "b", "c"]


def test_breakpoints_that_cannot_be_set(store: CheckpointStore) -> None:
    graph = chain({"a": says("a")}, store)
    graph.invoke({}, THREAD)
    with pytest.raises(InputError, match="'zz'"):
        graph.add_breakpoints(THREAD, before=["zz"])
    with pytest.raises(Refused):
        graph.add_breakpoints(THREAD, before=["a"])
