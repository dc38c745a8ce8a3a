"""What is done to many threads at once, without Ray: each gets it alone and once, and who refuses it is told of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from perdure import (
    CheckpointStore,
    CompiledGraph,
    InputError,
    StoreMisuse,
    StoreUnavailable,
    ThreadHandle,
    Unencodable,
    open_store,
    receive,
)
from perdure.cluster.cli import app
from perdure.cluster.many import ManyThreads, delete_each
from perdure.cluster.reader import Reader
from perdure.runtime.clock import Clock
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Delivery, Expect
from perdure.stores.records import IN_PROCESS, Message, Origin, Status, ThreadRecord
from tests.cluster.pumping import PumpedClient
from tests.runtime.engine import asks, chain, says
from tests.sim.faults import Delegating
from tests.stores.backends import new_thread


class Steering(PumpedClient, ManyThreads):
    """A client whose threads run while somebody calls `pump`."""

    def _handle(
        self, thread_id: str, run: int, graph: CompiledGraph | None, clock: Clock | None = None
    ) -> ThreadHandle:
        return ThreadHandle(
            self.store, thread_id, run, notify=lambda name: None, stalled=lambda name: "", graph=graph, clock=clock
        )

    def state(self, thread_id: str) -> Any:
        row = self.store.thread(thread_id)
        return row.status, self.thread(thread_id, graph=self.graphs[row.graph]).get_state().values.get("items")


class Failing(Delegating):
    """Goes away after the first message."""

    left = 1

    def deliver(self, thread_id: str, message: Message, expect: Expect, **more: Any) -> Delivery:
        if not self.left:
            raise StoreUnavailable("it is away")
        self.left -= 1
        return self.inner.deliver(thread_id, message, expect, **more)


ASKING = chain({"one": asks("first?"), "two": asks("second?")}, None, name="asking")
HEARING = chain({"hear": lambda state: {"items": [receive("price")]}}, None, name="hearing")
SAYING = chain({"say": says("hello")}, None, name="saying")


@pytest.fixture
def client() -> Steering:
    """Three threads that ask, two that listen, and one that has ended."""
    client = Steering(MemoryStore())
    for graph, names in ((ASKING, "abc"), (HEARING, "hi"), (SAYING, "s")):
        for name in names:
            client.submit(graph, {}, name)
    client.pump_all()
    return client


def test_an_answer_for_many(client: Steering) -> None:
    tried = client.resume_many({"status": "interrupted"}, "yes", dry_run=True)
    assert sorted(tried.done) == ["a", "b", "c"]
    assert not client.pump()
    done = client.resume_many({"threads": ["a", "s", "b", "h"]}, "yes")
    assert done.done == ("a", "b")
    assert set(done.refused) == {"s", "h"}
    client.pump_all()
    assert client.state("a") == (Status.INTERRUPTED, ["yes"])
    assert not client.state("c")[1]


def told(client: Steering, kind: str) -> dict[str, list[str]]:
    """The ids of the messages of a kind, by thread."""
    found = {row.thread_id: client.store.messages(row.thread_id, unread=False) for row in client.rows()}
    return {name: ids for name, all_ in found.items() if (ids := [one.message_id for one in all_ if one.kind == kind])}


def test_an_operation_with_a_limit_takes_no_more_when_it_is_called_again(client: Steering) -> None:
    """Those that were reached fitted the condition no more, and as many others were reached instead."""
    waiting: Any = {"status": "interrupted"}
    first = client.resume_many(waiting, "yes", limit=1, operation_id="op")
    for _ in range(2):
        again = client.resume_many(waiting, "yes", limit=1, operation_id="op")
        assert (again.done, again.refused) == (first.done, {})
    assert told(client, "resume") == {first.done[0]: ["op:resume:1"]}
    # More are taken when it may be more: those that were chosen before stay.
    tried = client.resume_many(waiting, "yes", limit=2, operation_id="op", dry_run=True)
    more = client.resume_many(waiting, "yes", limit=2, operation_id="op")
    assert tried.done == more.done
    assert more.done[0] == first.done[0]
    client.pump_all()
    assert client.resume_many(waiting, "yes", limit=2, operation_id="op").done == more.done
    assert told(client, "resume") == {name: ["op:resume:1"] for name in more.done}
    # Another operation has a limit of its own.
    other = client.resume_many(waiting, "yes", limit=1, operation_id="other")
    assert len(other.done) == 1
    assert told(client, "resume")[other.done[0]][-1] == "other:resume:1"


def test_a_limited_operation_that_broke_off_reaches_those_it_had_chosen(client: Steering) -> None:
    inner = client.store
    client.store = Failing(inner)
    with pytest.raises(StoreUnavailable):
        client.cancel_many({"graph": "asking"}, limit=2, operation_id="op")
    client.store = inner
    (reached,) = told(client, "cancel")
    client.pump_all()
    client.submit(ASKING, {}, "newest")
    client.pump_all()
    done = client.cancel_many({"graph": "asking", "status": "interrupted"}, limit=2, operation_id="op")
    assert done.done[0] == reached
    assert set(told(client, "cancel")) == set(done.done) < {"a", "b", "c"}


def test_an_operation_id_counts_for_one_kind(client: Steering) -> None:
    """A cancellation under the id that answers had been sent with reached nobody, and was told of as done."""
    hearing: Any = {"graph": "hearing"}
    client.signal_many(hearing, "weight", 1, operation_id="op")
    client.signal_many(hearing, "price", 3, operation_id="op")
    client.pump_all()
    assert [client.state(name) for name in "hi"] == [(Status.SUCCEEDED, [3])] * 2
    client.resume_many({"graph": "asking"}, "yes", operation_id="op")
    client.pump_all()
    assert set(client.cancel_many({"graph": "asking"}, operation_id="op").done) == set("abc")
    client.pump_all()
    assert {client.store.thread(name).status for name in "abc"} == {Status.CANCELLED}


def test_nobody_gets_an_answer_twice(client: Steering) -> None:
    """The same operation again, when the threads had come to their next question: that one was answered too."""
    asking: Any = {"graph": "asking"}
    first = client.resume_many(asking, "yes", limit=2, operation_id="op")
    client.pump_all()
    again = client.resume_many(asking, "yes", operation_id="op")
    assert set(again.done) == {"a", "b", "c"} > set(first.done)
    client.pump_all()
    for name in "abc":
        assert client.state(name) == (Status.INTERRUPTED, ["yes"])
    client.resume_many(asking, "no")
    client.pump_all()
    for name in "abc":
        assert client.state(name) == (Status.SUCCEEDED, ["yes", "no"])


def test_signals_after_an_outage(client: Steering) -> None:
    """The store goes away in the middle; the operation is called again, and each thread has one signal."""
    inner = client.store
    client.store = Failing(inner)
    with pytest.raises(StoreUnavailable):
        client.signal_many({"graph": "hearing"}, "price", 3, operation_id="op")
    client.store = inner
    client.pump_all()
    done = client.signal_many({"graph": "hearing"}, "price", 3, operation_id="op")
    assert (sorted(done.done), done.refused) == (["h", "i"], {})
    client.pump_all()
    for name in "hi":
        assert client.state(name) == (Status.SUCCEEDED, [3])
        assert [one.kind for one in inner.messages(name, unread=False)].count("signal") == 1


def test_cancel_and_delete(client: Steering) -> None:
    client.store.create(new_thread("mine", driver=IN_PROCESS, status=Status.PAUSED))
    done = client.cancel_many({}, "enough")
    assert sorted(done.done) == ["a", "b", "c", "h", "i"]
    assert set(done.refused) == {"s", "mine"}
    assert "driven by invoke()" in done.refused["mine"]
    client.pump_all()
    assert {client.store.thread(name).status for name in done.done} == {Status.CANCELLED}
    assert client.store.thread("a").reason == "enough"
    client.store.create(new_thread("queued", created_at=2e10))
    seq = client.store.thread("a").seq
    fork = new_thread("fork", status=Status.PAUSED, origin=Origin(thread_id="a", seq=seq), seq=seq, created_at=1e10)
    client.store.create(fork)
    gone = client.delete_many({})
    assert gone.done[0] == "fork"
    assert set(gone.refused) == {"queued"}
    assert [row.thread_id for row in client.rows()] == ["queued"]


def test_tags(client: Steering) -> None:
    done = client.tag_many({"status": ["interrupted", "waiting"]}, add=["open", "x"])
    assert sorted(done.done) == ["a", "b", "c", "h", "i"]
    client.tag_many({"tag": "open", "graph": "asking"}, remove=["open"], add=["asks"])
    assert {row.thread_id: row.tags for row in client.rows()} == {
        **dict.fromkeys("abc", ("x", "asks")),
        **dict.fromkeys("hi", ("open", "x")),
        "s": (),
    }
    client.resume_many({"tag": "asks"}, "yes")
    client.pump_all()
    assert client.store.thread("a").tags == ("x", "asks")
    for wrong in ({"add": "x"}, {}, {"add": ["x"], "remove": ["x"]}):
        with pytest.raises(InputError):
            client.tag_many({}, **wrong)


def test_what_no_thread_can_get(client: Steering) -> None:
    before = client.rows()
    with pytest.raises(InputError, match="a signal was named ''"):
        client.signal_many({}, "", 1)
    with pytest.raises(InputError, match="'color', which is no condition"):
        client.signal_many({"color": "red"}, "price")  # type: ignore[typeddict-unknown-key]
    with pytest.raises(Unencodable):
        client.resume_many({}, object())
    with pytest.raises(StoreMisuse, match="at most 512"):
        client.resume_many({}, 1, operation_id="x" * 600)
    for limit in (-1, 1.5):
        with pytest.raises(InputError, match="limit is"):
            client.cancel_many({}, limit=limit)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="limit is"):
            client.delete_many({}, limit=limit)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="status is 'asleep'"):
        client.tag_many({"status": "asleep"}, add=["x"])
    with pytest.raises(InputError, match="status is 'asleep'"):
        next(Reader(client.store).threads(status="asleep"))
    assert client.rows() == before


def test_a_thread_that_took_the_place_of_one_that_was_chosen_is_left_alone() -> None:
    class Remade(Delegating):
        def delete(self, thread_id: str, *, seen: ThreadRecord | None = None) -> None:
            self.inner.delete(thread_id, seen=seen)
            if thread_id == "z":
                self.inner.delete("t")
                self.inner.create(new_thread("t", status=Status.PAUSED, created_at=77.0))

    store = Remade(MemoryStore())
    store.create(new_thread("t", status=Status.PAUSED, created_at=1.0))
    store.create(new_thread("z", status=Status.PAUSED, created_at=2.0))
    done = delete_each(store, {}, limit=None, dry_run=False)
    assert (done.done, list(done.refused)) == (("z",), ["t"])
    assert store.thread("t").created_at == 77.0


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/threads.db"
    monkeypatch.delenv("PERDURE_STORE", raising=False)
    with open_store(url) as store:
        for name, status in (("t-1", Status.PAUSED), ("t-2", Status.QUEUED), ("u", Status.PAUSED)):
            store.create(new_thread(name, status=status, tags=("old",) if name != "u" else ()))

    def run(*given: str) -> tuple[int, Any]:
        done = CliRunner().invoke(app, ["many", "delete", *given, "--store", url, "--json"])
        return done.exit_code, json.loads(done.stdout)

    code, refused = run()
    assert (code, refused["error"]["type"]) == (2, "InputError")
    assert run("--tag", "old", "--status", "paused", "--dry-run")[1]["done"] == ["t-1"]
    code, done = run("--tag", "old")
    assert (code, done["done"], list(done["refused"])) == (1, ["t-1"], ["t-2"])
    (tmp_path / "conditions_of_many.py").write_text(
        "import pyarrow.compute as pc\nlong, none = pc.field('step') > 0, pc.field('step') > 9\n"
    )
    monkeypatch.chdir(tmp_path)
    with open_store(url) as store:
        chain({"a": says("a"), "b": says("b")}, store).invoke(
            {"items": []}, config={"configurable": {"thread_id": "chained"}}
        )
    assert run("--history", "conditions_of_many:long", "--dry-run")[1]["done"] == ["chained"]
    assert run("--history", "conditions_of_many:none")[1]["done"] == []
    assert run("--channels", "items")[1]["error"]["type"] == "InputError"
    assert run("--history", "conditions_of_many:long")[1]["done"] == ["chained"]
    with open_store(url) as store:
        left: CheckpointStore = store
        assert {row.thread_id for row in left.threads().threads} == {"t-2", "u"}
