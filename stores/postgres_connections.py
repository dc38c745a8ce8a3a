"""Connections to a Postgres server: shared in the process, capped on the machine, checked before they are trusted."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from .errors import StoreMisuse, StoreUnavailable
from .node_slots import NodeSlots, Slot
from .postgres_errors import READ_ONLY, store_error
from .postgres_options import PostgresOptions

_GROWS_AFTER = 0.25
"""Seconds after which a call waits for a further connection in line with other processes, and not only for its own."""
_TICK = 0.25
"""Seconds between two looks whether an idle connection should be closed."""
_IDLE_IN_TRANSACTION = 10_000
"""Milliseconds after which the server ends a transaction that nobody goes on with: a stopped process holds its rows'
locks no longer."""

_SESSION = """
SELECT current_setting('fsync'), current_setting('synchronous_commit'), current_setting('server_encoding')
"""
_SETTINGS = """
SELECT set_config('statement_timeout', $1, false), set_config('idle_in_transaction_session_timeout', $2, false),
    set_config('default_transaction_isolation', 'read committed', false)
"""


class Connection(psycopg.Connection[TupleRow]):
    """A connection that holds one of the machine's places as long as it is open."""

    slot: Slot | None = None

    def close(self) -> None:
        try:
            super().close()
            # A connection that broke counts as closed already, but libpq still holds its socket.
            self.pgconn.finish()
        finally:
            if self.slot is not None:
                self.slot.release()

    @property
    def usable(self) -> bool:
        """Whether somebody else may have it next."""
        return not self.closed and self.pgconn.transaction_status == TransactionStatus.IDLE

    @property
    def hung_up(self) -> bool:
        """Whether the server said something while nobody asked: most likely that it closed the connection."""
        if self.closed:
            return True
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(0))


class Connections:
    """The connections of one store object, opened when they are needed. Safe to use from several threads.

    Not psycopg's own pool: that one replaces every connection that is closed, so it cannot give a place up while it is
    idle; and it connects behind the back of who waits, who never learns why it failed.
    """

    def __init__(self, url: str, options: PostgresOptions, where: str) -> None:
        """Connects only when it is used. Raises `StoreMisuse` for a URL or an option that cannot be."""
        if options.max_connections < 1:
            raise StoreMisuse(f"{where}: max_connections must be at least 1, not {options.max_connections}")
        self.where = where
        self._options = options
        self._patience = options.connect_timeout.total_seconds()
        self._keep_idle = options.idle_timeout.total_seconds()
        self._parameters = _parameters(url, options, where)
        self._slots = NodeSlots(f"postgres {_server(self._parameters)}", options.connections_per_node)
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._idle: list[tuple[Connection, float]] = []
        """With the time since when; the one used last is the next to be used."""
        self._open = 0
        self._tidier: threading.Thread | None = None

    @contextmanager
    def using(self) -> Iterator[Connection]:
        """A connection for the block, in autocommit; errors of the driver become those of the store.

        Raises `StoreUnavailable` where there is none within the time for it, `StoreMisuse` after `close`.
        """
        with self._translated():
            connection = self._taken()
            try:
                yield connection
            except psycopg.Error as error:
                if error.sqlstate == READ_ONLY:
                    # It may have become a standby; among several hosts another one can be written now.
                    self._dispose(connection)
                raise
            finally:
                self._give_back(connection)

    def close(self) -> None:
        """Close them all; those in use close when they are given back."""
        with self._changed:
            self._closing.set()
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            self._dispose(connection)

    def _taken(self) -> Connection:
        """An idle connection, or a new one, or the next that somebody else in this process gives back."""
        start = time.monotonic()
        while True:
            waited = time.monotonic() - start
            with self._changed:
                if self._closing.is_set():
                    raise StoreMisuse(f"{self.where} is closed; open it again")
                connection = self._idle.pop()[0] if self._idle else None
                grows = connection is None and self._open < self._options.max_connections
                # The first connection is worth standing in line for; others only if it does not come back.
                alone = self._open == 0
                self._open += grows
            if connection is not None:
                if not connection.hung_up:
                    return connection
                self._dispose(connection)
                continue
            if grows:
                new = self._opened(in_line=alone or waited > _GROWS_AFTER)
                if new is not None:
                    return new
            if waited >= self._patience:
                raise StoreUnavailable(
                    f"{self.where}: all {self._options.max_connections} connections of this process were in use for "
                    f"{waited:.1f} s; try again, or raise max_connections"
                )
            with self._changed:
                if not self._idle:
                    self._changed.wait(_GROWS_AFTER)

    def _opened(self, *, in_line: bool) -> Connection | None:
        """A new connection, counted already; None if there is no place for it and it should not wait for one."""
        slot: Slot | None = None
        try:
            slot = self._slots.take(self._patience, self._closing) if in_line else self._slots.take_free()
            if slot is None:
                self._forget()
                return None
            connection = Connection.connect(
                **self._parameters,
                autocommit=True,
                cursor_factory=psycopg.RawCursor,
                prepare_threshold=0 if self._options.prepare else None,
            )
        except BaseException:
            if slot is not None:
                slot.release()
            self._forget()
            raise
        connection.slot = slot
        try:
            self._set_up(connection)
        except BaseException:
            self._dispose(connection)
            raise
        return connection

    def _forget(self) -> None:
        """One connection fewer."""
        with self._changed:
            self._open -= 1
            self._changed.notify()

    def _set_up(self, connection: Connection) -> None:
        """Settings of the session. Raises `StoreMisuse` for a server that could lose what it acknowledged."""
        found = connection.execute(_SESSION, prepare=False).fetchone()
        fsync, synchronous, encoding = found or ("", "", "")
        loses = [name for name, value in (("fsync", fsync), ("synchronous_commit", synchronous)) if value == "off"]
        if loses and not self._options.allow_loss:
            raise StoreMisuse(
                f"{self.where}: {' and '.join(loses)} is off there, so a crash of the server could lose commits that "
                "it acknowledged; turn it on, or set allow_loss=True if the threads may be lost"
            )
        if encoding != "UTF8":
            raise StoreMisuse(f"{self.where}: the database's encoding is {encoding}; create one with encoding UTF8")
        if self._options.prepare:
            timeout = str(int(self._options.statement_timeout.total_seconds() * 1000))
            connection.execute(_SETTINGS, (timeout, str(_IDLE_IN_TRANSACTION)), prepare=False)

    def _give_back(self, connection: Connection) -> None:
        if not connection.usable or (connection.slot is not None and self._slots.wanted(connection.slot)):
            self._dispose(connection)
            return
        with self._changed:
            if not self._closing.is_set():
                self._idle.append((connection, time.monotonic()))
                if self._tidier is None:
                    self._tidier = threading.Thread(target=self._tidy, name="perdure-postgres", daemon=True)
                    self._tidier.start()
                self._changed.notify()
                return
        self._dispose(connection)

    def _dispose(self, connection: Connection) -> None:
        if connection.slot is None:
            return
        connection.close()
        connection.slot = None
        self._forget()

    def _tidy(self) -> None:
        """Close what was not used for long, or what another process waits for, as long as a connection is open."""
        while True:
            self._closing.wait(_TICK)
            with self._changed:
                leaving = [each for each in self._idle if self._should_leave(*each)]
                self._idle = [each for each in self._idle if each not in leaving]
                if not self._open:
                    self._tidier = None
                    return
            for connection, _ in leaving:
                self._dispose(connection)
            if self._closing.is_set():
                return

    def _should_leave(self, connection: Connection, since: float) -> bool:
        if time.monotonic() - since > self._keep_idle:
            return True
        return connection.slot is not None and self._slots.wanted(connection.slot, idle=True)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise store_error(error, self.where) from error
        except OverflowError as error:
            raise StoreMisuse(f"{self.where} cannot keep a number this large: {error}") from error


def _parameters(url: str, options: PostgresOptions, where: str) -> dict[str, Any]:
    """libpq's parameters: those of the URL, over them the options, under them what keeps dead connections from being
    waited for."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # Its text quotes the URL, and so the password.
        raise StoreMisuse(
            f"{where} is not the URL of a Postgres database, or has a parameter that libpq does not know; write "
            "postgresql://user:password@host:5432/database, with special characters in the password as %XX"
        ) from None
    named: Mapping[str, str | None] = {
        "password": options.password,
        "sslmode": options.sslmode,
        "sslrootcert": options.sslrootcert,
        "sslcert": options.sslcert,
        "sslkey": options.sslkey,
    }
    return {
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        "connect_timeout": max(2, round(options.connect_timeout.total_seconds())),
        "application_name": options.application_name,
        **given,
        **{name: value for name, value in named.items() if value is not None},
        "client_encoding": "UTF8",
    }


def _server(parameters: Mapping[str, Any]) -> str:
    """Names the server, whatever database and user."""
    return "|".join(str(parameters.get(name, "")) for name in ("host", "hostaddr", "port"))
