"""The part of the Redis store that housekeeping uses, and what all of its calls share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .arguments import check_id
from .backed import BackedStore
from .errors import Corrupt, ThreadExists, UnknownThread
from .operations import Amendment, Fork, Reached, StoreStats, ThreadImage
from .records import Message, Segment, Status, ThreadRecord
from .redis_connections import Call, Connections
from .redis_forks import Forks, Held
from .redis_keys import Keys
from .redis_listing import Entry, Listing
from .redis_records import (
    Arg,
    Found,
    body_of,
    call_id,
    countable,
    entry_and_data,
    flat,
    made_of,
    messages_of,
    no_conditions,
    now_of,
    row_fields,
    runs_of,
)
from .retention_form import retention_text
from .sealing import StoredSegment
from .transitions import amended, floor_below, loaded, names_below, run_of_fork


class RedisUpkeep(BackedStore):
    """Amendments, copies, compaction, statistics."""

    _connections: Connections
    _keys: Keys
    _forks: Forks
    _listing: Listing
    _ttl: int
    """Milliseconds that a thread lives after its end; 0 for ever."""

    def forks(self, thread_id: str) -> tuple[Fork, ...]:
        check_id("thread id", thread_id)
        return self._forks.of(thread_id)

    def _amend(self, thread_id: str, change: Amendment) -> ThreadRecord:
        countable(f"thread {thread_id!r}", change.floor, change.tidied, *change.names.values())
        verdict, *rest = self._change(
            "amend",
            thread_id,
            retention_text(change.retention) or "",
            "" if change.floor is None else change.floor,
            "" if change.tidied is None else change.tidied,
            "" if change.made_at is None else repr(change.made_at),
            *flat(list(change.names.items())),
            *flat([(tag, int(put)) for tag, put in change.tags.items()]),
        )
        if verdict == b"unknown":
            raise UnknownThread(thread_id, self.where)
        row = self._row(rest[0])
        if verdict == b"refused":
            amended(row, change, self._forks.seqs(rest[1]))
            raise self._disagreement("amend", thread_id)
        return row

    def _rewrite(self, thread_id: str, old: Sequence[Segment], new: Sequence[StoredSegment]) -> bool:
        (verdict,) = self._change(
            "rewrite",
            thread_id,
            self._ttl,
            call_id(),
            len(old),
            *(part for segment in old for part in (segment.first, segment.last, segment.commit_id)),
            len(new),
            *(part for segment in new for part in (segment.first, *entry_and_data(segment))),
        )
        return bool(verdict == b"done")

    def _graft(self, fork: ThreadRecord, segments: Sequence[StoredSegment]) -> bool:
        (verdict,) = self._change(
            "graft",
            fork.thread_id,
            *self._fork_args(fork),
            len(segments),
            *(part for segment in segments for part in (segment.first, *entry_and_data(segment))),
        )
        return bool(verdict == b"done")

    def adopt(self, fork: ThreadRecord, origin: ThreadRecord) -> bool:
        run = run_of_fork(fork)

        def adopt(held: Held | None) -> list[bytes]:
            row = replace(fork, origin=held.origin if held else None)
            others = [self._tombstone(row, held.token)] if held else []
            answer: list[bytes] = self._connections.ask(
                self._connections.script(
                    "adopt",
                    self._keys.thread(fork.thread_id, *others),
                    *self._fork_args(fork),
                    *((held.origin.thread_id, held.origin.seq, held.token) if held else ("", 0, "")),
                    floor_below(fork, origin),
                    made_of(run),
                    now_of(run),
                    *flat(list(names_below(fork, origin).items())),
                ),
                writes=True,
            )
            return answer

        return self._forks.adopted(fork, origin, adopt)

    def _fork_args(self, fork: ThreadRecord) -> tuple[Arg, ...]:
        assert fork.origin is not None
        return self._ttl, repr(fork.created_at), fork.origin.thread_id, fork.origin.seq, call_id()

    def _image(self, thread_id: str) -> ThreadImage:
        answer = self._connections.ask(self._script("image", thread_id))
        if not answer:
            raise UnknownThread(thread_id, self.where)
        packed, runs, messages = answer
        return ThreadImage(
            thread=self._row(packed),
            runs=tuple(runs_of(thread_id, runs, self.where)),
            messages=tuple(messages_of(thread_id, messages, self.where)),
        )

    def _load(
        self, image: ThreadImage, segments: Sequence[StoredSegment], after: Reached | None, complete: bool
    ) -> bool:
        present = self._found(image.thread.thread_id)
        row = loaded(present, image.thread, complete)
        done = None
        if row.origin is None or (present is not None and present.origin == row.origin):
            done = self._put(row, image, segments, after, "kept" if row.origin else "")
        if done is None:
            return self._forks.forked(
                row, lambda forked, token: self._put(forked, image, segments, after, token), held_too=True
            )
        return done[0]

    def _put(
        self,
        row: ThreadRecord,
        image: ThreadImage,
        segments: Sequence[StoredSegment],
        after: Reached | None,
        token: str,
    ) -> tuple[bool, bool] | None:
        """Write a thread that is copied in; returns whether that was done, and the token used. None where that is
        void."""
        countable(f"thread {row.thread_id!r}", *(number for each in segments for number in (each.first, each.last)))
        others = [self._tombstone(row, token)] if token not in {"", "kept"} else []
        verdict, *rest = self._connections.ask(
            self._connections.script(
                "load",
                self._keys.thread(row.thread_id, *others),
                self._ttl,
                row.thread_id,
                token,
                row.origin.thread_id if row.origin else "",
                row.origin.seq if row.origin else 0,
                call_id(),
                segments[-1].last if segments else "+inf",
                *((after.last, after.commit_id) if after is not None else ("", "")),
                *flat(row_fields(row)),
                len(image.runs),
                *(part for run in image.runs for part in (run.run, made_of(run), now_of(run))),
                len(image.messages),
                *(part for message in image.messages for part in _kept(message)),
                len(segments),
                *(part for segment in segments for part in (segment.first, *entry_and_data(segment))),
            ),
            writes=True,
        )
        if verdict == b"exists":
            raise ThreadExists(row.thread_id)
        if verdict == b"loaded" and rest[1]:
            self._forks.settle(rest[0].decode(), rest[1].decode(), row.thread_id)
        written = verdict == b"loaded"
        return None if verdict == b"void" else (written, written)

    def stats(self) -> StoreStats:
        statuses: Counter[Status] = Counter()
        totals = [0, 0, 0, 0]
        for partition in range(self._keys.partitions):
            for entries in self._listing.entries(partition):
                keys = [key for entry in entries for key in self._sized(entry)]
                answers = self._connections.ask(self._connections.script("sizes", keys))
                for status, *sizes in filter(None, answers):
                    statuses[Status(status.decode())] += 1
                    totals = [total + int(size or 0) for total, size in zip(totals, sizes, strict=True)]
                self._listing.sweep([entry for entry, answer in zip(entries, answers, strict=True) if not answer])
        graphs, owners = self._connections.run(
            [self._connections.plain("HLEN", key) for key in (self._keys.graphs, self._keys.owners)]
        )
        segments, segment_bytes, messages, message_bytes = totals
        return StoreStats(
            threads=statuses,
            segments=segments,
            segment_bytes=segment_bytes,
            messages=messages,
            message_bytes=message_bytes,
            graphs=graphs,
            owners=owners,
            disk_bytes=self._connections.memory(),
        )

    def _sized(self, entry: Entry) -> tuple[str, str]:
        return self._keys.row(entry.thread_id), self._keys.segments(entry.thread_id)

    # -- calls -----------------------------------------------------------------------------------------------------

    def _found(self, thread_id: str) -> ThreadRecord | None:
        call = self._connections.script("rows", [self._keys.row(thread_id)], *no_conditions())
        (answer,) = self._connections.ask(call)
        return None if isinstance(answer, int) else self._row(answer)

    def _row(self, packed: bytes) -> ThreadRecord:
        return Found(packed, self.where).record

    def _change(self, name: str, thread_id: str, *args: Arg) -> list[Any]:
        answer: list[Any] = self._connections.ask(self._script(name, thread_id, *args), writes=True)
        return answer

    def _script(self, name: str, thread_id: str, *args: Arg) -> Call:
        return self._connections.script(name, self._keys.thread(thread_id), *args)

    def _tombstone(self, row: ThreadRecord, token: str) -> str:
        assert row.origin is not None
        return self._keys.tombstone(row.thread_id, row.origin.thread_id, token)

    def _disagreement(self, name: str, thread_id: str) -> Corrupt:
        return Corrupt(
            f"thread {thread_id!r} in {self.where}: the script {name!r} refused what its row allows; please report this"
        )


def _kept(message: Message) -> tuple[Arg, ...]:
    """A message that has its number, as `load` takes it."""
    body = body_of(message)
    return message.message_id, message.number, message.run, message.applied, body, len(message.payload)
