"""A newer version of the audit, with a rule more: functions that are too long. It writes no report.

The rule needs nothing that the analysis has not recorded, so that audits which were made before there was such a rule
can be run with it from `collect` on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from perdure import END, START, StateGraph
from perdure.examples import audit_graph
from perdure.examples.audit_graph import ANALYSE, Audit, Outcome, Request, analyse_file, each_file, list_files, review
from perdure.examples.audit_records import FunctionReport, ModuleReport

RULE = "too-long"
LONGEST = 60
"""Lines that a function may have."""


def too_long(reports: Iterable[ModuleReport]) -> list[FunctionReport]:
    """The functions that the rule finds, the longest first."""
    found = [function for report in reports for function in report["functions"] if function["lines"] > LONGEST]
    return sorted(found, key=lambda one: (-one["lines"], one["path"], one["line"]))


def collect(state: Audit) -> dict[str, dict[str, int]]:
    """Merge what the tasks found, by the rules that there were and by the new one."""
    counts: Mapping[str, int] = audit_graph.collect(state)["counts"]
    found = len(too_long(state.get("reports", [])))
    return {"counts": {**counts, RULE: found} if found else dict(counts)}


def _builder() -> StateGraph:
    builder = StateGraph(Audit, input_schema=Request, output_schema=Outcome)
    builder.add_node("list_files", list_files)
    builder.add_node(ANALYSE, analyse_file)
    builder.add_node("collect", collect)
    builder.add_node("review", review)
    builder.add_edge(START, "list_files")
    builder.add_conditional_edges("list_files", each_file, [ANALYSE, "collect"])
    builder.add_edge(ANALYSE, "collect")
    builder.add_edge("collect", "review")
    builder.add_edge("review", END)
    return builder


graph = _builder().compile(name="audit", version="2")
