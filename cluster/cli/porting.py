"""`store export|import`: whole threads in one file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from ...runtime.errors import InputError
from ...stores.base import CheckpointStore
from ...stores.copying import Copied
from ...stores.importing import Imported, OnConflict
from ...stores.keys import KeySource
from ...stores.renamed_threads import Rename
from ..choosing import Where
from ..porting import ids_of, read_threads, write_threads
from .advance import shown
from .call import Answer, Call
from .inputs import load_graph
from .selecting import selecting
from .views import facts_table

_SHOWN = 10


@selecting
def export_threads(
    call: Call,
    where: Where,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    plaintext: Annotated[
        bool, typer.Option("--plaintext", help="Do not encrypt the file, though the store is encrypted.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> Answer:
    """Write whole threads to one file, for `store import` elsewhere. (For tables of histories: perdure export.)

    Threads run on meanwhile: each is written as it is after its last commit. The file is encrypted if the store is,
    with its active key. A fork brings along what it needs of threads that are not exported.
    """
    with call.opened() as store:
        ids = ids_of(store, where)
        steps = write_threads(store, path, ids, plaintext=plaintext, replace=force)
        done = shown(call, "exporting", steps, _place)
    size = path.stat().st_size
    facts = [
        ("threads", f"{done.threads:,}"),
        ("segments", f"{done.segments:,}"),
        ("written", f"{decimal(size)}: {path}"),
    ]
    return Answer(
        document={
            "path": str(path),
            "threads": done.threads,
            "segments": done.segments,
            "bytes": size,
            "gone": done.gone,
        },
        shown=(facts_table(facts),),
        notes=tuple(f"thread {name!r} was deleted meanwhile" for name in done.gone),
    )


def import_threads(
    call: Call,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `store export` has written.")],
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out threads whose ids are taken; else nothing is imported.")
    ] = False,
    rename: Annotated[
        list[str] | None, typer.Option(metavar="OLD=NEW", help="Give a thread another id; may be repeated.")
    ] = None,
    prefix: Annotated[str, typer.Option(metavar="TEXT", help="Put this before the id of every thread.")] = "",
    code: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE:GRAPH",
            help="Code for the threads of this graph, in place of what the file names; may be repeated.",
        ),
    ] = None,
    from_keys_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Keys of the file, if it was encrypted with others than the store's."),
    ] = None,
) -> Answer:
    """Bring the threads of a file into the store; a thread that is there is never overwritten.

    All of the file is checked before anything is written. An import that broke off goes on when it is run again alike;
    until all threads are there nobody runs them. Threads that had not ended go on here: end or delete them where they
    come from, or they do their work twice.
    """
    keys = KeySource(path=os.path.abspath(from_keys_file)) if from_keys_file else None
    on_conflict: OnConflict = "skip" if skip_existing else "refuse"
    names = _rename(rename or (), prefix)
    if code:
        graphs = [load_graph(one) for one in code]
        with call.connected() as client:
            done = client.import_threads(path, on_conflict=on_conflict, rename=names, graphs=graphs, keys=keys)
    else:
        with _target(call) as store:
            steps = read_threads(store, path, on_conflict=on_conflict, rename=names, keys=keys)
            done = shown(call, "importing", steps, _place)
    return _answer(done)


@contextmanager
def _target(call: Call) -> Iterator[CheckpointStore]:
    """The store, which is created if need be."""
    with call.opened() if call.config.in_memory else call.config.open() as store:
        yield store


def _rename(given: Sequence[str], prefix: str) -> Rename | None:
    if given and prefix:
        raise InputError("give either --rename or --prefix, not both")
    pairs: dict[str, str] = {}
    for one in given:
        old, equals, new = one.rpartition("=")
        if not equals or not old or not new:
            raise InputError(f"--rename {one!r} is no pair; write OLD=NEW")
        pairs[old] = new
    if prefix:
        return lambda thread_id: f"{prefix}{thread_id}"
    return pairs or None


def _place(done: Copied) -> tuple[int, int, str]:
    return done.threads, done.total, f"{done.segments:,} segments, {decimal(done.size)}"


def _answer(done: Imported) -> Answer:
    facts = [
        ("threads", f"{done.threads:,}, {done.present:,} of them from an earlier attempt"),
        ("skipped", f"{len(done.skipped):,}"),
        ("written", f"{done.segments:,} segments, {decimal(done.size)}"),
    ]
    left = len(done.skipped) - _SHOWN
    notes = [f"thread {name!r} was skipped: the id is taken" for name in done.skipped[:_SHOWN]]
    if left > 0:
        notes.append(f"{left:,} more were skipped")
    notes += [f"thread {name!r} was deleted from the store meanwhile" for name in done.gone]
    return Answer(document=asdict(done), shown=(facts_table(facts),), notes=tuple(notes))
