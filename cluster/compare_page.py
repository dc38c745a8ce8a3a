"""A comparison as one HTML page: tables, and plots drawn as SVG. It loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from .compare_summary import Comparison, Pairs

_SIDE, _MARGIN = 240, 44
"""Of a plot, in pixels."""
_KEYS = 30
_STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 }
th, td { border-bottom: 1px solid #ddd; padding: .25em .8em .25em 0; text-align: left; vertical-align: top }
td { overflow-wrap: anywhere }
td.number { text-align: right; font-variant-numeric: tabular-nums }
figure { display: inline-block; margin: 0 1.5em 1em 0 }
svg { font: 11px system-ui, sans-serif }
.axis { stroke: #888 } .even { stroke: #bbb; stroke-dasharray: 4 3 } .point { fill: #1f6fb2; fill-opacity: .5 }
"""


def comparison_page(found: Comparison) -> str:
    """The page. Every text that comes from a thread is escaped."""
    title = f"Batch {escape(found.batch_id)}: old against new"
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{title}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{title}</h1>",
            f"<p>{escape(headline(found))}</p>",
            *_section("Status", ("old", "new", "threads"), status_rows(found)),
            *_section("Reasons", REASON_COLUMNS, reason_rows(found, _KEYS)),
            *_section("Numbers", NUMBER_COLUMNS, (number_row(pairs) for pairs in found.numbers)),
            *(_plot(pairs) for pairs in found.numbers if pairs.count),
            *_section("Keys of the state that differ", ("key", "threads"), key_rows(found, _KEYS)),
            *_section("Threads that differ", _EXAMPLE_COLUMNS, _examples(found)),
            "</body></html>\n",
        )
    )


NUMBER_COLUMNS = ("", "threads", "old mean", "new mean", "lower", "higher")


def headline(found: Comparison) -> str:
    """The comparison in a line."""
    return (
        f"{found.rows:,} threads: {found.same:,} the same, {found.differing:,} differ, "
        f"{found.problems:,} could not be compared"
    )


def status_rows(found: Comparison) -> Iterator[tuple[str, str, str]]:
    """Old status, new status and number of threads, most first."""
    for (old, new), count in found.statuses.most_common():
        yield old, new, f"{count:,}"


REASON_COLUMNS = ("outcome", "reason", "threads")


def reason_rows(found: Comparison, most: int) -> Iterator[tuple[str, str, str]]:
    """Outcome, reason and number of threads, most first, at most so many."""
    for (outcome, reason), count in found.reasons.most_common(most):
        yield outcome, reason, f"{count:,}"


def number_row(pairs: Pairs) -> tuple[str, ...]:
    """A compared number, in the order of `NUMBER_COLUMNS`."""
    means = (_text(pairs.old_mean), _text(pairs.new_mean))
    return pairs.label, f"{pairs.count:,}", *means, f"{pairs.lower:,}", f"{pairs.higher:,}"


def key_rows(found: Comparison, most: int) -> Iterator[tuple[str, str]]:
    """Keys and in how many threads they differ, at most so many keys."""
    for key, count in found.keys.most_common(most):
        yield key, f"{count:,}"


_EXAMPLE_COLUMNS = ("thread", "re-run", "old", "new", "reason", "what differs")


def _examples(found: Comparison) -> Iterator[tuple[str, ...]]:
    for row in found.examples:
        what = (
            row["problem"] or row["diff"] or ("the reason" if row["old_status"] == row["new_status"] else "the status")
        )
        statuses = (_told(row["old_status"], row["old_reason"]), row["new_status"] or "")
        yield row["thread_id"], row["rerun_id"], *statuses, row["reason"] or "", what


def _told(status: str | None, reason: str | None) -> str:
    return f"{status}: {reason}" if status and reason else status or ""


def _section(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    lines = ["".join(_cell(cell) for cell in row) for row in rows]
    if lines:
        yield f"<h2>{escape(title)}</h2>"
        yield f"<table><tr>{''.join(f'<th>{escape(name)}</th>' for name in columns)}</tr>"
        yield from (f"<tr>{line}</tr>" for line in lines)
        yield "</table>"


def _cell(text: str) -> str:
    number = text.replace(",", "").replace(".", "", 1).isdecimal()
    return f'<td class="number">{escape(text)}</td>' if number else f"<td>{escape(text)}</td>"


def _plot(pairs: Pairs) -> str:
    """A point a thread, old to the right, new upwards: on the line nothing has changed."""
    every = [number for point in pairs.points for number in point]
    low, high = min(every), max(every)
    # halves, for of the largest numbers the difference of two is infinite
    span = high / 2 - low / 2 or 1.0

    def place(number: float) -> float:
        return (number / 2 - low / 2) / span * _SIDE

    left, bottom, size = _MARGIN, _SIDE + 10, _SIDE + _MARGIN + 20
    points = "".join(
        f'<circle class="point" cx="{left + place(old):.1f}" cy="{bottom - place(new):.1f}" r="3"/>'
        for old, new in pairs.points
    )
    label, ends = escape(pairs.label), (escape(_text(low)), escape(_text(high)))
    return (
        f'<figure><svg role="img" aria-label="{label}: old against new" width="{size}" height="{size}">'
        f'<path class="axis" fill="none" d="M{left} 10V{bottom}H{left + _SIDE}"/>'
        f'<line class="even" x1="{left}" y1="{bottom}" x2="{left + _SIDE}" y2="10"/>{points}'
        f'<text x="{left}" y="{bottom + 14}">{ends[0]}</text>'
        f'<text x="{left + _SIDE}" y="{bottom + 14}" text-anchor="end">{ends[1]}</text>'
        f'<text x="{left + _SIDE / 2}" y="{bottom + 30}" text-anchor="middle">old {label}</text>'
        f'<text x="{left - 4}" y="{bottom}" text-anchor="end">{ends[0]}</text>'
        f'<text x="{left - 4}" y="18" text-anchor="end">{ends[1]}</text>'
        f'<text x="12" y="{bottom - _SIDE / 2}" text-anchor="middle" '
        f'transform="rotate(-90 12 {bottom - _SIDE / 2})">new {label}</text></svg>'
        f"<figcaption>{label}, {len(pairs.points):,} of {pairs.count:,} threads</figcaption></figure>"
    )


def _text(number: float | None) -> str:
    return "" if number is None else f"{number:,.4g}"
