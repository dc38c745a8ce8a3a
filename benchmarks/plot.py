"""A picture of what was measured: `python -m benchmarks.plot results/DATE.json`, or at the end of a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import appends, steps
from .report import RESULTS

COLOURS = {
    appends.ASYNC: "#1b6ca8",
    appends.SYNC: "#74b3de",
    appends.SAVER: "#2f9e6e",
    appends.DELTA: "#e08a3c",
    appends.PLAIN: "#b5483a",
}
"""By side, the same in every panel."""
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
}
TITLES = {"sqlite": "SQLite", "postgres": "Postgres", "redis": "Redis"}

Results = Mapping[str, Any]


def draw(results: Results, path: Path) -> Path | None:
    """Draw the stores' benchmarks, if all of them are there. Returns the picture's path."""
    kinds = [name for name in TITLES if f"steps-{name}" in results]
    shown = [name for name in ("postgres", "sqlite") if {f"appends-{name}", f"loads-{name}"} <= results.keys()]
    if not kinds or not shown:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 7.2), layout="constrained")
        (first, second), (third, fourth) = figure.subplots(2, 2)
        _steps(first, results, kinds)
        data = results[f"appends-{shown[0]}"]["data"]
        title = TITLES[shown[0]]
        _lines(second, data, lambda one: one["seconds"], f"Appends of 1 KB, {title}", "seconds in all")
        _lines(third, data, lambda one: one["sizes"]["left"] / 1e6, f"Their bytes on disk, {title}", "MB as left")
        _text(third, data)
        _loads(fourth, results[f"loads-{shown[0]}"]["data"]["reads"], title)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    return path


def _steps(axes: Axes, results: Results, kinds: Sequence[str]) -> None:
    groups = [(kind, mode) for kind in kinds for mode in steps.MODES]
    names: dict[str, str] = {}
    for place, (kind, mode) in enumerate(groups):
        found = results[f"steps-{kind}"]["data"][mode]
        rates = found["rates"]
        bars = [("Perdure", COLOURS[appends.ASYNC], rates[steps.ACTOR])]
        if "best" in found:
            bars.append(("LangGraph", COLOURS[appends.DELTA], rates[found["best"]]))
        for offset, (label, colour, rate) in zip((-0.2, 0.2), bars, strict=False):
            new = label not in names
            names[label] = colour
            axes.bar(place + offset, rate, 0.38, color=colour, label=label if new else None)
            axes.text(place + offset, rate * 1.06, _rounded(rate), ha="center", fontsize=7, color="#444444")
        if "gain" in found:
            top = max(rate for _, _, rate in bars)
            axes.text(place, top * 1.55, f"{found['gain']:.1f}x", ha="center", fontweight="bold")
    axes.set_yscale("log")
    axes.set_ylim(top=axes.get_ylim()[1] * 2.2)
    axes.set_xticks(range(len(groups)), [f"{TITLES[kind]}\n{mode}" for kind, mode in groups])
    axes.set_title("Tiny steps of one thread")
    axes.set_ylabel("steps a second")
    axes.legend(frameon=False, loc="upper right")


def _lines(axes: Axes, data: Results, value: Any, title: str, label: str) -> None:
    for name, colour in COLOURS.items():
        if name not in data:
            continue
        points = sorted((int(count), median(map(value, found))) for count, found in data[name].items())
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=_label(name), markersize=4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    counts = sorted(int(count) for count in data[appends.ASYNC])
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.grid(axis="y", color="#e6e6e6")
    axes.set_axisbelow(True)
    axes.set_title(title)
    axes.set_xlabel("appends")
    axes.set_ylabel(label)
    axes.legend(frameon=False, fontsize=8)


def _text(axes: Axes, data: Results) -> None:
    """The size of the data itself."""
    counts = sorted(int(count) for count in data[appends.ASYNC])
    axes.plot(counts, [count * appends.TEXT / 1e6 for count in counts], ":", color="#777777", label="the text itself")
    axes.legend(frameon=False, fontsize=8)


def _loads(axes: Axes, reads: Results, title: str) -> None:
    for place, (name, read) in enumerate(reads.items()):
        side = name.partition(",")[0]
        axes.barh(place, read["newest"] * 1e3, 0.7, color=COLOURS[side])
        axes.text(read["newest"] * 1e3 * 1.08, place, f"{read['newest'] * 1e3:,.1f}", va="center", fontsize=7)
    axes.set_yticks(range(len(reads)), [_label(name) for name in reads])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_xlim(right=axes.get_xlim()[1] * 1.8)
    axes.set_title(f"Reading the newest state, {title}")
    axes.set_xlabel("milliseconds")


def _label(name: str) -> str:
    return f"Perdure {name}" if name.partition(",")[0] in appends.OURS else name


def _rounded(rate: float) -> str:
    return f"{rate / 1000:.1f}k" if rate >= 10_000 else f"{rate:,.0f}"


if __name__ == "__main__":
    print(draw(json.loads(Path(sys.argv[1]).read_text())["results"], RESULTS / "stores.png"))
