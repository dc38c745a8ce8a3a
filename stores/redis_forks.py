"""Forks and what they were forked from: two threads, most often of two partitions, which no script sees together.

1. The origin's script checks the commit and registers the fork under a token that no other registration ever has.
2. The fork's script creates it with that token, unless a tombstone says that the token is void.
3. Who has to know an origin's forks (to delete it, to drop what no fork refers to) asks for each registration whether
   a fork was created under its token; the script that finds none leaves the tombstone. So a fork that was not there
   when its origin was given up never comes, however late its creator's call arrives; a creator that is told so
   registers anew, and finds the origin as it is then. Registrations of forks that are not there are removed after that.

A crash between the steps leaves a registration too many, which holds a checkpoint until step 3 removes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from .errors import Corrupt, StoreError, StoreMisuse, StoreUnavailable, ThreadReferenced, UnknownThread, WrongOrigin
from .operations import Fork
from .records import Origin, ThreadRecord
from .redis_connections import Call, Connections
from .redis_keys import Keys
from .redis_records import Arg, Found, reading
from .transitions import check_deletable, check_forkable, check_origin

UNHELD = "unheld"
"""In place of a token: its origin does not know of the fork, so that it must not be created."""

_TOMBSTONE = 24 * 3600
"""Seconds that it stands; no call is under way for so long."""
_ROUNDS = 20
"""How often somebody who was overtaken begins again."""

T = TypeVar("T")


class Held(NamedTuple):
    """A registration: the thread that really has the commit, and the token."""

    origin: Origin
    token: str


class Registration(NamedTuple):
    """What an origin knows of a fork."""

    token: str
    thread_id: str
    seq: int

    @property
    def place(self) -> tuple[int, int]:
        """Forks go by seq, those of one seq in the order in which they were registered."""
        return self.seq, int(self.token.rpartition(":")[2])


class Forks:
    """The protocol above."""

    def __init__(self, connections: Connections, keys: Keys, where: str, ttl: int) -> None:
        self._connections = connections
        self._keys = keys
        self._where = where
        self._ttl = ttl

    def forked(
        self,
        thread: ThreadRecord,
        create: Callable[[ThreadRecord, str], tuple[T, bool] | None],
        *,
        held_too: bool = False,
    ) -> T:
        """Create a fork: `create` gets the row with its real origin and the token, and returns an answer and whether
        it used the token; None where that is void. `held_too`: the origin may be one that is being copied in. Raises
        `UnknownThread`, `StoreMisuse`, and what `create` raises."""
        assert thread.origin is not None
        for _ in range(_ROUNDS):
            held = self._hold(thread, thread.origin, held_too=held_too)
            if held is None:
                continue
            try:
                created = create(replace(thread, origin=held.origin), held.token)
            except StoreUnavailable:
                # It may have been created, or may yet be: whoever asks for the forks will find out.
                raise
            except StoreError:
                self.settle(held.origin.thread_id, held.token, thread.thread_id)
                raise
            if created is None or not created[1]:
                self.settle(held.origin.thread_id, held.token, thread.thread_id)
            if created is not None:
                return created[0]
        raise StoreUnavailable(
            f"thread {thread.thread_id!r} in {self._where}: others looked at its origin's forks {_ROUNDS} times while "
            "it was being created; try again"
        )

    def adopted(
        self, fork: ThreadRecord, origin: ThreadRecord, adopt: Callable[[Held | None], Sequence[bytes]]
    ) -> bool:
        """Give a fork the origin that its origin has: `adopt` is told of it and of the token, and answers as the script
        does. Returns False where one of the two is not as it was read."""
        for _ in range(_ROUNDS):
            held = None
            if origin.origin is not None:
                try:
                    held = self._hold(fork, origin.origin, held_too=True)
                except (UnknownThread, StoreMisuse):
                    return False  # it is gone, and another one may be there
                if held is None:
                    continue
                # As the fork's origin still refers to it, it is the one that the fork's history goes back to.
                if held.origin != origin.origin or self._origin_of(origin.thread_id) != origin.origin:
                    self.settle(held.origin.thread_id, held.token, fork.thread_id)
                    return False
            verdict, *before = adopt(held)
            if held is not None and verdict != b"adopted":
                self.settle(held.origin.thread_id, held.token, fork.thread_id)
            if verdict == b"adopted" and before[1]:
                self.settle(before[0].decode(), before[1].decode(), fork.thread_id)
            if verdict != b"void":
                return verdict == b"adopted"
        raise StoreUnavailable(
            f"thread {fork.thread_id!r} in {self._where}: others looked at its origin's forks {_ROUNDS} times while it "
            "was taking over what it had of it; try again"
        )

    def settle(self, origin: str, token: str, thread_id: str) -> None:
        """Forget a registration unless a fork was created under it (by an attempt whose answer was lost)."""
        self._present(origin, [Registration(token, thread_id, 0)])

    def of(self, thread_id: str) -> tuple[Fork, ...]:
        """The forks that are there, in order of seq."""
        answer = self._connections.ask(self._script("forks", thread_id))
        return self._present(thread_id, self._registered(thread_id, answer))

    def delete(self, thread_id: str, seen: ThreadRecord | None) -> None:
        """Delete a thread that has no forks, if it is as it was seen. Raises `Refused`, `ThreadReferenced`."""
        as_seen = ("", 0) if seen is None else (repr(seen.created_at), seen.seq)
        for _ in range(_ROUNDS):
            verdict, *rest = self._connections.ask(self._script("delete", thread_id, *as_seen), writes=True)
            if verdict == b"refused":
                check_deletable(Found(rest[0], self._where).record, seen)
                raise Corrupt(f"thread {thread_id!r} in {self._where}: its script and we read its row differently")
            if verdict == b"forks":
                forks = self._present(thread_id, self._registered(thread_id, rest[0]))
                if forks:
                    raise ThreadReferenced(thread_id, tuple(fork.thread_id for fork in forks))
            else:
                if rest and rest[1]:
                    self.settle(rest[0].decode(), rest[1].decode(), thread_id)
                return
        raise StoreUnavailable(
            f"thread {thread_id!r} in {self._where} is being forked again and again; delete it when that is over"
        )

    def seqs(self, answer: Sequence[bytes]) -> list[Fork]:
        """What an origin's registrations protect, whether or not the forks are there."""
        with reading("a registered fork", self._where):
            pairs = (value.decode().split(":", 1) for value in answer)
            return [Fork(thread_id=fork, seq=int(seq)) for seq, fork in pairs]

    def _hold(self, thread: ThreadRecord, origin: Origin, *, held_too: bool = False) -> Held | None:
        """Register a fork with whoever has the commit; None if those on the way there changed meanwhile."""
        passed: list[tuple[Origin, int]] = []
        while True:
            verdict, *rest = self._connections.ask(
                self._script("register", origin.thread_id, self._ttl, thread.thread_id, origin.seq, int(held_too)),
                writes=True,
            )
            if verdict == b"inherited":
                passed.append((origin, Found(rest[1], self._where).number))
                origin = replace(origin, thread_id=rest[0].decode())
                if origin.thread_id in {thread.thread_id, *(each.thread_id for each, _ in passed)}:
                    raise _own_origin(thread)
                continue
            if verdict == b"held":
                held = Held(origin, rest[0].decode())
                if origin.thread_id == thread.thread_id:
                    self._forget(origin.thread_id, [held.token])
                    raise _own_origin(thread)
                # As long as those that inherit the commit are there, so was the thread that has it.
                if all(self._number(each.thread_id) == number for each, number in passed):
                    return held
                self._forget(origin.thread_id, [held.token])
                return None
            if verdict == b"unknown":
                raise UnknownThread(origin.thread_id, self._where)
            found = Found(rest[0], self._where).record
            if not held_too:
                check_forkable(thread.thread_id, found)
            check_origin(thread.thread_id, found, origin, self.seqs(rest[1]), self._where)
            return None

    def _forget(self, origin: str, tokens: Sequence[str]) -> None:
        """Remove registrations whose forks are not there and cannot come."""
        if tokens:
            self._connections.ask(self._script("unregister", origin, self._ttl, *tokens), writes=True)

    def _number(self, thread_id: str) -> int:
        answer = self._connections.ask(self._connections.plain("HGET", self._keys.row(thread_id), "number"))
        return int(answer or 0)

    def _origin_of(self, thread_id: str) -> Origin | None:
        call = self._connections.plain("HMGET", self._keys.row(thread_id), "origin_thread", "origin_seq")
        origin, seq = self._connections.ask(call)
        return Origin(thread_id=origin.decode(), seq=int(seq)) if origin else None

    def _registered(self, thread_id: str, answer: Sequence[bytes]) -> list[Registration]:
        with reading(f"a fork of thread {thread_id!r}", self._where):
            pairs = zip(answer[::2], answer[1::2], strict=True)
            found = [(token.decode(), *value.decode().split(":", 1)) for token, value in pairs]
            return sorted(
                (Registration(token, fork, int(seq)) for token, seq, fork in found), key=lambda each: each.place
            )

    def _present(self, thread_id: str, registered: Sequence[Registration]) -> tuple[Fork, ...]:
        if not registered:
            return ()
        probes = [
            self._connections.script(
                "probe",
                [self._keys.row(each.thread_id), self._keys.tombstone(each.thread_id, thread_id, each.token)],
                *(thread_id, each.token, _TOMBSTONE),
            )
            for each in registered
        ]
        there = self._connections.run(probes, writes=True)
        self._forget(thread_id, [each.token for each, present in zip(registered, there, strict=True) if not present])
        return tuple(
            Fork(thread_id=each.thread_id, seq=each.seq)
            for each, present in zip(registered, there, strict=True)
            if present
        )

    def _script(self, name: str, thread_id: str, *args: Arg) -> Call:
        return self._connections.script(name, self._keys.thread(thread_id), *args)


def _own_origin(thread: ThreadRecord) -> WrongOrigin:
    """A thread that is copied in again may name an origin that was forked from it meanwhile."""
    origin = thread.origin.thread_id if thread.origin else ""
    return WrongOrigin(
        f"thread {thread.thread_id!r} cannot be a fork of thread {origin!r}, whose history leads back to it; delete "
        "what was copied in and copy it again"
    )
