"""Threads in files: equal after the way through one, refused where anything of it is wrong, never half there."""

from __future__ import annotations

import io
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from perdure.stores.base import CheckpointStore
from perdure.stores.copying import Copied
from perdure.stores.encryption import EncryptedVault
from perdure.stores.errors import (
    Corrupt,
    Fenced,
    MissingKey,
    NewerFormat,
    StoreError,
    StoreMisuse,
    ThreadExists,
)
from perdure.stores.exporting import export_threads
from perdure.stores.history import HistoryReader
from perdure.stores.importing import Imported, import_threads
from perdure.stores.keys import Keyring
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import ThreadImage
from perdure.stores.records import LOADING, RERUN, GraphRecord, Origin, Retention, RunRecord, Segment, Status
from perdure.stores.segment_codec import encode_segment
from perdure.stores.sqlite import SqliteStore
from perdure.stores.thread_file import SCHEMA, Record, Sort
from perdure.stores.thread_file_reading import ThreadFile
from perdure.stores.thread_file_writing import ThreadFileWriter
from perdure.stores.vault import PlainVault, Vault
from tests.sim.faults import Delegating, Died
from tests.stores.backends import TOKEN, commit, message, new_thread, owned
from tests.stores.families import GRAPH, assert_same_threads, family, image_of, problems
from tests.stores.histories import MEANING, Model, tidied
from tests.stores.test_retention import append, appended, step

RING = Keyring.generate("k1")
PLAIN = PlainVault()


def exported(store: CheckpointStore, path: Path, ids: Iterable[str] = (), *, vault: Vault = PLAIN) -> Copied:
    """Write a file of these threads, or of all."""
    wanted = list(ids) or [row.thread_id for row in store.threads(limit=1000).threads]
    with path.open("wb+") as file:
        *_, done = export_threads(store, ThreadFileWriter(file, vault, str(path)), wanted, needs)
    return done


def needs(graph: GraphRecord) -> str:
    return "package" if graph.kind == "packaged" else ""


def imported(path: Path, target: CheckpointStore, *, vault: Vault = PLAIN, **options: Any) -> Imported:
    with ThreadFile(path, vault) as file:
        *_, done = import_threads(file, target, 5.0, **options)
    return done


def nothing_in(store: CheckpointStore) -> bool:
    assert isinstance(store, MemoryStore)
    return not store.threads().threads and not store._settings and not store.graph_keys()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "threads.perdure"


@pytest.fixture
def full(path: Path) -> Path:
    """A file with all that a thread can have."""
    source = MemoryStore()
    family(source)
    exported(source, path)
    return path


# -- there and back --------------------------------------------------------------------------------------------------


def test_threads_come_back_as_they_were(store: CheckpointStore, path: Path) -> None:
    """Out of every store, byte for byte, and the stale owner of the original owns nothing there."""
    family(store)
    store.create(new_thread("served", graph_key="k"), message("hello", payload=b"in"))
    done = exported(store, path)
    assert (done.threads, done.gone) == (4, [])
    target = MemoryStore()
    assert imported(path, target).threads == 4
    assert_same_threads(store, target)
    assert problems(target) == []
    for row in store.threads().threads:
        mine, theirs = store.segments(row.thread_id), target.segments(row.thread_id)
        rows = [encode_segment(row.thread_id, segment.rows) for segment in mine]
        assert rows == [encode_segment(row.thread_id, segment.rows) for segment in theirs]
    moved = target.thread("t")
    assert (moved.status, moved.owner, moved.token) == (Status.QUEUED, "", "")
    assert isinstance(target.commit([commit(14)])[0], Fenced)
    claimed = target.claim("t", epoch=moved.epoch, token="new", owner="there")
    assert claimed.status is Status.RUNNING
    (result,) = target.commit([commit(14, epoch=claimed.epoch, token="new")])
    assert not isinstance(result, StoreError)


def test_into_every_store(store: CheckpointStore, full: Path) -> None:
    source = MemoryStore()
    family(source)
    exported(source, full)
    done = imported(full, store)
    assert (done.threads, done.total, done.present, done.skipped) == (3, 3, 0, [])
    assert set(done.thread_ids) == {"t", "child", "asleep"}
    for name in done.thread_ids:
        assert image_of(source, name) == image_of(store, name)
        assert source.segments(name) == store.segments(name)
    assert store.thread("asleep").wake_at == 99.0
    assert [one.message_id for one in store.messages("t")] == ["two"]
    assert store.setting("retention") is None
    assert problems(store) == []


def test_what_graphs_need_goes_along(path: Path) -> None:
    source = MemoryStore()
    for key, kind in (("k", "packaged"), ("package", "package"), ("other", "reference")):
        source.put_graph(replace(GRAPH, graph_key=key, kind=kind))
    source.create(new_thread("t", graph_key="k"))
    source.create(new_thread("not asked for", graph_key="other"))
    exported(source, path, ["t"])
    target = MemoryStore()
    imported(path, target)
    assert target.graph_keys() == ("k", "package")
    given = replace(GRAPH, graph_key="mine", version="2")
    imported(path, target, rename={"t": "u"}, graphs=lambda: {"g": given})
    assert (target.thread("u").graph_key, target.thread("u").version) == ("mine", "2")
    assert target.thread("t").graph_key == "k"


@pytest.mark.parametrize("seed", range(10))
def test_any_of_random_threads(seed: int, path: Path) -> None:
    """Some of a family of forks, named and tidied: each reads as it did, whatever of its origins goes along."""
    model = Model(MemoryStore(), seed)
    for _ in range(80):
        model.act()
    for thread_id in model.own:
        if model.chance.random() < 0.4:
            tidied(model.store, thread_id, model.retention())
    ids = model.chance.sample(list(model.own), model.chance.randint(1, len(model.own)))
    exported(model.store, path, ids)
    target = MemoryStore()
    done = imported(path, target, rename=lambda name: f"new {name}")
    assert set(done.thread_ids) == {f"new {name}" for name in ids}
    assert problems(target) == []
    for name in ids:
        assert_reads_alike(model.store, name, target, f"new {name}")


def assert_reads_alike(source: CheckpointStore, name: str, target: CheckpointStore, new: str) -> None:
    mine, theirs = HistoryReader(source, name), HistoryReader(target, new)
    floor = target.thread(new).floor
    seqs = [row.checkpoint for _, row in theirs.checkpoints()]
    expected = [row.checkpoint for _, row in mine.checkpoints()]
    assert [seq for seq in seqs if seq >= floor] == [seq for seq in expected if seq >= floor], name
    assert set(seqs) <= set(expected), name
    assert source.thread(name).head in (0, *seqs), name
    for seq in seqs:
        manifest = MEANING.manifest(theirs.checkpoint(seq)[1])
        assert manifest == MEANING.manifest(mine.checkpoint(seq)[1])
        assert theirs.channels(manifest, at=seq) == mine.channels(manifest, at=seq), (name, seq)
        origin = source.thread(name).origin
        if origin is None or seq > origin.seq:
            assert theirs.pending(seq) == mine.pending(seq), (name, seq)


def test_a_fork_without_its_origins_is_whole(store: CheckpointStore, path: Path) -> None:
    """The fork of a fork: alone it has it all itself, with the first origin it refers to that."""
    appended(store, 9)
    store.create(new_thread("child", origin=Origin(thread_id="t", seq=5), seq=5, head=5, run=1, runs=1))
    claimed = store.claim("child", epoch=0, token=TOKEN, owner="o")
    store.commit([step(6, thread_id="child")])
    assert claimed.origin is not None
    store.create(new_thread("grandchild", origin=Origin(thread_id="child", seq=6), seq=6, head=6))
    exported(store, path, ["grandchild"])
    alone = MemoryStore()
    imported(path, alone)
    assert alone.thread("grandchild").origin is None
    assert_reads_alike(store, "grandchild", alone, "grandchild")
    assert problems(alone) == []
    exported(store, path, ["grandchild", "t"])
    both = MemoryStore()
    imported(path, both)
    assert both.thread("grandchild").origin == Origin(thread_id="t", seq=5)
    assert_reads_alike(store, "grandchild", both, "grandchild")
    assert problems(both) == []


def test_parts_of_a_thread_go_along(path: Path) -> None:
    """A LangGraph thread is several of ours, which refer to the beginning of the first."""
    source = MemoryStore()
    source.create(new_thread("root", driver="langgraph", status=Status.WAITING))
    source.create(new_thread("part", driver="langgraph", status=Status.WAITING, origin=Origin(thread_id="root", seq=0)))
    exported(source, path, ["root"])
    target = MemoryStore()
    assert imported(path, target).thread_ids == ["root", "part"]
    with pytest.raises(StoreMisuse, match=r"'root' of .* is LangGraph's"):
        imported(path, MemoryStore(), rename={"root": "other"})
    with pytest.raises(StoreMisuse, match="'part' is a part of thread 'root'"):
        exported(source, path, ["part"])


def test_a_rerun_goes_with_what_it_replays(path: Path) -> None:
    """While it has not ended; and knows it again under its new id."""
    source = MemoryStore()
    appended(source, 9)
    for name, above, status in (("ended", "t", Status.SUCCEEDED), ("rerun", "ended", Status.PAUSED)):
        mark = {"thread": above, "seq": 5, "run": 1, "recorded": True, "made_at": 1.5}
        origin = Origin(thread_id=above, seq=5)
        source.create(new_thread(name, origin=origin, seq=5, head=5, status=status, metadata={RERUN: mark, "a": 1}))
    for ids, missing in ((["rerun"], "ended"), (["rerun", "ended"], "t")):
        with pytest.raises(StoreMisuse, match=f"'rerun' has still to replay what thread '{missing}' recorded"):
            exported(source, path, ids)
    exported(source, path, ["ended"])
    target = MemoryStore()
    imported(path, target)
    assert target.thread("ended").origin is None
    exported(source, path, ["rerun", "ended", "t"])
    imported(path, target, rename={"ended": "e2", "t": "t2"})
    row = target.thread("rerun")
    assert row.replays == Origin(thread_id="e2", seq=5)
    assert row.metadata == {**source.thread("rerun").metadata, RERUN: {**mark, "thread": "e2"}}
    replayed = target.thread("e2").replays
    assert replayed is not None
    assert replayed.thread_id == "t2"


# -- while threads run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_threads_that_run_are_written_as_they_were_after_a_commit(seed: int, path: Path) -> None:
    class Busy(Delegating):
        """Its threads do something whenever it is read; origins are deleted, what is old is dropped."""

        def segments(self, thread_id: str, **bounds: Any) -> list[Segment]:
            if model.chance.random() < 0.3:
                model.write(model.chance.choice(list(model.own)))
            if model.chance.random() < 0.1:
                tidied(model.store, model.chance.choice(list(model.own)), Retention(max_checkpoints=5))
            if model.chance.random() < 0.05:
                model.remove(model.chance.choice(list(model.own)))
            return super().segments(thread_id, **bounds)

    model = Model(MemoryStore(), seed)
    for _ in range(100):
        model.act()
    ids = model.chance.sample(list(model.own), (len(model.own) + 1) // 2)
    done = exported(Busy(model.store), path, ids)
    assert done.threads + len(done.gone) == len(ids)
    target = MemoryStore()
    imported(path, target)
    assert problems(target) == []
    for row in target.threads().threads:
        assert HistoryReader(target, row.thread_id).checkpoint(row.head)
        assert row.status is Status.QUEUED


def test_a_thread_that_is_gone_is_left_out(path: Path) -> None:
    """It was deleted after it had been listed, and nothing of all the others was written."""
    source = pair(path)
    done = exported(source, path, ["a", "none", "b"])
    assert (done.threads, done.total, done.gone) == (2, 3, ["none"])
    target = MemoryStore()
    assert imported(path, target).thread_ids == ["a", "b"]


def test_a_thread_that_is_not_whole_is_no_file(path: Path) -> None:
    source = MemoryStore()
    source.load(replace(family_image(), messages=()))
    with pytest.raises(StoreMisuse, match="'t' is being copied into this store"):
        exported(source, path, ["t"])


def family_image() -> Any:
    source = MemoryStore()
    appended(source, 3)
    return source.image("t")


# -- keys ------------------------------------------------------------------------------------------------------------


def test_a_file_is_sealed_as_its_store(path: Path, tmp_path: Path) -> None:
    """Nothing of the values can be read in it; with the keys it opens, also under other ids and into other keys."""
    secret = b"the launch code is 0000"
    vault, other = EncryptedVault(RING), EncryptedVault(Keyring.generate("k2"))
    with SqliteStore(tmp_path / "sealed.db", vault=vault) as source:
        source.put_graph(replace(GRAPH, body=secret))
        source.create(new_thread("t", graph_key="k"), message("m", payload=secret))
        source.claim("t", epoch=0, token=TOKEN, owner="o")
        source.commit([commit(1, rows=(delta_of(secret),), head=1, status=Status.PAUSED, reason=secret.decode())])
        exported(source, path, vault=vault)
        assert secret not in path.read_bytes()
        for wrong, kind in ((PLAIN, MissingKey), (other, MissingKey)):
            target = MemoryStore(vault=wrong)
            with pytest.raises(kind, match=r"threads\.perdure|'k1'"):
                imported(path, target, vault=wrong)
            assert nothing_in(target)
        target = MemoryStore(vault=other)
        imported(path, target, vault=vault, rename={"t": "u"})
        assert target.thread("u").reason == secret.decode()
        assert target.segments("u")[0].rows[0].payload == secret
        assert target.key_ids("u") == {"k2"}
        exported(source, path)
        assert secret in path.read_bytes()
        plain = MemoryStore(vault=other)
        imported(path, plain, vault=other)
        assert plain.key_ids("t") == {"k2"}


def delta_of(payload: bytes) -> Any:
    return commit(1).rows[0]._replace(payload=payload)


# -- what is wrong with files ----------------------------------------------------------------------------------------

REFUSED = (Corrupt, StoreMisuse, NewerFormat)


def refused(path: Path, data: bytes) -> str:
    """Importing the bytes is refused before anything is written; why."""
    path.write_bytes(data)
    target = MemoryStore()
    with pytest.raises(REFUSED) as caught:
        imported(path, target)
    assert nothing_in(target)
    assert path.name in str(caught.value)
    return str(caught.value)


def sweep(path: Path, places: Iterable[int], ends: Iterable[int]) -> None:
    whole = path.read_bytes()
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << (place % 8)
        refused(path, bytes(data))
    for end in ends:
        refused(path, whole[:end])
    refused(path, whole + whole)
    refused(path, whole + b"\0")
    refused(path, whole[8:])


def test_flipped_bits_and_cuts_are_refused(full: Path) -> None:
    size = full.stat().st_size
    chance = random.Random(7)
    places = {*range(64), *range(size - 64, size), *chance.sample(range(size), 300)}
    sweep(full, places, {0, 1, 7, size - 1, size - 8, *chance.sample(range(size), 40)})


@pytest.mark.full
def test_every_flipped_byte_and_every_cut_is_refused(full: Path) -> None:
    size = full.stat().st_size
    sweep(full, range(size), range(size))


def test_damage_is_named(full: Path) -> None:
    """The file, the thread and the commits, or what of it is neither."""
    whole = full.read_bytes()
    at = whole.index(b"PRDS")
    said = refused(full, whole[:at] + b"X" + whole[at + 1 :])
    assert "thread 't', commits 1..13" in said
    assert "its end is missing" in refused(full, whole[:-100])
    assert "something stands behind it" in refused(full, whole + b"\n")


def test_foreign_files_are_refused(full: Path, tmp_path: Path) -> None:
    table = pa.table({"a": [1]})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert "none of threads" in refused(full, sink.getvalue())
    assert "no file of threads" in refused(full, b"")
    assert "no file of threads" in refused(full, b"PAR1" + bytes(1000) + b"PAR1")
    newer = SCHEMA.with_metadata({b"perdure.threads": b"2"}).serialize().to_pybytes()
    assert "has format 2" in refused(full, newer + bytes(100))
    for wrong in (tmp_path, tmp_path / "none"):
        with pytest.raises(StoreMisuse, match="cannot be read"):
            imported(wrong, MemoryStore())


def test_any_arrow_reader_opens_it(full: Path) -> None:
    with full.open("rb") as file:
        table = pa.ipc.open_stream(file).read_all()
    assert set(table.column("thread").to_pylist()) == {"t", "child", "asleep"}
    assert table.schema.metadata[b"perdure.sealed"] == b"no"


def test_a_file_that_is_whole_and_makes_no_sense(path: Path) -> None:
    """Its checksums are right, but a fork comes before its origin, or commits come twice."""
    source = MemoryStore()
    family(source)
    newest, *older = source.segments("t")
    commits, parent, child = [*older[::-1], newest], source.image("t"), source.image("child")
    for images, segments, why in (
        ((child, parent), (), "its origin 't' is not before it"),
        ((parent,), (*commits, newest), "it is out of order"),
        ((parent,), commits[:-1], r"commits 13\.\.13 are missing"),
        ((parent,), commits[1:], "before it are missing"),
        ((parent,), (*commits[:-1], replace(newest, epoch=-1)), "its epoch is -1"),
        ((parent,), (*commits[:-1], replace(newest, commit_id="")), "commit id must be text"),
        ((parent, parent), commits, "comes twice"),
    ):
        assert re.search(why, senseless(path, images, segments)), why


def senseless(path: Path, images: Iterable[ThreadImage], segments: Iterable[Segment] = ()) -> str:
    """Why a file is refused that holds this, and has the right checksums; before anything is written."""
    with path.open("wb+") as file:
        writer = ThreadFileWriter(file, PLAIN, "there")
        for image in images:
            writer.image(image)
        writer.segments(segments)
        writer.finish()
    target = MemoryStore()
    with pytest.raises(Corrupt) as caught:
        imported(path, target)
    assert nothing_in(target)
    return str(caught.value)


ROWS: tuple[tuple[Mapping[str, Any], str], ...] = (
    ({"driver": LOADING}, "it was being copied in itself"),
    ({"driver": ""}, "driver must be text that is not empty"),
    ({"seq": -5}, "its seq is -5"),
    ({"seq": 2**53}, "its seq is"),
    ({"epoch": -1}, "its epoch is -1"),
    ({"inbox": -1}, "its inbox is -1"),
    ({"head": 9}, "its head is 9"),
    ({"floor": 1}, "its floor is 1"),
    ({"run": 2}, "its run is 2"),
    ({"names": {"n": 3}}, "its checkpoint 'n' is 3"),
    ({"names": {"": 0}}, "checkpoint name must be text"),
    ({"wake_at": float("inf")}, "wake_at must be Unix seconds"),
    ({"created_at": float("nan")}, "nan is no time"),
    ({"thread_id": "a\0b"}, "NUL"),
    ({"thread_id": "x" * 513}, "at most 512"),
    ({"tags": ("a\0",)}, "NUL"),
    ({"reason": "\0"}, "NUL"),
    ({"waits": ("\0",)}, "NUL"),
    ({"metadata": {"a": 2**64 - 1}}, "does not fit 64 bits"),
    ({"metadata": {RERUN: {"recorded": True}}}, "its mark as a re-run names no commit"),
    ({"metadata": {RERUN: {"recorded": True, "thread": "t", "seq": -1}}}, "what follows commit -1"),
    ({"isolation": "none"}, "isolation is 'none'"),
    ({"origin": Origin(thread_id="t", seq=0)}, "its origin 't' is not before it"),
)


def test_rows_that_no_store_could_have_held(path: Path) -> None:
    """They were written as they were: negative numbers, times that never come, threads that nobody lets go."""
    row = new_thread("t", created_at=1.0, runs=1)
    for change, why in ROWS:
        assert why in senseless(path, [ThreadImage(thread=replace(row, **change), runs=(), messages=())]), why
    run, mail = RunRecord(thread_id="t", run=1), replace(message(), number=1)
    for runs, messages, why in (
        ((replace(run, thread_id="other"),), (), "is that of thread 'other'"),
        ((run, run), (), "run 1 does not follow 1"),
        ((replace(run, run=7),), (), "run 7"),
        ((replace(run, end=3),), (), "ended at checkpoint 3"),
        ((), (mail, mail), "message 1 is not between 1 and 2"),
        ((), (mail, replace(mail, number=2)), "has the id of another"),
        ((), (replace(mail, number=9),), "message 9 is not between 0 and 2"),
        ((), (replace(mail, applied=-7),), "was applied by commit -7"),
        ((), (replace(mail, message_id="", run=1),), "message id must be text"),
    ):
        image = ThreadImage(thread=replace(row, inbox=2), runs=runs, messages=messages)
        assert why in senseless(path, [image]), why


def test_a_record_under_another_id_is_refused(path: Path) -> None:
    with path.open("wb+") as file:
        writer = ThreadFileWriter(file, PLAIN, "there")
        data = msgspec.msgpack.encode(replace(new_thread("zzz"), names={}, metadata={}))
        writer._add(Record(Sort.THREAD, "t", 0, 0, 0, "", data))
        writer.finish()
    target = MemoryStore()
    with pytest.raises(Corrupt, match="its row is that of thread 'zzz'"):
        imported(path, target)
    assert nothing_in(target)


# -- threads that are there ------------------------------------------------------------------------------------------


def snapshot(store: CheckpointStore) -> Mapping[str, Any]:
    rows = store.threads(limit=1000).threads
    return {row.thread_id: (store.image(row.thread_id), store.segments(row.thread_id)) for row in rows}


def test_a_thread_that_is_there_is_never_overwritten(store: CheckpointStore, full: Path) -> None:
    owned(store, "child", created_at=77.0)
    before = snapshot(store)
    with pytest.raises(ThreadExists, match=r"thread 'child' of file .*threads\.perdure exists") as caught:
        imported(full, store)
    assert caught.value.thread_id == "child"
    assert snapshot(store) == before
    done = imported(full, store, on_conflict="skip")
    assert (done.threads, done.skipped, sorted(done.thread_ids)) == (2, ["child"], ["asleep", "t"])
    assert snapshot(store)["child"] == before["child"]
    with pytest.raises(ThreadExists, match="and 2 more"):
        imported(full, store)
    renamed = imported(full, store, rename={"child": "c2", "t": "t2", "asleep": "a2"})
    assert renamed.threads == 3
    assert store.thread("c2").origin == Origin(thread_id="t2", seq=5)
    assert store.segments("t2")[0].rows == store.segments("t")[0].rows
    assert {run.thread_id for run in store.runs("t2")} == {"t2"}
    assert problems(store) == []


def test_a_fork_of_a_thread_that_is_skipped(full: Path) -> None:
    """It refers to the one that is here, if that is the same one; else it is refused."""
    source, target = MemoryStore(), MemoryStore()
    appended(source, 9)
    exported(source, full)
    imported(full, target)
    source.create(new_thread("child", origin=Origin(thread_id="t", seq=5), seq=5, head=5))
    exported(source, full)
    done = imported(full, target, on_conflict="skip")
    assert (done.thread_ids, done.skipped) == (["child"], ["t"])
    assert_same_threads(source, target)
    other = MemoryStore()
    appended(other, 12)
    with pytest.raises(StoreMisuse, match=r"'child' of .* was forked from 't'"):
        imported(full, other, on_conflict="skip")
    assert [row.thread_id for row in other.threads().threads] == ["t"]


def test_new_ids_have_to_fit(full: Path) -> None:
    for rename, why in (
        ({"nobody": "x"}, "holds no thread 'nobody'"),
        ({"t": "child"}, "would both be 'child'"),
        (lambda name: "same", "would both be 'same'"),
        ({"t": ""}, "not empty"),
        ({"t": "x" * 513}, "at most 512"),
        ({"t": 3}, "must be text"),
        ("abc", "rename is 'abc'; give a dict"),
        ({3: "x", "nobody": "y"}, "holds no thread 3"),
    ):
        target = MemoryStore()
        with pytest.raises(StoreMisuse, match=why):
            imported(full, target, rename=rename)
        assert nothing_in(target)
    with pytest.raises(StoreMisuse, match='give "refuse" or "skip"'):
        imported(full, MemoryStore(), on_conflict="overwrite")


# -- imports that break off ------------------------------------------------------------------------------------------


class Dying(Delegating):
    """The process ends before or after one of its writes."""

    def __init__(self, inner: CheckpointStore, calls: int, *, before: bool) -> None:
        super().__init__(inner)
        self.left, self.before = calls, before

    def load(self, image: Any, segments: Any = (), **options: Any) -> bool:
        return bool(self._maybe(lambda: self.inner.load(image, segments, **options)))

    def put_setting(self, name: str, value: Any) -> None:
        self._maybe(lambda: self.inner.put_setting(name, value))

    def _maybe(self, call: Any) -> Any:
        self.left -= 1
        if self.left < 0 and self.before:
            raise Died
        done = call()
        if self.left < 0:
            raise Died
        return done


@pytest.mark.parametrize("before", [True, False])
def test_an_import_that_breaks_off_goes_on(before: bool, path: Path) -> None:
    """It dies at each of its writes in turn. Until it is run again each thread is whole or held; one that has been let
    go may have run on since."""
    source = MemoryStore()
    family(source)
    appended(source, 60, "long", size=100)
    exported(source, path)
    for calls in range(60):
        target = MemoryStore()
        try:
            imported(path, Dying(target, calls, before=before))
        except Died:
            assert_whole_or_held(source, target)
            gone_on = run_on(target)
            if left_open(target):
                done = imported(path, target)
                assert done.threads == 4
            for row in source.threads().threads:
                name = row.thread_id
                mine = [one for one in target.segments(name) if one.last <= row.seq]
                assert mine == source.segments(name)
                assert (target.thread(name).seq > row.seq) == (name in gone_on)
            assert not left_open(target)
            with pytest.raises(ThreadExists):
                imported(path, target)
        else:
            assert calls > 8
            return
    raise AssertionError("the import never came to its end")


def left_open(target: MemoryStore) -> bool:
    """Whether an import is not done yet, or has not begun."""
    notes = [name for name in target._settings if name.startswith("import:") and not name.endswith(":whole")]
    return bool(notes) or not target.threads().threads


def assert_whole_or_held(source: CheckpointStore, target: CheckpointStore) -> None:
    for row in target.threads().threads:
        if row.driver != LOADING:
            assert image_of(source, row.thread_id) == image_of(target, row.thread_id)
            assert source.segments(row.thread_id) == target.segments(row.thread_id)


def run_on(target: CheckpointStore) -> set[str]:
    """Everything that may run does so."""
    ran = set()
    for row in target.threads().threads:
        if row.driver != LOADING and row.status.runnable:
            claimed = target.claim(row.thread_id, epoch=row.epoch, token=TOKEN, owner="there")
            target.commit([commit(row.seq + 1, thread_id=row.thread_id, epoch=claimed.epoch)])
            ran.add(row.thread_id)
    return ran


IMPORTING = """
import os, signal, sys
from pathlib import Path
from perdure.stores.importing import import_threads
from perdure.stores.sqlite import SqliteStore
from perdure.stores.thread_file_reading import ThreadFile
from perdure.stores.vault import PlainVault

class Stopping(SqliteStore):
    left = int(sys.argv[3])

    def load(self, image, segments=(), **options):
        done = super().load(image, segments, **options)
        self.left -= 1
        if not self.left:
            print("stops", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)
        return done

with ThreadFile(Path(sys.argv[2]), PlainVault()) as file:
    for _ in import_threads(file, Stopping(Path(sys.argv[1])), 5.0):
        pass
"""


@pytest.mark.parametrize("loads", [3, pytest.param(1, marks=pytest.mark.full), pytest.param(9, marks=pytest.mark.full)])
def test_a_process_that_is_killed_in_the_middle(loads: int, path: Path, tmp_path: Path) -> None:
    """A real process and a real SIGKILL, at a load of the import."""
    source = MemoryStore()
    family(source)
    appended(source, 100, "long", size=2000)
    exported(source, path)
    child = subprocess.Popen(
        [sys.executable, "-c", IMPORTING, tmp_path / "target.db", path, str(loads)], stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == b"stops\n"
        finally:
            child.kill()
    assert child.returncode == -signal.SIGKILL
    with SqliteStore(tmp_path / "target.db") as target:
        assert target.threads().threads
        assert_whole_or_held(source, target)
        assert imported(path, target).threads == 4
        for row in source.threads().threads:
            assert image_of(source, row.thread_id) == image_of(target, row.thread_id)
            assert source.segments(row.thread_id) == target.segments(row.thread_id)
        assert problems(target) == []
        with pytest.raises(ThreadExists):
            imported(path, target)


class Meddling(Delegating):
    """Something happens before its n-th write, once."""

    def __init__(self, inner: CheckpointStore, write: int, meddle: Callable[[], Any]) -> None:
        super().__init__(inner)
        self.left, self.meddle, self.done = write, meddle, False

    def load(self, image: Any, segments: Any = (), **options: Any) -> bool:
        self._count()
        return self.inner.load(image, segments, **options)

    def put_setting(self, name: str, value: Any) -> None:
        self._count()
        self.inner.put_setting(name, value)

    def _count(self) -> None:
        self.left -= 1
        if not self.left:
            self.done = True
            self.meddle()


def pair(path: Path, *, commits: int = 4, ended: bool = False) -> MemoryStore:
    """A store with two threads, and a file of them: an import of so small ones begins with a note, writes each thread
    once, another note, each thread once more, and takes the two notes away."""
    source = MemoryStore()
    for name in ("a", "b"):
        appended(source, commits, name)
        if ended:
            source.commit([commit(commits + 1, thread_id=name, status=Status.SUCCEEDED, release=True)])
    exported(source, path)
    return source


@pytest.mark.parametrize("compacted", [True, False])
def test_an_import_ends_where_what_it_let_go_was_compacted_or_deleted(compacted: bool, path: Path) -> None:
    """It broke off after it had let the first thread go. That one ran on: it was taken for another, and the rest of the
    import could not be brought to its end; or it was brought in, and ran, a second time."""
    pair(path, ended=not compacted)
    target = MemoryStore()
    with pytest.raises(Died):
        imported(path, Dying(target, 5, before=True))
    (free,) = [row for row in target.threads().threads if row.driver != LOADING]
    name = free.thread_id
    if compacted:
        claimed = target.claim(name, epoch=free.epoch, token=TOKEN, owner="there")
        for seq in range(5, 60):
            target.commit([commit(seq, thread_id=name, epoch=claimed.epoch)])
        tidied(target, name, Retention())
        assert len(target.segments(name)) < 20
    else:
        target.delete(name)
    done = imported(path, target, on_conflict="refuse")
    assert (done.threads, done.present, done.gone) == ((2, 1, []) if compacted else (1, 0, [name]))
    assert done.thread_ids == (["b", "a"] if compacted else [one for one in ("b", "a") if one != name])
    assert all(row.driver != LOADING for row in target.threads().threads)
    assert name in {row.thread_id for row in target.threads().threads} or not compacted
    assert not left_open(target)


def test_a_held_thread_that_is_given_up_is_gone(path: Path) -> None:
    """Deleted after it had been brought in, and before it was let go."""
    pair(path)
    target = MemoryStore()
    store = Meddling(target, 4, lambda: target.delete("a"))
    done = imported(path, store)
    assert store.done
    assert (done.threads, done.gone, done.thread_ids) == (1, ["a"], ["b"])
    assert [row.thread_id for row in target.threads().threads] == ["b"]
    assert imported(path, target, on_conflict="skip").thread_ids == ["a"]


def test_several_who_import_the_same_end_it_together(path: Path) -> None:
    """Another one does all of it, or dies in it, before each write of the first: all three of three had failed."""
    source = pair(path, commits=12, ended=True)

    def other(target: CheckpointStore, calls: int) -> None:
        with suppress(Died):
            imported(path, Dying(target, calls, before=False))

    for write in range(1, 20):
        for calls in (1, 3, 5, 6, 7, 99):
            target = MemoryStore()
            store = Meddling(target, write, partial(other, target, calls))
            done = imported(path, store)
            assert (done.threads, done.gone, done.thread_ids) == (2, [], ["b", "a"])
            assert_same_threads(source, target)
            assert problems(target) == []
            assert not left_open(target)
            # Nothing is left of it that a later one could take for its own.
            target.delete("a")
            target.delete("b")
            assert imported(path, target).threads == 2
    assert not store.done


def test_several_processes_worth_of_imports_at_once(path: Path, tmp_path: Path) -> None:
    source = MemoryStore()
    for number in range(8):
        appended(source, 40, f"t{number}")
    exported(source, path)
    results: list[Any] = []

    def run() -> None:
        with SqliteStore(tmp_path / "target.db") as target:
            try:
                results.append(imported(path, target))
            except ThreadExists as error:
                results.append(error)  # it came when the first one was at its end

    SqliteStore(tmp_path / "target.db").close()
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert any(isinstance(one, Imported) for one in results), results
    assert all(one.threads == 8 for one in results if isinstance(one, Imported))
    with SqliteStore(tmp_path / "target.db") as target:
        assert_same_threads(source, target)
        assert problems(target) == []


def test_what_graphs_there_are_is_seen_to_before_anything_is_written(path: Path) -> None:
    """A note was left behind, by which others' threads were taken for those of this import."""
    pair(path)
    target = MemoryStore()

    def wrong() -> Any:
        raise StoreMisuse("not shippable")

    with pytest.raises(StoreMisuse, match="not shippable"):
        imported(path, target, graphs=wrong)
    assert nothing_in(target)


def test_two_of_one_beginning_are_not_put_together(path: Path, tmp_path: Path) -> None:
    """Imports of both broke off. The one added its commits to what there was of the other."""
    source, other, target = MemoryStore(), MemoryStore(), MemoryStore()
    appended(source, 5)
    exported(source, path)
    imported(path, other)
    claimed = other.claim("t", epoch=1, token=TOKEN, owner="o")
    for seq in range(6, 60):
        append(source, seq)
        other.commit([replace(step(seq), epoch=claimed.epoch)])
    for seq in range(60, 90):
        append(source, seq)
    appended(source, 1, "u")
    small = tmp_path / "small"
    exported(source, path)
    exported(other, small)
    with pytest.raises(Died):
        imported(path, Dying(target, 2, before=True))
    with pytest.raises(Died):
        imported(small, Dying(target, 2, before=True))
    held = target.segments("t")
    assert held
    with pytest.raises(ThreadExists, match=r"Another import or copy has begun with it, .* by deleting the thread"):
        imported(path, target)
    assert target.segments("t") == held
    assert imported(small, target).threads == 1
    assert target.segments("t") == other.segments("t")


def test_what_somebody_else_is_copying_in_is_left_alone(full: Path) -> None:
    """A held thread of a copy of the same store is not taken for one of this import."""
    source, target = MemoryStore(), MemoryStore()
    family(source)
    target.load(source.image("t"))
    before = snapshot(target)
    with pytest.raises(ThreadExists, match="'t'"):
        imported(full, target)
    assert snapshot(target) == before


# -- size ------------------------------------------------------------------------------------------------------------


def test_large_threads_are_moved_in_little_memory(path: Path, tmp_path: Path) -> None:
    """What is handed to the file and to the store at a time is bounded, whatever a thread's size."""

    class Watched(Delegating):
        most = 0

        def load(self, image: Any, segments: Any = (), **options: Any) -> bool:
            self.most = max(self.most, sum(len(row.payload) for segment in segments for row in segment.rows))
            return self.inner.load(image, segments, **options)

    chance = random.Random(3)
    with SqliteStore(tmp_path / "source.db") as source, SqliteStore(tmp_path / "target.db") as inner:
        owned(source)
        for seq in range(1, 81):
            rows = (commit(seq).rows[0]._replace(payload=chance.randbytes(150_000)),)
            source.commit([commit(seq, rows=rows, head=seq)])
        exported(source, path)
        with ThreadFile(path, PLAIN) as file:
            assert max(batch.size for _, batch in file._places["t"]) < 5 << 20
        target = Watched(inner)
        imported(path, target)
        assert target.most < 6 << 20
        assert inner.segments("t") == source.segments("t")
