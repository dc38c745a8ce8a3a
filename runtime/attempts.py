"""What crashes of its process mean for a thread: which attempt a task is at, and when there were too many."""

from __future__ import annotations

from dataclasses import replace

from .control import Next
from .position import Position
from .recordings import Recordings
from .task import Original, Past, Task


class Attempts:
    """Makes tasks that know what became of earlier attempts and, in a re-run, of their originals (`recordings`).
    `crashes` counts the processes that died since the thread last made durable progress; they are charged to the step
    at which the owner finds the thread."""

    def __init__(self, thread_id: str, at: Position, crashes: int, recordings: Recordings | None = None) -> None:
        self._thread_id = thread_id
        self._at = at
        self._head = at.head
        self._crashes = crashes
        self._recordings = recordings

    def task(self, task: Next) -> Task:
        """A task of the step in progress, to be run now. Of a re-run it may raise what `Recordings` raises."""
        at = self._at
        key = f"{self._thread_id}\n{at.head}\n{task.path}"
        past = self._past(task.path) if at.calls or at.beats or self._crashes else None
        found = Task(task.path, task.node, task.send, at.sends.get(task.path), past, key)
        recordings = self._recordings
        return found if recordings is None or recordings.rerun.run != at.run else _as_then(found, recordings, at.place)

    def _past(self, path: str) -> Past | None:
        at = self._at
        calls, beat = at.calls.get(path), at.beats.get(path)
        attempt = 1 + (self._crashes if self._head == at.head else 0)
        if not calls and beat is None and attempt == 1:
            return None
        return Past(calls if calls is not None else {}, attempt, beat.progress if beat is not None else None)

    def spent(self, budget: int) -> str:
        """Why the thread has to be paused, if as many processes died as `budget` says; otherwise empty."""
        if self._crashes < budget:
            return ""
        at = self._at
        nodes = ", ".join(dict.fromkeys(repr(task.node) for task in at.next if task.path not in at.results))
        place = f"at step {at.step + 1} ({nodes or 'no node'})" if at.run_open else "before its input was taken"
        return (
            f"its process died {self._crashes} times {place} without progress; look for what ends the process there, "
            "then retry() or cancel()"
        )


def _as_then(task: Task, recordings: Recordings, place: int) -> Task:
    """A task of a re-run, with what its original was given."""
    rerun, then = recordings.rerun, recordings.of(place, task.path)
    original = Original(rerun.thread_id, rerun.checkpoint_id, rerun.strict, then.origin if then is not None else None)
    if then is None or not then.calls:
        return replace(task, original=original)
    past = task.past or Past()
    return replace(task, past=replace(past, calls={**then.calls, **past.calls}), original=original)
