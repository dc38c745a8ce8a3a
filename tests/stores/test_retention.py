"""Retention: what is kept reads as before, whatever is dropped, whenever the sweep dies, whoever else is at work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from perdure.runtime.payloads import UPDATE, pack
from perdure.stores.base import CheckpointStore
from perdure.stores.codec import Codec
from perdure.stores.errors import Corrupt, StoreMisuse, UnknownCheckpoint, UnknownThread
from perdure.stores.history import HistoryReader
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Amendment, Commit
from perdure.stores.records import Origin, Retention, Segment, Status, ThreadRecord
from perdure.stores.retention import floor_of, retention_data, retention_from
from perdure.stores.segments import Kind, Row
from perdure.stores.tidying import Progress, Tidier
from tests.sim.faults import Delegating, Died
from tests.stores.backends import ANY, TOKEN, Backend, commit, message, new_thread, owned
from tests.stores.histories import MEANING, Model, control_row, tidied

NOW = 1e6


class Dying(Delegating):
    """Ends the process before or after its n-th call that changes something."""

    def __init__(self, inner: CheckpointStore, calls: int, *, after: bool) -> None:
        super().__init__(inner)
        self.left = calls
        self.after = after

    def amend(self, thread_id: str, change: Amendment) -> Any:
        return self._maybe(lambda: self.inner.amend(thread_id, change))

    def rewrite(self, thread_id: str, old: Any, new: Any) -> bool:
        return bool(self._maybe(lambda: self.inner.rewrite(thread_id, old, new)))

    def _maybe(self, call: Callable[[], Any]) -> Any:
        self.left -= 1
        if not self.left and not self.after:
            raise Died
        answer = call()
        if not self.left:
            raise Died
        return answer


def step(seq: int, *, thread_id: str = "t", size: int = 1, at: float | None = None) -> Commit:
    """One that appends to `log` and sets `x`."""
    rows = (
        control_row(seq, {"log": seq, "x": seq}, seq - 1, at),
        Row(Kind.DELTA if seq > 1 else Kind.VALUE, seq, "log", seq, seq - 1, "node", 0, b"l" * size),
        Row(Kind.VALUE, seq, "x", seq, seq - 1, "node", 0, b"x" * size),
    )
    return commit(seq, thread_id=thread_id, rows=rows, head=seq)


def append(store: CheckpointStore, seq: int, **more: Any) -> None:
    (result,) = store.commit([step(seq, **more)])
    assert not isinstance(result, Exception), result


def appended(store: CheckpointStore, count: int, thread_id: str = "t", **more: Any) -> None:
    """A new thread of so many steps, each a segment of its own."""
    owned(store, thread_id)
    for first in range(1, count + 1, 100):
        steps = [step(seq, thread_id=thread_id, **more) for seq in range(first, min(first + 100, count + 1))]
        assert not [result for result in store.commit(steps) if isinstance(result, Exception)]


def listed(store: CheckpointStore, thread_id: str = "t") -> list[int]:
    return [row.checkpoint for _, row in HistoryReader(store, thread_id).checkpoints()]


def rows_of(store: CheckpointStore, thread_id: str = "t") -> list[Row]:
    return [row for segment in store.segments(thread_id) for row in segment.rows]


# -- anything at all -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(25))
def test_what_is_kept_reads_as_it_was_written(seed: int) -> None:
    """Random threads, forks and names; any retention; sweeps that die at any of their writes and are taken up again."""
    model = Model(MemoryStore(), seed)
    for turn in range(120):
        model.act()
        if turn % 8 == 7:
            thread_id = model.chance.choice(list(model.own))
            dying = Dying(model.store, model.chance.randint(1, 6), after=model.chance.random() < 0.5)
            try:
                tidied(dying, thread_id, model.retention(), thorough=model.chance.random() < 0.7)
            except Died:
                model.check()
        if turn % 24 == 23:
            model.check()
    for thread_id in model.own:
        tidied(model.store, thread_id, Retention(max_checkpoints=2))
    model.check()


def test_a_sweep_may_die_at_every_one_of_its_writes() -> None:
    """The same history each time, broken off one write later each time, then taken up by another sweep."""
    for after in (False, True):
        for calls in range(1, 40):
            model = Model(MemoryStore(), 7)
            for _ in range(60):
                model.act()
            oldest = next(iter(model.own))
            model.write(oldest, 30)
            for _ in range(20):
                model.write(oldest)
            retention = Retention(max_checkpoints=3)
            try:
                tidied(Dying(model.store, calls, after=after), oldest, retention)
            except Died:
                model.check()
                tidied(model.store, oldest, retention)
                model.check()
            else:
                assert calls > 2
                break
        else:
            raise AssertionError("the sweep never came to its end")


@pytest.mark.parametrize("seed", range(3))
def test_on_a_store_with_transactions(sqlite: Backend, seed: int) -> None:
    model = Model(sqlite.open(), seed + 100)
    for turn in range(60):
        model.act()
        if turn % 10 == 9:
            tidied(model.store, model.chance.choice(list(model.own)), model.retention())
            model.check()


# -- what is kept ----------------------------------------------------------------------------------------------------


def test_the_newest_are_kept(store: CheckpointStore) -> None:
    appended(store, 50)
    tidied(store, "t", Retention(max_checkpoints=5))
    assert listed(store) == [50, 49, 48, 47, 46]
    reader = HistoryReader(store, "t")
    assert len(reader.channels({"log": 48})["log"]) == 48
    with pytest.raises(UnknownCheckpoint, match="no checkpoint 45"):
        reader.checkpoint(45)
    # Of `x` only what the five need is left; of `log`, which they all are made of, everything.
    assert sorted(row.version for row in rows_of(store) if row.channel == "x") == [46, 47, 48, 49, 50]
    assert sum(row.channel == "log" for row in rows_of(store)) == 50


def test_for_a_time() -> None:
    def kept(retention: Retention, now: float) -> int:
        return floor_of([control_row(seq, {}) for seq in range(20, 0, -1)], retention, MEANING, now)

    ten = timedelta(seconds=10)
    assert kept(Retention(keep_for=ten), 20.0) == 10
    assert kept(Retention(keep_for=ten), 10.0) == 0
    assert kept(Retention(keep_for=ten), 500.0) == 20, "the newest stays, whatever its age"
    assert kept(Retention(keep_for=ten, max_checkpoints=3), 20.0) == 18, "the stricter of two limits"
    assert kept(Retention(keep_for=ten, max_checkpoints=15), 20.0) == 10
    assert kept(Retention(max_checkpoints=20), 20.0) == 0
    assert kept(Retention(max_checkpoints=1), 20.0) == 20
    assert kept(Retention(), 1e9) == 0
    assert floor_of([], Retention(max_checkpoints=1), MEANING, 0.0) == 0


def test_names_and_forks_are_kept(store: CheckpointStore) -> None:
    appended(store, 30)
    store.amend("t", Amendment(names={"good": 7}))
    store.create(new_thread("child", origin=Origin(thread_id="t", seq=12), seq=12, head=12))
    tidied(store, "t", Retention(max_checkpoints=2))
    assert listed(store) == [30, 29, 12, 7]
    assert listed(store, "child") == [12, 7]
    assert [row.version for row in HistoryReader(store, "child").channels({"log": 12, "x": 12})["x"]] == [12]
    assert sorted(row.version for row in rows_of(store) if row.channel == "x") == [7, 12, 29, 30]
    # Once nothing refers to them any more, they go too.
    store.amend("t", Amendment(names={"good": 0}))
    assert listed(store) == [30, 29, 12]
    tidied(store, "t", Retention(max_checkpoints=2))
    assert sorted(row.version for row in rows_of(store) if row.channel == "x") == [12, 29, 30]
    with pytest.raises(StoreMisuse, match="no checkpoint 7"):
        store.amend("t", Amendment(names={"again": 7}))
    with pytest.raises(StoreMisuse, match="retention has dropped"):
        store.create(new_thread("late", origin=Origin(thread_id="t", seq=8), seq=8, head=8))


def test_a_threads_own_retention_comes_first(store: CheckpointStore) -> None:
    appended(store, 10)
    store.amend("t", Amendment(retention=Retention(max_checkpoints=4)))
    tidied(store, "t", Retention(max_checkpoints=1))
    assert listed(store) == [10, 9, 8, 7]


def test_what_a_message_refers_to_waits_for_it(store: CheckpointStore) -> None:
    """An update that goes back to checkpoint 5 was accepted: it finds 5, though retention would have dropped it."""
    appended(store, 20)
    payload = pack(Codec(), {"x": 1}, None, 5)
    store.deliver("t", message("go-back", UPDATE, payload=payload), ANY)
    tidied(store, "t", Retention(max_checkpoints=2))
    assert listed(store) == list(range(20, 4, -1))
    applied = commit(21, rows=(control_row(21, {"log": 5, "x": 5}, 5),), head=21, applied=((1, 21),))
    store.commit([applied])
    tidied(store, "t", Retention(max_checkpoints=2))
    assert listed(store) == [21, 20]
    assert HistoryReader(store, "t").channels({"log": 5, "x": 5}, at=21)["x"][0].version == 5


def test_an_owner_that_has_just_gone_back_finds_its_rows(store: CheckpointStore) -> None:
    """Retention raised the floor after the owner had read checkpoint 5, and before the commit that refers to it."""

    class Late(Delegating):
        """The message comes in the moment before the floor rises."""

        def amend(self, thread_id: str, change: Amendment) -> Any:
            if change.floor is not None:
                payload = pack(Codec(), {"x": 1}, None, 5)
                self.inner.deliver("t", message("go-back", UPDATE, payload=payload), ANY)
            return self.inner.amend(thread_id, change)

    appended(store, 20)
    tidied(Late(store), "t", Retention(max_checkpoints=2))
    assert listed(store) == [20, 19]
    store.commit([commit(21, rows=(control_row(21, {"log": 5, "x": 5}, 5),), head=21, applied=((1, 21),))])
    tidied(store, "t", Retention(max_checkpoints=2))
    assert HistoryReader(store, "t").channels({"log": 5, "x": 5}, at=21)["x"][0].version == 5


@pytest.mark.parametrize("until", ["floor", "tidied"])
def test_what_was_decided_of_a_thread_is_not_done_to_another_of_its_name(store: CheckpointStore, until: str) -> None:
    """It was deleted, and made anew, after housekeeping had read it."""

    class Remade(Delegating):
        done = False

        def amend(self, thread_id: str, change: Amendment) -> Any:
            if getattr(change, until) is not None and not self.done:
                self.done = True
                ended(self.inner)
                self.inner.delete(thread_id)
                owned(self.inner, "t", created_at=77.0)
                self.inner.commit([step(seq) for seq in range(1, 31)])
            return self.inner.amend(thread_id, change)

    appended(store, 20)
    remade = Remade(store)
    tidied(remade, "t", Retention(max_checkpoints=2))
    row = store.thread("t")
    assert remade.done
    assert (row.created_at, row.seq, row.floor, row.tidied) == (77.0, 30, 0, 0)
    assert listed(store) == list(range(30, 0, -1))


def test_segments_of_another_one_of_its_name_are_not_sifted(store: CheckpointStore) -> None:
    """The thread was deleted, and made anew, after its floor had risen."""
    appended(store, 40)
    batches = Tidier(store=store, meaning=MEANING, retention=Retention(max_checkpoints=5)).thread(
        "t", 40.0, thorough=True
    )
    assert next(batches).checkpoints == 35
    ended(store)
    store.delete("t")
    owned(store, "t", created_at=77.0)
    store.commit([step(seq) for seq in range(1, 61)])
    assert list(batches) == []
    assert listed(store) == list(range(60, 0, -1))
    rows = HistoryReader(store, "t").channels({"log": 10, "x": 10}, at=10)
    assert [row.version for row in rows["log"]] == list(range(1, 11))


@pytest.mark.parametrize("anew", [True, False], ids=["made anew", "went on"])
def test_a_thread_that_is_not_as_it_was_is_not_deleted_by_its_retention(store: CheckpointStore, anew: bool) -> None:
    """It was past its time when housekeeping looked; a moment later it has had another run, or is another thread."""

    class Revived(Delegating):
        def delete(self, thread_id: str, *, seen: ThreadRecord | None = None) -> None:
            if anew:
                self.inner.delete(thread_id)
                owned(self.inner, thread_id, created_at=77.0)
                self.inner.commit([step(1)])
            else:
                self.inner.deliver(thread_id, message("again"), ANY)
                owner = self.inner.claim(thread_id, epoch=1, token=TOKEN, owner="o")
                self.inner.commit([replace(step(6), epoch=owner.epoch)])
            ended(self.inner)
            self.inner.delete(thread_id, seen=seen)

    appended(store, 4)
    ended(store)
    tidied(Revived(store), "t", Retention(delete_after=timedelta(seconds=1)), now=1e12)
    assert store.thread("t").status is Status.SUCCEEDED
    tidied(store, "t", Retention(delete_after=timedelta(seconds=1)), now=1e12)
    with pytest.raises(UnknownThread):
        store.thread("t")


def ended(store: CheckpointStore) -> None:
    row = store.thread("t")
    last = commit(row.seq + 1, epoch=row.epoch, rows=(), status=Status.SUCCEEDED, release=True)
    assert not isinstance(store.commit([last])[0], Exception)


def test_threads_of_others_lose_nothing(store: CheckpointStore) -> None:
    """A driver whose checkpoints nobody here can read: its segments are put together, and that is all."""
    owned(store, "t", driver="somebody")
    for seq in range(1, 41):
        rows = (Row(Kind.CHECKPOINT, seq, "", seq, 0, "", 0, b"\xff not ours"),)
        store.commit([commit(seq, rows=rows, head=seq)])
    before = sorted(rows_of(store))
    tidied(store, "t", Retention(max_checkpoints=1))
    assert sorted(rows_of(store)) == before
    assert len(store.segments("t")) == 2
    assert store.thread("t").floor == 0


def test_a_dry_run_changes_nothing(store: CheckpointStore) -> None:
    appended(store, 30)
    before = (store.thread("t"), store.segments("t"))
    found = list(
        Tidier(store=store, meaning=MEANING, retention=Retention(max_checkpoints=2), dry_run=True).thread(
            "t", NOW, thorough=True
        )
    )
    assert sum(one.checkpoints for one in found) == 28
    assert (store.thread("t"), store.segments("t")) == before


# -- ended threads ---------------------------------------------------------------------------------------------------


def test_ended_threads_are_deleted_after_a_time(store: CheckpointStore) -> None:
    week = Retention(delete_after=timedelta(days=7))
    for name, status, at in (("old", Status.FAILED, 1.0), ("new", Status.FAILED, NOW), ("live", None, 1.0)):
        owned(store, name)
        store.commit([commit(1, thread_id=name, rows=(control_row(1, {}),), head=1, status=status, at=at)])
    for name, seq in (("child", 1), ("part", 0)):
        store.create(new_thread(name, origin=Origin(thread_id="old", seq=seq), seq=seq, head=seq))
    tidier = Tidier(store=store, meaning=MEANING, retention=week)

    def passed(name: str, tidier: Tidier = tidier) -> tuple[int, int, int]:
        found = sum(tidier.thread(name, NOW + 1, thorough=True), Progress())
        return found.deleted, found.cut_off, found.referenced

    # A thread that belongs to it from its beginning is not cut off; what was forked from it is.
    assert [passed(name) for name in ("old", "new", "live", "gone")] == [(0, 0, 1), (0, 0, 0), (0, 0, 0), (0, 0, 0)]
    for name, seq in (("part", 1), ("child", 2)):
        store.claim(name, epoch=0, token=TOKEN, owner="o")
        (result,) = store.commit([commit(seq, thread_id=name, rows=(), status=Status.CANCELLED, at=1.0, release=True)])
        assert not isinstance(result, Exception), result
    dry = replace(tidier, dry_run=True)
    assert [passed(name, dry) for name in ("old", "part", "child")] == [(0, 0, 1), (1, 0, 0), (1, 0, 0)]
    assert [passed(name) for name in ("part", "old")] == [(1, 0, 0), (1, 1, 0)]
    assert store.thread("child").origin is None
    assert passed("child") == (1, 0, 0)
    assert [row.thread_id for row in store.threads().threads] == ["live", "new"]


# -- others at work --------------------------------------------------------------------------------------------------


def test_readers_and_a_writer_go_on_meanwhile(sqlite: Backend) -> None:
    """The head always reads; an older checkpoint reads as it was or is said to be gone, and is never corrupt."""
    store = sqlite.open()
    appended(store, 40)
    failed: list[str] = []
    reads = [0]
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            reads[0] += 1
            head = store.thread("t").head
            reader = HistoryReader(store, "t")
            found = [head]
            try:
                found = [row.checkpoint for _, row in reader.checkpoints(limit=20)]
                for seq in (head, found[-1]):
                    reader.checkpoint(seq)
                    chains = reader.channels({"log": seq, "x": seq}, at=seq)
                    if [row.version for row in chains["log"]] != list(range(1, seq + 1)):
                        failed.append(f"checkpoint {seq} reads wrong")
            except UnknownCheckpoint as error:
                if error.seq >= store.thread("t").floor:
                    failed.append(f"{error}, above the floor")
            except Corrupt as error:
                failed.append(str(error))

    def write() -> None:
        for seq in range(41, 240):
            append(store, seq)
        done.set()

    def tidy() -> None:
        while not done.is_set():
            tidied(store, "t", Retention(max_checkpoints=10))

    workers = [threading.Thread(target=work) for work in (read, read, write, tidy, tidy)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failed == []
    assert reads[0] > 10
    tidied(store, "t", Retention(max_checkpoints=10))
    assert listed(store) == list(range(239, 229, -1))


def test_a_lost_race_stops_the_pass(store: CheckpointStore) -> None:
    class Rival(Delegating):
        """Somebody else rewrites the same segments just before."""

        done = False

        def rewrite(self, thread_id: str, old: Any, new: Any) -> bool:
            if not self.done:
                self.done = True
                self.inner.rewrite(thread_id, old, new)
            return self.inner.rewrite(thread_id, old, new)

    appended(store, 100)
    assert tidied(Rival(store), "t", Retention()) == 0
    assert store.thread("t").tidied == 0
    assert tidied(store, "t", Retention()) == 0
    assert store.thread("t").tidied == 100


def test_a_missing_row_is_still_damage(store: CheckpointStore) -> None:
    """Only what lies below the floor may be gone."""
    appended(store, 20)
    tidied(store, "t", Retention(max_checkpoints=3))
    old = store.segments("t")[-1]
    cut = Segment(
        thread_id="t",
        first=old.first,
        last=old.last,
        epoch=old.epoch,
        commit_id=old.commit_id,
        rows=tuple(row for row in old.rows if row.channel != "log" or row.version != 4),
    )
    assert store.rewrite("t", [old], [cut])
    with pytest.raises(Corrupt, match="version 4 is missing"):
        HistoryReader(store, "t").channels({"log": 20}, at=20)


def test_a_retention_as_json() -> None:
    for retention in (
        Retention(),
        Retention(max_checkpoints=3),
        Retention(keep_for=timedelta(days=2), delete_after=timedelta(seconds=0.5), max_checkpoints=1),
    ):
        assert retention_from(retention_data(retention)) == retention
    assert retention_from(None) == Retention()
    for damaged in ("all", [1], {"keep_for": "long"}):
        with pytest.raises(StoreMisuse, match="no retention"):
            retention_from(damaged)
