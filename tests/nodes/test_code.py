"""Code that the cluster does not have reaches its nodes, and stays as long as its threads."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from perdure import GraphNotShippable, Paused, connect
from tests.actors.services import end, eventually
from tests.nodes.machines import Machines
from tests.servers.postgres import PostgresDatabases

KEY = b"signs the code of this module's tests"
SOURCE = """
import operator, os, time
from pathlib import Path
from typing import Annotated, TypedDict
from perdure import END, START, Send, StateGraph

class State(TypedDict, total=False):
    gate: str
    parts: Annotated[list, operator.add]
    n: int

def wait(state):
    while not Path(state["gate"]).exists():
        time.sleep(0.01)
    return {"n": VERSION}

def fan(state):
    return [Send("part", {"i": i}) for i in range(3)]

def part(arg):
    return {"parts": [(arg["i"], VERSION, os.environ.get("PARTS_OF", ""))]}

VERSION = 1
builder = StateGraph(State)
builder.add_node("wait", wait)
builder.add_node("part", part)
builder.add_edge(START, "wait")
builder.add_conditional_edges("wait", fan, ["part"])
builder.add_edge("part", END)
graph = builder.compile(name="absent", version="1")
"""


@pytest.fixture
def absent(tmp_path: Path) -> Iterator[tuple[ModuleType, Path]]:
    """A module that only this process has, and the file to ship it by: no import path of anybody leads there."""
    file = tmp_path / "src" / "absent_flows.py"
    file.parent.mkdir()
    file.write_text(SOURCE)
    yield loaded(file), file
    del sys.modules["absent_flows"]


def loaded(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("absent_flows", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["absent_flows"] = module
    spec.loader.exec_module(module)
    return module


def test_a_module_that_is_absent_on_the_cluster_is_brought_along_and_outlives_who_brought_it(
    machines: Machines, postgres_server: PostgresDatabases, absent: tuple[ModuleType, Path], tmp_path: Path
) -> None:
    module, file = absent
    url, gate = postgres_server.database(), tmp_path / "gate"
    environment = {"py_modules": [str(file)], "env_vars": {"PARTS_OF": "the first"}}
    with connect(url, address=machines.address, by_value_key=KEY, runtime_env=environment, spares=0) as client:
        without = client.submit(module.graph, {"gate": str(gate)}, runtime_env={})
        with pytest.raises(Paused, match="No module named 'absent_flows'"):
            without.result(timeout=240)
        first = client.submit(module.graph, {"gate": str(gate)}, thread_id="first")
        # The same version, other code: processes of the two do not mix.
        file.write_text(SOURCE.replace("VERSION = 1", "VERSION = 2"))
        second = client.submit(
            loaded(file).graph, {"gate": str(gate)}, thread_id="second", runtime_env={"py_modules": [str(file)]}
        )
        eventually(lambda: first.info.epoch and second.info.epoch, 240, "an owner for each")
        # All that was started for them ends, and the folder that the code was in.
        end(client)
    file.unlink()
    gate.touch()
    with connect(url, address=machines.address, by_value_key=KEY, spares=0) as client:
        for name, version, told in (("first", 1, "the first"), ("second", 2, "")):
            state = client.thread(name).result(timeout=240)
            assert state["n"] == version
            assert sorted(map(tuple, state["parts"])) == [(i, version, told) for i in range(3)]
        end(client)


def test_code_is_taken_only_where_it_can_be_told_who_sent_it(
    machines: Machines, postgres_server: PostgresDatabases, absent: tuple[ModuleType, Path]
) -> None:
    module, file = absent
    with connect(
        postgres_server.database(), address=machines.address, runtime_env={"py_modules": [str(file)]}
    ) as client:
        with pytest.raises(GraphNotShippable, match="by_value_key"):
            client.submit(module.graph, {})
        end(client)
