"""What other processes do to LangGraph threads of a shared store."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from multiprocessing.connection import Connection

from perdure.saver import PerdureSaver
from tests.saver.puts import Run, at


def write(url: str, name: str, checkpoint_id: str, count: int) -> None:
    """Writes of `count` tasks to one checkpoint, and a chain of as many checkpoints of its own on top of it."""
    with PerdureSaver(url, patience=timedelta(seconds=120)) as saver:
        run = Run(saver)
        run.go_back(at("shared", checkpoint_id))
        for number in range(count):
            saver.put_writes(at("shared", checkpoint_id), [("w", f"{name}{number}")], f"{name}-{number:03}")
            log = [*run.values["log"], f"{name}{number}" * 50]
            run.put({"log": log, "mine": [name, number]}, who=name)


def die(url: str, thread: str) -> None:
    """Puts a checkpoint, and is killed before the writes that belong to it."""
    saver = PerdureSaver(url)
    Run(saver, thread).put({"log": ["before the crash"]})
    os.kill(os.getpid(), signal.SIGKILL)


def append(url: str, thread: str, said: Connection) -> None:
    """Appends and says so, until it is killed."""
    saver = PerdureSaver(url)
    run = Run(saver, thread)
    log: list[str] = []
    while True:
        log = [*log, f"{len(log)}-" * 100]
        run.put({"log": log})
        saver.put_writes(run.config, [("w", len(log))], "task")
        said.send(len(log))
