"""The command line as people use it, on a real head. Commands run in this process where it makes no difference: a new
one spends seconds on imports and on joining the cluster."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from perdure import Client, HeadOptions, Status, open_store
from perdure.cluster.cli import app
from perdure.cluster.head import running_head, stop_head
from perdure.stores.processes import ProcessId, family, wait_gone
from tests.actors.conftest import member
from tests.actors.services import eventually, service

__all__ = ["member"]

FOLDER = Path(__file__).parent
COMMAND = [sys.executable, "-c", "from perdure.cluster.cli import app; app()"]


@dataclass(frozen=True)
class Shell:
    """Runs `perdure` in the folder of the graphs, on one store and one head."""

    store: str
    home: Path
    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PERDURE_HOME": str(self.home), "PERDURE_STORE": self.store, **self.more}

    def begin(self, *arguments: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=FOLDER,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        process = self.begin(*arguments)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def json(self, *arguments: str) -> tuple[int, Any]:
        """The exit code and the one document on stdout."""
        code, out, _ = self(*arguments, "--json")
        return code, json.loads(out)


class Here(Shell):
    """The same in this process."""

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(FOLDER)
            for name, value in self.environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "path", [*sys.path])  # a command adds the folder that it is in
            done = CliRunner().invoke(app, arguments)
        return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def client(member: HeadOptions, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with service(member, tmp_path_factory.mktemp("cli") / "threads of mine.db") as found:
        yield found


@pytest.fixture(scope="module")
def perdure(client: Client, head: HeadOptions) -> Shell:
    assert head.folder is not None
    return Shell(client.store.url, head.folder)


@pytest.fixture(scope="module")
def here(client: Client, head: HeadOptions) -> Shell:
    assert head.folder is not None
    return Here(client.store.url, head.folder)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def given(gate: Path) -> str:
    return json.dumps({"gate": str(gate)})


def test_a_run_asks_and_is_answered(here: Shell, client: Client) -> None:
    options = ["--thread-id", "asks", "--metadata", "level=3", "--metadata", "by=me", "--tag", "a", "--tag", "b"]
    code, told = here.json("run", "graphs_cli:asking", "--input", '{"n": 4}', *options)
    assert (code, told["exit_code"], told["status"]) == (3, 3, "interrupted")
    assert [one["value"] for one in told["interrupts"]] == [{"n": 5}]
    record = client.store.thread("asks")
    assert (record.metadata, record.tags) == ({"level": 3, "by": "me"}, ("a", "b"))

    code, out, err = here("resume", "asks")
    assert (code, out) == (2, "")
    assert "waits for an answer" in err
    code, told = here.json("resume", "asks", '"yes"', "--interrupt", "unknown")
    assert (code, told["error"]["type"]) == (6, "UnknownInterrupt")
    code, out, err = here("resume", "asks", '{"yes": [1, 2]}')
    assert (code, json.loads(out)) == (0, {"n": 5, "answer": {"yes": [1, 2]}})
    assert "succeeded" in err
    code, told = here.json("resume", "asks", '"yes"')
    assert (code, told["error"]["type"]) == (2, "NotInterrupted")

    code, told = here.json("run", "graphs_cli:asking", "--thread-id", "asks")
    assert (code, told["error"]["type"]) == (2, "ThreadExists")
    code, told = here.json("run", "graphs_cli:asking", "--thread-id", "asks", "--if-exists", "attach")
    assert (code, told["result"]["n"]) == (0, 5)


def test_a_failure_is_told_and_retried(here: Shell, gate: Path) -> None:
    code, out, err = here("run", "graphs_cli:checking", "--thread-id", "fails", "--input", given(gate))
    assert (code, out) == (1, "")
    assert "node 'check'" in err
    assert "the gate is [bold]shut[/bold]" in err
    assert "Traceback" not in err
    code, told = here.json("attach", "fails")
    assert (code, told["status"], told["error"]["node"]) == (1, "failed", "check")
    gate.touch()
    code, told = here.json("retry", "fails")
    assert (code, told["result"]["answer"]) == (0, "open")


def test_control_c_leaves_the_run_going(perdure: Shell, here: Shell, client: Client, gate: Path) -> None:
    process = perdure.begin("run", "graphs_cli:ticking", "--thread-id", "ticks", "--input", given(gate))
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("thread ticks, run 1"):
            break
    handle = client.thread("ticks")
    eventually(lambda: handle.status is Status.RUNNING and handle.get_state().values.get("n", 0) > 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "goes on" in err
    assert "perdure attach ticks" in err
    assert "Traceback" not in err
    seen = handle.get_state().values["n"]
    eventually(lambda: handle.get_state().values["n"] > seen)

    code, told = here.json("pause", "ticks", "--reason", "to look at it")
    assert (code, told["status"]) == (0, "paused")
    assert "to look at it" in told["reason"]
    code, told = here.json("attach", "ticks")
    assert (code, told["status"]) == (4, "paused")
    code, told = here.json("resume", "ticks", "--detach")
    assert (code, told["run"]) == (0, 1)
    gate.touch()
    code, told = here.json("attach", "ticks")
    assert (code, told["status"]) == (0, "succeeded")


def test_cancel_ends_a_node_that_holds(here: Shell, client: Client, gate: Path) -> None:
    code, out, err = here(
        "run", "graphs_cli:holding", "--thread-id", "holds", "--input", given(gate), "--detach", "--durability", "sync"
    )
    assert (code, out) == (0, "holds\n")
    assert "perdure attach holds" in err
    eventually(lambda: client.thread("holds").status is Status.RUNNING)
    code, told = here.json("cancel", "holds", "--reason", "enough")
    assert (code, told["status"]) == (0, "cancelled")
    code, out, err = here("attach", "holds")
    assert (code, out) == (5, "")
    assert "enough" in err
    code, told = here.json("cancel", "holds")
    assert (code, told["error"]["type"]) == (2, "Refused")


def test_update_and_fork(here: Shell, client: Client) -> None:
    begin = ["run", "graphs_cli:asking", "--thread-id", "forked", "--interrupt-before", "ask", "--input", '{"n": 1}']
    code, told = here.json(*begin)
    assert (code, told["interrupts"]) == (3, [])
    code, told = here.json("update", "forked", '{"n": 10}')
    assert code == 0
    state = client.thread("forked").get_state()
    assert (state.values["n"], state.checkpoint_id) == (10, told["checkpoint_id"])
    code, told = here.json("update", "forked", '{"m": 10}')
    assert (code, told["error"]["type"]) == (2, "InvalidUpdateError")
    assert "'m'" in told["error"]["message"]

    first = list(client.thread("forked").get_state_history())[-1].checkpoint_id
    code, told = here.json("fork", "forked", "--checkpoint", first, "--update", '{"n": 20}', "--thread-id", "other")
    assert (code, told["thread_id"]) == (3, "other")
    _, shown = here.json("show", "other")
    assert shown["values"]["n"] == 21
    assert shown["origin"] == {"thread_id": "forked", "checkpoint_id": first}
    code, told = here.json("fork", "forked", "--checkpoint", "999")
    assert (code, told["error"]["type"]) == (6, "CheckpointNotFound")

    code, told = here.json("update", "forked", '{"n": 11}', "--expect", first)
    assert (code, told["error"]["type"]) == (2, "CheckpointConflict")
    assert here.json("breakpoints", "forked", "--before", "count") == (0, {"thread_id": "forked", "changed": True})
    code, told = here.json("step", "forked")
    assert (code, told["status"], told["next"]) == (0, "interrupted", ["ask"])
    assert told["interrupts"][0]["value"] == {"n": 10}
    code, told = here.json("breakpoints", "forked")
    assert (code, told["before"]) == (0, ["ask", "count"])
    code, told = here.json("replay", "forked", first)
    assert (code, told["interrupts"]) == (3, [])
    assert client.thread("forked").get_state().values["n"] == 2


def test_the_live_line_tells_step_and_node(perdure: Shell, client: Client, gate: Path) -> None:
    """On a terminal a line on stderr is redrawn; stdout has the result alone."""
    terminal, other_end = pty.openpty()
    process = perdure.begin(
        "run", "graphs_cli:ticking", "--thread-id", "live", "--input", given(gate), stderr=other_end
    )
    os.close(other_end)
    drawn = bytearray()
    reader = threading.Thread(target=_drain, args=(terminal, drawn), daemon=True)
    reader.start()
    eventually(lambda: b"step 1" in drawn and b"tick" in drawn and b"running" in drawn, 60)
    gate.touch()
    out, _ = process.communicate(timeout=60)
    reader.join(10)
    os.close(terminal)
    assert process.returncode == 0
    assert json.loads(out)["gate"] == str(gate)
    assert b"\x1b[?25h" in drawn  # the cursor is there again


def _drain(terminal: int, drawn: bytearray) -> None:
    while True:
        try:
            drawn += os.read(terminal, 4096)
        except OSError:  # the process has closed its end
            return


def test_up_and_down_leave_no_process(tmp_path: Path, gate: Path) -> None:
    perdure = Shell(f"sqlite:///{tmp_path}/own.db", tmp_path / "home")
    try:
        code, told = perdure.json("up", "--num-cpus", "2")
        assert (code, told["started"]) == (0, True)
        endpoint = running_head(perdure.home)
        assert endpoint is not None
        assert (told["address"], told["pid"]) == (endpoint.address, endpoint.pid)
        code, out, _ = perdure("run", "graphs_cli:ticking", "--thread-id", "t", "--input", given(gate), "--detach")
        assert (code, out) == (0, "t\n")
        with open_store(perdure.store, create=False) as store:
            eventually(lambda: store.thread("t").status is Status.RUNNING, 60)
        processes = family(endpoint.process) | {endpoint.process}
        assert len(processes) > 5

        assert perdure.json("down") == (0, {"stopped": True})
        assert not wait_gone(processes, 5)
        assert perdure.json("down") == (0, {"stopped": False})
        code, out, err = perdure("ls")
        assert (code, "running" in out) == (0, True)
        assert "no local head runs" in err
        assert running_head(perdure.home) is None

        # The head that runs next goes on with the thread, without anybody who asks for it.
        code, told = perdure.json("up", "--num-cpus", "2")
        assert code == 0, told
        assert (told["runnable"], told["parked"], told["drained"]) == (1, 0, False)
        with open_store(perdure.store, create=False) as store:
            eventually(lambda: store.thread("t").epoch > 1, 60)
            assert perdure.json("drain", "--timeout", "60") == (0, {"node": None, "drained": True, "left": 0})
            assert store.thread("t").status is Status.QUEUED
            code, told = perdure.json("up")
            assert (code, told["drained"]) == (0, True)
            assert perdure.json("drain", "--undo")[1] == {"node": None, "drained": False, "left": 0}
            gate.touch()
            eventually(lambda: store.thread("t").status is Status.SUCCEEDED, 60)
            assert store.thread("t").crashes == 0
    finally:
        stop_head(folder=perdure.home)
    assert [pid for pid in _commands(str(tmp_path)) if pid != os.getpid()] == []


def _commands(text: str) -> list[int]:
    """Processes whose command line has `text` in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if text in (entry / "cmdline").read_text(errors="replace"):
                found.append(ProcessId.of(int(entry.name)).pid)
        except OSError:
            continue
    return found
