"""The example of time travel: it runs, on every kind of folder, and what it says is so."""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path

from typer.testing import CliRunner

from perdure import open_store
from perdure.examples.time_travel import app

SMALL = Path(sysconfig.get_paths()["stdlib"]) / "json"


def test_it_travels(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/audit.db"
    done = CliRunner().invoke(app, ["--path", str(SMALL), "--store", url])
    assert done.exit_code == 0, done.output
    rows = re.findall(r"(audit\S*) +│ +(\d+) +│ +(\d+) +│ +(\d+) +│ +(\d+)", done.output)
    assert [row[:2] for row in rows] == [("audit-5", "5"), ("audit", "10"), ("audit-20", "20"), ("audit-40", "40")]
    complex_ = [int(row[2]) for row in rows]
    assert complex_ == sorted(complex_, reverse=True)
    assert complex_[0] > complex_[-1]
    files = int(re.findall(r"after (\d+) files", done.output)[0])
    assert [int(row[4]) for row in rows] == [0, files, 0, 0], "forks analyse nothing again"
    assert "yours {'threshold': 30}, theirs threshold: 10 -> 15" in done.output
    with open_store(url) as store:
        assert {row.thread_id: str(row.status) for row in store.threads().threads} == {
            "audit": "succeeded",
            **{f"audit-{threshold}": "interrupted" for threshold in (5, 20, 40)},
        }


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--path", str(tmp_path / "none")])
    assert (done.exit_code, "is not a folder" in done.output) == (1, True)
