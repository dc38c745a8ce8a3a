"""Load on a store, in several processes, while a test does things to its server."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from perdure.runtime.ports import LoopLimits
from perdure.stores.base import CheckpointStore
from perdure.stores.urls import open_store
from tests.faults.acks import AckLog, Acknowledged, AcknowledgingStore
from tests.faults.graphs_load import SPRINT, sprint_graph, talk, talk_expected, talk_input
from tests.faults.judge import judge_thread
from tests.faults.owners import Slot, no_partition, serve
from tests.faults.senders import PATIENCE, Talker
from tests.forks import FORKS

SLOTS = (
    (Slot("talk", "sync", "a sync"), Slot("talk", "async", "a async"), Slot("sprint", "async", "a sprint")),
    (Slot("talk", "sync", "b sync"), Slot("talk", "async", "b async"), Slot("talk", "exit", "b exit")),
)
"""Of two processes."""


@dataclass(slots=True)
class Load:
    """Owners in processes of their own, clients in this one."""

    store: CheckpointStore
    log: Path
    processes: Sequence[multiprocessing.process.BaseProcess]

    def commits(self, of: Callable[[str], bool] = lambda thread_id: True) -> int:
        """How many commits were acknowledged so far."""
        return sum(of(thread_id) for _, thread_id in Acknowledged.of(self.log).commit_times)

    def until_more(self, commits: int, of: Callable[[str], bool] = lambda thread_id: True) -> None:
        """Return when so many further commits were acknowledged."""
        aim = self.commits(of) + commits
        deadline = time.monotonic() + PATIENCE
        while self.commits(of) < aim:
            self.check()
            assert time.monotonic() < deadline, f"no progress: {Acknowledged.of(self.log).others['retried'][-6:]}"
            time.sleep(0.1)

    def check(self) -> None:
        """Raise if an owner has ended."""
        others = Acknowledged.of(self.log).others
        assert not others["broken"], others["broken"]
        assert all(process.is_alive() for process in self.processes)


@contextmanager
def load(
    url: str,
    folder: Path,
    *,
    slots: Sequence[Sequence[Slot]] = SLOTS,
    talkers: int = 2,
    partition_of: Callable[[str], int] = no_partition,
) -> Iterator[Load]:
    """Run it for the block; then every thread is brought to its end and judged. If the block fails all ends at once."""
    log_path, stop = folder / "acks", folder / "stop"
    with ExitStack() as stack:
        log = stack.enter_context(AckLog(log_path))
        store = stack.enter_context(open_store(url))
        processes = [FORKS.Process(target=serve, args=(url, log_path, stop, each, partition_of)) for each in slots]
        stack.callback(_end, processes)
        clients = [Talker(AcknowledgingStore(store, log), talk, number) for number in range(talkers)]
        for process in processes:
            process.start()
        for client in clients:
            client.start()
        try:
            found = Load(store, log_path, processes)
            found.until_more(20)
            yield found
        except BaseException:
            for client in clients:
                client.give_up()
            raise
        stop.touch()
        for client in clients:
            client.end()
        for process in processes:
            process.join(PATIENCE)
            assert process.exitcode == 0, (process.exitcode, Acknowledged.of(log_path).others["broken"])
        judge(store, Acknowledged.of(log_path), clients)


def judge(store: CheckpointStore, acked: Acknowledged, clients: Sequence[Talker]) -> None:
    """All threads, and how far they ran ahead."""
    sprint = sprint_graph(None, lambda thread_id, n: None)
    expected = {"talk": talk_expected(talk_input()), "sprint": {"until": SPRINT, "n": SPRINT}}
    assert acked.created
    assert all(client.said for client in clients)
    for thread_id in acked.created:
        kind = store.thread(thread_id).graph
        judge_thread(store, talk if kind == "talk" else sprint, thread_id, acked, expected[kind])
    for (peak,) in acked.others["peak"]:
        # The commit that waits for room, and the step that runs.
        assert peak <= LoopLimits().ahead_commits + 2


def _end(processes: Sequence[multiprocessing.process.BaseProcess]) -> None:
    for process in processes:
        if process.pid is not None:
            process.kill()
            process.join()


@dataclass(frozen=True, slots=True)
class Outage:
    """When a server was away, in monotonic seconds."""

    gone: float
    starting: float
    """From here on it may answer."""
    back: float


def figures(acked: Acknowledged, outages: Sequence[Outage]) -> str:
    """For people."""
    stalls = [0.0]
    ends = [outage.gone for outage in outages[1:]] + [float("inf")]
    for slot in {_slot_of(thread_id) for thread_id in acked.created}:
        times = [at for at, thread_id in acked.commit_times if _slot_of(thread_id) == slot]
        for outage, end in zip(outages, ends, strict=True):
            stalls += [at - outage.back for at in times if outage.back < at < end][:1]
    said = sum(map(len, acked.messages.values()))
    return (
        f"{len(outages)} outages, {len(acked.created)} threads, {len(acked.commit_times)} commits, {said} messages "
        f"acknowledged; the server was back for at most {max(stalls):.2f} s before a thread committed again; "
        f"ahead of the store: at most {max(peak for (peak,) in acked.others['peak'])} commits"
    )


def _slot_of(thread_id: str) -> str:
    return " ".join(thread_id.split()[:2])
