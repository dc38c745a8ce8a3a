"""A local head of the benchmarks' own, in a temporary folder."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure import Client, CompiledGraph, HeadOptions, ThreadHandle, connect
from perdure.cluster.head import stop_head

from .marks import Mark, Marks, marks

RUN_TIMEOUT = 600.0


@dataclass(frozen=True, slots=True)
class Bench:
    """Where benchmarks run."""

    folder: Path
    head: HeadOptions
    marks: Marks

    def connect(self, url: str, **options: Any) -> Client:
        """A client of a service with this store."""
        return connect(url, head=self.head, **options)

    def run(
        self, client: Client, graph: CompiledGraph, given: dict[str, Any], durability: str
    ) -> tuple[list[Mark], ThreadHandle]:
        """Run a thread to its end; what its nodes said meanwhile, and the thread."""
        self.marks.drain()
        thread = client.submit(graph, {**given, "report": self.marks.path}, durability=durability)
        said = self.marks.until("last", RUN_TIMEOUT)
        thread.result(timeout=60)
        return said, thread


@contextmanager
def bench(cpus: int) -> Iterator[Bench]:
    """A head with `cpus` CPUs, ended with the block, whatever runs on it."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="perdure-bench-") as name:
        folder = Path(name)
        head = HeadOptions(num_cpus=cpus, folder=folder / "head")
        try:
            with marks(folder) as pipe:
                yield Bench(folder, head, pipe)
        finally:
            stop_head(folder=head.folder)


def seconds(said: list[Mark]) -> float:
    """From the first mark to the last."""
    return (said[-1].at - said[0].at) / 1e9
