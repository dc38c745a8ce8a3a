"""A small disk that a test can fill and empty again, under processes that are using it."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SIZE = 12_000_000
"""Bytes: room for a store whose log has its usual 4 MB."""


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
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1024, hard))
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
        """Let nobody write for a while; nobody may have `file` open."""
        switch: Callable[[bool], object]
        if self.mounted:

            def switch(off: bool) -> object:
                mode = "ro" if off else "rw"
                return subprocess.run(["mount", "-o", f"remount,{mode}", str(self.path)], check=True)
        else:

            def switch(off: bool) -> object:
                file.chmod(0o400 if off else 0o600)
                self.path.chmod(0o500 if off else 0o700)
                return None

        switch(True)
        try:
            yield
        finally:
            switch(False)


@contextmanager
def small_disk(path: Path) -> Iterator[SmallDisk]:
    """A disk of `SIZE` bytes at `path`, an empty folder."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "perdure-test", str(path)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    disk = SmallDisk(path, mounted)
    try:
        yield disk
    finally:
        disk.free()
        if mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=True)
