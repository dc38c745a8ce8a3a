"""`connect()`: join a cluster, or start one on this machine, and reach the service of a store on it."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import ray

from ..actors.names import NAMESPACE
from ..actors.options import read_options
from ..actors.packages import pack_code
from ..actors.settings import ServiceSettings
from ..actors.store_actor import open_service_store
from ..stores.addresses import StoreOptions
from ..stores.base import CheckpointStore
from ..stores.config import StoreConfig
from ..stores.errors import StoreMisuse
from ..stores.keys import Keyring, KeySource
from ..stores.sqlite_options import SqliteOptions
from .client import Client
from .endpoint import Endpoint, HeadError, HeadOptions
from .head import ensure_head
from .join import joined
from .registration import Registration
from .supervisors import Supervisors

KEY_VARIABLE = "PERDURE_CODE_KEY"
DEFAULT_STORE = "sqlite:///perdure.db"
PROBE_TIMEOUT = 5.0


def connect(
    store: str | StoreConfig = DEFAULT_STORE,
    *,
    options: StoreOptions | None = None,
    keys: Keyring | KeySource | None = None,
    address: str | None = None,
    head: HeadOptions | None = None,
    shared_path: bool = False,
    by_value_key: bytes = b"",
    runtime_env: Mapping[str, Any] | None = None,
    lease: timedelta | None = None,
    spares: int | None = None,
    max_actors: int | None = None,
    shards: int | None = None,
    shared_actors: int | None = None,
    shared_threads: int | None = None,
    crash_budget: int | None = None,
    cancel_grace: timedelta | None = None,
    housekeeping: timedelta | None = None,
) -> Client:
    """A client of the service that runs the threads of `store`.

    Without an `address` it joins the user's local head, or starts it (as `head` says): a background process with a Ray
    cluster of this machine, which outlives the caller and ends itself after an idle time. With one ("auto",
    "host:port", "ray://...") it joins that cluster; graphs are then shipped by reference only, unless a
    `by_value_key` is given (or stands in PERDURE_CODE_KEY), the same one for all clients and for `perdure up`: it signs
    the code that goes along.

    `runtime_env`, in Ray's form, brings along what the cluster lacks: local `py_modules` and a `working_dir` are packed
    now and kept in the store, so that they are there as long as the threads are, whatever becomes of this process and
    of the cluster; of `pip`, `env_vars` and what has a URL Ray takes care. A graph is then imported from there.

    `options` and `keys` are those of `open_store`, or stand in a `StoreConfig` given as `store`. What is given travels
    to the service's actors, a password and a `Keyring` included; of a `KeySource` only its name does, so that the file
    or variable must be there on every machine (but a variable is read here for the local head, whose environment is
    that of whoever started it). A memory store keeps nothing at rest: there keys are left out.

    `shared_path` declares that a SQLite file lies on a disk that all nodes share, and that locks work there. The other
    options shape the service when this call is the one that starts it. The store keeps them, so that a service which is
    started anew without them, after a restart of the cluster say, has those of the last one: `lease` (30 s) after which
    a silent owner counts as frozen, `spares` (1) warm actors per graph, `max_actors` (16) on a node, of which
    `shared_actors` (4) may take threads with isolation="shared", each `shared_threads` (64) at once, `shards` (1)
    supervisors that share the threads among them, `crash_budget` (3) crashes without progress, `cancel_grace` (5 s)
    before a cancelled node loses its process, `housekeeping` (30 s) between two looks for what retention is to drop.

    Raises `StoreMisuse` for a URL of an unknown scheme, SQLite on a cluster of several machines, or keys that do not go
    with those of the service where it runs already; `HeadError`; `ServiceError` if the service does not answer.
    """
    config = _config(store, options, keys, shared_path=shared_path, local=address is None)
    opened: CheckpointStore | None = None
    if not config.in_memory:
        opened = config.open()
    leave: Callable[[], None] = _nothing
    busy_file, key = "", by_value_key or os.environ.get(KEY_VARIABLE, "").encode()
    code = pack_code(runtime_env) if runtime_env else None
    try:
        if address is None:
            endpoint = ensure_head(head)
            leave, session = _join_local(endpoint), f"{endpoint.root}:{endpoint.pid}:{endpoint.started}"
            busy_file = str(endpoint.paths.busy_file(config.identity))
            key = hashlib.blake2b(endpoint.paths.token.read_bytes(), person=b"perdure-graphs").digest()
        else:
            leave, session = _join_address(address), _session_of()
        _check_nodes(config)
        given = {
            "lease": lease,
            "spares": spares,
            "max_actors": max_actors,
            "shards": shards,
            "shared_actors": shared_actors,
            "shared_threads": shared_threads,
            "crash_budget": crash_budget,
            "cancel_grace": cancel_grace,
            "housekeeping": housekeeping,
        }
        kept = read_options(opened) if opened is not None else {}
        settings = ServiceSettings(
            store=config,
            session=session,
            signing_key=key,
            **(kept | {name: value for name, value in given.items() if value is not None}),
        )
        opened = opened or open_service_store(settings)
        supervisors = Supervisors(settings, busy_file)
    except BaseException:
        if opened is not None:
            opened.close()
        leave()
        raise
    announce: Callable[[], None] = Path(busy_file).touch if busy_file else _nothing
    return Client(opened, supervisors, settings, local=address is None, code=code, announce=announce, leave=leave)


def _config(
    store: str | StoreConfig,
    options: StoreOptions | None,
    keys: Keyring | KeySource | None,
    *,
    shared_path: bool,
    local: bool,
) -> StoreConfig:
    """The store as every process of the service opens it."""
    if isinstance(store, StoreConfig):
        if options is not None or keys is not None or shared_path:
            raise StoreMisuse("a StoreConfig says all of how a store is opened; give options and keys in it")
        config = store
    else:
        if shared_path:
            if options is not None and not isinstance(options, SqliteOptions):
                raise StoreMisuse("shared_path is for SQLite files; a server is reached by all machines anyway")
            options = SqliteOptions(shared_path=True)
        config = StoreConfig(url=store, options=options, keys=keys)
    keys = config.keys
    if config.in_memory:
        keys = None
    elif local and isinstance(keys, KeySource) and keys.variable:
        keys = keys.read()
    return replace(config.absolute(), keys=keys, allow_plaintext=config.allow_plaintext and keys is not None)


def _join_local(endpoint: Endpoint) -> Callable[[], None]:
    registration = Registration(endpoint)
    try:
        leave_ray = joined(endpoint)
    except BaseException:
        registration.close()
        raise

    def leave() -> None:
        leave_ray()
        registration.close()

    return leave


def _join_address(address: str) -> Callable[[], None]:
    _probe(address)
    if ray.is_initialized():
        _check_same(address)
        return _nothing
    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False)
    return ray.shutdown


def _check_same(address: str) -> None:
    """Raise `HeadError` where this process is in another Ray than the one that is asked for: it can be in one only."""
    present = str(ray.get_runtime_context().gcs_address)
    if address == "auto" or address.removeprefix("ray://") == present:
        return
    host, _, port = address.rpartition(":")
    if host in ("127.0.0.1", "localhost") and present.rpartition(":")[2] == port:
        return
    raise HeadError(
        f"this process is connected to the Ray at {present}, not {address}; call ray.shutdown() before that"
    )


def _probe(address: str) -> None:
    """Raise `HeadError` where nothing answers at `host:port`. Ray finds out too, but takes minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    # A head may listen at the machine's own address only, which is what Ray takes for a local one.
    local = {"127.0.0.1", "localhost"}
    hosts = [host.strip("[]"), *([ray.util.get_node_ip_address()] if host in local else [])]  # type: ignore[no-untyped-call]
    for one in hosts:
        try:
            socket.create_connection((one, int(port)), PROBE_TIMEOUT).close()
            return
        except OSError as error:
            why = error
    raise HeadError(f"no Ray cluster answers at {address}: {why}; see that it runs and can be reached from here")


def _session_of() -> str:
    """Names the cluster's session: a cluster that was started anew has other actors."""
    return str(ray.get_runtime_context().get_session_name())


def _nothing() -> None:
    return None


def _check_nodes(config: StoreConfig) -> None:
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())  # type: ignore[no-untyped-call]  # Ray's own gap
    if isinstance(config.options, SqliteOptions) and nodes > 1 and not config.options.shared_path:
        raise StoreMisuse(
            f"{config.where} is a file, and this Ray cluster has {nodes} machines that cannot all reach it; use a "
            "store that is a server, or declare shared_path=True if the file lies on a shared disk with working locks"
        )
