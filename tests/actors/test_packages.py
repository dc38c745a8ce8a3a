"""Code packages: what goes into one, the same for the same code, and that only what was shipped is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from typing import TypedDict

import pytest

from perdure import END, START, CompiledGraph, StateGraph
from perdure.actors.errors import GraphLoadError, GraphNotShippable
from perdure.actors.packages import pack_code
from perdure.actors.shipping import PACKAGED, environment_of, load, package_of, ship, trusted
from perdure.actors.unpacking import unpacked
from perdure.stores.records import GraphRecord

KEY = b"a key of this test's cluster"
ROOT = Path(__file__).parents[2]


class State(TypedDict, total=False):
    n: int


def by_value() -> CompiledGraph:
    builder = StateGraph(State)
    builder.add_node("add", lambda state: {"n": state["n"] + 1})
    builder.add_edge(START, "add")
    builder.add_edge("add", END)
    return builder.compile(name="packaged")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a package and what does not belong into one."""
    for name, text in {
        "flows/__init__.py": "",
        "flows/main.py": "ANSWER = 42\n",
        "flows/data/big.csv": "1,2,3\n",
        "flows/__pycache__/main.pyc": "old",
        "flows/.git/config": "secret",
    }.items():
        file = tmp_path / "src" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "src"


def names(record: GraphRecord | None) -> list[str]:
    assert record is not None
    return zipfile.ZipFile(BytesIO(record.body)).namelist()


def test_modules_keep_their_name_and_a_working_folder_is_the_root(source: Path) -> None:
    as_module = pack_code({"py_modules": [str(source / "flows")], "excludes": ["data/*"]})
    assert names(as_module.package) == ["flows/__init__.py", "flows/main.py"]
    assert (as_module.working_dir, as_module.rest) == (False, {})
    as_folder = pack_code({"working_dir": source, "pip": ["x==1"], "env_vars": {"A": "b"}})
    assert names(as_folder.package) == ["flows/__init__.py", "flows/data/big.csv", "flows/main.py"]
    assert (as_folder.working_dir, as_folder.rest) == (True, {"pip": ["x==1"], "env_vars": {"A": "b"}})


def test_what_has_a_url_is_left_to_ray_and_no_package_is_made() -> None:
    code = pack_code({"py_modules": ["s3://b/m.zip"], "working_dir": "https://h/w.zip"})
    assert code.package is None
    assert code.rest == {"py_modules": ["s3://b/m.zip"], "working_dir": "https://h/w.zip"}


def test_the_same_code_is_the_same_package_whatever_its_dates(source: Path) -> None:
    first = pack_code({"py_modules": [source / "flows"]}).package
    os.utime(source / "flows" / "main.py", (1, 1))
    second = pack_code({"py_modules": [source / "flows"]}).package
    (source / "flows" / "main.py").write_text("ANSWER = 43\n")
    third = pack_code({"py_modules": [source / "flows"]}).package
    assert first is not None
    assert second is not None
    assert third is not None
    assert first == second
    assert first.graph_key != third.graph_key


def test_what_cannot_be_packed_is_said(tmp_path: Path) -> None:
    with pytest.raises(GraphNotShippable, match="no folder of this machine"):
        pack_code({"working_dir": tmp_path / "gone"})
    with pytest.raises(GraphNotShippable, match="neither a path nor a module"):
        pack_code({"py_modules": [sys]})
    with pytest.raises(GraphNotShippable, match="cannot be sent"):
        pack_code({"env_vars": {"A": object()}})


def test_only_the_package_that_was_shipped_is_unpacked(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    package = pack_code({"py_modules": [source / "flows"]}).package
    assert package is not None
    folder = unpacked(package.graph_key, package.body)
    assert (folder / "flows" / "main.py").read_text() == "ANSWER = 42\n"
    assert folder.parent.stat().st_mode & 0o077 == 0
    assert unpacked(package.graph_key, package.body) == folder
    with pytest.raises(GraphLoadError, match="not the one that was shipped"):
        unpacked(package.graph_key, package.body + b"more")


def test_a_packaged_graph_is_loaded_with_its_code_by_those_who_have_the_key(source: Path, tmp_path: Path) -> None:
    code = pack_code({"py_modules": [source / "flows"], "env_vars": {"A": "b"}})
    assert code.package is not None
    record = ship(by_value(), signing_key=KEY, local=False, code=code)
    assert (record.kind, package_of(record)) == (PACKAGED, code.package.graph_key)
    assert trusted(record, KEY)
    assert environment_of(record, KEY) == {"env_vars": {"A": "b"}}
    # Who may write to the store must not be able to choose what processes run.
    assert environment_of(record, b"another") == {}
    with pytest.raises(GraphLoadError, match="signature"):
        load(record, signing_key=b"another", fetch=lambda key: b"")
    with pytest.raises(GraphNotShippable, match="by_value_key"):
        ship(by_value(), signing_key=b"", local=False, code=code)
    (tmp_path / "package").write_bytes(code.package.body)
    (tmp_path / "record").write_bytes(record.body)
    program = f"""
import sys
from pathlib import Path
from perdure.actors.shipping import load
from perdure.stores.records import GraphRecord
record = GraphRecord(graph_key={record.graph_key!r}, name={record.name!r}, version={record.version!r},
    kind={record.kind!r}, body=Path({str(tmp_path / "record")!r}).read_bytes(), signature={record.signature!r})
graph = load(record, signing_key={KEY!r}, fetch=lambda key: Path({str(tmp_path / "package")!r}).read_bytes())
import flows.main
print(graph.invoke({{"n": flows.main.ANSWER}}))
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.stdout.strip() == "{'n': 43}", done.stderr
