"""Which process is which: a pid alone names one only as long as it lives."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

POLL = 0.02
"""Seconds between two looks at processes that should end."""

if sys.platform == "linux":
    # Not psutil: it adds the boot time, which moves when the clock is set, and a living process would seem another one.

    def _stat(pid: int) -> list[str]:
        """The fields of the kernel's line after the name, which may hold anything; none if there is no such process."""
        try:
            line = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except OSError:
            return []
        return line.rpartition(")")[2].split()

    def start_time(pid: int) -> int:
        """When a process started, in clock ticks since boot; 0 if it is not there or already dead (a zombie)."""
        fields = _stat(pid)
        return int(fields[19]) if fields and fields[0] not in "ZX" else 0

    def parent(pid: int) -> int:
        """Its parent's pid; 0 if it is not there."""
        fields = _stat(pid)
        return int(fields[1]) if fields else 0

    def program(pid: int) -> str:
        """The name of the program that it runs, at most 15 characters of it; empty if it is not there."""
        try:
            return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        except OSError:
            return ""

    def pids() -> list[int]:
        """All pids there are."""
        return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]

    @cache
    def boot() -> str:
        """Names the time since the machine was started; start times compare only within it."""
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()

else:
    import psutil

    def start_time(pid: int) -> int:
        """When a process started, in microseconds since 1970; 0 if it is not there or already dead (a zombie)."""
        try:
            process = psutil.Process(pid)
            return 0 if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time() * 1e6)
        except psutil.Error:
            return 0

    def parent(pid: int) -> int:
        """Its parent's pid; 0 if it is not there."""
        try:
            return psutil.Process(pid).ppid()
        except psutil.Error:
            return 0

    def program(pid: int) -> str:
        """The name of the program that it runs; empty if it is not there."""
        try:
            return psutil.Process(pid).name()
        except psutil.Error:
            return ""

    def pids() -> list[int]:
        """All pids there are."""
        return psutil.pids()

    @cache
    def boot() -> str:
        """Names the time since the machine was started; here the start times are absolute, so it is always the same."""
        return ""


class Holder(NamedTuple):
    """The process that holds a store's write lock."""

    pid: int
    started: int
    """Its start time as `start_time` gives it; 0 where it could not be found out."""
    acquisitions: int
    """How often the lock was taken since the file exists: while this stands still, so does the holder."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """Names one process until the machine is started anew."""

    pid: int
    started: int
    """As `start_time` gives it."""

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """The process that has this pid now."""
        return cls(pid, start_time(pid))

    @classmethod
    def own(cls) -> ProcessId:
        """This process."""
        return cls.of(os.getpid())

    @property
    def alive(self) -> bool:
        """Whether it runs (or is stopped); a zombie does not."""
        return self.started != 0 and start_time(self.pid) == self.started

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens if it is gone."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass


def family(leader: ProcessId) -> frozenset[ProcessId]:
    """All living processes that belong to a session leader: its session's members and everybody's descendants.

    The leader may be dead: the kernel gives its pid to nobody while its session has a member. Once there is none the
    pid can become somebody else's, whose session is left alone.
    """
    everyone = {pid: parent(pid) for pid in pids()}
    usurped = leader.pid in everyone and start_time(leader.pid) not in (0, leader.started)
    found = set() if usurped else {pid for pid in everyone if _session(pid) == leader.pid}
    grown = True
    while grown:
        young = {pid for pid, above in everyone.items() if above in found and pid not in found}
        found |= young
        grown = bool(young)
    members = (ProcessId(pid, start_time(pid)) for pid in found)
    return frozenset(member for member in members if member.started)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def wait_gone(processes: Iterable[ProcessId], timeout: float) -> frozenset[ProcessId]:
    """Wait at most `timeout` seconds until all of them ended; returns those that did not."""
    deadline = time.monotonic() + timeout
    left = frozenset(process for process in processes if process.alive)
    while left and time.monotonic() < deadline:
        time.sleep(POLL)
        left = frozenset(process for process in left if process.alive)
    return left
