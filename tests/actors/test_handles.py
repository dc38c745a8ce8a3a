"""Handles: from other processes, made late, and what they raise."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    Cancelled,
    CheckpointNotFound,
    Client,
    HeadOptions,
    Interrupted,
    InvalidUpdateError,
    NotInterrupted,
    Paused,
    Status,
    ThreadHandle,
    UnknownInterrupt,
    UnknownThread,
)
from tests.actors.graphs_menu import graph, lines
from tests.actors.services import eventually

ROOT = Path(__file__).parents[2]


def elsewhere(client: Client, member: HeadOptions, body: str) -> Any:
    """What another process prints, as JSON, that runs `body` with a client of the same service."""
    source = f"""
import json, sys
from pathlib import Path
from perdure import *
from tests.actors.graphs_menu import graph
def main(client):
{textwrap.indent(textwrap.dedent(body), "    ")}
with connect({client.store.url!r}, head=HeadOptions(num_cpus=2, folder=Path({str(member.folder)!r}))) as client:
    print(json.dumps(main(client)))
"""
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def start(client: Client, do: str, folder: str, **more: Any) -> ThreadHandle:
    return client.submit(graph, {"do": do, "folder": folder, **more})


def test_a_second_process_watches_answers_and_reads_what_the_first_began(
    client: Client, member: HeadOptions, folder: str
) -> None:
    thread = start(client, "ask", folder)
    with pytest.raises(Interrupted):
        thread.result(timeout=60)
    seen = elsewhere(
        client,
        member,
        f"""
        thread = client.thread({thread.thread_id!r})
        try:
            thread.result(timeout=60)
        except Interrupted as stop:
            question = stop.interrupts[0]
        before = thread.status.value
        thread.resume("from elsewhere", interrupt_id=question.id)
        return [question.value, before, thread.result(timeout=60)["items"], len(list(thread.get_state_history()))]
        """,
    )
    assert seen == ["go on?", "interrupted", ["first", "from elsewhere", "last"], 4]
    assert thread.result(timeout=5)["items"] == ["first", "from elsewhere", "last"]


def test_threads_go_on_when_the_process_that_submitted_them_is_gone(
    client: Client, member: HeadOptions, folder: str
) -> None:
    name = elsewhere(
        client,
        member,
        f"""
        thread = client.submit(graph, {{"do": "count", "until": 30, "folder": {folder!r}}})
        return thread.thread_id
        """,
    )
    assert client.thread(name).result(timeout=60)["n"] == 30


def test_a_stream_attached_late_begins_at_the_beginning(client: Client, folder: str) -> None:
    thread = start(client, "count", folder, until=60)
    eventually(lambda: "count 20" in lines(folder))
    updates = list(client.thread(thread.thread_id).stream("updates", timeout=60))
    assert updates[0] == {"first": {"items": ["first"]}}
    assert [one["count"]["n"] for one in updates[1:-1]] == list(range(1, 61))
    assert updates[-1] == {"last": {"items": ["last"]}}
    # And once more, when everything is long over; each mode on its own terms.
    assert list(thread.stream("updates", timeout=60)) == updates
    values = list(thread.stream("values", timeout=60))
    assert values[-1]["n"] == 60
    assert values[-1]["items"] == ["first", "last"]
    both = list(thread.stream(["values", "updates"], timeout=60))
    assert [event for mode, event in both if mode == "updates"] == updates


def test_a_stream_ends_at_an_interrupt_and_goes_on_with_the_next(client: Client, folder: str) -> None:
    thread = start(client, "ask", folder)
    first = list(thread.stream(timeout=60))
    assert list(first[0]) == ["first"]
    assert list(first[-1]) == ["__interrupt__"]
    thread.resume("yes")
    assert [key for one in thread.stream(timeout=60) for key in one][-2:] == ["ask", "last"]


def test_a_result_that_takes_too_long_is_a_timeout_and_nothing_else_happens(client: Client, folder: str) -> None:
    thread = start(client, "doze", folder)
    eventually(lambda: "doze" in lines(folder))
    for patience in (0.2, timedelta(milliseconds=100), 0):
        with pytest.raises(TimeoutError, match=thread.thread_id):
            thread.result(timeout=patience)
    with pytest.raises(TimeoutError):
        list(thread.stream(timeout=0.2))
    assert thread.status is Status.RUNNING
    thread.cancel()
    with pytest.raises(Cancelled, match="cancelled by a user"):
        thread.result(timeout=60)


def test_what_interrupted_and_paused_tell(client: Client, folder: str) -> None:
    thread = start(client, "ask", folder)
    with pytest.raises(Interrupted, match=r"'go on\?'") as stopped:
        thread.result(timeout=60)
    assert stopped.value.thread_id == thread.thread_id
    assert stopped.value.state["items"] == ["first"]
    assert [one.id for one in stopped.value.interrupts] == list(thread.interrupts)
    thread.pause("not today")
    with pytest.raises(Paused, match="not today") as paused:
        eventually(lambda: thread.status is Status.PAUSED)
        thread.result(timeout=60)
    assert paused.value.thread_id == thread.thread_id


def test_a_resume_that_nothing_waits_for(client: Client, folder: str) -> None:
    done = start(client, "last", folder)
    assert done.result(timeout=60)["items"] == ["first", "last"]
    with pytest.raises(NotInterrupted, match=done.thread_id):
        done.resume("yes")
    with pytest.raises(NotInterrupted):
        done.resume()
    with pytest.raises(UnknownInterrupt, match="no open interrupt 'nonsense'"):
        done.resume("yes", interrupt_id="nonsense")
    waits = start(client, "ask", folder)
    with pytest.raises(Interrupted):
        waits.result(timeout=60)
    with pytest.raises(UnknownInterrupt, match=waits.interrupts[0]):
        waits.resume("yes", interrupt_id="nonsense")
    taken = waits.interrupts[0]
    waits.resume("yes", interrupt_id=taken)
    with pytest.raises(UnknownInterrupt):
        waits.resume("again", interrupt_id=taken)
    assert waits.result(timeout=60)["items"] == ["first", "yes", "last"]


def test_unknown_threads_and_checkpoints(client: Client, folder: str) -> None:
    with pytest.raises(UnknownThread, match="'nobody'"):
        client.thread("nobody")
    thread = start(client, "last", folder)
    thread.result(timeout=60)
    for name in ("9999", "nonsense"):
        with pytest.raises(CheckpointNotFound, match=name):
            thread.get_state(name)
        with pytest.raises(CheckpointNotFound, match=name):
            thread.fork(name)
        with pytest.raises(CheckpointNotFound, match=name):
            thread.update_state({"n": 1}, checkpoint_id=name)
    with pytest.raises(InvalidUpdateError, match="colour"):
        thread.update_state({"colour": "red"})
    with pytest.raises(InvalidUpdateError, match="nowhere"):
        thread.update_state({"n": 1}, as_node="nowhere")
    assert thread.status is Status.SUCCEEDED


def test_threads_are_found_by_status_graph_tag_and_metadata(client: Client, folder: str) -> None:
    def submit(do: str, name: str, tags: tuple[str, ...], **metadata: Any) -> ThreadHandle:
        return client.submit(graph, {"do": do, "folder": folder}, thread_id=name, metadata=metadata, tags=tags)

    submit("last", "f-1", ("filter", "blue"), team="a", size=1)
    submit("ask", "f-2", ("filter", "red"), team="a", size=2)
    submit("raise", "f-3", ("filter",), team="b", nested={"deep": [1, 2]})
    ended = {"f-1": Status.SUCCEEDED, "f-2": Status.INTERRUPTED, "f-3": Status.FAILED}
    eventually(lambda: all(client.thread(name).status is status for name, status in ended.items()))

    def names(**where: Any) -> list[str]:
        return [one.thread_id for one in client.threads(tag=where.pop("tag", "filter"), **where)]

    assert names() == ["f-3", "f-2", "f-1"]
    assert names(limit=2) == ["f-3", "f-2"]
    assert names(status="interrupted") == ["f-2"]
    assert names(status=Status.FAILED) == ["f-3"]
    assert names(status=["succeeded", Status.FAILED]) == ["f-3", "f-1"]
    assert names(tag="blue") == ["f-1"]
    assert names(metadata={"team": "a"}) == ["f-2", "f-1"]
    assert names(metadata={"team": "a", "size": 2}) == ["f-2"]
    assert names(metadata={"nested": {"deep": [1, 2]}}) == ["f-3"]
    assert names(metadata={"size": "1"}) == []
    assert names(graph="menu", status="succeeded") == ["f-1"]
    assert names(graph="other") == []
    with pytest.raises(ValueError, match="asleep"):
        names(status="asleep")
    # What was given at submit is kept on the checkpoints too.
    assert client.thread("f-1").get_state().metadata["team"] == "a"
