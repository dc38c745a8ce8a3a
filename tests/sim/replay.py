"""A second, naive engine: what the checkpoint after another must be, given what is stored of the first.

It shares with the real one only the running of a single node; merging and finding the next tasks are written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Any

from perdure.runtime.calls import Calls
from perdure.runtime.channels import MISSING
from perdure.runtime.commands import END, START, Send
from perdure.runtime.control import Next
from perdure.runtime.errors import PerdureError
from perdure.runtime.execute import Step, execute, route
from perdure.runtime.portal import Portal
from perdure.runtime.task import Done, Past, Task
from perdure.runtime.topology import Topology
from tests.sim.desks import ReplayDesk

Goto = tuple[str | Send, ...]
MOST = 4096
"""Combinations of results that are tried."""


@dataclass(frozen=True)
class Standing:
    """What a checkpoint stands for."""

    values: Mapping[str, Any]
    next: tuple[Next, ...] = ()
    joins: Mapping[str, frozenset[str]] = field(default_factory=dict)
    sends: Mapping[str, Any] = field(default_factory=dict)


def _no_portal() -> Portal:
    raise AssertionError("the simulated graphs have no async nodes")


class Replay:
    """Steps of one graph."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology

    def loop(
        self, before: Standing, calls: Mapping[str, Calls], older: Sequence[Mapping[str, Any]] = ()
    ) -> Iterator[Standing]:
        """What can come of a superstep. `older` are values that its tasks may have seen in place of the present ones:
        those before an update that left running tasks as they were."""
        found = [self.outcomes(task, before, calls, older) for task in before.next]
        for done in islice(product(*found), MOST):
            pairs = [(task.node, result.goto) for task, result in zip(before.next, done, strict=True)]
            writes = [pair for result in done for pair in result.writes]
            yield self._after(before, writes, pairs, before.joins)

    def jump(self, before: Standing, node: str, update: Any, *, fresh: bool) -> Standing:
        """An input (of node START) or an update made as if a node had returned it."""
        schema = self._topology.input if fresh else self._topology.state
        if node == END:
            return Standing(self._merged(before.values, list(schema.updates(update, node).items())))
        writes = list(schema.updates(update, node).items())
        goto: Goto = ()
        if node in self._topology.branches:
            goto = route(Step(self._topology, before.values, {}, ReplayDesk()), node, tuple(writes), _no_portal)
        return self._after(before, writes, [(node, goto)], {} if fresh else before.joins)

    def update(self, before: Standing, update: Any) -> Standing:
        """An update that leaves the tasks as they are."""
        writes = list(self._topology.state.updates(update, "update_state").items())
        return Standing(self._merged(before.values, writes), before.next, before.joins, before.sends)

    def outcomes(
        self, task: Next, before: Standing, calls: Mapping[str, Calls], older: Sequence[Mapping[str, Any]]
    ) -> list[Done]:
        found: list[Done] = []
        for values in (before.values, *older):
            past = Past(dict(calls.get(task.path, {})))
            given = Task(task.path, task.node, task.send, before.sends.get(task.path), past)
            outcome = execute(Step(self._topology, values, {}, ReplayDesk()), given, _no_portal)
            if isinstance(outcome, Done) and all(one.writes != outcome.writes for one in found):
                found.append(outcome)
        return found

    def _after(
        self,
        before: Standing,
        writes: Sequence[tuple[str, Any]],
        done: Sequence[tuple[str, Goto]],
        joins: Mapping[str, frozenset[str]],
    ) -> Standing:
        topology = self._topology
        names: set[str] = set()
        sends: list[Send] = []
        waiting = dict(joins)
        for node, goto in done:
            names |= set(topology.edges.get(node, ()))
            names |= {target for target in goto if isinstance(target, str)}
            sends += [target for target in goto if isinstance(target, Send)]
            for join in topology.joins:
                if node in join.starts:
                    waiting[join.key] = waiting.get(join.key, frozenset()) | {node}
        for join in topology.joins:
            if waiting.get(join.key, frozenset()) >= set(join.starts):
                del waiting[join.key]
                names.add(join.end)
        pulls = tuple(Next(name, name) for name in sorted(names - {END, START}))
        pushes = tuple(Next(f"{send.node}#{place}", send.node, True) for place, send in enumerate(sends))
        args = {task.path: send.arg for task, send in zip(pushes, sends, strict=True)}
        return Standing(self._merged(before.values, writes), pulls + pushes, waiting, args)

    def _merged(self, values: Mapping[str, Any], writes: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        merged = dict(values)
        for name, update in writes:
            channel = self._topology.channels[name]
            old = merged.get(name, MISSING)
            old = channel.initial() if old is MISSING else old
            merged[name] = update if channel.reducer is None or old is MISSING else channel.reducer(old, update)
        return merged


def first_of(attempt: Callable[[], Standing]) -> list[Standing]:
    """What an attempt gives; nothing if it raises what the engine would have refused."""
    try:
        return [attempt()]
    except PerdureError:
        return []
