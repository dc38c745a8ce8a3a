"""Ports for the servers under test."""

from __future__ import annotations

import random
import socket

BUS = 10_000
"""How far above its port a Redis Cluster node listens for the others."""

# Below the ports that Linux gives to outgoing connections (32768 and up), with the bus, and above those of Ray.
# A client that keeps knocking at one of the former while its server is down is sooner or later given that very port,
# and talks to itself.
FIRST, LAST = 20_000, 22_700


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has at this moment, nor the one of a cluster's bus that belongs to it."""
    while True:
        port = random.SystemRandom().randint(FIRST, LAST)
        if _is_free(port) and _is_free(port + BUS):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers do: connections of a server that has just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
