"""Work in the background of one event loop, of which none may fail unnoticed."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine
from typing import Any

LOGGER = logging.getLogger("perdure.supervisor")


class Chores:
    """Tasks that a supervisor has started and waits for nowhere."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Have it done; what it raises ends the process."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crash(error)

    def crash(self, error: BaseException) -> None:
        """End the process over what nobody foresaw: half of its bookkeeping may be wrong now. Ray starts it anew, and
        it reads everything from the store."""
        LOGGER.critical("the supervisor of %s ends and is restarted", self._where, exc_info=error)
        os._exit(1)
