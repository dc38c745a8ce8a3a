"""What nodes say about themselves while they run, through a pipe: one line is written whole, and nobody has to poll."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mark:
    """One line that `workloads.mark` wrote."""

    what: str
    number: int
    at: int
    """Monotonic nanoseconds, comparable between processes of this machine."""
    pid: int
    written: int
    """Bytes that the process has had written to disk."""
    cpu: int
    """Nanoseconds of CPU that the process has used."""


class Marks:
    """The reading end."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path, 0o600)
        # Open for writing too, or every writer that leaves would end the stream.
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""
        self._lines: list[bytes] = []

    def next(self, timeout: float) -> Mark:
        """The next mark. Raises `TimeoutError` after `timeout` seconds without one."""
        deadline = time.monotonic() + timeout
        while not self._lines:
            ready, _, _ = select.select([self._pipe], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"no node reported within {timeout:.0f} s")
            *self._lines, self._rest = (self._rest + os.read(self._pipe, 65536)).split(b"\n")
        what, *numbers = self._lines.pop(0).split()
        return Mark(what.decode(), *map(int, numbers))

    def until(self, what: str, timeout: float) -> list[Mark]:
        """All marks up to the next one of this kind, which is the last of them."""
        found = [self.next(timeout)]
        while found[-1].what != what:
            found.append(self.next(timeout))
        return found

    def drain(self) -> list[Mark]:
        """Those that are there already."""
        found = []
        while True:
            try:
                found.append(self.next(0.0))
            except TimeoutError:
                return found

    def close(self) -> None:
        """Remove the pipe. A node that still writes gets an error."""
        os.close(self._pipe)
        os.unlink(self.path)


@contextmanager
def marks(folder: Path) -> Iterator[Marks]:
    """A pipe for the block."""
    opened = Marks(folder / "marks")
    try:
        yield opened
    finally:
        opened.close()
