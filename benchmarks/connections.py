"""How many threads of one machine should reach Postgres: each process with connections of its own, or all through one
process (`python -m benchmarks.connections`).

Each thread commits in sync mode: the next commit starts when the one before is acknowledged.

- slots: every process has a store of its own; the machine's places cap their connections (`stores/node_slots.py`). The
  threads of one process are written in groups, as `runtime/writer.py` does it.
- gateway: a prototype that exists only here. One process has the connections; the others reach it over a Unix socket
  with msgpack-encoded commits, and it puts all those that arrive while a transaction is written into the next one.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue
from statistics import median
from typing import Annotated

import msgspec
import psutil
import typer
from rich.console import Console

from perdure.stores.base import CommitResult
from perdure.stores.errors import StoreError
from perdure.stores.operations import Commit, Committed
from perdure.stores.postgres import PostgresStore
from perdure.stores.records import ThreadRecord
from perdure.stores.sealing import Encoded
from perdure.stores.segment_codec import encode_segment
from perdure.stores.segments import Kind, Row
from tests.servers.postgres import PostgresServer

from .disk import sync_seconds
from .report import Line, Report, percentile

FORK = multiprocessing.get_context("fork")
CASES = ((1, 1), (4, 1), (4, 4), (16, 1), (16, 4), (16, 16), (48, 48), (64, 1), (64, 4), (64, 16))
"""(threads, processes)."""
TOKEN = "token"
PAYLOAD = os.urandom(200)
IN_FLIGHT = 2
"""Transactions that the gateway has under way at once: one is on its way to the disk while the next one is sent."""
LARGEST_GROUP = 200

Committer = Callable[[Commit], CommitResult]


class Request(msgspec.Struct, array_like=True):
    """What a client of the gateway sends."""

    commit: Commit
    data: bytes


class Answer(msgspec.Struct, array_like=True):
    """What it gets."""

    seq: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one case came to."""

    mode: str
    threads: int
    processes: int
    rate: float
    """Commits a second, of all threads."""
    p50: float
    p99: float
    """Milliseconds of a commit."""
    cpu: float
    """Microseconds of CPU a commit: workers and gateway."""
    server_cpu: float
    """Microseconds of CPU a commit: Postgres."""
    connections: int


def rows(seq: int) -> tuple[Row, ...]:
    return (
        Row(Kind.CHECKPOINT, seq, "", seq, 0, "", 0, PAYLOAD),
        Row(Kind.VALUE, seq, "n", seq, seq - 1, "node", 0, b"7"),
    )


def commit_of(name: str, seq: int) -> Commit:
    return Commit(
        thread_id=name,
        epoch=1,
        token=TOKEN,
        commit_id=os.urandom(16).hex(),
        first=seq,
        last=seq,
        rows=rows(seq),
        head=seq,
        progress=True,
        at=time.time(),
    )


# -- the gateway -----------------------------------------------------------------------------------------------------


class Gateway:
    """Takes commits from a Unix socket and writes those that are there together."""

    def __init__(self, url: str, path: str) -> None:
        self._store = PostgresStore(url)
        self._path = path
        self._waiting: list[tuple[Encoded, asyncio.Future[CommitResult]]] = []
        self._writing = 0
        self._pool = ThreadPoolExecutor(IN_FLIGHT)
        self._requests = msgspec.msgpack.Decoder(Request)

    async def run(self) -> None:
        server = await asyncio.start_unix_server(self._serve, self._path)
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (size,) = struct.unpack("<I", await reader.readexactly(4))
                request = self._requests.decode(await reader.readexactly(size))
                result: asyncio.Future[CommitResult] = asyncio.get_running_loop().create_future()
                self._waiting.append((Encoded(request.commit, request.data), result))
                self._pump()
                outcome = await result
                answer = Answer(outcome.seq) if isinstance(outcome, Committed) else Answer(0, str(outcome))
                encoded = msgspec.msgpack.encode(answer)
                writer.write(struct.pack("<I", len(encoded)) + encoded)

    def _pump(self) -> None:
        if self._waiting and self._writing < IN_FLIGHT:
            group, self._waiting = self._waiting[:LARGEST_GROUP], self._waiting[LARGEST_GROUP:]
            self._writing += 1
            loop = asyncio.get_running_loop()
            written = loop.run_in_executor(self._pool, self._store._commit, [encoded for encoded, _ in group])
            written.add_done_callback(lambda done: self._written([result for _, result in group], done))

    def _written(self, results: list[asyncio.Future[CommitResult]], done: asyncio.Future[list[CommitResult]]) -> None:
        self._writing -= 1
        error = done.exception()
        if error is not None:
            for result in results:
                result.set_exception(error)
        else:
            for result, outcome in zip(results, done.result(), strict=True):
                result.set_result(outcome)
        self._pump()


def serve(url: str, path: str) -> None:
    asyncio.run(Gateway(url, path).run())


def through_gateway(path: str) -> Committer:
    """A committer of one thread: a connection to the gateway."""
    with socket.socket(socket.AF_UNIX) as probe:
        while probe.connect_ex(path):
            time.sleep(0.01)
    wire = socket.socket(socket.AF_UNIX)
    wire.connect(path)
    stream = wire.makefile("rwb")
    answers = msgspec.msgpack.Decoder(Answer)

    def write(commit: Commit) -> CommitResult:
        # Encoded by the client, as it would have to be: compression is most of the work.
        data = encode_segment(commit.thread_id, commit.rows)
        request = msgspec.msgpack.encode(Request(replace(commit, rows=()), data))
        stream.write(struct.pack("<I", len(request)) + request)
        stream.flush()
        (size,) = struct.unpack("<I", stream.read(4))
        answer = answers.decode(stream.read(size))
        if answer.error:
            raise RuntimeError(answer.error)
        return Committed(seq=answer.seq, inbox=0)

    return write


class Grouped:
    """A thread that writes what its process's threads have ready in one transaction, while the next commits gather."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._ready: SimpleQueue[tuple[Commit, Future[CommitResult]]] = SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def commit(self, commit: Commit) -> CommitResult:
        result: Future[CommitResult] = Future()
        self._ready.put((commit, result))
        return result.result()

    def _run(self) -> None:
        while True:
            group = [self._ready.get()]
            with suppress(Empty):
                while len(group) < LARGEST_GROUP:
                    group.append(self._ready.get_nowait())
            try:
                outcomes = self._store.commit([each for each, _ in group])
            except StoreError as error:
                for _, waiting in group:
                    waiting.set_exception(error)
                continue
            for (_, waiting), outcome in zip(group, outcomes, strict=True):
                waiting.set_result(outcome)


# -- the workers -----------------------------------------------------------------------------------------------------


def work(url: str, gateway: str | None, names: list[str], seconds: float, answers: Connection) -> None:
    """A process: its threads commit until the time is over. Sends (latencies, CPU seconds)."""
    store = PostgresStore(url) if gateway is None else None
    grouped = Grouped(store) if store is not None else None
    answers.send(None)
    answers.recv()
    latencies: list[float] = []

    def run(name: str) -> None:
        if grouped is not None:
            write = grouped.commit
        else:
            assert gateway is not None
            write = through_gateway(gateway)
        own: list[float] = []
        seq, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            seq += 1
            commit = commit_of(name, seq)
            start = time.perf_counter()
            result = write(commit)
            own.append(time.perf_counter() - start)
            if not isinstance(result, Committed):
                raise result
        latencies.extend(own)

    cpu = time.process_time()
    threads = [threading.Thread(target=run, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.send((latencies, time.process_time() - cpu))
    # What the server's process for this connection used is read while there is one.
    answers.recv()
    if store is not None:
        store.close()


def measure(server: PostgresServer, mode: str, threads: int, processes: int, seconds: float) -> Taken:
    """One case in a database of its own."""
    url = server.database()
    names = [f"t{number}" for number in range(threads)]
    with PostgresStore(url) as store:
        for name in names:
            store.create(ThreadRecord(thread_id=name, graph="g", version="1"))
            store.claim(name, epoch=0, token=TOKEN, owner="owner")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/gateway" if mode == "gateway" else None
        gateway = FORK.Process(target=serve, args=(url, path), daemon=True) if path else None
        if gateway is not None:
            gateway.start()
        pipes = [FORK.Pipe() for _ in range(processes)]
        workers = [
            FORK.Process(target=work, args=(url, path, names[number::processes], seconds, theirs), daemon=True)
            for number, (_, theirs) in enumerate(pipes)
        ]
        for worker in workers:
            worker.start()
        ours = [pipe for pipe, _ in pipes]
        for pipe in ours:
            pipe.recv()
        gateway_cpu = -cpu_of(gateway.pid) if gateway is not None and gateway.pid else 0.0
        server_cpu, start = -family_cpu(server.pid), time.perf_counter()
        for pipe in ours:
            pipe.send(None)
        time.sleep(seconds / 2)
        connections = count_connections(server.pid)
        answers = [pipe.recv() for pipe in ours]
        elapsed = time.perf_counter() - start
        server_cpu += family_cpu(server.pid)
        gateway_cpu += cpu_of(gateway.pid) if gateway is not None and gateway.pid else 0.0
        for pipe in ours:
            pipe.send(None)
        for worker in workers:
            worker.join()
        if gateway is not None:
            gateway.terminate()
            gateway.join()
    latencies = [one for own, _ in answers for one in own]
    cpu = gateway_cpu + sum(used for _, used in answers)
    server.drop(url)
    return Taken(
        mode=mode,
        threads=threads,
        processes=processes,
        rate=len(latencies) / elapsed,
        p50=median(latencies) * 1e3,
        p99=percentile(latencies, 0.99) * 1e3,
        cpu=cpu / len(latencies) * 1e6,
        server_cpu=server_cpu / len(latencies) * 1e6,
        connections=connections,
    )


def cpu_of(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def family_cpu(pid: int) -> float:
    """CPU seconds of a process, its living children and those that ended."""
    times = psutil.Process(pid).cpu_times()
    total = float(times.user + times.system + times.children_user + times.children_system)
    for child in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess):
            total += cpu_of(child.pid)
    return total


def count_connections(pid: int) -> int:
    """Postgres' processes that serve a client of ours."""
    found = 0
    for child in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess):
            found += "127.0.0.1(" in " ".join(child.cmdline())
    return found


def main(
    seconds: Annotated[float, typer.Option(help="How long each case writes.")] = 3.0,
    rounds: Annotated[int, typer.Option(help="Rounds; the median one, by its rate, is shown.")] = 3,
    most: Annotated[int, typer.Option(help="Leave out cases with more threads.")] = 64,
) -> None:
    """Compare connections of one's own, capped on the machine, with a gateway that groups commits."""
    report = Report(Console())
    cases = [case for case in CASES if case[0] <= most]
    taken: dict[tuple[str, int, int], list[Taken]] = {}
    with PostgresServer() as server, tempfile.TemporaryDirectory() as folder:
        sync = sync_seconds(Path(folder))
        for _ in range(rounds):
            for threads, processes in cases:
                for mode in ("slots", "gateway"):
                    one = measure(server, mode, threads, processes, seconds)
                    taken.setdefault((mode, threads, processes), []).append(one)
    lines: list[Line] = []
    for threads, processes in cases:
        shown = {mode: middle(taken[mode, threads, processes]) for mode in ("slots", "gateway")}
        gain = shown["gateway"].rate / shown["slots"].rate
        for mode, one in shown.items():
            note = (
                f"p50 {one.p50:.2f} ms, p99 {one.p99:.2f} ms; CPU {one.cpu:.0f} + server {one.server_cpu:.0f} µs a "
                f"commit; {one.connections} connections"
            )
            what = f"{threads} threads in {processes} processes: {mode}"
            lines.append(Line(what, f"{one.rate:,.0f}/s", f"{note}; {gain:.2f}x" if mode == "gateway" else note))
    lines.append(Line("one fdatasync of the disk", f"{sync * 1e6:,.0f} µs"))
    data = {"cases": [asdict(one) for each in taken.values() for one in each], "fdatasync": sync}
    report.add("connections", f"commits in sync mode on Postgres, {seconds:g} s each, {rounds} rounds", lines, data)
    report.console.print(f"written to {report.write()}")


def middle(rounds: list[Taken]) -> Taken:
    return sorted(rounds, key=lambda one: one.rate)[len(rounds) // 2]


if __name__ == "__main__":
    typer.run(main)
