"""Steer threads that run: cancel, pause, update, further inputs, fork, delete."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import pytest

from perdure import (
    Cancelled,
    CheckpointConflict,
    CheckpointNotFound,
    Client,
    Interrupted,
    NotInterrupted,
    Paused,
    Refused,
    Status,
    ThreadBusy,
    ThreadExists,
    ThreadHandle,
    UnknownThread,
)
from perdure.cluster.client import IfBusy
from perdure.stores.processes import ProcessId
from tests.actors.conftest import Serve
from tests.actors.graphs_menu import graph, lines, pid_of
from tests.actors.services import eventually


def start(client: Client, do: str, folder: str, **more: object) -> ThreadHandle:
    return client.submit(graph, {"do": do, "folder": folder, **more})


def seen(folder: str, text: str) -> None:
    eventually(lambda: text in lines(folder), what=f"{text!r} in the log")


# -- cancel ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("do", "sign"), [("spin", "spin"), ("await_long", "await"), ("fan-wait", "part 1 wait")])
def test_cancel_stops_a_node_at_once(client: Client, folder: str, do: str, sign: str) -> None:
    thread = start(client, do, folder)
    seen(folder, sign)
    if do == "fan-wait":
        seen(folder, "part 0 wait")
    began = time.monotonic()
    thread.cancel("enough")
    with pytest.raises(Cancelled, match="enough"):
        thread.result(timeout=60)
    assert time.monotonic() - began < 3
    assert thread.status is Status.CANCELLED
    assert thread.reason == "enough"
    assert thread.info.epoch == 1
    assert "last" not in lines(folder)
    # The node itself is over, not only its thread.
    if do == "fan-wait":
        workers = [ProcessId.of(pid_of(folder, f"part {i} wait")) for i in range(2)]
        eventually(lambda: not any(worker.alive for worker in workers), what="the end of the workers")
    if do == "await_long":
        seen(folder, "await-cancelled")
    with pytest.raises(Refused):
        thread.cancel()


def test_a_node_that_sleeps_in_c_loses_its_process_after_the_grace(serve: Serve, folder: str) -> None:
    client = serve(cancel_grace=timedelta(seconds=1))
    thread = start(client, "doze", folder)
    seen(folder, "doze")
    owner = ProcessId.of(pid_of(folder, "doze"))
    began = time.monotonic()
    thread.cancel()
    with pytest.raises(Cancelled):
        thread.result(timeout=60)
    assert 0.9 < time.monotonic() - began < 6
    assert not owner.alive
    assert lines(folder, "doze") == ["doze"]
    # Losing the process was wanted: it is nobody's crash.
    assert thread.status is Status.CANCELLED


def test_cancel_of_what_waits_ends_it_without_running_a_node(client: Client, folder: str) -> None:
    thread = start(client, "ask", folder)
    with pytest.raises(Interrupted):
        thread.result(timeout=60)
    thread.cancel("nobody answered")
    with pytest.raises(Cancelled, match="nobody answered"):
        thread.result(timeout=60)
    assert lines(folder) == ["first", "ask"]
    with pytest.raises(NotInterrupted):
        thread.resume("too late")


# -- pause, update ---------------------------------------------------------------------------------------------------


def test_pause_stops_between_two_steps_and_resume_goes_on(client: Client, folder: str) -> None:
    thread = start(client, "count", folder, until=150)
    seen(folder, "count 5")
    thread.pause("let me look")
    with pytest.raises(Paused, match="let me look"):
        thread.result(timeout=60)
    assert thread.reason == "let me look"
    stopped = len(lines(folder, "count"))
    assert stopped < 150
    time.sleep(0.3)
    assert len(lines(folder, "count")) == stopped
    state = thread.get_state()
    assert state.values["n"] == stopped
    assert state.next == ("count",)
    thread.resume()
    assert thread.result(timeout=60)["n"] == 150
    assert lines(folder, "count") == [f"count {i}" for i in range(1, 151)]


def test_update_state_on_a_running_thread_is_applied_between_two_steps(client: Client, folder: str) -> None:
    thread = start(client, "count", folder, until=2000)
    seen(folder, "count 5")
    checkpoint = thread.update_state({"n": 1990, "items": ["from outside"]})
    values = thread.result(timeout=60)
    assert values["n"] == 2000
    assert values["items"] == ["first", "from outside", "last"]
    at = thread.get_state(checkpoint)
    assert at.values["n"] == 1990
    assert at.metadata["source"] == "update"


def test_update_state_of_a_parked_thread_and_from_an_older_checkpoint(client: Client, folder: str) -> None:
    thread = start(client, "ask", folder)
    with pytest.raises(Interrupted):
        thread.result(timeout=60)
    thread.update_state({"items": ["added"]})
    assert thread.status is Status.INTERRUPTED
    assert thread.get_state().values["items"] == ["first", "added"]
    thread.resume("yes")
    assert thread.result(timeout=60)["items"] == ["first", "added", "yes", "last"]
    older = [state for state in thread.get_state_history() if state.next == ("ask",)][-1]
    thread.update_state({"items": ["another way"]}, checkpoint_id=older.checkpoint_id)
    assert thread.get_state().values["items"] == ["first", "another way"]


def test_of_two_who_change_the_same_head_one_is_told(client: Client, folder: str) -> None:
    thread = start(client, "ask", folder)
    with pytest.raises(Interrupted):
        thread.result(timeout=60)
    head = thread.get_state().checkpoint_id
    made = thread.update_state({"n": 50}, expected_checkpoint=head)
    with pytest.raises(CheckpointConflict, match=r"\{'n': 7\}.*n = 50") as caught:
        thread.update_state({"n": 7}, expected_checkpoint=head)
    assert (caught.value.expected, caught.value.found) == (head, made)
    assert (thread.status, thread.get_state().values["n"]) == (Status.INTERRUPTED, 50)
    assert thread.diff(head).added == {"n": 50}
    with pytest.raises(CheckpointNotFound):
        thread.update_state({"n": 7}, expected_checkpoint="0000000999")


def test_of_two_who_change_a_running_thread_one_is_told_where_it_is_applied(client: Client, folder: str) -> None:
    """The store still has the head that an update names when it accepts it; the owner is further by the time that it
    reads it."""
    thread = start(client, "count", folder, until=100_000)
    eventually(lambda: thread.info.head > 3, what="some steps")
    with pytest.raises(CheckpointConflict) as caught:
        thread.update_state({"items": ["late"]}, expected_checkpoint=thread.get_state().checkpoint_id)
    assert caught.value.found > caught.value.expected
    assert (thread.status, "late" in thread.get_state().values["items"]) == (Status.RUNNING, False)
    thread.cancel()


def test_steps_breakpoints_and_replay(client: Client, folder: str) -> None:
    thread = client.submit(graph, {"do": "ask", "folder": folder}, interrupt_before=["first"])
    with pytest.raises(Interrupted):
        thread.result(timeout=60)
    state = thread.step()
    assert (state.next, state.values["items"], thread.status) == (("ask",), ["first"], Status.INTERRUPTED)
    thread.add_breakpoints(after="ask")
    eventually(lambda: thread.breakpoints().after == ("ask",), what="the breakpoint")
    assert [one.value for one in thread.step().interrupts]
    thread.resume("yes")
    with pytest.raises(Interrupted):
        thread.result(timeout=60)
    assert thread.get_state().next == ("last",)
    thread.remove_breakpoints()
    eventually(lambda: not thread.breakpoints().after, what="the end of the breakpoint")
    # An answer belongs to the step that asked, and after that the thread stands.
    assert thread.get_state().next == ("last",)
    thread.resume()
    assert thread.result(timeout=60)["items"] == ["first", "yes", "last"]
    assert len(lines(folder, "first")) == 1
    with pytest.raises(NotInterrupted):
        thread.step()
    begun = [one for one in thread.get_state_history() if one.next == ("last",)][-1]
    thread.replay(begun.checkpoint_id)
    assert thread.result(timeout=60)["items"] == ["first", "yes", "last"]
    assert len(lines(folder, "last")) == 2


@pytest.mark.parametrize("changed", [False, True])
def test_a_fork_that_is_not_started_is_stepped_through(client: Client, folder: str, changed: bool) -> None:
    """With an update it was handed out before it was paused, and refused the step."""
    thread = start(client, "ask", folder)
    with pytest.raises(Interrupted):
        thread.result(timeout=60)
    begun = [one for one in thread.get_state_history() if one.next == ("first",)][-1]
    fork = thread.fork(begun.checkpoint_id, start=False, update={"folder": folder} if changed else None)
    assert (fork.status, fork.get_state().next) == (Status.PAUSED, ("first",))
    assert fork.step().next == ("ask",)
    named = fork.name_checkpoint("after first")
    assert (fork.names(), fork.info.names) == ({"after first": named}, {"after first": int(named)})
    fork.cancel()
    thread.cancel()


# -- further inputs --------------------------------------------------------------------------------------------------


def test_an_input_for_a_busy_thread_is_queued_refused_or_takes_over(client: Client, folder: str) -> None:
    first = start(client, "count", folder, until=120)

    def again(if_busy: IfBusy = "enqueue", **given: object) -> ThreadHandle:
        state = {"do": "last", "folder": folder, **given}
        return client.submit(graph, state, thread_id=first.thread_id, if_exists="continue", if_busy=if_busy)

    queued = again()
    assert (first.run, queued.run) == (1, 2)
    with pytest.raises(ThreadBusy, match=first.thread_id):
        again("reject")
    assert first.result(timeout=60)["n"] == 120
    assert queued.result(timeout=60)["items"] == ["first", "last", "first", "last"]
    third = again(do="count", n=0, until=2000)
    eventually(lambda: lines(folder).count("count 5") == 2)
    taking_over = again("interrupt")
    assert taking_over.result(timeout=60)["items"][-1] == "last"
    with pytest.raises(Cancelled, match="replaced"):
        third.result(timeout=5)
    # A handle belongs to its run, whatever ran since.
    assert first.result(timeout=5)["n"] == 120


def test_the_same_thread_id_twice(client: Client, folder: str) -> None:
    thread = start(client, "ask", folder)
    name = thread.thread_id
    with pytest.raises(ThreadExists, match=name):
        client.submit(graph, {"do": "ask", "folder": folder}, thread_id=name)
    attached = client.submit(graph, {"do": "ask", "folder": folder}, thread_id=name, if_exists="attach")
    assert (attached.thread_id, attached.run) == (name, 1)
    with pytest.raises(Interrupted):
        attached.result(timeout=60)
    assert lines(folder) == ["first", "ask"]
    attached.resume("yes")
    assert thread.result(timeout=60)["items"] == ["first", "yes", "last"]
    again = client.submit(graph, {"do": "last", "folder": folder}, thread_id=name, if_exists="restart")
    assert again.run == 1
    assert again.result(timeout=60)["items"] == ["first", "last"]


def test_restart_of_a_running_thread_is_refused(client: Client, folder: str) -> None:
    thread = start(client, "spin", folder)
    seen(folder, "spin")
    with pytest.raises(ThreadBusy, match="cancel it"):
        client.submit(graph, {"do": "last", "folder": folder}, thread_id=thread.thread_id, if_exists="restart")
    with pytest.raises(Refused):
        client.delete(thread.thread_id)
    (Path(folder) / "fixed").touch()
    assert thread.result(timeout=60)["items"] == ["first", "spun", "last"]


# -- forks and deletion ----------------------------------------------------------------------------------------------


def test_a_fork_goes_its_own_way_also_when_its_origin_is_deleted(client: Client, folder: str) -> None:
    thread = start(client, "ask", folder)
    with pytest.raises(Interrupted):
        thread.result(timeout=60)
    asking = thread.get_state().checkpoint_id
    thread.resume("yes")
    assert thread.result(timeout=60)["items"] == ["first", "yes", "last"]
    fork = thread.fork(asking, update={"items": ["forked"]}, thread_id=f"{thread.thread_id}-fork")
    with pytest.raises(Interrupted):
        fork.result(timeout=60)
    fork.resume("no")
    assert fork.result(timeout=60)["items"] == ["first", "forked", "no", "last"]
    assert thread.get_state().values["items"] == ["first", "yes", "last"]
    later = thread.fork(asking, thread_id=f"{thread.thread_id}-later")
    with pytest.raises(Interrupted):
        later.result(timeout=60)
    before = [state.values.get("items") for state in fork.get_state_history()]
    assert before[-1] in ([], None)
    # Parked in the run that it has from its origin, which it goes on with by itself.
    client.delete(thread.thread_id)
    with pytest.raises(UnknownThread):
        _ = thread.status
    assert [state.values.get("items") for state in fork.get_state_history()] == before
    later.resume("late")
    assert later.result(timeout=60)["items"] == ["first", "late", "last"]
    back = fork.fork(asking, thread_id=f"{thread.thread_id}-back")
    with pytest.raises(Interrupted):
        back.result(timeout=60)
    for handle in (fork, later):
        client.delete(handle.thread_id)
    back.resume("again")
    assert back.result(timeout=60)["items"] == ["first", "again", "last"]


def test_parallel_interrupts_are_answered_one_at_a_time(client: Client, folder: str) -> None:
    thread = start(client, "fan-ask", folder)
    with pytest.raises(Interrupted) as stopped:
        thread.result(timeout=60)
    questions = {one.value["part"]: one.id for one in stopped.value.interrupts}
    assert sorted(questions) == [0, 1, 2]
    thread.resume("b", interrupt_id=questions[1])
    eventually(lambda: thread.status is Status.INTERRUPTED and len(thread.interrupts) == 2)
    thread.resume({questions[0]: "a", questions[2]: "c"})
    assert thread.result(timeout=60)["items"] == ["first", "0:a", "1:b", "2:c", "last"]
