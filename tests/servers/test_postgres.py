"""The Postgres that the tests use: what it is, and that its faults are real ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from tests.servers.postgres import PostgresServer
from tests.servers.process import ServerFailed


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(settings={"max_connections": "30"}) as server:
        yield server


def ask(url: str, question: str) -> object:
    with psycopg.connect(url, connect_timeout=10) as connection:
        row = connection.execute(question.encode()).fetchone()
        return None if row is None else row[0]


def fill(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept SELECT generate_series(1, 100)")


def test_it_is_a_real_one_that_keeps_what_it_acknowledged(server: PostgresServer) -> None:
    assert int(str(ask(server.url, "SHOW server_version_num"))) >= 180_000
    assert [ask(server.url, f"SHOW {name}") for name in ("fsync", "synchronous_commit")] == ["on", "on"]
    assert ask(server.url, "SHOW max_connections") == "30"
    assert psutil.Process(server.pid).uids().real != 0


def test_the_network_wants_a_password_and_the_socket_does_not(server: PostgresServer) -> None:
    parts = urlsplit(server.url)
    assert parts.hostname == "127.0.0.1"
    wrong = parts._replace(netloc=f"postgres:wrong@127.0.0.1:{parts.port}").geturl()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        ask(wrong, "SELECT 1")
    assert ask(server.socket_url, "SELECT 1") == 1


def test_each_database_is_empty_and_goes_with_its_connections(server: PostgresServer) -> None:
    first, second = server.database(), server.database()
    fill(first)
    assert ask(second, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    open_one = psycopg.connect(first)
    for url in (first, second, second):
        server.drop(url)
    with pytest.raises(psycopg.OperationalError):
        open_one.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        ask(first, "SELECT 1")


@pytest.mark.parametrize("fault", ["immediate", "orderly", "killed"])
def test_it_comes_back_with_its_data_at_the_same_address(server: PostgresServer, fault: str) -> None:
    url = server.database()
    fill(url)
    before = server.pid
    connection = psycopg.connect(url)
    if fault == "killed":
        server.kill()
    else:
        server.stop(immediate=fault == "immediate")
    assert not server.running
    assert not psutil.pid_exists(before)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="refused"):
        ask(url, "SELECT 1")
    server.start()
    server.start()
    assert ask(url, "SELECT count(*) FROM kept") == 100
    assert server.pid != before


def test_stopping_twice_is_stopping(server: PostgresServer) -> None:
    server.stop()
    server.stop()
    server.kill()
    server.start()
    assert ask(server.url, "SELECT 1") == 1


def test_frozen_it_is_silent_and_then_goes_on(server: PostgresServer) -> None:
    connection = psycopg.connect(server.url, autocommit=True)
    answered = threading.Event()

    def call() -> None:
        connection.execute("SELECT 1")
        answered.set()

    with server.frozen():
        caller = threading.Thread(target=call)
        caller.start()
        assert not answered.wait(0.3)
    caller.join(30)
    assert answered.is_set()
    connection.close()


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(ServerFailed, match="max_connections"), PostgresServer(settings={"max_connections": "many"}):
        pass
