"""The audit as a graph: in this process on a small package, and the demo from its command line, with its real kill."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from perdure import Command, CompiledGraph, open_store
from perdure.actors.shipping import REFERENCE, ship
from perdure.examples.audit_graph import graph, read_answer
from perdure.examples.audit_rules import list_modules
from perdure.examples.audit_watch import FanOut, attempts
from perdure.stores.segments import Kind

STDLIB = Path(sysconfig.get_paths()["stdlib"])
SMALL = STDLIB / "json"
CONFIG: dict[str, Any] = {"configurable": {"thread_id": "t"}}


@pytest.fixture
def audit() -> CompiledGraph:
    return CompiledGraph(graph.topology, open_store("memory://"))


def start(audit: CompiledGraph, root: Path, report: Path | str = "", threshold: int = 10) -> dict[str, Any]:
    """Run to the question; what is asked."""
    values = audit.invoke({"root": str(root), "threshold": threshold, "report": str(report)}, CONFIG)
    asked: dict[str, Any] = values["__interrupt__"][0].value
    return asked


def test_it_ships_by_reference() -> None:
    record = ship(graph, signing_key=b"", local=True)
    assert (record.kind, record.body) == (REFERENCE, b"perdure.examples.audit_graph:graph")


def test_a_package_is_audited(audit: CompiledGraph, tmp_path: Path) -> None:
    journal, report = tmp_path / "journal", tmp_path / "report.md"
    config = {"configurable": {"thread_id": "t", "journal": str(journal)}}
    request = {"root": str(SMALL), "threshold": 10, "report": str(report)}
    files = list_modules(SMALL)
    asked = audit.invoke(request, config)["__interrupt__"][0].value
    assert asked["files"] == len(files)
    assert set(asked["counts"]) >= {"shadowed-builtin", "too-complex"}
    assert not report.exists()
    assert [attempt.pid for attempt in attempts(journal)] == [os.getpid()] * len(files)

    ended = audit.invoke(Command(resume={"approve": True, "ignore": ["shadowed-builtin"]}), CONFIG)
    assert ended == {
        "approved": True,
        "ignored": ["shadowed-builtin"],
        "counts": asked["counts"],
        "report": str(report),
    }
    text = report.read_text()
    assert text.startswith("# Audit of json, functions up to complexity 10\n")
    assert f"{sum(asked['counts'].values()) - asked['counts']['shadowed-builtin']} findings" in text
    assert "shadowed-builtin" not in text
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    history = list(audit.get_state_history(CONFIG))
    assert [snapshot.metadata["writes"] for snapshot in history] == [
        ["write_report"],
        ["review"],
        ["collect"],
        ["analyse"] * len(files),
        ["list_files"],
        [],
    ]
    assert history[-2].next == ("analyse",) * len(files)
    assert [report["path"] for report in history[0].values["reports"]] == files


def test_an_answer_that_is_not_understood_is_asked_for_again(audit: CompiledGraph, tmp_path: Path) -> None:
    asked = start(audit, SMALL, tmp_path / "report.md")
    again = audit.invoke(Command(resume={"approve": "yes"}), CONFIG)["__interrupt__"][0].value
    assert {**asked, "problem": again["problem"]} == again
    assert "'approve': True or False" in again["problem"]
    assert audit.invoke(Command(resume="reject"), CONFIG)["report"] == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ("approve", (True, [])),
        ("reject", (False, [])),
        ({"approve": True, "ignore": ["star-import"]}, (True, ["star-import"])),
        ({"approve": False}, (False, [])),
    ],
)
def test_answers(answer: Any, read: tuple[bool, list[str]]) -> None:
    assert read_answer(answer) == read


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "",
        "yes",
        [],
        {},
        {"approve": 1},
        {"approve": True, "ignore": "star-import"},
        {"approve": True, "ignore": [[]]},
    ],
)
def test_answers_that_say_nothing(answer: Any) -> None:
    with pytest.raises(ValueError, match=r"'approve'|'ignore'"):
        read_answer(answer)


def test_a_folder_without_python(audit: CompiledGraph, tmp_path: Path) -> None:
    asked = start(audit, tmp_path)
    assert (asked["files"], asked["counts"]) == (0, {})
    assert audit.invoke(Command(resume="approve"), CONFIG)["approved"] is True


def test_the_watcher_counts_what_is_stored(audit: CompiledGraph) -> None:
    assert audit.checkpointer is not None
    start(audit, SMALL)
    fan_out = FanOut(audit.checkpointer, "t")
    assert fan_out.look() == len(fan_out.files) == len(list_modules(SMALL))
    assert sorted(fan_out.files.values()) == list_modules(SMALL)
    seen = fan_out.bytes
    assert seen > 0
    assert fan_out.look() == len(fan_out.files)
    assert fan_out.bytes == seen


def run_audit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "tmp").mkdir()
    environment = {**os.environ, "PERDURE_HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "COLUMNS": "120"}
    command = [sys.executable, "-m", "perdure.examples.audit", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


def left_over(folder: Path) -> list[str]:
    """Processes that were started for something in `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in process.environ().get("RAY_AUTH_TOKEN_PATH", "") and process.status() != "zombie":
                found.append(f"{process.pid} {process.name()}")
        except psutil.Error:
            continue
    return found


def test_the_demo(tmp_path: Path) -> None:
    tree, keep = tmp_path / "tree", tmp_path / "kept"
    for package in ("asyncio", "email", "json", "unittest", "xml"):
        shutil.copytree(STDLIB / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    done = run_audit(tmp_path, "demo", "--path", str(tree), "--threshold", "8", "--keep", str(keep))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert left_over(tmp_path) == []
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["audit-report-18.md", "audit-report.md", "kept", "tmp", "tree"]
    assert list((tmp_path / "tmp").iterdir()) == []

    with open_store(f"sqlite:///{keep}/audit.db") as store:
        fan_out = FanOut(store, "audit")
        total = fan_out.look()
        rows = [(segment.epoch, row) for segment in store.segments("audit") for row in segment.rows]
        first_owner = [row.channel for epoch, row in rows if row.kind == Kind.RESULT and epoch == 1]
        forked = [row.kind for segment in store.segments("audit-18") for row in segment.rows]
        ended = [str(thread.status) for thread in store.threads().threads]
    assert total == len(list_modules(tree))
    assert ended == ["succeeded", "succeeded"]
    assert Kind.RESULT not in forked

    begun = attempts(keep / "journal")
    times = Counter(attempt.path for attempt in begun)
    assert set(times) == set(fan_out.files.values())
    assert {times[fan_out.files[path]] for path in first_owner} == {1}
    repeated = sum(count > 1 for count in times.values())
    shown = facts(done.stdout)
    assert total / 2 <= len(first_owner) < total
    assert shown["tasks durable before the kill"] == [f"{len(first_owner)} of {total}"]
    assert shown["of these, run again"] == ["0"]
    assert shown["tasks begun but not durable, run again"] == [str(repeated)]
    assert shown["threshold"] == ["8", "18"]
    assert shown["files begun, second attempts included"] == [str(len(begun)), "0"]
    assert re.search(r"kill -9 \d+: .*\n", done.stdout)

    plain = tmp_path / "plain"
    plain.touch()
    strict, lenient = (int(text) for text in shown["findings in the report"])
    assert strict > lenient
    for name, threshold, count in (("audit-report.md", 8, strict), ("audit-report-18.md", 18, lenient)):
        text = (tmp_path / name).read_text()
        # The head's daemon once gave its own umask to all workers: what nodes wrote, only their user could read.
        assert (tmp_path / name).stat().st_mode == plain.stat().st_mode
        assert text.startswith(f"# Audit of tree, functions up to complexity {threshold}\n")
        assert f"{total} files, " in text
        assert f" {count:,} findings, " in text
        assert f"report: {tmp_path / name}\n" in done.stdout


def facts(printed: str) -> dict[str, list[str]]:
    """The cells of every row of the tables, by the row's first."""
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines() if line.startswith("│")
    ]
    return {first: [cell.replace(",", "") for cell in cells] for first, *cells in rows}


def test_the_demo_refuses_what_is_no_folder(tmp_path: Path) -> None:
    done = run_audit(tmp_path, "demo", "--path", "nowhere")
    assert done.returncode == 2
    assert "nowhere is not a folder" in done.stderr


@pytest.mark.full
def test_the_demo_fails_where_there_is_nothing_to_kill(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "one.py").write_text("x = 1\n")
    done = run_audit(tmp_path, "demo", "--path", "tree")
    assert done.returncode == 1
    assert "audit a larger folder" in done.stderr
    assert left_over(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []
