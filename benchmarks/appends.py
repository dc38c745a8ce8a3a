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
FLAT = 1.5
"""How much slower the last steps may be than the first, given that the machine has other work too."""
LOADS = 5


@dataclass(frozen=True, slots=True)
class Side:
    """One way of appending, measured."""

    seconds: float
    first: float
    """Seconds per step over the first quarter."""
    last: float
    """Over the last quarter."""
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
    lines = []
    for mode, side in sides.items():
        growth = side.last / side.first
        lines += [
            Line(f"{mode}: database file", _mb(side.file), f"target {_mb(allowed)}", met=side.file <= allowed),
            Line(f"{mode}: its log before the checkpoint", _mb(side.log), f"{_mb(side.written)} written in all"),
            Line(f"{mode}: time", f"{side.seconds:.2f} s", f"{steps / side.seconds:,.0f} steps/s"),
            Line(
                f"{mode}: a step, first and last quarter",
                f"{side.first * 1e6:,.0f}, {side.last * 1e6:,.0f} µs",
                f"{growth:.2f}x, flat if at most {FLAT:g}x",
                met=growth <= FLAT,
            ),
            Line(f"{mode}: load the newest state", f"{side.load * 1e3:.1f} ms"),
        ]
    lines += [
        Line("LangGraph: database file", _mb(other.file), f"{other.file / sides['async'].file:,.0f}x perdure's"),
        Line("LangGraph: its log before the checkpoint", _mb(other.log), f"{_mb(other.written)} written in all"),
        Line("LangGraph: time", f"{other.seconds:.2f} s", f"{other.seconds / sides['async'].seconds:,.0f}x perdure's"),
        Line(
            "LangGraph: a step, first and last quarter",
            f"{other.first * 1e6:,.0f}, {other.last * 1e6:,.0f} µs",
            f"{other.last / other.first:.2f}x",
        ),
        Line("LangGraph: load the newest state", f"{other.load * 1e3:.1f} ms"),
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
    return _side(said, steps, seconds(said), log, file, said[-1].written - said[0].written, median(loads))


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
    took = (answer["ended"] - said[0].at) / 1e9
    return _side(said, steps, took, log, file, answer["written"] - said[0].written, answer["load_seconds"])


def _side(said: list[Mark], steps: int, took: float, log: int, file: int, written: int, load: float) -> Side:
    at = {mark.number: mark.at for mark in said if mark.what != "last"}
    at[steps] = said[0].at + round(took * 1e9)
    quarter = steps // 4
    first, end = ((at[to] - at[to - quarter]) / 1e9 / quarter for to in (quarter, steps))
    return Side(took, first, end, file, log, written, load)


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
