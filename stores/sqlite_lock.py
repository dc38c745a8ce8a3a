"""The queue before SQLite's own write lock: a file lock that says who holds it.

SQLite lets writers collide and sleep; a file lock lets them queue, which keeps the tail of latencies short. And when a
process is stopped (SIGSTOP, a debugger, a frozen container) inside a transaction, every writer of the store waits for
it: the lock file names the process, so that a supervisor can kill it. Its death frees both locks at once.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import StoreMisuse
from .processes import Holder, start_time

_HOLDER = struct.Struct("<QQQ")
"""Acquisitions so far, pid (0: released), start time. Little-endian, at the start of the file."""


class WriteLock:
    """An exclusive lock between processes (flock) and between the threads of this one."""

    def __init__(self, path: Path, mode: int) -> None:
        self.path = path
        self._mode = mode
        self._threads = threading.Lock()
        self._closed = False
        self._file: int | None = None
        self._memory: mmap.mmap | None = None
        self._identity = (os.getpid(), start_time(os.getpid()))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock; waits as long as it takes. Raises `OSError` where the lock file cannot be written,
        `StoreMisuse` after `close`."""
        with self._threads:
            file, memory = self._opened()
            mine = False
            # Taken inside the block: an exception sent to this thread right after must not leave it taken.
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                mine = True
                acquisitions = _HOLDER.unpack_from(memory)[0] + 1
                # Written through shared memory: no system call, and no chance to lose the GIL on the way.
                _HOLDER.pack_into(memory, 0, acquisitions, *self._identity)
                yield
            finally:
                if mine:
                    _HOLDER.pack_into(memory, 0, _HOLDER.unpack_from(memory)[0], 0, 0)
                fcntl.flock(file, fcntl.LOCK_UN)

    def _opened(self) -> tuple[int, mmap.mmap]:
        if self._closed:
            raise StoreMisuse(f"the store of {self.path} is closed; open it again")
        if self._file is None or self._memory is None:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)
            try:
                if os.fstat(file).st_size < _HOLDER.size:
                    # Real bytes, not a hole: on a full disk a write to a mapped hole would be a SIGBUS. Several
                    # processes may do it at once: before there is a size, nobody can have taken the lock.
                    os.pwrite(file, bytes(_HOLDER.size), 0)
                    os.fsync(file)
                self._memory = mmap.mmap(file, _HOLDER.size)
            except BaseException:
                os.close(file)
                raise
            self._file = file
        return self._file, self._memory

    def close(self, timeout: float) -> bool:
        """Close it for good (the file stays), once no thread of this process holds it or waits for it.

        False where one still does after `timeout` seconds (it may wait for a stopped process): then nothing is closed,
        but no further thread gets the lock.
        """
        self._closed = True
        if not self._threads.acquire(timeout=timeout):
            return False
        try:
            if self._memory is not None:
                self._memory.close()
            if self._file is not None:
                os.close(self._file)
            self._memory = self._file = None
        finally:
            self._threads.release()
        return True


def lock_holder(path: str | os.PathLike[str]) -> Holder | None:
    """Which process holds the write lock of the SQLite store at `path`; None while nobody does.

    Takes no lock that a writer would notice for longer than one system call. A caller that means to kill the process
    first looks twice, some seconds apart, and sees the same holder with the same `acquisitions`.
    """
    lock = Path(f"{os.fspath(path)}-lock")
    try:
        file = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if _is_free(file):
            return None
        content = os.pread(file, _HOLDER.size, 0)
        if len(content) == _HOLDER.size:
            acquisitions, pid, started = _HOLDER.unpack(content)
            if pid and start_time(pid) == started:
                return Holder(pid, started, acquisitions)
        else:
            acquisitions = 0
        # Held, but the name in the file is nobody's: stopped between taking the lock and writing its name.
        pid = _holder_by_kernel(os.fstat(file).st_ino)
        return Holder(pid, start_time(pid), acquisitions) if pid else None
    finally:
        os.close(file)


def _is_free(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True


def _holder_by_kernel(inode: int) -> int:
    """The pid that Linux's lock table gives for an exclusive flock of the file; 0 if it cannot tell."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if words[1:4] == ["FLOCK", "ADVISORY", "WRITE"] and words[5].endswith(f":{inode}"):
                return max(int(words[4]), 0)
    return 0
