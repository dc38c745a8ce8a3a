"""How much of each is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """What `make bench` measures, or less of it."""

    rounds: int = 5
    """Of steps and fan-outs; medians are shown."""
    append_rounds: int = 3
    """Of appends, crowds and threads. LangGraph's plain list takes part in the first only."""
    steps: int = 1000
    appends: tuple[int, ...] = (500, 1000, 2000)
    """Multiples of four."""
    long: int = 10_000
    """Appends of ours that are read back."""
    loads: int = 5
    """Times that each state is read."""
    threads: int = 200
    workers: tuple[int, ...] = (1, 4, 16)
    """OS threads that run them in one process."""
    width: int = 1000
    """Trivial nodes of the fan-out."""
    kills: int = 300
    spares: int = 1
    parked: int = 100_000
    wakes: int = 100
    """Of parked threads."""
    supervisors: int = 20
    """That are killed."""
    unfinished: int = 1000
    """Threads when the whole cluster is killed."""
    nodes: int = 5
    """That are killed."""
    travel: int = 10_000
    """Steps of the thread whose past is visited."""
    visits: int = 200
    """Of each kind."""
    reruns: int = 10_000
    """Recorded threads that are run again."""


QUICK = Amounts(
    rounds=1,
    append_rounds=1,
    steps=100,
    appends=(80,),
    long=80,
    loads=1,
    threads=10,
    workers=(4,),
    width=20,
    kills=3,
    parked=300,
    wakes=3,
    supervisors=1,
    unfinished=10,
    nodes=1,
    travel=80,
    visits=3,
    reruns=40,
)
"""Shows that everything works, and nothing else."""
