"""Check a whole store: every record decodes, and what refers to something finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from .base import CheckpointStore
from .chains import Key, Sieve
from .copying import StoreSource, parents_first
from .errors import Corrupt, DisallowedType, NewerFormat, StoreMisuse, UnknownThread
from .fetching import Width
from .operations import ThreadImage
from .records import LOADING, Segment, ThreadRecord
from .retention import READABLE, SETTING, Meaning, retention_from
from .segments import Kind
from .transitions import first_of, protected

_DAMAGE = (Corrupt, NewerFormat, DisallowedType, StoreMisuse)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be."""

    thread_id: str
    """Empty where it belongs to none."""
    what: str


@dataclass(slots=True, kw_only=True)
class Verified:
    """What was looked at."""

    threads: int = 0
    total: int = 0
    held: int = 0
    """Threads that are being copied in; they are not looked at."""
    segments: int = 0
    rows: int = 0
    checkpoints: int = 0
    graphs: int = 0
    problems: list[Problem] = field(default_factory=list)


def verify_store(store: CheckpointStore, meaning: Meaning) -> Iterator[Verified]:
    """Look at everything; yields how far it has come. Damage is listed, each damaged record by its name; a store that
    is away raises `StoreUnavailable`. Threads may run meanwhile."""
    done = Verified()
    _verify_around(store, done)
    origins = {row.thread_id: row.origin.thread_id if row.origin else "" for row in StoreSource(store).rows()}
    # Forks first: what they need of the threads that they came from is looked for there.
    order = parents_first(origins)[::-1]
    done.total = len(order)
    needed: dict[str, dict[Key, int]] = {}
    for thread_id in order:
        yield done
        try:
            left = _verify(store, meaning, done, thread_id, needed.pop(thread_id, {}))
        except UnknownThread:
            continue  # deleted meanwhile
        done.threads += 1
        above = origins[thread_id]
        if left and above in origins:
            needed.setdefault(above, {}).update(left)
    yield done


def _verify_around(store: CheckpointStore, done: Verified) -> None:
    for key in store.graph_keys():
        done.graphs += 1
        try:
            store.graph(key)
        except _DAMAGE as error:
            done.problems.append(Problem("", str(error)))
    try:
        retention_from(store.setting(SETTING))
    except _DAMAGE as error:
        done.problems.append(Problem("", str(error)))


def _verify(
    store: CheckpointStore, meaning: Meaning, done: Verified, thread_id: str, needed: dict[Key, int]
) -> dict[Key, int]:
    """Check one thread; `needed` is what its forks need of it. Returns what it and they need of its origin."""
    while True:
        found = replace(done, problems=[])
        row = store.thread(thread_id)
        left = _Checker(store, meaning, found, thread_id).run(row, needed)
        now = store.thread(thread_id)
        if (now.floor, now.origin) == (row.floor, row.origin):
            break  # else retention was at work on it, or its origin deleted: what was missed may just be elsewhere
    done.held, done.segments, done.rows = found.held, found.segments, found.rows
    done.checkpoints = found.checkpoints
    done.problems += found.problems
    return left


class _Checker:
    """Checks one thread."""

    def __init__(self, store: CheckpointStore, meaning: Meaning, done: Verified, thread_id: str) -> None:
        self._store = store
        self._meaning = meaning
        self._done = done
        self._id = thread_id
        self._checkpoints: set[int] = set()
        self._damaged = False
        self._above = 0
        """First commit of the segment that was looked at last."""

    def run(self, row: ThreadRecord, needed: dict[Key, int]) -> dict[Key, int]:
        """See `_verify`."""
        if row.driver == LOADING:
            self._done.held += 1
            return {}
        readable = row.driver in READABLE
        safe = protected(row, self._store.forks(self._id)) if row.floor else frozenset()
        sieve = Sieve(row.floor, safe, self._meaning.manifest)
        sieve.require(needed)
        self._segments(row, sieve, readable)
        own = row.origin.seq if row.origin is not None else 0
        if not self._damaged:
            for (channel, version), checkpoint in sorted(sieve.needed.items()):
                if version > own:
                    self._tell(f"checkpoint {checkpoint} needs channel {channel!r} at version {version}; it is missing")
            self._refers(row, readable)
        self._image(readable)
        return {key: checkpoint for key, checkpoint in sieve.needed.items() if key[1] <= own}

    def _tell(self, what: str) -> None:
        self._done.problems.append(Problem(self._id, what))

    # -- segments ------------------------------------------------------------------------------------------------

    def _segments(self, row: ThreadRecord, sieve: Sieve, readable: bool) -> None:
        start = first_of(row)
        self._above = row.seq + 1
        for segment, goes_on in self._newest_first(row.seq, start):
            self._done.segments += 1
            self._done.rows += len(segment.rows)
            if goes_on and segment.last >= self._above:
                self._tell(f"commits {segment.first}..{segment.last} overlap with those from {self._above} on")
            elif segment.last < self._above - 1 and self._above > row.floor and self._above - 1 >= start:
                self._tell(f"commits {segment.last + 1}..{self._above - 1} are missing")
            strange = any(not segment.first <= one.checkpoint <= segment.last for one in segment.rows)
            if strange or segment.first < start:
                self._tell(f"commits {segment.first}..{segment.last} hold rows of other commits")
            self._above = segment.first
            for one in segment.rows:
                if one.kind == Kind.CHECKPOINT:
                    self._done.checkpoints += 1
                    self._checkpoints.add(one.checkpoint)
            if readable:
                try:
                    sieve.sift(segment.rows)
                except _DAMAGE as error:
                    self._damaged = True
                    self._tell(str(error))
        if self._above > max(start, row.floor) and row.seq >= start:
            self._tell(f"commits {start}..{self._above - 1} are missing")

    def _newest_first(self, last: int, first: int) -> Iterator[tuple[Segment, bool]]:
        """The segments that decode, and whether each was read together with the one before it: between two reads some
        may be put together. Those that do not decode are told of, one by one."""
        width = Width()
        while last >= first:
            try:
                found = self._store.segments(self._id, first=first, last=last, limit=width.count)
            except _DAMAGE as error:
                if width.count > 1:
                    width.count = max(1, width.count // 4)
                    continue
                self._damaged = True
                self._tell(str(error))
                self._above = self._first_of(last, str(error))
                last = self._above - 1
                continue
            for number, segment in enumerate(found):
                yield segment, number > 0
            if len(found) < width.count:
                return
            last = found[-1].first - 1
            width.learn(found)

    def _first_of(self, commit: int, complaint: str) -> int:
        """The first commit of the segment that does not decode: the lowest for which the complaint is the same."""
        return _lowest(commit, lambda seq: self._complaint(seq) == complaint)

    def _complaint(self, commit: int) -> str:
        try:
            self._store.segments(self._id, first=commit, last=commit)
        except _DAMAGE as error:
            return str(error)
        return ""

    # -- the rest ------------------------------------------------------------------------------------------------

    def _refers(self, row: ThreadRecord, readable: bool) -> None:
        """Whether the checkpoints that the row names are there."""
        own = row.origin.seq if row.origin is not None else 0
        if readable and row.head > own and row.head not in self._checkpoints:
            self._tell(f"its newest checkpoint, {row.head}, is missing")
        for name, seq in row.names.items():
            if seq not in self._checkpoints:
                self._tell(f"checkpoint {seq}, named {name!r}, is missing")

    def _image(self, readable: bool) -> None:
        try:
            image = self._store.image(self._id)
        except _DAMAGE as error:
            self._tell(str(error))
            return
        _check_messages(image, self._tell)
        if readable:
            _check_runs(image, self._tell)


def _check_messages(image: ThreadImage, tell: Callable[[str], None]) -> None:
    row, before = image.thread, 0
    for message in image.messages:
        if not before < message.number <= row.inbox:
            tell(f"message {message.number} ({message.message_id}) is not between {before} and {row.inbox}")
        if message.applied > row.seq:
            tell(f"message {message.number} was applied by commit {message.applied}; the last one is {row.seq}")
        before = message.number


def _check_runs(image: ThreadImage, tell: Callable[[str], None]) -> None:
    row = image.thread
    for run in image.runs:
        if run.run > row.runs:
            tell(f"run {run.run} is there; only {row.runs} were accepted")
        if run.end > row.seq:
            tell(f"run {run.run} ended at checkpoint {run.end}; the last commit is {row.seq}")
    if row.run > row.runs:
        tell(f"it is at run {row.run}; only {row.runs} were accepted")


def _lowest(high: int, holds: Callable[[int], bool]) -> int:
    """The lowest number for which `holds`, given that it does for `high` and for all between the two."""
    low = 1
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return high
