"""The plots of a comparison, drawn by matplotlib: one SVG that stands inside a page. Only that imports it."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .compare_summary import Pairs

POINT = "#1f6fb2"
"""Colour of a thread."""
_COLUMNS, _WIDTH, _HEIGHT = 3, 3.4, 3.6
"""Plots beside each other; inches of each."""
_LARGEST = 1e150
"""Numbers beyond are left out: of them the difference of two may be infinite."""
_STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # Texts stay texts, and the same comparison gives the same page.
    "svg.fonttype": "none",
    "svg.hashsalt": "perdure",
}
_NO_METADATA: Any = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def drawn(numbers: Sequence[Pairs]) -> str:
    """An `svg` element with a plot for each number: a point a thread, old to the right, new upwards. Where nothing has
    changed it is on the line. `numbers`: those with points, at least one."""
    columns = min(len(numbers), _COLUMNS)
    rows = math.ceil(len(numbers) / columns)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * rows), layout="constrained")
        places = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, pairs in zip(places, numbers, strict=False):
            _plot(axes, pairs)
        for axes in places[len(numbers) :]:
            axes.remove()
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata=_NO_METADATA)
    text = written.getvalue()
    # What stands before is for files of their own.
    return text[text.index("<svg") :]


def _plot(axes: Axes, pairs: Pairs) -> None:
    points = [(old, new) for old, new in pairs.points if max(abs(old), abs(new)) <= _LARGEST]
    # The names are the user's: nothing in them is a formula.
    axes.set_title(f"{pairs.label}: {len(points):,} of {pairs.count:,} threads", parse_math=False)
    axes.set_xlabel(f"old {pairs.label}", parse_math=False)
    axes.set_ylabel(f"new {pairs.label}", parse_math=False)
    if not points:
        return
    every = [number for point in points for number in point]
    low, high = min(every), max(every)
    room = (high - low) / 20 or abs(low) / 20 or 1.0
    ends = (low - room, high + room)
    axes.plot(ends, ends, color="#bbb", linestyle="--", linewidth=1, zorder=0)
    old, new = zip(*points, strict=True)
    axes.scatter(old, new, s=14, color=POINT, alpha=0.5, linewidths=0)
    axes.set(xlim=ends, ylim=ends, box_aspect=1)
