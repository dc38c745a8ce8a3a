"""A Ray cluster of several nodes on this machine: nodes can be stopped, killed, removed and added, and so can its GCS.

with Machines(redis_url) as machines:
    machines.add("a")
    connect(url, address=machines.address)
    machines.raylet("a").send(signal.SIGKILL)
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import ray
from ray.cluster_utils import Cluster

from perdure.actors.names import NAMESPACE
from perdure.cluster import join
from perdure.cluster.endpoint import HeadOptions
from perdure.cluster.head import ensure_head
from perdure.stores.processes import ProcessId, wait_gone
from tests.actors.services import eventually, users_of
from tests.nodes.clocks import Clock, sweep_up

HEAD = "head"
"""The node that the tests themselves are connected to, and the only one with the GCS."""
NODES = ("a", "b")
"""The others, in the cluster that a module's tests share."""

QUICK = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1500,
    "health_check_failure_threshold": 3,
}
"""A silent node is given up after some 5 s, one whose port is closed after 1.5 s; Ray's own is half a minute."""

QUIET = {
    "RAY_enable_metrics_collection": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_idle_worker_killing_time_threshold_ms": "10000",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_worker_niceness": "0",
}
"""What the local head sets too."""


class Machines:
    """The cluster; this process is its driver while the block lasts.

    With the URL of a Redis the GCS keeps its tables there, and finds them again when it is started anew.
    """

    def __init__(self, redis: str = "") -> None:
        self._redis = redis.removeprefix("redis://").partition("/")[0]
        self._environment = ExitStack()
        self._nodes: dict[str, Any] = {}
        self._cluster: Any = None
        self._folder = ""
        self.clocks: dict[str, Clock] = {}
        """Of the nodes other than the head."""

    def __enter__(self) -> Self:
        # Short: the paths of its sockets may have 107 bytes.
        self._folder = tempfile.mkdtemp(prefix="perdure-ray-", dir="/tmp")
        Path(self._folder, "ray").mkdir()
        ours = {**QUIET, "RAY_TMPDIR": self._folder, "RAY_REDIS_ADDRESS": self._redis or None}
        self._environment.enter_context(changed_environment(ours))
        try:
            self._cluster = Cluster()
            self._add(HEAD, num_cpus=2, include_dashboard=False, _system_config=QUICK)
            ray.init(address=self.address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self, name: str) -> None:
        """Start a node whose clock can be set; returns when Ray counts it."""
        clock = self.clocks.setdefault(name, Clock(Path(self._folder, f"clock of {name}")))
        # Not by Ray's `env_vars`: it would put its own LD_PRELOAD in their place.
        with changed_environment(clock.environment):
            self._add(name, num_cpus=1)

    def names(self) -> dict[str, str]:
        """The living nodes: Ray's id of each, and its name here."""
        alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        return {node["NodeID"]: next(name for name in self._nodes if name in node["Resources"]) for node in alive}

    def raylet(self, name: str) -> ProcessId:
        """The process that is a node to Ray; its workers end with it."""
        return ProcessId.of(self._nodes[name].all_processes["raylet"][0].process.pid)

    @property
    def gcs(self) -> ProcessId:
        """The process that keeps the cluster's tables."""
        return ProcessId.of(self._nodes[HEAD].all_processes["gcs_server"][0].process.pid)

    def remove(self, name: str) -> None:
        """End a node orderly, as its machine's shutdown would: SIGTERM, and what is left is killed."""
        self._cluster.remove_node(self._nodes.pop(name))

    def forget(self, name: str) -> None:
        """Take what is left of a node away whose raylet is dead, or frozen and given up by Ray."""
        eventually(lambda: name not in self.names().values(), 60, f"Ray to give up node {name}")
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=False)

    def kill_gcs(self) -> None:
        """SIGKILL of the process that keeps the cluster's tables."""
        self._nodes[HEAD].kill_gcs_server()

    def start_gcs(self) -> None:
        """Start it again, at the same port."""
        self._nodes[HEAD].start_gcs_server()

    def processes(self) -> set[ProcessId]:
        """All processes of all nodes, also those whose node is gone: each writes its log into the cluster's folder."""
        return users_of(Path(self._folder))

    def close(self) -> None:
        """End all of it; returns when no process is left."""
        ray.shutdown()
        for process in self.processes():
            process.send(signal.SIGCONT)
        if self._cluster is not None:
            self._cluster.shutdown()
        for process in wait_gone(self.processes(), 5):
            process.send(signal.SIGKILL)
        wait_gone(self.processes(), 10)
        _remove(Path(self._folder))
        sweep_up()
        self._environment.close()

    def _add(self, name: str, **options: Any) -> None:
        self._nodes[name] = self._cluster.add_node(
            resources={name: 1000}, include_log_monitor=False, no_monitor=True, **options
        )


@contextmanager
def changed_environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Other variables (None for none of that name) for what is started in the block."""
    before = {name: os.environ.get(name) for name in changes}
    _set(changes)
    try:
        yield
    finally:
        _set(before)


def _set(changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def apart(head: HeadOptions) -> Iterator[None]:
    """Out of the local head for the block: a process can be in one Ray only. Those that share this process's
    membership find it as before."""
    shared = join._SHARED
    membership = shared.membership if ray.is_initialized() else None
    if membership is not None:
        membership.leave()
    try:
        yield
    finally:
        if membership is not None:
            join.Membership.__init__(membership, ensure_head(head))


def _remove(folder: Path) -> None:
    """Ray's last processes may still write their logs."""
    deadline = time.monotonic() + 5
    while folder.exists():
        for path in sorted(folder.rglob("*"), reverse=True):
            try:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
            except OSError:
                continue  # not empty yet
        try:
            folder.rmdir()
        except OSError:
            assert time.monotonic() < deadline, f"{folder} is still written to"
