"""What a client does with many threads at once: re-run them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, overload

from ..runtime.batches import RERUNS, Item
from ..runtime.clock import SystemClock
from ..runtime.compiled import CompiledGraph
from ..runtime.errors import InputError
from ..stores.base import CheckpointStore
from ..stores.errors import UnknownThread
from ..stores.records import BATCH, GraphRecord
from .choosing import At, Choice, Where, check_at, chosen
from .errors import ClientError
from .handle import ThreadHandle
from .reader import Reader
from .rerun_plan import Pace, Planner, RerunPlan, Update, batch_input, once_more
from .reruns import BatchRerun


class BatchReruns(ABC):
    """The part of `Client` that re-runs threads in batches."""

    store: CheckpointStore
    _clock: SystemClock

    @abstractmethod
    def thread(self, thread_id: str, *, graph: CompiledGraph | None = None) -> ThreadHandle:
        """The handle of a thread."""

    @abstractmethod
    def _begin(self, graph: CompiledGraph, input: Any, thread_id: str) -> ThreadHandle:
        """Submit a graph of ours, or attach to the thread that is there."""

    @abstractmethod
    def _shipped(self, graph: CompiledGraph) -> GraphRecord:
        """A graph's record, once it is in the store."""

    @overload
    def rerun(
        self,
        where: Where | None = None,
        *,
        at: At = ...,
        graph: CompiledGraph | None = ...,
        update: Update | None = ...,
        effects: str = ...,
        concurrency: int = ...,
        rate: float | None = ...,
        limit: int | None = ...,
        sample: int | float | None = ...,
        max_failures: int | None = ...,
        batch_id: str | None = ...,
        dry_run: Literal[False] = ...,
    ) -> BatchRerun: ...
    @overload
    def rerun(
        self,
        where: Where | None = None,
        *,
        at: At = ...,
        graph: CompiledGraph | None = ...,
        update: Update | None = ...,
        effects: str = ...,
        concurrency: int = ...,
        rate: float | None = ...,
        limit: int | None = ...,
        sample: int | float | None = ...,
        max_failures: int | None = ...,
        batch_id: str | None = ...,
        dry_run: Literal[True],
    ) -> RerunPlan: ...
    def rerun(
        self,
        where: Where | None = None,
        *,
        at: At = "latest",
        graph: CompiledGraph | None = None,
        update: Update | None = None,
        effects: str = "recorded",
        concurrency: int = 8,
        rate: float | None = None,
        limit: int | None = None,
        sample: int | float | None = None,
        max_failures: int | None = None,
        batch_id: str | None = None,
        dry_run: bool = False,
    ) -> BatchRerun | RerunPlan:
        """Run many threads again, each from a checkpoint of it into a new thread; the originals stay as they are.

        `where` chooses the threads (see `Where`; those of `graph`'s name if that is given), of them a random `sample`
        (how many, or a share below 1), of those the first `limit`. `at` chooses the checkpoint: "latest",
        "before:NODE", "step:K", or a function of the thread's handle. `graph` is the version to run them with, by
        default each one's own; `update` changes the state first. `effects` as for `ThreadHandle.fork`: recorded or
        live. Of the new threads `concurrency` run at a time, `rate` are begun per second at most; once more than
        `max_failures` have not succeeded, the batch stops and waits for `resume()`. With `dry_run` nothing is begun,
        and the plan is returned.

        What is to be done is chosen here and now, and then is the input of a durable thread, the batch, whose id is
        `batch_id`: it goes on without this client. With the id of a batch that is there, that one is returned. The new
        threads have ids that begin with the batch's, and its id in their metadata under `perdure.batch`.

        A thread that cannot be re-run is skipped with the reason. Raises `InputError` (also for the id of a batch that
        was deleted while threads that it had begun are left), `InvalidUpdateError`, `UnknownThread`, and as `submit`;
        then nothing is begun.
        """
        pace = Pace(concurrency=concurrency, rate=rate, max_failures=max_failures)
        check_at(at)
        if not isinstance(graph, CompiledGraph | None):
            raise InputError(f"graph is {graph!r}; give the compiled graph, or choose by name: where={{'graph': ...}}")
        name = batch_id or f"rerun-{self._clock.unique()[:12]}"
        if batch_id is not None and not dry_run and (found := self._present(batch_id)) is not None:
            return found
        choice = Choice.of(where, graph=graph.name if graph is not None else None)
        planner = Planner(
            self.store, lambda id_: self.thread(id_, graph=graph), at=at, graph=graph, update=update, effects=effects
        )
        plan = planner.plan(name, chosen(self.store, choice, limit=limit, sample=sample, seed=name))
        if dry_run:
            return plan
        if batch_id is not None and (found := self._present_or_free(batch_id)) is not None:
            return found
        shipped = self._shipped(graph) if graph is not None else None
        return self._batch(self._begin(RERUNS, batch_input(plan, pace, shipped, self._clock.unique()), name))

    def batch(self, batch_id: str) -> BatchRerun:
        """A batch that was begun before. Raises `UnknownThread`, `ClientError` for what is no batch."""
        thread = self.thread(batch_id, graph=RERUNS)
        if thread.info.graph != RERUNS.name:
            raise ClientError(f"thread {batch_id!r} belongs to graph {thread.info.graph!r}; it is no batch re-run")
        return self._batch(thread)

    def _present(self, batch_id: str) -> BatchRerun | None:
        try:
            return self.batch(batch_id)
        except UnknownThread:
            return None

    def _present_or_free(self, batch_id: str) -> BatchRerun | None:
        """The batch with this id; None where nothing is left of one that had it. Raises `InputError` where threads
        are: they would be taken for those of the new batch, by listings and by people."""
        left = next(Reader(self.store).threads(metadata={BATCH: batch_id}, limit=1), None)
        # In this order: another client may begin it in between, and then the threads are that batch's.
        if (found := self._present(batch_id)) is not None or left is None:
            return found
        raise InputError(
            f"batch_id={batch_id!r}: a batch with this id was deleted, but not what it had begun, such as thread "
            f"{left.thread_id!r}; take another id, or delete these threads first: "
            f"delete_many({{'metadata': {{{BATCH!r}: {batch_id!r}}}}})"
        )

    def _batch(self, thread: ThreadHandle) -> BatchRerun:
        return BatchRerun(self.store, thread, self.thread, self._once_more)

    def _once_more(
        self, batch: BatchRerun, items: Sequence[Item], graph: CompiledGraph | None, batch_id: str | None
    ) -> BatchRerun:
        name = batch_id or f"rerun-{self._clock.unique()[:12]}"
        if (found := self._present_or_free(name)) is not None:
            return found
        wishes = batch.wishes()
        if graph is not None:
            shipped = self._shipped(graph)
            wishes |= {"graph_key": shipped.graph_key, "version": shipped.version}
        return self._batch(self._begin(RERUNS, once_more(wishes, name, items, self._clock.unique()), name))
