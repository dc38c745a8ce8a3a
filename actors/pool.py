"""Start thread actors, and find those that a former supervisor started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
import ray.util
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .names import NAMESPACE, is_shared, owner_prefix
from .settings import ServiceSettings
from .thread_actor import ACTOR_OPTIONS, ThreadActorClass


def start_actor(
    name: str, settings: ServiceSettings, node: str = "", environment: Mapping[str, Any] | None = None
) -> Any:
    """Start a detached thread actor, on this node or nowhere and in this runtime environment; its handle. It claims
    nothing until it is told to. Its name (`names.new_owner`) says whether many threads share it."""
    options: dict[str, Any] = {"name": name, "namespace": NAMESPACE, **ACTOR_OPTIONS}
    if environment:
        options["runtime_env"] = dict(environment)
    if node:
        # Not softly: actors that ask for no CPU are then put on any node, a drained one too
        # (docs.ray.io, "Actor scheduling": zero-CPU actors are randomly assigned).
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
    return ThreadActorClass.options(**options).remote(name, settings, shared=is_shared(name))


def find_actor(name: str) -> Any:
    """The living actor of that name, or None."""
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


def find_actors(key: str) -> dict[str, Any]:
    """The service's living actors by name."""
    found = {}
    prefix = owner_prefix(key)
    for entry in ray.util.list_named_actors(all_namespaces=True):
        if entry["namespace"] == NAMESPACE and entry["name"].startswith(prefix):
            handle = find_actor(entry["name"])
            if handle is not None:  # else it died between the two calls
                found[entry["name"]] = handle
    return found
