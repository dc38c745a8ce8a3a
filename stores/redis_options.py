"""Options of the Redis store. Nothing here needs the driver."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta

from .errors import StoreMisuse

MOST_PARTITIONS = 256

_PREFIX = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """How a `RedisStore` is opened. Raises `StoreMisuse` for values that cannot be."""

    prefix: str = "perdure"
    """Every key begins with it: several stores may share a database. 1 to 64 of A-Z a-z 0-9 . _ : -"""
    partitions: int = 16
    """Into so many parts (1 to 256) threads and their indexes are divided, each of them on one node of a Cluster. What
    the store was created with stays; the option is looked at only then."""
    ttl: timedelta | None = None
    """How long after its end a thread expires, with all it has; None keeps it. One that goes on lives on; one that was
    forked is kept until its forks are gone and somebody asked for them (deletion, housekeeping)."""
    max_connections: int = 4
    """Of this process; in a Cluster, to each of its nodes. Callers beyond wait."""
    connections_per_node: int = 16
    """Of all processes of one user on this machine to one store; in a Cluster, to each of its nodes."""
    username: str | None = None
    """In place of the URL's."""
    password: str | None = field(default=None, repr=False)
    """In place of the URL's."""
    ssl_ca_certs: str | None = None
    """File with the certificates of the authorities that are trusted (rediss://); None for the system's."""
    ssl_certfile: str | None = None
    """The client's certificate."""
    ssl_keyfile: str | None = None
    """The client's key."""
    ssl_check_hostname: bool = True
    """Whether the server's certificate must name the host of the URL."""
    socket_timeout: timedelta = timedelta(seconds=30)
    """How long an answer is waited for, and a free connection."""
    connect_timeout: timedelta = timedelta(seconds=10)
    """How long a connection may take to be made."""
    min_replicas: int = 0
    """A write returns only after so many replicas have it; with fewer it raises `StoreUnavailable`."""
    replica_timeout: timedelta = timedelta(seconds=5)
    """How long those are waited for."""
    allow_loss: bool = False
    """Open a server whose settings could lose an acknowledged commit."""
    allow_unchecked: bool = False
    """Open a server that does not tell its settings (managed ones forbid CONFIG), trusting what is said of it."""

    def __post_init__(self) -> None:
        if not isinstance(self.prefix, str) or not _PREFIX.fullmatch(self.prefix):
            raise StoreMisuse(f"a Redis store's prefix is 1 to 64 of A-Z a-z 0-9 . _ : -, not {self.prefix!r}")
        for name, least, most in (
            ("partitions", 1, MOST_PARTITIONS),
            ("max_connections", 1, 10_000),
            ("connections_per_node", 1, 10_000),
            ("min_replicas", 0, 100),
        ):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
                raise StoreMisuse(f"a Redis store's {name} is an integer from {least} to {most}, not {number!r}")
        for name in ("ttl", "socket_timeout", "connect_timeout", "replica_timeout"):
            span = getattr(self, name)
            if name == "ttl" and span is None:
                continue
            if not isinstance(span, timedelta) or span < timedelta(milliseconds=1):
                raise StoreMisuse(f"a Redis store's {name} is a timedelta of at least 1 ms, not {span!r}")
