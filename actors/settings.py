"""How a service runs: chosen when its supervisor is started, the same for all its actors."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from ..stores.config import StoreConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """One service: one store on one cluster."""

    store: StoreConfig
    session: str = "local"
    """Names the cluster session; part of every actor's name."""
    lease: timedelta = timedelta(seconds=30)
    """An owner whose lease stood still for this long is taken for frozen or cut off."""
    sweep: timedelta = timedelta(seconds=1)
    """How often the supervisor looks through the store for what no hint told it."""
    spares: int = 1
    """Warm actors kept ready for each graph in use, so that a crash costs milliseconds."""
    max_actors: int = 16
    """Thread actors on each node, spares included. Runnable threads beyond it queue, fairly."""
    shared_actors: int = 4
    """How many of these may hold threads with isolation="shared": the others always find room."""
    shared_threads: int = 64
    """Threads with isolation="shared" that one actor holds at once."""
    idle: timedelta = timedelta(seconds=30)
    """An actor that has had nothing to do for this long is ended; without a supervisor it ends itself."""
    crash_budget: int = 3
    """Crashes of a thread without durable progress before it is paused."""
    cancel_grace: timedelta = timedelta(seconds=5)
    """How long a node that is cancelled may take to notice, before it loses its process."""
    shards: int = 1
    """Supervisors, each for a part of the threads."""
    shard: int = 0
    """Which of them these settings are for."""
    housekeeping: timedelta = timedelta(seconds=30)
    """How often the store is looked through for what retention and compaction have to do."""
    signing_key: bytes = field(default=b"", repr=False)
    """Authenticates graphs that are shipped by value; empty refuses them. Never in the store."""
    ahead_commits: int = 512
    """How many commits a thread with async durability may run ahead of the store."""
