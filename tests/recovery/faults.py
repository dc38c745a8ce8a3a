"""Faults at the store's calls of a thread's owner, put there by the graph's own module.

A graph's module is user code that runs in every process that loads the graph. `install()`, called there, wraps the
store's methods in a thread actor's process, and in no other: each call that is about a thread with a plan is counted,
over all its owners, and the call that the plan names is where its process dies, or where the call's answer is lost.

Beside the store, the file `<database>.faults/<thread>.plan` holds a thread's plan and `<thread>.log` takes a line
for every call, claim, commit and launch of a task; nodes add a line for every attempt.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import ray

from perdure.actors.fanout import RayExecutor
from perdure.actors.inline import InlineExecutor
from perdure.runtime.scope import SCOPE
from perdure.stores.errors import StoreUnavailable
from perdure.stores.operations import Claimed, Committed
from perdure.stores.processes import ProcessId
from perdure.stores.sqlite import SqliteStore

CALLS = ("take", "thread", "runs", "messages", "segments", "commit")
"""The store's calls that an owner makes for one thread. (Leases are the process's, and renewed by the clock.)"""

Entry: TypeAlias = dict[str, Any]
Point: TypeAlias = tuple[int, str]
"""A call by its number, from 1, and what happens there: `before` or `after` (killed), `refused` (fails, nothing done)
or `lost` (done, but the answer is a failure)."""


@dataclass(frozen=True, slots=True)
class Notes:
    """The plan and the log of one thread."""

    folder: Path
    thread_id: str

    @classmethod
    def beside(cls, database: Path, thread_id: str) -> Notes:
        return cls(database.with_name(database.name + ".faults"), thread_id)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.thread_id}.log"

    @property
    def plan(self) -> Path:
        return self.folder / f"{self.thread_id}.plan"

    def write_plan(self, points: Sequence[Point]) -> None:
        self.folder.mkdir(exist_ok=True)
        self.plan.write_text(json.dumps(points))

    def points(self) -> Mapping[int, str] | None:
        """What happens at which call; None for a thread that nobody watches."""
        try:
            return dict(json.loads(self.plan.read_text()))
        except FileNotFoundError:
            return None

    def entries(self) -> list[Entry]:
        """The log."""
        return entries_of(self.log)


def entries_of(log: Path) -> list[Entry]:
    """The lines of a log, in order; none where there is no log."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def note(log: str | Path, **entry: Any) -> None:
    """Append one line; in one write, so that those of several processes never mix."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, json.dumps({**entry, "pid": os.getpid(), "at": round(time.monotonic(), 4)}).encode() + b"\n")
    finally:
        os.close(file)


def note_attempt(config: Mapping[str, Any]) -> None:
    """Called at the first line of a node."""
    scope = SCOPE.get()
    assert scope is not None
    note(config["configurable"]["log"], start=scope.task.key)


def install() -> None:
    """Wrap the store, if this is the process of a thread actor; once."""
    if not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return
    if hasattr(SqliteStore.take, "__wrapped__"):
        return
    watch = _Watch()
    for name in CALLS:
        setattr(SqliteStore, name, watch.wrapped(name, getattr(SqliteStore, name)))
    for kind, method in ((InlineExecutor, "run"), (RayExecutor, "_launch")):
        setattr(kind, method, watch.launching(getattr(kind, method)))


class _Watch:
    """This process's calls."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owned: dict[str, Notes] = {}

    def wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def faulty(store: SqliteStore, *args: Any, **kwargs: Any) -> Any:
            threads = {one.thread_id for one in args[0]} if name in ("commit", "take") else {args[0]}
            watched = [notes for one in sorted(threads) if (notes := self._notes(store, one, name)) is not None]
            acts = {act for notes in watched if (act := self._count(notes, name))}
            if "before" in acts:
                os.kill(os.getpid(), signal.SIGKILL)
            if "refused" in acts:
                raise StoreUnavailable("the test says no")
            result = call(store, *args, **kwargs)
            for notes in watched:
                _note_result(notes, name, args, result)
            if "after" in acts:
                os.kill(os.getpid(), signal.SIGKILL)
            if "lost" in acts:
                raise StoreUnavailable("the test lost the answer")
            return result

        return faulty

    def launching(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def noting(executor: Any, *args: Any) -> Any:
            for task in args[-1] if isinstance(args[-1], list) else [args[-1]]:
                notes = self._owned.get(task.key.partition("\n")[0])
                if notes is not None:
                    note(notes.log, launch=task.key)
            return method(executor, *args)

        return noting

    def _notes(self, store: SqliteStore, thread_id: str, name: str) -> Notes | None:
        if name == "take":
            notes = Notes.beside(store.path, thread_id)
            if notes.plan.exists():
                self._owned[thread_id] = notes
        return self._owned.get(thread_id)

    def _count(self, notes: Notes, name: str) -> str:
        """Number the call, and say what is to happen at it. Counted in the log itself, which outlives the process."""
        with self._lock, notes.log.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            number = 1 + file.read().count(b'{"call": ')
            act = (notes.points() or {}).get(number, "")
            note(notes.log, call=number, name=name, act=act)
        return act


def _note_result(notes: Notes, name: str, args: tuple[Any, ...], result: Any) -> None:
    if name == "take":
        for answer in result:
            if isinstance(answer, Claimed) and answer.thread.thread_id == notes.thread_id:
                note(notes.log, claimed=answer.thread.epoch, started=ProcessId.own().started)
    elif name == "commit":
        for commit, answer in zip(args[0], result, strict=True):
            if commit.thread_id == notes.thread_id:
                kept = isinstance(answer, Committed)
                note(notes.log, committed=[commit.first, commit.last], kept=kept, answer=type(answer).__name__)
