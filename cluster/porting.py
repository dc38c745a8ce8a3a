"""Threads in files: whole ones are taken out of a store, and brought into another."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..actors.shipping import package_of
from ..runtime.compiled import CompiledGraph
from ..stores.backed import BackedStore
from ..stores.base import CheckpointStore
from ..stores.copying import Copied
from ..stores.exporting import export_threads
from ..stores.importing import Imported, OnConflict, import_threads
from ..stores.keys import Keyring, KeySource
from ..stores.records import SERVICE, GraphRecord, ThreadRecord
from ..stores.renamed_threads import Rename
from ..stores.thread_file_reading import ThreadFile
from ..stores.thread_file_writing import ThreadFileWriter
from ..stores.urls import vault_with
from ..stores.vault import PlainVault, Vault
from .choosing import Choice, Where, chosen
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
    """Threads that were deleted after they had been chosen, and are not in it."""


def ids_of(store: CheckpointStore, where: Where | None) -> list[str]:
    """The ids of the threads that are chosen; of all without a condition, re-runs and batches among them. Raises
    `InputError`, `UnknownThread`."""
    if not where:
        return [row.thread_id for row in Reader(store).threads()]
    return [row.thread_id for row in chosen(store, Choice.of(where), limit=None, sample=None, seed="")]


def write_threads(
    store: CheckpointStore, path: Path, thread_ids: Iterable[str], *, plaintext: bool = False, replace: bool = False
) -> Iterator[Copied]:
    """Write a file of threads, which is there whole or not at all; yields how far it has come. See
    `Client.export_threads`."""
    check_target(path, replace=replace)
    try:
        with beside(path, replace=replace) as part, part.open("r+b") as file:
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
        where: Where | None = None,
        *,
        plaintext: bool = False,
        replace: bool = False,
    ) -> Exported:
        """Write whole threads to one file, for `import_threads` of any other store: their checkpoints, runs, messages
        (read and unread), names, retention, metadata, and the records of their graphs.

        Those that `where` chooses (see `Where`), by default all. None is stopped: a thread that runs is written as it
        is after its last commit. A fork refers to its origin if that goes along; if
        not, what it has of that is written as its own. The file is sealed with the active key of the store if that is
        encrypted; with `plaintext` it is not, and whoever has it can read it all. A file that is there is only replaced
        with `replace`.

        Raises `UnknownThread`, `InputError`, `ClientError` where the file cannot be written, `StoreMisuse` for a thread
        that is still being copied in, `Corrupt`, `NewerFormat`, `StoreUnavailable`; then there is no file.
        """
        wanted = ids_of(self.store, where)
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
            graphs=lambda: {shipped.name: shipped for shipped in self._all_shipped(graphs)},
        )
        # One that has ended and been deleted since is none to tell of.
        rows = self.store.find(done.thread_ids).values()
        self._arrived([row for row in rows if row.driver == SERVICE and row.status.runnable])
        return done

    @abstractmethod
    def _all_shipped(self, graphs: Sequence[CompiledGraph]) -> list[GraphRecord]:
        """Graphs' records, once they are all in the store: none is put there if one of them cannot be."""

    @abstractmethod
    def _arrived(self, rows: Sequence[ThreadRecord]) -> None:
        """Tell the service of threads that are to run."""
