"""Where things are in Redis.

    <prefix>:{layout}:store          layout and number of partitions
    <prefix>:{owners}:leases         owner -> lease
    <prefix>:{graphs}:records        graph key -> record
    <prefix>:{settings}:values       name -> JSON
    <prefix>:{p<n>}:index            by what threads are listed, as texts (sorted set): kind, value, number and id;
                                     kind is n (all; the graph after the id), g (graph) or s (status)
    <prefix>:{p<n>}:due              parked threads by `wake_at` (sorted set)
    <prefix>:{p<n>}:clock            the last number given to a thread
    <prefix>:{p<n>}:row:<id>         a thread's row; a field "name:<name>" for each named checkpoint
    <prefix>:{p<n>}:runs:<id>        for each run "<n>:made" and "<n>:now"
    <prefix>:{p<n>}:messages:<id>    for each message "<n>", "<n>:run", "<n>:applied"; "i:<message id>" -> n
    <prefix>:{p<n>}:unread:<id>      numbers of the unread ones (sorted set)
    <prefix>:{p<n>}:segments:<id>    "first:last:epoch:commit id" by first (sorted set)
    <prefix>:{p<n>}:data:<id>        first -> bytes of the segment
    <prefix>:{p<n>}:forks:<id>       token -> "seq:fork id", of forks that are there or about to be
    <prefix>:{p<n>}:tomb:...         a fork that was asked for and will not be created any more

In braces is what a Redis Cluster places a key by: one script sees a whole partition, on whichever node that is. A
plain server has the same partitions, though it could do with one, so that its data can be moved into a Cluster.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

LAYOUT = 1
"""Of the keys above and of what they hold."""

_OWN = ("row", "runs", "messages", "unread", "segments", "data", "forks")


def thread_keys_of(prefix: str, partition: int, thread_id: str) -> tuple[str, ...]:
    """The keys of a thread's own, in the order in which scripts take them."""
    return tuple(f"{prefix}:{{p{partition}}}:{kind}:{thread_id}" for kind in _OWN)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one store."""

    prefix: str
    partitions: int

    @property
    def owners(self) -> str:
        return f"{self.prefix}:{{owners}}:leases"

    @property
    def graphs(self) -> str:
        return f"{self.prefix}:{{graphs}}:records"

    @property
    def settings(self) -> str:
        return f"{self.prefix}:{{settings}}:values"

    def partition(self, thread_id: str) -> int:
        """Which part a thread belongs to, for good."""
        return zlib.crc32(thread_id.encode()) % self.partitions

    def shared(self, partition: int, kind: str) -> str:
        """A key of a partition: index, due or clock."""
        return f"{self.prefix}:{{p{partition}}}:{kind}"

    def row(self, thread_id: str) -> str:
        return f"{self.prefix}:{{p{self.partition(thread_id)}}}:row:{thread_id}"

    def segments(self, thread_id: str) -> str:
        return f"{self.prefix}:{{p{self.partition(thread_id)}}}:segments:{thread_id}"

    def thread(self, thread_id: str, *others: str) -> Sequence[str]:
        """What a script of a thread takes: the thread's keys, those of its partition, then others of it."""
        partition = self.partition(thread_id)
        shared = (self.shared(partition, kind) for kind in ("index", "due", "clock"))
        return (*thread_keys_of(self.prefix, partition, thread_id), *shared, *others)

    def tombstone(self, thread_id: str, origin: str, token: str) -> str:
        """Of a fork, under the token with which its origin has registered it."""
        # The length keeps apart where one id ends and the other begins.
        partition = self.partition(thread_id)
        return f"{self.prefix}:{{p{partition}}}:tomb:{token}:{len(origin)}:{origin}:{thread_id}"


def layout_key(prefix: str) -> str:
    return f"{prefix}:{{layout}}:store"
