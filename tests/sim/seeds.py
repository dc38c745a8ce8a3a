"""From a seed to a verdict."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from perdure.runtime.options import RunOptions
from perdure.runtime.restore import load_control, load_values
from perdure.stores.history import HistoryReader
from tests.sim.checker import check
from tests.sim.graphs import graph_named
from tests.sim.journal import Violation, require, watched
from tests.sim.world import UNTOUCHED, Scenario, Tampering, World, draw_scenario


@dataclass(frozen=True)
class Failure:
    """A seed that broke a promise."""

    seed: int
    what: str
    story: str
    """Scenario, trace of events, and where it was noticed."""


def play(seed: int, tampering: Tampering = UNTOUCHED) -> Failure | None:
    """Simulate and judge one seed. None if all promises were kept."""
    random = Random(seed)
    scenario = draw_scenario(random)
    world = World(scenario, random, tampering)
    try:
        world.run()
        with watched("the checker"):
            check(world)
        if scenario.scripted:
            found, wanted = outcome(world), faultless(scenario.graph, scenario.texts)
            require(found == wanted, "V6", f"the runs ended as {found}; without faults they end as {wanted}")
    except Violation as broken:
        story = f"seed {seed}\n{scenario}\n{world.journal.trace()}\n{traceback.format_exc()}"
        return Failure(seed, str(broken), story)
    return None


def play_many(seeds: Sequence[int]) -> list[Failure]:
    """The failures among these seeds."""
    return [failure for seed in seeds if (failure := play(seed)) is not None]


def outcome(world: World) -> list[tuple[str, str, dict[str, Any]]]:
    """How each run of the script's thread ended: status, reason, final values."""
    codec = graph_named(world.scenario.graph).codec
    reader = HistoryReader(world.memory, "t")
    ends = []
    for run in world.memory.runs("t"):
        values = load_values(reader, load_control(reader, run.end).manifest, codec)
        values.pop("__run__", None)
        ends.append((str(run.status), run.reason, dict(values)))
    return ends


@cache
def faultless(graph: str, texts: tuple[str, ...]) -> list[tuple[str, str, dict[str, Any]]]:
    """The outcome of a script without any fault, by a plain sequence of moves."""
    scenario = Scenario(scripted=True, graph=graph, options=RunOptions(), texts=texts)
    world = World(scenario, Random(0))
    world.run()
    check(world)
    return outcome(world)


def caught(tampering: Tampering, most: int) -> Failure | None:
    """The first of at most so many seeds at which a broken engine is noticed."""
    return next((failure for seed in range(most) if (failure := play(seed, tampering)) is not None), None)
