"""`store copy|backup|restore`: bring threads from one place to another."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from rich.filesize import decimal

from ...runtime.meaning import RuntimeMeaning
from ...stores.backup import BackupFolder
from ...stores.base import CheckpointStore
from ...stores.config import StoreConfig
from ...stores.copying import Copied, StoreSource, copy_store
from ...stores.errors import StoreMisuse
from ...stores.keys import KEYS_VARIABLE, Keyring, KeySource
from ...stores.verifying import Verified, verify_store
from .advance import shown
from .call import Answer, Call
from .exits import Exit
from .views import facts_table

Keys = Keyring | KeySource | None
_KEYS_FILE = typer.Option(metavar="FILE", help=f"Keys of TO, if it is encrypted; else {KEYS_VARIABLE} holds them.")


def copy(
    call: Call,
    source: Annotated[str, typer.Argument(metavar="FROM", help="The store to copy: a URL.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The store to copy it into; created if need be.")],
    from_keys_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Keys of FROM, if it is encrypted.")
    ] = None,
    keys_file: Annotated[str | None, _KEYS_FILE] = None,
    hold: Annotated[
        bool,
        typer.Option("--hold", help="Let nobody run the threads in TO yet; a copy without this brings what is new."),
    ] = False,
    check: Annotated[bool, typer.Option("--verify/--no-verify", help="Check TO afterwards, every record.")] = True,
) -> Answer:
    """Copy all threads, graphs and the retention of a store into another one, of whatever kind.

    Threads may run meanwhile: each is copied as it is at one moment. A copy that broke off goes on when it is run
    again. To move a store, copy with --hold, stop the service, then copy once more without it.
    """
    come_from = _config(source, KeySource(path=os.path.abspath(from_keys_file)) if from_keys_file else None)
    into = _config(target, _keys(keys_file))
    with come_from.open(create=False) as store, into.open() as other:
        steps = copy_store(StoreSource(store), other, hold=hold)
        done = shown(call, "copying", steps, _place)
        checked = _checked(call, other) if check and not hold else None
    return _answer(done, checked, "copied")


def backup(
    call: Call,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the backups are; created if need be.")],
    full: Annotated[bool, typer.Option("--full", help="All of it, not only what changed since the last.")] = False,
) -> Answer:
    """Back the store up: the first time all of it, then what changed since. Threads may run meanwhile.

    Each backup is one SQLite file with a manifest, encrypted if the store is. One that broke off goes on when it is run
    again.
    """
    with call.opened() as store:
        backups = BackupFolder(folder, _opener(call.config.keys))
        done = shown(call, "backing up", backups.backup(StoreSource(store), time.time(), full=full), _place)
    facts = [
        ("backup", f"{done.number}{f', adds to {done.base}' if done.base else ', full'}"),
        ("threads", f"{done.threads:,}, {done.unchanged:,} of them as they were"),
        ("written", f"{done.segments:,} segments, {decimal(done.size)}"),
    ]
    return Answer(document=asdict(done), shown=(facts_table(facts),))


def restore(
    call: Call,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the backups are.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The store to fill: a URL; created if need be.")],
    number: Annotated[int | None, typer.Option(min=1, help="Which backup; by default the last.")] = None,
    keys_file: Annotated[str | None, _KEYS_FILE] = None,
    check: Annotated[bool, typer.Option("--verify/--no-verify", help="Check TO afterwards, every record.")] = True,
) -> Answer:
    """Bring the threads of a backup into a store, and check it. One that broke off goes on when it is run again."""
    keys = _keys(keys_file)
    with _config(target, keys).open() as store:
        steps = BackupFolder(folder, _opener(keys)).restore(store, number=number)
        done = shown(call, "restoring", steps, _place)
        checked = _checked(call, store) if check else None
    return _answer(done, checked, "restored")


def _keys(keys_file: str | None) -> KeySource | None:
    if keys_file:
        return KeySource(path=os.path.abspath(keys_file))
    return KeySource(variable=KEYS_VARIABLE) if os.environ.get(KEYS_VARIABLE) else None


def _config(url: str, keys: Keys) -> StoreConfig:
    config = StoreConfig(url=url, keys=keys)
    if config.in_memory:
        raise StoreMisuse("memory:// is a store of one process: nothing can be copied out of it or into it from here")
    return config


def _opener(keys: Keys) -> Callable[[Path], CheckpointStore]:
    """Opens backups' files with the keys of their store."""
    return lambda path: StoreConfig(url=f"sqlite:///{quote(str(path.absolute()))}", keys=keys).open()


def _place(done: Copied) -> tuple[int, int, str]:
    return done.threads, done.total, f"{done.segments:,} segments, {decimal(done.size)}"


def _checked(call: Call, store: CheckpointStore) -> Verified:
    return shown(
        call,
        "verifying",
        verify_store(store, RuntimeMeaning()),
        lambda step: (step.threads, step.total, f"{step.segments:,} segments, {len(step.problems)} problems"),
    )


def _answer(done: Copied, checked: Verified | None, what: str) -> Answer:
    facts = [
        ("threads", f"{done.threads:,} of {done.total:,}, {done.present:,} of them had been there"),
        ("written", f"{done.segments:,} segments, {decimal(done.size)}"),
    ]
    problems = checked.problems if checked is not None else []
    if checked is not None:
        facts.append(("verified", f"{checked.segments:,} segments, {len(problems):,} problems"))
    notes = [
        *(
            f"thread {name!r} was not {what}: there is another of this id, or of its origin's, or it is not as far"
            for name in done.different
        ),
        *(f"thread {name!r} was deleted meanwhile" for name in done.gone),
        *(f"thread {one.thread_id!r}: {one.what}" for one in problems),
    ]
    return Answer(
        document={**asdict(done), "problems": [asdict(one) for one in problems]},
        shown=(facts_table(facts),),
        notes=tuple(notes),
        code=Exit.FAILED if done.different or problems else Exit.OK,
    )
