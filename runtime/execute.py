"""Run one task: call the node, read what it returned, ask its conditional edges where to go."""

from __future__ import annotations

import inspect
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .channels import MISSING
from .commands import Command, Send
from .desk import Desk, NodeCancelled
from .errors import InvalidUpdateError
from .nodes import Node
from .portal import Portal
from .scope import SCOPE, Scope, Suspended
from .task import Done, Failed, Outcome, Stopped, Task
from .topology import Topology
from .values import LazyValues


@dataclass(frozen=True, slots=True)
class Step:
    """What all tasks of a step have in common."""

    topology: Topology
    values: Mapping[str, Any]
    """The channels' values before the step. Nodes must not change them in place."""
    config: Mapping[str, Any]
    """What a node that takes `config` is handed."""
    desk: Desk
    """Where its nodes ask."""


def execute(step: Step, task: Task, portal: Callable[[], Portal]) -> Outcome:
    """Run a task to its end on this thread. Never raises, except KeyboardInterrupt.

    A node that raises is retried by its own policies first; the waits between attempts are slept here.
    """
    node = step.topology.nodes[task.node]
    started = time.perf_counter()
    scope, attempt = Scope(task, step.desk), 1
    while True:
        outcome, raised = _outcome(step, scope, node, portal, started)
        if scope.unrecorded is not None and not (isinstance(outcome, Failed) and outcome.cancelled):
            # Whatever the node made of it: caught, gathered as a value, or raised on as an error of its own to retry.
            return failure(task, scope.unrecorded)
        policy = next((policy for policy in node.retry if policy.retries(raised)), None) if raised is not None else None
        if policy is None or attempt >= policy.max_attempts:
            return outcome
        time.sleep(policy.wait(attempt))
        scope, attempt = scope.again(), attempt + 1


def _outcome(
    step: Step, scope: Scope, node: Node, portal: Callable[[], Portal], started: float
) -> tuple[Outcome, Exception | None]:
    """What comes of one attempt; and the exception, where it may be tried again for it."""
    task = scope.task
    token = SCOPE.set(scope)
    try:
        return _attempt(step, scope, node, portal, started), None
    except Suspended as suspended:
        return Stopped(task.path, suspended.stop), None
    except NodeCancelled:
        return Failed(task.path, task.node, "Cancelled", "the node was stopped from outside", cancelled=True), None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 — whatever a node raises is its outcome
        return failure(task, error, scope.raised), error if isinstance(error, Exception) else None
    finally:
        SCOPE.reset(token)


def failure(task: Task, error: BaseException, call: int | None = None) -> Failed:
    """The outcome of a task whose node raised; `call` as in `Failed`."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    shown = "".join(traceback.format_exception(error, limit=-20))
    return Failed(task.path, task.node, name, str(error), shown, call=call, exception=error)


def _attempt(step: Step, scope: Scope, node: Node, portal: Callable[[], Portal], started: float) -> Done:
    topology, task = step.topology, scope.task
    if node.effects and scope.replays:
        raise scope.stop("it", "keeps no record of what a node does that is marked effects=True")
    schema = node.input or topology.state
    state = schema.accept(task.arg) if task.send else schema.view(step.values)
    returned = node.call(state, step.config)
    if type(returned) not in _NEVER_AWAITED and inspect.isawaitable(returned):
        returned = portal().run(_awaiting(returned))
    writes, goto = interpret(topology, task.node, returned)
    if task.node in topology.branches:
        scope.routing = True
        goto = (*goto, *route(step, task.node, writes, portal))
    return Done(task.path, writes, goto, time.perf_counter() - started, scope.checkpoint, scope.measuring.all())


_NEVER_AWAITED = frozenset({dict, list, str, bool, type(None)})


async def _awaiting(awaitable: Any) -> Any:
    return await awaitable


def interpret(
    topology: Topology, node: str, returned: Any
) -> tuple[tuple[tuple[str, Any], ...], tuple[str | Send, ...]]:
    """Read a node's return value: (channel, update) pairs, and where its commands lead.

    Raises `InvalidUpdateError` naming the node for unknown keys, unknown targets and values of a wrong kind.
    """
    if returned is None:
        return (), ()
    if isinstance(returned, Command):
        return _interpret_command(topology, node, returned)
    if isinstance(returned, list | tuple) and any(isinstance(item, Command) for item in returned):
        writes: tuple[tuple[str, Any], ...] = ()
        goto: tuple[str | Send, ...] = ()
        for item in returned:
            more, targets = interpret(topology, node, item)
            writes, goto = (*writes, *more), (*goto, *targets)
        return writes, goto
    return tuple(topology.state.updates(returned, node).items()), ()


def _interpret_command(
    topology: Topology, node: str, command: Command
) -> tuple[tuple[tuple[str, Any], ...], tuple[str | Send, ...]]:
    if command.resume is not None:
        raise InvalidUpdateError(
            f"node {node!r} returned Command(resume=...): only the caller of a graph can answer an interrupt",
            nodes=(node,),
        )
    goto = tuple(topology.route(command.goto, node))
    update = command.update
    if isinstance(update, list | tuple):
        pairs = tuple(pair for key, value in update for pair in topology.state.updates({key: value}, node).items())
        return pairs, goto
    return tuple(topology.state.updates(update, node).items()), goto


def route(
    step: Step, source: str, writes: tuple[tuple[str, Any], ...], portal: Callable[[], Portal]
) -> tuple[str | Send, ...]:
    """Where the conditional edges of `source` lead, asked with its own writes applied (and nobody else's)."""
    topology = step.topology
    values = step.values.copy() if isinstance(step.values, LazyValues) else dict(step.values)
    for channel, update in writes:
        own = topology.channels[channel]
        old = MISSING if own.reducer is None else values.get(channel, MISSING)
        values[channel] = own.merge(old, [(source, update)]).value
    targets: list[str | Send] = []
    for branch in topology.branches[source]:
        state = (branch.input or topology.state).view(values)
        result = branch.call(state, step.config)
        if type(result) not in _NEVER_AWAITED and inspect.isawaitable(result):
            result = portal().run(_awaiting(result))
        targets.extend(branch.resolve(result))
    return tuple(targets)
