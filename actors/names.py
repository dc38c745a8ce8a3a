"""Names of the service's actors: how each finds the others again after a crash."""

from __future__ import annotations

import hashlib

NAMESPACE = "perdure"
"""Ray namespace of all actors."""


def service_key(store: str, session: str) -> str:
    """Ten hex digits that name one store (its `StoreConfig.identity`) on one cluster session."""
    return hashlib.blake2b(f"{session}\n{store}".encode(), digest_size=5).hexdigest()


def supervisor_name(key: str) -> str:
    """The service's supervisor."""
    return f"perdure.supervisor.{key}"


def owner_prefix(key: str) -> str:
    """What the names of all thread actors of a service begin with."""
    return f"perdure.owner.{key}."


def store_name(key: str) -> str:
    """The actor that holds a memory store."""
    return f"perdure.store.{key}"
