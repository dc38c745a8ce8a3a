"""A compiled graph: run it in this process, read and change its threads. LangGraph's signatures."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextvars import copy_context
from functools import cached_property
from typing import Any

from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.records import Status
from .cache import CacheOptions, ReadCache
from .checkpoints import Checkpoints
from .clock import SystemClock
from .commands import Command
from .config import Config, read_config
from .errors import InputError, PerdureError
from .failures import as_error
from .inprocess import InProcess
from .local import CallerLoop, LocalExecutor
from .objects import run_without_store
from .options import named_nodes
from .portal import BackgroundLoop, Portal, in_thread
from .ports import Gate, Observer, StepEvent
from .requests import ask
from .settled import Settled
from .stream import events_of, read_modes
from .topology import Topology
from .travel import ConfigDict, Travel


class CompiledGraph(Travel):
    """A graph that is ready to run.

    `invoke`, `stream` and their async forms run it in this process; `client.submit(graph, ...)` runs it on a Ray
    cluster. With a store each run belongs to the thread that `config={"configurable": {"thread_id": ...}}` names.
    """

    def __init__(
        self, topology: Topology, checkpointer: CheckpointStore | None = None, cache: CacheOptions | None = None
    ) -> None:
        self.topology = topology
        self.checkpointer = checkpointer
        self._cache = ReadCache(cache)
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
        checkpoints: Checkpoints | None = None,
        interrupt_before: Sequence[str] | str | None = None,
        interrupt_after: Sequence[str] | str | None = None,
    ) -> dict[str, Any]:
        """Run to the end or to the next interrupt, and return the output values.

        `input` is the run's input; `Command(resume=...)` answers an interrupt; None goes on where the thread stopped. A
        thread that stopped for an answer has its open interrupts under the key `__interrupt__`. `durability` is "async"
        (default), "sync" or "exit"; `checkpoints` says which steps become full checkpoints, in place of what the graph
        was compiled with.

        Raises what the failing node raised; `InputError`, `GraphRecursionError`, `ThreadBusy`, `UnknownThread`.
        """
        given = self._config(config, durability, checkpoints, interrupt_before, interrupt_after)
        return self._values(self._run(input, given, None, self._sync_portal))

    def stream(
        self,
        input: Any,
        config: ConfigDict | None = None,
        *,
        stream_mode: str | Sequence[str] = "updates",
        durability: str | None = None,
        checkpoints: Checkpoints | None = None,
        interrupt_before: Sequence[str] | str | None = None,
        interrupt_after: Sequence[str] | str | None = None,
    ) -> Iterator[Any]:
        """Run as `invoke` does, yielding each step once it is durable.

        Mode `updates` yields a dict of node and update for each task, `values` the whole state after each step; a list
        of modes yields (mode, event). Who leaves the stream early stops the run after the step in progress;
        `invoke(None, config)` goes on.
        """
        modes = read_modes(stream_mode)
        given = self._config(config, durability, checkpoints, interrupt_before, interrupt_after)
        inbox: queue.SimpleQueue[StepEvent | BaseException | None] = queue.SimpleQueue()
        context = copy_context()
        gate = Gate()

        def work() -> None:
            try:
                self._values(context.run(self._run, input, given, inbox.put, self._sync_portal, gate))
                inbox.put(None)
            except BaseException as error:  # noqa: BLE001 — raised again where the stream is read
                inbox.put(error)

        worker = threading.Thread(target=work, name="perdure-stream", daemon=True)
        worker.start()
        try:
            while (event := inbox.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield from events_of(event, modes, self.topology.state.complete)
        finally:
            gate.drain = True
            worker.join()

    async def ainvoke(self, input: Any, config: ConfigDict | None = None, **options: Any) -> dict[str, Any]:
        """`invoke` for async callers: async nodes run on the caller's event loop, sync ones on a thread of their own.

        Cancelled, it cancels the async nodes that run, waits for the sync ones, and leaves a thread that
        `ainvoke(None, config)` goes on with.
        """
        given = self._config(config, *_run_options(options))
        return self._values(await self._run_async(input, given, None))

    async def astream(
        self,
        input: Any,
        config: ConfigDict | None = None,
        *,
        stream_mode: str | Sequence[str] = "updates",
        **options: Any,
    ) -> AsyncGenerator[Any, None]:
        """`stream` for async callers, who should close a stream that they leave early (`contextlib.aclosing`)."""
        modes = read_modes(stream_mode)
        given = self._config(config, *_run_options(options))
        loop = asyncio.get_running_loop()
        inbox: asyncio.Queue[StepEvent | None] = asyncio.Queue()

        def tell(event: StepEvent) -> None:
            loop.call_soon_threadsafe(inbox.put_nowait, event)

        running = asyncio.ensure_future(self._run_async(input, given, tell))
        # Called after every event was put: both go through the loop's queue, in order.
        running.add_done_callback(lambda _: inbox.put_nowait(None))
        try:
            while (event := await inbox.get()) is not None:
                for item in events_of(event, modes, self.topology.state.complete):
                    yield item
            self._values(await running)
        finally:
            if not running.done():
                running.cancel()
                await asyncio.wait([running])

    # -- inside --------------------------------------------------------------------------------------------------

    async def _run_async(self, input: Any, given: Config, observer: Observer | None) -> Settled:
        portal, gate = CallerLoop(asyncio.get_running_loop()), Gate()
        running = in_thread(lambda: self._run(input, given, observer, lambda: portal, gate), "perdure-run")
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            gate.drain = True
            portal.stop()
            await asyncio.wait([running])
            raise

    def _run(
        self,
        input: Any,
        given: Config,
        observer: Observer | None,
        portal: Callable[[], Portal],
        gate: Gate | None = None,
    ) -> Settled:
        executor = lambda: LocalExecutor(portal)  # noqa: E731 — a factory, read once
        if self.checkpointer is None:
            if input is None or isinstance(input, Command):
                raise InputError("this graph was compiled without a store, so it has no thread that could go on")
            self.topology.input.updates(input, "")
            return run_without_store(
                self.topology,
                input,
                given.options,
                clock=SystemClock(),
                executor=executor,
                observer=observer,
                gate=gate,
            )
        if not given.thread_id:
            raise InputError("name the thread: config={'configurable': {'thread_id': ...}}")
        runner = self._runner(given, executor)
        ask(runner, given, input)
        return runner.run(given.thread_id, observer, gate)

    def _values(self, settled: Settled) -> dict[str, Any]:
        if settled.exception is not None:
            raise settled.exception
        if settled.failure is not None:
            raise as_error(settled.failure, self.name, "")
        values = self.topology.output.select(settled.position.values)
        stops = list(settled.position.interrupts)
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
            cache=self._cache,
        )

    def _sync_portal(self) -> Portal:
        with self._portal_lock:
            if self._portal is None:
                self._portal = BackgroundLoop()
            return self._portal

    def _config(
        self,
        config: ConfigDict | None,
        durability: str | None = None,
        checkpoints: Checkpoints | None = None,
        before: Sequence[str] | str | None = None,
        after: Sequence[str] | str | None = None,
    ) -> Config:
        given = read_config(
            config, durability=durability, checkpoints=checkpoints, interrupt_before=before, interrupt_after=after
        )
        for nodes in (given.options.interrupt_before, given.options.interrupt_after):
            named_nodes(self.topology, nodes or ())
        return given


def _run_options(options: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
    known = ("durability", "checkpoints", "interrupt_before", "interrupt_after")
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise TypeError(f"unexpected keyword argument {unknown[0]!r}; known are {', '.join(known)}")
    return tuple(options.get(name) for name in known)  # type: ignore[return-value]  # four names, four values
