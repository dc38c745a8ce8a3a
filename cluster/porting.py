"""Threads in files: whole ones are taken out of a store, and brought into another."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..actors.shipping import package_of
from ..runtime.compiled import CompiledGraph
from ..runtime.errors import InputError
from ..stores.backed import BackedStore
from ..stores.base import CheckpointStore
from ..stores.copying import Copied
from ..stores.exporting import export_threads
from ..stores.importing import Imported, OnConflict, Rename, import_threads
from ..stores.keys import Keyring, KeySource
from ..stores.records import SERVICE, GraphRecord, Status, ThreadRecord
from ..stores.thread_file_reading import ThreadFile
from ..stores.thread_file_writing import ThreadFileWriter
from ..stores.urls import vault_with
from ..stores.vault import PlainVault, Vault
from .dataset_file import beside, check_target
from .errors import ClientError
from .reader import Reader


@dataclass(slots=True, kw_only=True)
class Exported:
    """A file of threads that was written."""

    path: Path
    threads: int
    segments: int
    size: int
    """Bytes of the file."""
    gone: list[str]
    """Threads that were deleted while it was written, and are not in it."""


def chosen(store: CheckpointStore, thread_ids: Sequence[str] | None, **conditions: Any) -> list[str]:
    """The ids of the threads that were asked for: those given, or those for which the conditions of `Client.threads`
    hold. Raises `InputError` where both are given."""
    if isinstance(thread_ids, str):
        raise InputError(f"thread_ids is {thread_ids!r}; give a list of ids")
    if thread_ids is None:
        return [row.thread_id for row in Reader(store).threads(**conditions)]
    if any(condition for condition in conditions.values()):
        raise InputError("give either ids of threads or conditions (status, graph, tag, metadata), not both")
    return list(thread_ids)


def write_threads(
    store: CheckpointStore, path: Path, thread_ids: Iterable[str], *, plaintext: bool = False, replace: bool = False
) -> Iterator[Copied]:
    """Write a file of threads, which is there whole or not at all; yields how far it has come. See
    `Client.export_threads`."""
    check_target(path, replace=replace)
    try:
        with beside(path) as part, part.open("r+b") as file:
            writer = ThreadFileWriter(file, PlainVault() if plaintext else _vault_of(store), f"file {path}")
            yield from export_threads(store, writer, thread_ids, package_of)
    except OSError as error:
        raise ClientError(f"{path} cannot be written: {error}") from error


def read_threads(
    store: CheckpointStore,
    path: Path,
    *,
    on_conflict: OnConflict = "refuse",
    rename: Rename | None = None,
    keys: Keyring | KeySource | None = None,
    graphs: Callable[[], Mapping[str, GraphRecord]] = dict,
) -> Iterator[Imported]:
    """Bring the threads of a file into a store; yields how far it has come. See `Client.import_threads`."""
    with ThreadFile(path, vault_with(keys) if keys is not None else _vault_of(store)) as file:
        yield from import_threads(file, store, time.time(), on_conflict=on_conflict, rename=rename, graphs=graphs)


def _vault_of(store: CheckpointStore) -> Vault:
    """What seals the store's payloads. A memory store in an actor has no keys."""
    return store.vault if isinstance(store, BackedStore) else PlainVault()


class ThreadFiles(ABC):
    """The part of `Client` that exports and imports threads."""

    store: CheckpointStore

    def export_threads(
        self,
        path: str | Path,
        thread_ids: Sequence[str] | None = None,
        *,
        status: Status | str | Sequence[Status | str] | None = None,
        graph: str | None = None,
        tag: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        plaintext: bool = False,
        replace: bool = False,
    ) -> Exported:
        """Write whole threads to one file, for `import_threads` of any other store: their checkpoints, runs, messages
        (read and unread), names, retention, metadata, and the records of their graphs.

        Those of `thread_ids`, else those for which every condition that is given holds, else all. None is stopped: a
        thread that runs is written as it is after its last commit. A fork refers to its origin if that goes along; if
        not, what it has of that is written as its own. The file is sealed with the active key of the store if that is
        encrypted; with `plaintext` it is not, and whoever has it can read it all. A file that is there is only replaced
        with `replace`.

        Raises `UnknownThread`, `InputError`, `ClientError` where the file cannot be written, `StoreMisuse` for a thread
        that is still being copied in, `Corrupt`, `NewerFormat`, `StoreUnavailable`; then there is no file.
        """
        wanted = chosen(self.store, thread_ids, status=status, graph=graph, tag=tag, metadata=metadata)
        *_, done = write_threads(self.store, Path(path), wanted, plaintext=plaintext, replace=replace)
        size = Path(path).stat().st_size
        return Exported(path=Path(path), threads=done.threads, segments=done.segments, size=size, gone=done.gone)

    def import_threads(
        self,
        path: str | Path,
        *,
        on_conflict: OnConflict = "refuse",
        rename: Rename | None = None,
        graphs: Sequence[CompiledGraph] = (),
        keys: Keyring | KeySource | None = None,
    ) -> Imported:
        """Bring the threads of a file into this store. No thread that is there is ever overwritten.

        Where the id of one is taken, "refuse" raises `ThreadExists` before anything is written, "skip" leaves that one
        out. `rename` gives threads other ids: a dict from old to new ones, or a function. Threads that had not ended go
        on here; `graphs` is the code for those of these names, in place of what the file names, which this cluster may
        not have or not trust. `keys` open a file that was sealed with other keys than this store's; its threads are
        sealed anew. All of the file is checked first. Until all threads are there they are held: nobody runs them. An
        import that broke off goes on when it is called again alike.

        Raises `Corrupt`, `NewerFormat`, `MissingKey`, `StoreMisuse` for a file that cannot be read, or new ids that do
        not fit; then nothing was written. `GraphNotShippable`, `StoreUnavailable`.
        """
        *_, done = read_threads(
            self.store,
            Path(path),
            on_conflict=on_conflict,
            rename=rename,
            keys=keys,
            graphs=lambda: {graph.name: self._put(graph) for graph in graphs},
        )
        rows = [self.store.thread(thread_id) for thread_id in done.thread_ids]
        self._arrived([row for row in rows if row.driver == SERVICE and row.status.runnable])
        return done

    @abstractmethod
    def _put(self, graph: CompiledGraph) -> GraphRecord:
        """Put a graph's code into the store."""

    @abstractmethod
    def _arrived(self, rows: Sequence[ThreadRecord]) -> None:
        """Tell the service of threads that are to run."""
