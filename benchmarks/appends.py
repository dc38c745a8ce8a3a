"""Two thousand appends of a kilobyte to one list: bytes on disk, and whether a step's cost stays flat."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from . import graphs, langgraph_env
from .cluster import Bench, seconds
from .marks import Mark
from .report import Line, Report

FILE_TARGET = 4_000_000
"""Bytes for 2000 appends of a kilobyte."""
FLAT = 2.0
"""How much more CPU the last steps may take than the first. (Async runs ahead of the disk at first, and the machine may
have other work: the time that passes does not tell.)"""
LOADS = 5


@dataclass(frozen=True, slots=True)
class Side:
    """One way of appending, measured."""

    seconds: float
    first: float
    """Seconds per step over the first quarter."""
    last: float
    """Over the last quarter."""
    first_cpu: float
    """CPU seconds per step over the first quarter."""
    last_cpu: float
    file: int
    """Bytes of the database after a checkpoint that leaves the log empty."""
    log: int
    """Bytes of the write-ahead log before it."""
    written: int
    """Bytes that the process has had written to disk."""
    load: float
    """Seconds to read the newest state."""


def run(bench: Bench, report: Report, *, steps: int) -> None:
    """Perdure with each durability, LangGraph once."""
    sides = {mode: _perdure(bench, mode, steps) for mode in ("async", "sync")}
    other = _langgraph(bench, steps)
    allowed = FILE_TARGET * steps // 2000
    lines: list[Line] = []
    for name, side in {**sides, "LangGraph": other}.items():
        growth = side.last_cpu / side.first_cpu
        mine = name in sides
        lines += [
            Line(
                f"{name}: database file",
                _mb(side.file),
                f"target {_mb(allowed)}" if mine else f"{side.file / sides['async'].file:,.0f}x perdure's",
                met=side.file <= allowed if mine else None,
            ),
            Line(f"{name}: log before the checkpoint", _mb(side.log), f"{_mb(side.written)} written in all"),
            Line(f"{name}: time", f"{side.seconds:.2f} s", f"{steps / side.seconds:,.0f} steps/s"),
            Line(f"{name}: a step, first and last quarter", f"{side.first * 1e6:,.0f}, {side.last * 1e6:,.0f} µs"),
            Line(
                f"{name}: its CPU",
                f"{side.first_cpu * 1e6:,.0f}, {side.last_cpu * 1e6:,.0f} µs",
                f"{growth:.2f}x" + (f", flat if at most {FLAT:g}x" if mine else ""),
                met=growth <= FLAT if mine else None,
            ),
            Line(f"{name}: load the newest state", f"{side.load * 1e3:.1f} ms"),
        ]
    named = {**sides, "langgraph": other}
    data = {name: {field: getattr(side, field) for field in Side.__slots__} for name, side in named.items()}
    report.add("appends", f"{steps} appends of 1 KB of random text to one list, SQLite", lines, data)


def _perdure(bench: Bench, mode: str, steps: int) -> Side:
    name = f"appends-{mode}"
    with bench.connect(name) as client:
        said, thread = bench.run(client, graphs.appends, {"n": 0, "steps": steps, "texts": []}, mode)
        loads = []
        for _ in range(LOADS):
            started = time.perf_counter()
            state = client.thread(thread.thread_id, graph=graphs.appends).get_state()
            loads.append(time.perf_counter() - started)
        if len(state.values["texts"]) != steps:
            raise AssertionError(f"{len(state.values['texts'])} texts instead of {steps}")
        log, file = _sizes(bench.database(name))
    return _side(said, steps, log, file, median(loads))


def _langgraph(bench: Bench, steps: int) -> Side:
    database = bench.folder / "langgraph-appends.db"
    given = {"n": 0, "steps": steps, "texts": [], "report": bench.marks.path}
    bench.marks.drain()
    answer = langgraph_env.run(
        {
            "graph": "appends",
            "input": given,
            "warm_up": {**given, "n": steps},
            "durability": "async",
            "database": str(database),
        }
    )
    said = [mark for mark in bench.marks.drain() if mark.number < steps]
    log, file = answer["log"], _sizes(database)[1]
    database.unlink()
    said.append(Mark("last", steps, answer["ended"], said[0].pid, answer["written"], answer["cpu"]))
    return _side(said, steps, log, file, answer["load_seconds"])


def _side(said: list[Mark], steps: int, log: int, file: int, load: float) -> Side:
    quarter, start, end = steps // 4, said[0], said[-1]
    at = {**{mark.number: mark for mark in said[:-1]}, steps: end}
    spans = [(at[to - quarter], at[to]) for to in (quarter, steps)]
    first, last = ((after.at - before.at) / 1e9 / quarter for before, after in spans)
    first_cpu, last_cpu = ((after.cpu - before.cpu) / 1e9 / quarter for before, after in spans)
    written = end.written - start.written
    return Side(seconds(said), first, last, first_cpu, last_cpu, file, log, written, load)


def _sizes(database: Path) -> tuple[int, int]:
    """Bytes of the log, then of the file once the log is empty."""
    wal = database.with_name(database.name + "-wal")
    log = wal.stat().st_size if wal.exists() else 0
    connection = sqlite3.connect(database)
    try:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.close()
    if busy:
        raise RuntimeError(f"{database}: the log could not be emptied, somebody reads")
    return log, database.stat().st_size


def _mb(count: int) -> str:
    return f"{count / 1e6:,.2f} MB"
