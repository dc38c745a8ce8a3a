"""Places for connections, shared by all processes of one user on one machine.

A server takes so many connections; a node has as many processes as its user likes. A connection is opened only by who
holds one of the node's numbered places, for as long as the connection is open. A place is a lock on a file, so the
kernel frees it when its holder dies.

Who finds none free waits in line: a file in the folder `line`, whose name begins with the time, and only the first in
line takes a place. Holders see that somebody waits and give up a place that they had for a while, the longest held
first, so that busy processes share what there is.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import threading
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

from .errors import StoreMisuse, StoreUnavailable

RUNTIME_VARIABLE = "PERDURE_RUNTIME_DIR"

_POLL = 0.01
"""Seconds between two looks of somebody who waits."""
_LONGEST_POLL = 0.2
_IDLE_TENURE = 0.1
"""Seconds for which a place that is not used may be kept although others wait."""
_PATIENCE = 0.05
"""Seconds after which the next one has to give up, if the longest holder (it may be stopped) does not."""


def runtime_folder() -> Path:
    """`$PERDURE_RUNTIME_DIR`, else `/tmp/perdure-<uid>`: all of a user's processes have to find the same one, and
    variables like TMPDIR or XDG_RUNTIME_DIR are not the same in all of them.

    Made if it is not there. Raises `StoreMisuse` if it is somebody else's.
    """
    given = os.environ.get(RUNTIME_VARIABLE)
    folder = Path(given) if given else Path(f"/tmp/perdure-{os.geteuid()}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise StoreMisuse(f"the folder {folder} cannot be used: {error}; set {RUNTIME_VARIABLE} to another") from error
    if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
        raise StoreMisuse(f"{folder} is not a folder of this user's own; set {RUNTIME_VARIABLE} to one that is")
    return folder


class Slot:
    """A place that is held until `release`, or until the process ends."""

    def __init__(self, file: int) -> None:
        self._file: int | None = file
        self.since = time.monotonic()
        self.asked = self.since
        """When its holder last looked who waits."""

    def release(self) -> None:
        """Give it up; a second time does nothing."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def __del__(self) -> None:
        self.release()


class NodeSlots:
    """The places for connections to one server. Safe to use from several threads."""

    def __init__(self, server: str, limit: int, *, tenure: float = 1.0) -> None:
        """`server` is whatever names it, the same in all processes; `limit` is how many places there are. A place that
        is in use may be kept for `tenure` seconds although others wait: a new connection costs the server some
        milliseconds of CPU.

        Raises `StoreMisuse` where the user's runtime folder cannot be used.
        """
        if limit < 1:
            raise StoreMisuse(f"connections_per_node must be at least 1, not {limit}")
        self.limit = limit
        self._tenure = tenure
        folder = runtime_folder() / f"slots-{hashlib.sha256(server.encode()).hexdigest()[:16]}"
        self._line = folder / "line"
        self._line.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._places = [folder / f"{number:04d}" for number in range(limit)]
        self._tickets = count()

    def take(self, timeout: float, stop: threading.Event | None = None) -> Slot:
        """Take a place, in line behind those who came before.

        Raises `StoreUnavailable` if there is none within `timeout` seconds or `stop` is set.
        """
        slot = self.take_free()
        if slot is not None:
            return slot
        wakened = stop or threading.Event()
        deadline = time.monotonic() + timeout
        with _InLine(self._line, deadline, next(self._tickets)) as ticket:
            while True:
                before = self._before(ticket)
                slot = None if before else self._free()
                if slot is not None:
                    return slot
                # Who is far back looks seldom: with all looking at all, a long line would do nothing else.
                pause = min(_POLL * (before + 1), _LONGEST_POLL, max(deadline - time.monotonic(), 0.0))
                if wakened.wait(pause) or time.monotonic() >= deadline:
                    raise StoreUnavailable(
                        f"all {self.limit} connections that this machine's processes may have to the server were "
                        f"in use for {timeout:.1f} s; try again, or raise connections_per_node"
                    )

    def take_free(self) -> Slot | None:
        """Take a place if there is one for which nobody else waits."""
        return None if self._waiting() else self._free()

    def wanted(self, slot: Slot, *, idle: bool = False) -> bool:
        """Whether the holder of this place should give it up, as others wait and it is his turn to; `idle` says that he
        does not use it at the moment."""
        now = time.monotonic()
        if now - slot.since < (_IDLE_TENURE if idle else self._tenure) or now - slot.asked < _PATIENCE:
            return False
        slot.asked = now
        line = self._waiting()
        if not line:
            return False
        longer = sum(since < slot.since for since in self._held_since())
        waited = now - line[0].arrival
        return waited >= (longer - len(line) + 1) * _PATIENCE

    def _held_since(self) -> list[float]:
        """Since when each place is held (monotonic seconds), or was when it last was."""
        # The file's own time would be that of the wall clock, which may be set.
        found = []
        for place in self._places:
            with suppress(OSError, ValueError):
                found.append(float(place.read_text()))
        return found

    def _free(self) -> Slot | None:
        """A free place, if there is one."""
        # Each process begins somewhere else, so that they do not all queue for the first file's lock.
        start = os.getpid() % self.limit
        for place in (*self._places[start:], *self._places[:start]):
            file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                continue
            slot = Slot(file)
            os.pwrite(file, f"{slot.since:020.6f}".encode(), 0)
            return slot
        return None

    def _before(self, ticket: _Ticket) -> int:
        """How many stand in line before this one, without those at the front whose process is gone."""
        line = [other for other in self._waiting() if other < ticket]
        while line and self._is_gone(line[0]):
            line.pop(0)
        return len(line)

    def _is_gone(self, ticket: _Ticket) -> bool:
        """Whether its process ended; its ticket is removed then."""
        try:
            file = os.open(self._line / ticket.name, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            (self._line / ticket.name).unlink(missing_ok=True)
            return True
        finally:
            os.close(file)

    def _waiting(self) -> list[_Ticket]:
        """Who waits, the first in line first. Who is past his time (a stopped process) holds nobody up."""
        now = time.monotonic()
        tickets = (_Ticket.of(name) for name in os.listdir(self._line) if not name.startswith("."))
        return sorted(ticket for ticket in tickets if ticket.deadline > now)


class _Ticket(NamedTuple):
    """A place in line; monotonic seconds are the same for all processes of a machine."""

    arrival: float
    deadline: float
    name: str

    @classmethod
    def of(cls, name: str) -> _Ticket:
        try:
            arrival, deadline, *_ = name.split("_")
            return cls(float(arrival), float(deadline), name)
        except ValueError:
            return cls(0.0, 0.0, name)


class _InLine:
    """Stands in line for the block."""

    def __init__(self, line: Path, deadline: float, number: int) -> None:
        self._name = f"{time.monotonic():020.6f}_{deadline:020.6f}_{os.getpid()}_{number}_{id(self)}"
        self._path = line / self._name

    def __enter__(self) -> _Ticket:
        draft = self._path.with_name(f".{self._name}")
        self._file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        # Locked before anybody can see it: a ticket that is not locked is a dead process's.
        fcntl.flock(self._file, fcntl.LOCK_EX)
        draft.rename(self._path)
        return _Ticket.of(self._name)

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._file)
