"""A memory store that several processes use: it lives in an actor of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from ..stores.base import CheckpointStore
from ..stores.errors import StoreError, StoreUnavailable
from ..stores.memory import MemoryStore
from ..stores.urls import open_store
from .names import NAMESPACE, service_key, store_name
from .settings import ServiceSettings

MEMORY_URL = "memory://"

_CALLS = (
    "create",
    "thread",
    "threads",
    "runs",
    "delete",
    "claim",
    "commit",
    "renew",
    "owners",
    "forget",
    "deliver",
    "messages",
    "segments",
    "put_graph",
    "graph",
)


class StoreActor:
    """Holds a `MemoryStore` for one cluster session. What it holds is gone when it dies, as with any memory."""

    def __init__(self) -> None:
        self._store = MemoryStore()

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out one call of the store."""
        if name not in _CALLS:
            raise AttributeError(name)
        return getattr(self._store, name)(*args, **kwargs)


StoreActorClass = ray.remote(num_cpus=0, max_restarts=0, max_concurrency=16)(StoreActor)


def _forward(name: str) -> Callable[..., Any]:
    def call(self: ActorStore, *args: Any, **kwargs: Any) -> Any:
        return self.ask(name, args, kwargs)

    call.__name__ = name
    call.__doc__ = getattr(CheckpointStore, name).__doc__
    return call


class ActorStore(CheckpointStore):
    """The client side: every call goes to the actor."""

    url = MEMORY_URL

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def ask(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One call. Raises what the store raises; `StoreUnavailable` if the actor does not answer."""
        try:
            return ray.get(self._actor.call.remote(name, args, kwargs))
        except RayTaskError as error:
            if isinstance(error.cause, StoreError):
                raise error.cause from None
            raise
        except RayActorError as error:
            raise StoreUnavailable(f"the actor that holds the memory store does not answer: {error}") from error

    def close(self) -> None:
        """Nothing to release; the actor goes on."""


for _name in _CALLS:
    setattr(ActorStore, _name, _forward(_name))
ActorStore.__abstractmethods__ = frozenset()


def open_service_store(settings: ServiceSettings) -> CheckpointStore:
    """The store of a service, as every process of it opens it."""
    if settings.store_url != MEMORY_URL:
        return open_store(settings.store_url, **settings.store_options)
    key = service_key(settings.store_url, settings.session)
    actor = StoreActorClass.options(
        name=store_name(key), namespace=NAMESPACE, lifetime="detached", get_if_exists=True
    ).remote()
    return ActorStore(actor)
