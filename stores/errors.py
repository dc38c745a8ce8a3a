"""What a store can refuse. Drivers' errors are mapped to these at each backend's edge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class StoreError(Exception):
    """Base of all errors of the stores.

    They travel between processes, so each is rebuilt from its text and attributes, never by calling its class again.
    """

    def __reduce__(self) -> tuple[Callable[..., Exception], tuple[type[StoreError], str, dict[str, Any]]]:
        return _rebuild, (type(self), str(self), dict(self.__dict__))


def _rebuild(kind: type[StoreError], text: str, fields: dict[str, Any]) -> StoreError:
    error = kind.__new__(kind)
    error.args = (text,)
    error.__dict__.update(fields)
    return error


class StoreUnavailable(StoreError):
    """The store did not answer, or not surely: try the same call again (each is safe to repeat)."""


class StoreFull(StoreUnavailable):
    """There is no room, or the store may not be written. The same call succeeds once there is."""


class StoreMisuse(StoreError):
    """The call itself is wrong: a bad URL, a bad argument, a store that cannot do what is asked."""


class StoreMissing(StoreMisuse):
    """There is no store where the URL says, and it was opened only to be read."""


class MissingKey(StoreMisuse):
    """A record is encrypted with a key that was not given."""


class WrongOrigin(StoreMisuse):
    """A thread cannot be forked from what the thread of that name has: it has not come so far, or has dropped it."""


class ThreadHeld(StoreMisuse):
    """The thread is being copied in, and is not to be used before all of it is there."""

    def __init__(self, thread_id: str, why: str) -> None:
        super().__init__(
            f"thread {thread_id!r} is being copied into this store, by an import or a copy that has not ended: {why}. "
            "If nothing does that any more it broke off: start the same import or copy again, and it goes on; or give "
            "it up by deleting the thread"
        )
        self.thread_id = thread_id


class UnknownThread(StoreError):
    """No thread has this id."""

    def __init__(self, thread_id: str, where: str = "") -> None:
        super().__init__(
            f"no thread {thread_id!r} in {where or 'this store'}; list the threads there are with client.threads() "
            "or `perdure ls`"
        )
        self.thread_id = thread_id


class UnknownCheckpoint(StoreError):
    """The thread's history has no checkpoint with this number."""

    def __init__(self, thread_id: str, seq: int) -> None:
        super().__init__(
            f"thread {thread_id!r} has no checkpoint {seq}; thread.get_state_history() lists the checkpoints it has"
        )
        self.thread_id = thread_id
        self.seq = seq


class ThreadExists(StoreError):
    """The thread id is taken."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(
            f"thread {thread_id!r} already exists; choose another thread_id, or submit with if_exists='attach' to get "
            "its handle or if_exists='continue' to start its next run"
        )
        self.thread_id = thread_id


class ThreadReferenced(StoreError):
    """The thread cannot be deleted: forks still read its history, or re-runs have still to replay it."""

    def __init__(self, thread_id: str, forks: tuple[str, ...], *, replay: bool = False) -> None:
        named = ", ".join(forks[:10]) + (f" and {len(forks) - 10} more" if len(forks) > 10 else "")
        why = (
            "replay what it recorded and have not ended; wait for them, or cancel them first"
            if replay
            else "were forked from it; delete them first"
        )
        super().__init__(f"thread {thread_id!r} cannot be deleted: {named} {why}")
        self.thread_id = thread_id
        self.forks = forks


class ClaimLost(StoreError):
    """Somebody else claimed the thread first, or it is not runnable any more."""

    def __init__(self, thread_id: str, expected: int, found: int, status: str) -> None:
        super().__init__(
            f"thread {thread_id!r} was not claimed: expected epoch {expected}, found epoch {found} with status {status}"
        )
        self.thread_id = thread_id
        self.expected = expected
        self.found = found
        self.status = status


class Fenced(StoreError):
    """The writer does not own the thread any more; it must stop at once. Nothing was written."""

    def __init__(self, thread_id: str, epoch: int, found: int) -> None:
        super().__init__(
            f"thread {thread_id!r}: the owner of epoch {epoch} was replaced (now epoch {found}); nothing was written"
        )
        self.thread_id = thread_id
        self.epoch = epoch
        self.found = found


class InboxChanged(StoreError):
    """A message arrived before the thread could park or end; nothing was written. Read it and go on."""

    def __init__(self, thread_id: str, expected: int, inbox: int) -> None:
        super().__init__(f"thread {thread_id!r}: message {inbox} arrived after {expected}; nothing was written")
        self.thread_id = thread_id
        self.expected = expected
        self.inbox = inbox


class Refused(StoreError):
    """A message was not accepted: the thread is not in a state to take it. Nothing was written."""

    def __init__(self, thread_id: str, kind: str, status: str, why: str) -> None:
        super().__init__(f"thread {thread_id!r} ({status}) refused a {kind} message: {why}")
        self.thread_id = thread_id
        self.kind = kind
        self.status = status
        self.why = why


class Corrupt(StoreError):
    """A record does not decode: wrong checksum, cut short, or not ours."""


class NewerFormat(StoreError):
    """A record was written by a newer Perdure."""


FINAL = (Corrupt, NewerFormat, StoreMisuse)
"""Errors that the same call raises again until somebody has mended the record, the keys or the call: nobody should wait
for that by repeating it."""


class Unencodable(StoreError):
    """A value has a type that cannot be stored."""

    def __init__(self, type_name: str, path: str, hint: str) -> None:
        super().__init__(f"a value of type {type_name}{f' at {path}' if path else ''} cannot be stored: {hint}")
        self.type_name = type_name
        self.path = path
        self.hint = hint


class DisallowedType(StoreError):
    """A stored value is of a class that neither the graph's schema nor the allow-list names."""

    def __init__(self, tag: str) -> None:
        super().__init__(
            f"a stored value is of type {tag}, which neither the graph's state schema nor its allow-list names; add "
            "the class to compile(allow=[...]) if you trust it"
        )
        self.tag = tag
