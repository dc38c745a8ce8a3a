"""What the audit found, added up and written down for a maintainer to read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from .audit_records import COMPLEXITY, RULES, Finding, FunctionReport, ModuleReport, Summary, Totals

WORST = 25
TOP_LEVEL = "(top level)"


def merge(reports: Iterable[ModuleReport]) -> Summary:
    """Add the reports up; the same whatever their order, and a report that comes twice counts once."""
    ordered = _ordered(reports)
    files = [_totals(report["path"], [report]) for report in ordered]
    packages: dict[str, list[ModuleReport]] = {}
    for report in ordered:
        packages.setdefault(_package(report), []).append(report)
    functions = [function for report in ordered for function in report["functions"]]
    functions.sort(key=lambda function: (-function["complexity"], function["path"], function["line"]))
    counts = Counter(finding["rule"] for report in ordered for finding in report["findings"])
    return Summary(
        total=_totals("", ordered),
        packages=[_totals(name, packages[name]) for name in sorted(packages)],
        files=files,
        rules={rule: counts[rule] for rule in RULES if counts[rule]},
        worst=functions[:WORST],
    )


def findings(reports: Iterable[ModuleReport], threshold: int = COMPLEXITY) -> list[Finding]:
    """All findings, the gravest rule first, then by file and line; with `too-complex` for each function whose
    complexity is above `threshold`."""
    found: list[Finding] = []
    for report in _ordered(reports):
        found.extend(report["findings"])
        for function in report["functions"]:
            if function["complexity"] > threshold:
                message = f"complexity {function['complexity']}"
                found.append(
                    Finding(
                        path=report["path"],
                        line=function["line"],
                        rule="too-complex",
                        symbol=function["name"],
                        message=message,
                    )
                )
    rank = {rule: place for place, rule in enumerate(RULES)}
    return sorted(found, key=lambda one: (rank[one["rule"]], one["path"], one["line"], one["symbol"], one["message"]))


def render_markdown(
    summary: Summary,
    found: Sequence[Finding],
    *,
    title: str = "Audit of Python source",
    root: str | None = None,
    listed: int = 20,
) -> str:
    """The report. Paths are shown relative to `root` (default: the folder that holds all files); of each rule at most
    `listed` findings are listed. The same input gives the same text: it holds no date and no path above `root`."""
    paths = [file["name"] for file in summary["files"]]
    base = root if root is not None else _common_folder(paths)
    lines = [f"# {_plain(title)}", "", *_overview(summary, found)]
    lines += ["", "## Most complex functions", "", *_worst(summary["worst"], base)]
    lines += ["", "## Findings by rule", "", *_by_rule(found)]
    lines += ["", "## By package", "", *_table_of(summary["packages"], "package", "")]
    lines += ["", "## Where", "", *_where(found, base, listed)]
    by_findings = sorted(summary["files"], key=lambda file: (-file["findings"], -file["worst"], file["name"]))
    lines += ["", "## Files", "", *_table_of(by_findings, "file", base)]
    return "\n".join(lines) + "\n"


# -- adding up -------------------------------------------------------------------------------------------------------


def _ordered(reports: Iterable[ModuleReport]) -> list[ModuleReport]:
    by_path = {report["path"]: report for report in reports}
    return [by_path[path] for path in sorted(by_path)]


def _package(report: ModuleReport) -> str:
    """The outermost package; a module outside all packages belongs to the top level."""
    first, dot, _ = report["module"].partition(".")
    return first if dot or os.path.basename(report["path"]) == "__init__.py" else TOP_LEVEL


def _totals(name: str, reports: Sequence[ModuleReport]) -> Totals:
    return Totals(
        name=name,
        modules=len(reports),
        lines=sum(report["lines"] for report in reports),
        functions=sum(len(report["functions"]) for report in reports),
        worst=max((function["complexity"] for report in reports for function in report["functions"]), default=0),
        findings=sum(len(report["findings"]) for report in reports),
        todos=sum(report["todos"] for report in reports),
        documentable=sum(report["documentable"] for report in reports),
        undocumented=sum(report["undocumented"] for report in reports),
    )


def _common_folder(paths: Sequence[str]) -> str:
    return os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""


# -- writing down ----------------------------------------------------------------------------------------------------


def _overview(summary: Summary, found: Sequence[Finding]) -> Iterator[str]:
    total = summary["total"]
    yield (
        f"{total['modules']:,} files, {total['lines']:,} lines, {total['functions']:,} functions: "
        f"{len(found):,} findings, {total['todos']:,} comments that ask for work, and "
        f"{total['undocumented']:,} of {total['documentable']:,} public names without a docstring."
    )
    unread = sum(summary["rules"].get(rule, 0) for rule in ("syntax-error", "encoding-error", "unreadable"))
    if unread:
        yield ""
        yield f"**{unread:,} of the files could not be checked** (see the first rules under Where)."


def _worst(functions: Sequence[FunctionReport], base: str) -> Iterator[str]:
    rows = [
        [
            f"`{_plain(function['name'])}`",
            _location(function["path"], function["line"], base),
            *map(str, (function["complexity"], function["lines"], function["depth"], function["arguments"])),
        ]
        for function in functions
    ]
    yield from _table(["function", "where", "complexity", "lines", "depth", "arguments"], rows, texts=2)
    yield ""
    yield "Complexity is McCabe's (1976): conditions and loops, each part of a compound condition counted, plus one."


def _by_rule(found: Sequence[Finding]) -> Iterator[str]:
    counts = Counter(finding["rule"] for finding in found)
    files = Counter(rule for rule, _ in {(finding["rule"], finding["path"]) for finding in found})
    rows = [[rule, why, f"{counts[rule]:,}", f"{files[rule]:,}"] for rule, why in RULES.items() if counts[rule]]
    yield from _table(["rule", "why it matters", "findings", "files"], rows, texts=2)


def _where(found: Sequence[Finding], base: str, listed: int) -> Iterator[str]:
    for rule in RULES:
        # The complex functions have their table above, in an order that tells more.
        of_rule = [finding for finding in found if finding["rule"] == rule != "too-complex"]
        if not of_rule:
            continue
        yield f"### {rule} ({len(of_rule):,})"
        yield ""
        for finding in of_rule[:listed]:
            symbol = f" in `{_plain(finding['symbol'])}`" if finding["symbol"] else ""
            yield f"- {_location(finding['path'], finding['line'], base)}{symbol}: {_plain(finding['message'])}"
        if len(of_rule) > listed:
            yield f"- and {len(of_rule) - listed:,} more"
        yield ""


def _table_of(totals: Sequence[Totals], kind: str, base: str) -> Iterator[str]:
    rows = [
        [
            _location(one["name"], 0, base) if base else f"`{_plain(one['name'])}`",
            *(f"{one[key]:,}" for key in ("modules", "lines", "functions", "worst", "findings", "todos")),
            _share(one["documentable"] - one["undocumented"], one["documentable"]),
        ]
        for one in totals
    ]
    heads = [kind, "files", "lines", "functions", "worst complexity", "findings", "to do", "documented"]
    yield from _table(heads, rows, texts=1)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int) -> Iterator[str]:
    """A table whose first `texts` columns are aligned left, the rest right."""
    if not rows:
        yield "None."
        return
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "|".join(" --- " if column < texts else " ---: " for column in range(len(heads))) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _location(path: str, line: int, base: str) -> str:
    shown = os.path.relpath(path, base) if base else path
    return f"`{_plain(shown)}:{line}`" if line else f"`{_plain(shown)}`"


def _share(part: int, whole: int) -> str:
    return f"{100 * part // whole}%" if whole else "-"


def _plain(text: str) -> str:
    """Text that ends neither a table's cell nor a code span."""
    return " ".join(text.replace("|", "\\|").replace("`", "'").split())
