"""What was measured: a table for people, JSON for comparisons."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "perdure",
    "ray",
    "pyarrow",
    "msgspec",
    "psycopg",
    "redis",
    "langgraph",
    "langgraph-checkpoint",
    "langgraph-checkpoint-postgres",
    "langgraph-checkpoint-sqlite",
    "dbos",
)


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table."""

    what: str
    value: str
    note: str = ""
    met: bool | None = None
    """Whether a target was met; None where there is none."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of its own above the lines; the first column is text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def table(self, title: str) -> Table:
        """For the console."""
        table = Table(title=title, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table


@dataclass(slots=True)
class Report:
    """Prints each table as soon as it is there, and keeps everything for the file."""

    console: Console
    folder: Path = RESULTS
    judging: bool = True
    """Whether targets count; they mean nothing for small numbers."""
    results: dict[str, Any] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)

    def add(self, name: str, title: str, lines: Sequence[Line], data: dict[str, Any], grid: Grid | None = None) -> None:
        """Show one benchmark's table, or two, and keep its `data`."""
        if grid is not None:
            self.console.print(grid.table(title))
        table = Table(title="" if grid is not None else title, title_justify="left")
        table.add_column("measured")
        table.add_column("value", justify="right")
        table.add_column("")
        for line in lines:
            if not self.judging:
                line = replace(line, met=None)  # noqa: PLW2901 — the same without its judgement
            style = {True: "green", False: "red", None: ""}[line.met]
            table.add_row(line.what, line.value, line.note, style=style)
            if line.met is False:
                self.missed.append(f"{name}: {line.what}: {line.value} ({line.note})")
        load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
        table.caption = f"load of the machine: {load} on {os.cpu_count()} CPUs"
        self.console.print(table)
        shown = [{"what": line.what, "value": line.value, "note": line.note, "met": line.met} for line in lines]
        self.results[name] = {"title": title, "lines": shown, "data": data}
        if grid is not None:
            self.results[name]["grid"] = [list(grid.columns), *map(list, grid.rows)]

    def write(self) -> Path:
        """Write the file; its path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / time.strftime("%Y%m%d-%H%M%S.json")
        path.write_text(json.dumps({"machine": machine(), "results": self.results, "missed": self.missed}, indent=1))
        return path


def machine() -> dict[str, Any]:
    """Where it was measured. The load tells of other work beside it."""
    return {
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
