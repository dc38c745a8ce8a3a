"""The judge: what must hold of every thread when the chaos is over, promise by promise (docs/guarantees.md).

Each check raises `Broken`, or returns how many things it looked at. It believes the raw database and the logs, and
holds what the store says of itself against them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from perdure.runtime.calls import CallKind, decode_call
from perdure.runtime.control import Control, decode_control
from perdure.runtime.payloads import CANCEL, WAKE
from perdure.stores.records import SIGNAL, UNDELIVERED, Status
from perdure.stores.segments import Kind
from tests.chaos.evidence import Evidence
from tests.chaos.graphs import expected, graph
from tests.chaos.raw import NUMBERS, TEXTS

REPEATED = frozenset({"flaky"})
"""Nodes that a retry policy starts again within one launch."""


class Broken(AssertionError):
    """A promise was broken."""

    def __init__(self, promise: str, thread_id: str, what: object) -> None:
        super().__init__(f"{promise}, thread {thread_id!r}: {what}")
        self.promise = promise


def require(holds: object, promise: str, one: Evidence, what: object) -> None:
    """Raise `Broken` unless it holds. `what` is shown as text."""
    if not holds:
        raise Broken(promise, one.thread_id, what)


# -- V1 ----------------------------------------------------------------------------------------------------------------


def accepted_runs(one: Evidence) -> int:
    """Every run that was accepted is there, began if its message says so, and has ended."""
    runs = {run.run: run for run in one.runs}
    for message, name, _ in one.inputs:
        run = runs.get(message.run)
        require(run is not None, "V1", one, f"run {message.run} of input {name} is gone; there are {sorted(runs)}")
        assert run is not None
        require(run.status.ended, "V1", one, f"run {message.run} of input {name} is {run.status}")
    require(len(one.inputs) == len(one.runs), "V1", one, f"{len(one.inputs)} inputs and {len(one.runs)} runs")
    return len(one.inputs)


# -- V2 ----------------------------------------------------------------------------------------------------------------


def one_result_a_task(one: Evidence) -> int:
    """No task has two committed results."""
    results = Counter(
        (row.version, row.channel) for segment in one.segments for row in segment.rows if row.kind == Kind.RESULT
    )
    twice = [task for task, times in results.items() if times > 1]
    require(not twice, "V2", one, f"tasks with two results: {twice}")
    return len(results)


def no_durable_task_again(one: Evidence) -> int:
    """No owner launched a task whose result one before it had committed; none began that was not launched."""
    durable, names = _durable_tasks(one)
    epochs: dict[int, int] = {}
    launched: Counter[str] = Counter()
    started: Counter[str] = Counter()
    for entry in one.log:
        if "claimed" in entry:
            epochs[entry["pid"]] = entry["claimed"]
        elif "launch" in entry:
            task = names(entry["launch"])
            launched[task] += 1
            by = durable.get(task, 1 << 62)
            require(by >= epochs[entry["pid"]], "V2", one, f"{task!r} was durable and was run again")
        elif "start" in entry:
            started[names(entry["start"])] += 1
    require(durable.keys() <= started.keys(), "V2", one, f"never run: {durable.keys() - started.keys()}")
    for task, times in started.items():
        again = task.rpartition("\n")[2].partition("#")[0] in REPEATED
        require(again or times <= launched[task], "V2", one, f"{task!r} began {times} times, launched {launched[task]}")
    return sum(started.values())


def _durable_tasks(one: Evidence) -> tuple[dict[str, int], Callable[[str], str]]:
    """For each task whose result is in the store: the epoch of the owner that committed it first. And what a task is
    called here: it keeps its name over updates that came while it ran, though each made a checkpoint.

    A checkpoint that stands for several steps tells only of the last of them, under a number that its tasks did not
    know: left out.
    """
    found: dict[str, int] = {}
    controls: dict[int, Control] = {}
    origins: dict[int, int] = {}

    def name(task: str) -> str:
        thread_id, head, path = task.split("\n")
        return f"{thread_id}\n{origins.get(int(head), int(head))}\n{path}"

    for segment in one.segments:
        for row in segment.rows:
            if row.kind == Kind.RESULT:
                found.setdefault(name(f"{one.thread_id}\n{row.version}\n{row.channel}"), segment.epoch)
            elif row.kind == Kind.CHECKPOINT:
                control = decode_control(row.payload, one.thread_id)
                before = controls.get(control.parent)
                controls[row.checkpoint] = control
                if control.source == "update" and before is not None and control.next == before.next:
                    origins[row.checkpoint] = origins.get(control.parent, control.parent)
                if control.source == "loop" and before is not None and control.step == before.step + 1:
                    for path, _ in control.done:
                        found.setdefault(name(f"{one.thread_id}\n{control.parent}\n{path}"), segment.epoch)
    return found, name


def readers_agree(one: Evidence) -> int:
    """What a reader was shown while it happened is what the history shows now."""
    for checkpoint, values in one.seen:
        require(checkpoint in one.states, "V2", one, f"checkpoint {checkpoint} was seen and is gone")
        now = one.states[checkpoint]
        require(values == now, "V2", one, f"checkpoint {checkpoint} was seen as {values} and is now {now}")
    return len(one.seen)


# -- V3 ----------------------------------------------------------------------------------------------------------------


def one_writer(one: Evidence) -> int:
    """Seq rises by one, the epoch never falls; each epoch was one process's; what was acknowledged is there."""
    kept = one.raw.segments
    origin = one.row.origin.seq if one.row.origin else 0
    require(kept and kept[0][0] == origin + 1, "V3", one, f"the history begins with {kept[:1]}")
    for before, after in pairwise(kept):
        require(after[0] == before[1] + 1, "V3", one, f"commit {after[0]} follows {before[1]}")
        require(after[2] >= before[2], "V3", one, f"epoch {after[2]} follows {before[2]}")
    require(
        kept[-1][1] == one.raw.row["seq"], "V3", one, f"the row says seq {one.raw.row['seq']}, the history {kept[-1]}"
    )
    require(kept[-1][2] <= one.raw.row["epoch"], "V3", one, f"the row says epoch {one.raw.row['epoch']}, {kept[-1]}")
    owners: dict[int, tuple[int, int]] = {}
    for entry in one.log:
        if "claimed" in entry:
            process = (entry["pid"], entry["started"])
            first = owners.setdefault(entry["claimed"], process)
            require(first == process, "V3", one, f"epoch {entry['claimed']} was {first}'s and {process}'s")
        elif "committed" in entry:
            first_seq, last, commit_id = entry["committed"]
            holds = [seg for seg in kept if seg[0] <= first_seq and last <= seg[1]]
            require(holds, "V3", one, f"commit {first_seq}..{last} was acknowledged and is lost")
            same = (holds[0][0], holds[0][1]) == (first_seq, last)
            require(not same or holds[0][3] == commit_id, "V3", one, f"{holds[0]} is not {commit_id}")
    return len(kept)


def parents(one: Evidence) -> int:
    """Every checkpoint was made from the one before it: nobody forked within the thread."""
    head = one.row.origin.seq if one.row.origin else 0
    count = 0
    for segment in one.segments:
        for row in segment.rows:
            if row.kind == Kind.CHECKPOINT:
                control = decode_control(row.payload, one.thread_id)
                require(
                    control.parent == head, "V3", one, f"{row.checkpoint} was made from {control.parent}, not {head}"
                )
                head, count = row.checkpoint, count + 1
    require(head == one.raw.row["head"], "V3", one, f"the head is {one.raw.row['head']}, the last made {head}")
    return count


def store_agrees(one: Evidence) -> int:
    """What the store says is what its database has."""
    row = {name: getattr(one.row, name) for name in (*NUMBERS, *TEXTS)}
    require(row == one.raw.row, "V3", one, f"the store says {row}, its database {one.raw.row}")
    segments = [(each.first, each.last, each.epoch, each.commit_id) for each in one.segments]
    require(segments == one.raw.segments, "V3", one, f"the store says {segments}, its database {one.raw.segments}")
    messages = [(each.number, each.message_id, each.kind, each.name, each.applied) for each in one.messages]
    require(messages == one.raw.messages, "V4", one, f"the store says {messages}, its database {one.raw.messages}")
    runs = [(run.run, str(run.status), run.end) for run in one.runs]
    require(runs == one.raw.runs, "V1", one, f"the store says {runs}, its database {one.raw.runs}")
    return 1 + len(segments) + len(messages) + len(runs)


# -- V4 ----------------------------------------------------------------------------------------------------------------


def messages_once(one: Evidence) -> int:
    """What was acknowledged is there under its number; everything was applied once, in order, or a cancel left it."""
    kept = one.raw.messages
    require([number for number, *_ in kept] == list(range(1, len(kept) + 1)), "V4", one, f"numbers: {kept}")
    require(len(kept) == one.raw.row["inbox"], "V4", one, f"{len(kept)} messages, inbox {one.raw.row['inbox']}")
    numbers = {message_id: number for number, message_id, *_ in kept}
    require(len(numbers) == len(kept), "V4", one, f"a message is there twice: {kept}")
    lost = {each: number for each, number in one.acked.items() if numbers.get(each) != number}
    require(not lost, "V4", one, f"acknowledged, and not there: {lost}")
    newest: dict[tuple[str, str], int] = defaultdict(int)
    cancelled = max((applied for _, _, kind, _, applied in kept if kind == CANCEL), default=0)
    for number, _, kind, name, applied in kept:
        require(applied, "V4", one, f"{kind} {number} was never read")
        left = applied != UNDELIVERED or cancelled or kind == SIGNAL
        require(left, "V4", one, f"{kind} {number} was dropped without a cancel")
        require(applied <= one.raw.row["seq"], "V4", one, f"{kind} {number} was applied at {applied}")
        if applied > 0:
            require(applied >= newest[kind, name], "V4", one, f"{kind} {name} {number} was overtaken")
            newest[kind, name] = applied
    return len(kept)


def updates_heard(one: Evidence) -> int:
    """The state has each update that was applied, once, in the order of the inbox."""
    applied = [text for message, text in one.said if message.applied > 0]
    heard = one.values.get("heard", [])
    require(heard == applied, "V4", one, f"it heard {heard} and was told {applied}")
    return len(applied)


def calls_once(one: Evidence) -> int:
    """A recorded call has one value, and a signal was recorded by the commit that consumed it."""
    known: dict[tuple[str, int], tuple[str, Any]] = {}
    places = {message.applied for message in one.messages if message.kind == SIGNAL}
    _, name = _durable_tasks(one)
    for segment in one.segments:
        for row in segment.rows:
            if row.kind != Kind.CALL:
                continue
            index, call = decode_call(graph.codec.decode(row.encoding, row.payload))
            task = name(f"{one.thread_id}\n{row.version}\n{row.channel}")
            first = (task, index) not in known
            value = known.setdefault((task, index), (call.kind.value, call.value))
            require(
                value == (call.kind.value, call.value), "V2", one, f"call {index} of {task!r} was {value}, is {call}"
            )
            if first and call.kind is CallKind.SIGNAL:
                require(
                    row.checkpoint in places, "V4", one, f"{call} was recorded at {row.checkpoint}, not in {places}"
                )
    return len(known)


# -- V5 ----------------------------------------------------------------------------------------------------------------


def at_rest(one: Evidence) -> int:
    """It has ended, and nobody owns it."""
    row = one.raw.row
    wanted = ("cancelled" if any(kind == CANCEL for _, _, kind, *_ in one.raw.messages) else "succeeded", "", "")
    require((row["status"], row["owner"], row["token"]) == wanted, "V5", one, f"{row}")
    return 1


# -- V6 ----------------------------------------------------------------------------------------------------------------


def final_state(one: Evidence) -> int:
    """The state is that of a run without faults; of one that was cancelled, what it is on the way there."""
    began = [(run, script) for message, run, script in one.inputs if message.applied > 0]
    trail, total = expected(began, one.signals)
    found = one.values.get("trail", [])
    if one.row.status is Status.CANCELLED:
        require(found == trail[: len(found)], "V6", one, f"{found} is not on the way to {trail}")
        return len(found)
    require(found == trail, "V6", one, f"the trail is {found}, without faults {trail}")
    require(one.values.get("total", 0) == total, "V6", one, f"the total is {one.values.get('total')}, not {total}")
    return len(found)


# -- V7 ----------------------------------------------------------------------------------------------------------------


def keys_of_effects(one: Evidence) -> int:
    """Every attempt of an effect has the same key, no two effects have one; what is kept is what the sink gave."""
    keys: dict[str, set[str]] = defaultdict(set)
    receipts: dict[str, set[str]] = defaultdict(set)
    for entry in one.log:
        if "effect" in entry:
            keys[entry["effect"]].add(entry["key"])
            receipts[entry["effect"]].add(entry.get("receipt", ""))
    several = {effect: found for effect, found in keys.items() if len(found) > 1}
    require(not several, "V7", one, f"effects with several keys: {several}")
    owners = Counter(key for found in keys.values() for key in found)
    shared = [key for key, times in owners.items() if times > 1]
    require(not shared, "V7", one, f"keys of several effects: {shared} of {dict(keys)}")
    kept = one.values.get("receipts", [])
    for line in kept:
        effect, _, receipt = line.rpartition(" ")
        require(receipt in receipts[effect], "V2", one, f"{line!r} is none of {receipts[effect]}")
    twice = [effect for effect, times in Counter(line.rpartition(" ")[0] for line in kept).items() if times > 1]
    require(not twice, "V2", one, f"kept twice: {twice}")
    return len(keys)


def sleeps(one: Evidence) -> int:
    """No timer is left."""
    require(one.raw.row["wake_at"] == 0, "V8", one, f"it has ended, and is to be woken at {one.raw.row['wake_at']}")
    return sum(kind == WAKE for _, _, kind, *_ in one.raw.messages)


Check = Callable[[Evidence], int]

CHECKS: Mapping[str, Check] = {
    "V1 accepted runs are there and have ended": accepted_runs,
    "V2 one committed result per task": one_result_a_task,
    "V2 attempts, none of a durable task": no_durable_task_again,
    "V2 states shown to readers stayed the same": readers_agree,
    "V3 commits: seq by one, epochs never fall": one_writer,
    "V3 checkpoints, each made from the one before": parents,
    "V3 records that the database has as the store says": store_agrees,
    "V4 messages applied once, in order": messages_once,
    "V4 updates heard": updates_heard,
    "V2 recorded calls, each with one value": calls_once,
    "V5 threads ended and owned by nobody": at_rest,
    "V6 lines of final states as without faults": final_state,
    "V7 effects, each with one key for all attempts": keys_of_effects,
    "V8 wake-ups, and no timer left": sleeps,
}


def check_all(one: Evidence) -> dict[str, int]:
    """Every check of one thread. Raises `Broken`."""
    return {name: check(one) for name, check in CHECKS.items()}


def describe(one: Evidence) -> Any:
    """For people: all of a thread, in short."""
    log = "\n".join(map(str, one.log[-40:]))
    return f"{one.row}\nsegments {one.raw.segments}\nmessages {one.raw.messages}\nvalues {one.values}\n{log}"
