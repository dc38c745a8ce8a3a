"""Tables and lines for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ...runtime.commands import Interrupt
from ...runtime.diffs import StateDiff
from ...runtime.failures import Failure
from ...runtime.snapshots import StateSnapshot, checkpoint_id
from ...stores.records import Status, ThreadRecord
from ..reader import Standing
from .documents import plain

_LONGEST = 240
"""Characters of a value in a table."""
_STYLES = {
    Status.SUCCEEDED: "green",
    Status.FAILED: "bold red",
    Status.CANCELLED: "yellow",
    Status.PAUSED: "bold yellow",
    Status.INTERRUPTED: "bold cyan",
    Status.RUNNING: "blue",
}


def printable(text: str) -> str:
    """`text` without what would steer a terminal: control characters as escapes, line ends kept."""
    return "".join(one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text)


def short(value: Any) -> str:
    """The `repr` of a value, cut where it gets long."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text):,} characters)"


def threads_table(records: Iterable[ThreadRecord]) -> Table:
    """One line per thread."""
    table = _table("thread", "status", "graph", "run", "tags", "metadata", "updated", "reason")
    for record in records:
        _row(
            table,
            _id(record.thread_id),
            _status(record.status),
            record.graph,
            str(record.runs),
            " ".join(record.tags),
            _pairs(record.metadata),
            _time(record.updated_at),
            record.reason,
        )
    return table


def thread_view(record: ThreadRecord, state: StateSnapshot | None) -> Iterable[RenderableType]:
    """All about one thread; `state` is None where it cannot be read."""
    facts: list[tuple[str, str | Text]] = [
        ("thread", record.thread_id),
        ("graph", f"{record.graph}, version {record.version}"),
        ("status", _status(record.status)),
        ("reason", record.reason),
        ("run", f"{record.run} of {record.runs}"),
        ("waits for", ", ".join(f"signal {name!r}" for name in record.signals)),
        ("wakes at", _time(record.wake_at) if record.wake_at and not record.status.ended else ""),
        ("checkpoint", checkpoint_id(record.head) if record.head else ""),
        ("next", _counted(state.next) if state is not None else ""),
        ("progress", _progress(state) if state is not None else ""),
        ("owner", f"{record.owner} (epoch {record.epoch})" if record.owner else ""),
        ("crashes", str(record.crashes) if record.crashes else ""),
        ("forked from", f"{record.origin.thread_id} at {checkpoint_id(record.origin.seq)}" if record.origin else ""),
        ("driven", "" if record.driver == "service" else record.driver),
        ("tags", " ".join(record.tags)),
        ("metadata", _pairs(record.metadata)),
        ("created", _time(record.created_at)),
        ("updated", _time(record.updated_at)),
    ]
    yield facts_table([(name, fact) for name, fact in facts if fact])
    if state is not None and state.interrupts:
        yield interrupts_table(state.interrupts)
    if state is not None and state.values:
        yield values_table(state.values)


def _progress(state: StateSnapshot) -> str:
    """What the tasks last said of their progress."""
    return ", ".join(f"{task.name}: {short(task.heartbeat)}" for task in state.tasks if task.heartbeat is not None)


def facts_table(facts: Iterable[tuple[str, str | Text]]) -> Table:
    """Names and what there is to say of each."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, fact in facts:
        _row(grid, name, fact)
    return grid


def interrupts_table(interrupts: Sequence[Interrupt]) -> Table:
    """Open interrupts."""
    table = _table("interrupt", "asks")
    for one in interrupts:
        _row(table, _id(one.id), short(one.value))
    return table


def values_table(values: Mapping[str, Any]) -> Table:
    """A state's values."""
    table = _table("key", "value")
    for key, value in values.items():
        _row(table, key, short(value))
    return table


def history_table(snapshots: Iterable[StateSnapshot], *, values: bool) -> Table:
    """One line per checkpoint."""
    table = _table("checkpoint", "step", "run", "source", "nodes", "next", "made", *(["values"] if values else []))
    for snapshot in snapshots:
        facts = snapshot.metadata
        waiting = f" ({len(snapshot.interrupts)} open)" if snapshot.interrupts else ""
        _row(
            table,
            _id(snapshot.checkpoint_id),
            str(facts["step"]),
            str(facts["run"]),
            facts["source"],
            _counted(facts["writes"]),
            _counted(snapshot.next) + waiting,
            _time(datetime.fromisoformat(snapshot.created_at).timestamp()),
            *([short(snapshot.values)] if values else []),
        )
    return table


def checkpoint_view(snapshot: StateSnapshot) -> Iterable[RenderableType]:
    """All about one checkpoint."""
    facts = snapshot.metadata
    named = [
        ("checkpoint", snapshot.checkpoint_id),
        ("parent", snapshot.parent_id or ""),
        ("thread", facts["thread_id"]),
        ("version", snapshot.version),
        ("made by", f"{facts['source']} {_counted(facts['writes'])}".strip()),
        ("step", f"{facts['step']} of run {facts['run']}"),
        ("next", _counted(snapshot.next)),
        ("made", _time(datetime.fromisoformat(snapshot.created_at).timestamp())),
    ]
    yield facts_table([(name, fact) for name, fact in named if fact])
    if snapshot.interrupts:
        yield interrupts_table(snapshot.interrupts)
    if snapshot.values:
        yield values_table(snapshot.values)


def diff_table(diff: StateDiff) -> Table:
    """One line per key that differs."""
    table = _table("key", "", diff.before, diff.after)
    for key, value in diff.added.items():
        _row(table, key, "added", "", short(value))
    for key, value in diff.removed.items():
        _row(table, key, "removed", short(value), "")
    for key, one in diff.changed.items():
        _row(table, key, "changed", short(one.before), short(one.after))
    for key, items in diff.appended.items():
        _row(table, key, "appended", "", short(items))
    return table


def result_text(values: Any) -> Text:
    """A run's result: JSON, as `plain` makes it."""
    return Text(json.dumps(plain(values), indent=2, ensure_ascii=False))


def failure_text(failure: Failure) -> Text:
    """The traceback of the error that ended a run."""
    return Text(printable(failure.traceback.rstrip()), style="dim")


def standing_text(standing: Standing, elapsed: float) -> Text:
    """The live line: status, step, nodes, time."""
    record = standing.record
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{printable(record.thread_id)} run {record.run or 1} ")
    line.append_text(_status(record.status))
    if record.head:
        line.append(f"  step {standing.step}")
    if standing.tasks:
        done = f" ({standing.finished} of {len(standing.tasks)} done)" if len(standing.tasks) > 1 else ""
        line.append(f"  {printable(_counted(standing.tasks))}{done}")
    if record.crashes:
        line.append(f"  crashes {record.crashes}", style="yellow")
    line.append(f"  {duration(elapsed)}", style="dim")
    return line


def duration(seconds: float) -> str:
    """A span of time, as short as it can be said."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _row(table: Table, *cells: str | Text) -> None:
    """Cells as they are: as strings, rich would take [brackets] in them for markup."""
    table.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in cells))


def _id(text: str) -> Text:
    """What is to be copied: in one line, whole."""
    return Text(printable(text), no_wrap=True, overflow="ignore")


def _status(status: Status) -> Text:
    return Text(status.value, style=_STYLES.get(status, ""))


def _pairs(pairs: Mapping[str, Any]) -> str:
    return " ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(plain(value))}" for key, value in pairs.items()
    )


def _counted(nodes: Iterable[str]) -> str:
    """Node names, those that occur several times with their number."""
    return ", ".join(name if count == 1 else f"{name} x{count}" for name, count in Counter(nodes).items())


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S") if at else ""
