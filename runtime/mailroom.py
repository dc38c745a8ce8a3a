"""Reads a thread's inbox: each message once per owner, in order."""

from __future__ import annotations

from ..stores.records import Message, ThreadRecord
from .ports import MailSource


class Mailroom:
    """Knows which messages its owner has seen. Hints may come twice or never; numbers decide."""

    def __init__(self, source: MailSource, record: ThreadRecord, seen: int) -> None:
        self.seen = seen
        """Number up to which the inbox was read. A commit that parks the thread is refused if it has grown since."""
        self.due = record.inbox > seen
        """There may be mail."""
        self._source = source
        self._thread_id = record.thread_id

    def hint(self) -> None:
        """Somebody says that there is mail."""
        self.due = True

    def saw(self, inbox: int) -> None:
        """The store says how many messages were delivered."""
        if inbox > self.seen:
            self.due = True

    def read(self) -> list[Message]:
        """The messages not seen yet. Raises `StoreUnavailable`; then it is still due."""
        fresh = [message for message in self._source.messages(self._thread_id) if message.number > self.seen]
        self.due = False
        if fresh:
            self.seen = fresh[-1].number
        return fresh
