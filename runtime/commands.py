"""The words that nodes and callers say to a graph, besides plain updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic

from typing_extensions import TypeVar

START = "__start__"
"""Where a run begins: the source of the entry edges."""
END = "__end__"
"""Where a path of the graph ends."""

NodeName = TypeVar("NodeName", bound=str, default=str)


@dataclass(frozen=True, slots=True)
class Send:
    """Run `node` in the next step on an input of its own, beside any other tasks of that node."""

    node: str
    arg: Any
    """What the node is handed instead of the graph's state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Generic[NodeName]):
    """Update the state and choose the way in one answer; or, given to `invoke`, answer an interrupt.

    A node that returns one is annotated `-> Command[Literal["next", ...]]`, or lists `destinations=` in `add_node`, so
    that the graph's ways are known before it runs.
    """

    update: Any = None
    """An update as a node would return it (or its pairs of key and value); None for none."""
    resume: Any = None
    """The answer to the open interrupt, or a dict of interrupt ids and answers; None for none."""
    goto: Send | NodeName | Sequence[Send | NodeName] = ()
    """Where to go next, besides the node's plain edges."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """A question at which a thread waits."""

    value: Any
    """What `interrupt()` was called with."""
    id: str = ""
    """The id by which `Command(resume={id: answer})` answers it."""
