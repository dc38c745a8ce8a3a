"""A new version of a graph over recorded threads: where it would leave their way; their store is only read."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from perdure import END, START, Command, CompiledGraph, InputError, Migration, interrupt, sleep, task
from perdure.cluster.choosing import Where
from perdure.cluster.cli.call import Answer, Call
from perdure.cluster.cli.exits import Exit
from perdure.cluster.cli.replay_checking import replay_check_command
from perdure.cluster.replay_check import Checked, replay_check
from perdure.stores.base import CheckpointStore
from perdure.stores.memory import MemoryStore
from tests.runtime.conftest import store
from tests.runtime.engine import Node, chain, fan, says, wire

__all__ = ["store"]


class World:
    """Pays, asks and sleeps."""

    def __init__(self) -> None:
        self.paid: list[int] = []

    def nodes(self) -> dict[str, Node]:
        @task
        def pay(n: int) -> str:
            self.paid.append(n)
            return f"receipt {n}"

        def nap(state: Any) -> Any:
            sleep(0.001)
            return {"items": ["slept"]}

        def ask(state: Any) -> Any:
            return {"items": [interrupt("go on?")]}

        return {
            "first": says("first"),
            "pay": lambda state: {"items": [pay(state["n"])]},
            "nap": nap,
            "ask": ask,
            "last": says("last"),
        }

    def graph(self, store: CheckpointStore | None = None, version: str = "2", **changed: Node | None) -> CompiledGraph:
        """Of these nodes, some of them others, left out (None) or added at the end."""
        nodes = {name: node for name, node in {**self.nodes(), **changed}.items() if node is not None}
        return chain(nodes, store, name="shop", version=version)


def config(name: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": name}}


def recorded(world: World, store: CheckpointStore) -> CompiledGraph:
    """One thread has ended, one waits for its answer."""
    old = world.graph(store, "1")
    for number, name in enumerate(("ended", "waits")):
        old.invoke({"n": number}, config(name))
    old.invoke(Command(resume="yes"), config("ended"))
    return old


def check(
    store: CheckpointStore, graph: CompiledGraph, where: Where | None = None, **wishes: Any
) -> dict[str, Checked]:
    return {one.thread_id: one for one in replay_check(store, graph, where, **wishes)}


def everything(store: CheckpointStore) -> list[Any]:
    rows = store.threads(limit=100).threads
    return [(row, store.image(row.thread_id), store.segments(row.thread_id)) for row in rows]


def test_what_fits_fits_and_nothing_is_written_or_done(store: CheckpointStore) -> None:
    world = World()
    recorded(world, store)
    before, paid = repr(everything(store)), list(world.paid)
    found = check(store, world.graph())
    assert {name: one.divergence for name, one in found.items()} == {"ended": None, "waits": None}
    assert (found["ended"].skipped, found["ended"].steps, found["waits"].steps) == ("", 5, 3)
    assert repr(everything(store)) == before
    assert world.paid == paid


def test_other_nodes_next(store: CheckpointStore) -> None:
    world = World()
    old = recorded(world, store)
    found = check(store, world.graph(nap=None), {"threads": ["ended"]})["ended"].divergence
    assert found is not None
    after = next(shot for shot in old.get_state_history(config("ended")) if shot.next == ("nap",))
    assert (found.kind, found.node, found.checkpoint_id) == ("nodes", "pay", after.checkpoint_id)
    assert found.what == "ask would run next, and not nap"


def test_an_effect_without_a_record(store: CheckpointStore) -> None:
    world = World()
    recorded(world, store)

    @task
    def refund() -> str:
        raise AssertionError("it must not be done")

    found = check(store, world.graph(last=lambda state: {"items": [refund()]}), {"threads": ["ended"]})
    away = found["ended"].divergence
    assert away is not None
    assert (away.kind, away.node) == ("effect", "last")
    assert away.what.startswith("its call 0 (@task 'refund'): the thread recorded no call there")


def test_other_values_count_unless_they_are_not_to(store: CheckpointStore) -> None:
    world = World()
    old = recorded(world, store)
    newer = world.graph(first=says("better"))
    found = check(store, newer)
    first = next(shot for shot in old.get_state_history(config("ended")) if shot.next == ("pay",))
    away = found["ended"].divergence
    assert away is not None
    assert (away.kind, away.node, away.checkpoint_id) == ("state", "first", first.checkpoint_id)
    assert "better" in away.what
    assert found["waits"].divergence is not None
    assert all(one.divergence is None for one in check(store, newer, states=False).values())


def test_failures_old_and_new() -> None:
    store = MemoryStore()

    def fails(state: Any) -> Any:
        raise ValueError("no")

    world = World()
    old = world.graph(store, "1", nap=fails, ask=None)
    with pytest.raises(ValueError, match="no"):
        old.invoke({"n": 1}, config("t"))
    assert check(store, world.graph(nap=fails, ask=None))["t"].divergence is None
    earlier = check(store, world.graph(pay=fails, ask=None))["t"].divergence
    assert earlier is not None
    assert (earlier.kind, earlier.node, earlier.what) == ("failed", "pay", "ValueError: no")
    mended = check(store, world.graph(nap=says("slept"), ask=None))["t"].divergence
    assert mended is not None
    assert (mended.kind, mended.node) == ("status", "nap")
    assert "no" in mended.what


def test_it_goes_on_from_the_last_change_from_outside() -> None:
    store, world = MemoryStore(), World()
    old = world.graph(store, "1")
    old.invoke({"n": 1}, config("t"), interrupt_before=["pay"])
    old.update_state(config("t"), {"n": 7})
    old.invoke(None, config("t"))
    assert check(store, world.graph())["t"] == Checked(thread_id="t", steps=2)
    old.invoke(Command(resume="yes"), config("t"))
    old.update_state(config("t"), {"n": 8})
    assert check(store, world.graph())["t"].divergence is None


def test_steps_of_several_nodes() -> None:
    store, world = MemoryStore(), World()
    nodes = {name: node for name, node in world.nodes().items() if name in ("first", "pay", "ask")}
    old = fan(nodes, store, says("end"), name="shop", version="1")
    for name in ("ended", "waits"):
        old.invoke({"n": 1}, config(name))
    old.invoke(Command(resume="yes"), config("ended"))
    newer = fan(nodes, None, says("end"), name="shop", version="2")
    assert all(one.divergence is None for one in check(store, newer).values())
    del nodes["first"]
    found = check(store, fan(nodes, None, says("end"), name="shop", version="3"), {"threads": ["ended"]})
    away = found["ended"].divergence
    assert away is not None
    assert away.kind == "failed"
    assert "'first'" in away.what


def test_what_acts_without_a_record_is_not_run() -> None:
    store, world = MemoryStore(), World()
    world.graph(store, "1", ask=None).invoke({"n": 1}, config("t"))

    def acts(state: Any) -> Any:
        raise AssertionError("it must not be run")

    builder = wire({"first": says("first")}, [(START, "first"), ("first", "acts"), ("acts", END)])
    found = check(store, builder.add_node("acts", acts, effects=True).compile(name="shop", version="2"))
    away = found["t"].divergence
    assert away is not None
    assert (away.kind, away.node, away.what) == ("nodes", "first", "acts would run next, and not pay")
    builder = wire({"first": says("first")}, [(START, "first"), ("first", "pay"), ("pay", END)])
    away = check(store, builder.add_node("pay", acts, effects=True).compile(name="shop"))["t"].divergence
    assert away is not None
    assert (away.kind, away.node) == ("effect", "pay")


def test_versions_with_and_without_a_way_to_them() -> None:
    store, world = MemoryStore(), World()
    world.graph(store, "1", ask=None).invoke({"n": 1}, config("t"))
    nodes = {name: node for name, node in world.nodes().items() if name != "ask"}
    fits = Migration(from_version="1", to_version="2", migrate=lambda state: state)
    newer = chain(nodes, None, name="shop", version="2", migrations=[fits])
    assert check(store, newer)["t"].divergence is None
    misses = Migration(from_version="0", to_version="2", migrate=lambda state: state)
    away = check(store, chain(nodes, None, name="shop", version="2", migrations=[misses]))["t"].divergence
    assert away is not None
    assert (away.kind, away.node) == ("failed", "first")
    assert "migration" in away.what


def test_a_fork_is_checked_over_what_is_its_own() -> None:
    store, world = MemoryStore(), World()
    old = recorded(world, store)
    at = next(shot for shot in old.get_state_history(config("ended")) if shot.next == ("nap",))
    fork = old.fork(at.config, thread_id="fork")
    old.invoke(None, fork)
    found = check(store, world.graph(), {"threads": ["fork"]})
    assert found["fork"].divergence is None
    assert world.paid == [0, 1]


def test_threads_of_another_graph_are_left_out() -> None:
    store, world = MemoryStore(), World()
    recorded(world, store)
    other = chain({"a": says(1)}, None, name="other")
    assert check(store, other) == {}
    assert len(check(store, world.graph(), limit=1)) == 1
    with pytest.raises(InputError, match="where names graph 'other'"):
        check(store, world.graph(), {"graph": "other"})
    with pytest.raises(InputError, match="no condition"):
        check(store, world.graph(), {"nope": 1})  # type: ignore[arg-type]


# -- the command line ------------------------------------------------------------------------------------------------


class Here(Call):
    """A use of the command line that is handed its store."""

    handed: CheckpointStore

    @contextmanager
    def opened(self) -> Iterator[CheckpointStore]:
        yield self.handed


def command(store: CheckpointStore, reference: str, **wishes: Any) -> Answer:
    call = Here()
    object.__setattr__(call, "handed", store)
    options = {"limit": None, "sample": None, "states": True, **_NO_OPTIONS, **wishes}
    return replay_check_command(call, reference=reference, **options)


_NO_OPTIONS = dict.fromkeys(("thread", "graph", "status", "tag", "metadata", "error", "since", "until"))


@pytest.mark.parametrize(("said", "code"), [("last", Exit.OK), ("changed", Exit.FAILED)])
def test_the_command(said: str, code: Exit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    store = MemoryStore()
    nodes = {"first": says("first"), "last": says("last")}
    chain(nodes, store, name="small", version="1").invoke({}, config("t"))
    module = f"replayed_{said}"
    source = f"""
        from tests.runtime.engine import chain, says

        def last(state):
            print("noise")
            return {{"items": [{said!r}]}}

        graph = chain({{"first": says("first"), "last": last}}, None, name="small", version="2")
    """
    (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(str(tmp_path))
    answer = command(store, f"{module}:graph")
    assert answer.code is code
    ((thread,), printed) = answer.document["threads"], capsys.readouterr()
    assert printed.out == ""
    assert "noise\n" in printed.err
    assert thread["thread_id"] == "t"
    assert (thread["divergence"] is None) == (code is Exit.OK)
    assert thread == asdict(check(store, sys.modules[module].graph)["t"])
    assert answer.notes[0].endswith(f"checked with version '2', {int(code)} diverge")


def test_a_check_of_nothing_does_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A selection that found no thread, by a mistake in it, let the pipeline deploy whatever it was."""
    (tmp_path / "replayed_nothing.py").write_text(
        "from tests.runtime.engine import chain, says\n"
        "graph = chain({'first': says('first')}, None, name='small')\n"
        "other = chain({'first': says('first')}, None, name='other')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    store = MemoryStore()
    small = chain({"first": says("first")}, store, name="small")
    small.invoke({}, config("t"))
    assert command(store, "replayed_nothing:graph", sample=0.1).code is Exit.OK
    for answer in (
        command(store, "replayed_nothing:other"),
        command(store, "replayed_nothing:graph", status=["failed"]),
    ):
        assert answer.code is Exit.FAILED
        assert answer.document["checked"] == 0
        assert answer.notes[-1].startswith("nothing was checked")
    small.fork(small.get_state(config("t")).config, thread_id="inherits")
    only = command(store, "replayed_nothing:graph", thread=["inherits"])
    assert only.code is Exit.FAILED
    assert (only.document["checked"], "1 skipped, such as inherits" in only.notes[1]) == (0, True)
