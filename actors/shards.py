"""Several supervisors for one service, each for a part of its threads and with actors of its own."""

from __future__ import annotations

import hashlib

from .names import owner_prefix, service_key
from .settings import ServiceSettings


def shard_of(thread_id: str, shards: int) -> int:
    """Which supervisor sees to a thread: the same one on every machine and in every version."""
    if shards == 1:
        return 0
    digest = hashlib.blake2b(thread_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) % shards


def shard_key(settings: ServiceSettings, shard: int | None = None) -> str:
    """What the names of a shard's actors are made of; by default of the shard that the settings are those of. The first
    one has the key of the service."""
    shard = settings.shard if shard is None else shard
    key = service_key(settings.store.identity, settings.session)
    return f"{key}-{shard}" if shard else key


class Share:
    """What one shard sees to."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._shards = settings.shards
        self._shard = settings.shard
        others = (shard for shard in range(settings.shards) if shard != settings.shard)
        self._foreign = tuple(owner_prefix(shard_key(settings, shard)) for shard in others)
        self._own = owner_prefix(shard_key(settings))
        self.max_actors = -(-settings.max_actors // settings.shards)
        """Its part of the actors on a node, rounded up."""
        self.shared_actors = -(-settings.shared_actors // settings.shards)
        """Its part of those that many threads share."""

    @property
    def leads(self) -> bool:
        """Whether it does what is to be done once for the service."""
        return self._shard == 0

    def has(self, thread_id: str) -> bool:
        """Whether a thread is its own."""
        return shard_of(thread_id, self._shards) == self._shard

    def watches(self, owner: str) -> bool:
        """Whether it looks after the lease of an owner: those of its own actors; the first shard also sees to what
        nobody else does, and to the other supervisors, as the second does to it."""
        if owner.startswith(self._own):
            return True
        return self._shard <= 1 and not owner.startswith(self._foreign)
