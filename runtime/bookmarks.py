"""Named checkpoints: kept whatever the retention."""

from __future__ import annotations

from ..stores.base import CheckpointStore
from ..stores.history import HistoryReader
from ..stores.operations import Amendment
from .control import Control
from .errors import InputError
from .restore import load_control
from .snapshots import checkpoint_id, looking_for


def names_of(store: CheckpointStore, thread_id: str) -> dict[str, str]:
    """The checkpoints that have names: name to checkpoint id. Raises `UnknownThread`."""
    return {name: checkpoint_id(seq) for name, seq in sorted(store.thread(thread_id).names.items())}


def give_name(store: CheckpointStore, thread_id: str, name: str, seq: int = 0) -> str:
    """Give a checkpoint (0: the newest) a name; one that another had moves on. Returns the checkpoint's id.

    Raises `CheckpointNotFound`, `UnknownThread`, `InputError`; `StoreMisuse` for a checkpoint of the thread's origin.
    """
    if not isinstance(name, str) or not name:
        raise InputError(f"a checkpoint of thread {thread_id!r} was to be named {name!r}; a name is a text, not empty")
    seq = seq or store.thread(thread_id).head
    find_control(store, thread_id, seq)
    store.amend(thread_id, Amendment(names={name: seq}))
    return checkpoint_id(seq)


def take_name(store: CheckpointStore, thread_id: str, name: str) -> None:
    """Take a name away; from then on retention may drop the checkpoint. Raises `UnknownThread`."""
    store.amend(thread_id, Amendment(names={name: 0}))


def find_control(store: CheckpointStore, thread_id: str, seq: int) -> Control:
    """A checkpoint's control record. Raises `CheckpointNotFound`, `UnknownThread`."""
    with looking_for(thread_id, seq):
        return load_control(HistoryReader(store, thread_id), seq)
