"""An owner that dies at any call to its store, under each checkpoint policy: the run ends as it would have."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import count, pairwise
from typing import Any, TypeVar

import pytest

from perdure import END, START, Checkpoints, CheckpointStore, CompiledGraph, StateGraph, checkpoint, interrupt
from perdure.runtime.clock import SystemClock
from perdure.runtime.drive import Driver
from perdure.runtime.local import LocalExecutor
from perdure.runtime.loop import ThreadLoop
from perdure.runtime.options import Durability, RunOptions
from perdure.runtime.payloads import INPUT, RESUME, InputPayload, pack, pack_input
from perdure.runtime.portal import Portal
from perdure.runtime.ports import LoopLimits, Ports
from perdure.runtime.restore import restore
from perdure.runtime.snapshots import SnapshotReader
from perdure.runtime.writer import Writer
from perdure.stores.base import CommitResult
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Commit, Expect
from perdure.stores.records import Message, RunRecord, Segment, Status, ThreadRecord
from tests.runtime.engine import State, says
from tests.sim.faults import Delegating, Died

T = TypeVar("T")
CLOCK = SystemClock()
POLICIES = [
    None,
    Checkpoints(every=2),
    Checkpoints(every=3),
    Checkpoints(interval=timedelta(days=1)),
    Checkpoints(interval=timedelta.resolution),
    Checkpoints(manual=True),
]


class Mortal(Delegating):
    """The store of a process that dies at its n-th call, before or after the store has done it."""

    def __init__(self, inner: CheckpointStore, at: int, *, after: bool) -> None:
        super().__init__(inner)
        self.left = at
        self.after = after
        self.died = False

    def _call(self, call: Callable[[], T]) -> T:
        self.left -= 1
        if self.died or (self.left < 0 and not self.after):
            self.died = True
            raise Died
        result = call()
        if self.left < 0:
            self.died = True
            raise Died
        return result

    def thread(self, thread_id: str) -> ThreadRecord:
        return self._call(lambda: self.inner.thread(thread_id))

    def runs(self, thread_id: str) -> tuple[RunRecord, ...]:
        return self._call(lambda: self.inner.runs(thread_id))

    def claim(
        self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool = False, at: float = 0.0
    ) -> ThreadRecord:
        return self._call(
            lambda: self.inner.claim(thread_id, epoch=epoch, token=token, owner=owner, crashed=crashed, at=at)
        )

    def commit(self, commits: Any) -> list[CommitResult]:
        given: list[Commit] = list(commits)
        return self._call(lambda: self.inner.commit(given))

    def messages(self, thread_id: str, *, unread: bool = True) -> tuple[Message, ...]:
        return self._call(lambda: self.inner.messages(thread_id, unread=unread))

    def segments(
        self, thread_id: str, *, first: int = 1, last: int | None = None, limit: int | None = None
    ) -> list[Segment]:
        return self._call(lambda: self.inner.segments(thread_id, first=first, last=last, limit=limit))


def ask(state: State) -> dict[str, Any]:
    return {"items": [interrupt("?")]}


def counts(state: State) -> dict[str, Any]:
    if state["n"] == 2:
        checkpoint()
    return {"n": state["n"] + 1, "items": [state["n"]]}


def graph() -> CompiledGraph:
    """Steps one after the other, a step of three, a question, and more steps."""
    builder = StateGraph(State).add_node("count", counts).add_node("ask", ask).add_node("last", says("last"))
    for name in "abc":
        builder.add_node(name, says(name)).add_edge(name, "ask")
    builder.add_node("more", says("more"))
    builder.add_edge(START, "count").add_edge("ask", "more").add_edge("more", "last").add_edge("last", END)
    builder.add_conditional_edges("count", lambda state: "count" if state["n"] < 6 else list("abc"), ["count", *"abc"])
    return builder.compile()


GRAPH = graph()


def no_portal() -> Portal:
    raise AssertionError("no async nodes here")


def own(store: CheckpointStore, *, crashed: bool, graph: CompiledGraph = GRAPH, thread_id: str = "t") -> None:
    """Claim the thread and drive it until it ends or parks, as a process of its own would."""
    row = store.thread(thread_id)
    record = store.claim(thread_id, epoch=row.epoch, token=CLOCK.unique(), owner="one", crashed=crashed, at=0.0)
    executor = LocalExecutor(no_portal)
    try:
        restored = restore(store, record, graph.codec)
        # Without care after a crash: every step would be a full checkpoint for a while.
        limits = LoopLimits(careful_commits=0, crash_budget=1000)
        ports = Ports(store, store, executor, CLOCK, limits=limits)
        loop = ThreadLoop(record, restored, graph.topology, graph.codec, ports)
        writer = Writer(store, CLOCK)
        driver = Driver(loop, writer)
        loop.attach(writer.lane(thread_id, record.epoch, record.token, driver.post), driver.post)
        driver.run()
    finally:
        executor.stop()


def send(store: CheckpointStore, kind: str, payload: bytes, *, wait: str = "") -> None:
    message = Message(message_id=f"{kind}", kind=kind, payload=payload)
    store.deliver("t", message, Expect(statuses=frozenset(Status), wait=wait))


def play(options: RunOptions, at: int, *, after: bool) -> tuple[MemoryStore, bool]:
    """The whole story with one death; the store, and whether there was a death."""
    store = MemoryStore()
    mortal = Mortal(store, at, after=after)
    message = Message(message_id=INPUT, kind=INPUT, payload=pack_input(GRAPH.codec, InputPayload({"n": 0}, options)))
    store.create(ThreadRecord(thread_id="t", graph=GRAPH.name, version=GRAPH.version), message)
    while not (row := store.thread("t")).status.ended:
        if row.waits:
            send(store, RESUME, pack(GRAPH.codec, row.waits[0], "!", None), wait=row.waits[0])
        try:
            own(store if mortal.died else mortal, crashed=row.status is Status.RUNNING)
        except Died:
            assert mortal.died
    return store, mortal.died


WANTED = {"n": 6, "items": [0, 1, 2, 3, 4, 5, "a", "b", "c", "!", "more", "last"]}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize("durability", list(Durability))
def test_death_at_every_call(durability: Durability, policy: Checkpoints | None, after: bool) -> None:
    options = RunOptions(durability=durability, checkpoints=policy)
    for at in count():
        store, died = play(options, at, after=after)
        record = store.thread("t")
        shots = list(SnapshotReader(store, record, GRAPH.codec).history())[::-1]
        assert record.status is Status.SUCCEEDED
        assert shots[-1].values == WANTED
        assert [message.applied > 0 for message in store.messages("t", unread=False)] == [True, True]
        # Each state that was kept is one of a run without a crash; none was skipped that the policy promises.
        for shot in shots:
            items = shot.values.get("items", [])
            assert items == WANTED["items"][: len(items)]  # type: ignore[index]
        if policy is not None and policy.every > 1 and durability is not Durability.EXIT:
            gaps = [b.metadata["step"] - a.metadata["step"] for a, b in pairwise(shots)]
            assert max(gaps) <= policy.every
        if policy is not None and policy.manual:
            assert any(shot.values.get("n") == 3 for shot in shots)
        if not died:
            assert at > 10
            break
