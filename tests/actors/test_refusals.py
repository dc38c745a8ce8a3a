"""What a service refuses, and says why; nothing is lost by it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from perdure import (
    Client,
    ClientError,
    HeadOptions,
    InputError,
    Paused,
    StoreMisuse,
    Unencodable,
    connect,
    open_store,
)
from perdure.actors.shipping import ship
from tests.actors.conftest import Serve
from tests.actors.graphs_menu import builder, graph, lines
from tests.actors.test_shipping import Trap, local_graph

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("url", ["mysql://host/db", "agents.db", "sqlite://agents.db", "memory://name", "", "://"])
def test_a_store_of_an_unknown_scheme(member: HeadOptions, url: str) -> None:
    with pytest.raises(StoreMisuse, match=r"store|sqlite|memory"):
        connect(url, head=member)


def test_a_graph_that_was_compiled_with_another_store(client: Client, tmp_path: Path, folder: str) -> None:
    with open_store(f"sqlite:///{tmp_path}/other.db") as other:
        elsewhere = builder.compile(name="menu", checkpointer=other)
        with pytest.raises(StoreMisuse, match=r"other\.db"):
            client.submit(elsewhere, {"do": "last", "folder": folder}, thread_id="elsewhere")
    assert "elsewhere" not in {one.thread_id for one in client.threads()}


@pytest.mark.parametrize(
    ("given", "options", "error", "text"),
    [
        ({"do": "last", "colour": "red"}, {}, InputError, "colour"),
        ("not a dict", {}, Exception, "input|update"),
        ({"do": object()}, {}, Unencodable, "object"),
        ({"do": "last"}, {"recursion_limit": 0}, InputError, "recursion_limit"),
        ({"do": "last"}, {"durability": "sometimes"}, ValueError, "sometimes"),
        ({"do": "last"}, {"interrupt_before": ["nowhere"]}, InputError, "nowhere"),
        ({"do": "last"}, {"metadata": {"when": object()}}, Exception, "JSON|when|object"),
        ({"do": "last"}, {"thread_id": "x" * 600}, StoreMisuse, "thread id"),
        ({"do": "last"}, {"thread_id": "bad"}, None, ""),
    ],
)
def test_a_submit_that_cannot_be_used_writes_nothing(
    client: Client, folder: str, given: Any, options: dict[str, Any], error: type[Exception] | None, text: str
) -> None:
    name = options.pop("thread_id", "bad")
    if error is None:
        # The name that was refused every time is still free.
        given = {**given, "folder": folder}
        assert client.submit(graph, given, thread_id=name, **options).result(timeout=60)["items"] == ["first", "last"]
        return
    with pytest.raises(error, match=text):
        client.submit(graph, given, thread_id=name, **options)
    assert name not in {one.thread_id for one in client.threads()}


def test_the_next_run_of_a_thread_is_of_the_same_graph(client: Client, folder: str) -> None:
    thread = client.submit(graph, {"do": "last", "folder": folder})
    thread.result(timeout=60)
    with pytest.raises(ClientError, match="'menu'"):
        client.submit(local_graph(), {"n": 1}, thread_id=thread.thread_id, if_exists="continue")


def test_a_graph_by_value_runs_and_a_forged_one_is_never_loaded(serve: Serve, tmp_path: Path) -> None:
    client = serve()
    good = local_graph()
    assert client.submit(good, {"n": 1}).result(timeout=60) == {"n": 2}
    forged_graph = local_graph(name="forged")
    record = ship(forged_graph, signing_key=client._settings.signing_key, local=True)
    trace = tmp_path / "loaded"
    # Whoever can write to the store was there first: the same key again replaces nothing.
    client.store.put_graph(replace(record, body=cloudpickle.dumps(Trap(trace))))
    thread = client.submit(forged_graph, {"n": 1})
    with pytest.raises(Paused, match=r"'forged'.*signature"):
        thread.result(timeout=60)
    assert not trace.exists()
    thread.retry()
    with pytest.raises(Paused, match="signature"):
        thread.result(timeout=60)
    assert not trace.exists()


def test_a_graph_whose_module_is_gone_pauses_its_threads(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve()
    monkeypatch.syspath_prepend(str(tmp_path))
    module_file = tmp_path / "fleeting_graph.py"
    module_file.write_text(
        textwrap.dedent(
            """
            from typing import TypedDict
            from perdure import END, START, StateGraph
            class State(TypedDict, total=False):
                n: int
            def step(state):
                return {"n": state["n"] + 1}
            builder = StateGraph(State)
            builder.add_node("step", step)
            builder.add_edge(START, "step")
            builder.add_edge("step", END)
            graph = builder.compile(name="fleeting")
            """
        )
    )
    import fleeting_graph  # type: ignore[import-not-found]  # written above

    text = module_file.read_text()
    shipped = ship(fleeting_graph.graph, signing_key=client._settings.signing_key, local=True)
    client.store.put_graph(shipped)
    monkeypatch.setattr("perdure.cluster.client.ship", lambda *args, **named: shipped)
    module_file.unlink()
    thread = client.submit(fleeting_graph.graph, {"n": 1})
    with pytest.raises(Paused, match=r"'fleeting'.*ModuleNotFoundError.*fleeting_graph"):
        thread.result(timeout=60)
    module_file.write_text(text)
    thread.retry()
    assert thread.result(timeout=60) == {"n": 2}


SEVERAL = """
import sys
from perdure import connect, StoreMisuse
from ray.cluster_utils import Cluster
from tests.actors.graphs_menu import graph

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
try:
    try:
        connect(sys.argv[1], address=cluster.address)
    except StoreMisuse as error:
        print("refused:", error)
    with connect(sys.argv[1], address=cluster.address, shared_path=True) as client:
        thread = client.submit(graph, {"do": "last", "folder": sys.argv[2]})
        print("ran:", thread.result(timeout=60)["items"])
finally:
    import ray
    ray.shutdown()
    cluster.shutdown()
"""


def test_sqlite_on_several_machines_is_refused_unless_its_path_is_shared(tmp_path: Path, folder: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, f"sqlite:///{tmp_path}/several.db", folder],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    refused, ran = [line for line in done.stdout.splitlines() if line.startswith(("refused", "ran"))]
    assert "several.db" in refused
    assert "2 machines" in refused
    assert "shared_path=True" in refused
    assert ran == "ran: ['first', 'last']"
    assert lines(folder) == ["first", "last"]
