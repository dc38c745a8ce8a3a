"""Nodes that raise, exit or crash: alone in the actor, and as one task of a fan-out."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure import Cancelled, Client, NodeFailed, Paused, Status, ThreadHandle
from tests.actors.conftest import Serve
from tests.actors.graphs_menu import gate, graph, lines
from tests.actors.services import eventually


def start(client: Client, do: str, folder: str) -> ThreadHandle:
    return client.submit(graph, {"do": do, "folder": folder})


def fix(folder: str) -> None:
    (Path(folder) / "fixed").touch()


@pytest.mark.parametrize(("do", "node"), [("raise", "fault"), ("fan-raise", "part")])
def test_a_node_that_raises_fails_the_run_and_is_retried_alone(client: Client, folder: str, do: str, node: str) -> None:
    thread = start(client, do, folder)
    with pytest.raises(NodeFailed, match="ValueError: no such luck") as failed:
        thread.result(timeout=60)
    error = failed.value
    assert (error.node, error.thread_id, error.step, error.graph) == (node, thread.thread_id, 1, "menu")
    assert node in str(error)
    assert thread.thread_id in str(error)
    assert 'raise ValueError("no such luck")' in error.trace
    assert thread.status is Status.FAILED
    assert thread.reason == "ValueError: no such luck"
    before = lines(folder)
    fix(folder)
    thread.retry()
    items = thread.result(timeout=60)["items"]
    ran_again = lines(folder)[len(before) :]
    if do == "raise":
        assert items == ["first", "fault", "last"]
        assert ran_again == ["fault", "last"]
    else:
        assert items == ["first", 0, 1, 2, "last"]
        assert ran_again == ["part 1 raise", "last"]
    assert thread.info.crashes == 0


@pytest.mark.parametrize("how", ["exit", "segfault"])
def test_a_single_node_that_ends_its_process_is_paused_after_three_deaths(
    client: Client, folder: str, how: str
) -> None:
    thread = start(client, how, folder)
    with pytest.raises(Paused, match="3 times") as paused:
        thread.result(timeout=60)
    assert "'fault'" in paused.value.reason
    assert thread.status is Status.PAUSED
    assert thread.info.crashes == 3
    # The first death may come before the step ahead of it was durable, so that it is not yet charged to the node.
    deaths = len(lines(folder, "fault"))
    assert deaths in (3, 4)
    assert len(lines(folder, "first")) == deaths - 2
    fix(folder)
    thread.retry()
    assert thread.result(timeout=60)["items"] == ["first", "fault", "last"]
    assert lines(folder)[-2:] == ["fault", "last"]
    assert len(lines(folder)) == 2 * deaths
    assert thread.info.crashes == 0


@pytest.mark.parametrize("how", ["exit", "segfault"])
def test_a_task_that_ends_its_worker_is_paused_after_three_deaths_and_its_neighbours_count(
    client: Client, folder: str, how: str
) -> None:
    thread = start(client, f"fan-{how}", folder)
    with pytest.raises(Paused, match="3 times") as paused:
        thread.result(timeout=60)
    assert "'part'" in paused.value.reason
    # The owner itself did not die.
    assert thread.info.crashes == 0
    assert thread.info.epoch == 1
    assert sorted(lines(folder, "part")) == [f"part 0 {how}", *[f"part 1 {how}"] * 3, f"part 2 {how}"]
    fix(folder)
    thread.retry()
    assert thread.result(timeout=60)["items"] == ["first", 0, 1, 2, "last"]
    assert len(lines(folder, "part")) == 6


def test_a_retry_before_the_cause_is_gone_pauses_again(client: Client, folder: str) -> None:
    thread = start(client, "exit", folder)
    with pytest.raises(Paused, match="'fault'"):
        thread.result(timeout=60)
    deaths = len(lines(folder, "fault"))
    thread.retry()
    with pytest.raises(Paused, match="'fault'"):
        thread.result(timeout=60)
    # Here too the first death may come before what is ahead of the node was durable: that the retry was begun.
    more = len(lines(folder, "fault")) - deaths
    assert more in (3, 4)
    thread.cancel("it is hopeless")
    with pytest.raises(Cancelled, match="hopeless"):
        thread.result(timeout=60)
    assert len(lines(folder, "fault")) == deaths + more


def test_what_ends_the_process_before_the_input_is_taken_is_paused_too(client: Client, folder: str) -> None:
    """Crashes were counted against runs only, so a conditional edge of START that crashed was tried for ever."""
    thread = client.submit(gate, {"folder": folder})
    with pytest.raises(Paused, match="3 times before its input"):
        thread.result(timeout=60)
    assert lines(folder) == ["gate"] * 3
    fix(folder)
    thread.retry()
    assert thread.result(timeout=60)["items"] == ["last"]


def test_a_thread_that_keeps_crashing_waits_longer_and_longer_says_so_and_is_cancelled_at_once(
    serve: Serve, folder: str
) -> None:
    client = serve(crash_budget=50)
    thread = start(client, "exit", folder)
    said = "times without progress; it is started again in"
    eventually(lambda: said in thread.reason, seconds=150, what="the reason of a pause")
    assert thread.info.crashes >= 1
    deaths = len(lines(folder, "fault"))
    thread.cancel("it is hopeless")
    with pytest.raises(Cancelled, match="hopeless"):
        thread.result(timeout=60)
    assert len(lines(folder, "fault")) - deaths <= 1
