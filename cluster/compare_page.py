"""A comparison as one HTML page: tables, and plots as SVG. It loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape

from .compare_summary import Comparison, Pairs
from .errors import ClientError

_KEYS = 30
_STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 }
th, td { border-bottom: 1px solid #ddd; padding: .25em .8em .25em 0; text-align: left; vertical-align: top }
td { overflow-wrap: anywhere }
td.number { text-align: right; font-variant-numeric: tabular-nums }
figure { margin: 1em 0 }
svg { max-width: 100%; height: auto }
"""


def plotter() -> Callable[[Sequence[Pairs]], str]:
    """What draws the plots of a page. Raises `ClientError` where matplotlib is not installed."""
    try:
        from .compare_plots import drawn
    except ImportError as error:
        raise ClientError(
            "the page of a comparison has plots, and matplotlib, which draws them, is not installed here: "
            "pip install 'perdure[plots]'"
        ) from error
    return drawn


def comparison_page(found: Comparison) -> str:
    """The page. Every text that comes from a thread is escaped. Raises `ClientError` as `plotter`."""
    draw = plotter()
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
            *_plots([pairs for pairs in found.numbers if pairs.points], draw),
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


def _plots(numbers: Sequence[Pairs], draw: Callable[[Sequence[Pairs]], str]) -> Iterator[str]:
    if numbers:
        caption = "Each point is a thread; on the line nothing has changed."
        yield f"<figure>{draw(numbers)}<figcaption>{caption}</figcaption></figure>"


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


def _text(number: float | None) -> str:
    return "" if number is None else f"{number:,.4g}"
