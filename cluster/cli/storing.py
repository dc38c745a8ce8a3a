"""`store ...`: look after a store. Needs no cluster, but for a memory store the head that holds it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from rich.filesize import decimal
from rich.text import Text

from ...runtime.errors import InputError
from ...runtime.meaning import RuntimeMeaning
from ...runtime.restore import load_control
from ...runtime.snapshots import checkpoint_id, checkpoint_seq
from ...stores.arguments import check_retention
from ...stores.base import CheckpointStore
from ...stores.copying import StoreSource
from ...stores.history import HistoryReader
from ...stores.operations import Amendment, StoreStats
from ...stores.records import Retention
from ...stores.retention import KEEP_ALL, SETTING, retention_data, retention_from
from ...stores.tidying import Progress, Tidier
from ...stores.verifying import verify_store
from .advance import shown
from .call import Answer, Call
from .exits import Exit
from .looking import ThreadArgument
from .views import facts_table

_SPAN = TypeAdapter(timedelta)
_SPANS = "7d, 12:30:00, or ISO 8601: PT36H"


def stats(call: Call) -> Answer:
    """What the store holds: threads by status, segments, messages, bytes."""
    with call.opened() as store:
        found = store.stats()
        retention = retention_from(store.setting(SETTING))
    threads = {status.value: count for status, count in sorted(found.threads.items())}
    document = {**asdict(found), "threads": threads, "retention": retention_data(retention)}
    return Answer(document=document, shown=(facts_table(_facts(found, threads, retention)),))


def _facts(found: StoreStats, threads: dict[str, int], retention: Retention) -> list[tuple[str, str]]:
    each = ", ".join(f"{count:,} {status}" for status, count in threads.items())
    limits = ", ".join(f"{name} {value:g}" for name, value in retention_data(retention).items())
    disk = decimal(found.disk_bytes) if found.disk_bytes is not None else "not known"
    return [
        ("threads", f"{sum(threads.values()):,}{f' ({each})' if each else ''}"),
        ("segments", f"{found.segments:,}, {decimal(found.segment_bytes)}"),
        ("messages", f"{found.messages:,}, {decimal(found.message_bytes)}"),
        ("graphs", f"{found.graphs:,}"),
        ("owners", f"{found.owners:,}"),
        ("on disk", disk),
        ("retention", limits or "all is kept"),
    ]


def prune(
    call: Call,
    thread: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this thread; may be repeated.")] = None,
    max_checkpoints: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Keep the newest N checkpoints of each thread.")
    ] = None,
    keep_for: Annotated[
        str | None, typer.Option(metavar="TIME", help=f"Keep checkpoints for so long ({_SPANS}).")
    ] = None,
    delete_after: Annotated[
        str | None, typer.Option(metavar="TIME", help="Delete threads so long after their end.")
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Make the limits the store's (with --thread: the thread's) from now on.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
) -> Answer:
    """Drop what the retention does not keep, and put small segments together, now.

    Without limits those that were saved hold. The newest checkpoint, those with a name and those with forks stay.
    """
    given = Retention(max_checkpoints=max_checkpoints, keep_for=_span(keep_for), delete_after=_span(delete_after))
    check_retention("prune", given)
    if save and dry_run:
        raise InputError("--dry-run changes nothing, and --save does; give one of them")
    if save and given == KEEP_ALL:
        raise InputError("--save needs a limit to save: --max-checkpoints, --keep-for or --delete-after")
    with call.opened() as store:
        retention = given if given != KEEP_ALL else retention_from(store.setting(SETTING))
        if save:
            _save(store, thread, given)
        tidier = Tidier(
            store=store,
            meaning=RuntimeMeaning(),
            retention=retention,
            dry_run=dry_run,
            # Who names threads and limits means these threads and these limits.
            overrides=bool(thread) and given != KEEP_ALL,
        )
        ids = [store.thread(one).thread_id for one in thread] if thread else None
        done, failed = _prune(call, store, tidier, ids)
    return _pruned(done, failed, dry_run)


def _span(given: str | None) -> timedelta | None:
    if given is None:
        return None
    try:
        return _SPAN.validate_python(given)
    except ValidationError:
        raise InputError(f"{given!r} is no span of time; write {_SPANS}") from None


def _save(store: CheckpointStore, thread: list[str] | None, retention: Retention) -> None:
    if thread:
        for one in thread:
            store.amend(one, Amendment(retention=retention))
    else:
        store.put_setting(SETTING, retention_data(retention))


def _prune(
    call: Call, store: CheckpointStore, tidier: Tidier, ids: list[str] | None
) -> tuple[Progress, list[tuple[str, str]]]:
    names = ids if ids is not None else [row.thread_id for row in StoreSource(store).rows()]
    failed: list[tuple[str, str]] = []
    total = Progress()

    def steps() -> Iterator[tuple[int, Progress]]:
        nonlocal total
        for number, name in enumerate(names):
            for step in tidier.guarded(name, time.time(), failed, thorough=True):
                total += step
                yield number, total
        yield len(names), total

    shown(call, "pruning", steps(), lambda step: (step[0], len(names), f"{step[1].checkpoints:,} checkpoints dropped"))
    return total, failed


def _pruned(done: Progress, failed: list[tuple[str, str]], dry_run: bool) -> Answer:
    facts = [
        ("checkpoints dropped", f"{done.checkpoints:,}"),
        ("rows dropped", f"{done.dropped:,}"),
        ("segments", f"{done.before:,} became {done.after:,}, {decimal(done.written)} written"),
        ("threads deleted", f"{done.deleted:,}"),
        ("forks that took over what they had of them", f"{done.cut_off:,}"),
        ("threads left, as a part cannot be cut off", f"{done.referenced:,}"),
    ]
    notes = [f"thread {name!r} was left as it is: {why}" for name, why in failed]
    return Answer(
        document={
            "dry_run": dry_run,
            **asdict(done),
            "failed": [{"thread_id": name, "reason": why} for name, why in failed],
        },
        shown=(facts_table(facts),),
        notes=("nothing was changed (--dry-run)", *notes) if dry_run else tuple(notes),
        code=Exit.FAILED if failed else Exit.OK,
    )


def verify(call: Call) -> Answer:
    """Check every record of the store: checksums, gaps, and that each checkpoint has all that it needs."""
    with call.opened() as store:
        found = shown(
            call,
            "verifying",
            verify_store(store, RuntimeMeaning()),
            lambda step: (step.threads, step.total, f"{step.segments:,} segments, {len(step.problems)} problems"),
        )
    facts = [
        ("threads", f"{found.threads:,}"),
        ("checkpoints", f"{found.checkpoints:,}"),
        ("segments", f"{found.segments:,}, {found.rows:,} rows"),
        ("problems", f"{len(found.problems):,}"),
    ]
    if found.held:
        facts.append(("being copied in", f"{found.held:,} threads, not looked at"))
    return Answer(
        document=asdict(found),
        shown=(facts_table(facts),),
        notes=tuple(f"thread {one.thread_id!r}: {one.what}" if one.thread_id else one.what for one in found.problems),
        code=Exit.FAILED if found.problems else Exit.OK,
    )


def migrate(call: Call) -> Answer:
    """Bring the store's layout up to this version of Perdure. (Opening a store does so too.)"""
    with call.opened() as store:
        applied: list[int] = list(getattr(store, "migrated", ()))
    text = f"applied: {', '.join(map(str, applied))}" if applied else "the layout is the present one"
    return Answer(document={"applied": applied}, shown=(Text(text),))


def names(
    call: Call,
    thread: ThreadArgument,
    give: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME[=CHECKPOINT]", help="Name a checkpoint, by default the newest."),
    ] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Take a name away.")] = None,
) -> Answer:
    """Show a thread's named checkpoints, or change them. Retention keeps what has a name."""
    with call.opened() as store:
        row = store.thread(thread)
        changes = dict(_named(store, thread, row.head, give or ())) | dict.fromkeys(remove or (), 0)
        if changes:
            row = store.amend(thread, Amendment(names=changes))
    found = {name: checkpoint_id(seq) for name, seq in sorted(row.names.items())}
    notes = () if found else ("no checkpoint has a name",)
    return Answer(
        document={"thread_id": thread, "names": found},
        shown=(facts_table(list(found.items())),) if found else (),
        notes=notes,
    )


def _named(store: CheckpointStore, thread: str, head: int, given: Iterable[str]) -> Iterator[tuple[str, int]]:
    twice = [name for name, count in Counter(one.partition("=")[0] for one in given).items() if count > 1]
    if twice:
        raise InputError(f"--set {twice[0]} is given twice; a name is that of one checkpoint")
    for one in given:
        name, equals, wanted = one.partition("=")
        seq = checkpoint_seq(thread, wanted) if equals else head
        load_control(HistoryReader(store, thread), seq)
        yield name, seq
