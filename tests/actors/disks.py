"""A small disk that a test can fill and empty again, under processes that are using it."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SIZE = 12_000_000
"""Bytes: room for a store whose log has its usual 4 MB."""
LIMIT = 65_536
"""Bytes beyond which no file grows, in place of a full disk: more than a test's notes take, less than a store's log."""


@dataclass
class SmallDisk:
    """A file system of its own or, where mounting is not allowed, files that certain processes may not let grow."""

    path: Path
    mounted: bool
    _limited: list[int] = field(default_factory=list)

    @property
    def _filler(self) -> Path:
        return self.path / "filler"

    def fill(self, pids: Iterable[int]) -> None:
        """Leave no room. Without a disk of its own, `pids` are the processes that shall notice."""
        if self.mounted:
            self._take_all()
            return
        for pid in pids:
            self._limit(pid, LIMIT)

    def _limit(self, pid: int, size: int) -> None:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
        self._limited.append(pid)

    def _take_all(self) -> None:
        file = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            while True:
                # In pages: a larger piece would be refused while there is still room for a smaller one.
                os.write(file, bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            os.close(file)

    def free(self) -> None:
        """Make room again."""
        self._filler.unlink(missing_ok=True)
        for pid in self._limited:
            try:
                _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
            except ProcessLookupError:
                continue
        self._limited.clear()

    @contextmanager
    def read_only(self, file: Path) -> Iterator[None]:
        """Let this process write nothing for a while; nobody may have `file` open."""
        if self.mounted:
            subprocess.run(["mount", "-o", "remount,ro", str(self.path)], check=True)
        elif os.geteuid() == 0:
            self._limit(os.getpid(), 0)  # root may write whatever the permissions say
        else:
            file.chmod(0o400)
            self.path.chmod(0o500)
        try:
            yield
        finally:
            if self.mounted:
                subprocess.run(["mount", "-o", "remount,rw", str(self.path)], check=True)
            elif os.geteuid() != 0:
                self.path.chmod(0o700)
                file.chmod(0o600)
            self.free()


@contextmanager
def small_disk(path: Path, *, size: int = SIZE) -> Iterator[SmallDisk]:
    """A disk of `size` bytes at `path`, an empty folder."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "perdure-test", str(path)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    disk = SmallDisk(path, mounted)
    try:
        yield disk
    finally:
        disk.free()
        if mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=True)
