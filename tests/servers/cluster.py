"""A real Redis Cluster of three processes, or one that is already there.

with RedisCluster() as cluster:
    store = open_store(cluster.url)         # redis+cluster://127.0.0.1:port
    cluster.nodes[1].kill()
    cluster.start()                         # starts what is down, waits until the cluster is whole
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import redis
from redis.cluster import RedisCluster as ClusterClient
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from tests.servers.process import ServerFailed, temporary_folder
from tests.servers.redis import RedisServer

SLOTS = 16_384

SCHEME = "redis+cluster"


class ClusterDatabase:
    """A Redis Cluster that is running, whoever started it. The URL names one of its nodes."""

    def __init__(self, url: str) -> None:
        self.url = url

    def start(self) -> None:
        """Raises `ServerFailed` if it holds any key: the tests are going to remove all."""
        if found := self.keys():
            raise ServerFailed(
                f"PERDURE_TEST_REDIS_CLUSTER names a cluster with {found} keys; empty it, or the tests would"
            )

    def close(self) -> None:
        """Give back what it took."""

    def keys(self) -> int:
        """How many there are on all nodes."""
        with self.client() as client:
            return int(client.dbsize(target_nodes=ClusterClient.PRIMARIES))

    def empty(self) -> str:
        """Remove every key of every node; the URL."""
        with self.client() as client:
            client.flushall(target_nodes=ClusterClient.PRIMARIES)
        return self.url

    @contextmanager
    def client(self) -> Iterator[ClusterClient]:
        plain = urlsplit(self.url)._replace(scheme="redis").geturl()
        client = ClusterClient.from_url(plain)
        try:
            yield client
        finally:
            client.close()


class RedisCluster(ClusterDatabase):
    """Three masters that share the slots. Raises `ServerFailed` where they cannot be started or do not join."""

    def __init__(self) -> None:
        self._cleanup = ExitStack()
        around = Path(self._cleanup.enter_context(temporary_folder("perdure-cluster-")))
        settings = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
        self.nodes: list[RedisServer] = []
        for number in range(3):
            folder = around / f"node{number}"
            folder.mkdir()
            self.nodes.append(RedisServer(folder, settings=settings))
        self._joined = False
        super().__init__(f"{SCHEME}://127.0.0.1:{self.nodes[0].port}")

    def start(self) -> None:
        """Start the nodes that are down; return when all of them say that the cluster is whole."""
        if self._joined and all(node.running for node in self.nodes):
            return
        for node in self.nodes:
            node.start()
        if not self._joined:
            self._join()
            self._joined = True
        self._wait_until_whole()

    def kill(self) -> None:
        """SIGKILL of every node."""
        for node in self.nodes:
            node.kill()

    def close(self) -> None:
        """Stop it for good and remove its folders."""
        self.kill()
        self._cleanup.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _join(self) -> None:
        bounds = [SLOTS * number // len(self.nodes) for number in range(len(self.nodes) + 1)]
        for number, node in enumerate(self.nodes):
            with redis.Redis(port=node.port) as client:
                client.execute_command("CLUSTER ADDSLOTS", *range(bounds[number], bounds[number + 1]))
                # It only spares the nodes to agree on their epochs; a node that has got one already keeps that.
                with suppress(redis.ResponseError):
                    client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                for other in self.nodes[:number]:
                    client.execute_command("CLUSTER MEET", "127.0.0.1", other.port)

    def _wait_until_whole(self) -> None:
        waiting = Retrying(
            retry=retry_if_result(lambda whole: not whole), wait=wait_fixed(0.05), stop=stop_after_delay(60)
        )
        try:
            waiting(self._is_whole)
        except RetryError:
            said = "; ".join(node.output() for node in self.nodes)
            raise ServerFailed(f"the three nodes did not come together within 60 s: {said}") from None

    def _is_whole(self) -> bool:
        for node in self.nodes:
            with redis.Redis(port=node.port) as client:
                info = client.execute_command("CLUSTER INFO")
                if info["cluster_state"] != "ok" or info["cluster_known_nodes"] != "3":
                    return False
        return True
