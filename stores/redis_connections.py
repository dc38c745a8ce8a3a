"""Connections to a Redis or a Redis Cluster, and how calls go over them: several at once, in one round trip."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import parse_url
from redis.exceptions import ConnectionError, NoScriptError
from redis.retry import Retry

from .errors import StoreMisuse, StoreUnavailable
from .redis_errors import REDIS_ERRORS, store_error
from .redis_options import RedisOptions
from .redis_pool import IdleCloser, PlacedPool
from .redis_records import Arg

_RETRIES = 1
"""How often the driver repeats a call on a new connection, or looks for the node that has the keys now: the pool's may
have been closed by a server that was started again. Scripts answer a repeated call as the first."""

T = TypeVar("T")


class Call(NamedTuple):
    """One command."""

    key: str
    """A key of it, by which a Cluster finds the node."""
    command: tuple[Arg, ...]
    text: str = ""
    """Of the script that it runs by its digest."""

    def with_text(self) -> Call:
        """The same for a server that does not know the script, which learns it by that."""
        return Call(self.key, ("EVAL", self.text, *self.command[2:])) if self.text else self


class Connections:
    """A process's connections to one server, or to each node of a Cluster. Safe to use from several threads."""

    def __init__(self, url: str, where: str, options: RedisOptions, scripts: Mapping[str, str]) -> None:
        """Nothing is sent yet to a server; a Cluster is asked for its nodes. Raises `StoreUnavailable`,
        `StoreMisuse`."""
        self._where = where
        self._options = options
        self._scripts = scripts
        self._digests = {name: hashlib.sha1(text.encode()).hexdigest() for name, text in scripts.items()}
        self._closed = False
        # Any: half of the driver is without types.
        self._client: Any
        self._cluster: Any
        try:
            self._client, self._cluster = self._guarded(lambda: _clients(url, options))
        except (ValueError, TypeError) as error:
            raise StoreMisuse(f"{where}: the Redis driver does not understand this URL: {error}") from None
        # Held weakly: a store that is given up without being closed takes its background with it.
        this = weakref.ref(self)
        self._idle = IdleCloser(lambda: _pools(this()))
        weakref.finalize(self, self._idle.end)

    def script(self, name: str, keys: Sequence[str], *args: Arg) -> Call:
        """A call of the script `name`. All keys have the same tag."""
        return Call(keys[0], ("EVALSHA", self._digests[name], len(keys), *keys, *args), self._scripts[name])

    def plain(self, *command: Arg) -> Call:
        """A command of Redis; its second word is the key."""
        return Call(str(command[1]), command)

    def run(self, calls: Sequence[Call], *, writes: bool = False) -> list[Any]:
        """Make the calls in one round trip (in a Cluster: one to each node, at the same time); their answers.

        Those of one tag are made in order; others may be made although one has failed. With `writes` it returns only
        when as many replicas have them as the options say. Raises `StoreUnavailable`, `StoreFull`, `StoreMisuse`,
        `Corrupt`.
        """
        if self._closed:
            raise self._is_closed()
        answers = self._guarded(lambda: self._batch(calls))
        if any(isinstance(answer, NoScriptError) for answer in answers):
            # All of the batch again, each call may be repeated: of two commits of a thread the second may have been
            # refused only because the first did not run.
            answers = self._guarded(lambda: self._batch([call.with_text() for call in calls]))
        for call, answer in zip(calls, answers, strict=True):
            if isinstance(answer, BaseException):
                raise store_error(answer, f"{self._where}, key {call.key!r}") from answer
        if writes and self._options.min_replicas:
            self._guarded(lambda: self._await_replicas({call.key for call in calls}))
        return answers

    def ask(self, call: Call, *, writes: bool = False) -> Any:
        """The answer to one call."""
        return self.run([call], writes=writes)[0]

    def nodes(self, *, replicas: bool = False) -> list[tuple[str, Redis]]:
        """Each server by its address; in a Cluster the primaries, or all nodes."""
        if self._cluster is None:
            return [(self._where, self._client)]
        cluster = self._cluster
        found: Iterable[ClusterNode] = cluster.get_nodes() if replicas else cluster.get_primaries()
        return [(node.name, cluster.get_redis_connection(node)) for node in found]

    def memory(self) -> int | None:
        """Bytes that the servers take in all; None where they do not tell."""
        try:
            return sum(int(client.info("memory")["used_memory"]) for _, client in self.nodes())
        except REDIS_ERRORS:
            return None

    def close(self) -> None:
        """Close all. Closing twice does nothing."""
        self._closed = True
        self._idle.stop()
        for _, client in self.nodes(replicas=True):
            client.connection_pool.disconnect()

    def _batch(self, calls: Sequence[Call]) -> list[Any]:
        if self._cluster is None:
            with self._client.pipeline(transaction=False) as pipeline:
                for call in calls:
                    pipeline.execute_command(*call.command)
                return list(pipeline.execute(raise_on_error=False))
        cluster = self._cluster
        targets = [cluster.get_node_from_key(call.key) for call in calls]
        if None in targets:
            raise ConnectionError("a part of the cluster's slots is served by no node")
        # In order of their nodes: two batches that take the connections to them in turn do not wait for each other.
        order = sorted(range(len(calls)), key=lambda place: targets[place].name)
        with cluster.pipeline() as pipeline:
            for place in order:
                # Without its node the driver would ask the server for the keys of each command.
                pipeline.execute_command(*calls[place].command, target_nodes=[targets[place]])
            answers = dict(zip(order, pipeline.execute(raise_on_error=False), strict=True))
        return [answers[place] for place in range(len(calls))]

    def _await_replicas(self, keys: Iterable[str]) -> None:
        tags = {key[: key.index("}") + 1] for key in keys}
        if self._cluster is not None:
            holders = {tag: self._cluster.get_redis_connection(self._cluster.get_node_from_key(tag)) for tag in tags}
        else:
            holders = dict.fromkeys(tags, self._client)
        one_of_each = {id(client): (tag, client) for tag, client in holders.items()}
        timeout = round(self._options.replica_timeout.total_seconds() * 1000)
        for tag, client in one_of_each.values():
            with client.pipeline(transaction=False) as pipeline:
                # WAIT speaks of what its own connection wrote last. A repeated commit writes nothing, so this does.
                pipeline.execute_command("INCR", f"{tag}:waited")
                pipeline.execute_command("WAIT", self._options.min_replicas, timeout)
                _, reached = pipeline.execute()
            if reached < self._options.min_replicas:
                raise StoreUnavailable(
                    f"{self._where}: {reached} of min_replicas={self._options.min_replicas} replicas have the write, "
                    "which may be lost with this server; look after the replicas, then try again"
                )

    def _guarded(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except REDIS_ERRORS as error:
            raise store_error(error, self._where) from error
        except UnicodeEncodeError as error:
            raise StoreMisuse(f"{self._where}: a text to be kept is not valid Unicode: {error.reason}") from None
        except (ValueError, AttributeError) as error:
            # What the driver runs into when its connection is closed by another thread.
            if self._closed:
                raise self._is_closed() from error
            raise

    def _is_closed(self) -> StoreMisuse:
        return StoreMisuse(f"{self._where} is closed; open it again")


def _pools(connections: Connections | None) -> list[PlacedPool]:
    found = (client.connection_pool for _, client in connections.nodes(replicas=True)) if connections else ()
    return [pool for pool in found if isinstance(pool, PlacedPool)]


def _clients(url: str, options: RedisOptions) -> tuple[Redis | None, RedisCluster | None]:
    scheme = url.partition("://")[0]
    kwargs: dict[str, Any] = {
        "max_connections": options.max_connections,
        "timeout": options.socket_timeout.total_seconds(),
        "socket_timeout": options.socket_timeout.total_seconds(),
        "socket_connect_timeout": options.connect_timeout.total_seconds(),
        "protocol": 2,
    }
    if scheme.startswith("rediss"):
        kwargs |= {
            "ssl_ca_certs": options.ssl_ca_certs,
            "ssl_certfile": options.ssl_certfile,
            "ssl_keyfile": options.ssl_keyfile,
            "ssl_check_hostname": options.ssl_check_hostname,
        }
    elif scheme == "unix":
        del kwargs["socket_connect_timeout"]
    url = _with_credentials(url.replace("+cluster", "", 1) if "+cluster" in scheme else url, options)
    pool = partial(PlacedPool, places=options.connections_per_node)
    if "+cluster" in scheme:
        cluster = RedisCluster.from_url(url, connection_pool_class=pool, retry=Retry(NoBackoff(), _RETRIES), **kwargs)
        return None, cluster
    once = Retry(NoBackoff(), _RETRIES, supported_errors=(ConnectionError,))
    return Redis(connection_pool=pool(**_parsed(url), retry=once, **kwargs)), None


def _parsed(url: str) -> dict[str, Any]:
    return dict(parse_url(url))  # type: ignore[no-untyped-call] # the driver's


def _with_credentials(url: str, options: RedisOptions) -> str:
    """The URL with the options' username and password in place of its own: the driver prefers what stands there."""
    if options.username is None and options.password is None:
        return url
    parts = urlsplit(url)
    _, _, place = parts.netloc.rpartition("@")
    username = options.username if options.username is not None else parts.username or ""
    # What stands in the URL is encoded already.
    password = quote(options.password, safe="") if options.password is not None else parts.password or ""
    user = quote(username, safe="") if options.username is not None else username
    return parts._replace(netloc=f"{user}:{password}@{place}").geturl()
