"""The example of re-runs: recorded audits are run again with a new rule, and what it says is so."""

from __future__ import annotations

import re
import sysconfig
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from perdure import Client, Command, CompiledGraph, HeadOptions, ThreadHandle
from perdure.examples.audit_graph import graph
from perdure.examples.audit_lengths import LONGEST, too_long
from perdure.examples.audit_rules import analyse, findings, list_modules
from perdure.examples.rerun_history import ANSWER, app, run_again
from tests.actors.services import service

STDLIB = Path(sysconfig.get_paths()["stdlib"])
NAMES = ("json", "logging")


def recorded(client: Client, name: str) -> ThreadHandle:
    """An audit of one package, made in this process and approved."""
    audit = CompiledGraph(graph.topology, client.store)
    config: dict[str, Any] = {"configurable": {"thread_id": f"audit-{name}"}}
    audit.invoke({"root": str(STDLIB / name)}, config)
    assert audit.invoke(Command(resume=ANSWER), config)["approved"]
    return client.thread(f"audit-{name}", graph=graph)


def test_audits_are_run_again(head: HeadOptions, tmp_path: Path) -> None:
    printed = StringIO()
    with service(head, tmp_path / "audits.db") as client:
        originals = {f"audit-{name}": recorded(client, name) for name in NAMES}
        run_again(client, originals, Console(file=printed, width=120))
        ended = {row.thread_id: (str(row.status), row.version) for row in client.threads(graph="audit")}
    rows = re.findall(r"audit-(\S+) +│ +(\d+) +│ +(\d+) +│ +(\d+) +│ +(\d+) +│ +(\d+)", printed.getvalue())
    expected = []
    for name in NAMES:
        reports = [analyse(path) for path in list_modules(STDLIB / name)]
        cells = (len(reports), len(findings(reports)), len(too_long(reports)), 1, 0)
        expected.append((name, *map(str, cells)))
    assert rows == expected
    assert any(row[3] != "0" for row in rows), "the new rule finds nothing: the test would notice nothing"
    lengths = [int(text) for text in re.findall(r":\d+ +│ +(\d+)", printed.getvalue())]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] > LONGEST
    assert ended == {
        **{f"audit-{name}": ("succeeded", "1") for name in NAMES},
        **{f"too-long/audit-{name}": ("succeeded", "2") for name in NAMES},
    }


@pytest.mark.full
def test_the_command_records_them_too() -> None:
    done = CliRunner().invoke(app, [str(STDLIB / name) for name in NAMES])
    assert done.exit_code == 0, done.output
    assert "2 audits recorded and approved" in done.output
    assert "The head has ended" in done.output
