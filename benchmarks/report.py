"""What was measured: a table for people, JSON for comparisons."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("perdure", "ray", "pyarrow", "msgspec")


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table."""

    what: str
    value: str
    note: str = ""
    met: bool | None = None
    """Whether a target was met; None where there is none."""


@dataclass(slots=True)
class Report:
    """Prints each table as soon as it is there, and keeps everything for the file."""

    console: Console
    results: dict[str, Any] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)

    def add(self, name: str, title: str, lines: list[Line], data: dict[str, Any]) -> None:
        """Show one benchmark's table, and keep its `data`."""
        table = Table(title=title, title_justify="left")
        table.add_column("measured")
        table.add_column("value", justify="right")
        table.add_column("")
        for line in lines:
            style = {True: "green", False: "red", None: ""}[line.met]
            table.add_row(line.what, line.value, line.note, style=style)
            if line.met is False:
                self.missed.append(f"{name}: {line.what}: {line.value} ({line.note})")
        load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
        table.caption = f"load of the machine: {load} on {os.cpu_count()} CPUs"
        self.console.print(table)
        shown = [{"what": line.what, "value": line.value, "note": line.note, "met": line.met} for line in lines]
        self.results[name] = {"title": title, "lines": shown, "data": data}

    def write(self) -> Path:
        """Write the file; its path."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
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
