"""The daemon's own lock, what it says about itself before it has an endpoint, and the removal of what it left."""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..stores.processes import ProcessId, boot, family, wait_gone
from .locks import POLL, try_lock
from .paths import HeadPaths

SHORT_TEMP = Path("/tmp")
"""Ray puts sockets about 70 characters below; the kernel allows 107 (macOS 103), which $TMPDIR can well exceed."""

TEMP_PREFIX = "perdure-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A daemon that holds, or held, the lock."""

    pid: int
    started: int
    boot: str
    temp_dir: str

    @property
    def process(self) -> ProcessId:
        """The daemon."""
        return ProcessId(self.pid, self.started)

    @property
    def alive(self) -> bool:
        """Whether it lives."""
        return self.boot == boot() and self.process.alive


def seize_life(paths: HeadPaths, temp_dir: str, patience: float) -> bool:
    """Become the folder's one daemon until this process ends; False if another still is after `patience` seconds."""
    deadline = time.monotonic() + patience
    while (descriptor := try_lock(paths.life)) is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    own = ProcessId.own()
    text = msgspec.json.encode(Life(pid=own.pid, started=own.started, boot=boot(), temp_dir=temp_dir))
    # In place: the lock is on this file, a new one of the same name would be free.
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text, 0)
    return True


def read_life(paths: HeadPaths) -> Life | None:
    """The present or the last daemon; None if there never was one, or it has just begun."""
    try:
        return msgspec.json.decode(paths.life.read_bytes(), type=Life)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def kill_family(leader: ProcessId, known: frozenset[ProcessId], timeout: float) -> frozenset[ProcessId]:
    """SIGKILL a daemon with all its processes and those in `known`; returns those that are still there after `timeout`.

    Looks again after each round, since a process may have been started while the others were being killed. Spares the
    calling process, which may be one of them.
    """
    own = {ProcessId.own()}
    deadline = time.monotonic() + timeout
    leader.send(signal.SIGKILL)
    while left := frozenset(process for process in (known | family(leader)) - own if process.alive):
        for process in left:
            process.send(signal.SIGKILL)
        if wait_gone(left, 0.5) and time.monotonic() > deadline:
            return left
    return left


def clear_remains(paths: HeadPaths) -> None:
    """Remove what a daemon that died left: processes, Ray's files, the endpoint. Under the lock, when none lives.

    The daemon's own file stays: another process may have it open and be about to lock it.
    """
    life = read_life(paths)
    if life is not None:
        if life.boot == boot():
            kill_family(life.process, frozenset(), timeout=5)
        remove_temp(life.temp_dir)
    paths.endpoint.unlink(missing_ok=True)


def remove_temp(temp_dir: str) -> None:
    """Remove Ray's files, if they are ours."""
    folder = Path(temp_dir)
    if folder.parent == SHORT_TEMP and folder.name.startswith(TEMP_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)
