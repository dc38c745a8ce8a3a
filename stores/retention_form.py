"""A retention as the text that a thread's row keeps, the same in SQLite and Redis."""

from __future__ import annotations

import json
from datetime import timedelta

from .arguments import canonical_json
from .records import Retention


def retention_text(retention: Retention | None) -> str | None:
    """A retention as JSON text: `[max_checkpoints, keep_for, delete_after]`, spans in seconds."""
    if retention is None:
        return None
    spans = (retention.keep_for, retention.delete_after)
    return canonical_json(
        [retention.max_checkpoints, *(None if span is None else span.total_seconds() for span in spans)]
    )


def retention_of(text: str | None) -> Retention | None:
    """The retention again."""
    if text is None:
        return None
    most, *spans = json.loads(text)
    keep_for, delete_after = (None if span is None else timedelta(seconds=span) for span in spans)
    return Retention(max_checkpoints=most, keep_for=keep_for, delete_after=delete_after)
