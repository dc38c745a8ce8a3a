"""A disk that fills up, or may only be read, under a service that runs."""

from __future__ import annotations

import os
import time
from datetime import timedelta

import pytest

from perdure import HeadOptions, Status, StoreFull
from perdure.stores.processes import ProcessId
from tests.actors.conftest import Serve
from tests.actors.disks import SmallDisk
from tests.actors.graphs_menu import graph, lines
from tests.actors.services import eventually, service

LEASE = timedelta(seconds=2)


def test_a_run_waits_on_a_full_disk_with_the_reason_and_goes_on_by_itself(
    disk: SmallDisk, serve: Serve, folder: str
) -> None:
    client = serve(str(disk.path / "full.db"), lease=LEASE)
    thread = client.submit(graph, {"do": "count", "folder": folder, "until": 300})
    parked = client.submit(graph, {"do": "ask", "folder": folder})
    eventually(lambda: "count 20" in lines(folder) and parked.status is Status.INTERRUPTED)
    processes = {owner.pid for owner in client.store.owners()}
    disk.fill({*processes, os.getpid()})
    reason = eventually(lambda: thread.reason, what="a reason")
    assert "cannot be written" in reason
    assert "full.db" in reason
    assert thread.status is Status.RUNNING
    with pytest.raises(StoreFull, match=r"full\.db.*free space"):
        client.submit(graph, {"do": "last", "folder": folder}, thread_id="no room")
    with pytest.raises(StoreFull, match="cannot be written"):
        parked.resume("yes")
    # Longer than a lease: nobody can renew, and nobody is taken for dead.
    time.sleep(LEASE.total_seconds() * 1.5)
    assert thread.info.epoch == 1
    assert all(ProcessId.of(pid).alive for pid in processes)
    stopped_at = len(lines(folder, "count"))
    time.sleep(0.3)
    assert len(lines(folder, "count")) == stopped_at < 300
    assert thread.get_state().values["n"] <= stopped_at

    disk.free()
    assert thread.result(timeout=60)["n"] == 300
    assert thread.reason == ""
    assert lines(folder, "count") == [f"count {i}" for i in range(1, 301)]
    assert (thread.info.epoch, thread.info.crashes) == (1, 0)
    assert parked.status is Status.INTERRUPTED
    parked.resume("yes")
    assert parked.result(timeout=60)["items"] == ["first", "yes", "last"]
    assert {one.thread_id for one in client.threads()} == {thread.thread_id, parked.thread_id}


def test_a_store_that_may_only_be_read_says_so(disk: SmallDisk, member: HeadOptions, folder: str) -> None:
    path = disk.path / "read.db"
    with service(member, path) as client:
        thread = client.submit(graph, {"do": "last", "folder": folder}, thread_id="before")
        assert thread.result(timeout=60)["items"] == ["first", "last"]
    with disk.read_only(path):
        with pytest.raises(StoreFull, match=r"read\.db.*fix the permissions"), service(member, path) as client:
            client.submit(graph, {"do": "last", "folder": folder}, thread_id="refused")
    with service(member, path) as client:
        assert [one.thread_id for one in client.threads()] == ["before"]
        again = client.submit(graph, {"do": "last", "folder": folder})
        assert again.result(timeout=60)["items"] == ["first", "last"]
