"""The client: submit graphs to a service, and find the threads that it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, Unpack

import pyarrow as pa

from ..actors.packages import Code, pack_code
from ..actors.settings import ServiceSettings
from ..actors.shipping import ship
from ..runtime.cache import CacheOptions, ReadCache
from ..runtime.checkpoints import Checkpoints
from ..runtime.clock import Clock, SystemClock
from ..runtime.compiled import CompiledGraph
from ..runtime.errors import InputError, ThreadBusy
from ..runtime.options import DEFAULT_RECURSION_LIMIT
from ..runtime.payloads import REPLACE
from ..stores.addresses import redacted
from ..stores.arguments import check_retention
from ..stores.base import CheckpointStore
from ..stores.deletion import delete_thread
from ..stores.errors import Refused, StoreMisuse, ThreadExists, ThreadHeld
from ..stores.operations import Amendment, Delivery, Expect
from ..stores.records import ENDED, LOADING, SERVICE, GraphRecord, Message, Retention, Status, ThreadRecord
from ..stores.retention import SETTING, retention_data, retention_from
from .dataset import BATCH_ROWS, history_batches, history_table
from .dataset_selection import HistoryOptions
from .draining import drain, undrain
from .errors import ClientError
from .handle import ThreadHandle
from .many import ManyThreads
from .porting import ThreadFiles
from .reader import Reader
from .rerunning import BatchReruns
from .submission import Isolation, Submission, SubmitOptions, Wishes
from .supervisors import Supervisors

IfExists: TypeAlias = Literal["fail", "attach", "continue", "restart"]
IfBusy: TypeAlias = Literal["enqueue", "reject", "interrupt"]
_AT_ONCE = 500
"""Threads that one call of the store creates."""


class Client(ThreadFiles, BatchReruns, ManyThreads):
    """A connection to a service; made by `connect`. A context manager: leaving it ends nothing that runs."""

    def __init__(
        self,
        store: CheckpointStore,
        supervisors: Supervisors,
        settings: ServiceSettings,
        *,
        local: bool,
        code: Code | None = None,
        announce: Callable[[], None],
        leave: Callable[[], None],
        cache: CacheOptions | None = None,
    ) -> None:
        self.store = store
        self._supervisors = supervisors
        self._settings = settings
        self._local = local
        self._code = code
        self._announce = announce
        self._leave = leave
        self._clock = SystemClock()
        self._cache = ReadCache(cache)
        self._closed = False

    # -- threads -------------------------------------------------------------------------------------------------

    def submit(
        self,
        graph: CompiledGraph,
        input: Any,
        *,
        thread_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        if_exists: IfExists = "fail",
        if_busy: IfBusy = "enqueue",
        durability: str = "async",
        checkpoints: Checkpoints | None = None,
        recursion_limit: int = DEFAULT_RECURSION_LIMIT,
        interrupt_before: Sequence[str] | None = None,
        interrupt_after: Sequence[str] | None = None,
        configurable: Mapping[str, Any] | None = None,
        retention: Retention | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        isolation: Isolation = "thread",
    ) -> ThreadHandle:
        """Start a run of `graph` and return its handle, once the thread and its input are in the store.

        `thread_id` names the thread, by default a new id. Where it is taken, `if_exists` says what to do: "fail" raises
        `ThreadExists`, "attach" returns the handle of its newest run, "continue" starts its next run from its head
        (while another is in progress: "enqueue" it, "reject" it, or "interrupt" that one), "restart" deletes it first.
        `metadata` (JSON values) and `tags` are kept with the thread, and listings filter by them. `durability` is
        "async", "sync" or "exit"; `checkpoints` says which steps become full checkpoints, in place of what the graph
        was compiled with. `configurable` is what nodes find in `config["configurable"]`. `retention` says what of the
        thread's past is kept, in place of what the graph or the store says, also of a thread that is there already.
        `runtime_env` is the environment of its processes, in place of that of `connect`.
        `isolation` is "thread" for a process of its own while it runs, or "shared" for one with others: for batches of
        short threads.

        Raises `InputError`, `InvalidUpdateError`, `Unencodable`, `GraphNotShippable`, `StoreMisuse` where the graph was
        compiled with another store; then nothing was written.
        """
        wishes = Wishes(
            metadata=metadata,
            tags=tags,
            durability=durability,
            checkpoints=checkpoints,
            recursion_limit=recursion_limit,
            interrupt_before=interrupt_before,
            interrupt_after=interrupt_after,
            configurable=configurable,
            retention=retention,
            runtime_env=runtime_env,
            isolation=isolation,
        )
        submission = self._submission(graph, wishes)
        record, message = submission.new(thread_id, input)
        self._ship(submission)
        if if_exists == "restart":
            self._remove(record.thread_id)
        (made,) = self.store.create_many([(record, message)])
        if isinstance(made, Delivery):
            self._submitted([made.thread])
            return self._handle(record.thread_id, made.run, graph)
        if if_exists in ("fail", "restart"):
            raise made
        run = self._go_on(record, message, if_exists, if_busy, submission.shipped)
        if retention is not None:
            self.store.amend(record.thread_id, Amendment(retention=retention))
        self.notify(record.thread_id)
        return self._handle(record.thread_id, run, graph)

    def submit_many(
        self,
        graph: CompiledGraph,
        inputs: Iterable[Any],
        *,
        thread_ids: Iterable[str] | None = None,
        if_exists: Literal["fail", "attach"] = "fail",
        **options: Unpack[SubmitOptions],
    ) -> list[ThreadHandle]:
        """Start a thread for each input, and return their handles in the same order, once all are in the store: many
        in one transaction, where `submit` makes one for each.

        `thread_ids` names them, as many as there are inputs. Where some are taken, "fail" raises `ThreadExists` for the
        first of them, when all that are not taken were submitted; "attach" gives the handles of their newest runs, so
        that a batch may be submitted again after its client has died. For the other options see `SubmitOptions`; for
        many short threads choose isolation="shared".

        Raises as `submit` does; where an input is refused, nothing was written.
        """
        submission = self._submission(graph, Wishes(**options))
        new = [submission.new(thread_id, input) for thread_id, input in _named(inputs, thread_ids)]
        self._ship(submission)
        handles: list[ThreadHandle] = []
        taken: list[ThreadExists] = []
        for start in range(0, len(new), _AT_ONCE):
            made = self.store.create_many(new[start : start + _AT_ONCE])
            self._submitted([one.thread for one in made if isinstance(one, Delivery)])
            for one in made:
                if isinstance(one, Delivery):
                    handles.append(self._handle(one.thread.thread_id, one.run, graph))
                elif if_exists == "attach":
                    handles.append(self.thread(one.thread_id, graph=graph))
                else:
                    taken.append(one)
        if taken:
            raise taken[0]
        return handles

    def thread(self, thread_id: str, *, graph: CompiledGraph | None = None) -> ThreadHandle:
        """The handle of a thread's newest run. With its `graph`, values come back as the classes that its schema names;
        without, such values are shown as plain data. Raises `UnknownThread`."""
        return self._handle(thread_id, self.store.thread(thread_id).runs, graph)

    def threads(
        self,
        *,
        status: Status | str | Sequence[Status | str] | None = None,
        graph: str | None = None,
        tag: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> Iterator[ThreadRecord]:
        """Threads, newest first; those for which every condition that is given holds. Pages are fetched as needed.
        Raises `InputError` for what is no status."""
        return Reader(self.store).threads(status=status, graph=graph, tag=tag, metadata=metadata, limit=limit)

    @property
    def retention(self) -> Retention:
        """What of a thread's past is kept, where neither it nor its graph says otherwise; of all that use the store."""
        return retention_from(self.store.setting(SETTING))

    @retention.setter
    def retention(self, retention: Retention) -> None:
        check_retention("the store's retention", retention)
        self.store.put_setting(SETTING, retention_data(retention))

    def delete(self, thread_id: str) -> None:
        """Remove a thread that is not running, with its history. Its forks first take over what they have of that,
        which takes as long as it is; broken off, a repetition goes on.

        Raises `Refused` while it runs; `ThreadReferenced` for a part that cannot be cut off, as a fork that is being
        copied in."""
        delete_thread(self.store, thread_id)

    def history_table(self, **options: Unpack[HistoryOptions]) -> pa.Table:
        """The histories of threads as one table, for pandas, polars and DuckDB; see `HistoryOptions` for which rows and
        columns. Raises as `history_batches`."""
        return history_table(self.store, **options)

    def history_batches(
        self, *, batch_rows: int = BATCH_ROWS, **options: Unpack[HistoryOptions]
    ) -> pa.RecordBatchReader:
        """The same in batches of at most `batch_rows` rows and about 16 MiB, in little memory. Close the reader, or
        read it to its end. Raises `InputError`, `UnknownThread`; while it is read, `Corrupt`, `NewerFormat`."""
        return history_batches(self.store, batch_rows=batch_rows, **options)

    # -- the service ---------------------------------------------------------------------------------------------

    def actors(self) -> list[dict[str, Any]]:
        """The pool: name, phase and threads of each actor. Raises `ServiceError`."""
        return [actor for shard in self._supervisors.ask("actors") for actor in shard]

    def drain(self, node: str | None = None, *, timeout: timedelta | None = None) -> int:
        """Take a node of the cluster out of work (its id's first digits, its name, machine or address), or the whole
        service: running threads finish their step, are committed, and go on elsewhere, or wait. Messages and new
        threads are accepted and wait too. It holds until `undrain`, also over restarts of the service; a drained
        service stays drained when its cluster is started anew.

        Waits until nothing runs there, or for `timeout`; returns how many threads still do. Ray may still place the
        parallel tasks of threads that run elsewhere on a drained node. Raises `ClientError`, `ServiceError`.
        """
        return drain(self.store, self._supervisors, node, timeout)

    def undrain(self, node: str | None = None) -> None:
        """Let a node that was drained work again; without one, the service and all its nodes. Raises `ClientError`,
        `ServiceError`."""
        undrain(self.store, self._supervisors, node)

    def notify(self, thread_id: str) -> None:
        """Tell the supervisor to look at a thread now. A hint: without it the next sweep finds the thread."""
        self._supervisors.notify(thread_id)

    def close(self) -> None:
        """Disconnect. Threads go on. Closing twice does nothing."""
        if not self._closed:
            self._closed = True
            self.store.close()
            self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside --------------------------------------------------------------------------------------------------

    def _begin(self, graph: CompiledGraph, input: Any, thread_id: str) -> ThreadHandle:
        # Whatever code the client brings along for graphs of its user's, this one is Perdure's own.
        return self.submit(graph, input, thread_id=thread_id, if_exists="attach", runtime_env={})

    def _shipped(self, graph: CompiledGraph) -> GraphRecord:
        return self._all_shipped([graph])[0]

    def _all_shipped(self, graphs: Sequence[CompiledGraph]) -> list[GraphRecord]:
        submissions = [self._submission(graph, Wishes()) for graph in graphs]
        for submission in submissions:
            self._ship(submission)
        return [submission.shipped for submission in submissions]

    def _handle(
        self, thread_id: str, run: int, graph: CompiledGraph | None, clock: Clock | None = None
    ) -> ThreadHandle:
        return ThreadHandle(
            self.store,
            thread_id,
            run,
            notify=self.notify,
            stalled=self._supervisors.stalled,
            graph=graph,
            cache=self._cache,
            clock=clock,
        )

    def _check_store(self, graph: CompiledGraph) -> None:
        own = graph.checkpointer
        if own is not None and own.url != self.store.url:
            raise StoreMisuse(
                f"graph {graph.name!r} was compiled with the store {redacted(own.url)}, but this client is connected "
                f"to {redacted(self.store.url)}; compile it without a checkpointer to submit it, or connect to its "
                "store"
            )

    def _submission(self, graph: CompiledGraph, wishes: Wishes) -> Submission:
        self._check_store(graph)
        given = wishes.runtime_env
        code = self._code if given is None else (pack_code(given) if given else None)
        return Submission(
            graph=graph,
            shipped=ship(graph, signing_key=self._settings.signing_key, local=self._local, code=code),
            package=code.package if code is not None else None,
            clock=self._clock,
            options=wishes.run_options(graph),
            retention=wishes.retention,
            isolation=wishes.isolation,
        )

    def _ship(self, submission: Submission) -> None:
        self._announce()
        if submission.package is not None:
            self.store.put_graph(submission.package)
        self.store.put_graph(submission.shipped)

    def _arrived(self, rows: Sequence[ThreadRecord]) -> None:
        self._announce()
        self._submitted(rows)

    def _submitted(self, rows: Sequence[ThreadRecord]) -> None:
        """Tell the supervisors of new threads, with what they have to know of the rows, so that they need not read
        them."""
        self._supervisors.submitted([replace(row, metadata={}, tags=(), retention=None) for row in rows])

    def _go_on(
        self, record: ThreadRecord, message: Message, if_exists: IfExists, if_busy: IfBusy, shipped: GraphRecord
    ) -> int:
        """The run of a thread that is there already."""
        present = self.store.thread(record.thread_id)
        if if_exists == "attach":
            return present.runs
        if present.driver == LOADING:
            raise ThreadHeld(record.thread_id, "no run of it can begin yet")
        if present.driver != SERVICE:
            raise ClientError(
                f"thread {record.thread_id!r} is driven by invoke() in somebody's process; submit to another thread"
            )
        if present.graph != record.graph:
            raise ClientError(
                f"thread {record.thread_id!r} belongs to graph {present.graph!r}; "
                f"submit {record.graph!r} to another thread"
            )
        return self._continue(record.thread_id, message, if_busy, shipped)

    def _continue(self, thread_id: str, message: Message, if_busy: IfBusy, graph: GraphRecord) -> int:
        statuses = frozenset(Status)
        if if_busy == "reject":
            statuses = ENDED
        elif if_busy == "interrupt":
            message = Message(
                message_id=message.message_id, kind=REPLACE, payload=message.payload, created_at=message.created_at
            )
        try:
            return self.store.deliver(thread_id, message, Expect(statuses=statuses), graph=graph).run
        except Refused as refusal:
            raise ThreadBusy(thread_id, refusal.status) from refusal

    def _remove(self, thread_id: str) -> None:
        try:
            delete_thread(self.store, thread_id)
        except Refused as refusal:
            raise ThreadBusy(thread_id, f"{refusal.status}; cancel it before it can be restarted") from refusal


def _named(inputs: Iterable[Any], thread_ids: Iterable[str] | None) -> Iterator[tuple[str | None, Any]]:
    """Each input with the id of its thread, None for a new one. Raises `InputError` where there are more of one."""
    if thread_ids is None:
        yield from ((None, one) for one in inputs)
        return
    given, names = list(inputs), list(thread_ids)
    if len(given) != len(names):
        raise InputError(f"submit_many was given {len(given)} inputs and {len(names)} thread ids; give one for each")
    yield from zip(names, given, strict=True)
