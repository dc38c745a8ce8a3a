"""Checkpoint policies of runs that a service drives: they survive the owner's death, and forks keep them."""

from __future__ import annotations

import os
import signal
from itertools import pairwise

from perdure import Checkpoints, Client, ThreadHandle
from tests.actors.graphs_menu import graph, lines
from tests.actors.services import eventually, owner_pid

EVERY = Checkpoints(every=10)


def gaps(thread: ThreadHandle) -> list[int]:
    """Steps between the full checkpoints."""
    steps = [shot.metadata["step"] for shot in thread.get_state_history()][::-1]
    return [later - earlier for earlier, later in pairwise([-2, *steps])]


def test_a_thinned_run_goes_on_from_its_last_full_checkpoint(client: Client, folder: str) -> None:
    thread = client.submit(graph, {"do": "count", "folder": folder, "until": 120}, checkpoints=EVERY)
    eventually(lambda: "count 35" in lines(folder))
    os.kill(owner_pid(client, thread.thread_id), signal.SIGKILL)
    assert thread.result(timeout=60)["n"] == 120
    found = gaps(thread)
    assert max(found) <= 11, "the input, and ten steps"
    assert found.count(10) >= 3
    assert lines(folder).count("count 5") == 1, "what lies before a full checkpoint is not run again"


def test_a_fork_keeps_the_policy(client: Client, folder: str) -> None:
    thread = client.submit(graph, {"do": "count", "folder": folder, "until": 60}, checkpoints=EVERY)
    assert thread.result(timeout=60)["n"] == 60
    middle = list(thread.get_state_history())[2]
    fork = thread.fork(middle.checkpoint_id)
    assert fork.result(timeout=60)["n"] == 60
    assert 10 in gaps(fork)[-3:]


def test_what_a_service_submits_is_answered_as_ever(client: Client, folder: str) -> None:
    thread = client.submit(graph, {"do": "ask", "folder": folder}, checkpoints=Checkpoints(manual=True))
    eventually(lambda: thread.interrupts)
    thread.resume("yes")
    assert thread.result(timeout=60)["items"] == ["first", "yes", "last"]
