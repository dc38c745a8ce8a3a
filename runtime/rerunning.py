"""What the loop does for a re-run: its tasks get what their originals recorded, and breakpoints that those passed are
passed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from ..stores.errors import StoreError, StoreUnavailable
from ..stores.records import ThreadRecord
from .attempts import Attempts
from .control import Next
from .endings import Endings
from .errors import NotRecorded, PerdureError
from .plan import EndRun
from .ports import Need
from .recorder import Recorder
from .recordings import Recordings
from .task import Task

T = TypeVar("T")


class Rerunning:
    """Of one owned thread; of one that is no re-run (`recordings` None) the tasks are as they are."""

    def __init__(
        self,
        record: ThreadRecord,
        attempts: Attempts,
        recorder: Recorder,
        endings: Endings,
        recordings: Recordings | None,
    ) -> None:
        self._record = record
        self._attempts = attempts
        self._recorder = recorder
        self._endings = endings
        self._recordings = recordings

    @property
    def replays(self) -> bool:
        """Whether the run in progress does nothing but what its original recorded."""
        recordings = self._recordings
        return recordings is not None and recordings.rerun.strict and recordings.rerun.run == self._recorder.at.run

    def tasks(self, todo: tuple[Next, ...]) -> Generator[Need, None, list[Task]]:
        """The tasks to be started; none where what their originals recorded cannot be read: then the thread has waited
        for the store, or is paused."""
        tasks = yield from self._reading(lambda: [self._attempts.task(task) for task in todo])
        return tasks or []

    def pass_breakpoint(self) -> Generator[Need, None, None]:
        """Go on from a breakpoint, as the original did; or end the run, where that did not."""
        at, recordings = self._recorder.at, self._recordings
        assert recordings is not None, "only a re-run goes on as another thread did"
        passed = yield from self._reading(lambda: recordings.passed(at.place))
        if passed:
            self._recorder.pass_breakpoint()
            at.since = at.step
        elif passed is not None:
            rerun = recordings.rerun
            nodes = ", ".join(dict.fromkeys(task.node for task in at.next))
            error = NotRecorded(
                self._record.thread_id,
                self._record.graph,
                nodes,
                at.step + 1,
                "going on from its breakpoint",
                original=rerun.thread_id,
                checkpoint_id=rerun.checkpoint_id,
                why="was never resumed from there",
            )
            self._endings.fail(error)

    def pass_limit(self, end: EndRun) -> Generator[Need, None, None]:
        """Go on beyond the recursion limit, if the original had not reached it here: it counts anew from each answer,
        signal, pause or retry, for which a re-run does not stop."""
        at, recordings = self._recorder.at, self._recordings
        assert recordings is not None, "only a re-run goes on as another thread did"
        spent = yield from self._reading(lambda: (recordings.spent(at.place),))
        if spent is None:
            return
        if spent[0] is not None and spent[0] < end.limit:
            at.since = at.step - spent[0]
        else:
            self._endings.end(end)

    def _reading(self, read: Callable[[], T]) -> Generator[Need, None, T | None]:
        """What is read of the original; None where it cannot be."""
        try:
            return read()
        except StoreUnavailable:
            yield Need.STORE
        except (PerdureError, StoreError) as error:
            self._recorder.pause(f"what its original recorded could not be read: {error}")
        return None
