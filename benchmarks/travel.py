"""What looking at a long thread's past costs, and forking from it, beside reading the same bytes raw."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import psycopg
from psycopg import sql

from perdure import CheckpointStore, CompiledGraph, open_store
from perdure.runtime.restore import load_control
from perdure.runtime.snapshots import config_of
from perdure.stores.history import HistoryReader

from . import graphs
from .appends import TEXT
from .backends import Backend
from .report import Grid, Line, Report, percentile

THREAD = "long"
PAGE = 20
"""States on a page of the history. Their values are not looked at."""
TARGET = 10.0
"""How often as long as the raw read, at p95."""
SEED = 7


@dataclass(slots=True)
class Visits:
    """Of one kind, to random checkpoints."""

    ours: list[float] = field(default_factory=list)
    """Seconds."""
    raw: list[float] = field(default_factory=list)
    """Seconds that reading the same bytes took right after it."""
    bytes: list[int] = field(default_factory=list)


class Raw(Protocol):
    """The database, past the store."""

    def row(self) -> int:
        """Read the thread's row; how many columns it has."""

    def newest(self, at: int, count: int) -> int:
        """Read `count` segments backwards from the one with commit `at` on; bytes."""

    def between(self, first: int, last: int) -> int:
        """Read the segments of these commits; bytes."""


class RawSqlite:
    """See `Raw`."""

    _MINE = "SELECT data FROM segments WHERE thread = (SELECT number FROM threads WHERE thread_id = ?) "

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def row(self) -> int:
        return len(self._connection.execute("SELECT * FROM threads WHERE thread_id = ?", (THREAD,)).fetchone())

    def newest(self, at: int, count: int) -> int:
        return self._bytes("AND first <= ? ORDER BY first DESC LIMIT ?", at, count)

    def between(self, first: int, last: int) -> int:
        # The one that holds `first` is the last that does not begin after it.
        below = "(SELECT max(first) FROM segments WHERE thread = (SELECT number FROM threads WHERE thread_id = ?) "
        query = f"AND first <= ? AND first >= {below} AND first <= ?) ORDER BY first DESC"
        return self._bytes(query, last, THREAD, first)

    def _bytes(self, which: str, *values: object) -> int:
        return sum(len(data) for (data,) in self._connection.execute(self._MINE + which, (THREAD, *values)))


class RawPostgres:
    """See `Raw`."""

    _MINE = (
        "SELECT data FROM perdure.segments WHERE thread = (SELECT number FROM perdure.threads WHERE thread_id = %s) "
    )

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def row(self) -> int:
        found = self._connection.execute("SELECT * FROM perdure.threads WHERE thread_id = %s", (THREAD,)).fetchone()
        return len(found or ())

    def newest(self, at: int, count: int) -> int:
        return self._bytes("AND first <= %s ORDER BY first DESC LIMIT %s", at, count)

    def between(self, first: int, last: int) -> int:
        below = (
            "(SELECT max(first) FROM perdure.segments WHERE thread = "
            "(SELECT number FROM perdure.threads WHERE thread_id = %s) "
        )
        query = f"AND first <= %s AND first >= {below} AND first <= %s) ORDER BY first DESC"
        return self._bytes(query, last, THREAD, first)

    def _bytes(self, which: str, *values: object) -> int:
        found = self._connection.execute(sql.SQL(self._MINE + which), (THREAD, *values), binary=True)
        return sum(len(data) for (data,) in found)


def run(report: Report, backend: Backend, *, steps: int, visits: int) -> None:
    """Grow a thread by a kilobyte a step, then visit its past."""
    url = backend.fresh()
    with open_store(url) as store:
        given = {"n": 0, "steps": steps, "texts": [], "report": ""}
        graphs.build("appends", store).invoke(given, _config())
    with open_store(url) as store, closing(_connect(url)) as connection:
        raw = RawSqlite(connection) if isinstance(connection, sqlite3.Connection) else RawPostgres(connection)
        found = Visitor(store, raw).all(visits)
    backend.drop(url)
    _report(report, backend, found, steps, visits)


class Visitor:
    """Visits checkpoints of the thread, each with a graph that remembers nothing of the one before."""

    def __init__(self, store: CheckpointStore, raw: Raw) -> None:
        self._store = store
        self._raw = raw
        self._seqs = [row.checkpoint for _, row in HistoryReader(store, THREAD).checkpoints()][::-1]
        self._draw = random.Random(SEED)

    def all(self, visits: int) -> dict[str, Visits]:
        """Every kind, in alternation. The first round only warms up."""
        found = {"history page": Visits(), "state": Visits(), "fork": Visits()}
        for number in range(visits + 1):
            for name, visit in (("history page", self._page), ("state", self._state), ("fork", self._fork)):
                ours, raw, size = visit(self._draw.choice(self._seqs[1:]))
                if number:
                    found[name].ours.append(ours)
                    found[name].raw.append(raw)
                    found[name].bytes.append(size)
        return found

    def _page(self, seq: int) -> tuple[float, float, int]:
        graph = self._graph()
        before = config_of(THREAD, seq)
        states, ours = _timed(lambda: list(graph.get_state_history(_config(), before=before, limit=PAGE)))
        seqs = [int(state.checkpoint_id) for state in states]
        if seqs != self._seqs[: self._seqs.index(seq)][: -PAGE - 1 : -1]:
            raise AssertionError(f"the page before {seq} has the states {seqs}")
        size, raw = _timed(lambda: self._raw.row() and self._raw.between(seqs[-1], seqs[0]))
        return ours, raw, size

    def _state(self, seq: int) -> tuple[float, float, int]:
        graph = self._graph()
        values, ours = _timed(lambda: dict(graph.get_state(config_of(THREAD, seq)).values))
        if len(values["texts"]) != values["n"]:
            raise AssertionError(f"state {seq} has {len(values['texts'])} texts after {values['n']} steps")
        reader = HistoryReader(self._store, THREAD)
        reader.channels(load_control(reader, seq).manifest, at=seq)
        count = max(1, reader.segments)
        size, raw = _timed(lambda: self._raw.row() and self._raw.newest(seq, count))
        return ours, raw, size

    def _fork(self, seq: int) -> tuple[float, float, int]:
        graph = self._graph()
        _, ours = _timed(lambda: graph.fork(config_of(THREAD, seq)))
        size, raw = _timed(lambda: self._raw.row() and self._raw.between(seq, seq))
        return ours, raw, size

    def _graph(self) -> CompiledGraph:
        graph = graphs.build("appends", self._store)
        assert graph.codec, "made with the graph, not on the clock"
        return graph


def _report(report: Report, backend: Backend, found: dict[str, Visits], steps: int, visits: int) -> None:
    rows: list[list[str]] = []
    lines: list[Line] = []
    for name, one in found.items():
        ours, raw = percentile(one.ours, 0.95), percentile(one.raw, 0.95)
        median = percentile(one.ours, 0.5), percentile(one.raw, 0.5)
        most = f"{max(one.bytes) / 1e6:,.2f} MB"
        rows.append([name, _ms(median[0]), _ms(ours), _ms(median[1]), _ms(raw), most])
        note = f"{_ms(ours)} against {_ms(raw)}, target {TARGET:g}x"
        lines.append(Line(f"{name}: p95, times the raw read", f"{ours / raw:.1f}x", note, met=ours <= TARGET * raw))
    grid = Grid(("", "p50", "p95", "raw p50", "raw p95", "raw bytes at most"), rows)
    size = f"{steps * TEXT / 1e6:,.1f} MB of state after {steps:,} steps"
    title = f"a long thread's past, {backend.title}: {size}, {visits} random checkpoints, nothing remembered"
    report.add(f"travel-{backend.name}", title, lines, {name: asdict(one) for name, one in found.items()}, grid)


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    found = call()
    return found, time.perf_counter() - started


def _connect(url: str) -> sqlite3.Connection | psycopg.Connection:
    if url.startswith("sqlite"):
        return sqlite3.connect(url.removeprefix("sqlite:///"))
    return psycopg.connect(url, autocommit=True)


def _config() -> dict[str, Any]:
    return {"configurable": {"thread_id": THREAD}, "recursion_limit": 1_000_000}


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.2f} ms"
