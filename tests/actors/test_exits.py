"""How the end of an actor's process is seen before Ray tells of it: real processes, no Ray."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from perdure.actors.chores import Chores
from perdure.actors.exits import Ended, Exits, exit_of
from perdure.stores.processes import ProcessId


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            yield process
        finally:
            process.kill()


async def never() -> None:
    await asyncio.Event().wait()


async def lost() -> None:
    raise ConnectionError("so Ray says")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_the_end_is_seen_though_nobody_reports_it() -> None:
    async def watch(process: subprocess.Popen[bytes]) -> None:
        exits = Exits(Chores("here"), "node")
        exits.expect("actor")
        watching = asyncio.create_task(exits.unless_ended("actor", never()))
        exits.know("actor", "node", ProcessId.of(process.pid))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(watching), 0.1)
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(watching), 0.1)  # it is frozen, not dead
        process.kill()
        with pytest.raises(Ended):
            await asyncio.wait_for(watching, 60.0)
        with pytest.raises(Ended):
            await exits.unless_ended("actor", lost())
        assert await exits.unless_ended("actor", asyncio.sleep(0, "it was told to end")) == "it was told to end"
        assert exits.alone

    with sleeper() as process:
        before = open_files()
        asyncio.run(watch(process))
        assert open_files() == before


def test_what_ray_says_counts_where_nothing_is_seen() -> None:
    """Of an actor of another node, of one whose process is not known, of one that nobody asks for any more, and of one
    that lives."""

    async def watch(process: subprocess.Popen[bytes]) -> None:
        exits = Exits(Chores("here"), "node")
        for name in ("elsewhere", "unknown", "alive", "dropped"):
            exits.expect(name)
        exits.drop("dropped")
        for name, node in (("elsewhere", "other node"), ("alive", "node"), ("dropped", "node")):
            exits.know(name, node, ProcessId.of(process.pid))
        for name in ("elsewhere", "unknown", "dropped", "alive"):
            with pytest.raises(ConnectionError):
                await exits.unless_ended(name, lost())
            assert await exits.unless_ended(name, asyncio.sleep(0, "told")) == "told"

    with sleeper() as process:
        asyncio.run(watch(process))


def test_processes_that_are_gone_already() -> None:
    async def seen(process: ProcessId) -> bool:
        return await asyncio.wait_for(exit_of(process), 60.0)

    with sleeper() as process:
        known = ProcessId.of(process.pid)
        # Its number is somebody else's by now, who has started at another time.
        assert asyncio.run(seen(ProcessId(known.pid, known.started - 1)))
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert asyncio.run(seen(known))  # a zombie
    assert asyncio.run(seen(known))


def test_a_python_without_pidfd_leaves_it_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some are built for kernels that had none. The supervisor ended over the first actor that it looked for."""
    monkeypatch.delattr(os, "pidfd_open")
    assert not asyncio.run(exit_of(ProcessId.own()))


def test_processes_that_follow_their_lost_parent_do_not_end_alone() -> None:
    """As those of a node do: the parent stands for its raylet."""
    code = """
import os, signal, sys
from perdure.actors.chores import Chores
from perdure.actors.exits import Exits
if (child := os.fork()) == 0:
    exits = Exits(Chores("here"), "node")
    print(exits.alone, flush=True)
    os.kill(os.getppid(), signal.SIGKILL)
    while exits.alone:
        pass
    print(exits.alone, flush=True)
else:
    os.waitpid(child, 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["True", "False"], done.stderr
