"""What the documents say is so: the README's program runs, the tests and files that they name exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from perdure import HeadOptions, Status
from perdure.cluster.head import ensure_head
from tests.actors.services import service

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LONGEST = 40
"""Lines of the program, blank ones included."""


def test_the_program_in_the_readme_runs_as_printed(head: HeadOptions, tmp_path: Path) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert len(program.splitlines()) <= LONGEST
    path = tmp_path / "program.py"
    path.write_text(program)
    ensure_head(head)  # else the program would start one, with other options

    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env={**os.environ, "PERDURE_HOME": str(head.folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    question, state = done.stdout.splitlines()
    assert question == "Publish 3 notes?"
    notes = ["Ray has 3 letters", "Arrow has 5 letters", "SQLite has 6 letters"]
    assert state == str({"topics": ["Ray", "Arrow", "SQLite"], "notes": notes, "verdict": "yes"})
    with service(head, tmp_path / "agents.db") as client:  # the program's own service, which ends with the block
        assert [record.status for record in client.threads()] == [Status.SUCCEEDED]


def test_the_tests_that_the_guarantees_name_exist() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs/guarantees.md").read_text())
    assert len(named) > 20
    missing = [
        f"{file}::{name}" for file, name in named if not re.search(rf"^\s*def {name}\(", _tested(file), re.MULTILINE)
    ]
    assert missing == []


def _tested(file: str) -> str:
    """The shipped suite lies beside the tests."""
    return (ROOT / file if file.startswith("testing/") else ROOT / "tests" / file).read_text()


def test_links_and_files_that_documents_name_exist() -> None:
    lost = []
    for document in DOCUMENTS:
        text = document.read_text()
        links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("https://")]
        lost += [f"{document.name}: {link}" for link in links if not (document.parent / link).exists()]
        files = re.findall(r"`((?:actors|cluster|docs|runtime|stores|tests)/[\w/.]+)`", text)
        lost += [f"{document.name}: {file}" for file in files if not (ROOT / file).exists()]
    assert lost == []
