"""What housekeeping needs of a store: retention, compaction, copies, statistics; nothing that a commit waits for.

As all calls of a store, each is safe to repeat and happens in one transaction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from .operations import Amendment, Fork, Reached, StoreStats, ThreadImage
from .records import Segment, ThreadRecord


class Upkeep(ABC):
    """The part of a `CheckpointStore` that housekeeping uses."""

    @abstractmethod
    def amend(self, thread_id: str, change: Amendment) -> ThreadRecord:
        """Change a thread's retention, names, tags, floor or housekeeping mark under the thread's lock; its owner, if
        it has one, goes on. Returns the row after it.

        Raises `StoreMisuse` for a name of a checkpoint that is not there or may be gone, or a floor beyond the head;
        `ThreadHeld` for a thread that is being copied in; `UnknownThread`, also where the thread is another one.
        """

    @abstractmethod
    def forks(self, thread_id: str) -> tuple[Fork, ...]:
        """The threads whose origin is this one, in order of seq."""

    @abstractmethod
    def rewrite(self, thread_id: str, old: Sequence[Segment], new: Sequence[Segment]) -> bool:
        """Replace segments that lie side by side (in order of `first`) by others within the same commits.

        Done only if all of `old` are there as they were (told by first, last and commit id) and the thread's newest
        commit is none of theirs: the owner may have to find that one again. Otherwise nothing changes, and False is
        returned. The new ones hold what the old ones held, in fewer pieces or less of it; readers may come at any time.
        """

    @abstractmethod
    def graft(self, fork: ThreadRecord, segments: Sequence[Segment]) -> bool:
        """Add to a fork's segments some that hold what it inherits, in order of `first`; nobody reads them before
        `adopt`. The fork's owner, if it has one, goes on.

        Done only if the thread is still the fork that `fork` was read of (as old, from the same origin), is not being
        copied in, and has nothing yet of the commits from the first segment's to the last's. Otherwise nothing changes,
        and False is returned. Raises `StoreMisuse` for segments that are not of what it inherits.
        """

    @abstractmethod
    def adopt(self, fork: ThreadRecord, origin: ThreadRecord) -> bool:
        """Make what a fork inherits from its origin its own, once all of it was grafted: from then on its origin is
        that of its origin, whose row `origin` was read after the last graft.

        In the same transaction it takes over its origin's floor and names as far as they concern it, and the run that
        it goes on with gets a row. Its owner, if it has one, goes on. Done only if the thread is still the fork that
        `fork` was read of, is not being copied in, and its origin has the same origin as in `origin`; otherwise nothing
        changes, and False is returned.
        """

    @abstractmethod
    def image(self, thread_id: str) -> ThreadImage:
        """A thread's row, runs and messages as they were at one moment. Raises `UnknownThread`."""

    @abstractmethod
    def load(
        self,
        image: ThreadImage,
        segments: Sequence[Segment] = (),
        *,
        after: Reached | None = None,
        complete: bool = False,
    ) -> bool:
        """Write a thread as it was elsewhere: its row, runs and messages replace those that are there, segments are
        added to them. Until a call says `complete` its driver is `LOADING`, so that nobody runs it or sends it
        messages; from then on it has the image's driver, no owner, and is queued if it was running.

        With `after`, done only if that is how far the thread reaches: the newest of its segments that begin at or
        before the last commit given (without segments: the newest of all) is that one. Otherwise somebody else has
        deleted or loaded it meanwhile, or an earlier attempt of this call had been written; then nothing changes, and
        False is returned.

        A thread that is there is only overwritten while it is `LOADING`. Raises `ThreadExists` otherwise;
        `UnknownThread` for an origin that is not there, `StoreMisuse` for one that has not come so far.
        """

    @abstractmethod
    def graph_keys(self) -> tuple[str, ...]:
        """The keys of all graphs kept, sorted."""

    @abstractmethod
    def setting(self, name: str) -> Any:
        """A setting of the store (a JSON value); None if it was never put."""

    @abstractmethod
    def put_setting(self, name: str, value: Any) -> None:
        """Keep a setting; None removes it. Raises `StoreMisuse` for what is not JSON."""

    @abstractmethod
    def stats(self) -> StoreStats:
        """Counts and sizes. May read a lot; never blocks writers."""
