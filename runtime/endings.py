"""Ends runs: with a result, by an error, or for a cancel."""

from __future__ import annotations

from ..stores.errors import StoreError
from ..stores.records import Status
from .errors import GraphRecursionError, PerdureError, RouterRaised
from .failures import Failure, encode_failure, of_error, of_task
from .plan import EndRun
from .recorder import Recorder


class Endings:
    """Closes runs through the recorder, and remembers why the last one failed."""

    def __init__(self, thread_id: str, recorder: Recorder) -> None:
        self.failure: Failure | None = None
        """Why the run failed, as it is kept."""
        self.exception: BaseException | None = None
        """The exception itself, where the run failed in this process."""
        self._thread_id = thread_id
        self._recorder = recorder

    def forget(self) -> None:
        """A new run begins."""
        self.failure = self.exception = None

    def fail(self, error: PerdureError | StoreError) -> None:
        """The step cannot become a checkpoint: the run fails and the last checkpoint stays."""
        self.exception = error.__cause__ if isinstance(error, RouterRaised) else error
        self._close(of_error(error, self._recorder.at.step + 1))

    def end(self, action: EndRun) -> None:
        """End the run as was decided. Where a task has lost its process the thread is paused and the run stays open."""
        recorder, failed = self._recorder, action.failure
        if action.limit:
            self.fail(GraphRecursionError(action.limit, thread_id=self._thread_id))
        elif failed is None:
            replaced = "replaced by a new input" if action.status is Status.CANCELLED else ""
            recorder.close_run(action.status, replaced)
            recorder.pause("")
        elif failed.crashed:
            recorder.at.failures.clear()
            recorder.pause(f"node {failed.node!r}: {failed.message}; retry() tries again")
        else:
            self.exception = failed.exception
            self._close(of_task(failed, recorder.at.step + 1))

    def _close(self, failure: Failure) -> None:
        self.failure = failure
        self._recorder.at.failures.clear()
        self._recorder.close_run(Status.FAILED, f"{failure.type}: {failure.message}", encode_failure(failure))
