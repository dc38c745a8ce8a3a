"""What must hold of a thread's history and log, whatever happened to its owners."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from perdure.runtime.control import decode_control
from perdure.stores.base import CheckpointStore
from perdure.stores.records import Segment
from perdure.stores.segments import Kind
from tests.recovery.faults import Entry


def check_history(store: CheckpointStore, thread_id: str) -> list[Segment]:
    """V3: gapless numbers, rising epochs, and (nobody forked) parents in one line. Returns the segments in order."""
    segments = store.segments(thread_id)[::-1]
    row = store.thread(thread_id)
    assert segments[0].first == 1
    assert segments[-1].last == row.seq
    for before, after in pairwise(segments):
        assert after.first == before.last + 1
        assert after.epoch >= before.epoch
    assert segments[-1].epoch <= row.epoch
    parent = 0
    for segment in segments:
        for one in segment.rows:
            assert segment.first <= one.checkpoint <= segment.last
            if one.kind == Kind.CHECKPOINT:
                control = decode_control(one.payload, thread_id)
                assert control.parent == parent, f"checkpoint {one.checkpoint} does not follow the one before it"
                parent = one.checkpoint
    assert parent == row.head
    return segments


def durable_tasks(thread_id: str, segments: Iterable[Segment]) -> dict[str, int]:
    """For each task whose result is in the store: the epoch of the owner that committed it first."""
    found: dict[str, int] = {}
    for segment in segments:
        for row in segment.rows:
            if row.kind == Kind.RESULT:
                found.setdefault(f"{thread_id}\n{row.version}\n{row.channel}", segment.epoch)
            elif row.kind == Kind.CHECKPOINT:
                control = decode_control(row.payload, thread_id)
                if control.source == "loop":
                    for path, _ in control.done:
                        found.setdefault(f"{thread_id}\n{control.parent}\n{path}", segment.epoch)
    return found


def check_attempts(thread_id: str, segments: Iterable[Segment], log: Iterable[Entry]) -> Counter[str]:
    """V2: no owner launched a task whose result an owner before it had committed; nor, but for questions that were
    answered, a task twice. Every task that is in the store was run. Returns how often each node's attempts began."""
    durable = durable_tasks(thread_id, segments)
    epochs: dict[int, int] = {}
    launched: Counter[str] = Counter()
    started: Counter[str] = Counter()
    for entry in log:
        if "claimed" in entry:
            epochs[entry["pid"]] = entry["claimed"]
        elif "launch" in entry:
            task = entry["launch"]
            launched[task] += 1
            assert durable.get(task, 1 << 62) >= epochs[entry["pid"]], f"{task!r} was durable and was run again"
        elif "start" in entry:
            started[entry["start"]] += 1
    assert durable.keys() <= started.keys()
    for task, times in started.items():
        assert times <= launched[task], f"{task!r} began {times} times, launched {launched[task]} times"
    return started
