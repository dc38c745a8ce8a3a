"""Histories as a dataset: tables of checkpoints, of values, of what nodes wrote, for pandas, DuckDB and Parquet.

A table is read from the store alone: no cluster, no code of graphs. A thread's own checkpoints are its rows, oldest
first; what a fork inherited is in the rows of the thread that wrote it (`parent_thread_id` leads there).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TypeAlias, Unpack

import pyarrow as pa

from ..runtime.errors import InputError
from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.errors import StoreMisuse, ThreadHeld, UnknownCheckpoint, UnknownThread
from ..stores.records import LOADING, ThreadRecord
from ..stores.retention import READABLE
from .dataset_rows import EMPTY_FIELD, JSON_FIELD, Cells, RowsOf, Sized, fields_of
from .dataset_selection import HistoryOptions, Selection
from .dataset_walk import head, visits, windows
from .native_columns import Scalar, Shape, arrow_type, column, converted, joined
from .spool import Spool

BATCH_ROWS = 16_384
PREFIX = "state."
"""Begins the name of a channel's column, so that no channel can be taken for a column of the table itself."""

Progress: TypeAlias = Callable[[int, int], None]
"""Called now and then with the numbers of threads and rows so far."""

_PAGE = 200
_BATCH_BYTES = 16 << 20


def history_table(store: CheckpointStore, **options: Unpack[HistoryOptions]) -> pa.Table:
    """Histories as one table, in memory. Raises as `history_batches`."""
    return history_batches(store, **options).read_all()


def history_batches(
    store: CheckpointStore,
    *,
    batch_rows: int = BATCH_ROWS,
    progress: Progress | None = None,
    **options: Unpack[HistoryOptions],
) -> pa.RecordBatchReader:
    """Histories as record batches of one schema, of at most `batch_rows` rows and about 16 MiB: any number of
    checkpoints in little memory.

    Each version of a channel is decoded once, of channels that were not asked for none. With columns for channels,
    whose types are known only at the end, all batches are first spooled, compressed, to a temporary file that only this
    process can open; without, they come as they are read. A thread that goes on meanwhile is read up to where it stood.

    Raises `InputError` for a wrong option, `UnknownThread`; the batches, as they are read, `Corrupt`, `NewerFormat`
    naming the record, `StoreUnavailable`, and `OSError` where there is no room for the spool.
    """
    selection = Selection(**options)
    if batch_rows < 1:
        raise InputError(f"batch_rows is {batch_rows}; give at least 1")
    history = _History(store, selection, batch_rows, progress)
    if not selection.columns:
        schema = pa.schema(fields_of(selection.kind))
        return pa.RecordBatchReader.from_batches(schema, (_fixed(cells, schema) for cells in history.pages()))
    with ExitStack() as open_files:
        spool = open_files.enter_context(Spool())
        found, together = _fill(spool, history.pages(), selection)
        schema = _schema(selection, together)
        return pa.RecordBatchReader.from_batches(schema, _drain(spool, open_files.pop_all(), schema, found, together))


class _History:
    """The rows that were asked for, page by page."""

    def __init__(
        self, store: CheckpointStore, selection: Selection, batch_rows: int, progress: Progress | None
    ) -> None:
        self._store = store
        self._selection = selection
        self._batch_rows = batch_rows
        self._progress = progress
        self._codec = Codec(opaque=True)
        # Ids that are mistyped are to be told at once.
        self._records = None if selection.threads is None else [self._asked(id_) for id_ in self._ids()]

    def pages(self) -> Iterator[list[Cells]]:
        page: list[Cells] = []
        size = rows = 0
        for threads, record in enumerate(self._records if self._records is not None else self._listed()):
            for cells, weight in self._rows_of(record):
                page.append(cells)
                size += weight
                rows += 1
                if len(page) >= self._batch_rows or size >= _BATCH_BYTES:
                    yield page
                    page, size = [], 0
                    self._tell(threads, rows)
            self._tell(threads + 1, rows)
        if page:
            yield page

    def _rows_of(self, record: ThreadRecord) -> Iterator[Sized]:
        """The rows of one thread; those that are left, where it is deleted or retention drops a part meanwhile."""
        selection = self._selection
        maker = RowsOf(self._store, record, self._codec, selection.kind, selection.columns or selection.channels)
        source = (head(self._store, record),) if selection.only_heads else windows(self._store, record)
        try:
            for rows in source:
                maker.values.pass_by(rows)
                for visit in visits(record, rows):
                    if not selection.takes(visit.control.run, visit.control.at):
                        continue
                    try:
                        made = list(maker.rows(visit))
                    except UnknownCheckpoint:
                        continue
                    yield from made
        except UnknownThread:
            return

    def _listed(self) -> Iterator[ThreadRecord]:
        cursor = None
        while True:
            page = self._store.threads(self._selection.where, limit=_PAGE, cursor=cursor)
            yield from (record for record in page.threads if record.driver in READABLE)
            cursor = page.cursor
            if cursor is None:
                return

    def _ids(self) -> tuple[str, ...]:
        given = self._selection.threads
        return (given,) if isinstance(given, str) else tuple(dict.fromkeys(given or ()))

    def _asked(self, thread_id: str) -> ThreadRecord:
        record = self._store.thread(thread_id)
        if record.driver == LOADING:
            raise ThreadHeld(thread_id, "what is there of its history is not all of it")
        if record.driver not in READABLE:
            raise StoreMisuse(
                f"thread {thread_id!r} is not Perdure's to read (its driver is {record.driver!r}); read it with the "
                "program that wrote it"
            )
        return record

    def _tell(self, threads: int, rows: int) -> None:
        if self._progress is not None:
            self._progress(threads, rows)


_Shapes: TypeAlias = tuple[Shape, ...]
"""What the values of each channel's column have in common."""


def _fixed(cells: Sequence[Cells], schema: pa.Schema) -> pa.RecordBatch:
    """A batch of the columns that every table has; what else is in the rows is left."""
    columns = zip(*cells, strict=True)
    return pa.RecordBatch.from_arrays(
        [pa.array(values, type=kind) for values, kind in zip(columns, schema.types, strict=False)], schema=schema
    )


def _fill(spool: Spool, pages: Iterator[list[Cells]], selection: Selection) -> tuple[list[_Shapes], _Shapes]:
    """Put all rows into the spool, each batch in its own types; the shapes of each batch, and of all together."""
    fixed = pa.schema(fields_of(selection.kind))
    found: list[_Shapes] = []
    together: _Shapes = (Scalar.NOTHING,) * len(selection.columns)
    for cells in pages:
        batch = _fixed(cells, fixed)
        made = [column([row[place] for row in cells]) for place in range(len(fixed), len(cells[0]))]
        arrays = [*batch.columns, *(array for _, array in made)]
        spool.put(pa.RecordBatch.from_arrays(arrays, names=[*fixed.names, *_names(selection)]))
        found.append(tuple(shape for shape, _ in made))
        together = tuple(map(joined, together, found[-1]))
    return found, together


def _drain(
    spool: Spool, files: ExitStack, schema: pa.Schema, found: Sequence[_Shapes], together: _Shapes
) -> Iterator[pa.RecordBatch]:
    """The batches of the spool, their columns in the types that fit all."""
    with files:
        for batch, shapes in zip(spool, found, strict=True):
            fixed = batch.columns[: len(schema) - len(together)]
            values = map(converted, batch.columns[len(fixed) :], shapes, together)
            yield pa.RecordBatch.from_arrays([*fixed, *values], schema=schema)


def _names(selection: Selection) -> list[str]:
    return [f"{PREFIX}{channel}" for channel in selection.columns]


def _schema(selection: Selection, together: _Shapes) -> pa.Schema:
    marks = {Scalar.JSON: dict(JSON_FIELD), Scalar.NOTHING: dict(EMPTY_FIELD)}
    fields = [
        pa.field(name, arrow_type(shape), metadata=marks.get(shape) if isinstance(shape, Scalar) else None)
        for name, shape in zip(_names(selection), together, strict=True)
    ]
    return pa.schema([*fields_of(selection.kind), *fields])
