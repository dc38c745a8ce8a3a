"""`compare`: what a batch re-run came to, beside its originals. Reads the store, starts nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ..compare_page import (
    NUMBER_COLUMNS,
    REASON_COLUMNS,
    comparison_page,
    headline,
    key_rows,
    number_row,
    plotter,
    reason_rows,
    status_rows,
)
from ..compare_summary import Comparison, Pairs, summed
from ..comparing import compare_batch
from ..dataset_file import check_target, write_file, write_text
from .call import Answer, Call
from .documents import plain
from .views import printable

_KEYS = 10


def compare(
    call: Call,
    batch: Annotated[str, typer.Argument(help="The batch's id.")],
    measure: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="What nodes measured, or numbers of the final states (usage.tokens)."),
    ] = None,
    parquet: Annotated[Path | None, typer.Option(metavar="OUT", help="Write a row a thread to a Parquet file.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write a page with plots (needs perdure[plots]).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> Answer:
    """Compare the threads of a batch re-run with their originals: status, final state, steps, time and numbers."""
    measures = tuple(name for given in measure or () for name in given.split(",") if name)
    for path in (parquet, html):
        if path is not None:
            check_target(path, replace=force)
    if html is not None:
        plotter()  # so that nothing is read in vain
    found = Comparison(batch, measures)
    with call.opened() as store:
        reader = compare_batch(store, batch, measures)
        if parquet is not None:
            passing = pa.RecordBatchReader.from_batches(reader.schema, summed(reader, found))
            write_file(passing, parquet, "parquet", replace=force)
        else:
            for _ in summed(reader, found):
                continue
    if html is not None:
        write_text(comparison_page(found), html, replace=force)
    written = [str(path) for path in (parquet, html) if path is not None]
    return Answer(
        document={**_document(found), "written": written},
        shown=tuple(_shown(found)),
        notes=(headline(found), *(f"written: {path}" for path in written)),
    )


def _shown(found: Comparison) -> Iterator[RenderableType]:
    if found.statuses:
        yield _table(("old status", "new status", "threads"), status_rows(found))
    if found.reasons:
        yield _table(REASON_COLUMNS, reason_rows(found, _KEYS))
    yield _table(NUMBER_COLUMNS, (number_row(pairs) for pairs in found.numbers if pairs.count))
    if found.keys:
        yield _table(("key that differs", "threads"), key_rows(found, _KEYS))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def _pairs(numbers: Iterable[Pairs]) -> dict[str, Any]:
    return {
        pairs.label: {
            "threads": pairs.count,
            "old_mean": plain(pairs.old_mean),
            "new_mean": plain(pairs.new_mean),
            "lower": pairs.lower,
            "higher": pairs.higher,
        }
        for pairs in numbers
    }


def _document(found: Comparison) -> dict[str, Any]:
    return {
        "batch_id": found.batch_id,
        "threads": found.rows,
        "same": found.same,
        "differing": found.differing,
        "problems": found.problems,
        "statuses": [{"old": old, "new": new, "threads": many} for (old, new), many in found.statuses.most_common()],
        "reasons": [
            {"outcome": outcome, "reason": reason, "threads": many}
            for (outcome, reason), many in found.reasons.most_common()
        ],
        "numbers": _pairs(found.spent),
        "measures": _pairs(found.measures),
        "keys": dict(found.keys),
        "examples": plain(found.examples),
    }
