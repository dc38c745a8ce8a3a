"""`export`: histories as a Parquet or Arrow file. Reads the store, starts nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import gettempdir
from typing import Annotated, Any

import pyarrow as pa
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from ...runtime.errors import InputError
from ...stores.records import Status
from ..dataset import PREFIX
from ..dataset_file import FileFormat, Written, check_target, write_file
from ..dataset_selection import HistoryOptions
from ..errors import ClientError
from ..reader import Reader
from .call import Answer, Call
from .inputs import read_pairs
from .views import printable

_KINDS = "checkpoints (one row each), values (one row per changed channel) or writes (one row per node and channel)"


def export(
    call: Call,
    parquet: Annotated[Path | None, typer.Option("--parquet", metavar="OUT", help="The Parquet file to write.")] = None,
    arrow: Annotated[Path | None, typer.Option("--arrow", metavar="OUT", help="An Arrow IPC file instead.")] = None,
    kind: Annotated[str, typer.Option(metavar="KIND", help=f"What a row is: {_KINDS}.")] = "checkpoints",
    channels: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Channels to decode. Of checkpoints each gets a column. May be repeated."),
    ] = None,
    thread: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this thread; may be repeated.")] = None,
    status: Annotated[
        list[Status] | None, typer.Option(metavar="STATUS", help="Only threads that stand so; may be repeated.")
    ] = None,
    graph: Annotated[str | None, typer.Option(help="Only threads of the graph with this name.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only threads with this tag.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only threads with this; may be repeated.")
    ] = None,
    run: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Only runs of this number; may be repeated.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only checkpoints from then on; ISO 8601, UTC unless it says.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only checkpoints before.")] = None,
    only_heads: Annotated[
        bool, typer.Option("--only-heads", help="Only the newest checkpoint of each thread.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> Answer:
    """Write histories to a Parquet file, for pandas, polars, DuckDB and the like."""
    path, file_format = _target(parquet, arrow)
    check_target(path, replace=force)
    options = HistoryOptions(
        threads=thread or None,
        kind=kind,  # type: ignore[typeddict-item]  # any other is refused, with the list of kinds
        channels=_names(channels),
        status=status or None,
        graph=graph,
        tag=tag,
        metadata=read_pairs(metadata or (), "--metadata"),
        runs=run or None,
        since=_moment(since, "--since"),
        until=_moment(until, "--until"),
        only_heads=only_heads,
    )
    count = _Count()
    with call.reading() as reader, _bar(call, reader, options, count), _batches(reader, options, count) as batches:
        written = write_file(batches, path, file_format, replace=force)
    return _answer(written, file_format, kind, count.threads)


class _Count:
    """How far it has come, and whom to tell."""

    def __init__(self) -> None:
        self.threads = 0
        self.tell: Callable[[int, int], None] | None = None

    def __call__(self, threads: int, rows: int) -> None:
        self.threads = threads
        if self.tell is not None:
            self.tell(threads, rows)


@contextmanager
def _batches(reader: Reader, options: HistoryOptions, count: _Count) -> Iterator[pa.RecordBatchReader]:
    """The batches; what is wrong with reading them into a temporary file is told as such. Raises `ClientError`."""
    try:
        opened = reader.history_batches(progress=count, **options)
    except OSError as error:
        raise ClientError(f"there is no room for temporary files in {gettempdir()}: {error}") from error
    with opened:
        yield opened


@contextmanager
def _bar(call: Call, reader: Reader, options: HistoryOptions, count: _Count) -> Iterator[None]:
    """A progress bar, where there is a terminal for it."""
    terminal = None if call.json else call.terminal
    if terminal is None:
        yield
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=terminal, transient=True) as progress:
        task = progress.add_task("threads", total=_total(reader, options))

        def tell(threads: int, rows: int) -> None:
            progress.update(task, completed=threads, description=f"{rows:,} rows of threads")

        count.tell = tell
        yield


def _total(reader: Reader, options: HistoryOptions) -> int:
    named = options["threads"]
    if named is not None:
        return len(named)
    found = reader.threads(
        status=options["status"], graph=options["graph"], tag=options["tag"], metadata=options["metadata"]
    )
    return sum(1 for _ in found)


def _target(parquet: Path | None, arrow: Path | None) -> tuple[Path, FileFormat]:
    if (parquet is None) == (arrow is None):
        raise InputError("name one file: --parquet OUT, or --arrow OUT")
    return (parquet, "parquet") if parquet is not None else (arrow or Path(), "arrow")


def _names(given: Sequence[str] | None) -> list[str] | None:
    return [name for names in given for name in names.split(",") if name] if given else None


def _moment(given: str | None, what: str) -> datetime | None:
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        raise InputError(f"{what} {given!r} is no time; write it as 2026-01-31 or 2026-01-31T13:00+02:00") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _answer(written: Written, file_format: FileFormat, kind: str, threads: int) -> Answer:
    facts: dict[str, Any] = {
        "path": str(written.path),
        "format": file_format,
        "kind": kind,
        "threads": threads,
        "rows": written.rows,
        "row_groups": written.groups,
        "bytes": written.size,
        "columns": {field.name: _type(field) for field in written.schema},
    }
    line = f"{written.rows:,} rows of {threads:,} threads, {written.size:,} bytes: {written.path}"
    columns = [f"{name}: {kind}" for name, kind in facts["columns"].items() if name.startswith(PREFIX)]
    empty = [field.name.removeprefix(PREFIX) for field in written.schema if b"perdure.empty" in (field.metadata or {})]
    notes = [f"no checkpoint has a value of channel {name!r}" for name in empty] if written.rows else []
    return Answer(
        document={**facts, "empty": empty},
        shown=(Text(printable(line)), *(Text(printable(name)) for name in columns)),
        notes=tuple(notes),
    )


def _type(field: pa.Field[Any]) -> str:
    return "json" if b"perdure.json" in (field.metadata or {}) else str(field.type)
