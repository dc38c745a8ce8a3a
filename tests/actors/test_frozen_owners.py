"""Owners that are stopped rather than dead, or so busy that they are silent."""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from perdure import Status
from perdure.stores.operations import Commit
from perdure.stores.processes import ProcessId
from perdure.stores.records import OwnerRecord
from perdure.stores.sqlite_lock import lock_holder
from tests.actors import graphs_stopping
from tests.actors.conftest import Serve
from tests.actors.graphs_menu import graph, lines, pid_of
from tests.actors.services import eventually, is_stopped, owner_pid, stop

LEASE = timedelta(seconds=3)
THREE_RENEWALS = 3 * LEASE / 6


def test_a_stopped_owner_is_taken_over_and_one_that_holds_the_gil_is_not(serve: Serve, tmp_path: Path) -> None:
    client = serve(lease=LEASE)
    folders = {name: tmp_path / name for name in ("frozen", "busy")}
    for each in folders.values():
        each.mkdir()
    held = int((THREE_RENEWALS + timedelta(seconds=0.3)).total_seconds() * 1e6)
    busy = client.submit(graph, {"do": "hold_gil", "folder": str(folders["busy"]), "n": held})
    frozen = client.submit(graph, {"do": "count", "folder": str(folders["frozen"]), "until": 40})
    eventually(lambda: "count 5" in lines(folders["frozen"]))
    process = stop(owner_pid(client, frozen.thread_id))
    began = time.monotonic()
    assert frozen.result(timeout=60)["n"] == 40
    assert time.monotonic() - began > 0.8 * LEASE.total_seconds()
    assert frozen.info.epoch == 2
    # A lease that ran out is no crash of the thread.
    assert frozen.info.crashes == 0
    assert not process.alive
    assert pid_of(folders["frozen"], "last") != process.pid
    assert busy.result(timeout=60)["items"] == ["first", "held", "last"]
    assert busy.info.epoch == 1
    assert lines(folders["busy"]) == ["first", "hold-gil", "last"]


def test_a_stopped_owner_whose_thread_was_claimed_by_another_writes_nothing_when_it_goes_on(
    serve: Serve, folder: str
) -> None:
    client = serve()
    thread = client.submit(graph, {"do": "count", "folder": folder, "until": 60})
    eventually(lambda: "count 5" in lines(folder))
    pid = owner_pid(client, thread.thread_id)
    stop(pid)
    # It may be stopped while it holds the store's lock; then it goes on for a moment, to be stopped elsewhere.
    while lock_holder(client.store.path) is not None:  # type: ignore[attr-defined]
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.003)
        stop(pid)
    row = thread.info
    me = ProcessId.own()
    # An owner with a lease, as one of another cluster session would have, or the service would take the thread at once.
    client.store.renew(OwnerRecord(owner="a test", counter=1, host="elsewhere", pid=me.pid, started=me.started))
    ours = client.store.claim(thread.thread_id, epoch=row.epoch, token="ours", owner="a test")
    taken_at = len(lines(folder))
    os.kill(pid, signal.SIGCONT)
    time.sleep(1.0)
    assert thread.info == ours
    # Whatever it still ran ahead of the store is lost with it; it has stopped at its first write.
    assert len(lines(folder)) < taken_at + 60
    still = lines(folder)
    time.sleep(0.3)
    assert lines(folder) == still
    release = Commit(
        thread_id=thread.thread_id,
        epoch=ours.epoch,
        token="ours",
        commit_id="given back",
        first=ours.seq + 1,
        last=ours.seq + 1,
        status=Status.QUEUED,
        release=True,
    )
    client.store.commit([release])
    client.store.forget("a test")
    client.notify(thread.thread_id)
    assert thread.result(timeout=60)["n"] == 60
    assert thread.info.epoch == ours.epoch + 1
    epochs = [segment.epoch for segment in reversed(client.store.segments(thread.thread_id))]
    assert epochs == sorted(epochs)


def test_an_owner_stopped_inside_a_transaction_is_killed_and_the_others_go_on(serve: Serve, folder: str) -> None:
    client = serve(lease=timedelta(seconds=2))
    path = Path(client.store.path)  # type: ignore[attr-defined]
    other = client.submit(graph, {"do": "count", "folder": folder, "until": 400})
    eventually(lambda: "count 5" in lines(folder))
    thread = client.submit(graphs_stopping.graph, {"folder": folder, "n": 0})
    eventually(lambda: "freeze" in lines(folder))
    pid = pid_of(folder, "freeze")
    eventually(lambda: is_stopped(pid))
    holder = lock_holder(path)
    assert holder is not None
    assert holder.pid == pid
    # A write from outside waits as well, and is not lost.
    late: list[Status] = []
    waiting = threading.Thread(
        target=lambda: late.append(client.submit(graph, {"do": "last", "folder": folder}, thread_id="late").status)
    )
    waiting.start()
    time.sleep(0.5)
    assert not late
    assert thread.result(timeout=60)["n"] == 2
    waiting.join(timeout=60)
    assert late
    assert not is_stopped(pid)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert thread.info.epoch == 2
    assert thread.info.crashes == 0
    assert lines(folder, "freeze") == ["freeze", "freeze"]
    assert other.result(timeout=60)["n"] == 400
    assert other.info.epoch == 1
    assert lines(folder, "count") == [f"count {i}" for i in range(1, 401)]
    assert client.thread("late").result(timeout=60)["items"] == ["first", "last"]
