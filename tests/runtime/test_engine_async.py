"""Async nodes and paths, `ainvoke` and `astream`, and async clients that belong to one event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any

import pytest

from perdure import END, START, CheckpointStore, Command, StateGraph, interrupt
from tests.runtime.engine import THREAD, Log, State, chain, fan, says, thread


class Client:
    """Stands for an async client: usable only on the loop on which it was made."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    async def get(self, what: str) -> str:
        if asyncio.get_running_loop() is not self.loop:
            raise RuntimeError("attached to a different loop")
        await asyncio.sleep(0)
        return what


async def plain(state: State) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"items": ["async"]}


async def path(state: State) -> str:
    await asyncio.sleep(0)
    return "b" if len(state["items"]) < 3 else END


def test_async_nodes_and_paths_in_a_sync_call(store: CheckpointStore) -> None:
    builder = StateGraph(State).add_node("a", plain).add_node("b", says("b")).add_edge(START, "a").add_edge("b", "a")
    graph = builder.add_conditional_edges("a", path, ["b", END]).compile(store)
    assert graph.invoke({}, THREAD)["items"] == ["async", "b", "async"]
    assert [list(event) for event in graph.stream({}, thread("u"))] == [["a"], ["b"], ["a"]]


def test_sync_calls_share_one_loop(store: CheckpointStore) -> None:
    clients: list[Client] = []

    async def use(state: State) -> dict[str, Any]:
        if not clients:
            clients.append(Client())
        return {"items": [await clients[0].get("got")]}

    graph = fan({"a": use, "b": use}, store)
    for name in ("t", "u"):
        assert graph.invoke({}, thread(name))["items"] == ["got", "got"]


def test_ainvoke_runs_async_nodes_on_the_callers_loop(store: CheckpointStore) -> None:
    async def main() -> None:
        client = Client()

        async def use(state: State) -> dict[str, Any]:
            return {"items": [await client.get("got")]}

        async def choose(state: State) -> str:
            return await client.get("sync")

        threads: list[int] = []
        builder = StateGraph(State).add_node("one", use).add_node("two", use)
        builder.add_node("sync", lambda state: threads.append(threading.get_ident()))
        builder.add_edge(START, "one").add_edge(START, "two").add_edge("two", END).add_edge("sync", END)
        graph = builder.add_conditional_edges("one", choose, ["sync"]).compile(store)
        assert (await graph.ainvoke({}, THREAD))["items"] == ["got", "got"]
        events = [event async for event in graph.astream({}, thread("u"), stream_mode=["updates"])]
        assert events == [
            ("updates", {"one": {"items": ["got"]}}),
            ("updates", {"two": {"items": ["got"]}}),
            ("updates", {"sync": None}),
        ]
        assert threading.get_ident() not in threads

    asyncio.run(main())


def test_the_loop_stays_free_while_sync_nodes_block(store: CheckpointStore) -> None:
    async def main() -> int:
        ticks = 0
        running = asyncio.ensure_future(chain({"a": lambda state: time.sleep(0.15)}, store).ainvoke({}, THREAD))
        while not running.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks

    assert asyncio.run(main()) > 5


def test_interrupts_of_async_nodes(store: CheckpointStore) -> None:
    async def ask(state: State) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"items": [interrupt("?")]}

    graph = fan({"a": ask, "b": says("b")}, store)

    async def main() -> None:
        assert (await graph.ainvoke({}, THREAD))["__interrupt__"][0].value == "?"
        events = [event async for event in graph.astream(Command(resume="yes"), THREAD)]
        assert events == [{"a": {"items": ["yes"]}}, {"b": {"items": ["b"]}}]

    asyncio.run(main())


def test_errors_of_async_runs(store: CheckpointStore) -> None:
    error = KeyError("boom")
    failing = [True]

    async def bad(state: State) -> dict[str, Any]:
        if failing:
            raise error
        return {"items": ["mended"]}

    graph = chain({"a": says("a"), "bad": bad}, store)

    async def main() -> None:
        with pytest.raises(KeyError) as caught:
            await graph.ainvoke({}, THREAD)
        assert caught.value is error
        seen = []
        with pytest.raises(KeyError):
            async for event in graph.astream({}, thread("u")):
                seen.append(event)
        assert seen == [{"a": {"items": ["a"]}}]
        failing.clear()
        assert (await graph.ainvoke(None, THREAD))["items"] == ["a", "mended"]
        with pytest.raises(TypeError, match="'speed'"):
            await graph.ainvoke({}, THREAD, speed="high")

    asyncio.run(main())


def test_many_runs_at_once_do_not_wait_for_one_another(store: CheckpointStore) -> None:
    """Runs once took threads of the loop's default executor: as many as it has filled it, and waited for ever for nodes
    that needed one of them."""

    async def blocking(state: State) -> dict[str, Any]:
        await asyncio.to_thread(time.sleep, 0.01)
        return {"items": ["done"]}

    graph = chain({"a": blocking, "b": blocking}, store)

    async def main() -> None:
        runs = [graph.ainvoke({}, thread(f"t{one}")) for one in range(40)]
        found = await asyncio.wait_for(asyncio.gather(*runs), 60)
        assert [one["items"] for one in found] == [["done", "done"]] * 40

    asyncio.run(main())


def test_a_cancelled_run_stops_and_can_go_on(store: CheckpointStore) -> None:
    log = Log()
    slow = [True]
    ended: list[str] = []

    async def sleepy(state: State) -> dict[str, Any]:
        try:
            await asyncio.sleep(30 if slow else 0)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return {"items": ["slept"]}

    graph = fan({"a": log.node("a"), "sleepy": sleepy}, store, last=log.node("last"))

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(graph.ainvoke({}, THREAD), 0.3)
        assert ended == ["cancelled"]
        assert store.thread("t").status == "queued"
        slow.clear()
        assert (await graph.ainvoke(None, THREAD))["items"] == ["a", "slept", "last"]
        assert log.calls == ["a", "last"]

    asyncio.run(main())


def test_an_async_stream_that_is_left_early(store: CheckpointStore) -> None:
    async def step(state: State) -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return {"items": [len(state["items"])]}

    graph = chain(dict.fromkeys("abcdefgh", step), store)

    async def main() -> None:
        async with aclosing(graph.astream({}, THREAD)) as stream:
            async for event in stream:
                assert event == {"a": {"items": [0]}}
                break
        assert store.thread("t").status == "queued"
        assert (await graph.ainvoke(None, THREAD))["items"] == list(range(8))

    asyncio.run(main())


def test_a_node_that_is_cancelled_by_itself_has_failed(store: CheckpointStore) -> None:
    async def odd(state: State) -> None:
        raise asyncio.CancelledError("of its own")

    graph = chain({"odd": odd}, store)

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await graph.ainvoke({}, THREAD)

    asyncio.run(main())
    assert store.thread("t").status == "failed"


def test_async_nodes_see_the_context_of_the_caller(store: CheckpointStore) -> None:
    user: ContextVar[str] = ContextVar("user", default="nobody")

    async def who(state: State) -> dict[str, Any]:
        return {"items": [user.get()]}

    graph = chain({"who": who}, store)

    async def main() -> None:
        user.set("ann")
        assert (await graph.ainvoke({}, THREAD))["items"] == ["ann"]

    asyncio.run(main())


def test_stop_iteration_does_not_hang_an_async_run(store: CheckpointStore) -> None:
    def bad(state: State) -> None:
        raise StopIteration("s")

    graph = chain({"bad": bad}, store)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await asyncio.wait_for(graph.ainvoke({}, THREAD), 10)

    asyncio.run(main())
