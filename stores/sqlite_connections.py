"""Connections to a SQLite file: one that writes, a few that read, and what their errors mean."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from .errors import Corrupt, NewerFormat, StoreError, StoreFull, StoreMissing, StoreMisuse, StoreUnavailable
from .sqlite_lock import WriteLock
from .sqlite_migrations import SCHEMA, layout_of, migrate

_PAGE_SIZE = 4096
_WAL_PAGES = 1000
"""Pages in the write-ahead log after which a commit moves them to the file."""
_BUSY_SECONDS = 10.0
"""How long to wait for a lock that somebody outside the queue holds (a backup, a shell)."""
_IDLE_READERS = 4

_NO_ROOM_ERRNO = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM})
_NO_ROOM = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY})
_NO_ROOM_EXTENDED = frozenset(
    {
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_TRUNCATE,
    }
)
_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_MISUSE = frozenset({sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_ERROR})


def store_error(error: sqlite3.Error | OSError, where: str) -> StoreError:
    """What an error of the driver or the lock file means to a caller of the store."""
    if isinstance(error, OSError):
        if error.errno in _NO_ROOM_ERRNO:
            return StoreFull(f"{where} cannot be written: {error}; free space or fix the permissions, then try again")
        return StoreUnavailable(f"{where} did not answer: {error}; try again")
    extended = getattr(error, "sqlite_errorcode", None) or 0
    code = extended & 0xFF
    if code in _NO_ROOM or extended in _NO_ROOM_EXTENDED:
        return StoreFull(f"{where} cannot be written: {error}; free space or fix the permissions, then try again")
    if code in _CORRUPT:
        return Corrupt(f"{where} is damaged or not a SQLite file: {error}; restore it from a backup")
    if code in _MISUSE or isinstance(error, (sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)):
        return StoreMisuse(f"{where} cannot do this: {error}")
    return StoreUnavailable(f"{where} did not answer: {error}; try again")


class Connections:
    """The connections of one store object. Safe to use from several threads."""

    def __init__(self, path: Path, where: str, *, create: bool = True) -> None:
        """Open the file, creating it with mode 0600. Raises what `CheckpointStore` calls may, `NewerFormat`, and
        `StoreMisuse` where the path cannot hold a store; `StoreMissing` where it holds none and `create` is False."""
        self.path = path
        self.where = where
        with self._translated():
            if not create and not path.exists():
                raise StoreMissing(f"{where}: there is no such file; submit a thread to create the store")
            if not path.parent.is_dir():
                raise StoreMisuse(f"{where}: the directory {path.parent} does not exist; create it first")
            if path.exists() and not path.is_file():
                raise StoreMisuse(f"{where}: {path} is not a file; name a file for the store")
            mode = path.stat().st_mode & 0o666 if path.exists() else 0o600
        self.lock = WriteLock(Path(f"{path}-lock"), mode)
        self._writer: sqlite3.Connection | None = None
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._closed = False
        with self._translated():
            # A file that has its tables is opened without the lock: its holder may be a stopped process.
            layout = self._layout() if path.exists() and path.stat().st_size else 0
            if not layout and not create:
                raise StoreMissing(f"{where}: the file holds no store yet; submit a thread to create it")
            self.migrated = self._create() if layout < SCHEMA else []
            """The layouts that opening it brought the file through."""

    @contextmanager
    def reading(self, *, snapshot: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection that reads, and never waits for a writer; `snapshot` makes its queries see one state."""
        with self._translated():
            connection = self._reader()
            try:
                if snapshot:
                    connection.execute("BEGIN")
                yield connection
                if snapshot:
                    connection.execute("COMMIT")
            except BaseException:
                connection.close()
                raise
            self._give_back(connection)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The writing connection in a transaction: committed at the end of the block, rolled back by an exception."""
        with self._translated(), self.lock.held():
            connection = self._writer = self._writer or self._opened()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                self._abandon(connection, error)
                raise

    def close(self) -> None:
        """Close them all; those that are reading in other threads close when they are done. Waits for a writer, but not
        for ever: it may itself be waiting for a stopped process."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        if self.lock.close(_BUSY_SECONDS):
            writer, self._writer = self._writer, None
            if writer is not None:
                with suppress(sqlite3.Error):
                    writer.close()

    def _abandon(self, connection: sqlite3.Connection, error: BaseException) -> None:
        """Leave no transaction open, whatever happened; a connection that had I/O errors is replaced by a new one."""
        failed = isinstance(error, sqlite3.Error)
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            failed = True
        if failed:
            self._writer = None
            with suppress(sqlite3.Error):
                connection.close()

    def _reader(self) -> sqlite3.Connection:
        with self._guard:
            if self._closed:
                raise StoreMisuse(f"{self.where} is closed; open it again")
            if self._idle:
                return self._idle.pop()
        connection = self._opened()
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._guard:
            if not self._closed and len(self._idle) < _IDLE_READERS:
                self._idle.append(connection)
                return
        connection.close()

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode=rw",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _layout(self) -> int:
        """The file's layout, 0 for none. Raises `NewerFormat`, or `StoreMisuse` where it is another program's."""
        connection = self._opened()
        try:
            layout = layout_of(connection)
        finally:
            connection.close()
        if layout > SCHEMA:
            raise NewerFormat(
                f"{self.where} has layout {layout}, but this Perdure knows only layouts up to {SCHEMA}; upgrade "
                "Perdure to open it"
            )
        if layout < 0:
            raise StoreMisuse(f"{self.where}: the file holds another program's database; name another file")
        return layout

    def _create(self) -> list[int]:
        """Make the tables, or bring those that are there to the present layout; the layouts applied."""
        with self.lock.held():
            if not self.path.exists():
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            elif self.path.stat().st_size and self._layout() == SCHEMA:
                return []
            connection = self._opened()
            try:
                connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
                journal = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                if journal != "wal":
                    raise StoreMisuse(f"{self.where}: the file system cannot hold a write-ahead log; use a local disk")
                return migrate(connection)
            finally:
                connection.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_CANTOPEN and self._may_only_be_read():
                text = f"{self.where} cannot be written: it may only be read here; fix the permissions, then try again"
                raise StoreFull(text) from error
            raise store_error(error, self.where) from error
        except OverflowError as error:
            raise StoreMisuse(f"{self.where} cannot keep a number or value this large: {error}") from error

    def _may_only_be_read(self) -> bool:
        """Whether the file is there, and SQLite could not open it since it, or the folder for its log, is read-only."""
        return self.path.exists() and not (os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK))
