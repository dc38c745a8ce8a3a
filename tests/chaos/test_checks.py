"""The judge can find fault: an honest thread passes every check; what is changed about it breaks its promise."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perdure import Command
from perdure.runtime.calls import CallKind
from perdure.runtime.clock import SystemClock
from perdure.runtime.compiled import CompiledGraph
from perdure.runtime.options import Durability, RunOptions
from perdure.runtime.payloads import INPUT, UPDATE, InputPayload, pack, pack_input
from perdure.runtime.signals import ACCEPTS_SIGNALS, signal_message
from perdure.stores.base import CheckpointStore
from perdure.stores.operations import Expect
from perdure.stores.records import IN_PROCESS, Message, Status, ThreadRecord
from perdure.stores.segments import Kind
from perdure.stores.sqlite import SqliteStore
from tests.chaos.checks import CHECKS, Broken, check_all
from tests.chaos.evidence import Evidence, gather
from tests.chaos.graphs import answer_to, graph
from tests.chaos.raw import read_raw
from tests.chaos.witness import LOG
from tests.faults.acks import AckLog, Acknowledged, AcknowledgingStore
from tests.recovery.faults import Entry, note

SCRIPT = [("steps", 3), ("fan", 2), ("ask", 1), ("pair", 1), ("hear", 1), ("nap", 1), ("charge", 0)]
ANY = Expect(statuses=frozenset(Status))


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """A thread that ran without faults, in this process; its log is completed with what its owner would have noted."""
    folder = tmp_path_factory.mktemp("honest")
    with SqliteStore(folder / "store.db") as store, AckLog(folder / "acks") as acks:
        noting = _Noting(store, acks)
        noting.log = folder / "t"
        _live(noting, folder)
        raw = read_raw(store)["t"]
        one = gather(store, raw, "t", Acknowledged.of(folder / "acks"), folder)
    seen = [(checkpoint, dict(values)) for checkpoint, values in one.states.items()]
    return replace(one, log=_with_owner(one), seen=seen)


class _Noting(AcknowledgingStore):
    """Notes claims, as a thread actor would."""

    log: Path

    def claim(self, thread_id: str, **given: Any) -> ThreadRecord:
        row = self.inner.claim(thread_id, **given)
        note(self.log, claimed=row.epoch, started=1)
        return row


def _live(store: CheckpointStore, folder: Path) -> None:
    own = CompiledGraph(graph.topology, store)
    # With async durability it depends on the moment whether a result is committed apart from its step's checkpoint.
    options = RunOptions(durability=Durability.SYNC, configurable={LOG: str(folder / "t")})
    payload = pack_input(graph.codec, InputPayload({"run": "r1", "script": SCRIPT}, options))
    row = ThreadRecord(thread_id="t", graph="chaos", version="1", driver=IN_PROCESS)
    store.create(row, Message(message_id="input", kind=INPUT, payload=payload))
    config = {"configurable": {"thread_id": "t", LOG: str(folder / "t")}}
    own.invoke(None, config)
    for text in ("one", "two"):
        update = pack(graph.codec, {"heard": [text]}, None, 0)
        store.deliver("t", Message(message_id=text, kind=UPDATE, payload=update), ANY)
    for name in ("odd", "even", "even"):
        store.deliver("t", signal_message(graph.codec, SystemClock(), name, f"{name} news"), ACCEPTS_SIGNALS)
    (question,) = own.get_state(config).interrupts
    own.invoke(Command(resume=answer_to(question.value)), config, durability="sync")


def _with_owner(one: Evidence) -> list[Entry]:
    """The log, with the launches and commits that a thread actor would have noted too."""
    log: list[Entry] = []
    for entry in one.log:
        log += [{**entry, "launch": entry["start"]}, entry] if "start" in entry else [entry]
    log += [{"committed": [first, last, commit], "epoch": 1, "pid": 1} for first, last, _, commit in one.raw.segments]
    return log


def test_an_honest_thread_passes(honest: Evidence) -> None:
    looked_at = check_all(honest)
    assert all(looked_at.values()), looked_at
    assert looked_at.keys() == CHECKS.keys()


def row(**changes: object) -> Callable[[Evidence], Evidence]:
    """The database's row is another, and the store says so too: only the histories can tell."""

    def change(one: Evidence) -> Evidence:
        one.raw.row.update(changes)
        return replace(one, row=replace(one.row, **changes))  # type: ignore[arg-type]

    return change


def messages(change: Callable[[list[Message]], list[Message]]) -> Callable[[Evidence], Evidence]:
    """The inbox is another, in the database too."""

    def changed(one: Evidence) -> Evidence:
        found = change(list(one.messages))
        one.raw.messages[:] = [(each.number, each.message_id, each.kind, each.name, each.applied) for each in found]
        return replace(one, messages=found)

    return changed


def segments(change: Callable[[list[tuple[int, int, int, str]]], object]) -> Callable[[Evidence], Evidence]:
    def changed(one: Evidence) -> Evidence:
        change(one.raw.segments)
        return one

    return changed


def values(**changes: object) -> Callable[[Evidence], Evidence]:
    return lambda one: replace(one, values={**one.values, **changes})


def a_result_twice(one: Evidence) -> Evidence:
    found = [each for each in one.segments if any(row.kind == Kind.RESULT for row in each.rows)]
    last = one.segments[-1]
    return replace(one, segments=[*one.segments[:-1], replace(last, rows=(*last.rows, *found[0].rows))])


def a_checkpoint_gone(one: Evidence) -> Evidence:
    gone = next(each for each in one.segments if any(row.kind == Kind.CHECKPOINT for row in each.rows))
    kept = tuple(row for row in gone.rows if row.kind != Kind.CHECKPOINT)
    return replace(one, segments=[replace(each, rows=kept) if each is gone else each for each in one.segments])


def a_later_owner_runs_it_again(one: Evidence) -> Evidence:
    task = next(entry["launch"] for entry in one.log if "launch" in entry)
    return replace(one, log=[*one.log, {"claimed": 9, "pid": 2, "started": 2}, {"launch": task, "pid": 2}])


def logged(**entry: object) -> Callable[[Evidence], Evidence]:
    return lambda one: replace(one, log=[*one.log, {"pid": 7, "started": 7, **entry}])


def a_call_twice(one: Evidence) -> Evidence:
    calls = [row for each in one.segments for row in each.rows if row.kind == Kind.CALL]
    encoding, payload = graph.codec.encode([0, CallKind.SLEEP.value, "", "something else"])
    last = one.segments[-1]
    forged = calls[0]._replace(encoding=encoding, payload=payload)
    return replace(one, segments=[*one.segments[:-1], replace(last, rows=(*last.rows, forged))])


def _key_of(one: Evidence) -> str:
    return str(next(entry["key"] for entry in one.log if "effect" in entry))


def shown_otherwise(one: Evidence) -> Evidence:
    checkpoint, shown = one.seen[0]
    return replace(one, seen=[(checkpoint, {**shown, "total": -1})])


TAMPERED: list[tuple[str, str, Callable[[Evidence], Evidence]]] = [
    ("V1", "a run is gone", lambda one: replace(one, runs=[])),
    ("V1", "a run is left open", lambda one: replace(one, runs=[replace(one.runs[0], status=Status.RUNNING)])),
    ("V2", "a result is there twice", a_result_twice),
    ("V2", "a later owner runs a durable task again", a_later_owner_runs_it_again),
    ("V2", "a task began that nobody launched", logged(start="t\n1\nstep")),
    ("V2", "a state that was shown has changed", shown_otherwise),
    ("V2", "a state that was shown is gone", lambda one: replace(one, seen=[("9999", {})])),
    ("V3", "a commit is gone", segments(lambda kept: kept.pop(2))),
    ("V3", "the last commit is gone", segments(lambda kept: kept.pop())),
    ("V3", "the epoch falls", segments(lambda kept: kept.__setitem__(0, (*kept[0][:2], 9, kept[0][3])))),
    ("V3", "two processes have one epoch", logged(claimed=1)),
    ("V3", "an acknowledged commit is lost", logged(committed=[90, 91, "x"])),
    ("V3", "an acknowledged commit is another's", lambda one: logged(committed=[1, one.raw.segments[0][1], "x"])(one)),
    ("V3", "a checkpoint has lost its child's parent", a_checkpoint_gone),
    ("V3", "the store says more than its database", lambda one: replace(one, row=replace(one.row, seq=99))),
    ("V4", "an acknowledged message is lost", lambda one: replace(one, acked={**one.acked, "lost": 3})),
    ("V4", "a message is there twice", messages(lambda all: [*all, replace(all[-1], number=len(all) + 1)])),
    ("V4", "a message was never read", messages(lambda all: [*all[:-1], replace(all[-1], applied=0)])),
    ("V4", "a message was dropped", messages(lambda all: [*all[:-1], replace(all[-1], applied=-1)])),
    ("V4", "an update was overtaken", messages(lambda all: [all[0], replace(all[1], applied=99), *all[2:]])),
    ("V4", "an update was not heard", values(heard=["one"])),
    ("V4", "an update was heard twice", values(heard=["one", "two", "two"])),
    ("V4", "updates in another order", values(heard=["two", "one"])),
    ("V2", "a recorded call has two values", a_call_twice),
    ("V6", "a signal was received that nobody sent", lambda one: values(trail=["x", *one.values["trail"]])(one)),
    ("V7", "an effect has two keys", logged(effect="r1.6", key="another")),
    ("V7", "two effects have one key", lambda one: logged(effect="x", key=_key_of(one))(one)),
    ("V2", "a receipt is kept that the sink never gave", values(receipts=["r1.6 0 forged"])),
    ("V8", "a timer is left", row(wake_at=1e9)),
    ("V5", "the thread is left running", row(status=Status.RUNNING)),
    ("V5", "the thread is still owned", row(token="token")),
    ("V6", "a step is missing", lambda one: values(trail=one.values["trail"][:-1])(one)),
    ("V6", "a step was made twice", lambda one: values(trail=[*one.values["trail"], one.values["trail"][-1]])(one)),
    ("V6", "merged as they came", lambda one: values(trail=sorted(one.values["trail"]))(one)),
    ("V6", "another sum", values(total=7)),
]


@pytest.mark.parametrize(
    ("promise", "tamper"), [(promise, tamper) for promise, _, tamper in TAMPERED], ids=[what for _, what, _ in TAMPERED]
)
def test_what_was_changed_is_noticed(honest: Evidence, promise: str, tamper: Callable[[Evidence], Evidence]) -> None:
    with pytest.raises(Broken) as caught:
        check_all(tamper(replace(honest, raw=deepcopy(honest.raw))))
    assert caught.value.promise == promise, caught.value
