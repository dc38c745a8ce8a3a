"""How a graph gets to where it runs, and what is never loaded."""

from __future__ import annotations

import importlib
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import cloudpickle
import pytest

from perdure import END, START, CompiledGraph, GraphLoadError, GraphNotShippable, StateGraph
from perdure.actors.shipping import PICKLE, REFERENCE, GraphCache, load, ship
from perdure.stores.records import GraphRecord
from tests.actors import graphs_menu

KEY = b"k" * 32


def test_another_key_makes_another_record() -> None:
    """A store keeps the first record of a key: one signed by a former head would shadow today's for ever."""
    mine, other = (ship(graphs_menu.graph, signing_key=key, local=True) for key in (KEY, b"other" * 8))
    assert mine.graph_key != other.graph_key


def local_graph(node: Any = None, name: str = "local") -> CompiledGraph:
    class State(TypedDict, total=False):
        n: int

    def step(state: State) -> dict[str, int]:
        return {"n": state.get("n", 0) + 1}

    builder = StateGraph(State)
    builder.add_node("step", node or step)
    builder.add_edge(START, "step")
    builder.add_edge("step", END)
    return builder.compile(name=name)


def test_a_graph_in_a_module_goes_by_reference_and_comes_back_as_the_same_object() -> None:
    record = ship(graphs_menu.graph, signing_key=KEY, local=False)
    assert (record.kind, record.body) == (REFERENCE, b"tests.actors.graphs_menu:graph")
    assert record.paths == ()
    assert load(record, signing_key=KEY) is graphs_menu.graph
    # Nothing but a name of what is installed there: that needs no key.
    assert load(replace(record, signature=b""), signing_key=b"") is graphs_menu.graph


def test_on_this_machine_the_import_path_goes_along() -> None:
    record = ship(graphs_menu.graph, signing_key=KEY, local=True)
    assert record.paths == (str(Path(graphs_menu.__file__).resolve().parents[2]),)
    assert load(record, signing_key=KEY) is graphs_menu.graph


def test_a_graph_of_a_function_goes_by_value() -> None:
    record = ship(local_graph(), signing_key=KEY, local=True)
    assert record.kind == PICKLE
    assert load(record, signing_key=KEY).invoke({"n": 4}) == {"n": 5}


def test_without_a_key_nothing_goes_by_value() -> None:
    with pytest.raises(GraphNotShippable, match=r"'local'.*put it into a module"):
        ship(local_graph(), signing_key=b"", local=False)


def test_what_cloudpickle_cannot_take_is_said_at_submit() -> None:
    lock = threading.Lock()
    with pytest.raises(GraphNotShippable, match=r"'local' cannot be shipped by value: .*_thread\.lock"):
        ship(local_graph(lambda state: {"n": int(lock.locked())}), signing_key=KEY, local=True)


def planted(folder: Path) -> Path:
    """Leaves a trace if it is unpickled or imported."""
    trace = folder / "loaded"
    (folder / "planted.py").write_text(f"open({str(trace)!r}, 'w').close()\ngraph = None\n")
    return trace


class Trap:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.trace), "w")


@pytest.mark.parametrize("signature", [b"", b"wrong", bytes(32)])
def test_a_body_that_the_key_does_not_vouch_for_is_never_unpickled(tmp_path: Path, signature: bytes) -> None:
    trace = planted(tmp_path)
    body = cloudpickle.dumps(Trap(trace))
    record = replace(ship(local_graph(), signing_key=KEY, local=True), body=body, signature=signature)
    for key in (KEY, b""):
        with pytest.raises(GraphLoadError, match="signature"):
            load(record, signing_key=key)
    assert not trace.exists()


def test_the_signature_holds_for_the_whole_record(tmp_path: Path) -> None:
    """A reference with an import path leads to code as a pickle does: who can write to the store may choose neither."""
    trace = planted(tmp_path)
    good = ship(graphs_menu.graph, signing_key=KEY, local=True)
    forged: list[GraphRecord] = [
        replace(good, paths=(str(tmp_path),), body=b"planted:graph"),
        replace(good, body=b"planted:graph"),
        replace(good, paths=(*good.paths, str(tmp_path))),
        replace(good, kind=PICKLE),
        replace(good, version="2"),
    ]
    for record in forged:
        with pytest.raises(GraphLoadError, match="signature"):
            load(record, signing_key=KEY)
    assert not trace.exists()
    assert str(tmp_path) not in sys.path
    with pytest.raises(GraphLoadError, match="'shelved'"):
        load(replace(good, kind="shelved"), signing_key=KEY)


def test_a_key_of_another_cluster_opens_nothing() -> None:
    with pytest.raises(GraphLoadError, match="signature"):
        load(ship(local_graph(), signing_key=KEY, local=True), signing_key=b"other")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"no_such_module_here:graph", "ModuleNotFoundError"),
        (b"tests.actors.graphs_menu:grph", "AttributeError"),
        (b"tests.actors.graphs_menu:lines", "not a compiled graph"),
    ],
)
def test_a_reference_that_leads_nowhere_says_where(body: bytes, text: str) -> None:
    record = GraphRecord(graph_key="k", name="menu", version="1", kind=REFERENCE, body=body)
    with pytest.raises(GraphLoadError, match=f"'menu'.*{text}"):
        load(record, signing_key=KEY)


def test_edited_code_is_another_graph_for_warm_actors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    source = Path(graphs_menu.__file__).read_text()
    module_file = tmp_path / "edited_menu.py"
    module_file.write_text(source)
    first = ship(importlib.import_module("edited_menu").graph, signing_key=KEY, local=True)
    again = ship(sys.modules["edited_menu"].graph, signing_key=KEY, local=True)
    assert first == again
    module_file.write_text(source + "\n# edited\n")
    assert ship(sys.modules["edited_menu"].graph, signing_key=KEY, local=True).graph_key != first.graph_key
    del sys.modules["edited_menu"]


def test_the_cache_loads_a_graph_once() -> None:
    cache = GraphCache(KEY)
    record = ship(local_graph(), signing_key=KEY, local=True)
    assert cache.get(record) is cache.get(record)
