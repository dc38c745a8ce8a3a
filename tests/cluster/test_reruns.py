"""Batch re-runs, without Ray: which threads are taken, from where, and that none is forgotten or begun twice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.compute as pc
import pytest

from perdure import (
    CheckpointStore,
    CompiledGraph,
    InputError,
    InvalidUpdateError,
    Unencodable,
    interrupt,
    open_store,
    task,
)
from perdure.cluster.choosing import Choice, chosen
from perdure.cluster.cli.call import Call
from perdure.cluster.cli.exits import Exit, code_of
from perdure.cluster.cli.rerunning import rerun
from perdure.cluster.submission import Wishes
from perdure.runtime.batches import RERUNS, Item, Outcome, Start, start, thread_of
from perdure.runtime.reruns import Effects
from perdure.stores.base import NewThread
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Delivery
from perdure.stores.records import BATCH, BATCH_MARK, RERUN, Message, Status, ThreadRecord
from tests.cluster.pumping import PumpedClient, pumping
from tests.runtime.engine import chain, says
from tests.runtime.test_checkpoint_kills import Mortal
from tests.sim.faults import Died

T = TypeVar("T")


class Work:
    """A graph of three nodes; the second pays, and breaks for some inputs."""

    def __init__(self) -> None:
        self.paid: list[int] = []
        self.broken = True

    def graph(self, name: str = "work", version: str = "1", last: str = "last", store: Any = None) -> CompiledGraph:
        @task
        def pay(n: int) -> str:
            self.paid.append(n)
            return f"receipt {n}"

        def middle(state: Any) -> Any:
            if self.broken and state["n"] % 3 == 2:
                raise ValueError(f"no luck with {state['n']}")
            return {"items": [pay(state["n"])]}

        nodes = {"first": says("first"), "middle": middle, "last": says(last)}
        return chain(nodes, store, name=name, version=version)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def client(work: Work) -> PumpedClient:
    """A client with the threads t0 to t5, of which t2 and t5 have failed."""
    found = PumpedClient(MemoryStore())
    fill(found, work)
    return found


@pytest.fixture
def sqlite(work: Work, tmp_path: Path) -> Iterator[PumpedClient]:
    """The same on SQLite."""
    with open_store(f"sqlite:///{tmp_path}/s.db") as store:
        found = PumpedClient(store)
        fill(found, work)
        yield found


def fill(client: PumpedClient, work: Work, many: int = 6) -> None:
    graph = work.graph()
    for number in range(many):
        metadata = {"even": number % 2 == 0}
        client.submit(graph, {"n": number}, f"t{number}", metadata=metadata, tags=("low",) if number < 2 else ())
    client.pump_all()


def ids(store: CheckpointStore, where: Any, **more: Any) -> list[str]:
    wishes = {"limit": None, "sample": None, "seed": "s", **more}
    return sorted(record.thread_id for record in chosen(store, Choice.of(where), **wishes))


# -- choosing --------------------------------------------------------------------------------------------------------


def test_which_threads_are_chosen(client: PumpedClient, work: Work) -> None:
    store = client.store
    now = datetime.now(UTC)
    assert ids(store, None) == [f"t{n}" for n in range(6)]
    assert ids(store, {"status": "failed"}) == ["t2", "t5"]
    assert ids(store, {"status": ["failed"], "error": "with 5"}) == ["t5"]
    assert ids(store, {"metadata": {"even": True}, "status": "succeeded"}) == ["t0", "t4"]
    assert ids(store, {"tag": "low"}) == ["t0", "t1"]
    assert ids(store, {"graph": "other"}) == []
    assert ids(store, {"threads": ["t3", "t1"], "status": "succeeded"}) == ["t1", "t3"]
    assert ids(store, {"since": now - timedelta(hours=1), "until": now + timedelta(hours=1)}) != []
    assert ids(store, {"until": now - timedelta(hours=1)}) == []
    assert ids(store, {"history": pc.field("state.n") >= 4, "channels": ["n"]}) == ["t4", "t5"]
    assert ids(store, {"history": pc.field("step") == 2}) == ["t0", "t1", "t3", "t4"]
    assert len(ids(store, None, sample=3)) == 3
    assert ids(store, None, sample=0.5) == ids(store, None, sample=0.5)
    assert len(ids(store, None, sample=0.5, limit=2)) == 2


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ({"grpah": "x"}, "'grpah', which is no condition"),
        ({"until": datetime(2026, 1, 1)}, "without a time zone"),
        ({"history": "n > 3"}, "give an expression"),
        ({"history": pc.field("state.x") > 1}, "name channels as `state.<name>`"),
        ({"threads": "t1"}, "give a list of ids"),
        ({"threads": 7}, "threads is 7; give a list of ids"),
        ({"threads": ["t1", 7]}, "threads has 7"),
        ({"status": "faild"}, "status is 'faild', which no thread has; there are queued, running"),
        ({"status": ["failed", 7]}, "status is 7"),
        ({"status": 7}, "status is 7"),
        ({"error": 5}, "error is 5; give a text"),
        ({"graph": b"work"}, "graph is b'work'"),
        ({"metadata": ["even"]}, "give a dict of keys and values"),
        ({"since": "yesterday"}, "since is 'yesterday'; give a datetime"),
        ({"channels": "n"}, "give a list of names"),
        ({"channels": ["n"]}, "alone they choose nothing"),
        (["t1"], "give a dict of conditions"),
    ],
)
def test_wrong_conditions(client: PumpedClient, where: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        client.rerun(where, dry_run=True)


@pytest.mark.parametrize(
    ("wishes", "text"),
    [
        *(({"rate": rate}, "give threads per second") for rate in (math.inf, math.nan, -1, 0, "fast", True, 10**400)),
        *(({"at": at}, "names no checkpoint") for at in ("step:--1", "step:", "step:x", "before:", "", None, 7)),
        *(({"max_failures": many}, "max_failures is") for many in (-1, 1.5, "2", math.nan)),
        *(({"sample": sample}, "give how many") for sample in (0, -1, 1.0, 2.7, math.nan, math.inf, "3", True)),
        *(({"limit": limit}, "limit is .* at least 0") for limit in (-1, 1.5, "2", True)),
        *(({"concurrency": many}, "concurrency is") for many in (0, None, 2.0)),
        ({"update": 5}, "update is 5; give a dict"),
        ({"graph": "work"}, "graph is 'work'; give the compiled graph"),
        ({"update": [("n", 1)]}, "give a dict of keys and values, or a function"),
        ({"effects": "none"}, "is unknown"),
    ],
)
def test_wrong_wishes(client: PumpedClient, wishes: Any, text: str) -> None:
    """Several were taken, and failed the batch later or meant something else; others were raw errors of Python's."""
    before = client.rows()
    with pytest.raises(InputError, match=text):
        client.rerun({"graph": "work"}, batch_id="b", **wishes)
    assert client.rows() == before


def test_an_update_that_suits_no_thread(client: PumpedClient, work: Work) -> None:
    """Each of its threads was skipped for it, and the batch succeeded."""
    before = client.rows()
    with pytest.raises(InvalidUpdateError, match="the key 'nope', which State does not have"):
        client.rerun(None, graph=work.graph(), update={"nope": 1})
    with pytest.raises(Unencodable):
        client.rerun(None, update={"items": object()})
    found = client.rerun({"threads": ["t0"]}, at="before:last", update=lambda shot: shot.values["n"] + 1, dry_run=True)
    assert found.skipped == {"t0": "update is 1; give a dict of keys and values, or a function that returns one"}
    assert client.rows() == before


def test_a_batch_is_not_run_again_as_a_thread(client: PumpedClient) -> None:
    """A batch that was cancelled could be copied by another, and the copy began the rest of its items, in its name."""
    batch = client.rerun({"status": "succeeded"}, at="before:middle", concurrency=1, batch_id="b")
    client.pump(items=False)
    with pumping(client):
        batch.cancel()
    found = client.rerun({"threads": ["b", "t0"]}, at="step:0", effects="live", batch_id="c")
    client.pump_all()
    assert found.progress().outcomes == {Outcome.SKIPPED: 1, Outcome.SUCCEEDED: 1}
    assert sorted(begun(client)) == ["b/t4", "c/t0"]


def test_of_a_share_of_few_one_is_left(client: PumpedClient) -> None:
    assert len(ids(client.store, None, sample=0.05)) == 1
    assert ids(client.store, {"graph": "other"}, sample=0.05) == []


def test_which_checkpoint_is_chosen(client: PumpedClient) -> None:
    def plan(at: Any, **wishes: Any) -> list[Item]:
        found = client.rerun({"threads": ["t0", "t2"]}, at=at, dry_run=True, batch_id="b", **wishes)
        return list(found.items)

    history = {shot.metadata["step"]: int(shot.checkpoint_id) for shot in client.thread("t0").get_state_history()}
    ended, failed = plan("latest")
    assert (ended.skipped, failed.seq) == (
        f"nothing was left to run at its checkpoint {history[2]:010}; choose an earlier one",
        client.store.thread("t2").head,
    )
    assert [item.seq for item in plan("before:middle")] == [history[0], history[0]]
    assert [item.skipped for item in plan("before:last")] == ["", "node 'last' was not to run in its run 1"]
    assert [item.seq for item in plan("step:-1")] == [history[-1], history[-1]]
    assert [item.seq for item in plan(lambda handle: f"{history[0]:010}" if handle.thread_id == "t0" else None)] == [
        history[0],
        0,
    ]
    with pytest.raises(InputError, match="names no checkpoint"):
        plan("yesterday")
    assert client.rerun({"threads": ["t0"]}, at="step:0", dry_run=True, batch_id="b").table().to_pylist() == [
        {"thread_id": "t0", "rerun_id": "b/t0", "checkpoint_id": f"{history[0]:010}", "skipped": None}
    ]
    assert len(client.rows()) == 6


# -- running ---------------------------------------------------------------------------------------------------------


def test_a_batch_with_another_version(sqlite: PumpedClient, work: Work) -> None:
    client = sqlite
    paid = list(work.paid)
    newer = work.graph(version="2", last="better")
    batch = client.rerun(
        {"status": "succeeded"},
        at="before:middle",
        graph=newer,
        update=lambda state: {"items": [f"patched {state.values['n']}"]},
        concurrency=2,
        batch_id="b",
    )
    client.pump_all()
    assert batch.wait(0).outcomes == {Outcome.SUCCEEDED: 4}
    assert batch.failures() == []
    for number in (0, 1, 3, 4):
        found = client.thread(f"b/t{number}").get_state()
        assert found.values["items"] == ["first", f"patched {number}", f"receipt {number}", "better"]
        assert client.thread(f"t{number}").get_state().values["items"][-1] == "last"
        record = client.store.thread(f"b/t{number}")
        assert (record.version, record.metadata[BATCH], record.metadata["even"]) == ("2", "b", number % 2 == 0)
    assert work.paid == paid
    # The same id again is the same batch.
    assert client.rerun(None, batch_id="b").items() == batch.items()
    assert len(client.rows()) == 6 + 1 + 4
    assert [row["outcome"] for row in batch.table().to_pylist()] == ["succeeded"] * 4


def test_only_the_failed_ones_again(client: PumpedClient, work: Work) -> None:
    batch = client.rerun({"error": "no luck"}, effects="live", batch_id="b")
    client.pump_all()
    assert {one.thread_id: one.outcome for one in batch.failures()} == {"t2": "failed", "t5": "failed"}
    assert all("no luck with" in one.reason for one in batch.failures())
    work.broken = False
    again = batch.failed(batch_id="c")
    client.pump_all()
    assert (again.progress().outcomes, len(again.items())) == ({Outcome.SUCCEEDED: 2}, 2)
    assert client.thread("c/t2").get_state().values["items"] == ["first", "receipt 2", "last"]
    with pytest.raises(InputError, match="no item has failed"):
        again.failed()


def test_what_was_not_recorded_stops_the_item_with_the_reason(client: PumpedClient, work: Work) -> None:
    work.broken = False
    batch = client.rerun({"status": "failed"})
    client.pump_all()
    assert [one.reason.partition(":")[0].rpartition(".")[2] for one in batch.failures()] == ["NotRecorded"] * 2
    assert sorted(work.paid) == [0, 1, 3, 4]


def test_too_many_failures_stop_the_batch(client: PumpedClient, work: Work) -> None:
    batch = client.rerun(None, at="before:middle", concurrency=1, max_failures=0, batch_id="b")
    client.pump_all()
    stopped = batch.wait(0)
    assert (stopped.status, stopped.outcomes[Outcome.FAILED]) == (Status.INTERRUPTED, 1)
    assert stopped.ended < 6
    for failed in (2, 2):
        # As many more are accepted: none.
        batch.resume()
        client.pump_all()
        assert batch.wait(0).outcomes[Outcome.FAILED] == failed
    assert batch.wait(0).outcomes == {Outcome.SUCCEEDED: 4, Outcome.FAILED: 2}
    assert batch.status is Status.SUCCEEDED


def test_pause_resume_and_cancel(client: PumpedClient) -> None:
    batch = client.rerun(None, at="before:middle", concurrency=2, batch_id="b")
    client.pump(items=False)
    batch.pause()
    client.pump_all()
    before = begun(client)
    assert (batch.status, len(before)) == ("paused", 2)
    batch.resume()
    while len(begun(client)) < 4:
        client.pump(items=False)
    with pumping(client):
        batch.cancel("enough")
    client.pump_all()
    assert batch.status == "cancelled"
    # The two before the pause have come to their own ends; those that were under way have not.
    after = begun(client)
    assert {name for name, row in after.items() if row.status is Status.CANCELLED} == after.keys() - before.keys()
    assert {after[name].reason for name in after.keys() - before.keys()} == {"enough"}
    assert len(after) == 4
    assert all(row.status.ended for row in after.values())


def begun(client: PumpedClient) -> dict[str, ThreadRecord]:
    """The threads of batches."""
    return {row.thread_id: row for row in client.rows() if BATCH in row.metadata}


def test_items_that_wait_for_somebody() -> None:
    client = PumpedClient(MemoryStore())
    client.submit(chain({"first": says("a"), "ask": lambda state: {"items": [interrupt("?")]}}, None), {}, "t")
    client.pump_all()
    batch = client.rerun(None, at="before:ask", effects="live", batch_id="b")
    client.pump_all()
    ((one,), found) = batch.failures(), batch.progress()
    assert (one.outcome, found.status) == (Outcome.STOPPED, Status.SUCCEEDED)
    assert one.reason.startswith("interrupted: it waits for")
    assert client.thread("b/t").status is Status.INTERRUPTED


def test_an_id_that_is_taken_and_an_origin_that_is_gone(sqlite: PumpedClient, work: Work) -> None:
    client = sqlite
    client.submit(work.graph(), {"n": 0}, "b/t1")
    batch = client.rerun({"threads": ["t0", "t1", "t3"]}, at="before:middle", batch_id="b")
    client.store.delete("t3")
    client.pump_all()
    reasons = {one.thread_id: one.reason for one in batch.failures()}
    assert batch.progress().outcomes == {Outcome.SUCCEEDED: 1, Outcome.FAILED: 2}
    assert "'b/t1'" in reasons["t1"]
    assert "no thread 't3'" in reasons["t3"]


# -- the command line ------------------------------------------------------------------------------------------------


class Here(Call):
    """A use of the command line whose service is pumped."""

    client: PumpedClient

    @contextmanager
    def connected(self, *args: Any, **options: Any) -> Iterator[Any]:
        yield self.client


def test_the_command(client: PumpedClient) -> None:
    call = Here()
    object.__setattr__(call, "client", client)
    planned = rerun(call, status=[Status.FAILED], error="with 5", dry_run=True, batch_id="b")
    assert [(row["thread_id"], row["skipped"]) for row in planned.document["items"]] == [("t5", None)]
    assert planned.notes == ("1 of 1 would be re-run",)
    begun = rerun(call, threads=["t5", "t0"], at="before:middle", batch_id="b", detach=True)
    assert begun.document == {"batch_id": "b", "status": "queued"}
    client.pump_all()
    found = rerun(call, batch_id="b")
    assert (found.code, found.document["outcomes"]) == (Exit.FAILED, {"failed": 1, "succeeded": 1})
    assert [one["rerun_id"] for one in found.document["failures"]] == ["b/t5"]
    assert found.notes[-1] == "to re-run only those that failed: perdure rerun --failed b"
    assert rerun(call, failed="b", batch_id="c", detach=True).document["batch_id"] == "c"
    with pytest.raises(InputError, match="name the threads to re-run"):
        rerun(call)
    for wrong in ({"rate": math.inf}, {"at": "step:--1"}, {"sample": 2.5}, {"sample": math.inf}, {"limit": -1}):
        with pytest.raises(InputError) as refused:
            rerun(call, status=[Status.FAILED], **wrong)
        assert code_of(refused.value) is Exit.USAGE
    assert len(rerun(call, sample=2.0, graph="work", dry_run=True).document["items"]) == 2


def test_the_command_takes_expressions_and_functions_of_a_module(
    client: PumpedClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Here()
    object.__setattr__(call, "client", client)
    (tmp_path / "chosen_by.py").write_text(
        "import pyarrow.compute as pc\n"
        "high = pc.field('state.n') >= 4\n"
        "def first(thread):\n"
        "    return list(thread.get_state_history())[-1].checkpoint_id\n"
    )
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {"history": "chosen_by:high", "channels": "n", "at": "chosen_by:first", "dry_run": True}
    items = rerun(call, **given).document["items"]
    assert sorted(row["thread_id"] for row in items) == ["t4", "t5"]
    assert {row["checkpoint_id"] for row in items} == {"0000000001"}
    for wrong in ({"history": "chosen_by:none"}, {"history": "high"}, {"at": "chosen_by:none"}):
        with pytest.raises(InputError, match=r"chosen_by|MODULE"):
            rerun(call, **{**given, **wrong})


def test_the_command_re_runs_failures_as_they_were_or_by_a_version_that_mends_them(
    client: PumpedClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began a batch where it was only to show one, and ran the old version where another was named."""
    call = Here()
    object.__setattr__(call, "client", client)
    rerun(call, threads=["t5", "t0"], at="before:middle", batch_id="b", detach=True, effects=Effects.LIVE)
    client.pump_all()
    others: list[dict[str, Any]] = [{"dry_run": True}, {"update": "{}"}, {"concurrency": 3}, {"limit": 1}, {"tag": "x"}]
    for other in others:
        with pytest.raises(InputError, match="does not go with it"):
            rerun(call, failed="b", batch_id="c", detach=True, **other)
    assert "c" not in {row.thread_id for row in client.store.threads().threads}
    repaired = Work()
    repaired.broken = False
    again = client.batch("b").failed(graph=repaired.graph(version="2"), batch_id="c")
    client.pump_all()
    assert again.progress().outcomes == {Outcome.SUCCEEDED: 1}
    assert client.store.thread("c/t5").version == "2"


def test_what_a_cancelled_batch_has_not_begun_can_be_re_run(client: PumpedClient) -> None:
    batch = client.rerun({"status": "succeeded"}, at="before:middle", batch_id="b", concurrency=1)
    client.pump()
    batch.thread.cancel("enough")
    client.pump_all()
    assert batch.status is Status.CANCELLED
    assert len(batch.ended()) < len(batch.items()) == 4
    again = batch.failed(batch_id="c")
    client.pump_all()
    begun = {one.thread_id for one in batch.ended()}
    assert {item.thread_id for item in again.items()} == {item.thread_id for item in batch.items()} - begun


def test_conditions_without_a_value_are_refused(client: PumpedClient) -> None:
    """A script whose variable is not set chose the threads of all graphs."""
    for where in ({"graph": ""}, {"graph": None}, {"error": ""}, {"tag": ""}, {"status": None, "graph": "work"}):
        with pytest.raises(InputError, match="leave"):
            ids(client.store, where)
    call = Here()
    object.__setattr__(call, "client", client)
    with pytest.raises(InputError, match="leave graph out"):
        rerun(call, graph="", status=[Status.FAILED], dry_run=True)


# -- crashes ---------------------------------------------------------------------------------------------------------


class Mortals(Mortal):
    """Also dies where threads are made."""

    def create_many(self, threads: Any) -> Any:
        given: list[NewThread] = list(threads)
        return self._call(lambda: self.inner.create_many(given))

    def create(self, thread: ThreadRecord, message: Message | None = None) -> Delivery:
        return self._call(lambda: self.inner.create(thread, message))


def test_a_batch_whose_owner_dies_at_any_call() -> None:
    """Before the store does it, or after: each item is begun once and noted once."""
    for at in count():
        work, store = Work(), MemoryStore()
        client = PumpedClient(store)
        fill(client, work, 3)
        batch = client.rerun({"status": "succeeded"}, at="before:middle", concurrency=1, batch_id="b")
        mortal = Mortals(store, at // 2, after=bool(at % 2))
        while not client.store.thread("b").status.ended:
            try:
                client.pump(store if mortal.died else mortal)
            except Died:
                assert mortal.died
        client.pump_all()
        assert batch.progress().outcomes == {Outcome.SUCCEEDED: 2}
        assert sorted(one.thread_id for one in batch.ended()) == ["t0", "t1"]
        assert sorted(row.thread_id for row in client.rows() if BATCH in row.metadata) == ["b/t0", "b/t1"]
        assert sorted(work.paid) == [0, 1]
        if not mortal.died:
            assert at > 30
            break


# -- decisions -------------------------------------------------------------------------------------------------------


def begins(under_way: int, failures: int, now: float, **changes: Any) -> Start:
    state: Any = {"items": [[]] * 10, "concurrency": 4, "rate": None, "max_failures": 2, "begun": 3, "accepted": 0}
    state.update(changes)
    return start(state, under_way, failures, now)


def test_how_many_are_begun() -> None:
    assert begins(1, 0, 100.0) == Start(3, 0.0)
    assert begins(1, 3, 100.0).many == 0
    assert begins(4, 3, 100.0, accepted=3).many == 0
    assert begins(1, 3, 100.0, accepted=3).many == 3
    assert begins(0, 0, 100.0, begun=9).many == 1
    assert begins(0, 0, 100.0, rate=2.0) == Start(2, 100.0)
    assert begins(0, 0, 100.4, rate=2.0, paced=100.0) == Start(0, 100.0)
    assert begins(0, 0, 100.6, rate=2.0, paced=100.0) == Start(1, 100.5)
    assert begins(0, 0, 100.0, rate=0.1) == Start(1, 100.0)


def test_ids_of_items_are_not_too_long() -> None:
    assert thread_of("b", "t") == "b/t"
    assert len(thread_of("b", "t" * 512).encode()) < 512
    assert thread_of("b", "t" * 512) != thread_of("b", "u" * 512)


def test_nobody_gives_a_thread_the_marks_of_a_rerun() -> None:
    for key in (RERUN, BATCH, BATCH_MARK):
        with pytest.raises(InputError, match="kept for re-runs"):
            Wishes(metadata={key: {"recorded": True}}).run_options(RERUNS)
