"""Writes record batches to a Parquet or Arrow file that is there whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import ClientError

FileFormat: TypeAlias = Literal["parquet", "arrow"]

_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""How file systems say that they have no hard links, or no more of them."""

_GROUP_ROWS = 131_072
_GROUP_BYTES = 32 << 20
"""A row group is closed when it has so many rows, or takes so much memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A file that was written."""

    path: Path
    rows: int
    groups: int
    """Row groups (of an Arrow file: batches)."""
    size: int
    """Bytes."""
    schema: pa.Schema


def write_file(reader: pa.RecordBatchReader, path: Path, file_format: FileFormat, *, replace: bool = False) -> Written:
    """Write all batches to `path`, compressed with zstd, in row groups of bounded size.

    They go to a hidden file beside it (`.NAME.*.part`), which takes its name at the end, and is removed where that
    fails. Raises as `check_target`, and what reading the batches may.
    """
    check_target(path, replace=replace)
    rows = groups = 0
    try:
        with beside(path, replace=replace) as part:
            with _writer(part, reader.schema, file_format) as writer:
                for group in _groups(reader):
                    writer.write_table(group)
                    rows, groups = rows + len(group), groups + 1
            size = part.stat().st_size
    except OSError as error:
        raise ClientError(f"{path} cannot be written: {error}") from error
    return Written(path=path, rows=rows, groups=groups, size=size, schema=reader.schema)


def write_text(text: str, path: Path, *, replace: bool = False) -> None:
    """Write a text as UTF-8, whole or not at all. Raises as `check_target`."""
    check_target(path, replace=replace)
    try:
        with beside(path, replace=replace) as part:
            part.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ClientError(f"{path} cannot be written: {error}") from error


def check_target(path: Path, *, replace: bool = False) -> None:
    """Raise `ClientError` where no file can be written at `path`, or one is there that is not to be replaced."""
    if path.exists() and not path.is_file():
        raise ClientError(f"{path} is no file; name one to be written")
    if path.exists() and not replace:
        raise _taken(path)
    if not path.parent.is_dir():
        raise ClientError(f"there is no folder {path.parent}; make it first")


def _groups(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    batches: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in reader:
        batches.append(batch)
        rows, size = rows + len(batch), size + batch.nbytes
        if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
            yield pa.Table.from_batches(batches)
            batches, rows, size = [], 0, 0
    if batches:
        yield pa.Table.from_batches(batches)


def _writer(part: Path, schema: pa.Schema, file_format: FileFormat) -> Any:
    if file_format == "parquet":
        return pq.ParquetWriter(part, schema, compression="zstd")
    return pa.ipc.new_file(str(part), schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))


@contextmanager
def beside(path: Path, *, replace: bool) -> Iterator[Path]:
    """A path in the same folder; what is there at the end, and safely on the disk, takes the name of `path`. Raises
    `ClientError` where that is taken by then, unless it is to be replaced."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        part.touch(exist_ok=False)
        yield part
        _sync(part)
        if replace:
            os.replace(part, path)
        else:
            _take_name(part, path)
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _take_name(part: Path, path: Path) -> None:
    """Give a file its name if nobody has that. Looking first would not do: somebody may take it in between."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without links: the name is taken by an empty file first.
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
        except FileExistsError:
            raise _taken(path) from None
        os.replace(part, path)


def _taken(path: Path) -> ClientError:
    return ClientError(f"{path} is there already; name another file, or replace it with --force")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
