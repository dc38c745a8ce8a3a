"""The running head's address, as it stands in a file, and the options that a head is started with."""

from __future__ import annotations

import os
import platform
import socket
import sys
from dataclasses import dataclass, fields
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import ray

from ..stores.processes import ProcessId, boot
from .paths import HeadPaths

IDLE_VARIABLE = "PERDURE_IDLE"


class HeadError(RuntimeError):
    """The local head could not be started, joined or stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOptions:
    """How to start a local head. One that runs already is joined as it is."""

    num_cpus: int | None = None
    """How many nodes of one CPU run at once; None for as many as the machine has."""
    num_gpus: int | None = None
    """None for those that Ray finds."""
    object_store_memory: int = 200_000_000
    """Bytes of shared memory for what tasks hand each other; Ray wants at least 78,643,200."""
    idle: timedelta | None = None
    """How long it stays without a client, runnable thread or timer; None for `$PERDURE_IDLE` (seconds), else 300 s."""
    start_timeout: timedelta = timedelta(seconds=60)
    """How long to wait until it answers, or until another process has finished starting or stopping it."""
    folder: Path | None = None
    """Where its files are; None for `$PERDURE_HOME` or the user's state folder. Another folder is another head."""

    @property
    def paths(self) -> HeadPaths:
        """The files of the head that is meant."""
        return HeadPaths.of(self.folder)

    @property
    def idle_seconds(self) -> float:
        """Raises `HeadError` where `$PERDURE_IDLE` is not a number of seconds."""
        if self.idle is not None:
            return self.idle.total_seconds()
        given = os.environ.get(IDLE_VARIABLE, "") or "300"
        try:
            seconds = float(given)
        except ValueError:
            seconds = -1.0
        if not seconds >= 0:
            raise HeadError(
                f"{IDLE_VARIABLE}={given!r} is no number of seconds; set it to one such as 300, or unset it"
            )
        return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What a client and the head's workers must have in common to run the same code and to understand each other."""

    perdure: str
    ray: str
    python: str
    prefix: str
    """The virtual environment."""

    @classmethod
    def own(cls) -> Build:
        """Those of this process."""
        try:
            own = version("perdure")
        except PackageNotFoundError:
            own = "unknown"
        return cls(perdure=own, ray=ray.__version__, python=platform.python_version(), prefix=sys.prefix)

    def differences(self, other: Build) -> list[str]:
        """What differs, for people: "ray 2.60.0 here, 2.59.0 there"."""
        pairs = [(field.name, getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        return [f"{name} {here} here, {there} there" for name, here, there in pairs if here != there]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A head that answered."""

    address: str
    """`host:port`, what `ray.init(address=...)` takes."""
    pid: int
    started: int
    """The daemon's start time as the operating system gives it (`processes.start_time`)."""
    boot: str
    build: Build
    temp_dir: str
    """Ray's files: logs, sockets."""
    root: str
    """The head's folder."""
    since: float
    """Unix seconds, for people."""

    @property
    def process(self) -> ProcessId:
        """The daemon."""
        return ProcessId(self.pid, self.started)

    @property
    def paths(self) -> HeadPaths:
        """The head's files."""
        return HeadPaths(Path(self.root))

    @property
    def alive(self) -> bool:
        """Whether its daemon lives. A file that a dead one left is never trusted: the pid may be another's by now."""
        return self.boot == boot() and self.process.alive

    def answers(self, timeout: float = 1.0) -> bool:
        """Whether its address takes a connection within `timeout` seconds."""
        host, _, port = self.address.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout):
                return True
        except (OSError, ValueError):
            return False

    def encode(self) -> str:
        """As JSON."""
        return msgspec.json.encode(self).decode()


def read_endpoint(paths: HeadPaths) -> Endpoint | None:
    """What the endpoint's file says, alive or not; None if there is none that this version understands."""
    try:
        return msgspec.json.decode(paths.endpoint.read_bytes(), type=Endpoint)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
