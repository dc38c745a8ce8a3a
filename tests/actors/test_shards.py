"""Several supervisors for one service: each has its part, and may be killed at any time."""

from __future__ import annotations

from collections import Counter

import ray

from perdure import Client, HeadOptions, connect
from perdure.actors.names import NAMESPACE, supervisor_name
from perdure.actors.settings import ServiceSettings
from perdure.actors.shards import Share, shard_key, shard_of
from perdure.stores.config import StoreConfig
from tests.actors.conftest import Serve
from tests.actors.graphs_menu import graph, lines
from tests.actors.services import eventually

SHARDS = 3


def test_every_thread_has_one_shard_the_same_one_for_ever() -> None:
    assert [shard_of(f"t-{i}", 4) for i in range(6)] == [3, 2, 1, 0, 3, 3]
    shares = Counter(shard_of(f"thread-{i}", SHARDS) for i in range(3000))
    assert set(shares) == {0, 1, 2}
    assert min(shares.values()) > 900
    assert {shard_of(f"t-{i}", 1) for i in range(100)} == {0}


def test_every_lease_is_watched_and_no_actor_by_another_shard() -> None:
    def settings(shard: int) -> ServiceSettings:
        return ServiceSettings(store=StoreConfig(url="memory://"), shards=SHARDS, shard=shard)

    shares = [Share(settings(shard)) for shard in range(SHARDS)]
    for shard in range(SHARDS):
        owner = f"perdure.owner.{shard_key(settings(shard))}.abc"
        assert [share.watches(owner) for share in shares] == [shard == one for one in range(SHARDS)]
    assert [share.watches("perdure.owner.older.abc") for share in shares] == [True, True, False]
    assert shares[1].watches(supervisor_name(shard_key(settings(0))))
    assert [share.max_actors for share in shares] == [6, 6, 6]


def kill(client: Client, shard: int) -> None:
    name = supervisor_name(shard_key(client._settings, shard))
    ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=False)


def test_any_of_three_supervisors_may_be_killed_while_their_threads_run(
    serve: Serve, member: HeadOptions, folder: str
) -> None:
    client = serve(shards=SHARDS, spares=0)
    threads = [
        client.submit(graph, {"do": "count", "folder": folder, "until": 40}, thread_id=f"t-{i}") for i in range(6)
    ]
    eventually(lambda: all(thread.info.epoch for thread in threads), seconds=60, what="an owner for each")
    for thread in threads:
        owner = thread.info.owner
        shard = shard_of(thread.thread_id, SHARDS)
        assert not owner or owner.startswith(f"perdure.owner.{shard_key(client._settings, shard)}.")
    for shard in range(SHARDS):
        kill(client, shard)
    # Who does not know how many there are reaches the right one by the first.
    with connect(client.store.url, head=member) as other:
        more = [other.submit(graph, {"do": "last", "folder": folder}, thread_id=f"more-{i}") for i in range(3)]
        for thread in (*threads, *more):
            thread.result(timeout=60)
        assert len(other.actors()) == len(client.actors())
    assert all(thread.info.epoch == 1 for thread in threads)
    assert lines(folder).count("count 40") == len(threads)
