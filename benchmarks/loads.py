"""How long it takes to read a long list back: the newest state, and an old one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import msgspec

from . import appends, children
from .backends import Backend
from .orders import Answer, Compact, Compacted, Load, Loaded, Ran
from .report import Grid, Line, Report

WITHIN = 0.2
"""Seconds in which the newest state of the longest list of ours has to be there ("milliseconds")."""


@dataclass(frozen=True, slots=True)
class Read:
    """Seconds, medians."""

    newest: float
    old: float


def run(report: Report, backend: Backend, *, count: int, long: int, times: int) -> None:
    """Grow a thread for each side, then read it in new processes. `long` is the length for those of ours only."""
    found: dict[str, Read] = {}
    compactions: dict[str, dict[str, Any]] = {}
    for side in appends.sides_of(backend):
        if side.actor:
            continue
        for texts in dict.fromkeys((count, long) if not side.saver else (count,)):
            name = f"{side.name}, {texts:,}"
            for answer in _grown_and_read(backend, side, texts, times):
                match answer:
                    case Compacted():
                        compactions[name] = msgspec.structs.asdict(answer)
                        name = f"{name}, compacted"
                    case Loaded():
                        if answer.texts != texts or not 0 < answer.middle_texts < texts:
                            raise AssertionError(f"{name}: read {answer.texts} texts, and {answer.middle_texts}")
                        found[name] = Read(median(answer.newest), median(answer.middle))
    _report(report, backend, found, compactions, count, long)


def _grown_and_read(backend: Backend, side: appends.Side, texts: int, times: int) -> list[Answer]:
    """Read by a process that did not write it; ours once more after compaction."""
    url, program = backend.fresh(), "langgraph" if side.saver else "perdure"
    children.run(program, appends.order(side, url, texts), Ran)
    load = Load(url=url, saver=side.saver, graph=side.graph, texts=texts, times=times)
    answers = children.run_all(program, [load] if side.saver else [load, Compact(url=url), load])
    backend.drop(url)
    return answers


def _report(
    report: Report,
    backend: Backend,
    found: dict[str, Read],
    compactions: dict[str, dict[str, Any]],
    count: int,
    long: int,
) -> None:
    base = found.get(f"{appends.DELTA}, {count:,}")
    rows = [[name, _ms(read.newest), _ms(read.old)] for name, read in found.items()]
    grid = Grid(("texts of 1 KB", "newest state", "state in the middle"), rows)
    lines: list[Line] = []
    for name, done in compactions.items():
        merged = f"{done['before']} segments become {done['after']}"
        lines.append(Line(f"{name}: compaction", f"{done['seconds'] * 1e3:,.0f} ms", merged))
    if base is not None:
        for name in appends.OURS:
            gain = base.newest / found[f"{name}, {count:,}"].newest
            lines.append(Line(f"{name}: newest state, times as fast as the DeltaChannel", f"{gain:.1f}x"))
    for name in (f"{one}, {long:,}" for one in appends.OURS):
        note = f"target {_ms(WITHIN)}"
        lines.append(Line(f"{name}: newest state", _ms(found[name].newest), note, met=found[name].newest <= WITHIN))
    title = f"reading a thread back, {backend.title}: each time by a store that was just opened"
    data = {"reads": {name: asdict(read) for name, read in found.items()}, "compactions": compactions}
    report.add(f"loads-{backend.name}", title, lines, data, grid)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms"
