"""The local head's daemon: `python -m perdure.cluster.head_daemon SETTINGS`. `head.ensure_head` starts it.

It starts Ray, says where, and ends Ray and itself once nobody has needed it for the idle time. Ray's own processes are
bound to it by the kernel: they die with it even if it is killed.
"""

from __future__ import annotations

import inspect
import os
import select
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import msgspec
import ray

from ..stores.processes import ProcessId, boot, family, parent, pids, program, wait_gone
from .endpoint import Build, Endpoint
from .head_guard import post_guard
from .life import SHORT_TEMP, TEMP_PREFIX, remove_temp, seize_life
from .locks import try_lock
from .paths import HeadPaths, write_private
from .registration import busy, clients, forget_all

NAMESPACE = "perdure"

CORE = frozenset({"gcs_server", "raylet"})
"""Without one of these Ray is of no use."""

SHUTDOWN = 10.0
"""Seconds that Ray gets for an orderly end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `ensure_head` hands over."""

    root: str
    idle: float
    """Seconds."""
    num_cpus: int | None
    num_gpus: int | None
    object_store_memory: int


class Idleness:
    """How long nobody has needed the head, by the monotonic clock."""

    def __init__(self, paths: HeadPaths) -> None:
        self._paths = paths
        self._since = time.monotonic()
        self._joined = self._last_join()

    def seconds(self) -> float:
        """0 while there is a client or work, or when somebody has joined since the last call."""
        joined = self._last_join()
        if joined != self._joined or clients(self._paths) or busy(self._paths):
            self._joined = joined
            self._since = time.monotonic()
            return 0.0
        return time.monotonic() - self._since

    def _last_join(self) -> int:
        # Only compared for being another one: the clock of files may jump.
        try:
            return self._paths.joined.stat().st_mtime_ns
        except FileNotFoundError:
            return 0


class Alarm:
    """SIGTERM as something that can be waited for."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        signal.signal(signal.SIGTERM, self._ring)

    def wait(self, seconds: float) -> bool:
        """Whether it came within that time."""
        return bool(select.select([self._reader], [], [], seconds)[0])

    def _ring(self, number: int, frame: FrameType | None) -> None:
        try:
            os.write(self._writer, b"!")
        except BlockingIOError:
            pass


def main(argument: str) -> int:
    """Run until nobody needs it; returns the exit code."""
    settings = msgspec.json.decode(argument, type=Settings)
    paths = HeadPaths(Path(settings.root))
    # The user's umask stays: the workers inherit it, and nodes write the user's files. What the daemon itself keeps is
    # in two folders that are closed to others.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    temp_dir = tempfile.mkdtemp(prefix=TEMP_PREFIX, dir=SHORT_TEMP)
    if not seize_life(paths, temp_dir, patience=5):
        remove_temp(temp_dir)
        _say(f"another daemon holds {paths.life}")
        return 3
    guard = post_guard(paths, temp_dir)
    forget_all(paths)
    try:
        address = _start_ray(settings, temp_dir)
        # Ray has put its own handler; from here on the loop hears the signal.
        alarm = Alarm()
        core = _core()
        own = ProcessId.own()
        endpoint = Endpoint(
            address=address,
            pid=own.pid,
            started=own.started,
            boot=boot(),
            build=Build.own(),
            temp_dir=temp_dir,
            root=settings.root,
            since=time.time(),
        )
        write_private(paths.endpoint, endpoint.encode())
        _say(f"ready at {address}, {len(core)} core processes, idle time {settings.idle:g} s")
        return _watch(paths, settings.idle, alarm, core)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        paths.endpoint.unlink(missing_ok=True)
        _end_ray(guard)
        remove_temp(temp_dir)


def _start_ray(settings: Settings, temp_dir: str) -> str:
    """Start Ray; returns its address. From the main thread: its processes die with the thread that made them."""
    ray.init(
        address="local",
        num_cpus=settings.num_cpus,
        num_gpus=settings.num_gpus,
        object_store_memory=settings.object_store_memory,
        namespace=NAMESPACE,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=temp_dir,
    )
    _end_idlers()
    return str(ray.get_runtime_context().gcs_address)


def _end_idlers() -> None:
    """End those of Ray's processes that have nothing to do here: there is no driver that is sent the workers' logs, no
    autoscaler to add nodes, and no dashboard. Over its life a head would spend a twentieth of a processor on them.

    Ray offers no call for that. Where another version of it has not these, the processes stay: that costs, and breaks
    nothing."""
    node = getattr(getattr(getattr(ray, "_private", None), "worker", None), "_global_node", None)
    for name in ("kill_log_monitor", "kill_monitor", "kill_dashboard"):
        end = getattr(node, name, None)
        if end is not None and "check_alive" in inspect.signature(end).parameters:
            end(check_alive=False)
        else:
            _say(f"Ray {ray.__version__} keeps a process that has nothing to do here, as its node has no such {name}()")


def _core() -> frozenset[ProcessId]:
    """Those that live: a dead one is still listed until it is waited for."""
    own = os.getpid()
    found = (ProcessId.of(pid) for pid in pids() if parent(pid) == own and program(pid) in CORE)
    return frozenset(process for process in found if process.alive)


def _watch(paths: HeadPaths, idle: float, alarm: Alarm, core: frozenset[ProcessId]) -> int:
    idleness = Idleness(paths)
    pause = min(1.0, max(idle / 4, 0.05))
    while not alarm.wait(pause):
        if not all(process.alive for process in core):
            _say("a core process of Ray died; ending")
            return 1
        if idleness.seconds() >= idle and _withdraw(paths, idleness, idle):
            _say(f"nobody needed it for {idle:g} s; ending")
            return 0
    _say("SIGTERM; ending")
    return 0


def _withdraw(paths: HeadPaths, idleness: Idleness, idle: float) -> bool:
    """Take the endpoint back, unless somebody is just joining: who joins touches a file under the same lock."""
    lock = try_lock(paths.lock)
    if lock is None:
        return False
    try:
        if idleness.seconds() < idle:
            return False
        paths.endpoint.unlink(missing_ok=True)
        return True
    finally:
        os.close(lock)


def _end_ray(guard: ProcessId) -> None:
    """End Ray and see to it that none of its processes is left, nor any that a node has started."""
    own = ProcessId.own()
    spared = {own, guard}
    members = family(own) - spared
    if len(_core()) == len(CORE):
        # Not in this thread: if a part of Ray dies meanwhile, the orderly end may wait for it for ever.
        ending = threading.Thread(target=ray.shutdown, name="ray-shutdown", daemon=True)
        ending.start()
        ending.join(SHUTDOWN)
        wait_gone(members, 0.5)
    left = frozenset(process for process in members | family(own) if process.alive) - spared
    for process in left:
        _say(f"killing pid {process.pid} ({program(process.pid)}), which is left")
        process.send(signal.SIGKILL)
    wait_gone(left, SHUTDOWN)


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} local head {os.getpid()}: {text}", flush=True)


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stdout.flush()
    # Ray's exit handlers would shut down a second time, with pauses; all there was to end has ended.
    os._exit(code)
