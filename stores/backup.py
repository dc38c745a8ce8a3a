"""Backups: a folder of SQLite stores, each with a manifest; the first is full, the others hold what changed since.

A backup `000002` is `000002.db`, which is a store that holds threads (all of them held, so that no service runs them),
and `000002.json`, its manifest: what threads there were, in which of the files each one's segments are, and the
checksum of the file. A backup counts once its manifest is there; one that broke off goes on with its file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from .base import CheckpointStore
from .copying import Copied, Source, copy_store, copy_thread, parents_first
from .errors import Corrupt, NewerFormat, StoreMisuse, ThreadExists, UnknownThread
from .operations import ThreadImage
from .records import GraphRecord, Segment, ThreadRecord
from .retention import SETTING

FORMAT = 1
_BASE = "backup_base"
"""Setting of a backup's file: what it adds to."""

OpenFile = Callable[[Path], CheckpointStore]
"""Opens the SQLite store at a path, creating it; with the keys that its payloads are sealed with."""


class Entry(msgspec.Struct, frozen=True):
    """A thread, as the backup has it."""

    created_at: float
    seq: int
    digest: str
    """Of its row: tells whether it has changed since."""
    driver: str
    floor: int
    origin: str
    parts: list[int]
    """Numbers of the backups whose files hold its segments; the last one holds the rest of it."""


class Manifest(msgspec.Struct, frozen=True):
    """A backup."""

    format: int
    number: int
    base: int
    """The backup that this one adds to; 0 for a full one."""
    made_at: float
    file: str
    size: int
    sha256: str
    threads: dict[str, Entry]
    retention: Any = None


@dataclass(slots=True, kw_only=True)
class BackedUp(Copied):
    """What a backup has come to."""

    number: int = 0
    base: int = 0
    unchanged: int = 0
    """Threads that are as the base has them."""


class BackupFolder:
    """The backups in one folder."""

    def __init__(self, path: Path, open_file: OpenFile) -> None:
        self.path = path
        self._open = open_file

    def manifests(self) -> list[Manifest]:
        """All backups, oldest first. Raises `Corrupt`, `NewerFormat`, `StoreMisuse` where the folder cannot be read."""
        try:
            return [_read(path) for path in sorted(self.path.glob("[0-9]*.json"))]
        except OSError as error:
            raise StoreMisuse(f"the backups in {self.path} cannot be read: {error}") from error

    def backup(self, source: Source, now: float, *, full: bool = False) -> Generator[BackedUp, None, None]:
        """Back a store up, at `now` (Unix seconds); yields how far it has come. What changed since the last backup, or
        all of it if this is the first or `full`. Raises what copying does, and `StoreMisuse` for a folder that is no
        place for it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreMisuse(f"{self.path} cannot hold backups: {error}") from error
        known = self.manifests()
        number = known[-1].number + 1 if known else 1
        base = None if full or not known else known[-1]
        done = BackedUp(number=number, base=base.number if base else 0)
        path = self._file(number)
        try:
            entries = yield from self._fill(path, source, base, done)
        except ThreadExists:
            # A thread, or its origin, was deleted since a backup that broke off: what that one left is worth nothing.
            _remove(path)
            entries = yield from self._fill(path, source, base, done)
        path.with_name(path.name + "-lock").unlink(missing_ok=True)
        size, digest = _checksum(path)
        manifest = Manifest(FORMAT, number, done.base, now, path.name, size, digest, entries, source.setting(SETTING))
        _write(self.path / f"{number:06d}.json", msgspec.json.encode(manifest))
        yield done

    def restore(self, target: CheckpointStore, *, number: int | None = None) -> Iterator[Copied]:
        """Bring a backup's threads (by default the last backup's) into a store; yields how far it has come. A restore
        that broke off goes on. Raises `Corrupt` for a file whose checksum is wrong, `StoreMisuse` for a backup that is
        not there."""
        known = {manifest.number: manifest for manifest in self.manifests()}
        chosen = max(known, default=0) if number is None else number
        if chosen not in known:
            there = ", ".join(map(str, known)) or "none"
            raise StoreMisuse(f"there is no backup {number or ''} in {self.path}; those there are: {there}")
        manifest = known[chosen]
        used = sorted({chosen, *(part for entry in manifest.threads.values() for part in entry.parts)})
        self._check(known, used)
        with ExitStack() as opened:
            files = {part: opened.enter_context(self._open(self._file(part))) for part in used}
            yield from copy_store(_BackupSource(manifest, files), target)

    def _fill(
        self, path: Path, source: Source, base: Manifest | None, done: BackedUp
    ) -> Generator[BackedUp, None, dict[str, Entry]]:
        """Fill the backup's file; returns the manifest's entries. Raises `ThreadExists` where the file is of no use."""
        entries: dict[str, Entry] = {}
        rows = {row.thread_id: row for row in source.rows()}
        order = parents_first({row.thread_id: _origin(row) for row in rows.values()})
        done.total, done.threads, done.unchanged = len(order), 0, 0
        with closing(self._open(path)) as file:
            if file.setting(_BASE) not in (None, done.base):
                raise ThreadExists(f"{path.name}, a backup that broke off")
            file.put_setting(_BASE, done.base)
            for key in source.graph_keys():
                file.put_graph(source.graph(key))
            for thread_id in order:
                yield done
                row = rows.pop(thread_id)
                before = base.threads.get(thread_id) if base else None
                if before is not None and before.digest == _digest(row):
                    entries[thread_id] = before
                    done.unchanged += 1
                    done.threads += 1
                    continue
                above = entries.get(_origin(row))
                if above is not None and row.origin is not None and above.seq < row.origin.seq:
                    # Forked since its origin was looked at: that has to be as far.
                    name = row.origin.thread_id
                    further = _add(file, source, name, base.threads.get(name) if base else None, done)
                    entries |= {name: further} if further is not None else {}
                entry = _add(file, source, thread_id, before, done)
                if entry is not None:
                    entries[thread_id] = entry
                    done.threads += 1
        return entries

    def _check(self, known: dict[int, Manifest], used: Sequence[int]) -> None:
        for part in used:
            path = self._file(part)
            if part not in known or not path.exists():
                raise Corrupt(f"{path} is missing: backup {max(known)} needs it")
            if _checksum(path) != (known[part].size, known[part].sha256):
                raise Corrupt(f"{path} is damaged: its checksum is not the one in its manifest")

    def _file(self, number: int) -> Path:
        return self.path / f"{number:06d}.db"


@dataclass(frozen=True, slots=True)
class _BackupSource:
    """A backup, read from its files. A restore that broke off may go on from a later one."""

    fixed = False
    manifest: Manifest
    files: dict[int, CheckpointStore]
    _drivers: dict[str, str] = field(default_factory=dict)

    def rows(self) -> Iterator[ThreadRecord]:
        return map(self.thread, self.manifest.threads)

    def thread(self, thread_id: str) -> ThreadRecord:
        entry = self._entry(thread_id)
        return _as_it_was(self.files[entry.parts[-1]].thread(thread_id), entry)

    def image(self, thread_id: str) -> ThreadImage:
        entry = self._entry(thread_id)
        image = self.files[entry.parts[-1]].image(thread_id)
        return replace(image, thread=_as_it_was(image.thread, entry))

    def segments(
        self, thread_id: str, *, first: int = 1, last: int | None = None, limit: int | None = None
    ) -> list[Segment]:
        found = [
            segment
            for part in self._entry(thread_id).parts
            for segment in self.files[part].segments(thread_id, first=first, last=last, limit=limit)
        ]
        return sorted(found, key=lambda segment: -segment.first)[:limit]

    def graph_keys(self) -> tuple[str, ...]:
        return tuple(sorted({key for file in self.files.values() for key in file.graph_keys()}))

    def graph(self, graph_key: str) -> GraphRecord:
        holder = next(file for file in self.files.values() if graph_key in file.graph_keys())
        return holder.graph(graph_key)

    def setting(self, name: str) -> Any:
        return self.manifest.retention if name == SETTING else None

    def _entry(self, thread_id: str) -> Entry:
        if thread_id not in self.manifest.threads:
            raise UnknownThread(thread_id, f"backup {self.manifest.number}")
        return self.manifest.threads[thread_id]


def _add(file: CheckpointStore, source: Source, thread_id: str, before: Entry | None, done: BackedUp) -> Entry | None:
    """Put what is new of a thread into the backup's file. None if it is gone."""
    while True:
        try:
            row = source.thread(thread_id)
            goes_on = before is not None and _goes_on(before, row)
            after, parts = (before.seq, before.parts) if before is not None and goes_on else (0, [])
            _check_begun(file, row)
            _add_above(file, source, row)
            image = copy_thread(source, file, thread_id, done, after=after)
        except UnknownThread as error:
            if error.thread_id == thread_id:
                done.gone.append(thread_id)
                return None
            if source.thread(thread_id).origin == row.origin:
                raise
            continue  # its origin was deleted, and what it had of that is its own now
        break
    now = image.thread
    if now.created_at != row.created_at or (parts and now.origin != row.origin):
        raise ThreadExists(thread_id)
    numbers = [*parts, done.number] if done.number not in parts else parts
    return Entry(now.created_at, now.seq, _digest(now), now.driver, now.floor, _origin(now), numbers)


def _goes_on(before: Entry, row: ThreadRecord) -> bool:
    """Whether a thread only has more than an older backup holds of it, and not also what was another's then."""
    return (before.created_at, before.origin) == (row.created_at, _origin(row)) and before.seq <= row.seq


def _check_begun(file: CheckpointStore, row: ThreadRecord) -> None:
    """Raise `ThreadExists` where a backup that broke off has begun with a thread whose origin was deleted since then:
    what it holds may be only what an older backup lacked."""
    try:
        begun = file.thread(row.thread_id)
    except UnknownThread:
        return
    if begun.origin != row.origin:
        raise ThreadExists(row.thread_id)


def _add_above(file: CheckpointStore, source: Source, row: ThreadRecord) -> None:
    """A fork is only taken where its origin is: the bare row of one that did not change."""
    if row.origin is None:
        return
    try:
        file.thread(row.origin.thread_id)
    except UnknownThread:
        above = source.thread(row.origin.thread_id)
        _add_above(file, source, above)
        file.load(ThreadImage(thread=replace(above, floor=0), runs=(), messages=()))


def _as_it_was(row: ThreadRecord, entry: Entry) -> ThreadRecord:
    return replace(row, driver=entry.driver, floor=entry.floor)


def _origin(row: ThreadRecord) -> str:
    return row.origin.thread_id if row.origin else ""


def _digest(row: ThreadRecord) -> str:
    # Whatever happens to a thread, its messages and runs changes its row too.
    return hashlib.blake2b(repr(replace(row, token="", owner="")).encode(), digest_size=16).hexdigest()


def _checksum(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return path.stat().st_size, digest


def _read(path: Path) -> Manifest:
    try:
        data = path.read_bytes()
        found = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"{path} is no manifest of a backup: {error}") from None
    if found.format > FORMAT:
        raise NewerFormat(f"{path} has format {found.format}, this Perdure reads up to {FORMAT}; upgrade it")
    return found


def _write(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, and stays."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _remove(path: Path) -> None:
    for name in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-lock"))):
        name.unlink(missing_ok=True)
