"""The audit as a durable graph.

    list_files -> analyse, one task for each file -> collect -> review, which waits for a human -> write_report

What it needs to know of Perdure is all here; the work itself is in `audit_rules`.
"""

from __future__ import annotations

import json
import operator
import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict

from perdure import END, START, Send, StateGraph, interrupt
from perdure.examples.audit_rules import (
    COMPLEXITY,
    RULES,
    ModuleReport,
    analyse,
    findings,
    list_modules,
    merge,
    render_markdown,
)

ANALYSE = "analyse"


class Request(TypedDict, total=False):
    """What a run of the audit is given."""

    root: str
    """Folder to audit; the standard library if there is none."""
    threshold: int
    """Functions above this complexity are findings."""
    report: str
    """Where the report is written; an absolute path, since nodes run in other processes. Empty: nowhere."""


class Outcome(TypedDict, total=False):
    """What a run of the audit ends with."""

    approved: bool
    ignored: list[str]
    """Rules whose findings the human did not want."""
    counts: dict[str, int]
    """Findings of each rule, those of ignored rules included."""
    report: str


class Audit(Request, Outcome, total=False):
    """The state."""

    paths: list[str]
    reports: Annotated[list[ModuleReport], operator.add]
    """What was found in each file; in the order of the files, whichever task was done first."""


def list_files(state: Audit) -> dict[str, Any]:
    """The files to look at."""
    paths = list_modules(state.get("root") or None)
    return {"paths": paths, "root": state.get("root") or os.path.commonpath(paths)}


def each_file(state: Audit) -> list[Send] | str:
    """One task for each file. The runtime puts small ones together; each is committed on its own."""
    return [Send(ANALYSE, path) for path in state["paths"]] or "collect"


def analyse_file(path: str, config: Mapping[str, Any]) -> dict[str, list[ModuleReport]]:
    """Analyse one file. Where the run has a journal, note first that it is being done."""
    journal = config["configurable"].get("journal")
    if journal:
        note_attempt(journal, path)
    return {"reports": [analyse(path)]}


def note_attempt(journal: str, path: str) -> None:
    """Append a line to the journal, whole even while other processes append theirs."""
    line = json.dumps({"path": path, "pid": os.getpid(), "at": time.time()}) + "\n"
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def collect(state: Audit) -> dict[str, dict[str, int]]:
    """Merge what the tasks found into a list to approve."""
    found = findings(state.get("reports", []), state.get("threshold", COMPLEXITY))
    counts = Counter(finding["rule"] for finding in found)
    return {"counts": {rule: counts[rule] for rule in RULES if counts[rule]}}


def review(state: Audit) -> dict[str, Any]:
    """Wait for a human's word on the list; an answer that is not understood is asked for again."""
    question: dict[str, Any] = {
        "question": "Write the report? Answer 'approve', 'reject' or {'approve': bool, 'ignore': [rules]}.",
        "files": len(state["paths"]),
        "threshold": state.get("threshold", COMPLEXITY),
        "counts": state["counts"],
    }
    while True:
        answer = interrupt(question)
        try:
            approved, ignored = read_answer(answer)
        except ValueError as error:
            question = {**question, "problem": str(error)}
            continue
        return {"approved": approved, "ignored": ignored}


def read_answer(answer: Any) -> tuple[bool, list[str]]:
    """Whether to go on, and the rules to leave out. Raises `ValueError` saying what was wrong with the answer."""
    if answer in ("approve", "reject"):
        return answer == "approve", []
    if not isinstance(answer, dict) or not isinstance(answer.get("approve"), bool):
        raise ValueError(f"{answer!r} is neither 'approve', 'reject' nor a dict with 'approve': True or False")
    ignored = answer.get("ignore", [])
    if not isinstance(ignored, list) or not all(isinstance(rule, str) and rule in RULES for rule in ignored):
        raise ValueError(f"'ignore' is {ignored!r}; give a list of rules out of {', '.join(RULES)}")
    return answer["approve"], ignored


def write_report(state: Audit) -> dict[str, str]:
    """Write the report, in one step: a second attempt replaces it by the same text."""
    if not state["approved"] or not state.get("report"):
        return {"report": ""}
    kept = [
        finding
        for finding in findings(state.get("reports", []), state.get("threshold", COMPLEXITY))
        if finding["rule"] not in state["ignored"]
    ]
    target = Path(state["report"])
    title = f"Audit of {Path(state['root']).name}, functions up to complexity {state.get('threshold', COMPLEXITY)}"
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.write_text(render_markdown(merge(state.get("reports", [])), kept, title=title, root=state["root"]))
    draft.replace(target)
    return {"report": str(target)}


def _builder() -> StateGraph:
    builder = StateGraph(Audit, input_schema=Request, output_schema=Outcome)
    builder.add_node("list_files", list_files)
    builder.add_node(ANALYSE, analyse_file)
    builder.add_node("collect", collect)
    builder.add_node("review", review)
    builder.add_node("write_report", write_report, effects=True)
    builder.add_edge(START, "list_files")
    builder.add_conditional_edges("list_files", each_file, [ANALYSE, "collect"])
    builder.add_edge(ANALYSE, "collect")
    builder.add_edge("collect", "review")
    builder.add_edge("review", "write_report")
    builder.add_edge("write_report", END)
    return builder


graph = _builder().compile(name="audit", version="1")
