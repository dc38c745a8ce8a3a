"""What is typed on the command line, read: JSON, pairs, and the graph that `MODULE:GRAPH` names."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from ...runtime.compiled import CompiledGraph
from ...runtime.errors import InputError
from ...runtime.graph import StateGraph


def read_value(given: str, what: str) -> Any:
    """The value of a JSON text, of the file that `@path` names, or of what comes on stdin for `-`.

    Raises `InputError`.
    """
    text, where = _text_of(given, what)
    try:
        return json.loads(text)
    except ValueError as error:
        hint = f"; a text needs quotes: '{json.dumps(text)}'" if where == what and text.isidentifier() else ""
        raise InputError(f"{where} is not JSON: {error}{hint}") from None


def _text_of(given: str, what: str) -> tuple[str, str]:
    try:
        if given == "-":
            return sys.stdin.read(), f"{what}, read from stdin,"
        if given.startswith("@"):
            return Path(given[1:]).read_text(encoding="utf-8"), f"{what}, read from {given[1:]},"
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{what} {given} cannot be read: {error}") from None
    return given, what


def read_pairs(given: Sequence[str], what: str) -> dict[str, Any]:
    """`key=value` pairs; a value is JSON if it reads as JSON, else text. Raises `InputError`."""
    pairs = {}
    for pair in given:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise InputError(f"{what} {pair!r} is no pair; write key=value")
        try:
            pairs[key] = json.loads(text)
        except ValueError:
            pairs[key] = text
    return pairs


def read_sample(given: float | None) -> int | float | None:
    """How many, or a share below 1: a whole number is how many."""
    return int(given) if given is not None and given.is_integer() else given


def load_named(reference: str, what: str) -> Any:
    """What `MODULE:NAME` names, a `what`; the module is looked for in the current folder first. Raises `InputError`."""
    return _loaded(reference, what)[1]


def load_graph(reference: str) -> CompiledGraph:
    """The compiled graph that `MODULE:GRAPH` names; the module is looked for in the current folder first.

    What the module prints while it is imported goes to stderr. Raises `InputError`.
    """
    module, found = _loaded(reference, "graph")
    if isinstance(found, StateGraph):
        attribute = reference.partition(":")[2]
        raise InputError(f"{reference} is not compiled; add to the module: graph = {attribute}.compile(name=...)")
    if not isinstance(found, CompiledGraph):
        raise InputError(f"{reference} is a {type(found).__name__}, not a compiled graph; {_graphs_in(module)}")
    return found


def _loaded(reference: str, what: str) -> tuple[ModuleType, Any]:
    """The module, and what it has under the name."""
    name, colon, attribute = reference.partition(":")
    if not colon or not name or not attribute:
        raise InputError(f"{reference!r} names no {what}; write MODULE:{what.upper()}, such as mygraph:{what}")
    if name.endswith(".py") or os.sep in name:
        dotted = name.removesuffix(".py").strip(f".{os.sep}").replace(os.sep, ".")
        raise InputError(f"{name!r} is a file; name the module, as an import would: {dotted}:{attribute}")
    module = _import(name)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            others = f"; {_graphs_in(module)}" if what == "graph" else ""
            raise InputError(f"module {name!r} has no {attribute!r}{others}")
        found = getattr(found, part)
    return module, found


def _import(name: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        with redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise InputError(f"there is no module {error.name!r} in {folder} or on the import path") from error
        raise InputError(_failed(name, error)) from error
    except (Exception, SystemExit) as error:
        raise InputError(_failed(name, error)) from error


def _failed(name: str, error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"module {name!r} cannot be imported: {type(error).__name__}: {error} ({last.filename}:{last.lineno})"


def _graphs_in(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, CompiledGraph)]
    return f"its compiled graphs are {', '.join(names)}" if names else "it has no compiled graph"
