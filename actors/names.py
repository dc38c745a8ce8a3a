"""Names of the service's actors: how each finds the others again after a crash."""

from __future__ import annotations

import hashlib
import uuid

NAMESPACE = "perdure"
"""Ray namespace of all actors."""
_SHARED = "shared-"


def service_key(store: str, session: str) -> str:
    """Ten hex digits that name one store (its `StoreConfig.identity`) on one cluster session."""
    return hashlib.blake2b(f"{session}\n{store}".encode(), digest_size=5).hexdigest()


def supervisor_name(key: str) -> str:
    """The service's supervisor."""
    return f"perdure.supervisor.{key}"


def owner_prefix(key: str) -> str:
    """What the names of all thread actors of a service begin with."""
    return f"perdure.owner.{key}."


def new_owner(key: str, *, shared: bool) -> str:
    """A name that no thread actor of the service ever had. It says whether many threads share the actor: so a thread's
    row tells, when its owner is gone, whether that owner had others that may have ended it."""
    return f"{owner_prefix(key)}{_SHARED if shared else ''}{uuid.uuid4().hex[:12]}"


def is_shared(owner: str) -> bool:
    """Whether many threads share the actor of this name."""
    return owner.rpartition(".")[2].startswith(_SHARED)


def store_name(key: str) -> str:
    """The actor that holds a memory store."""
    return f"perdure.store.{key}"
