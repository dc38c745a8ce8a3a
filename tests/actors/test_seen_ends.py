"""What a supervisor makes of an actor whose process it sees end before anything is heard of it: a real process, and an
actor that answers as Ray's do, but without Ray. Its report of a death comes late, or never."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from perdure.actors import crew as crew_module
from perdure.actors import deaths
from perdure.actors.chores import Chores
from perdure.actors.handover import Handover
from perdure.actors.line import Waiting
from perdure.actors.lines import Lines
from perdure.actors.members import Phase, Start
from perdure.actors.roster import Roster
from perdure.actors.settings import ServiceSettings
from perdure.actors.thread_actor import ActorInfo
from perdure.runtime.clock import SystemClock
from perdure.stores.config import StoreConfig
from perdure.stores.errors import StoreUnavailable
from perdure.stores.memory import MemoryStore
from perdure.stores.processes import ProcessId
from perdure.stores.records import GraphRecord, ThreadRecord
from perdure.testing.samples import TOKEN, new_thread

Call = Callable[..., Awaitable[Any]]
NODE = "node"


async def never(*_: Any) -> Any:
    await asyncio.Event().wait()


class Actor:
    """Stands for the handle of an actor: its process is real, what its calls answer is up to the test."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.calls: dict[str, Call] = dict.fromkeys(("watch", "settled", "stalled"), never)
        self.calls.update(hello=self._hello, prepare=self._nothing, retire=self._nothing)

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=self.calls[name])

    async def _hello(self) -> ActorInfo:
        process = ProcessId.of(self.process.pid)
        return ActorInfo("", process.pid, process.started, NODE, ("g",), (), 0)

    async def _nothing(self, *_: Any) -> None:
        return None


class Supervisor:
    """What is around a handover: it notes who is to wait for an actor, and whether that is charged."""

    def __init__(self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        async def answer(call: Awaitable[Any]) -> Any:
            return await call

        async def reachable(node: str) -> bool:
            return True

        context = SimpleNamespace(get_node_id=lambda: NODE)
        ray = SimpleNamespace(get_runtime_context=lambda: context, kill=lambda *_, **__: None)
        monkeypatch.setattr(crew_module, "ray", ray)
        monkeypatch.setattr(crew_module, "answer", answer)
        monkeypatch.setattr(deaths, "answer", answer)
        monkeypatch.setattr(deaths, "_answers", reachable)
        monkeypatch.setattr(crew_module, "start_actor", lambda *_: self.actor)
        monkeypatch.setattr(crew_module, "environment_of", lambda *_: None)
        monkeypatch.setattr(crew_module, "find_actor", lambda _: self.actor)
        self.actor: Actor
        self.waiting: list[tuple[str, bool]] = []
        self.roster = Roster(max_actors=4, spares=1, idle=60)
        self.lines = Lines()
        settings = ServiceSettings(store=StoreConfig(url="memory://"), signing_key=b"")
        self.handover = Handover(settings, "key", store, SystemClock(), self.roster, self.lines, Chores("here"), self)

    def act(self) -> None:
        """See `handover.Planner`."""

    async def notify(self, thread_id: str) -> None:
        """See `handover.Planner`."""

    def wait(self, row: ThreadRecord, *, died: bool) -> None:
        self.waiting.append((row.thread_id, died))

    async def started(self, actor: Actor) -> str:
        """The name of an actor that was started and can be given threads."""
        self.actor = actor
        self.handover.crew.start(Start("g"), spare=False)
        await until(lambda: any(one.phase is Phase.IDLE for one in self.roster.members.values()))
        return next(iter(self.roster.members))


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


@pytest.fixture
def actor() -> Iterator[Actor]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield Actor(process)
        process.kill()


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.put_graph(GraphRecord(graph_key="g", name="g", version="1", kind="module", body=b"", signature=b""))
    return store


@pytest.fixture
def supervisor(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    crashes: list[BaseException] = []
    monkeypatch.setattr(Chores, "crash", lambda _, error: crashes.append(error))
    yield Supervisor(store, monkeypatch)
    assert not crashes


def owned_by(store: MemoryStore, owner: str) -> Waiting:
    """A thread that this actor has claimed, as it was given to it."""
    row = store.create(new_thread(graph_key="g")).thread
    store.claim("t", epoch=row.epoch, token=TOKEN, owner=owner)
    return Waiting("t", row.epoch, "g")


def ends(supervisor: Supervisor, actor: Actor, name: str) -> Awaitable[None]:
    actor.process.kill()
    return until(lambda: name not in supervisor.roster.members)


@pytest.mark.parametrize("answered", [True, False], ids=["its answer comes after its end", "it answers no more"])
@pytest.mark.parametrize("frozen", [False, True], ids=["by itself", "killed since its lease expired"])
def test_what_it_was_asked_to_take(
    supervisor: Supervisor, store: MemoryStore, actor: Actor, answered: bool, frozen: bool
) -> None:
    """With the answer the thread was in nobody's hands until a sweep; without, all waited for what Ray says."""

    async def scenario() -> None:
        name = await supervisor.started(actor)
        given = owned_by(store, name)
        if frozen:
            supervisor.handover.crew.verdicts.freeze(name)

        async def host(*_: Any) -> list[int]:
            await ends(supervisor, actor, name)
            if answered:
                return [1]
            raise ActorUnavailableError("connection broke", None)

        actor.calls["host"] = host
        supervisor.handover.give(name, [given])
        await until(lambda: bool(supervisor.waiting))
        assert supervisor.waiting == [("t", not frozen)]
        assert not supervisor.handover.asking

    asyncio.run(scenario())


def test_what_it_hosted_is_charged_and_waits_again(supervisor: Supervisor, store: MemoryStore, actor: Actor) -> None:
    async def scenario() -> None:
        name = await supervisor.started(actor)
        supervisor.handover.hosted(name, "t", 1)
        await ends(supervisor, actor, name)
        found = supervisor.lines.get("t")
        assert found is not None
        assert found.crashed
        # Ray's head names it still, and who adopted it would wait for the dead.
        assert not await supervisor.handover.crew.meet(name)
        assert not supervisor.roster.members

    asyncio.run(scenario())


def test_it_ends_while_it_says_that_it_could_not_load(supervisor: Supervisor, actor: Actor) -> None:
    """The supervisor ended over an actor that it had to end and that was there no more."""

    async def scenario() -> None:
        failed = asyncio.Event()

        async def prepare(*_: Any) -> None:
            await ends(supervisor, actor, next(iter(supervisor.roster.members)))
            failed.set()
            raise StoreUnavailable("away")

        actor.calls["prepare"] = prepare
        supervisor.actor = actor
        supervisor.handover.crew.start(Start("g"), spare=False)
        await until(failed.is_set)
        for _ in range(10):
            await asyncio.sleep(0)
        supervisor.handover.crew.retire_idle()

    asyncio.run(scenario())


def test_this_process_still_has_its_files_in_order(supervisor: Supervisor, actor: Actor) -> None:
    """Each end that is looked for takes a file, which is given back with the end."""

    async def scenario() -> None:
        before = len(os.listdir("/proc/self/fd"))
        name = await supervisor.started(actor)
        await until(lambda: len(os.listdir("/proc/self/fd")) > before)
        await ends(supervisor, actor, name)
        await until(lambda: len(os.listdir("/proc/self/fd")) == before)

    asyncio.run(scenario())
