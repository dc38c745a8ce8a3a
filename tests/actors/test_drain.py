"""Draining a service: threads finish their step and wait, whatever becomes of the supervisor meanwhile."""

from __future__ import annotations

from datetime import timedelta

import pytest
import ray

from perdure import ClientError, Status
from perdure.actors.names import NAMESPACE, supervisor_name
from perdure.actors.nodes import living_nodes
from tests.actors.conftest import Serve
from tests.actors.graphs_menu import graph, lines
from tests.actors.services import eventually, key_of

UNTIL = 400


def test_a_drained_service_stops_between_two_steps_and_goes_on_where_it_stopped(serve: Serve, folder: str) -> None:
    client = serve()
    thread = client.submit(graph, {"do": "count", "folder": folder, "until": UNTIL})
    eventually(lambda: "count 3" in lines(folder), seconds=40)
    assert client.drain(timeout=timedelta(seconds=30)) == 0
    assert thread.status is Status.QUEUED
    assert "perdure drain --undo" in eventually(lambda: thread.reason)
    done = lines(folder, "count")
    later = client.submit(graph, {"do": "last", "folder": folder})
    # Another supervisor learns of it from the store.
    ray.kill(ray.get_actor(supervisor_name(key_of(client)), namespace=NAMESPACE), no_restart=False)
    eventually(lambda: not client.actors(), seconds=40, what="the idle actors' end")
    assert "drained" in eventually(lambda: later.reason)
    assert lines(folder, "count") == done
    assert (thread.info.crashes, later.status) == (0, Status.QUEUED)

    client.undrain()
    assert later.result(timeout=40)["items"] == ["first", "last"]
    thread.result(timeout=60)
    # No step was lost to the drain, and none ran twice.
    assert lines(folder, "count") == [f"count {n}" for n in range(1, UNTIL + 1)]
    assert thread.info.crashes == 0


def test_a_node_that_is_not_there_is_named_with_those_that_are(serve: Serve) -> None:
    client = serve()
    (node,) = [node.node_id for node in living_nodes()]
    with pytest.raises(ClientError, match=rf"no node is called 'nowhere'.*{node[:12]}"):
        client.drain("nowhere")


def test_the_only_node_is_drained_and_its_threads_wait(serve: Serve, folder: str) -> None:
    client = serve()
    (node,) = [node.node_id for node in living_nodes()]
    thread = client.submit(graph, {"do": "count", "folder": folder, "until": UNTIL})
    eventually(lambda: "count 3" in lines(folder), seconds=40)
    assert client.drain(node[:8], timeout=timedelta(seconds=30)) == 0
    assert thread.status is Status.QUEUED
    client.undrain(node[:8])
    thread.result(timeout=60)
    assert lines(folder, "count") == [f"count {n}" for n in range(1, UNTIL + 1)]
