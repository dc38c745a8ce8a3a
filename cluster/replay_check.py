"""Would another version of a graph go the way that recorded threads went? Run again with what they recorded, on copies.

Nothing is written to the threads' store: each thread is copied into a store in memory, and runs there, in this process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..runtime.compiled import CompiledGraph
from ..runtime.errors import InputError
from ..stores.base import CheckpointStore
from ..stores.copying import StoreSource, copy_store
from ..stores.errors import UnknownThread
from ..stores.memory import MemoryStore
from ..stores.records import IN_PROCESS, SERVICE, ThreadRecord
from .choosing import Choice, Where, chosen, led_to_head
from .replay_pair import Divergence, Pair
from .replay_run import Replayer, Stand, Way


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What came of one thread."""

    thread_id: str
    steps: int = 0
    """Supersteps that ran again."""
    divergence: Divergence | None = None
    skipped: str = ""
    """Why there was nothing to run again."""


def replay_check(
    store: CheckpointStore,
    graph: CompiledGraph,
    where: Where | None = None,
    *,
    limit: int | None = None,
    sample: int | float | None = None,
    states: bool = True,
) -> Iterator[Checked]:
    """Run `graph` over the threads of its name that `where`, `sample` and `limit` choose (as in `client.rerun`), one
    at a time, and say of each where it diverges. `states`: whether a state with other values counts.

    A node may raise anything; that is a divergence, unless the thread had failed there too. Raises `InputError`,
    `UnknownThread`, `StoreUnavailable`, `Corrupt`, `NewerFormat`.
    """
    choice = Choice.of(where, graph=graph.name)
    if choice.graph != graph.name:
        raise InputError(f"where names graph {choice.graph!r}, but {graph.name!r} is to be checked; leave it out")
    with Replayer(graph) as replayer:
        for record in chosen(store, choice, limit=limit, sample=sample, seed=graph.name):
            copies = MemoryStore()
            for _ in copy_store(_Only(store, _line(store, record)), copies):
                continue
            yield _checked(replayer, copies, record, states)


class _Only(StoreSource):
    """Some threads of a store, without their code, and under no retention."""

    def __init__(self, store: CheckpointStore, rows: Sequence[ThreadRecord]) -> None:
        super().__init__(store)
        self._rows = rows
        self.graph_keys = lambda: ()
        self.setting = lambda name: None

    def rows(self) -> Iterator[ThreadRecord]:
        yield from self._rows


def _line(store: CheckpointStore, record: ThreadRecord) -> list[ThreadRecord]:
    """A thread, and all that it has its history or its records from: those after those that need them."""
    found = {record.thread_id: record}
    todo = [record]
    while todo:
        row = todo.pop()
        for origin in (row.origin, row.replays):
            if origin is None or origin.thread_id in found:
                continue
            try:
                above = store.thread(origin.thread_id)
            except UnknownThread:
                continue  # what it recorded has gone with it
            found[above.thread_id] = above
            todo.append(above)
    return list(found.values())


def _checked(replayer: Replayer, copies: CheckpointStore, chosen_record: ThreadRecord, states: bool) -> Checked:
    thread_id = chosen_record.thread_id
    if chosen_record.driver not in (SERVICE, IN_PROCESS):
        return Checked(thread_id=thread_id, skipped=f"its driver is {chosen_record.driver!r}")
    try:
        record = copies.thread(thread_id)
    except UnknownThread:
        return Checked(thread_id=thread_id, skipped="it was deleted meanwhile")
    stands = _newest_run(copies, record)
    if not stands:
        return Checked(thread_id=thread_id, skipped="its newest run has no checkpoint of its own to go on from")
    old = Way(record, _by_place(stands))
    again = replayer.run(copies, old)
    row = copies.thread(again.thread_id)
    new = Way(row, _by_place(Stand(*one) for one in led_to_head(copies, row) if one[0] >= old.start.seq))
    found = Pair(copies, old, new).divergence(again, states)
    return Checked(thread_id=thread_id, steps=new.last - old.first, divergence=found)


def _newest_run(store: CheckpointStore, record: ThreadRecord) -> list[Stand]:
    """The checkpoints of the newest run, oldest first, from the last on that was made from outside: a re-run does not
    repeat updates. Empty where nothing was to run after it."""
    way: list[Stand] = []
    for seq, control in led_to_head(store, record):
        inherited = record.origin is not None and seq <= record.origin.seq
        if control.run != record.run or inherited:
            break
        if control.source != "loop":
            if control.next:
                return [Stand(seq, control), *reversed(way)]
            way = []  # an update at the end of the run, which left nothing to run: what came before it counts
            continue
        way.append(Stand(seq, control))
    return list(reversed(way)) if way and way[-1].control.next else []


def _by_place(stands: Iterable[Stand]) -> dict[int, Stand]:
    found: dict[int, Stand] = {}
    for stand in stands:
        known = found.get(stand.control.place)
        if known is None or known.seq < stand.seq:
            found[stand.control.place] = stand
    return found
