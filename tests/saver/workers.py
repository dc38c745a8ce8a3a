"""Processes that write LangGraph threads of a shared store: `python -m tests.saver.workers <what> <url> <name> ...`."""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import timedelta

from perdure.saver import PerdureSaver
from tests.saver.puts import Run, at


def write(url: str, name: str, checkpoint_id: str, count: str) -> None:
    """Writes of `count` tasks to one checkpoint, and a chain of as many checkpoints of its own on top of it."""
    with PerdureSaver(url, patience=timedelta(seconds=120)) as saver:
        run = Run(saver)
        run.go_back(at("shared", checkpoint_id))
        for number in range(int(count)):
            saver.put_writes(at("shared", checkpoint_id), [("w", f"{name}{number}")], f"{name}-{number:03}")
            log = [*run.values["log"], f"{name}{number}" * 50]
            run.put({"log": log, "mine": [name, number]}, who=name)


def die(url: str, thread: str) -> None:
    """Puts a checkpoint, and is killed before the writes that belong to it."""
    saver = PerdureSaver(url)
    Run(saver, thread).put({"log": ["before the crash"]})
    print("put", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def append(url: str, thread: str) -> None:
    """Appends and says so, until it is killed."""
    saver = PerdureSaver(url)
    run = Run(saver, thread)
    log: list[str] = []
    while True:
        log = [*log, f"{len(log)}-" * 100]
        run.put({"log": log})
        saver.put_writes(run.config, [("w", len(log))], "task")
        print(len(log), flush=True)
        time.sleep(0)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", url, name, checkpoint_id, count]:
            write(url, name, checkpoint_id, count)
        case ["die", url, thread]:
            die(url, thread)
        case ["append", url, thread]:
            append(url, thread)
