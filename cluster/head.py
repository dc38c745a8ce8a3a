"""The local head: one Ray on this machine, shared by all of a user's processes and outliving each of them.

Its daemon is `head_daemon`. Whoever starts, joins or stops it holds the folder's lock while doing so.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import msgspec

from ..stores.processes import POLL, ProcessId, family, wait_gone
from .endpoint import Build, Endpoint, HeadError, HeadOptions, read_endpoint
from .life import Life, clear_remains, kill_family, read_life
from .locks import is_locked, locked
from .paths import HeadPaths, write_private
from .registration import busy, clients

__all__ = ["Endpoint", "HeadError", "HeadOptions", "ensure_head", "running_head", "stop_head"]

LOG_TAIL = 30
"""Lines of the daemon's log that an error shows."""

KILL_TIMEOUT = 10.0

FOREIGN_RAY = (
    "RAY_ADDRESS",
    "RAY_AUTH_TOKEN",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAY_JOB_ID",
    "RAY_NAMESPACE",
    "RAY_RAYLET_PID",
    "RAY_REDIS_ADDRESS",
)
"""Variables that belong to whatever cluster the starting process is part of, and would mislead a cluster of its own."""


def ensure_head(options: HeadOptions | None = None) -> Endpoint:
    """Join the head that runs, or start one; returns when it answers.

    Several processes that call it at once get the same head. It stays at least its idle time after this call, so there
    is time to open a `Registration`. A head without clients and work that another version or virtual environment
    started is replaced.

    Raises `HeadError`: it died while starting (with the end of its log), took too long, or is in use by another
    version.
    """
    options = options or HeadOptions()
    paths = options.paths
    deadline = time.monotonic() + options.start_timeout.total_seconds()
    try:
        paths.prepare()
    except OSError as error:
        raise HeadError(
            f"the local head's folder {paths.root} cannot be made: {error}; set PERDURE_HOME to another"
        ) from error
    with _holding(paths, options.start_timeout):
        endpoint = _settled(paths, deadline)
        if endpoint is not None and _usable(endpoint):
            paths.joined.touch(mode=0o600)
            return endpoint
        if endpoint is not None:
            _end(endpoint.process, grace=KILL_TIMEOUT)
        clear_remains(paths)
        return _start(options, paths, deadline)


def running_head(folder: Path | None = None) -> Endpoint | None:
    """The head that runs and answers in `folder` (by default the user's), or None. Starts and changes nothing."""
    endpoint = read_endpoint(HeadPaths.of(folder))
    return endpoint if endpoint is not None and endpoint.alive and endpoint.answers() else None


def stop_head(timeout: timedelta = timedelta(seconds=20), folder: Path | None = None) -> bool:
    """End the head, whoever uses it, and wait until each of its processes is gone. False if none ran.

    After `timeout` what is left is killed: its daemon's session and their descendants, nothing else. Threads stay in
    their stores and go on when a head runs again. Raises `HeadError` if a process does not die, or another process has
    been starting or stopping the head for longer than `timeout`.
    """
    paths = HeadPaths.of(folder)
    if not paths.root.is_dir():
        return False
    with _holding(paths, timeout):
        life = _living(paths, time.monotonic() + timeout.total_seconds())
        if life is not None:
            _end(life.process, grace=timeout.total_seconds())
        clear_remains(paths)
        return life is not None


@contextmanager
def _holding(paths: HeadPaths, timeout: timedelta) -> Iterator[None]:
    try:
        with locked(paths.lock, timeout.total_seconds()):
            yield
    except TimeoutError as error:
        raise HeadError(
            f"another process has been starting or stopping the local head for {timeout.total_seconds():.0f} s "
            f"({error}); wait for it, or see {paths.log}"
        ) from error


def _settled(paths: HeadPaths, deadline: float) -> Endpoint | None:
    """Wait for a daemon that is about to be ready (its starter was killed) or about to end; None once there is none."""
    while True:
        endpoint = read_endpoint(paths)
        if endpoint is not None and endpoint.alive and endpoint.answers():
            return endpoint
        if not is_locked(paths.life):
            return None
        if time.monotonic() > deadline:
            raise HeadError(
                f"a local head's daemon lives ({read_life(paths)}) but does not answer; end it with `perdure down` and "
                f"see {paths.log}"
            )
        time.sleep(POLL)


def _living(paths: HeadPaths, deadline: float) -> Life | None:
    """The daemon that lives, ready or not; one that has just begun is waited for until it has said who it is."""
    while is_locked(paths.life) and time.monotonic() < deadline:
        life = read_life(paths)
        if life is not None and life.alive:
            return life
        time.sleep(POLL)
    return None


def _usable(endpoint: Endpoint) -> bool:
    """Whether this process can work with the head; False if it cannot but nobody needs that head either."""
    differences = Build.own().differences(endpoint.build)
    if differences and (clients(endpoint.paths) or busy(endpoint.paths)):
        raise HeadError(
            f"the local head (pid {endpoint.pid}) is in use and of another build: {'; '.join(differences)}; end it "
            "with `perdure down`, or set PERDURE_HOME to another folder to have a second one"
        )
    return not differences


def _start(options: HeadOptions, paths: HeadPaths, deadline: float) -> Endpoint:
    """Start a daemon and wait for its endpoint; whatever happens instead, nothing of it is left running."""
    if not paths.token.exists():
        write_private(paths.token, secrets.token_hex(32))
    if paths.log.exists():
        paths.log.replace(paths.log.with_suffix(".log.1"))
    # A private file first: what the daemon opens by name would be made with the user's umask.
    write_private(paths.log, "")
    command = [sys.executable, "-m", f"{__package__}.head_daemon", _settings(options, paths)]
    with paths.log.open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=paths.root,
            env=_environment(paths),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    own = ProcessId.of(process.pid)
    try:
        endpoint = _await_endpoint(process, paths, deadline)
    except BaseException:
        kill_family(own, frozenset(), KILL_TIMEOUT)
        process.wait()
        clear_remains(paths)
        raise
    # It is a child of this process, which may live longer: without somebody who waits it would stay a zombie.
    threading.Thread(target=process.wait, name="perdure-head-wait", daemon=True).start()
    return endpoint


def _await_endpoint(process: subprocess.Popen[bytes], paths: HeadPaths, deadline: float) -> Endpoint:
    while True:
        endpoint = read_endpoint(paths)
        if endpoint is not None and endpoint.pid == process.pid and endpoint.answers():
            return endpoint
        code = process.poll()
        if code is not None:
            raise HeadError(
                f"the local head ended while starting (exit code {code}); its log {paths.log} ends:\n{_tail(paths.log)}"
            )
        if time.monotonic() > deadline:
            raise HeadError(f"the local head did not answer in time; its log {paths.log} ends:\n{_tail(paths.log)}")
        time.sleep(POLL)


def _end(leader: ProcessId, grace: float) -> None:
    """SIGTERM, then SIGKILL for what is left after `grace` seconds. Raises `HeadError` if that does not help either."""
    members = family(leader)
    leader.send(signal.SIGTERM)
    wait_gone(members | {leader}, grace)
    left = kill_family(leader, members, KILL_TIMEOUT)
    if left:
        pids = ", ".join(str(process.pid) for process in sorted(left, key=lambda process: process.pid))
        raise HeadError(f"the local head's processes {pids} do not die, even by SIGKILL; they are stuck in the kernel")


def _settings(options: HeadOptions, paths: HeadPaths) -> str:
    settings = {
        "root": str(paths.root),
        "idle": options.idle_seconds,
        "num_cpus": options.num_cpus,
        "num_gpus": options.num_gpus,
        "object_store_memory": options.object_store_memory,
    }
    return msgspec.json.encode(settings).decode()


def _environment(paths: HeadPaths) -> dict[str, str]:
    """What the daemon, and by it every worker, has in its environment: that of this process, without its clusters."""
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN_RAY}
    environment["RAY_AUTH_MODE"] = "token"
    environment["RAY_AUTH_TOKEN_PATH"] = str(paths.token)
    environment["RAY_USAGE_STATS_ENABLED"] = "0"
    environment.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # There is no dashboard that could show them.
    environment.setdefault("RAY_enable_metrics_collection", "0")
    # Ray keeps the worker processes of each detached actor apart, and by default ends those beyond one per CPU after a
    # second without work: with two thread actors at work, every fan-out would start its processes anew.
    environment.setdefault("RAY_idle_worker_killing_time_threshold_ms", "10000")
    # For tasks of the first driver, of which there are none: a fan-out is an actor's, with worker processes of its own.
    environment.setdefault("RAY_prestart_worker_first_driver", "0")
    # Ray gives workers a niceness of 15. Beside a program of the user's that keeps the processors busy, owners then got
    # so little time that threads stood still for a minute; here they are peers.
    environment.setdefault("RAY_worker_niceness", "0")
    environment["PYTHONPATH"] = os.pathsep.join(_import_paths())
    return environment


def _import_paths() -> list[str]:
    """PYTHONPATH as this process has it, made absolute (the daemon's folder is another), with this package findable."""
    given = [str(Path(entry).absolute()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    package = Path(__file__).absolute().parents[1]
    if (
        package.name == __name__.partition(".")[0]
        and str(package.parent) not in given
        and str(package.parent) in sys.path
    ):
        given.append(str(package.parent))
    return given


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(lines[-LOG_TAIL:]) or "(nothing)"
