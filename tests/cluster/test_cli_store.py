"""`perdure store ...`: what it prints, what it does, its exit codes."""

from __future__ import annotations

import json
import operator
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from typer.testing import CliRunner, Result

from perdure import END, START, Retention, StateGraph, open_store
from perdure.cluster.cli import app
from perdure.runtime.snapshots import SnapshotReader
from perdure.stores.codec import Codec
from perdure.stores.keys import Keyring
from perdure.stores.records import LOADING


class State(TypedDict, total=False):
    n: Annotated[int, operator.add]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two threads: `t` with ten runs, `ended` with one."""
    monkeypatch.setenv("PERDURE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PERDURE_STORE", raising=False)
    url = f"sqlite:///{tmp_path}/threads.db"
    with open_store(url) as opened:
        builder = StateGraph(State)
        builder.add_node("add", lambda state: {"n": 1})
        builder.add_edge(START, "add")
        builder.add_edge("add", END)
        graph = builder.compile(checkpointer=opened, name="adding")
        for _ in range(10):
            graph.invoke({}, {"configurable": {"thread_id": "t"}})
        graph.invoke({}, {"configurable": {"thread_id": "ended"}})
    return url


def perdure(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["store", *arguments])


def document(*arguments: str, code: int = 0) -> Any:
    done = perdure(*arguments, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def count(url: str) -> int:
    with open_store(url) as opened:
        return len(opened.threads().threads)


def test_stats(store: str) -> None:
    found = document("stats", "--store", store)
    assert found["threads"] == {"succeeded": 2}
    assert found["segments"] > 0
    assert found["retention"] == {}
    shown = perdure("stats", "--store", store).stdout
    assert "2 (2 succeeded)" in shown
    assert "all is kept" in shown


def test_prune(store: str) -> None:
    tried = document("prune", "--store", store, "--max-checkpoints", "3", "--dry-run")
    assert tried["dry_run"] is True
    assert tried["checkpoints"] > 10
    done = document("prune", "--store", store, "--max-checkpoints", "3", "--save")
    assert done["checkpoints"] == tried["checkpoints"]
    assert document("stats", "--store", store)["retention"] == {"max_checkpoints": 3}
    assert document("prune", "--store", store)["checkpoints"] == 0
    assert document("verify", "--store", store)["problems"] == []
    only = document("prune", "--store", store, "--thread", "t", "--max-checkpoints", "1", "--save")
    assert only["checkpoints"] == 2
    with open_store(store) as opened:
        assert opened.thread("t").retention == Retention(max_checkpoints=1)
        assert opened.thread("ended").retention is None


def test_prune_deletes_what_ended_long_ago(store: str) -> None:
    assert document("prune", "--store", store, "--delete-after", "1d")["deleted"] == 0
    assert document("prune", "--store", store, "--delete-after", "0s", "--dry-run", code=2)["exit_code"] == 2
    assert document("prune", "--store", store, "--delete-after", "0:00:00")["deleted"] == 2
    assert count(store) == 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--keep-for", "long"], "no span of time"),
        (["--save"], "needs a limit"),
        (["--save", "--dry-run", "--max-checkpoints", "1"], "changes nothing"),
        (["--thread", "none"], "no thread 'none'"),
    ],
)
def test_prune_refuses(store: str, options: list[str], why: str) -> None:
    done = perdure("prune", "--store", store, *options)
    assert done.exit_code in (2, 6)
    assert why in done.stderr


def test_verify_names_what_is_damaged(store: str) -> None:
    assert document("verify", "--store", store)["threads"] == 2
    with closing(sqlite3.connect(store.removeprefix("sqlite:///"))) as raw:
        damage = "UPDATE segments SET data = substr(data, 1, length(data) - 1) WHERE thread = 1 AND first = 1"
        assert raw.execute(damage).rowcount == 1
        raw.commit()
    found = document("verify", "--store", store, code=1)
    assert len(found["problems"]) == 1
    assert found["problems"][0]["thread_id"] == "t"
    shown = perdure("verify", "--store", store)
    assert shown.exit_code == 1
    assert "thread 't', commits 1.." in shown.stderr


def test_copy_and_encrypt(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into a store that is encrypted, then from there to another key."""
    files = []
    for number in (1, 2):
        path = tmp_path / f"keys{number}"
        path.write_text(Keyring.generate(f"k{number}").text())
        path.chmod(0o600)
        files.append(str(path))
    sealed, again = f"sqlite:///{tmp_path}/sealed.db", f"sqlite:///{tmp_path}/again.db"
    assert document("copy", store, sealed, "--keys-file", files[0])["threads"] == 2
    assert document("stats", "--store", sealed, code=2)["error"]["type"] == "StoreMisuse"
    moved = document("copy", sealed, again, "--from-keys-file", files[0], "--keys-file", files[1])
    assert (moved["threads"], moved["problems"]) == (2, [])
    assert document("verify", "--store", again, "--keys-file", files[1])["problems"] == []
    assert document("copy", store, "memory://", code=2)["exit_code"] == 2
    assert document("copy", f"sqlite:///{tmp_path}/none.db", again, code=7)["exit_code"] == 7


def test_a_held_copy(store: str, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path}/copy.db"
    document("copy", store, target, "--hold")
    with open_store(target) as opened:
        assert {row.driver for row in opened.threads().threads} == {LOADING}
    assert document("verify", "--store", target)["held"] == 2
    assert document("copy", store, target)["threads"] == 2
    again = document("copy", store, target)
    assert (again["present"], again["segments"]) == (2, 0)


def test_backup_and_restore(store: str, tmp_path: Path) -> None:
    folder = str(tmp_path / "backups")
    assert document("backup", folder, "--store", store)["base"] == 0
    second = document("backup", folder, "--store", store)
    assert (second["base"], second["unchanged"], second["segments"]) == (1, 2, 0)
    target = f"sqlite:///{tmp_path}/restored.db"
    done = document("restore", folder, target)
    assert (done["threads"], done["problems"]) == (2, [])
    with open_store(target) as opened:
        state = SnapshotReader(opened, opened.thread("t"), Codec()).head()
        assert state.values["n"] == 10
    assert "no backup 9" in perdure("restore", folder, target, "--number", "9").stderr


def test_threads_in_files(store: str, tmp_path: Path) -> None:
    """Out of one store and into another, under their names, beside them, and never in place of them."""
    path, target = str(tmp_path / "threads.perdure"), f"sqlite:///{tmp_path}/other.db"
    written = document("export", path, "--store", store, "--thread", "t")
    assert (written["threads"], written["gone"], written["bytes"]) == (1, [], Path(path).stat().st_size)
    assert "is there already" in perdure("export", path, "--store", store).stderr
    assert document("export", path, "--store", store, "--graph", "adding", "--force")["threads"] == 2
    done = document("import", path, "--store", target)
    assert (done["threads"], sorted(done["thread_ids"])) == (2, ["ended", "t"])
    assert document("verify", "--store", target)["problems"] == []
    refused = document("import", path, "--store", target, code=2)
    assert refused["error"]["type"] == "ThreadExists"
    assert document("import", path, "--store", target, "--skip-existing")["skipped"] == done["thread_ids"]
    again = document("import", path, "--store", target, "--rename", "t=u", "--rename", "ended=over")
    assert sorted(again["thread_ids"]) == ["over", "u"]
    assert sorted(document("import", path, "--store", target, "--prefix", "old-")["thread_ids"]) == [
        "old-ended",
        "old-t",
    ]
    with open_store(target) as opened:
        assert SnapshotReader(opened, opened.thread("u"), Codec()).head().values["n"] == 10
    for options, why in (
        (["--rename", "t"], "is no pair"),
        (["--rename", "t=x", "--prefix", "y"], "not both"),
        (["--rename", "none=x"], "holds no thread 'none'"),
    ):
        assert why in perdure("import", path, "--store", target, *options).stderr
    Path(path).write_bytes(Path(path).read_bytes()[:-1])
    assert "is not whole" in perdure("import", path, "--store", f"sqlite:///{tmp_path}/new.db").stderr
    keys = tmp_path / "keys"
    keys.write_text(Keyring.generate("k").text())
    keys.chmod(0o600)
    sealed = f"sqlite:///{tmp_path}/sealed.db"
    document("copy", store, sealed, "--keys-file", str(keys))
    document("export", path, "--store", sealed, "--keys-file", str(keys), "--force")
    assert "is encrypted" in perdure("import", path, "--store", target, "--prefix", "z").stderr
    opened_with = ("--from-keys-file", str(keys))
    assert document("import", path, "--store", target, "--prefix", "z", *opened_with)["threads"] == 2
    document("export", path, "--store", sealed, "--keys-file", str(keys), "--force", "--plaintext")
    assert document("import", path, "--store", target, "--prefix", "p")["threads"] == 2


def test_names(store: str) -> None:
    given = document("names", "t", "--store", store, "--set", "good=0000000003", "--set", "newest")
    assert given["names"]["good"] == "0000000003"
    document("prune", "--store", store, "--max-checkpoints", "1")
    listed = CliRunner().invoke(app, ["history", "t", "--store", store, "--json"])
    found = [one["checkpoint_id"] for one in json.loads(listed.stdout)["checkpoints"]]
    assert found == [given["names"]["newest"], "0000000003"]
    assert document("names", "t", "--store", store, "--remove", "good")["names"] == {"newest": found[0]}
    assert document("names", "t", "--store", store, "--set", "x=99999", code=6)["exit_code"] == 6


def test_migrate(store: str) -> None:
    assert document("migrate", "--store", store) == {"applied": []}
    assert document("migrate", "--store", "sqlite:////nowhere/at/all.db", code=7)["exit_code"] == 7
