"""One process of a server under test: started through its keeper, stopped, killed or frozen by its pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil

KEEPER = Path(__file__).with_name("keeper.py")


class ServerFailed(Exception):
    """A server did not start, or did not end."""


class Process:
    """A running server. `gentle` is the signal by which an orphan is asked to end."""

    def __init__(
        self, command: Sequence[str], folder: Path, *, gentle: signal.Signals, user: int | None = None
    ) -> None:
        self.log = folder / "output.log"
        script = [sys.executable, "-I", "-S", str(KEEPER), str(os.getpid())]
        identity = str(os.geteuid() if user is None else user)
        with self.log.open("ab") as log:
            self._keeper = subprocess.Popen(
                [*script, identity, gentle.name, str(folder), *command],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C is for pytest, which then ends its servers itself.
                start_new_session=True,
            )
        assert self._keeper.stdout is not None
        said = self._keeper.stdout.readline()
        if not said:
            self._keeper.wait()
            raise ServerFailed(f"{command[0]} was not started: {self.output()}")
        self.pid = int(said)

    @property
    def running(self) -> bool:
        return self._keeper.poll() is None

    def output(self) -> str:
        """The last of what the server printed."""
        return self.log.read_text(errors="replace")[-2000:]

    def end(self, number: signal.Signals, *, timeout: float = 30.0) -> None:
        """Send the signal and wait until the server and its own processes are gone. Nothing if it is not running."""
        with suppress(psutil.NoSuchProcess):
            family = self._family()
            if self.running:
                os.kill(self.pid, number)
            _, alive = psutil.wait_procs(family[1:], timeout)
            if alive:
                raise ServerFailed(f"{alive} outlived their server {timeout} s after {number.name}")
        try:
            self._keeper.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"process {self.pid} goes on {timeout} s after {number.name}: {self.output()}") from None
        finally:
            assert self._keeper.stdout is not None
            self._keeper.stdout.close()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stopped like by SIGSTOP, with all its own processes."""
        family = self._family()
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.suspend()
        try:
            yield
        finally:
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    member.resume()

    def _family(self) -> list[psutil.Process]:
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]


def temporary_folder(prefix: str) -> tempfile.TemporaryDirectory[str]:
    """Short, as a Unix socket's path may have 107 bytes. Left over files are the keeper's affair."""
    return tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)


def wheel(name: str) -> Path:
    """The folder of an installed package, without importing it: both wheels do things when they are imported."""
    found = find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ServerFailed(f"the package {name} is not installed; the tests need `pip install -e '.[all,test]'`")
    return Path(found.submodule_search_locations[0])
