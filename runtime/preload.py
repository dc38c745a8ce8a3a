"""Read a thread's state ahead of the moment when it is needed."""

from __future__ import annotations

from ..stores.base import CheckpointStore
from ..stores.errors import StoreError
from ..stores.history import HistoryReader
from .cache import ReadCache
from .restore import load_control


def preload(store: CheckpointStore, thread_id: str, cache: ReadCache) -> bool:
    """Read into `cache` what an owner of this process will need of the thread, such as one that is about to wake.
    Returns whether all of it was read.

    Safe at any time and beside anything: the row that is claimed decides which rows are used, and what turns out to be
    missing is read then. Raises no `StoreError`: who claims the thread meets it and deals with it.
    """
    try:
        record = store.thread(thread_id)
        if record.head:
            reader = HistoryReader(store, thread_id, record=record, cache=cache)
            reader.channels(load_control(reader, record.head).manifest, at=record.head)
            reader.pending(record.head)
    except StoreError:
        return False
    return True
