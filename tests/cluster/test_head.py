"""The local head, for real: Ray is started, joined, left, killed. Each test that needs it has a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import ray

from perdure.cluster import head_daemon
from perdure.cluster.endpoint import Build, read_endpoint
from perdure.cluster.head import Endpoint, HeadError, HeadOptions, ensure_head, running_head, stop_head
from perdure.cluster.locks import is_locked, locked, try_lock
from perdure.cluster.paths import HeadPaths, write_private
from perdure.cluster.registration import Registration, busy, clients
from perdure.stores.processes import ProcessId, boot, family, wait_gone

PRELUDE = """
import json, os, sys, time
import ray
from perdure.cluster.head import ensure_head
from perdure.cluster.join import Membership
from perdure.cluster.registration import Registration

@ray.remote(num_cpus=0)
class Counter:
    def __init__(self): self.count = 0
    def add(self): self.count += 1; return self.count, os.getpid()
    def child(self): import subprocess; return subprocess.Popen(["sleep", "600"]).pid
    def spin(self):
        while True:
            try: time.sleep(1)
            except BaseException: pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stop_head(folder=tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which the first test starts a head for all the others."""
    folder = tmp_path_factory.mktemp("head")
    yield folder
    stop_head(folder=folder)


def begin(folder: Path, body: str) -> subprocess.Popen[str]:
    """Another process of the same user, which has the helpers of PRELUDE."""
    source = PRELUDE + textwrap.dedent(body)
    environment = {**os.environ, "PERDURE_HOME": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-c", source], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> object:
    """What it printed, as JSON; it must print nothing else, nor to stderr."""
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return json.loads(out)


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def endpoint_of(folder: Path, process: ProcessId) -> Endpoint:
    return Endpoint(
        address="127.0.0.1:1",
        pid=process.pid,
        started=process.started,
        boot=boot(),
        build=Build.own(),
        temp_dir="/tmp/perdure-none",
        root=str(HeadPaths.of(folder).root),
        since=0.0,
    )


# -- one head for all ------------------------------------------------------------------------------------------------


def test_starters_at_the_same_time_get_one_head(shared: Path) -> None:
    body = "endpoint = ensure_head(); print(json.dumps([endpoint.pid, endpoint.address]))"
    starters = [begin(shared, body) for _ in range(3)]
    heads = [finish(starter) for starter in starters]
    assert heads[0] == heads[1] == heads[2]
    endpoint = running_head(shared)
    assert endpoint is not None
    assert heads[0] == [endpoint.pid, endpoint.address]


def test_an_actor_outlives_the_process_that_made_it(shared: Path) -> None:
    first = begin(
        shared,
        """
        endpoint = ensure_head()
        with Registration(endpoint), Membership(endpoint):
            counter = Counter.options(name="outlives", lifetime="detached").remote()
            print(json.dumps(ray.get(counter.add.remote())))
        """,
    )
    made = finish(first)
    assert isinstance(made, list)
    assert made[0] == 1
    second = begin(
        shared,
        """
        endpoint = ensure_head()
        with Registration(endpoint), Membership(endpoint):
            counter = ray.get_actor("outlives")
            print(json.dumps(ray.get(counter.add.remote())))
            ray.kill(counter)
        """,
    )
    assert finish(second) == [2, made[1]]
    assert clients(HeadPaths.of(shared)) == []


def test_a_member_keeps_its_signal_handler_and_gets_its_environment_back(shared: Path) -> None:
    process = begin(
        shared,
        """
        import logging, signal
        os.environ["RAY_AUTH_TOKEN"] = "0" * 64
        before = dict(os.environ)
        with Membership(ensure_head()) as member:
            handler = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            other = len(ray.nodes()) == 1
        again = dict(os.environ) == before
        with Membership(ensure_head()):
            twice = len(ray.nodes()) == 1
        print(json.dumps([handler, other, again, twice, ray.is_initialized()]))
        """,
    )
    assert finish(process) == [True, True, True, True, False]


def test_without_the_token_nobody_gets_in(shared: Path) -> None:
    endpoint = ensure_head(HeadOptions(folder=shared))
    assert endpoint.paths.token.stat().st_mode & 0o077 == 0
    assert endpoint.paths.root.stat().st_mode & 0o077 == 0
    # Not ray.init, which tries for 20 s before it gives up.
    process = begin(
        shared,
        f"""
        from ray._raylet import GcsClient
        os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
        try:
            GcsClient(address="{endpoint.address}").internal_kv_keys(b"", None, timeout=5)
        except Exception as error:
            print("refused:", error)
        """,
    )
    out, _ = process.communicate(timeout=60)
    assert "refused: RPC error: InvalidAuthToken" in out


def test_a_head_in_use_by_another_build_is_refused(shared: Path) -> None:
    endpoint = ensure_head(HeadOptions(folder=shared))
    foreign = replace(endpoint, build=replace(endpoint.build, prefix="/elsewhere"))
    try:
        with Registration(endpoint):
            write_private(endpoint.paths.endpoint, foreign.encode())
            with pytest.raises(HeadError, match=r"prefix .* here, /elsewhere there.*perdure down"):
                ensure_head(HeadOptions(folder=shared))
    finally:
        write_private(endpoint.paths.endpoint, endpoint.encode())
    assert ensure_head(HeadOptions(folder=shared)) == endpoint


def test_a_killed_daemon_takes_everything_with_it_and_is_replaced(shared: Path) -> None:
    endpoint = ensure_head(HeadOptions(folder=shared))
    making = begin(
        shared,
        """
        with Membership(ensure_head()):
            counter = Counter.options(name="spins", lifetime="detached").remote()
            pid = ray.get(counter.child.remote())
            counter.spin.remote()
            print(json.dumps(pid))
        """,
    )
    pid = finish(making)
    assert isinstance(pid, int)
    child = ProcessId.of(pid)
    members = family(endpoint.process)
    assert len(members) > 6
    assert child in members
    endpoint.process.send(signal.SIGKILL)
    assert wait_gone(members, 5) == frozenset()
    assert running_head(shared) is None
    newer = ensure_head(HeadOptions(folder=shared))
    assert newer.pid != endpoint.pid
    assert newer.answers()
    assert not Path(endpoint.temp_dir).exists()


def test_down_leaves_nothing(shared: Path) -> None:
    endpoint = ensure_head(HeadOptions(folder=shared))
    members = family(endpoint.process)
    assert endpoint.process in members
    started = time.monotonic()
    assert stop_head(folder=shared)
    assert time.monotonic() - started < 10
    assert [process for process in members if process.alive] == []
    assert family(endpoint.process) == frozenset()
    assert not Path(endpoint.temp_dir).exists()
    assert not endpoint.paths.endpoint.exists()
    assert not stop_head(folder=shared)


# -- its end ---------------------------------------------------------------------------------------------------------


def test_it_ends_when_nobody_has_needed_it_for_the_idle_time(folder: Path) -> None:
    options = HeadOptions(folder=folder, idle=timedelta(seconds=0.4), num_cpus=1)
    endpoint = ensure_head(options)
    with Registration(endpoint):
        members = family(endpoint.process)
        work = endpoint.paths.busy_file("sqlite:///work.db")
        work.touch()
        time.sleep(1.5)
        assert endpoint.alive
    # No client any more, but work: it stays, whoever wrote the file being dead or not.
    time.sleep(1.5)
    assert running_head(folder) == endpoint
    work.unlink()
    assert wait_gone(members, 10) == frozenset()
    assert not endpoint.paths.endpoint.exists()
    assert "nobody needed it" in endpoint.paths.log.read_text()


def test_what_it_said_is_told_when_it_cannot_start(folder: Path) -> None:
    with pytest.raises(HeadError, match=r"(?s)exit code 1.*head\.log.*78643200"):
        ensure_head(HeadOptions(folder=folder, object_store_memory=1000))
    paths = HeadPaths.of(folder)
    eventually(lambda: not is_locked(paths.life))
    assert running_head(folder) is None


def test_one_that_takes_too_long_is_ended(folder: Path) -> None:
    with pytest.raises(HeadError, match="did not answer in time"):
        ensure_head(HeadOptions(folder=folder, start_timeout=timedelta(seconds=0.6)))
    paths = HeadPaths.of(folder)
    assert not is_locked(paths.life)
    assert not stop_head(folder=folder)


# -- its files -------------------------------------------------------------------------------------------------------


def test_an_endpoint_of_a_dead_daemon_is_not_trusted(tmp_path: Path) -> None:
    paths = HeadPaths.of(tmp_path)
    paths.prepare()
    own = ProcessId.own()
    dead = ProcessId(own.pid, own.started - 1)
    write_private(paths.endpoint, endpoint_of(tmp_path, dead).encode())
    assert read_endpoint(paths) == endpoint_of(tmp_path, dead)
    assert running_head(tmp_path) is None
    # Nothing may happen to the process that has the pid now, which is this one.
    assert not stop_head(folder=tmp_path)
    assert not paths.endpoint.exists()


def test_an_endpoint_from_before_the_machine_was_started_is_not_trusted(tmp_path: Path) -> None:
    endpoint = endpoint_of(tmp_path, ProcessId.own())
    assert endpoint.alive
    assert not replace(endpoint, boot="another").alive


@pytest.mark.parametrize("text", ["", "{", '{"pid": 1}', "[]", "\x00"])
def test_an_endpoint_that_cannot_be_read_is_none(text: str, tmp_path: Path) -> None:
    paths = HeadPaths.of(tmp_path)
    paths.prepare()
    paths.endpoint.write_text(text)
    assert running_head(tmp_path) is None


def test_a_registration_counts_as_long_as_its_process_lives(tmp_path: Path) -> None:
    paths = HeadPaths.of(tmp_path)
    paths.prepare()
    endpoint = endpoint_of(tmp_path, ProcessId.own())
    first, second = Registration(endpoint), Registration(endpoint)
    assert clients(paths) == [ProcessId.own()] * 2
    first.close()
    first.close()
    assert clients(paths) == [ProcessId.own()]
    # A client that died without closing: same pid, other start time.
    own = ProcessId.own()
    (paths.clients / f"{own.pid}-{own.started - 1}-0").touch()
    assert clients(paths) == [own]
    second.close()
    assert list(paths.clients.iterdir()) == []


def test_work_is_per_store(tmp_path: Path) -> None:
    paths = HeadPaths.of(tmp_path)
    paths.prepare()
    one, other = paths.busy_file("sqlite:///a.db"), paths.busy_file("postgresql://user:secret@host/b")
    assert "secret" not in other.name
    one.touch()
    other.touch()
    one.unlink()
    assert busy(paths)
    other.unlink()
    assert not busy(paths)


def test_a_lock_waits_and_gives_up(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, 1):
        assert try_lock(path) is None
        with pytest.raises(TimeoutError, match="lock"), locked(path, 0.1):
            pass
    assert not is_locked(path)


@pytest.mark.parametrize("given", ["soon", "-1", "nan"])
def test_an_idle_time_that_is_none_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_IDLE", given)
    with pytest.raises(HeadError, match="PERDURE_IDLE"):
        _ = HeadOptions().idle_seconds
    assert HeadOptions(idle=timedelta(minutes=1)).idle_seconds == 60


def test_a_process_is_known_by_its_start() -> None:
    process = subprocess.Popen(["sleep", "60"])
    named = ProcessId.of(process.pid)
    assert named.alive
    assert not ProcessId(named.pid, named.started + 1).alive
    process.kill()
    # A zombie, until somebody waits for it, is as dead as it will be.
    eventually(lambda: not named.alive)
    process.wait()
    assert not named.alive


def test_another_ray_keeps_the_processes_that_it_does_not_let_go(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """How they are ended is Ray's own affair: where that has changed, the head did not start."""

    class Other:
        ended = False

        def kill_log_monitor(self, check_alive: bool = True) -> None:
            self.ended = not check_alive

        def kill_dashboard(self) -> None:
            raise AssertionError("it takes other arguments")

    node = Other()
    monkeypatch.setattr(ray._private.worker, "_global_node", node)
    head_daemon._end_idlers()
    assert node.ended
    said = capsys.readouterr().out
    assert "kill_log_monitor" not in said
    assert "kill_monitor()" in said
    assert "kill_dashboard()" in said
    monkeypatch.delattr(ray._private.worker, "_global_node")
    head_daemon._end_idlers()
    assert "kill_log_monitor()" in capsys.readouterr().out
