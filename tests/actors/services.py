"""Start a service, look at its processes, end it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError
from ray.util import list_named_actors

from perdure import Client, HeadOptions, StoreUnavailable, connect
from perdure.actors.names import NAMESPACE, service_key, store_name, supervisor_name
from perdure.actors.pool import find_actors
from perdure.actors.shards import shard_key
from perdure.actors.supervisor import SUPERVISOR_OPTIONS, SupervisorClass
from perdure.stores.processes import ProcessId

T = TypeVar("T")


@contextmanager
def service(head: HeadOptions, store: Path | str, **options: Any) -> Iterator[Client]:
    """A connected client of a service of its own; the service ends with the block."""
    url = store if isinstance(store, str) else f"sqlite:///{store}"
    client = connect(url, head=head, **options)
    try:
        yield client
    finally:
        end(client)
        client.close()


def restarted(client: Client, head: HeadOptions, **changes: Any) -> Client:
    """A client of the same service under another supervisor, with settings that `connect` has no option for."""
    settings = replace(client._settings, **changes)
    name = supervisor_name(key_of(client))
    _kill(name)
    eventually(lambda: name not in {entry["name"] for entry in list_named_actors(all_namespaces=True)})
    started: Any = SupervisorClass.options(name=name, namespace=NAMESPACE, **SUPERVISOR_OPTIONS).remote(settings, "")
    ray.get(started.settings.remote())
    return connect(client.store.url, head=head)


def key_of(client: Client) -> str:
    """What the names of the service's actors have in common."""
    settings = client._settings
    return service_key(settings.store.identity, settings.session)


def end(client: Client) -> None:
    """End the supervisor, then every actor of the service; returns when their processes are gone."""
    keys = [shard_key(client._settings, shard) for shard in range(client._settings.shards)]
    for key in keys:
        _kill(supervisor_name(key))
    deadline = time.monotonic() + 10
    while actors := {name: actor for key in keys for name, actor in find_actors(key).items()}:
        for actor in actors.values():
            ray.kill(actor, no_restart=True)
        assert time.monotonic() < deadline, f"actors do not end: {sorted(actors)}"
        time.sleep(0.05)
    try:
        leases = {ProcessId(owner.pid, owner.started) for owner in client.store.owners()} - {ProcessId.own()}
    except StoreUnavailable:
        leases = set()
    path = getattr(client.store, "path", None)
    while left := (users_of(path) if path is not None else {one for one in leases if one.alive}):
        for process in left & leases:
            process.send(signal.SIGKILL)  # also one that a test has stopped
        assert time.monotonic() < deadline, f"processes do not end: {left}"
        time.sleep(0.02)
    _kill(store_name(keys[0]))


def users_of(path: Path) -> set[ProcessId]:
    """The other processes that have a file of the store open."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*/fd"):
        pid = int(folder.parent.name)
        try:
            targets = [os.readlink(entry) for entry in folder.iterdir()]
        except OSError:
            continue  # it ended meanwhile
        if pid != os.getpid() and any(target.startswith(str(path)) for target in targets):
            found.add(ProcessId.of(pid))
    return found


def _kill(name: str) -> None:
    try:
        ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=True)
    except ValueError:
        return


def eventually(look: Callable[[], T], seconds: float = 60.0, what: str = "it") -> T:
    """What `look` returns, as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} did not come true in {seconds} s"
        time.sleep(0.02)
    return found


def owner_pid(client: Client, thread_id: str) -> int:
    """The process that owns a thread."""

    def look() -> int:
        owner = client.store.thread(thread_id).owner
        return next((lease.pid for lease in client.store.owners() if lease.owner == owner), 0)

    return eventually(look, what=f"an owner of {thread_id}")


def strike_owner(client: Client, thread_id: str) -> bool:
    """Kill the process that owns a thread, and say whether one did at this moment. It is frozen first, for it might
    give the thread back meanwhile: then it goes on."""
    owner = client.store.thread(thread_id).owner
    lease = next((lease for lease in client.store.owners() if owner and lease.owner == owner), None)
    if lease is None or not ProcessId(lease.pid, lease.started).alive:
        return False  # of one that has died, the lease stays for a while
    try:
        process = stop(lease.pid)
    except ProcessLookupError:
        return False  # it has just ended
    is_owner = client.store.thread(thread_id).owner == owner
    process.send(signal.SIGKILL if is_owner else signal.SIGCONT)
    return is_owner


def supervisor_process(client: Client) -> ProcessId:
    """The process that the supervisor is in; waits for it where it is being restarted."""

    def ask() -> int:
        try:
            actor = ray.get_actor(supervisor_name(key_of(client)), namespace=NAMESPACE)
            asked: Any = actor.__ray_call__.remote(lambda _: os.getpid())
            pid: int = ray.get(asked, timeout=60)
            return pid
        except (RayError, ValueError):
            return 0

    return ProcessId.of(eventually(ask, 60, "the supervisor"))


def pool(client: Client) -> dict[str, int]:
    """Pid of each actor by name."""
    return {name: ray.get(actor.hello.remote()).pid for name, actor in find_actors(key_of(client)).items()}


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by SIGSTOP."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def stop(pid: int) -> ProcessId:
    """Freeze a process; returns when it is. Raises `ProcessLookupError` where it ends instead."""
    process = ProcessId.of(pid)
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: is_stopped(pid) or not process.alive, what=f"process {pid} to stop")
    if not process.alive:
        raise ProcessLookupError(f"process {pid} has just ended")
    return process
