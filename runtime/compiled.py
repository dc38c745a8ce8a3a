"""A compiled graph: run it in this process, read and change its threads. LangGraph's signatures."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextvars import copy_context
from functools import cached_property
from typing import Any, TypeAlias

from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.errors import UnknownThread
from ..stores.records import Status, ThreadRecord
from .clock import SystemClock
from .commands import Command
from .config import Config, read_config
from .errors import CheckpointNotFound, InputError, NotInterrupted, PerdureError
from .failures import as_error
from .inprocess import InProcess
from .local import LocalExecutor
from .loop import Settled
from .objects import run_without_store
from .payloads import INPUT, REPLACE, RESUME, RETRY, UPDATE, InputPayload, pack, pack_input
from .portal import BackgroundLoop, LoopPortal, Portal
from .ports import Observer, StepEvent
from .snapshots import SnapshotReader, StateSnapshot, config_of
from .stream import events_of, read_modes
from .topology import Topology

ConfigDict: TypeAlias = Mapping[str, Any]


class CompiledGraph:
    """A graph that is ready to run.

    `invoke`, `stream` and their async forms run it in this process; `client.submit(graph, ...)` runs it on a Ray cluster.
    With a store each run belongs to the thread that `config={"configurable": {"thread_id": ...}}` names.
    """

    def __init__(self, topology: Topology, checkpointer: CheckpointStore | None = None) -> None:
        self.topology = topology
        self.checkpointer = checkpointer
        self._portal_lock = threading.Lock()
        self._portal: BackgroundLoop | None = None

    def __repr__(self) -> str:
        return f"CompiledGraph({self.name!r}, version {self.version!r}, nodes {list(self.topology.nodes)})"

    def __reduce__(self) -> tuple[Callable[[Topology], CompiledGraph], tuple[Topology]]:
        # A graph travels without its store: whoever runs it elsewhere brings the store of that place.
        return CompiledGraph, (self.topology,)

    @property
    def name(self) -> str:
        """The graph's name."""
        return self.topology.name

    @property
    def version(self) -> str:
        """The graph's version."""
        return self.topology.version

    @cached_property
    def codec(self) -> Codec:
        """Encodes the graph's values; builds only the classes that its schemas and its allow-list name."""
        return Codec(self.topology.types)

    # -- running -------------------------------------------------------------------------------------------------

    def invoke(
        self,
        input: Any,
        config: ConfigDict | None = None,
        *,
        durability: str | None = None,
        interrupt_before: Sequence[str] | str | None = None,
        interrupt_after: Sequence[str] | str | None = None,
    ) -> dict[str, Any]:
        """Run to the end or to the next interrupt, and return the output values.

        `input` is the run's input; `Command(resume=...)` answers an interrupt; None goes on where the thread stopped. A
        thread that stopped for an answer has its open interrupts under the key `__interrupt__`. `durability` is "async"
        (default), "sync" or "exit".

        Raises what the failing node raised; `InputError`, `GraphRecursionError`, `ThreadBusy`, `UnknownThread`.
        """
        given = self._config(config, durability, interrupt_before, interrupt_after)
        return self._values(self._run(input, given, None, self._sync_portal))

    def stream(
        self,
        input: Any,
        config: ConfigDict | None = None,
        *,
        stream_mode: str | Sequence[str] = "values",
        durability: str | None = None,
        interrupt_before: Sequence[str] | str | None = None,
        interrupt_after: Sequence[str] | str | None = None,
    ) -> Iterator[Any]:
        """Run as `invoke` does, yielding each step once it is durable.

        Mode `values` yields the output values after each step, `updates` a dict of node and update for each task; a list
        of modes yields (mode, event).
        """
        modes = read_modes(stream_mode)
        given = self._config(config, durability, interrupt_before, interrupt_after)
        inbox: queue.SimpleQueue[StepEvent | BaseException | None] = queue.SimpleQueue()
        context = copy_context()

        def work() -> None:
            try:
                self._values(context.run(self._run, input, given, inbox.put, self._sync_portal))
                inbox.put(None)
            except BaseException as error:  # noqa: BLE001 — raised again where the stream is read
                inbox.put(error)

        worker = threading.Thread(target=work, name="perdure-stream", daemon=True)
        worker.start()
        while (event := inbox.get()) is not None:
            if isinstance(event, BaseException):
                raise event
            yield from events_of(event, modes, self.topology.output.select)
        worker.join()

    async def ainvoke(self, input: Any, config: ConfigDict | None = None, **options: Any) -> dict[str, Any]:
        """`invoke` for async callers: async nodes run on the caller's event loop, sync ones on a thread of their own."""
        given = self._config(config, *_run_options(options))
        portal = LoopPortal(asyncio.get_running_loop())
        settled = await asyncio.to_thread(self._run, input, given, None, lambda: portal)
        return self._values(settled)

    async def astream(
        self, input: Any, config: ConfigDict | None = None, *, stream_mode: str | Sequence[str] = "values", **options: Any
    ) -> AsyncIterator[Any]:
        """`stream` for async callers."""
        modes = read_modes(stream_mode)
        given = self._config(config, *_run_options(options))
        loop = asyncio.get_running_loop()
        portal = LoopPortal(loop)
        inbox: asyncio.Queue[StepEvent | None] = asyncio.Queue()

        def tell(event: StepEvent | None) -> None:
            loop.call_soon_threadsafe(inbox.put_nowait, event)

        def work() -> Settled:
            try:
                return self._run(input, given, tell, lambda: portal)
            finally:
                tell(None)

        running = asyncio.ensure_future(asyncio.to_thread(work))
        while (event := await inbox.get()) is not None:
            for item in events_of(event, modes, self.topology.output.select):
                yield item
        self._values(await running)

    # -- reading and changing ------------------------------------------------------------------------------------

    def get_state(self, config: ConfigDict) -> StateSnapshot:
        """The newest state of the thread, or the one of the checkpoint that `config` names.

        A thread that does not exist has an empty state. Raises `CheckpointNotFound`.
        """
        given = self._thread_config(config)
        try:
            reader = self._reader(given.thread_id)
        except UnknownThread:
            if given.checkpoint:
                raise CheckpointNotFound(given.thread_id, str(given.checkpoint)) from None
            return StateSnapshot({}, (), {"configurable": {"thread_id": given.thread_id}}, {}, "", None, (), ())
        return reader.at(given.checkpoint) if given.checkpoint else reader.head()

    def get_state_history(
        self,
        config: ConfigDict,
        *,
        filter: Mapping[str, Any] | None = None,
        before: ConfigDict | None = None,
        limit: int | None = None,
    ) -> Iterator[StateSnapshot]:
        """The thread's states, newest first. `filter` names metadata that must be equal, `before` a checkpoint."""
        given = self._thread_config(config)
        until = read_config(before).checkpoint if before else None
        try:
            reader = self._reader(given.thread_id)
        except UnknownThread:
            return
        yield from reader.history(where=filter, before=until, limit=limit)

    def update_state(self, config: ConfigDict, values: Any, as_node: str | None = None) -> dict[str, Any]:
        """Change the state through its reducers, as if `as_node` had returned `values`; without it the tasks that are to
        run next stay as they are. A config that names a checkpoint forks from there. Nothing is run.

        Returns the config of the new checkpoint. Raises `InvalidUpdateError`, `ThreadBusy`, `CheckpointNotFound`.
        """
        given = self._thread_config(config)
        self.check_update(values, as_node)
        if given.checkpoint:
            self.get_state(config)
        runner = self._runner(given)
        runner.send(given.thread_id, UPDATE, pack(self.codec, values, as_node, given.checkpoint))
        runner.run(given.thread_id)
        return config_of(given.thread_id, self._store().thread(given.thread_id).head)

    def check_update(self, values: Any, as_node: str | None) -> None:
        """Refuse an update from outside that cannot be applied. Raises `InvalidUpdateError`, `StateValidationError`."""
        from_node = as_node or "update_state"
        self.topology.state.updates(values, from_node)
        if as_node is not None and as_node not in self.topology.nodes and as_node not in self.topology.edges:
            known = ", ".join(map(repr, self.topology.nodes))
            raise InputError(f"as_node={as_node!r} is no node of graph {self.name!r}; its nodes are {known}")

    # -- inside --------------------------------------------------------------------------------------------------

    def _run(self, input: Any, given: Config, observer: Observer | None, portal: Callable[[], Portal]) -> Settled:
        executor = lambda: LocalExecutor(portal)  # noqa: E731 — a factory, read once
        if self.checkpointer is None:
            if input is None or isinstance(input, Command):
                raise InputError("this graph was compiled without a store, so it has no thread that could go on")
            self.topology.input.updates(input, "")
            return run_without_store(
                self.topology, input, given.options, clock=SystemClock(), executor=executor, observer=observer
            )
        if not given.thread_id:
            raise InputError("name the thread: config={'configurable': {'thread_id': ...}}")
        runner = self._runner(given, executor)
        if input is None:
            self._go_on(runner, given)
        elif isinstance(input, Command):
            self._answer(runner, given, input)
        else:
            self.topology.input.updates(input, "")
            kind = REPLACE if self._exists(given.thread_id) else INPUT
            runner.send(given.thread_id, kind, pack_input(self.codec, InputPayload(input, given.options)))
        return runner.run(given.thread_id, observer)

    def _go_on(self, runner: InProcess, given: Config) -> None:
        record = self._store().thread(given.thread_id)
        if given.checkpoint:
            self.get_state(config_of(given.thread_id, given.checkpoint))
            runner.send(given.thread_id, UPDATE, pack(self.codec, None, None, given.checkpoint))
            runner.send(given.thread_id, RESUME, pack(self.codec, "", None, None))
        elif record.status is Status.FAILED:
            runner.send(given.thread_id, RETRY, b"")
        elif record.status in (Status.PAUSED, Status.INTERRUPTED) and not record.waits:
            runner.send(given.thread_id, RESUME, pack(self.codec, "", None, None))

    def _answer(self, runner: InProcess, given: Config, command: Command[Any]) -> None:
        record = self._store().thread(given.thread_id)
        if command.goto:
            raise InputError("Command(goto=...) cannot be given to invoke; use update_state(config, ..., as_node=...)")
        for interrupt_id, answer in answers_of(command.resume, record).items():
            payload = pack(self.codec, interrupt_id, answer, command.update)
            runner.send(given.thread_id, RESUME, payload, statuses=_ANSWERABLE, wait=interrupt_id)

    def _values(self, settled: Settled) -> dict[str, Any]:
        if settled.exception is not None:
            raise settled.exception
        if settled.failure is not None:
            raise as_error(settled.failure, self.name, "")
        values = self.topology.output.select(settled.position.values)
        stops = [stop for task in settled.position.next for stop in settled.position.stops.get(task.path, ())]
        if settled.status is Status.PAUSED and settled.position.paused:
            raise PerdureError(f"the thread is paused: {settled.position.paused}")
        return {**values, "__interrupt__": stops} if stops else values

    def _runner(self, given: Config, executor: Callable[[], LocalExecutor] | None = None) -> InProcess:
        return InProcess(
            topology=self.topology,
            store=self._store(),
            codec=self.codec,
            clock=SystemClock(),
            executor=executor or (lambda: LocalExecutor(self._sync_portal)),
            metadata=given.options.metadata,
            tags=given.options.tags,
        )

    def _sync_portal(self) -> Portal:
        with self._portal_lock:
            if self._portal is None:
                self._portal = BackgroundLoop()
            return self._portal

    def _reader(self, thread_id: str) -> SnapshotReader:
        return SnapshotReader(self._store(), self._store().thread(thread_id), self.codec)

    def _exists(self, thread_id: str) -> bool:
        try:
            self._store().thread(thread_id)
        except UnknownThread:
            return False
        return True

    def _store(self) -> CheckpointStore:
        if self.checkpointer is None:
            raise InputError("this graph was compiled without a store; give compile(checkpointer=open_store(url)) one")
        return self.checkpointer

    def _config(
        self,
        config: ConfigDict | None,
        durability: str | None = None,
        before: Sequence[str] | str | None = None,
        after: Sequence[str] | str | None = None,
    ) -> Config:
        return read_config(config, durability=durability, interrupt_before=before, interrupt_after=after)

    def _thread_config(self, config: ConfigDict) -> Config:
        given = read_config(config)
        if not given.thread_id:
            raise InputError("name the thread: config={'configurable': {'thread_id': ...}}")
        return given


_ANSWERABLE = frozenset({Status.INTERRUPTED, Status.QUEUED, Status.RUNNING, Status.PAUSED})


def answers_of(resume: Any, record: ThreadRecord) -> dict[str, Any]:
    """Which open interrupt each answer is for. Raises `NotInterrupted`, `InputError` where several wait and none is named."""
    if not record.waits:
        raise NotInterrupted(record.thread_id, record.status)
    if isinstance(resume, dict) and resume and all(isinstance(key, str) and key in record.waits for key in resume):
        return dict(resume)
    if len(record.waits) > 1:
        raise InputError(
            f"thread {record.thread_id!r} waits at {len(record.waits)} interrupts; answer by id: "
            f"{{{', '.join(f'{wait!r}: ...' for wait in record.waits)}}}"
        )
    return {record.waits[0]: resume}


def _run_options(options: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    known = ("durability", "interrupt_before", "interrupt_after")
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise TypeError(f"unexpected keyword argument {unknown[0]!r}; known are {', '.join(known)}")
    return tuple(options.get(name) for name in known)  # type: ignore[return-value]  # three names, three values
