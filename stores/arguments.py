"""What every store refuses to take: the checks of arguments that come before any lock or query."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from .errors import StoreMisuse
from .operations import Amendment, Commit, ThreadFilter
from .records import ISOLATED, SHARED, Message, OwnerRecord, Retention, ThreadRecord

LONGEST_ID = 512
"""Bytes of UTF-8 that an id or a name may have (indexes of every backend take as much)."""

_LARGEST_INT = 2**63


def check_id(what: str, value: str) -> None:
    """Raise `StoreMisuse` unless the id is 1 to 512 bytes of text without NUL."""
    if not isinstance(value, str) or not value:
        raise StoreMisuse(f"a {what} must be text that is not empty, not {value!r}")
    _check_text(what, value)
    size = len(value.encode())
    if size > LONGEST_ID:
        raise StoreMisuse(f"{what} {value[:40]!r}... has {size} bytes; at most {LONGEST_ID} are allowed")


def _check_text(what: str, value: str) -> None:
    if "\0" in value:
        raise StoreMisuse(f"{what} {value[:40]!r} contains a NUL character, which a store cannot keep; leave it out")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise StoreMisuse(f"{what} {value[:40]!r} is not valid Unicode text: {error.reason}") from None


def check_json(what: str, value: Any) -> None:
    """Raise `StoreMisuse` unless every backend keeps the JSON value alike: no NaN, NUL or integer over 64 bits."""
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        _check_text(what, value)
    elif isinstance(value, int):
        if not -_LARGEST_INT <= value < _LARGEST_INT:
            raise StoreMisuse(f"{what}: the integer {value} does not fit 64 bits; give it as text")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise StoreMisuse(f"{what}: {value} is not a JSON number; give it as text or None")
    elif isinstance(value, (list, tuple)):
        for item in value:
            check_json(what, item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise StoreMisuse(f"{what}: the key {key!r} is not text; JSON objects have text keys")
            _check_text(what, key)
            check_json(f"{what}[{key!r}]", item)
    else:
        raise StoreMisuse(f"{what}: a {type(value).__name__} is not a JSON value; use text, numbers, lists and dicts")


def canonical_json(value: Any) -> str:
    """The one JSON text of a value (keys sorted, no spaces), by which values are kept and compared."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=dict)


def json_equal(kept: Any, wanted: Any) -> bool:
    """Equality of JSON values as all stores filter by it: 1 equals 1.0 but not true; lists and dicts by their text."""
    if _is_number(kept) and _is_number(wanted):
        return bool(kept == wanted)
    return canonical_json(kept) == canonical_json(wanted)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_metadata(what: str, metadata: Mapping[str, Any]) -> None:
    """Raise `StoreMisuse` unless the metadata is a mapping of text to JSON values."""
    if not isinstance(metadata, Mapping):
        raise StoreMisuse(f"{what} must be a mapping of text to JSON values, not a {type(metadata).__name__}")
    check_json(what, metadata)


def check_thread(thread: ThreadRecord) -> None:
    """Raise `StoreMisuse` where a new thread's row cannot be kept."""
    check_id("thread id", thread.thread_id)
    check_metadata(f"thread {thread.thread_id!r}: metadata", thread.metadata)
    check_json(f"thread {thread.thread_id!r}: tags", thread.tags)
    for what, text in (("graph name", thread.graph), ("graph version", thread.version), ("owner", thread.owner)):
        _check_text(what, text)
    if thread.isolation not in (ISOLATED, SHARED):
        raise StoreMisuse(
            f"thread {thread.thread_id!r}: isolation is {thread.isolation!r}; choose {ISOLATED!r} or {SHARED!r}"
        )
    if thread.origin is not None:
        check_id("thread id of an origin", thread.origin.thread_id)
    for name in thread.names:
        check_id("checkpoint name", name)
    if thread.retention is not None:
        check_retention(f"thread {thread.thread_id!r}", thread.retention)
    _check_time(f"thread {thread.thread_id!r}: wake_at", thread.wake_at)


def check_retention(what: str, retention: Retention) -> None:
    """Raise `StoreMisuse` where a retention would keep nothing, or is none."""
    if not isinstance(retention, Retention):
        raise StoreMisuse(f"{what}: a retention must be a Retention(...), not {retention!r}")
    most = retention.max_checkpoints
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise StoreMisuse(f"{what}: max_checkpoints must be an integer of at least 1, not {most!r}")
    for name in ("keep_for", "delete_after"):
        span = getattr(retention, name)
        if span is not None and not (isinstance(span, timedelta) and span >= timedelta()):
            raise StoreMisuse(f"{what}: {name} must be a timedelta that is not negative, not {span!r}")


def check_amendment(thread_id: str, change: Amendment) -> None:
    """Raise `StoreMisuse` where an amendment cannot be kept."""
    for name, seq in change.names.items():
        check_id("checkpoint name", name)
        _check_count(f"thread {thread_id!r}: checkpoint {name!r}", seq)
    for tag in change.tags:
        check_id("tag", tag)
    if change.retention is not None:
        check_retention(f"thread {thread_id!r}", change.retention)
    for what, number in (("floor", change.floor), ("tidied", change.tidied)):
        if number is not None:
            _check_count(f"thread {thread_id!r}: {what}", number)


def check_due(before: float, limit: int) -> None:
    """Raise `StoreMisuse` for a time or a limit that cannot be."""
    _check_time("due threads: before", before)
    if limit < 1:
        raise StoreMisuse(f"due threads: the limit must be at least 1, not {limit}")


def _check_count(what: str, number: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < _LARGEST_INT:
        raise StoreMisuse(f"{what} must be an integer that is not negative, not {number!r}")


def _check_time(what: str, at: float) -> None:
    if isinstance(at, bool) or not isinstance(at, (int, float)) or not math.isfinite(at) or at < 0:
        raise StoreMisuse(f"{what} must be Unix seconds, not {at!r}")


def check_message(message: Message) -> None:
    """Raise `StoreMisuse` where a message cannot be kept."""
    check_id("message id", message.message_id)
    check_id("message kind", message.kind)
    _check_text("message name", message.name)


def check_claim(thread_id: str, token: str, owner: str) -> None:
    """Raise `StoreMisuse` where a claim lacks what would make it anybody's."""
    check_id("thread id", thread_id)
    check_id("owner token", token)
    check_id("owner", owner)


def check_different(what: str, thread_ids: Sequence[str]) -> None:
    """Raise `StoreMisuse` where a call about many threads names one twice."""
    if len(set(thread_ids)) < len(thread_ids):
        twice = next(each for number, each in enumerate(thread_ids) if each in thread_ids[:number])
        raise StoreMisuse(f"thread {twice!r} comes twice in one {what}; name each thread once")


def check_commit(commit: Commit) -> None:
    """Raise `StoreMisuse` where a commit is not one."""
    check_id("thread id", commit.thread_id)
    check_id("owner token", commit.token)
    check_id("commit id", commit.commit_id)
    if not 1 <= commit.first <= commit.last:
        raise StoreMisuse(
            f"thread {commit.thread_id!r}: a commit covers 1 <= first <= last, not {commit.first}..{commit.last}"
        )
    if commit.reason is not None:
        _check_text(f"thread {commit.thread_id!r}: reason", commit.reason)
    for update in commit.runs:
        _check_text(f"thread {commit.thread_id!r}: reason of run {update.run}", update.reason)
    if commit.waits is not None:
        check_json(f"thread {commit.thread_id!r}: waits", commit.waits)
    if commit.wake_at is not None:
        _check_time(f"thread {commit.thread_id!r}: wake_at", commit.wake_at)


def check_lease(lease: OwnerRecord) -> None:
    """Raise `StoreMisuse` where a lease names nobody."""
    check_id("owner", lease.owner)
    check_json(f"owner {lease.owner!r}: threads", lease.threads)


def check_listing(where: ThreadFilter, limit: int, cursor: str | None) -> int | None:
    """The number that a cursor stands for. Raises `StoreMisuse` for a limit, cursor or filter that cannot be."""
    if limit < 1:
        raise StoreMisuse(f"a listing's limit must be at least 1, not {limit}")
    check_metadata("a listing's metadata filter", where.metadata)
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise StoreMisuse(f"{cursor[:40]!r} is not a cursor of this store; pass ThreadPage.cursor on as it is")
    return int(cursor)
