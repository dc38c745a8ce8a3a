"""The saver itself: LangGraph's interface over the parts."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.errors import StoreMisuse
from ..stores.urls import open_store
from .claims import Claims
from .copying import copy_thread, delete_thread
from .listing import Listing
from .memory import Memory
from .places import Place, all_places, places_of
from .pruning import Pruner
from .reader import Found, Reader, TaskWrite
from .rebuilding import delta_history
from .values import Values
from .writer import Writer

STRATEGIES = ("keep_latest", "delete")
"""What `prune` takes."""


class PerdureSaver(BaseCheckpointSaver[str]):
    """Keeps LangGraph's checkpoints in a Perdure store.

        with PerdureSaver("sqlite:///agents.db") as saver:
            graph = builder.compile(checkpointer=saver)

    `store` is a store's URL, or a store that is open (and stays open when the saver is closed). `serde` is asked for
    what the codec cannot store; one of another class than LangGraph's `JsonPlusSerializer` is asked for everything.
    `cache_bytes` bounds what is remembered of values to find out what changed of them (default 64 MiB). `patience` is
    how long a call goes on trying while the store is away or others write the thread (default 30 s).

    Any number of processes may use one store, and one thread. Every put and put_writes is durable when it returns. The
    async methods run the sync ones in threads. Raises `StoreMisuse` for a URL that is none, and what opening it may
    raise; all methods raise the stores' errors (`StoreUnavailable`, `StoreFull`, `Corrupt`, `Unencodable`, ...).
    """

    def __init__(
        self,
        store: CheckpointStore | str,
        *,
        serde: SerializerProtocol | None = None,
        cache_bytes: int = 64 << 20,
        patience: timedelta = timedelta(seconds=30),
    ) -> None:
        super().__init__(serde=serde)
        self._owned = isinstance(store, str)
        self.store = open_store(store) if isinstance(store, str) else store
        """Where everything is kept."""
        self._codec = Codec()
        self._memory = Memory(cache_bytes)
        self._patience = patience

    @classmethod
    def from_conn_string(cls, conn_string: str, **options: Any) -> Self:
        """The same as `PerdureSaver(url, ...)`, for programs that open LangGraph's savers so."""
        return cls(conn_string, **options)

    def setup(self) -> None:
        """Nothing: a store is set up when it is opened. For programs that call it on LangGraph's savers."""

    def close(self) -> None:
        """Close the store if it was opened by its URL. Closing twice does nothing."""
        if self._owned:
            self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    # -- reading -----------------------------------------------------------------------------------------------------

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that the config names, or the newest of its thread and namespace; None if there is none."""
        place, checkpoint_id = _place(config), get_checkpoint_id(config)
        reader = self._reader()
        asked = reader.asked_for(place, checkpoint_id)
        return None if asked is None else self._tuple(reader, asked[0], reader.writes(*asked))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, the newest (by id) first: of a thread and namespace, of all namespaces of a thread, or (without
        a config) of all threads; those whose metadata equals `filter`, older than `before`, at most `limit`."""
        reader = self._reader()
        listing = Listing(reader, before=get_checkpoint_id(before) if before else None, equal=filter or {})
        only = get_checkpoint_id(config) if config else None
        pages = [listing.of(place, only) for place in self._places(config)]
        left = limit
        for found, writes in heapq.merge(*pages, key=lambda each: each[0].record.id, reverse=True):
            if left is not None and left <= 0:
                return
            each = self._tuple(reader, found, writes)
            if each is not None:
                left = None if left is None else left - 1
                yield each

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What delta channels are rebuilt from: their last whole values among the checkpoint's ancestors, and what was
        written since."""
        place, checkpoint_id = _place(config), get_checkpoint_id(config)
        reader = self._reader()
        asked = reader.asked_for(place, checkpoint_id)
        return delta_history(reader, *asked, channels) if asked else {channel: {"writes": []} for channel in channels}

    # -- writing -----------------------------------------------------------------------------------------------------

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep a checkpoint; its parent is the one that the config names. Of the channels, those in `new_versions` are
        written. Put again under the same id, it replaces the one before. Returns the config that names it."""
        place = _place(config)
        about = get_checkpoint_metadata(config, metadata)
        self._writer().put(place, checkpoint, about, new_versions, get_checkpoint_id(config) or "")
        return _config(place, checkpoint["id"])

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep what a task wrote at the checkpoint that the config names, whether that was put already or not. Of a
        task's regular writes the first of each place counts, of special ones (errors, interrupts, ...) the last."""
        checkpoint_id = config["configurable"]["checkpoint_id"]
        if writes:
            self._writer().put_writes(_place(config), checkpoint_id, task_id, task_path, writes)

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread with all its namespaces. Deleting what is not there does nothing."""
        delete_thread(self.store, str(thread_id))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread with all its namespaces. Raises `ThreadExists` if there is a target; no source, no copy."""
        copy_thread(self.store, str(source_thread_id), str(target_thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of some runs, with what was written to them. Looks at every checkpoint of the store.

        What younger checkpoints rebuild delta channels from is kept for that alone, and not shown any more.
        """
        runs = _several("run_ids", run_ids)
        if not runs:
            return
        pruner = Pruner(self._writer())
        reader = self._reader()

        def others(found: Sequence[Found]) -> Sequence[Found]:
            return [each for each in found if str(reader.metadata(each).get("run_id")) not in runs]

        for place in all_places(self.store):
            pruner.prune(place, others)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """`keep_latest`: drop all but the newest checkpoint of each namespace; `delete`: the threads.

        What the newest rebuilds delta channels from is kept for that alone, and not shown any more. Safe while the
        threads are written. Raises `StoreMisuse` for another strategy.
        """
        if strategy not in STRATEGIES:
            raise StoreMisuse(f"{strategy!r} is no strategy of prune; choose {' or '.join(STRATEGIES)}")
        pruner = Pruner(self._writer())
        for thread in _several("thread_ids", thread_ids):
            if strategy == "delete":
                delete_thread(self.store, thread)
                continue
            for place in places_of(self.store, thread):
                pruner.prune(place, _newest)

    def get_next_version(self, current: str | None, channel: None) -> str:
        """The version after `current`, in the form of LangGraph's own savers: threads may come from or go to them."""
        last = 0 if current is None else int(str(current).partition(".")[0])
        return f"{last + 1:032}.{random.random():016}"

    # -- async: the same, in a thread --------------------------------------------------------------------------------

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """`get_tuple`."""
        return await asyncio.to_thread(self.get_tuple, config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """`list`."""
        found = self.list(config, filter=filter, before=before, limit=limit)
        while (each := await asyncio.to_thread(next, found, None)) is not None:
            yield each

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """`get_delta_channel_history`."""
        return await asyncio.to_thread(self.get_delta_channel_history, config=config, channels=channels)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """`put`."""
        return await asyncio.to_thread(self.put, config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """`put_writes`."""
        await asyncio.to_thread(self.put_writes, config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        """`delete_thread`."""
        await asyncio.to_thread(self.delete_thread, thread_id)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """`copy_thread`."""
        await asyncio.to_thread(self.copy_thread, source_thread_id, target_thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """`delete_for_runs`."""
        await asyncio.to_thread(self.delete_for_runs, run_ids)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """`prune`."""
        await asyncio.to_thread(self.prune, thread_ids, strategy=strategy)

    # -- parts -------------------------------------------------------------------------------------------------------

    def _reader(self) -> Reader:
        # Made for each call: LangGraph clones savers and gives the clones other serializers.
        return Reader(self.store, Values(self._codec, self.serde), self._memory.seqs)

    def _writer(self) -> Writer:
        return Writer(Claims(self.store, self._reader(), self._memory, self._patience))

    def _places(self, config: RunnableConfig | None) -> Iterator[Place]:
        if config is None:
            return all_places(self.store)
        if "checkpoint_ns" in config["configurable"]:
            return iter([_place(config)])
        return iter(places_of(self.store, _place(config).thread))

    def _tuple(self, reader: Reader, found: Found, writes: Sequence[TaskWrite]) -> CheckpointTuple | None:
        values = reader.channels(found)
        if values is None:
            return None
        place, record = found.place, found.record
        checkpoint: Checkpoint = {**reader.body(found), "channel_values": values}  # type: ignore[typeddict-item]
        return CheckpointTuple(
            config=_config(place, record.id),
            checkpoint=checkpoint,
            metadata=reader.metadata(found),  # type: ignore[arg-type]
            parent_config=_config(place, record.parent_id) if record.parent_id else None,
            pending_writes=[reader.decoded(place, write) for write in writes],
        )


def _place(config: RunnableConfig) -> Place:
    configurable = config.get("configurable", {})
    if configurable.get("thread_id") is None:
        raise StoreMisuse("a saver needs to know the thread: give config={'configurable': {'thread_id': ...}}")
    return Place(str(configurable["thread_id"]), configurable.get("checkpoint_ns") or "")


def _config(place: Place, checkpoint_id: str) -> RunnableConfig:
    named = {"thread_id": place.thread, "checkpoint_ns": place.namespace, "checkpoint_id": checkpoint_id}
    return {"configurable": named}


def _several(what: str, given: Sequence[str]) -> dict[str, None]:
    """Each once, in order."""
    if isinstance(given, str):
        raise StoreMisuse(f"{what} takes a list of ids, not one: [{given!r}]")
    return dict.fromkeys(map(str, given))


def _newest(found: Sequence[Found]) -> Sequence[Found]:
    return [max(found, key=lambda each: each.record.id)] if found else []
