"""Whether a server keeps what it acknowledges; asked when a store is opened."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from redis import Redis
from redis.exceptions import ConnectionError, ResponseError, TimeoutError

from .errors import StoreMisuse
from .redis_connections import Connections
from .redis_errors import REDIS_ERRORS, store_error
from .redis_options import RedisOptions

OLDEST = (6, 2)

_WANTED: Mapping[str, tuple[str, str]] = {
    "maxmemory-policy": ("noeviction", "else it drops keys when its memory is full"),
    "appendonly": ("yes", "else a restart loses what came after the last snapshot"),
    "appendfsync": ("always", "else a crash of its machine loses the last second of acknowledged commits"),
}


def check_servers(connections: Connections, where: str, options: RedisOptions) -> None:
    """Raise `StoreMisuse` for a server that is too old, is part of a Cluster but not opened as one, or could lose an
    acknowledged commit; `StoreUnavailable`.

    In a Cluster every node is asked; replicas only if they answer.
    """
    primaries = {address for address, _ in connections.nodes()}
    clustered = "+cluster://" in where
    for address, client in connections.nodes(replicas=True):
        try:
            _check_server(client, address if clustered else where, clustered, options)
        except (ConnectionError, TimeoutError) as error:
            if address in primaries:
                raise store_error(error, where) from error
        except REDIS_ERRORS as error:
            raise store_error(error, where) from error


def _check_server(client: Redis, place: str, clustered: bool, options: RedisOptions) -> None:
    info = client.info()
    assert isinstance(info, dict)
    numbers = re.findall(r"\d+", str(info.get("redis_version", "")))[:2]
    if tuple(map(int, numbers)) < OLDEST:
        raise StoreMisuse(
            f"{place} runs Redis {info.get('redis_version')}; a store needs 6.2 or later, so upgrade the server"
        )
    if info.get("cluster_enabled") and not clustered:
        raise StoreMisuse(f"{place} is a node of a Redis Cluster; open it with redis+cluster://host:port")
    if info.get("role") == "slave" and not clustered:
        raise StoreMisuse(f"{place} is a replica, which takes no writes; open its primary ({info.get('master_host')})")
    if options.allow_loss:
        return
    found = _settings(client, info)
    wrong = list(_wrong(found))
    if wrong:
        raise StoreMisuse(
            f"{place} could lose acknowledged commits: {'; '.join(wrong)}. Set this in redis.conf, or with CONFIG SET "
            "and CONFIG REWRITE, or open the store with allow_loss=True"
        )
    unknown = sorted(set(_WANTED) - set(found))
    if unknown and not options.allow_unchecked:
        raise StoreMisuse(
            f"{place} does not tell its settings {', '.join(unknown)} (CONFIG is forbidden), so it might lose "
            "acknowledged commits; allow CONFIG GET, or see to them and open the store with allow_unchecked=True"
        )


def _settings(client: Redis, info: Mapping[str, object]) -> dict[str, str]:
    """The settings that matter, those that the server tells."""
    found: dict[str, str] = {}
    try:
        for name in _WANTED:
            found |= {str(key): str(value) for key, value in client.config_get(name).items()}
    except ResponseError:
        # Managed servers forbid CONFIG; INFO has a part of it.
        if "maxmemory_policy" in info:
            found["maxmemory-policy"] = str(info["maxmemory_policy"])
        if "aof_enabled" in info:
            found["appendonly"] = "yes" if info["aof_enabled"] else "no"
    return found


def _wrong(found: Mapping[str, str]) -> Iterator[str]:
    for name, (wanted, why) in _WANTED.items():
        if found.get(name, wanted) != wanted:
            yield f"{name} is {found[name]} and must be {wanted} ({why})"
