"""A memory store that several processes use: it lives in an actor of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from ..stores.addresses import MEMORY_URL
from ..stores.base import CheckpointStore, CommitResult, NewThread, TakeResult
from ..stores.errors import StoreError, StoreUnavailable, ThreadExists
from ..stores.memory import MemoryStore
from ..stores.operations import (
    Amendment,
    Claim,
    Commit,
    Delivery,
    Expect,
    Fork,
    Reached,
    StoreStats,
    ThreadFilter,
    ThreadImage,
    ThreadPage,
)
from ..stores.records import GraphRecord, Message, OwnerRecord, RunRecord, Segment, ThreadRecord
from .names import NAMESPACE, service_key, store_name
from .settings import ServiceSettings

ANSWER_SECONDS = 30.0
"""How long a call may take. It is memory: one that takes longer is that of a frozen actor, and may be repeated."""


class StoreActor(MemoryStore):
    """Holds the threads of one cluster session. What it holds is gone when it dies, as with any memory."""


StoreActorClass = ray.remote(StoreActor)
STORE_OPTIONS = {"num_cpus": 0, "max_restarts": 0, "max_concurrency": 16, "lifetime": "detached", "get_if_exists": True}


class ActorStore(CheckpointStore):
    """The client side: every call goes to the actor. Raises what the store there raises, and `StoreUnavailable` if the
    actor does not answer."""

    url = MEMORY_URL

    def __init__(self, name: str) -> None:
        self._name = name
        self._actor: Any = _store_actor(name)

    def create(self, thread: ThreadRecord, message: Message | None = None) -> Delivery:
        delivery: Delivery = self._ask("create", thread, message)
        return delivery

    def create_many(self, threads: Sequence[NewThread]) -> list[Delivery | ThreadExists]:
        made: list[Delivery | ThreadExists] = self._ask("create_many", threads)
        return made

    def thread(self, thread_id: str) -> ThreadRecord:
        record: ThreadRecord = self._ask("thread", thread_id)
        return record

    def find(self, thread_ids: Sequence[str]) -> dict[str, ThreadRecord]:
        found: dict[str, ThreadRecord] = self._ask("find", thread_ids)
        return found

    def threads(self, where: ThreadFilter | None = None, *, limit: int = 100, cursor: str | None = None) -> ThreadPage:
        page: ThreadPage = self._ask("threads", where, limit=limit, cursor=cursor)
        return page

    def due(self, before: float, *, limit: int = 100) -> tuple[ThreadRecord, ...]:
        found: tuple[ThreadRecord, ...] = self._ask("due", before, limit=limit)
        return found

    def runs(self, thread_id: str) -> tuple[RunRecord, ...]:
        runs: tuple[RunRecord, ...] = self._ask("runs", thread_id)
        return runs

    def delete(self, thread_id: str, *, seen: ThreadRecord | None = None) -> None:
        # One of a version before `seen` takes plain deletions.
        self._ask("delete", thread_id, **({} if seen is None else {"seen": seen}))

    def claim(
        self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool = False, at: float = 0.0
    ) -> ThreadRecord:
        record: ThreadRecord = self._ask(
            "claim", thread_id, epoch=epoch, token=token, owner=owner, crashed=crashed, at=at
        )
        return record

    def take(self, claims: Sequence[Claim]) -> list[TakeResult]:
        taken: list[TakeResult] = self._ask("take", claims)
        return taken

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        results: list[CommitResult] = self._ask("commit", commits)
        return results

    def renew(self, lease: OwnerRecord) -> None:
        self._ask("renew", lease)

    def owners(self) -> tuple[OwnerRecord, ...]:
        leases: tuple[OwnerRecord, ...] = self._ask("owners")
        return leases

    def forget(self, owner: str) -> None:
        self._ask("forget", owner)

    def deliver(
        self, thread_id: str, message: Message, expect: Expect, *, graph: GraphRecord | None = None
    ) -> Delivery:
        delivery: Delivery = self._ask("deliver", thread_id, message, expect, graph=graph)
        return delivery

    def messages(self, thread_id: str, *, unread: bool = True) -> tuple[Message, ...]:
        found: tuple[Message, ...] = self._ask("messages", thread_id, unread=unread)
        return found

    def segments(
        self, thread_id: str, *, first: int = 1, last: int | None = None, limit: int | None = None
    ) -> list[Segment]:
        found: list[Segment] = self._ask("segments", thread_id, first=first, last=last, limit=limit)
        return found

    def put_graph(self, graph: GraphRecord) -> None:
        self._ask("put_graph", graph)

    def graph(self, graph_key: str) -> GraphRecord:
        record: GraphRecord = self._ask("graph", graph_key)
        return record

    def amend(self, thread_id: str, change: Amendment) -> ThreadRecord:
        record: ThreadRecord = self._ask("amend", thread_id, change)
        return record

    def forks(self, thread_id: str) -> tuple[Fork, ...]:
        found: tuple[Fork, ...] = self._ask("forks", thread_id)
        return found

    def rewrite(self, thread_id: str, old: Sequence[Segment], new: Sequence[Segment]) -> bool:
        done: bool = self._ask("rewrite", thread_id, old, new)
        return done

    def graft(self, fork: ThreadRecord, segments: Sequence[Segment]) -> bool:
        done: bool = self._ask("graft", fork, segments)
        return done

    def adopt(self, fork: ThreadRecord, origin: ThreadRecord) -> bool:
        done: bool = self._ask("adopt", fork, origin)
        return done

    def image(self, thread_id: str) -> ThreadImage:
        image: ThreadImage = self._ask("image", thread_id)
        return image

    def load(
        self,
        image: ThreadImage,
        segments: Sequence[Segment] = (),
        *,
        after: Reached | None = None,
        complete: bool = False,
    ) -> bool:
        done: bool = self._ask("load", image, segments, after=after, complete=complete)
        return done

    def graph_keys(self) -> tuple[str, ...]:
        keys: tuple[str, ...] = self._ask("graph_keys")
        return keys

    def setting(self, name: str) -> Any:
        return self._ask("setting", name)

    def put_setting(self, name: str, value: Any) -> None:
        self._ask("put_setting", name, value)

    def stats(self) -> StoreStats:
        stats: StoreStats = self._ask("stats")
        return stats

    def close(self) -> None:
        """Nothing to release; the actor goes on."""

    def _ask(self, call: str, *args: Any, **named: Any) -> Any:
        self._actor = self._actor or _store_actor(self._name)
        try:
            return ray.get(getattr(self._actor, call).remote(*args, **named), timeout=ANSWER_SECONDS)
        except RayTaskError as error:
            if isinstance(error.cause, StoreError):
                raise error.cause from None
            raise
        except (RayActorError, GetTimeoutError) as error:
            # Looked up anew next time: where it has died, all of the service go on with its successor, which is empty.
            self._actor = None
            raise StoreUnavailable(f"the actor that holds the memory store does not answer: {error}") from error


def _store_actor(name: str) -> Any:
    return StoreActorClass.options(name=name, namespace=NAMESPACE, **STORE_OPTIONS).remote()


def open_service_store(settings: ServiceSettings) -> CheckpointStore:
    """The store of a service, as every process of it opens it."""
    if not settings.store.in_memory:
        return settings.store.open()
    return ActorStore(store_name(service_key(settings.store.identity, settings.session)))
