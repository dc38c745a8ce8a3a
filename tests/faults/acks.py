"""What was acknowledged, noted down at the moment when it was: the next moment may be the server's last."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from perdure.stores.base import CheckpointStore, CommitResult
from perdure.stores.operations import Commit, Committed, Delivery, Expect
from perdure.stores.records import GraphRecord, Message, ThreadRecord
from tests.sim.faults import Delegating


class AckLog:
    """One line for each acknowledgement, in one write to a file that several processes append to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        os.close(self._file)

    def note(self, what: str, *fields: Any) -> None:
        line = json.dumps([what, round(time.monotonic(), 4), *fields]).encode() + b"\n"
        assert os.write(self._file, line) == len(line)


@dataclass(slots=True)
class Acknowledged:
    """All that a log tells."""

    created: set[str] = field(default_factory=set)
    """Threads."""
    commits: dict[str, set[tuple[int, int, str]]] = field(default_factory=lambda: defaultdict(set))
    """(first, last, commit id) by thread."""
    commit_times: list[tuple[float, str]] = field(default_factory=list)
    """When a commit of which thread was acknowledged (monotonic seconds), in order."""
    messages: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    """Message id to number, by thread."""
    others: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    """What else was noted."""

    @classmethod
    def of(cls, path: Path) -> Acknowledged:
        found = cls()
        for what, at, *rest in _lines(path):
            if what == "created":
                found.created.add(rest[0])
            elif what == "committed":
                thread_id, first, last, commit_id = rest
                found.commits[thread_id].add((first, last, commit_id))
                found.commit_times.append((at, thread_id))
            elif what == "delivered":
                thread_id, message_id, number = rest
                known = found.messages[thread_id].setdefault(message_id, number)
                assert known == number, f"message {message_id} of {thread_id} was number {known}, then {number}"
            else:
                found.others[what].append(rest)
        found.commit_times.sort()
        return found


def _lines(path: Path) -> Iterator[list[Any]]:
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


class AcknowledgingStore(Delegating):
    """Another store, whose acknowledgements are noted down before its caller learns of them."""

    def __init__(self, inner: CheckpointStore, log: AckLog) -> None:
        super().__init__(inner)
        self._log = log

    def create(self, thread: ThreadRecord, message: Message | None = None) -> Delivery:
        delivery = self.inner.create(thread, message)
        self._log.note("created", thread.thread_id)
        if message is not None:
            self._log.note("delivered", thread.thread_id, message.message_id, delivery.number)
        return delivery

    def deliver(
        self, thread_id: str, message: Message, expect: Expect, *, graph: GraphRecord | None = None
    ) -> Delivery:
        delivery = self.inner.deliver(thread_id, message, expect, graph=graph)
        self._log.note("delivered", thread_id, message.message_id, delivery.number)
        return delivery

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        results = self.inner.commit(commits)
        for commit, result in zip(commits, results, strict=True):
            if isinstance(result, Committed):
                self._log.note("committed", commit.thread_id, commit.first, commit.last, commit.commit_id)
        return results
