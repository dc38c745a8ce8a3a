"""Sees the processes of its own node end. The kernel tells at once, where Ray's report takes tens of milliseconds."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from ..stores.processes import ProcessId
from .chores import Chores

T = TypeVar("T")


class Ended(Exception):
    """An actor's process was seen to end."""


class Exits:
    """The ends of actors' processes, as another actor of the same node sees them."""

    def __init__(self, chores: Chores, node: str) -> None:
        """`node` is Ray's id of the one that this process is on."""
        self._chores = chores
        self._node = node
        self._raylet = os.getppid()
        self._gone: dict[str, asyncio.Event] = {}

    def expect(self, name: str) -> None:
        """An actor whose process is not known yet."""
        self._gone[name] = asyncio.Event()

    def know(self, name: str, node: str, process: ProcessId) -> None:
        """The process of an actor. On other nodes nothing is seen: one would have to ask, and Ray does that already."""
        gone = self._gone.get(name)
        if gone is not None and node == self._node:
            self._chores.spawn(_tell(gone, process))

    def drop(self, name: str) -> None:
        """Nobody asks for this actor any more."""
        self._gone.pop(name, None)

    async def unless_ended(self, name: str, work: Coroutine[Any, Any, T]) -> T:
        """What comes of `work`, which waits for what Ray says of an actor. Raises what that raises, and `Ended` when
        the actor's process was seen to end before it came to anything."""
        gone = self._gone.get(name)
        if gone is None:
            return await work
        seen, told = asyncio.ensure_future(gone.wait()), asyncio.ensure_future(work)
        try:
            await asyncio.wait({seen, told}, return_when=asyncio.FIRST_COMPLETED)
            if gone.is_set() and not (told.done() and told.exception() is None):
                raise Ended(name)
            return told.result()
        finally:
            seen.cancel()
            told.cancel()

    @property
    def alone(self) -> bool:
        """Whether what ended just now did so by itself. Where a node is lost its processes follow; but the kernel gives
        them another parent first."""
        return os.getppid() == self._raylet


async def _tell(gone: asyncio.Event, process: ProcessId) -> None:
    if await exit_of(process):
        gone.set()


async def exit_of(process: ProcessId) -> bool:
    """Wait until a process of this machine has ended: True. False at once where that cannot be seen: without pidfd,
    which only Linux has and not every Python was built with, or where a container forbids it."""
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return False
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError as error:
        return error.errno == errno.ESRCH
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    try:
        if not process.alive:  # it was gone before, and its number is somebody else's
            return True
        loop.add_reader(descriptor, ended.set)
        await ended.wait()
        return True
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
