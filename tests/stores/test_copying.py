"""Copies and backups: equal to what they are of, while threads run, wherever they break off; the check of a store."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perdure.stores.backup import BackupFolder
from perdure.stores.base import CheckpointStore
from perdure.stores.copying import Copied, StoreSource, copy_store, parents_first
from perdure.stores.errors import Corrupt, NewerFormat, StoreMisuse, StoreUnavailable, UnknownCheckpoint, WrongOrigin
from perdure.stores.history import HistoryReader
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Amendment, Commit, ThreadImage
from perdure.stores.records import LOADING, Origin, Retention, Segment, Status
from perdure.stores.segments import Kind, Row
from perdure.stores.sqlite import SqliteStore
from tests.sim.faults import Delegating, Died
from tests.stores.backends import TOKEN, Backend, commit, new_thread, owned
from tests.stores.families import assert_same, family, image_of, problems, verified
from tests.stores.histories import MEANING, Model, control_row, tidied
from tests.stores.test_retention import append, appended


def copied(source: CheckpointStore, target: CheckpointStore, *, hold: bool = False) -> Copied:
    *_, done = copy_store(StoreSource(source), target, hold=hold)
    return done


def moved(model: Model, store: CheckpointStore) -> Model:
    """What the model must find in a copy."""
    copy = Model(MemoryStore(), 0)
    copy.store, copy.seed, copy.own, copy.forked = store, model.seed, model.own, model.forked
    return copy


# -- copies ----------------------------------------------------------------------------------------------------------


def test_a_copy_is_the_same(store: CheckpointStore, tmp_path: Path) -> None:
    """From every store into every other one: from this one into SQLite, and on into this kind again."""
    family(store)
    with SqliteStore(tmp_path / "copy.db") as target:
        done = copied(store, target)
        assert (done.threads, done.total, done.different, done.gone) == (3, 3, [], [])
        assert_same(store, target)
        assert problems(target) == []
        again = copied(store, target)
        assert (again.present, again.segments) == (3, 0)
        back = MemoryStore()
        copied(target, back)
        assert_same(target, back)


def test_into_the_store_under_test(store: CheckpointStore) -> None:
    source = MemoryStore()
    family(source)
    copied(source, store)
    assert_same(source, store)
    assert problems(store) == []
    claimed = store.claim("t", epoch=1, token="new", owner="o")
    assert claimed.status is Status.QUEUED or claimed.status is Status.RUNNING


def test_a_copy_that_breaks_off_goes_on() -> None:
    """The process that copies dies before or after each of its writes in turn."""

    class Dying(Delegating):
        left = 0

        def load(self, image: ThreadImage, segments: Any = (), **options: Any) -> bool:
            self.left -= 1
            if self.left < 0 and self.before:
                raise Died
            done = self.inner.load(image, segments, **options)
            if self.left < 0:
                raise Died
            return done

        before = False

    source = MemoryStore()
    family(source)
    appended(source, 300, "long", size=100)
    for before in (True, False):
        for calls in range(40):
            target = MemoryStore()
            dying = Dying(target)
            dying.left, dying.before = calls, before
            try:
                copied(source, dying)
            except Died:
                for row in target.threads().threads:
                    assert row.driver == LOADING or image_of(source, row.thread_id) == image_of(target, row.thread_id)
                assert copied(source, target).different == []
                assert_same(source, target)
            else:
                assert calls > 5
                break
        else:
            raise AssertionError("the copy never came to its end")


@pytest.mark.parametrize("seed", range(12))
def test_a_copy_of_threads_that_run(seed: int) -> None:
    """Before every read of the copy the threads go on, and retention drops and puts together what it can."""

    class Busy(Delegating):
        """Its threads do something whenever it is read."""

        def segments(self, thread_id: str, **bounds: Any) -> list[Segment]:
            if model.chance.random() < 0.3:
                model.write(model.chance.choice(list(model.own)))
            if model.chance.random() < 0.2:
                tidied(model.store, model.chance.choice(list(model.own)), Retention(max_checkpoints=5))
            return super().segments(thread_id, **bounds)

    model = Model(MemoryStore(), seed)
    for _ in range(100):
        model.act()
    target = MemoryStore()
    for hold in (True, False):
        done = copied(Busy(model.store), target, hold=hold)
        assert (done.different, done.gone) == ([], [])
    assert problems(target) == []
    for thread_id in model.own:
        for seq in (row.checkpoint for _, row in HistoryReader(target, thread_id).checkpoints()):
            one = model.lineage(thread_id)[seq]
            chains = HistoryReader(target, thread_id).channels(one.manifest, at=seq)
            assert {name: [row.payload for row in chain] for name, chain in chains.items()} == one.chains
        assert HistoryReader(target, thread_id).checkpoint(target.thread(thread_id).head)


def test_a_held_copy_is_brought_up_to_date(store: CheckpointStore) -> None:
    """To move a store: copy while threads run, stop them, copy what is new."""
    appended(store, 30)
    target = MemoryStore()
    copied(store, target, hold=True)
    assert target.thread("t").driver == LOADING
    append(store, 31)
    done = copied(store, target)
    assert done.segments == 1
    assert_same(store, target)


@pytest.mark.parametrize("hold", [True, False])
def test_a_thread_that_is_deleted_in_the_middle_is_brought_in_anew(hold: bool) -> None:
    """The rest of it was added to nothing, and the copy said that it was there: its first commits were missing."""

    class Deleted(Delegating):
        left = 3

        def load(self, image: ThreadImage, segments: Any = (), **options: Any) -> bool:
            done = self.inner.load(image, segments, **options)
            self.left -= 1
            if not self.left:
                self.inner.delete("t")
            return done

    source, target = MemoryStore(), MemoryStore()
    appended(source, 300)
    done = copied(source, Deleted(target), hold=hold)
    assert (done.different, done.gone) == ([], [])
    copied(source, target)
    assert_same(source, target)
    assert problems(target) == []


def test_two_copies_at_once_are_one() -> None:
    """Before each write of the one the other does all of it."""

    class Second(Delegating):
        left = 0

        def load(self, image: ThreadImage, segments: Any = (), **options: Any) -> bool:
            self.left -= 1
            if not self.left:
                assert copied(source, self.inner).different == []
            return self.inner.load(image, segments, **options)

    source = MemoryStore()
    family(source)
    appended(source, 30, "long")
    for write in range(1, 30):
        target = MemoryStore()
        store = Second(target)
        store.left = write
        done = copied(source, store)
        assert (done.different, done.gone, done.threads) == ([], [], 4)
        assert_same(source, target)
    assert store.left > 0


def test_misuse_is_no_other_thread_of_that_name() -> None:
    """Whatever a store refused was listed as a thread that is there already, and is another."""

    class Small(Delegating):
        refusal: StoreMisuse = StoreMisuse("too large for this store")

        def load(self, image: ThreadImage, segments: Any = (), **options: Any) -> bool:
            raise self.refusal

    source, target = MemoryStore(), Small(MemoryStore())
    appended(source, 3)
    with pytest.raises(StoreMisuse, match="too large for this store"):
        copied(source, target)
    target.refusal = WrongOrigin("not as far")
    assert copied(source, target).different == ["t"]


def test_a_thread_that_is_deleted_again_and_again_is_given_up() -> None:
    class Deleted(Delegating):
        def load(self, image: ThreadImage, segments: Any = (), **options: Any) -> bool:
            self.inner.delete("t")
            return self.inner.load(image, segments, **options) and not self.inner.delete("t")

    source, target = MemoryStore(), MemoryStore()
    appended(source, 20)
    with pytest.raises(StoreUnavailable, match="'t' was tidied or deleted 10 times"):
        copied(source, Deleted(target))
    assert not target.threads().threads


def test_one_that_goes_on_by_itself_elsewhere_is_not_put_together_with_another() -> None:
    """Half of one was held, and the rest of the other was added to it, under the same numbers."""
    source, other, target = MemoryStore(), MemoryStore(), MemoryStore()
    appended(source, 5)
    copied(source, other)
    other.claim("t", epoch=1, token=TOKEN, owner="o")
    for seq in range(6, 200):
        append(source, seq)
        other.commit([step_of(seq)])
    copied(other, target, hold=True)
    before = target.segments("t")
    for merged in (False, True):
        if merged:
            tidied(source, "t", Retention())
            assert len(source.segments("t")) < 20
        done = copied(source, target)
        assert (done.different, done.threads) == (["t"], 0)
        assert target.segments("t") == before
    tidied(other, "t", Retention())
    assert copied(other, target).different == []
    assert problems(target) == []


def step_of(seq: int) -> Commit:
    rows = (control_row(seq, {"log": seq}), Row(Kind.DELTA, seq, "log", seq, seq - 1, "node", 0, b"other"))
    return commit(seq, epoch=2, rows=rows, head=seq)


def test_another_thread_of_the_same_name_is_left_alone(store: CheckpointStore) -> None:
    appended(store, 5)
    target = MemoryStore()
    owned(target, "t", created_at=77.0)
    done = copied(store, target)
    assert (done.different, done.threads) == (["t"], 0)
    assert target.thread("t").created_at == 77.0


def test_parents_come_first() -> None:
    assert parents_first({"c": "b", "b": "a", "a": "", "z": "gone", "d": "b"}) == ["a", "b", "c", "z", "d"]
    line = {f"t{n}": f"t{n + 1}" for n in range(5000)}
    assert parents_first(line) == [f"t{n}" for n in range(4999, -1, -1)]


# -- backups ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> BackupFolder:
    return BackupFolder(tmp_path / "backups", SqliteStore)


def back_up(folder: BackupFolder, store: CheckpointStore, *, full: bool = False) -> Copied:
    *_, done = folder.backup(StoreSource(store), 5.0, full=full)
    return done


def restored(folder: BackupFolder, number: int | None = None) -> MemoryStore:
    target = MemoryStore()
    for _ in folder.restore(target, number=number):
        pass
    assert problems(target) == []
    return target


def test_a_full_backup_and_back(store: CheckpointStore, folder: BackupFolder) -> None:
    family(store)
    back_up(folder, store)
    assert_same(store, restored(folder))
    assert [path.name for path in sorted(folder.path.iterdir())] == ["000001.db", "000001.json"]


def test_an_incremental_backup_holds_only_what_changed(store: CheckpointStore, folder: BackupFolder) -> None:
    appended(store, 400, "big", size=2000)
    appended(store, 3)
    back_up(folder, store)
    append(store, 4)
    store.create(new_thread("child", origin=Origin(thread_id="big", seq=400), seq=400, head=400))
    done = back_up(folder, store)
    assert done.segments == 1
    first, second = folder.manifests()
    assert second.size < first.size / 2
    assert [second.threads[name].parts for name in ("big", "t", "child")] == [[1], [1, 2], [2]]
    assert_same(store, restored(folder))
    before = restored(folder, 1)
    assert before.thread("t").seq == 3
    assert {row.thread_id for row in before.threads().threads} == {"t", "big"}
    with pytest.raises(StoreMisuse, match="no backup 7"):
        restored(folder, 7)


@pytest.mark.parametrize("seed", range(10))
def test_any_chain_of_backups(seed: int, folder: BackupFolder) -> None:
    """Threads go on, are forked, named, deleted, tidied and pruned between the backups."""
    model = Model(MemoryStore(), seed)
    for round_ in range(4):
        for _ in range(40):
            model.act()
        for thread_id in model.own:
            if model.chance.random() < 0.5:
                tidied(model.store, thread_id, model.retention())
        back_up(folder, model.store, full=round_ == 2)
        moved(model, restored(folder)).check()


def test_a_backup_that_breaks_off_goes_on(store: CheckpointStore, folder: BackupFolder) -> None:
    """It dies at every step in turn; until the end there is no backup, then there is a whole one."""
    family(store)
    for step in range(1, 6):
        run = folder.backup(StoreSource(store), 5.0)
        for _ in range(step):
            next(run)
        run.close()
        if folder.manifests():
            break
        with pytest.raises(StoreMisuse, match="no backup"):
            restored(folder)
        append_more(store)
    assert step == 4
    append_more(store)
    back_up(folder, store)
    assert_same(store, restored(folder))


def append_more(store: CheckpointStore) -> None:
    seq = store.thread("t").seq + 1
    store.commit([commit(seq, rows=(control_row(seq, {"log": 12}),), head=seq)])


def test_a_thread_made_anew_under_the_same_name(store: CheckpointStore, folder: BackupFolder) -> None:
    appended(store, 20)
    back_up(folder, store)
    next(folder.backup(StoreSource(store), 5.0))
    store.commit([commit(21, rows=(), status=Status.CANCELLED, release=True)])
    store.delete("t")
    owned(store, "t", created_at=88.0)
    append(store, 1)
    back_up(folder, store)
    assert_same(store, restored(folder))


def test_a_damaged_backup_is_refused(store: CheckpointStore, folder: BackupFolder) -> None:
    appended(store, 5)
    back_up(folder, store)
    path = folder.path / "000001.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(Corrupt, match=r"000001\.db is damaged"):
        restored(folder)
    path.unlink()
    with pytest.raises(Corrupt, match=r"000001\.db is missing"):
        restored(folder)
    manifest = folder.path / "000001.json"
    manifest.write_text(manifest.read_text().replace('"format":1', '"format":9'))
    with pytest.raises(NewerFormat, match="format 9"):
        restored(folder)
    manifest.write_text("{")
    with pytest.raises(Corrupt, match="no manifest"):
        restored(folder)


# -- checks ----------------------------------------------------------------------------------------------------------


def cut(store: CheckpointStore, thread_id: str, keep: Callable[[Row], bool], seq: int) -> None:
    """Take rows out of the segment with commit `seq`."""
    (old,) = store.segments(thread_id, first=seq, last=seq)
    new = replace(old, rows=tuple(row for row in old.rows if keep(row)))
    assert store.rewrite(thread_id, [old], [new])


def test_a_sound_store_has_no_problems(store: CheckpointStore) -> None:
    family(store)
    found = verified(store)
    assert found.problems == []
    assert (found.threads, found.total, found.graphs, found.checkpoints) == (3, 3, 1, 6)
    tidied(store, "t", Retention(max_checkpoints=2))
    assert problems(store) == []


def test_missing_rows_are_told_of(store: CheckpointStore) -> None:
    appended(store, 20)
    store.amend("t", Amendment(names={"good": 4}))
    cut(store, "t", lambda row: row.channel != "log", 7)
    cut(store, "t", lambda row: row.kind != Kind.CHECKPOINT, 4)
    (old,) = store.segments("t", first=11, last=11)
    assert store.rewrite("t", [old], [])
    assert problems(store) == [
        "t: commits 11..11 are missing",
        "t: checkpoint 10 needs channel 'log' at version 7; it is missing",
        "t: checkpoint 20 needs channel 'log' at version 11; it is missing",
        "t: checkpoint 4, named 'good', is missing",
    ]


def test_what_a_fork_needs_is_looked_for_in_its_origin(store: CheckpointStore) -> None:
    appended(store, 9)
    store.create(new_thread("child", origin=Origin(thread_id="t", seq=9), seq=9, head=9))
    store.claim("child", epoch=0, token=TOKEN, owner="o")
    row = Row(Kind.DELTA, 10, "log", 10, 8, "node", 0, b"l")
    store.commit([commit(10, thread_id="child", rows=(control_row(10, {"log": 10, "y": 9}), row), head=10)])
    assert problems(store) == ["t: checkpoint 10 needs channel 'y' at version 9; it is missing"]


def test_flipped_bits_are_named(sqlite: Backend) -> None:
    """Each record of its own, and the rest is looked at all the same."""
    store = sqlite.open()
    family(store)
    appended(store, 30, "other")
    path = sqlite.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as raw:
        other = "(SELECT number FROM threads WHERE thread_id = 'other')"
        flip = "CAST(substr({0}, 1, length({0}) - 1) || x'ff' AS BLOB)"
        raw.execute(f"UPDATE segments SET data = {flip.format('data')} WHERE thread = {other} AND first IN (9, 20)")
        raw.execute(f"UPDATE messages SET payload = {flip.format('payload')} WHERE message_id = 'two'")
        raw.execute(f"UPDATE graphs SET body = {flip.format('body')}")
        raw.commit()
    found = sorted(problems(store))
    assert len(found) == 4, "\n".join(found)
    for text, part in zip(found, ("graph 'k'", "commits 20..20", "commits 9..9", "'two'"), strict=True):
        assert part in text, (part, found)


def test_verifying_while_threads_run(sqlite: Backend) -> None:
    store = sqlite.open()
    appended(store, 50)
    done = threading.Event()

    def work() -> Iterator[None]:
        for seq in range(51, 200):
            append(store, seq)
            if seq % 10 == 0:
                tidied(store, "t", Retention(max_checkpoints=10))
            yield
        done.set()

    writer = threading.Thread(target=lambda: list(work()))
    writer.start()
    looks = 0
    try:
        while not done.is_set():
            assert problems(store) == []
            looks += 1
    finally:
        writer.join()
    assert looks > 0


def test_a_reader_of_a_checkpoint_that_goes(store: CheckpointStore) -> None:
    """It has found the checkpoint, then retention drops it: the reader hears that it is gone, not of damage."""
    appended(store, 20)
    reader = HistoryReader(store, "t")
    assert next(reader.checkpoints())[1].checkpoint == 20
    _, row = HistoryReader(store, "t").checkpoint(5)
    tidied(store, "t", Retention(max_checkpoints=2))
    with pytest.raises(UnknownCheckpoint, match="no checkpoint 5"):
        reader.channels(MEANING.manifest(row), at=5)
    assert [found.checkpoint for _, found in reader.checkpoints()] == [20, 19]
