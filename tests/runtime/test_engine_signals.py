"""`receive()`: signals in order, each once, whenever they come; and those that nobody receives."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    CheckpointStore,
    CompiledGraph,
    InputError,
    PerdureError,
    ReceiveTimeout,
    Refused,
    UnknownThread,
    receive,
)
from perdure.stores.records import UNDELIVERED, Status
from tests.runtime.engine import THREAD, Log, State, chain, fan, says

PATIENCE = 30.0


def takes(*names: str) -> Any:
    """A node that appends the values of these signals."""
    return lambda state: {"items": [receive(name) for name in names]}


class Invoked:
    """An `invoke` on a thread of its own."""

    def __init__(self, graph: CompiledGraph, input: Any = None) -> None:
        self.result: dict[str, Any] = {}
        self._error: BaseException | None = None
        self._graph = graph
        self._thread = threading.Thread(target=self._run, args=(input,), daemon=True)
        self._thread.start()

    def _run(self, input: Any) -> None:
        try:
            self.result = self._graph.invoke(input, THREAD)
        except BaseException as error:
            self._error = error

    def items(self) -> Any:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the run did not end"
        if self._error is not None:
            raise self._error
        return self.result["items"]


def until(store: CheckpointStore, *statuses: Status) -> None:
    """Wait until the thread rests in one of these."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            status = store.thread("t").status
        except UnknownThread:
            status = None
        if status in statuses:
            return
        assert time.monotonic() < deadline, f"the thread is {status}"
        time.sleep(0.005)


def test_a_waiting_thread_is_parked_and_woken(store: CheckpointStore) -> None:
    log = Log()
    graph = chain({"a": log.node("a", takes("price")), "z": says("z")}, store)
    run = Invoked(graph, {})
    until(store, Status.WAITING)
    row = store.thread("t")
    assert (row.waits, row.signals, row.interrupts, row.owner, row.wake_at) == (
        ("signal:price",),
        ("price",),
        (),
        "",
        0.0,
    )
    [waiting] = graph.get_state(THREAD).tasks
    assert (waiting.waits_for, waiting.interrupts, waiting.wake_at) == ("price", (), None)
    graph.signal(THREAD, "price", {"eur": 3})
    assert run.items() == [{"eur": 3}, "z"]
    assert log.calls == ["a", "a"]
    [_, signal] = store.messages("t", unread=False)
    assert (signal.kind, signal.name, signal.applied > 0) == ("signal", "price", True)


def test_signals_come_in_order_per_name_and_once(store: CheckpointStore) -> None:
    log = Log()
    graph = chain({"first": takes("go"), "a": log.node("a", takes("n", "m", "n", "n"))}, store)
    run = Invoked(graph, {})
    until(store, Status.WAITING)
    for name, value in (("n", 1), ("n", 2), ("m", "m"), ("n", 3), ("n", 4)):
        graph.signal(THREAD, name, value)
    assert store.thread("t").status is Status.WAITING, "none of them is what it waits for"
    graph.signal(THREAD, "go")
    assert run.items() == [None, 1, "m", 2, 3]
    assert log.calls == ["a"], "what is there already is received without a wait"
    left = [message for message in store.messages("t", unread=False) if message.applied == UNDELIVERED]
    assert [(message.kind, message.name) for message in left] == [("signal", "n")]
    with pytest.raises(Refused):
        graph.signal(THREAD, "n", 5)


def test_a_signal_may_come_before_the_thread_waits_for_it(store: CheckpointStore) -> None:
    started = threading.Event()
    sent = threading.Event()

    def first(state: State) -> None:
        started.set()
        assert sent.wait(PATIENCE)

    graph = chain({"first": first, "a": takes("early")}, store)
    run = Invoked(graph, {})
    assert started.wait(PATIENCE)
    graph.signal(THREAD, "early", 1)
    sent.set()
    assert run.items() == [1]


def test_two_nodes_share_the_signals_of_a_name(store: CheckpointStore) -> None:
    graph = fan({"x": takes("n", "n"), "y": takes("n", "n")}, store)
    run = Invoked(graph, {})
    until(store, Status.WAITING)
    for value in range(4):
        graph.signal(THREAD, "n", value)
    found = run.items()
    assert sorted(found) == [0, 1, 2, 3]
    assert found[0] < found[1]
    assert found[2] < found[3]


def test_a_timeout_is_recorded(store: CheckpointStore) -> None:
    caught: list[str] = []

    def node(state: State) -> dict[str, Any]:
        try:
            receive("never", timeout=timedelta(milliseconds=20))
        except ReceiveTimeout as error:
            caught.append(str(error))
        return {"items": [receive("late")]}

    graph = chain({"a": node}, store, name="timed")
    run = Invoked(graph, {})
    deadline = time.monotonic() + PATIENCE
    while store_waits(store) != ("signal:late",) and time.monotonic() < deadline:
        time.sleep(0.005)
    graph.signal(THREAD, "never", "too late")
    graph.signal(THREAD, "late", "here")
    assert run.items() == ["here"]
    assert len(caught) == 2
    assert caught[0].startswith("thread 't': node 'a' of graph 'timed': no signal 'never' came within the timeout")


def store_waits(store: CheckpointStore) -> tuple[str, ...]:
    try:
        return store.thread("t").waits
    except UnknownThread:
        return ()


def test_an_uncaught_timeout_fails_the_run(store: CheckpointStore) -> None:
    graph = chain({"a": lambda state: receive("x", timeout=0)}, store)
    with pytest.raises(TimeoutError, match="no signal 'x' came") as caught:
        graph.invoke({}, THREAD)
    assert isinstance(caught.value, ReceiveTimeout)
    assert (caught.value.name, caught.value.node, caught.value.thread_id) == ("x", "a", "t")


def test_a_signal_beside_a_node_that_runs(store: CheckpointStore) -> None:
    """The signal comes while another node of the step works: nobody parks, and nobody is woken by name."""
    received = threading.Event()

    def waits(state: State) -> dict[str, Any]:
        value = receive("x", timeout=PATIENCE)
        received.set()
        return {"items": [value]}

    def works(state: State) -> None:
        graph.signal(THREAD, "x", "seen")

    graph = fan({"waits": waits, "works": works}, store)
    assert graph.invoke({}, THREAD)["items"] == ["seen"]
    assert received.is_set()


def test_async_nodes_receive_by_the_same_call(store: CheckpointStore) -> None:
    async def node(state: State) -> dict[str, Any]:
        return {"items": [receive("x")]}

    graph = chain({"first": lambda state: graph.signal(THREAD, "x", 5), "a": node}, store)
    assert asyncio.run(graph.ainvoke({}, THREAD))["items"] == [5]


@dataclass
class Unnamed:
    """A class that no schema names."""

    n: int


def test_a_signal_that_cannot_be_read_pauses_the_thread(store: CheckpointStore) -> None:
    sender = chain({"a": takes("x")}, store, allow=[Unnamed])
    receiver = chain({"a": takes("x")}, store)
    run = Invoked(receiver, {})
    until(store, Status.WAITING)
    sender.signal(THREAD, "x", Unnamed(1))
    with pytest.raises(PerdureError, match=r"signal 'x' \(message 2\) could not be given to node 'a'"):
        run.items()
    receiver.signal(THREAD, "x", "plain")
    assert receiver.invoke(None, THREAD)["items"] == ["plain"]


def test_without_a_store_nobody_can_send(store: CheckpointStore) -> None:
    with pytest.raises(PerdureError, match="waits for a signal \\('x'\\) that nobody can send"):
        chain({"a": takes("x")}, None).invoke({})

    def node(state: State) -> dict[str, Any]:
        try:
            receive("x", timeout=0.01)
        except ReceiveTimeout:
            return {"items": ["none"]}
        return {}

    assert chain({"a": node}, None).invoke({})["items"] == ["none"]


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 257, 5, None])
def test_what_is_no_name(store: CheckpointStore, name: Any) -> None:
    with pytest.raises(InputError, match="a signal was named"):
        receive(name)
    graph = chain({"a": says("a")}, store)
    graph.invoke({}, THREAD)
    with pytest.raises(InputError, match="a signal was named"):
        graph.signal(THREAD, name)


def test_outside_a_node() -> None:
    with pytest.raises(PerdureError, match=r"receive\(\) was called outside a node"):
        receive("x")
