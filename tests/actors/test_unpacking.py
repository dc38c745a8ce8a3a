"""Unpacked code goes when nobody uses it: it once stayed on every node for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from perdure.actors.packages import pack_code
from perdure.actors.unpacking import remove_unused
from perdure.stores.records import GraphRecord

DAY = timedelta(days=1)
PROGRAM = """
import sys
from pathlib import Path
from perdure.actors.unpacking import unpacked, use
folder = unpacked(sys.argv[1], Path(sys.argv[2]).read_bytes())
use(folder, working_dir=False)
print(folder, flush=True)
sys.stdin.read()
"""


class Users:
    """Processes that use packages, which differ in what their one file says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[str]] = []

    def package(self, text: str) -> GraphRecord:
        source = self._folder / "source" / text
        source.mkdir(parents=True, exist_ok=True)
        (source / "code.py").write_text(f"TEXT = {text!r}\n" + "#" * 1000)
        package = pack_code({"working_dir": source}).package
        assert package is not None
        return package

    def start(self, text: str) -> tuple[subprocess.Popen[str], Path]:
        """A process that uses a package until it is ended, and where that is."""
        package = self.package(text)
        body = self._folder / f"{text}.zip"
        body.write_bytes(package.body)
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, package.graph_key, str(body)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(self._folder)},
        )
        self._running.append(process)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    def once(self, text: str, age: timedelta = timedelta()) -> Path:
        """A package whose only user has come and gone, some time ago."""
        process, folder = self.start(text)
        self.kill(process)
        then = time.time() - age.total_seconds()
        os.utime(folder, (then, then))
        return folder

    def kill(self, process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def end(self) -> None:
        for process in self._running:
            self.kill(process)


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Users]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = Users(tmp_path)
    yield found
    found.end()


def test_nothing_was_ever_unpacked(users: Users) -> None:
    assert remove_unused() == []


def test_a_package_goes_when_its_last_user_has_been_killed(users: Users) -> None:
    one, folder = users.start("a")
    two, same = users.start("a")
    assert folder == same
    for process in (one, two):
        assert remove_unused(kept=-DAY) == []
        assert (folder / "code.py").exists()
        users.kill(process)
    assert remove_unused(kept=DAY) == []
    assert remove_unused(kept=-DAY) == [folder]
    assert list(folder.parent.iterdir()) == []
    assert users.start("a")[1] == folder
    assert (folder / "code.py").exists()


def test_of_those_that_are_not_old_the_longest_unused_go_first(users: Users) -> None:
    old, middle, new = users.once("old", 3 * DAY), users.once("middle", DAY / 2), users.once("new")
    _, used = users.start("used")
    os.utime(used, (0, 0))
    assert remove_unused(most=1500) == [middle, old]
    assert new.is_dir()
    assert used.is_dir()


def test_what_a_process_left_that_died_while_it_unpacked(users: Users) -> None:
    draft = users.once("any").parent / "draft-abc"
    draft.mkdir()
    (draft / "half").touch()
    os.utime(draft, (0, 0))
    assert remove_unused() == [draft]
