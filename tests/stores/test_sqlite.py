"""SQLite's own promises, with real processes, signals, full disks and damaged files."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import stat
import string
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from perdure.stores import sqlite_migrations
from perdure.stores.errors import Corrupt, NewerFormat, StoreFull, StoreMisuse, StoreUnavailable
from perdure.stores.operations import Committed
from perdure.stores.processes import start_time
from perdure.stores.records import OwnerRecord, Status
from perdure.stores.sqlite import SqliteStore
from perdure.stores.sqlite_lock import lock_holder
from perdure.stores.sqlite_migrations import APPLICATION_ID
from perdure.stores.statements import script, statements
from perdure.stores.urls import open_store
from tests.forks import FORKS
from tests.stores import workers
from tests.stores.backends import TOKEN, Backend, commit, delta, message, new_thread, owned


@contextmanager
def process(target: Callable[..., None], *args: Any) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process of `target(*args, connection)`, killed at the end of the block, and our end of the connection."""
    ours, theirs = FORKS.Pipe(duplex=False)
    started = FORKS.Process(target=target, args=(*args, theirs), daemon=True)
    started.start()
    theirs.close()
    try:
        yield started, ours
    finally:
        started.kill()
        started.join()
        ours.close()


def answer(connection: Connection, timeout: float = 30) -> Any:
    assert connection.poll(timeout), "the other process did not answer"
    return connection.recv()


def store_path(backend: Backend) -> Path:
    return Path(backend.url.removeprefix("sqlite:///"))


def raw(path: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(path, isolation_level=None))


# -- several processes ---------------------------------------------------------------------------------------------


def test_of_two_claiming_processes_one_wins(sqlite: Backend) -> None:
    store = sqlite.open()
    names = [f"t{i}" for i in range(40)]
    for name in names:
        store.create(new_thread(name))
    start = FORKS.Barrier(2)
    with (
        process(workers.claim_all, sqlite.url, names, "a", start) as (_, first),
        process(workers.claim_all, sqlite.url, names, "b", start) as (_, second),
    ):
        won = {"a": answer(first), "b": answer(second)}
    assert sorted(won["a"] + won["b"]) == sorted(names)
    for token, mine in won.items():
        assert all(store.thread(name).token == token and store.thread(name).epoch == 1 for name in mine)


def test_a_killed_writer_leaves_what_it_acknowledged(sqlite: Backend) -> None:
    store = sqlite.open()
    store.create(new_thread())
    chance = random.Random(7)
    acknowledged = 0
    for epoch in range(6):
        with process(workers.commit_until_killed, sqlite.url, "t", epoch) as (writer, seqs):
            acknowledged = answer(seqs)
            end = time.monotonic() + chance.uniform(0.0, 0.2)
            while time.monotonic() < end and seqs.poll(0.05):
                acknowledged = seqs.recv()
            assert writer.pid is not None
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
            while seqs.poll(0):
                try:
                    acknowledged = seqs.recv()
                except EOFError:
                    break
        row = store.thread("t")
        # One more may have become durable without its answer having got out.
        assert acknowledged <= row.seq <= acknowledged + 1
        assert (row.head, row.epoch) == (row.seq, epoch + 1)
        with raw(store_path(sqlite)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    segments = store.segments("t")
    assert [segment.first for segment in segments] == list(range(store.thread("t").seq, 0, -1))
    assert all(segment.rows[0].payload[:8] == segment.first.to_bytes(8, "big") for segment in segments)


def test_a_stopped_writer_is_named_and_can_be_killed(sqlite: Backend) -> None:
    store = sqlite.open()
    assert isinstance(store, SqliteStore)
    owned(store)
    store.renew(OwnerRecord(owner="o", counter=1, host="h", pid=1, started=10))
    assert store.lock_holder() is None
    with process(workers.stop_in_transaction, str(store.path)) as (writer, answers):
        pid = answer(answers)
        holder = store.lock_holder()
        assert holder is not None
        assert (holder.pid, holder.started) == (pid, start_time(pid))
        blocked = ThreadPoolExecutor(1)
        written = blocked.submit(store.commit, [commit(1, status=Status.SUCCEEDED)])
        # Every reader answers, in a store object that was there before and in a new one.
        with open_store(sqlite.url) as other:
            for reader in (store, other):
                assert reader.thread("t").seq == 0
                assert reader.owners()[0].owner == "o"
                assert len(reader.threads().threads) == 1
                assert reader.segments("t") == []
        assert not written.done()
        assert store.lock_holder() == lock_holder(store.path) == holder
        os.kill(pid, signal.SIGKILL)
        assert written.result(timeout=10) == [Committed(seq=1, inbox=0)]
        writer.join()
    assert store.lock_holder() is None
    assert [row.thread_id for row in store.threads().threads] == ["t"]
    blocked.shutdown()


def test_a_writer_stopped_before_it_named_itself_is_found(sqlite: Backend) -> None:
    store = sqlite.open()
    assert isinstance(store, SqliteStore)
    with process(workers.stop_before_naming_itself, str(store.path)) as (_, answers):
        pid = answer(answers)
        holder = store.lock_holder()
        assert holder is not None
        assert (holder.pid, holder.started) == (pid, start_time(pid))


def test_the_lock_counts_its_acquisitions(sqlite: Backend) -> None:
    store = sqlite.open()
    assert isinstance(store, SqliteStore)
    owned(store)
    seen: list[int] = []
    for _ in range(2):
        with store._connections.lock.held():
            holder = store.lock_holder()
            assert holder is not None
            assert (holder.pid, holder.started) == (os.getpid(), start_time(os.getpid()))
            seen.append(holder.acquisitions)
    assert seen[1] == seen[0] + 1
    assert lock_holder(store.path.with_name("none.db")) is None


def test_the_lock_keeps_threads_and_stores_apart(sqlite: Backend) -> None:
    stores = [sqlite.open() for _ in range(3)]
    owned(stores[0])
    answers: list[object] = []

    def deliver(number: int) -> None:
        for turn in range(10):
            answers.append(stores[number % 3].create(new_thread(f"{number}-{turn}"), message()).number)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(deliver, range(6)))
    assert answers == [1] * 60
    assert len(stores[0].threads(limit=100).threads) == 61


# -- no room, no rights --------------------------------------------------------------------------------------------


def test_a_file_that_may_not_grow(sqlite: Backend) -> None:
    with process(workers.fill_up, sqlite.url, 400_000) as (_, answers):
        reached, after, errors = answer(answers)
    assert (0 < reached < 40, after) == (True, reached + 20)
    assert len(errors) == 2
    assert all("cannot be written" in error for error in errors)
    assert sqlite.open().thread("full").seq == after


def test_a_full_disk(tmp_path: Path) -> None:
    """A small disk of its own where that may be mounted, else the database's own limit of pages."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    try:
        mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        _limited_pages(disk)
        return
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(1_200_000))
        url = f"sqlite:///{disk}/store.db"
        with process(workers.fill_up_disk, url, ballast) as (_, answers):
            reached, after, errors = answer(answers)
        assert (0 < reached < 60, after, len(errors)) == (True, reached + 20, 2)
        with open_store(url) as store:
            assert [segment.first for segment in store.segments("full")] == list(range(after, 0, -1))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _limited_pages(folder: Path) -> None:
    with SqliteStore(folder / "store.db") as store:
        owned(store)
        with store._connections.writing() as connection:
            connection.execute("PRAGMA max_page_count = 60")
        seq = 0
        with pytest.raises(StoreFull):
            for seq in range(1, 100):
                store.commit([commit(seq, rows=(delta(seq, os.urandom(20_000)),))])
        assert store.thread("t").seq == seq - 1
        assert store.commit([commit(seq)]) == [Committed(seq=seq, inbox=0)]


@pytest.mark.parametrize("what", ["file", "directory"])
def test_where_only_reading_is_allowed(what: str, tmp_path: Path) -> None:
    """A folder of its own under /tmp: pytest's may be entered by its owner only."""
    parent = Path(subprocess.run(["mktemp", "-d"], capture_output=True, check=True, text=True).stdout.strip())
    path = parent / "store.db"
    try:
        parent.chmod(0o755)
        store = SqliteStore(path)
        owned(store)
        for file in parent.iterdir():
            file.chmod(0o444 if what == "directory" or file == path else 0o666)
        parent.chmod(0o555 if what == "directory" else 0o777)
        with process(workers.without_rights, store.url, f"sqlite:///{tmp_path}/scratch.db", ["t"]) as (_, answers):
            outcome = answer(answers)
        assert outcome == ["t", "StoreFull", "StoreFull", "t"]
        assert store.thread("t").seq == 0
        store.close()
    finally:
        parent.chmod(0o755)
        for file in parent.iterdir():
            file.unlink()
        parent.rmdir()


def test_new_files_are_for_their_owner_only(sqlite: Backend) -> None:
    owned(sqlite.open())
    files = list(store_path(sqlite).parent.iterdir())
    assert sorted(file.name for file in files) == ["store.db", "store.db-lock", "store.db-shm", "store.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


# -- damage and other formats --------------------------------------------------------------------------------------


def test_a_damaged_segment_is_named(sqlite: Backend) -> None:
    store = sqlite.open()
    owned(store)
    done = [commit(1, 2), commit(3), commit(4, 5)]
    store.commit(done)
    with raw(store_path(sqlite)) as connection:
        data = bytearray(connection.execute("SELECT data FROM segments WHERE first = 3").fetchone()[0])
        data[len(data) // 2] ^= 0xFF
        data[-3] ^= 0xFF
        connection.execute("UPDATE segments SET data = ? WHERE first = 3", (bytes(data),))
    with pytest.raises(Corrupt) as caught:
        store.segments("t")
    for part in ("'t'", "3..3", done[1].commit_id, sqlite.url):
        assert part in str(caught.value)
    assert [segment.first for segment in store.segments("t", first=4)] == [4]
    assert [segment.first for segment in store.segments("t", last=2)] == [1]


def test_a_segment_of_another_thread_is_not_taken(sqlite: Backend) -> None:
    store = sqlite.open()
    for name in ("a", "b"):
        owned(store, name)
        store.commit([commit(1, thread_id=name)])
    with raw(store_path(sqlite)) as connection:
        connection.execute("UPDATE segments SET data = (SELECT max(data) FROM segments)")
    with pytest.raises(Corrupt, match="belongs to thread"):
        store.segments("a"), store.segments("b")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"not a database at all, " * 400)
    with pytest.raises(Corrupt):
        SqliteStore(path)
    assert path.read_bytes() == b"not a database at all, " * 400


def test_a_damaged_database(sqlite: Backend) -> None:
    store = sqlite.open()
    owned(store)
    for seq in range(1, 200):
        store.commit([commit(seq, rows=(delta(seq, os.urandom(2000)),))])
    sqlite.close()
    path = store_path(sqlite)
    content = bytearray(path.read_bytes())
    content[4096 * 3 :] = os.urandom(len(content) - 4096 * 3)
    path.write_bytes(bytes(content))
    with SqliteStore(path) as damaged:
        with pytest.raises(Corrupt):
            damaged.threads(), damaged.thread("t"), damaged.segments("t")


def test_a_newer_layout_is_refused(sqlite: Backend) -> None:
    owned(sqlite.open())
    sqlite.close()
    with raw(store_path(sqlite)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(NewerFormat, match="layout 99"):
        sqlite.open()


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with raw(path) as connection:
        connection.execute("CREATE TABLE threads (a)")
    before = path.read_bytes()
    with pytest.raises(StoreMisuse, match="another program"):
        SqliteStore(path)
    assert path.read_bytes() == before


# -- the connections -----------------------------------------------------------------------------------------------


def test_a_failed_transaction_leaves_the_store_usable(sqlite: Backend) -> None:
    store = sqlite.open()
    assert isinstance(store, SqliteStore)
    owned(store)
    for error in (KeyboardInterrupt(), RuntimeError(), sqlite3.OperationalError("disk I/O error")):
        expected = StoreUnavailable if isinstance(error, sqlite3.Error) else type(error)
        with pytest.raises(expected):
            with store._transaction() as tx:
                tx.insert_thread(new_thread("half"))
                raise error
    assert [row.thread_id for row in store.threads().threads] == ["t"]
    assert store.commit([commit(1)]) == [Committed(seq=1, inbox=0)]


def test_a_lock_that_somebody_else_holds_is_waited_for(sqlite: Backend) -> None:
    store = sqlite.open()
    owned(store)
    with raw(store_path(sqlite)) as connection, ThreadPoolExecutor(1) as pool:
        connection.execute("BEGIN IMMEDIATE")
        waiting = pool.submit(store.commit, [commit(1)])
        time.sleep(0.1)
        assert not waiting.done()
        connection.execute("COMMIT")
        assert waiting.result(10) == [Committed(seq=1, inbox=0)]


def test_a_closed_store_says_so(sqlite: Backend) -> None:
    store = sqlite.open()
    owned(store)
    store.close()
    for call in (lambda: store.thread("t"), lambda: store.commit([commit(1)]), store.owners):
        with pytest.raises(StoreMisuse, match="closed"):
            call()


def test_closing_while_others_read_leaks_nothing(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for turn in range(3):
        store = SqliteStore(tmp_path / f"{turn}.db")
        owned(store)
        stop = threading.Event()

        def read(store: SqliteStore = store, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                try:
                    store.thread("t")
                except StoreMisuse:
                    return

        with ThreadPoolExecutor(6) as pool:
            readers = [pool.submit(read) for _ in range(6)]
            time.sleep(0.05)
            store.close()
            for reader in readers:
                reader.result(10)
            stop.set()
    assert len(os.listdir("/proc/self/fd")) == before


def test_many_processes_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new.db"

    def create(number: int) -> int:
        with SqliteStore(path) as store:
            return store.create(new_thread(f"t{number}")).number

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(create, range(16))) == [0] * 16
    with SqliteStore(path) as store:
        assert len(store.threads().threads) == 16


# -- size ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("together", "largest"), [(50, 4_000_000), (1, 4_000_000)], ids=["coalesced", "one by one"])
def test_the_file_stays_near_the_size_of_the_data(sqlite: Backend, together: int, largest: int) -> None:
    store = sqlite.open()
    owned(store)
    chance = random.Random(1)
    text = ["".join(chance.choices(string.ascii_letters + string.digits + " ", k=1024)).encode() for _ in range(2000)]
    for first in range(1, 2001, together):
        last = first + together - 1
        rows = tuple(delta(seq, text[seq - 1]) for seq in range(first, last + 1))
        store.commit([commit(first, last, rows=rows, head=last)])
    with raw(store_path(sqlite)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert store_path(sqlite).stat().st_size <= largest
    assert store.thread("t").token == TOKEN


def test_commits_of_a_thread_do_not_rewrite_its_neighbours(sqlite: Backend) -> None:
    """Pages written per small commit: the thread's row, the segment and its index, whatever else is in the store."""
    store = sqlite.open()
    for i in range(300):
        owned(store, f"t{i}", metadata={"k": "v" * 500})
    with raw(store_path(sqlite)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        wal = store_path(sqlite).with_name("store.db-wal")
        for seq in range(1, 51):
            store.commit([commit(seq, thread_id="t150")])
        assert wal.stat().st_size <= 50 * 4 * 4120


# -- migrations ----------------------------------------------------------------------------------------------------


def test_a_file_of_layout_1_is_brought_to_the_present_one(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with raw(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(script("sqlite_0001.sql"))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.execute(
            "INSERT INTO threads VALUES (7, 't', 2, 'k', 0, 0, 1, 'running', '', 1, 1, 'o', 0, '[\"w\"]', 2.5, 'g', "
            "'1', '', 'service', NULL, NULL, '{\"a\":1}', '[\"x\"]', 1.5)"
        )
        connection.execute("INSERT INTO messages VALUES (7, 1, 'm', 'input', x'0102', 1, 1.5, 0)")
        connection.execute("INSERT INTO runs VALUES (7, 1, 'failed', 3, 'why', x'03', '{}', 1.5, 2.5)")
        connection.execute("INSERT INTO graphs VALUES ('k', 'g', '1', 'reference', x'04', x'05', '[]')")
    with SqliteStore(path, create=False) as store:
        assert store.migrated == [2, 3]
        row = store.thread("t")
        assert (row.epoch, row.waits, row.metadata, row.tags) == (2, ("w",), {"a": 1}, ("x",))
        assert (row.wake_at, row.retention, row.names, row.floor, row.tidied) == (0.0, None, {}, 0, 0)
        assert [message.payload for message in store.messages("t")] == [b"\x01\x02"]
        assert [run.error for run in store.runs("t")] == [b"\x03"]
        assert store.graph("k").body == b"\x04"
    with SqliteStore(path) as store:
        assert store.migrated == []


def test_a_migration_that_is_cut_short_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old.db"
    with raw(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(script("sqlite_0001.sql"))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")

    def cut_short(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("interrupted")

    with monkeypatch.context() as patch:
        patch.setitem(sqlite_migrations._STEPS, 2, cut_short)
        with pytest.raises(StoreUnavailable):
            SqliteStore(path)
    with SqliteStore(path) as store:
        assert store.migrated == [2, 3]


def test_what_is_due_is_found_whatever_else_is_parked(sqlite: Backend) -> None:
    """It was looked up by status: with 100,000 parked threads each look took 0.4 s, twice a second."""
    sqlite.open()
    with raw(store_path(sqlite)) as connection:
        plan = connection.execute("EXPLAIN QUERY PLAN " + statements("sqlite_queries.sql")["due"], (1.0, 1)).fetchall()
    (step,) = [row[-1] for row in plan]
    assert "threads_by_wake" in step
