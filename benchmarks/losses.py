"""What it takes to go on after the loss of a supervisor, of a whole cluster, or of a node."""

from __future__ import annotations

import importlib
import signal
import time
from pathlib import Path
from statistics import median
from typing import Any

from perdure import Client, HeadOptions, Status, connect
from perdure.cluster.head import running_head, stop_head
from perdure.stores.processes import family, wait_gone
from tests.actors.services import end, eventually
from tests.nodes.machines import HEAD, QUICK, Machines, apart
from tests.nodes.placing import nodes_of

from .backends import Backend
from .cluster import Bench
from .holdings import supervisor, until
from .report import Line, Report, percentile

TIMEOUT = 300.0
ENDLESS = 1_000_000_000


def run(bench: Bench, report: Report, backend: Backend, *, kills: int, threads: int, nodes: int) -> None:
    """Supervisors and the cluster on the local head, then nodes of a cluster of several."""
    graph = importlib.import_module(".losses_graph", __package__).graph
    supervisors = _supervisors(bench, graph, backend.fresh(), kills)
    restart = _restart(bench, graph, backend.fresh(), threads)
    lost = _nodes(bench, graph, backend.fresh(), nodes)
    period, failures = QUICK["health_check_period_ms"], QUICK["health_check_failure_threshold"]
    lines = [
        Line("supervisor killed, to a new thread running, p50", f"{median(supervisors):.2f} s", f"{kills} kills"),
        Line("  slowest", f"{max(supervisors):.2f} s"),
        Line("cluster killed, to connect() returning", f"{restart['connected']:.2f} s", "a new head is started"),
        Line("  to the first thread running", f"{restart['first']:.2f} s"),
        Line("  to half of them running", f"{restart['half']:.2f} s"),
        Line("  to all of them at their end", f"{restart['all']:.2f} s", f"{restart['unfinished']:.0f} unfinished"),
        Line(
            "node killed, to its threads running, p50",
            f"{median(lost):.2f} s",
            f"{len(lost)} threads of {nodes} nodes; Ray gives a node up after {failures} looks, {period} ms apart",
        ),
        Line("  slowest", f"{max(lost):.2f} s", f"p90 {percentile(lost, 0.9):.2f} s"),
    ]
    title = f"losses, {backend.title}"
    report.add(f"losses-{backend.name}", title, lines, {"supervisor": supervisors, "restart": restart, "node": lost})


def _given(bench: Bench, number: int, steps: int) -> dict[str, Any]:
    return {"report": bench.marks.path, "number": number, "steps": steps}


def _supervisors(bench: Bench, graph: Any, url: str, kills: int) -> list[float]:
    """Seconds from each death until a thread that was submitted right after it runs."""
    with bench.connect(url) as client:
        client.submit(graph, _given(bench, 0, 1)).result(timeout=TIMEOUT)
        found = []
        for number in range(kills):
            process = supervisor(client)
            bench.marks.drain()
            began = time.monotonic_ns()
            process.send(signal.SIGKILL)
            thread = client.submit(graph, _given(bench, number, 1))
            found.append((bench.marks.next(TIMEOUT).at - began) / 1e9)
            thread.result(timeout=TIMEOUT)
    return found


def _restart(bench: Bench, graph: Any, url: str, threads: int) -> dict[str, float]:
    """Seconds from the death of all of the head's processes."""
    with bench.connect(url) as client:
        for number in range(threads):
            client.submit(graph, _given(bench, number, 10), thread_id=f"t{number}")
        unfinished = sum(record.status is not Status.SUCCEEDED for record in client.threads())
        head = running_head(bench.head.folder)
        assert head is not None
        processes = family(head.process)
        began = time.monotonic_ns()
        for process in processes:
            process.send(signal.SIGKILL)
        wait_gone(processes, 30)
    stop_head(folder=bench.head.folder)
    bench.marks.drain()
    with bench.connect(url) as client:
        connected = time.monotonic_ns()
        seen: dict[int, int] = {}
        while len(seen) < unfinished and not _all_ended(client):
            for mark in bench.marks.drain():
                seen.setdefault(mark.number, mark.at)
            time.sleep(0.005)
        until(lambda: bench.marks.drain() is not None and _all_ended(client), "not all threads ended", TIMEOUT)
        ended = time.monotonic_ns()
    order = sorted(seen.values())
    points = {"connected": connected, "first": order[0], "half": order[len(order) // 2], "all": ended}
    return {"unfinished": unfinished, **{name: (at - began) / 1e9 for name, at in points.items()}}


def _all_ended(client: Client) -> bool:
    return not any(True for _ in client.threads(status=[Status.QUEUED, Status.RUNNING], limit=1))


def _nodes(bench: Bench, graph: Any, url: str, nodes: int) -> list[float]:
    """Seconds from each death of a node, for each of its threads, until that runs elsewhere."""
    found: list[float] = []
    with apart(HeadOptions(folder=Path(bench.folder, "head"))), Machines() as machines:
        for _ in range(nodes):
            machines.add("a")
            # A service of its own each time: the last one's actors, idle by now, would take all threads.
            with connect(url, address=machines.address, shared_path=url.startswith("sqlite:")) as client:
                found += _node(bench, graph, client, machines)
                machines.forget("a")
                end(client)
    return found


def _node(bench: Bench, graph: Any, client: Client, machines: Machines) -> list[float]:
    threads = {number: client.submit(graph, _given(bench, number, ENDLESS)) for number in range(4)}

    def there() -> set[int]:
        bench.marks.drain()
        where = nodes_of(client, machines)
        return {number for number, thread in threads.items() if where.get(thread.info.owner) == "a"}

    struck = eventually(there, TIMEOUT, "a thread on the node")
    began = time.monotonic_ns()
    machines.raylet("a").send(signal.SIGKILL)
    pids = {number: {mark.pid for mark in bench.marks.drain() if mark.number == number} for number in struck}
    seen: dict[int, int] = {}
    while seen.keys() != struck:
        mark = bench.marks.next(TIMEOUT)
        if mark.number in struck and threads[mark.number].info.epoch > 1 and mark.pid not in pids[mark.number]:
            seen.setdefault(mark.number, mark.at)
    for thread in threads.values():
        thread.cancel()
    eventually(lambda: bench.marks.drain() is not None and _all_ended(client), TIMEOUT, "the cancels")
    assert HEAD in machines.names().values()
    return [(at - began) / 1e9 for at in seen.values()]
