"""Ship a graph to where it runs: by reference to a module, or by value where there is no module to refer to.

A graph by value is code: it is pickled with cloudpickle, signed with a key that is not in the store, and loaded only in
actors, after its signature was checked. A reference that brings an import path along leads to code as well, and is
signed for the same reason: who can write to the store must not be able to choose what actors run.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import cloudpickle
import msgspec

from ..runtime.compiled import CompiledGraph
from ..stores.records import GraphRecord
from .errors import GraphLoadError, GraphNotShippable
from .packages import Code
from .unpacking import unpacked, use

Fetch: TypeAlias = Callable[[str], bytes]
"""Gives the bytes of a package by its key."""
REFERENCE = "reference"
PICKLE = "pickle"
PACKAGED = "packaged"
"""One of the two, with a runtime environment around it."""


class Packaged(msgspec.Struct, frozen=True, array_like=True):
    """Body of a record of kind `PACKAGED`."""

    kind: str
    body: bytes
    package: str
    """Key of the record that holds its code; empty if there is none."""
    working_dir: bool
    environment: bytes
    """What of the runtime environment is Ray's affair, as JSON."""


def ship(graph: CompiledGraph, *, signing_key: bytes, local: bool, code: Code | None = None) -> GraphRecord:
    """The record by which the service loads `graph`.

    `local` says that the cluster is this machine: then the import path that the graph's module needs goes along; what
    `code` brings is looked through first. Without a `signing_key` only references without code are shipped. Raises
    `GraphNotShippable`.
    """
    if code is not None:
        return _packaged(graph, code, signing_key, local)
    found = _reference(graph)
    if found is not None:
        module, attribute = found
        root = _root_of(module) if local else ""
        body = f"{module.__name__}:{attribute}".encode()
        return _record(graph, REFERENCE, body, signing_key, paths=(root,) if root else (), code=_code_of(graph, module))
    if not signing_key:
        raise GraphNotShippable(
            f"graph {graph.name!r} is no attribute of an importable module, so this cluster could only get it by "
            "value, which is off here; put it into a module that the cluster can import"
        )
    try:
        body = cloudpickle.dumps(graph)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise GraphNotShippable(f"graph {graph.name!r} cannot be shipped by value: {why}") from error
    return _record(graph, PICKLE, body, signing_key)


def _packaged(graph: CompiledGraph, code: Code, signing_key: bytes, local: bool) -> GraphRecord:
    if not signing_key:
        raise GraphNotShippable(
            f"graph {graph.name!r} brings code along by its runtime_env, which a cluster takes only if it can tell who "
            "sent it: give connect() a by_value_key, the same one for all clients and for `perdure up` "
            "(PERDURE_CODE_KEY)"
        )
    inner = ship(graph, signing_key=signing_key, local=local)
    package = code.package.graph_key if code.package is not None else ""
    environment = msgspec.json.encode(code.rest, order="sorted")
    body = msgspec.msgpack.encode(Packaged(inner.kind, inner.body, package, code.working_dir, environment))
    return _record(graph, PACKAGED, body, signing_key, paths=inner.paths, code=inner.graph_key)


def trusted(record: GraphRecord, signing_key: bytes) -> bool:
    """Whether a record was signed with this key."""
    return bool(signing_key) and hmac.compare_digest(_sign(signing_key, record), record.signature)


def environment_of(record: GraphRecord, signing_key: bytes) -> dict[str, Any]:
    """The runtime environment in which Ray has to start a process that is to load a graph; empty for none, and for a
    record that is not trusted."""
    if record.kind != PACKAGED or not trusted(record, signing_key):
        return {}
    environment: dict[str, Any] = msgspec.json.decode(msgspec.msgpack.decode(record.body, type=Packaged).environment)
    return environment


def package_of(record: GraphRecord) -> str:
    """Key of the package that a graph needs; empty for none."""
    return msgspec.msgpack.decode(record.body, type=Packaged).package if record.kind == PACKAGED else ""


def no_package(key: str) -> bytes:
    """Fetches nothing."""
    raise GraphLoadError(key, "there is no store here from which a package could be had")


def load(record: GraphRecord, *, signing_key: bytes, fetch: Fetch = no_package) -> CompiledGraph:
    """The graph that a record describes; `fetch` gives the bytes of a package by its key. Raises `GraphLoadError`, and
    what `fetch` raises."""
    if record.kind not in (REFERENCE, PICKLE, PACKAGED):
        raise GraphLoadError(record.name, f"it was shipped as {record.kind!r}, which this version does not know")
    if (record.kind != REFERENCE or record.paths) and not trusted(record, signing_key):
        raise GraphLoadError(
            record.name, "its signature is not of this cluster's key; submit the graph again from a trusted client"
        )
    if record.kind == PACKAGED:
        packaged = msgspec.msgpack.decode(record.body, type=Packaged)
        if packaged.package:
            use(unpacked(packaged.package, fetch(packaged.package)), working_dir=packaged.working_dir)
        return _loaded(replace(record, kind=packaged.kind, body=packaged.body))
    return _loaded(record)


def _loaded(record: GraphRecord) -> CompiledGraph:
    if record.kind == REFERENCE:
        return _import(record)
    try:
        graph = cloudpickle.loads(record.body)
    except Exception as error:
        raise GraphLoadError(record.name, f"{type(error).__name__}: {error}") from error
    return _checked(record, graph)


def _record(
    graph: CompiledGraph, kind: str, body: bytes, signing_key: bytes, *, paths: tuple[str, ...] = (), code: str = ""
) -> GraphRecord:
    # The signing key too: the same code signed with another one (a head that was set up anew) is another record.
    signer = hashlib.blake2b(signing_key, digest_size=8, person=b"perdure-signer").hexdigest()
    facts = "\n".join((graph.name, graph.version, kind, code, signer, *paths)).encode()
    key = hashlib.blake2b(facts + b"\n" + body, digest_size=12).hexdigest()
    record = GraphRecord(graph_key=key, name=graph.name, version=graph.version, kind=kind, body=body, paths=paths)
    return replace(record, signature=_sign(signing_key, record)) if signing_key else record


def _reference(graph: CompiledGraph) -> tuple[ModuleType, str] | None:
    """The module and attribute that hold the graph, if another process can import them."""
    # Every process has a main module of its own, which multiprocessing also knows by another name.
    known = [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]
    modules = [module for module in known if module.__name__ not in ("__main__", "__mp_main__")]
    # Modules that a graph's own nodes come from are looked at first; the rest only holds one that was passed around.
    homes = {getattr(node.func, "__module__", "") for node in graph.topology.nodes.values()}
    modules.sort(key=lambda module: module.__name__ not in homes)
    for module in modules:
        if getattr(module, "__file__", None) is None:
            continue
        for attribute, value in list(vars(module).items()):
            if value is graph:
                return module, attribute
    return None


def _code_of(graph: CompiledGraph, module: ModuleType) -> str:
    """A digest of the source files that the graph and its nodes are written in. Part of the graph's key, so that a
    graph that was edited and submitted again is not run by warm actors that have loaded it as it was."""
    names = {module.__name__, *(getattr(node.func, "__module__", None) or "" for node in graph.topology.nodes.values())}
    digest = hashlib.blake2b(digest_size=12)
    for name in sorted(names):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and Path(file).is_file():
            digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def _root_of(module: ModuleType) -> str:
    """The folder from which a module is imported."""
    file = Path(module.__file__ or "").resolve()
    depth = module.__name__.count(".") + (2 if file.name == "__init__.py" else 1)
    return str(file.parents[depth - 1]) if len(file.parents) >= depth else ""


def _import(record: GraphRecord) -> CompiledGraph:
    reference = record.body.decode(errors="backslashreplace")
    module_name, _, attribute = reference.partition(":")
    for path in record.paths:
        if path not in sys.path:
            sys.path.append(path)
    try:
        graph = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:
        why = f"{reference}: {type(error).__name__}: {error}"
        raise GraphLoadError(record.name, f"{why}; is its package installed on the cluster's nodes?") from error
    return _checked(record, graph)


def _checked(record: GraphRecord, graph: object) -> CompiledGraph:
    if not isinstance(graph, CompiledGraph):
        raise GraphLoadError(record.name, f"what was found is a {type(graph).__name__}, not a compiled graph")
    return graph


def _sign(key: bytes, record: GraphRecord) -> bytes:
    signed = (record.kind, record.name, record.version, record.body, record.paths)
    return hmac.new(key, repr(signed).encode(), hashlib.sha256).digest()


class GraphCache:
    """The graphs that this process has loaded, by key."""

    def __init__(self, signing_key: bytes, fetch: Fetch = no_package) -> None:
        self._signing_key = signing_key
        self._fetch = fetch
        self._graphs: dict[str, CompiledGraph] = {}

    def get(self, record: GraphRecord) -> CompiledGraph:
        """The graph, loaded at most once. Raises `GraphLoadError`, and what the fetching of its code raises."""
        graph = self._graphs.get(record.graph_key)
        if graph is None:
            graph = self._graphs[record.graph_key] = load(record, signing_key=self._signing_key, fetch=self._fetch)
        return graph
