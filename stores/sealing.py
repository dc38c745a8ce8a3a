"""Records as a store keeps them: payloads sealed by its vault, each for the place of its record; and back."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from .errors import Corrupt, MissingKey, NewerFormat
from .operations import Commit, Delivery, RunUpdate
from .records import GraphRecord, Message, RunRecord, Segment, ThreadRecord
from .segment_codec import decode_segment, encode_segment
from .segments import Row
from .vault import Place, Vault

SEALED_TEXT = "PRDE:"
"""What a reason begins with that is encrypted; base64 follows."""


class Encoded(NamedTuple):
    """A commit whose payloads are sealed, and its rows as they will be kept (empty where it has none)."""

    commit: Commit
    data: bytes


class StoredSegment(NamedTuple):
    """A segment as it is kept."""

    first: int
    last: int
    epoch: int
    commit_id: str
    data: bytes


class Sealing(NamedTuple):
    """Seals and opens the records of one store. Opening raises `Corrupt`, `NewerFormat`, `MissingKey`, which name the
    record and the store."""

    vault: Vault
    where: str
    """What messages call the store."""

    # -- segments --------------------------------------------------------------------------------------------------

    def commit(self, commit: Commit) -> Encoded:
        """Sealed."""
        thread_id = commit.thread_id
        data = self._rows(thread_id, commit.first, commit.last, commit.commit_id, commit.rows)
        if commit.reason and self.vault.secret:
            commit = replace(commit, reason=self._text(("reason", thread_id), commit.reason))
        if any(update.error or update.reason for update in commit.runs):
            commit = replace(commit, runs=tuple(self._ended(thread_id, update) for update in commit.runs))
        return Encoded(commit, data)

    def segment(self, segment: Segment) -> StoredSegment:
        """Sealed."""
        data = self._rows(segment.thread_id, segment.first, segment.last, segment.commit_id, segment.rows)
        return StoredSegment(segment.first, segment.last, segment.epoch, segment.commit_id, data)

    def opened_segment(self, thread_id: str, stored: StoredSegment) -> Segment:
        """The segment again."""
        first, last, epoch, commit_id, kept = stored
        try:
            data = self.vault.open(_segment_place(thread_id, first, last, commit_id), kept)
            written_for, rows = decode_segment(data) if data else (thread_id, ())
            if written_for != thread_id:
                raise Corrupt(f"the segment kept there belongs to thread {written_for!r}; restore a backup")
        except (Corrupt, NewerFormat, MissingKey) as error:
            place = f"thread {thread_id!r}, commits {first}..{last} (commit id {commit_id}) in {self.where}"
            raise type(error)(f"{place}: {error}") from error
        return Segment(thread_id=thread_id, first=first, last=last, epoch=epoch, commit_id=commit_id, rows=rows)

    def _rows(self, thread_id: str, first: int, last: int, commit_id: str, rows: Sequence[Row]) -> bytes:
        # Sealed also where there are no rows: an encrypted store notices a segment that somebody has emptied.
        data = encode_segment(thread_id, rows) if rows else b""
        return self.vault.seal(_segment_place(thread_id, first, last, commit_id), data)

    # -- messages, runs, graphs ------------------------------------------------------------------------------------

    def message(self, thread_id: str, message: Message) -> Message:
        """Sealed."""
        return replace(message, payload=self.vault.seal(_message_place(thread_id, message), message.payload))

    def opened_message(self, thread_id: str, message: Message) -> Message:
        """The message again."""
        return replace(message, payload=self._open(_message_place(thread_id, message), message.payload))

    def run(self, run: RunRecord) -> RunRecord:
        """Sealed."""
        return replace(run, error=self._error(run.thread_id, run), reason=self._text(_ending(run), run.reason))

    def opened_run(self, run: RunRecord) -> RunRecord:
        """The run again."""
        if not run.error and not run.reason:
            return run
        error = self._open(_run_place(run.thread_id, run.run), run.error) if run.error else b""
        return replace(run, error=error, reason=self._opened_text(_ending(run), run.reason))

    def graph(self, graph: GraphRecord) -> GraphRecord:
        """Sealed."""
        return replace(graph, body=self.vault.seal(_graph_place(graph), graph.body))

    def opened_graph(self, graph: GraphRecord) -> GraphRecord:
        """The graph again."""
        return replace(graph, body=self._open(_graph_place(graph), graph.body))

    def _ended(self, thread_id: str, update: RunUpdate) -> RunUpdate:
        reason = self._text(("run reason", thread_id, str(update.run)), update.reason)
        return replace(update, error=self._error(thread_id, update), reason=reason)

    def _error(self, thread_id: str, run: RunRecord | RunUpdate) -> bytes:
        # None at all is no payload: there is nothing to seal.
        return self.vault.seal(_run_place(thread_id, run.run), run.error) if run.error else b""

    # -- reasons ---------------------------------------------------------------------------------------------------

    def thread(self, row: ThreadRecord) -> ThreadRecord:
        """Sealed: its reason may quote an exception, and that the state."""
        if not row.reason or not self.vault.secret:
            return row
        return replace(row, reason=self._text(("reason", row.thread_id), row.reason))

    def opened_thread(self, row: ThreadRecord) -> ThreadRecord:
        """The row again."""
        if not row.reason.startswith(SEALED_TEXT):
            return row
        return replace(row, reason=self._opened_text(("reason", row.thread_id), row.reason))

    def opened_delivery(self, delivery: Delivery) -> Delivery:
        """With the thread's row again."""
        row = self.opened_thread(delivery.thread)
        return delivery if row is delivery.thread else replace(delivery, thread=row)

    def _text(self, place: Place, text: str) -> str:
        if not text or not self.vault.secret:
            return text
        return SEALED_TEXT + base64.b64encode(self.vault.seal(place, text.encode())).decode()

    def _opened_text(self, place: Place, text: str) -> str:
        if not text.startswith(SEALED_TEXT) or not self.vault.secret:
            return text
        try:
            return bytes(self.vault.open(place, base64.b64decode(text[len(SEALED_TEXT) :], validate=True))).decode()
        except (Corrupt, NewerFormat, MissingKey, binascii.Error, ValueError) as error:
            # It is for people, but in a row that everything reads: a damaged one must not make the thread unreadable.
            return f"(its reason cannot be read: {error})"

    def _open(self, place: Place, kept: bytes) -> bytes:
        try:
            return bytes(self.vault.open(place, kept))
        except (Corrupt, NewerFormat, MissingKey) as error:
            raise type(error)(f"{self.where}: {error}") from error


def _segment_place(thread_id: str, first: int, last: int, commit_id: str) -> Place:
    return ("segment", thread_id, str(first), str(last), commit_id)


def _message_place(thread_id: str, message: Message) -> Place:
    return ("message", thread_id, message.message_id)


def _run_place(thread_id: str, run: int) -> Place:
    return ("run", thread_id, str(run))


def _ending(run: RunRecord) -> Place:
    return ("run reason", run.thread_id, str(run.run))


def _graph_place(graph: GraphRecord) -> Place:
    return ("graph", graph.graph_key)
