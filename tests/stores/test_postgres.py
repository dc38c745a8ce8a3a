"""Postgres' own promises, with a real server, lost answers, and servers that are stopped or unsafe."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from perdure.stores.base import CommitResult
from perdure.stores.errors import (
    Corrupt,
    NewerFormat,
    StoreFull,
    StoreMissing,
    StoreMisuse,
    StoreUnavailable,
    ThreadExists,
)
from perdure.stores.node_slots import RUNTIME_VARIABLE
from perdure.stores.operations import Committed, ThreadFilter
from perdure.stores.postgres import PostgresStore
from perdure.stores.postgres_options import PostgresOptions
from perdure.testing.racing import race
from tests.forks import FORKS
from tests.servers.postgres import PostgresServer
from tests.stores import postgres_workers
from tests.stores.backends import ANY, TOKEN, commit, delta, message, new_thread, owned
from tests.stores.postgres_raw import ask
from tests.stores.proxy import Proxy


@pytest.fixture(autouse=True)
def own_slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests' connections to the same server do not count here."""
    monkeypatch.setenv(RUNTIME_VARIABLE, str(tmp_path / "runtime"))


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    with PostgresStore(postgres_url) as store:
        yield store


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Proxy]:
    parts = urlsplit(postgres_url)
    with Proxy((str(parts.hostname), int(parts.port or 5432))) as proxy:
        yield proxy


def through(proxy: Proxy, url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}").geturl()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def waiting_for_locks(url: str) -> int:
    """How many sessions of the database wait for somebody's lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return int(str(ask(url, query)[0][0]))


# -- schema and migrations -----------------------------------------------------------------------------------------


def test_the_schema_comes_with_the_first_opening_and_only_then(postgres_url: str) -> None:
    with pytest.raises(StoreMissing, match="no store in schema 'perdure'"):
        PostgresStore(postgres_url, create=False)
    with PostgresStore(postgres_url) as store:
        assert store.migrated == [1, 2]
    for create in (True, False):
        with PostgresStore(postgres_url, create=create) as store:
            assert store.migrated == []
    assert ask(postgres_url, "SELECT layout FROM perdure.layouts ORDER BY layout") == [(1,), (2,)]


def test_many_open_an_empty_database_at_once(postgres_url: str) -> None:
    def open_it() -> list[int]:
        with PostgresStore(postgres_url) as store:
            return store.migrated

    applied = race([open_it] * 8)
    # Each once; not always all by the same one.
    assert all(isinstance(versions, list) for versions in applied), applied
    assert sorted(chain.from_iterable(versions for versions in applied if isinstance(versions, list))) == [1, 2]


@pytest.mark.full
def test_four_processes_open_an_empty_database_at_once(postgres_url: str) -> None:
    start = FORKS.Barrier(4)
    pipes = [FORKS.Pipe(duplex=False) for _ in range(4)]
    processes = [
        FORKS.Process(target=postgres_workers.open_at_once, args=(postgres_url, start, end)) for _, end in pipes
    ]
    for process in processes:
        process.start()
    answers = [ours.recv() for ours, _ in pipes if ours.poll(120)]
    for process in processes:
        process.join()
    # Each layout once; not always all by the same process.
    assert len(answers) == 4
    assert all(isinstance(versions, list) for versions in answers), answers
    assert sorted(chain.from_iterable(answers)) == [1, 2]


def test_a_newer_layout_is_refused_and_left_alone(postgres_url: str) -> None:
    PostgresStore(postgres_url).close()
    ask(postgres_url, "INSERT INTO perdure.layouts (layout) VALUES (99)")
    with pytest.raises(NewerFormat, match=r"layout 99.*upgrade"):
        PostgresStore(postgres_url)
    assert ask(postgres_url, "SELECT max(layout) FROM perdure.layouts") == [(99,)]


def test_tables_of_somebody_else_are_not_touched(postgres_url: str) -> None:
    ask(postgres_url, "CREATE SCHEMA perdure")
    ask(postgres_url, "CREATE TABLE perdure.threads (mine int)")
    with pytest.raises(StoreMisuse, match="schema of its own"):
        PostgresStore(postgres_url)
    assert ask(postgres_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'perdure'") == [("threads",)]


def test_schemas_are_stores_of_their_own_whatever_their_names(postgres_url: str) -> None:
    hostile = 'we"ird; DROP SCHEMA perdure {x} %s'
    with (
        PostgresStore(postgres_url) as one,
        PostgresStore(postgres_url, options=PostgresOptions(schema=hostile)) as two,
    ):
        owned(one, "t")
        owned(two, "t")
        assert one.commit([commit(1)]) == two.commit([commit(1)])
        with PostgresStore(two.url) as again:
            assert again.thread("t").seq == 1
        two.create(new_thread("other"))
        assert len(one.threads().threads) == 1


def test_a_user_without_rights_to_create_uses_tables_that_are_there(postgres_url: str) -> None:
    PostgresStore(postgres_url).close()
    role = f"limited_{urlsplit(postgres_url).path[1:]}"
    parts = urlsplit(postgres_url)
    limited = parts._replace(netloc=f"{role}:pw@{parts.hostname}:{parts.port}").geturl()
    ask(postgres_url, f"CREATE ROLE {role} LOGIN PASSWORD 'pw'")
    try:
        with pytest.raises(StoreMisuse, match="permission denied"):
            PostgresStore(limited)
        ask(postgres_url, f"GRANT USAGE ON SCHEMA perdure TO {role}")
        ask(postgres_url, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA perdure TO {role}")
        with PostgresStore(limited) as store:
            owned(store)
            assert store.commit([commit(1)]) == [Committed(seq=1, inbox=0)]
        with pytest.raises(StoreMisuse, match="permission denied"):
            PostgresStore(limited, options=PostgresOptions(schema="another"))
    finally:
        ask(postgres_url, f"DROP OWNED BY {role}")
        ask(postgres_url, f"DROP ROLE {role}")


def test_how_the_tables_are_laid_out(store: PostgresStore) -> None:
    owned(store)
    for seq in range(1, 301):
        store.commit([commit(seq, head=seq, at=float(seq), progress=True)])
    store.close()
    # Written by the store's session when it ends, which may be a moment later.
    query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'threads'"
    wait_until(lambda: int(str(ask(store.url, query)[0][0])) >= 300)
    ((updated, without_index),) = ask(store.url, query)
    assert int(str(without_index)) >= 0.95 * int(str(updated))
    stored = "SELECT attstorage FROM pg_attribute WHERE attrelid = 'perdure.segments'::regclass AND attname = 'data'"
    assert ask(store.url, stored) == [("e",)]


def test_filters_use_their_indexes(store: PostgresStore) -> None:
    for number in range(200):
        store.create(new_thread(f"t{number}", metadata={"n": number, "s": "x" * 50}, tags=(f"tag {number}",)))
    for where in (
        "tags <> '{{}}' AND tags @> ARRAY['tag 7']",
        "metadata::text <> '{{}}' AND metadata::jsonb @> '{{\"n\": 7}}'",
    ):
        with psycopg.connect(store.url) as raw:
            raw.execute("SET enable_seqscan = off")
            plan = raw.execute(
                "EXPLAIN SELECT * FROM perdure.threads WHERE " + where.replace("{{", "{").replace("}}", "}")
            )
            assert "Bitmap Index Scan" in str(plan.fetchall())
    for key, value in (("n", 7), ("n", 7.0)):
        found = store.threads(ThreadFilter(metadata={key: value})).threads
        assert [thread.thread_id for thread in found] == ["t7"]


def test_metadata_comes_back_and_is_compared_exactly(store: PostgresStore) -> None:
    kept = {"big": 2**62 + 1, "float": 1e300, "exact": 2.0**60, "whole": 1e16, "minus": -0.0, "deep": {"a": [1, 2.5]}}
    store.create(new_thread("t", metadata=kept))
    found = store.thread("t").metadata
    assert found == kept
    assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in kept.items()}

    def finds(**asked: object) -> bool:
        return bool(store.threads(ThreadFilter(metadata=asked)).threads)

    assert all(finds(**{key: value}) for key, value in kept.items())
    assert finds(exact=2**60, whole=10**16, minus=0, big=2**62 + 1)
    assert not finds(big=2**62)
    assert not finds(big=float(2**62))
    assert not finds(deep={"a": [1.0, 2.5]})
    assert not finds(deep={"a": [1]})


# -- what a call costs ---------------------------------------------------------------------------------------------


def test_a_commit_is_one_round_trip(postgres_url: str, proxy: Proxy) -> None:
    def trips(call: Callable[[], object]) -> int:
        before = proxy.trips
        call()
        return proxy.trips - before

    with PostgresStore(through(proxy, postgres_url)) as store:

        def commits(names: list[str], seq: int, **fields: Any) -> list[CommitResult]:
            return store.commit([commit(seq, thread_id=name, **fields) for name in names])

        for name in "abc":
            owned(store, name)
        # A step by itself and a group are statements of their own.
        commits(["a"], 1)
        commits(["b", "c"], 1)
        assert trips(lambda: commits(["a"], 2)) == 1
        assert trips(lambda: commits(["c", "b"], 2)) == 1
        assert trips(lambda: commits(["a"], 3, expect_inbox=7)) == 1
        # Twice, since what is prepared takes a trip more the first time.
        for round_ in ("first", "second"):
            epoch = store.thread("a").epoch
            calls: list[Callable[[], object]] = [
                partial(store.create, new_thread(round_), message()),
                partial(store.deliver, round_, message("another"), ANY),
                partial(store.claim, "a", epoch=epoch, token=round_, owner="o"),
                partial(store.segments, "a"),
            ]
            taken = [trips(call) for call in calls]
        assert taken == [2, 3, 2, 1]


def test_without_prepared_statements(postgres_url: str, proxy: Proxy) -> None:
    options = PostgresOptions(prepare=False)
    with PostgresStore(through(proxy, postgres_url), options=options) as store:
        owned(store)
        for seq in range(1, 11):
            assert store.commit([commit(seq)]) == [Committed(seq=seq, inbox=0)]
        assert store.deliver("t", message(), ANY).number == 1
    assert b"INSERT INTO" in proxy.said
    assert b"_pg3_" not in proxy.said  # what psycopg names those that it prepares
    assert b"set_config" not in proxy.said


# -- lost answers, races -------------------------------------------------------------------------------------------


def test_a_lost_answer_is_found_out_by_asking_again(postgres_url: str, proxy: Proxy) -> None:
    with PostgresStore(through(proxy, postgres_url)) as store:
        owned(store)
        first, second = commit(1), commit(2)
        proxy.cut_answers = True
        with pytest.raises(StoreUnavailable):
            store.commit([first])
        proxy.cut_answers = False
        # Applied or not, which nobody can know: the same call leads to the same end.
        (result,) = store.commit([first])
        assert isinstance(result, Committed)
        assert result.seq == 1
        assert store.commit([first]) == [Committed(seq=1, inbox=0, repeated=True)]
        assert store.commit([second]) == [Committed(seq=2, inbox=0)]


def test_a_commit_that_is_repeated_while_it_still_runs_is_not_fenced(store: PostgresStore) -> None:
    """The second attempt's snapshot is from before the first one's end: looking the commit up in it finds nothing."""
    owned(store)
    change = commit(1)
    with closing(psycopg.connect(store.url)) as raw, ThreadPoolExecutor(2) as pool:
        raw.execute("SELECT FROM perdure.threads WHERE thread_id = 't' FOR UPDATE")
        attempts = [pool.submit(store.commit, [change]) for _ in range(2)]
        wait_until(lambda: waiting_for_locks(store.url) == 2)
        raw.rollback()
        results = [attempt.result(30)[0] for attempt in attempts]
    assert sorted(results, key=str) == [Committed(seq=1, inbox=0), Committed(seq=1, inbox=0, repeated=True)]
    assert len(store.segments("t")) == 1


def test_a_takeover_in_the_middle_of_a_commit_fences_it(store: PostgresStore) -> None:
    owned(store)
    with closing(psycopg.connect(store.url)) as raw, ThreadPoolExecutor(1) as pool:
        raw.execute("UPDATE perdure.threads SET epoch = 2, token = 'other' WHERE thread_id = 't'")
        attempt = pool.submit(store.commit, [commit(1), commit(1, thread_id="gone")])
        wait_until(lambda: waiting_for_locks(store.url) == 1)
        raw.commit()
        fenced, unknown = attempt.result(30)
    assert getattr(fenced, "found", None) == 2
    assert getattr(unknown, "found", None) == 0
    assert store.segments("t") == []


def test_of_many_creators_one_wins(store: PostgresStore) -> None:
    for number in range(10):
        name = f"t{number}"
        made = race([partial(store.create, new_thread(name), message(f"m{own % 2}")) for own in range(4)])
        winners = [one for one in made if not isinstance(one, BaseException)]
        assert sum(not one.repeated for one in winners) == 1
        assert len(winners) == 2
        assert sum(isinstance(one, ThreadExists) for one in made) == 2


def test_groups_of_the_same_threads_do_not_deadlock(store: PostgresStore) -> None:
    names = [f"t{number}" for number in range(30)]
    for name in names:
        owned(store, name)

    def group(order: list[str], seq: int) -> list[object]:
        return list(store.commit([commit(seq, thread_id=name) for name in order]))

    for seq in range(1, 11):
        one, other = race([partial(group, names, seq), partial(group, names[::-1], seq)])
        assert isinstance(one, list)
        assert isinstance(other, list)
        won = [isinstance(result, Committed) for result in one]
        assert [isinstance(result, Committed) for result in other[::-1]] == [not each for each in won]


# -- faults of the server ------------------------------------------------------------------------------------------


def test_what_was_acknowledged_survives_a_server_that_is_shot_down() -> None:
    with PostgresServer() as server, PostgresStore(server.database()) as store:
        owned(store)
        stop = threading.Event()
        acknowledged: list[int] = []
        again = 0

        def write() -> None:
            nonlocal again
            while not stop.is_set():
                seq = (acknowledged[-1] if acknowledged else 0) + 1
                change = commit(seq, rows=(delta(seq, seq.to_bytes(8, "big")),))
                for attempt in Retrying(
                    retry=retry_if_exception_type(StoreUnavailable), wait=wait_fixed(0.02), stop=stop_after_delay(60)
                ):
                    with attempt:
                        again += attempt.retry_state.attempt_number > 1
                        (result,) = store.commit([change])
                assert isinstance(result, Committed), result
                acknowledged.append(seq)

        def moved_on(seen: int) -> bool:
            return len(acknowledged) > seen + 20 or writer.done()

        with ThreadPoolExecutor(1) as pool:
            writer = pool.submit(write)
            try:
                for _ in range(3):
                    reached = len(acknowledged)
                    wait_until(partial(moved_on, reached))
                    server.restart(immediate=True)
            finally:
                stop.set()
            writer.result(60)
        segments = store.segments("t")[::-1]
        assert again
        assert [segment.first for segment in segments] == acknowledged
        assert [int.from_bytes(segment.rows[0].payload, "big") for segment in segments] == acknowledged


def test_a_server_that_is_away_is_said_to_be() -> None:
    with PostgresServer() as server, PostgresStore(server.database()) as store:
        owned(store)
        server.stop()
        with pytest.raises(StoreUnavailable):
            store.thread("t")
        with pytest.raises(StoreUnavailable, match="did not answer"):
            store.thread("t")
        server.start()
        assert store.commit([commit(1)]) == [Committed(seq=1, inbox=0)]


@pytest.mark.parametrize("setting", ["fsync", "synchronous_commit"])
def test_a_server_that_may_forget_is_refused(setting: str) -> None:
    with PostgresServer(settings={setting: "off"}) as server:
        url = server.database()
        with pytest.raises(StoreMisuse, match=rf"{setting} is off.*allow_loss"):
            PostgresStore(url)
        with PostgresStore(url, options=PostgresOptions(allow_loss=True)) as store:
            owned(store)
            assert store.commit([commit(1)]) == [Committed(seq=1, inbox=0)]


def test_a_role_that_may_forget_is_refused(postgres_url: str) -> None:
    name = urlsplit(postgres_url).path[1:]
    ask(postgres_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    with pytest.raises(StoreMisuse, match="synchronous_commit is off"):
        PostgresStore(postgres_url)


def test_a_database_that_may_only_be_read(store: PostgresStore) -> None:
    owned(store)
    name = urlsplit(store.url).path[1:]
    ask(store.url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with PostgresStore(store.url) as reader:
        assert reader.thread("t").epoch == 1
        with pytest.raises(StoreFull):
            reader.commit([commit(1)])
        with pytest.raises(StoreFull):
            reader.create(new_thread("new"), message())


def test_a_damaged_page_is_corrupt_not_unavailable(store: PostgresStore) -> None:
    owned(store)
    store.commit([commit(1)])
    ask(store.url, "ALTER TABLE perdure.segments DROP CONSTRAINT segments_pkey")
    ask(store.url, "INSERT INTO perdure.segments SELECT thread, 2, 2, epoch, 'foreign', data FROM perdure.segments")
    ask(store.url, "ALTER TABLE perdure.segments ADD PRIMARY KEY (thread, first)")
    with pytest.raises(Corrupt, match="contradict"):
        store.commit([commit(2)])
    assert store.thread("t").seq == 1


@pytest.mark.full
def test_a_stopped_process_does_not_keep_a_row_for_ever(store: PostgresStore) -> None:
    """And as long as it does, leases can be read."""
    owned(store)
    ours, theirs = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=postgres_workers.stop_in_transaction, args=(store.url, "t", theirs))
    process.start()
    try:
        assert ours.poll(60)
        ours.recv()
        with ThreadPoolExecutor(1) as pool:
            claimed = pool.submit(store.claim, "t", epoch=1, token="next", owner="next")
            wait_until(lambda: waiting_for_locks(store.url) == 1)
            assert store.owners() == ()
            assert claimed.result(60).epoch == 2
    finally:
        process.kill()
        process.join()


# -- users and secrets ---------------------------------------------------------------------------------------------


def test_no_message_shows_the_password(postgres_url: str) -> None:
    parts = urlsplit(postgres_url)
    secret = "s3cr%20et"
    texts = []
    for wrong in (
        parts._replace(netloc=f"postgres:{secret}@{parts.hostname}:{parts.port}").geturl(),
        parts._replace(netloc=f"postgres:{secret}@{parts.hostname}:1").geturl(),
        parts._replace(netloc=f"postgres:{secret}@{parts.hostname}:{parts.port}", query="nonsense=1").geturl(),
        f"postgresql://postgres:{secret}@[::1/x",
    ):
        with pytest.raises((StoreMisuse, StoreUnavailable)) as raised:
            PostgresStore(wrong)
        texts.append(f"{raised.value} {raised.value!r}")
    options = PostgresOptions(password="s3cr et")
    assert "password authentication failed" in texts[0]
    assert not [text for text in (*texts, repr(options)) if "s3cr" in text]
    with PostgresStore(postgres_url) as store:
        assert str(parts.password) not in store.where
        assert str(parts.password) in store.url


def test_a_password_in_the_options_or_the_environment(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = urlsplit(postgres_url)
    bare = parts._replace(netloc=f"postgres@{parts.hostname}:{parts.port}").geturl()
    with PostgresStore(bare, options=PostgresOptions(password=parts.password)) as store:
        assert store.threads().threads == ()
    with pytest.raises(StoreMisuse, match="no password supplied"):
        PostgresStore(bare)
    monkeypatch.setenv("PGPASSWORD", str(parts.password))
    with PostgresStore(bare) as store:
        assert store.threads().threads == ()


def test_a_database_or_a_tls_that_is_not_there(postgres_url: str) -> None:
    missing = urlsplit(postgres_url)._replace(path="/nowhere").geturl()
    with pytest.raises(StoreMisuse, match='database "nowhere" does not exist'):
        PostgresStore(missing)
    with pytest.raises(StoreMisuse, match="does not support SSL"):
        PostgresStore(postgres_url, options=PostgresOptions(sslmode="require"))


def test_several_hosts(postgres_url: str) -> None:
    parts = urlsplit(postgres_url)
    login = f"{parts.username}:{parts.password}"
    several = (
        f"postgresql://{login}@127.0.0.1:1,{parts.hostname}:{parts.port}{parts.path}?target_session_attrs=read-write"
    )
    with PostgresStore(several) as store:
        owned(store)
        assert store.commit([commit(1)]) == [Committed(seq=1, inbox=0)]


# -- connections ---------------------------------------------------------------------------------------------------


WATCH = """
import select, sys, psutil
watched, port = psutil.Process(int(sys.argv[1])), int(sys.argv[2])
def open_ones():
    found = watched.net_connections("tcp")
    return {one.laddr.port for one in found if one.status == psutil.CONN_ESTABLISHED and one.raddr.port == port}
before, most = open_ones(), 0
print("watching", flush=True)
while not select.select([sys.stdin], [], [], 0.002)[0]:
    most = max(most, len(open_ones() - before))
print(most)
"""
"""Tells how many connections a process had at once. A server may still count one that its client has closed."""


def test_a_node_has_no_more_connections_than_its_places(postgres_url: str) -> None:
    options = PostgresOptions(connections_per_node=3, max_connections=4)
    stores: list[PostgresStore] = []
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'perdure'"
    command = [sys.executable, "-c", WATCH, str(os.getpid()), str(urlsplit(postgres_url).port)]

    def write(number: int) -> int:
        store = stores[number % 4]
        owned(store, f"t{number}")
        for seq in range(1, 41):
            (result,) = store.commit([commit(seq, thread_id=f"t{number}")])
            assert isinstance(result, Committed)
        return store.thread(f"t{number}").seq

    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "watching\n"
        stores += [PostgresStore(postgres_url, options=options) for _ in range(4)]
        try:
            with ThreadPoolExecutor(12) as pool:
                assert list(pool.map(write, range(12))) == [40] * 12
        finally:
            most, _ = watcher.communicate("enough")
            for store in stores:
                store.close()
    assert 1 <= int(most) <= 3
    wait_until(lambda: ask(postgres_url, query) == [(0,)])


def test_who_finds_no_place_is_told_what_to_raise(store: PostgresStore) -> None:
    store.close()
    patience = timedelta(seconds=1)
    alone = PostgresOptions(connections_per_node=1, max_connections=1, connect_timeout=patience)
    with PostgresStore(store.url, options=alone) as holder, holder._connections.using():
        with pytest.raises(StoreUnavailable, match="raise connections_per_node"):
            PostgresStore(store.url, options=alone)
        with pytest.raises(StoreUnavailable, match="raise max_connections"):
            holder.threads()


def test_an_idle_connection_makes_way(store: PostgresStore) -> None:
    store.close()
    alone = PostgresOptions(connections_per_node=1, idle_timeout=timedelta(days=1))
    with PostgresStore(store.url, options=alone) as idle, PostgresStore(store.url, options=alone) as newcomer:
        owned(newcomer)
        assert idle.thread("t").epoch == 1
        assert newcomer.commit([commit(1)]) == [Committed(seq=1, inbox=0)]


def test_a_closed_store_says_so(store: PostgresStore) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreMisuse, match="is closed"):
        store.thread("t")


def test_claims_of_many_have_one_winner(store: PostgresStore) -> None:
    store.create(new_thread("t"))
    claims = race([partial(store.claim, "t", epoch=0, token=f"{TOKEN} {own}", owner="o") for own in range(6)])
    assert sum(not isinstance(claim, BaseException) for claim in claims) == 1
