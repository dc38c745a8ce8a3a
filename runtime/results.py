"""What comes of the tasks of a step: recorded until all of them have ended, then merged into a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from ..stores.segments import Kind
from . import plan
from .announcer import Announcer
from .endings import Endings
from .errors import PerdureError
from .ports import told_update
from .position import Position
from .recorder import Recorder
from .restore import encode_result
from .task import Done, Failed, Stopped


class Results:
    """Of one owned thread."""

    def __init__(
        self, at: Position, recorder: Recorder, endings: Endings, announcer: Announcer, wiring: plan.Wiring
    ) -> None:
        self._at = at
        self._recorder = recorder
        self._endings = endings
        self._announcer = announcer
        self._wiring = wiring
        self.together = False
        """They are not committed one by one, but with what follows them (`durability="exit"`)."""

    def take(self, outcome: Done | Stopped | Failed, now: Callable[[], float]) -> None:
        """Note what came of a task that was not stopped from outside. `now`: by which its waits are counted."""
        at, recorder = self._at, self._recorder
        if isinstance(outcome, Done):
            if len(at.next) == 1 or self._record_result(outcome):
                at.results[outcome.path] = outcome
        elif isinstance(outcome, Stopped):
            stop = outcome.stop.begun(now())
            self._record(outcome.path, lambda: recorder.stop(outcome.path, stop))
        else:
            at.failures[outcome.path] = outcome

    def merge(self) -> None:
        """Make the next checkpoint of the results of all tasks, in the order of the tasks; or end the run, where they
        cannot be merged."""
        at = self._at
        tasks = at.next
        done = [at.results[task.path] for task in tasks]
        writes = [(result.path, channel, update) for result in done for channel, update in result.writes]
        pairs = [(task.node, result.goto) for task, result in zip(tasks, done, strict=True)]
        after = plan.successors(self._wiring, pairs, at.joins)
        try:
            ended = tuple((task.path, task.node) for task in tasks)
            full = any(result.checkpoint for result in done)
            measured = chain.from_iterable(result.measured for result in done)
            self._recorder.checkpoint("loop", writes, after, ended, full=full, measured=measured)
        except PerdureError as error:
            if len(tasks) == 1:
                at.results.clear()  # a lone result was not recorded, and cannot be
            self._endings.fail(error)
            return
        if self._announcer.observer is not None:
            told = ((task.node, told_update(result.writes)) for task, result in zip(tasks, done, strict=True))
            self._announcer.note("loop", tuple(told))

    def _record_result(self, done: Done) -> bool:
        return self._record(done.path, lambda: self._recorder.task(Kind.RESULT, done.path, encode_result(done)))

    def _record(self, path: str, record: Callable[[], None]) -> bool:
        """Put a task's outcome into a commit of its own. False where it cannot be stored: then the task has failed."""
        try:
            record()
        except PerdureError as error:
            node = path.partition("#")[0]
            self._at.failures[path] = Failed(path, node, type(error).__qualname__, str(error), exception=error)
            return False
        if not self.together:
            self._recorder.seal()
        return True
