"""The arguments of `StateGraph`'s methods, checked and brought into one form. All raise `GraphValidationError`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from ..stores.base import CheckpointStore
from ..stores.records import Retention
from .cache import CacheOptions
from .callables import literals
from .checkpoints import Checkpoints
from .commands import END, START
from .errors import GraphValidationError
from .nodes import Resources, RunMode
from .policies import RetryPolicy


def check_direction(start: object, end: object) -> None:
    """Refuse an edge that leaves END or leads to START."""
    if not isinstance(start, str) or not isinstance(end, str):
        odd = end if isinstance(start, str) else start
        raise GraphValidationError(f"an edge joins names of nodes, and {odd!r} is none; give the name used in add_node")
    if start == END:
        raise GraphValidationError(f"an edge cannot start at END (to {end!r}); END has no way out")
    if end == START:
        raise GraphValidationError(f"an edge cannot lead to START (from {start!r}); name the node it should go back to")


def check_placement(name: str, run: RunMode, wanted: Resources) -> None:
    """Refuse a way of running, or resources, that make no sense."""
    modes = get_args(RunMode)
    if run not in modes:
        raise GraphValidationError(
            f"node {name!r}: run is {run!r}; use one of {', '.join(map(repr, modes))}", node=name
        )
    amounts = {"num_cpus": wanted.num_cpus, "num_gpus": wanted.num_gpus, "memory": wanted.memory, **wanted.resources}
    for what, amount in amounts.items():
        if amount is not None and (isinstance(amount, bool) or not isinstance(amount, int | float) or not amount >= 0):
            raise GraphValidationError(f"node {name!r}: {what} is {amount!r}; give a number of at least 0", node=name)
    if run == "inline" and wanted:
        raise GraphValidationError(
            f"node {name!r} asks for resources and for run='inline', where it shares its thread's process and can have "
            "none; leave out run=, or use run='task'",
            node=name,
        )


def check_store(checkpointer: object) -> None:
    """Refuse what is no store, LangGraph's savers above all."""
    if checkpointer is None or isinstance(checkpointer, CheckpointStore):
        return
    if isinstance(checkpointer, str):
        what, fix = f"{checkpointer!r} is a URL", f"open it: checkpointer=open_store({checkpointer!r})"
    elif hasattr(checkpointer, "get_tuple") and hasattr(checkpointer, "put"):
        what, fix = (
            f"{type(checkpointer).__name__} is a LangGraph saver, which cannot hold Perdure's commits",
            _STORE_FIX,
        )
    else:
        what, fix = f"{checkpointer!r} is no store", _STORE_FIX
    raise GraphValidationError(f"compile(checkpointer=...): {what}; {fix}")


_STORE_FIX = "give open_store('sqlite:///agents.db') or open_store('memory://')"


def check_cache(given: object) -> None:
    """Refuse what are no options of a cache."""
    if not isinstance(given, CacheOptions | None):
        raise GraphValidationError(f"compile(cache={given!r}): give perdure.CacheOptions(...), e.g. max_bytes=0")


def check_checkpoints(given: object) -> Checkpoints | None:
    """Refuse what is no policy, a bare number above all."""
    if given is None or isinstance(given, Checkpoints):
        return given
    raise GraphValidationError(f"compile(checkpoints={given!r}): give perdure.Checkpoints(...), e.g. every=10")


def check_retention_given(given: object) -> Retention | None:
    """Refuse what is no retention, a bare number above all."""
    if given is None or isinstance(given, Retention):
        return given
    raise GraphValidationError(f"compile(retention={given!r}): give perdure.Retention(...), e.g. max_checkpoints=100")


def policies_of(name: str, given: RetryPolicy | Sequence[RetryPolicy] | None) -> tuple[RetryPolicy, ...]:
    """A node's retry policies."""
    policies = () if given is None else (given,) if isinstance(given, RetryPolicy) else given
    if not isinstance(policies, Sequence) or not all(isinstance(policy, RetryPolicy) for policy in policies):
        raise GraphValidationError(
            f"node {name!r}: retry_policy is {given!r}; give perdure.RetryPolicy(...), or a list of them", node=name
        )
    return tuple(policies)


def mapping_of(path_map: Mapping[Any, str] | Sequence[str] | None, returns: Any) -> dict[Any, str] | None:
    """A conditional edge's answers and the nodes they mean; None if its answers are names, any of them."""
    if path_map is None:
        names = literals(returns)
        return {name: name for name in names} if names and all(isinstance(name, str) for name in names) else None
    if isinstance(path_map, str) or not isinstance(path_map, Mapping | Sequence):
        raise GraphValidationError(
            f"path_map is {path_map!r}; give a dict of answers and node names, or a list of names"
        )
    return dict(path_map) if isinstance(path_map, Mapping) else {name: name for name in path_map}


def label_of(what: str, given: str | None, default: str) -> str:
    """A graph's name or version."""
    if given is None:
        return default
    if not isinstance(given, str) or not given or not given.isprintable():
        raise GraphValidationError(f"compile({what}={given!r}): give a text of printable characters")
    return given
