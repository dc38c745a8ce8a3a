"""What nodes may call, on Ray: inline in the thread's actor, and in Ray tasks, through it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perdure import Client, Status
from tests.actors import graphs_inside
from tests.actors.graphs_inside import noted
from tests.actors.services import eventually

LONG = 120.0


@pytest.mark.parametrize(("graph", "nodes"), [(graphs_inside.dies_inline, "a"), (graphs_inside.dies_beside, "ab")])
def test_a_process_that_is_killed_between_two_kept_results(client: Client, folder: str, graph: Any, nodes: str) -> None:
    """The first result was durable before the node went on: it is not computed again, neither by the next owner of the
    thread nor by the next worker. The second has the same key in both attempts."""
    thread = client.submit(graph, {"folder": folder})
    assert thread.result(timeout=LONG)["done"] == [[node, True, "second"] for node in nodes]
    for node in nodes:
        lines = [line for line in noted(folder) if line.split()[1] == node]
        assert [line.split()[0] for line in lines] == ["first", "second", "second"]
        assert lines[1] == lines[2]
    # What was measured counts once, whether it was run once or twice.
    assert thread.get_state().metadata["measures"] == {"firsts": len(nodes), "nodes": len(nodes)}


@pytest.mark.parametrize(("graph", "nodes"), [(graphs_inside.waits_inline, "a"), (graphs_inside.waits_beside, "ab")])
def test_nodes_that_wait_hold_no_process(client: Client, folder: str, graph: Any, nodes: str) -> None:
    thread = client.submit(graph, {"folder": folder})
    # One may still sleep when the other already waits for its signal.
    eventually(lambda: thread.info.signals == tuple(f"to {node}" for node in nodes), LONG)
    eventually(lambda: thread.status is Status.WAITING, LONG)
    row = thread.info
    assert (row.owner, row.token) == ("", "")
    assert {path: beat.progress for path, beat in thread.heartbeats().items()} == {n: f"{n} at work" for n in nodes}
    for value in range(2):
        for node in nodes:
            thread.signal(f"to {node}", value)
    assert thread.result(timeout=LONG)["done"] == [[node, 0, 1, True] for node in nodes]
    assert sorted(noted(folder)) == [f"first {node}" for node in nodes]


def test_heartbeats_are_seen_while_nodes_run(client: Client, folder: str) -> None:
    thread = client.submit(graphs_inside.beats, {"folder": folder})
    eventually(lambda: {beat.progress for beat in thread.heartbeats().values()} == {"holding"}, LONG)
    assert thread.status is Status.RUNNING
    (Path(folder) / "go").touch()
    thread.result(timeout=LONG)
    assert thread.heartbeats() == {}
