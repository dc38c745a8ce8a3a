"""The desks of simulated and replayed nodes: who answers what they ask, and when."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from perdure.runtime.desk import NodeCancelled, Record, Request, Ticket
from perdure.runtime.task import Origin
from perdure.runtime.writer import Shield, Writer
from perdure.stores.errors import StoreUnavailable
from tests.sim.faults import Died

T = TypeVar("T")


class WaitingWriter(Writer):
    """A writer whose owner writes in person while a node of it waits, and may die of it at any time."""

    falter: Callable[[], None]
    died = False
    """While a node waited."""

    def wait(self, future: Future[T], shield: Shield) -> T:
        while not future.done():
            try:
                self.falter()
                self.flush()
            except StoreUnavailable:
                continue
            except Died:
                self.died = True
                raise
        return future.result()


def waiting(base: type[Writer]) -> type[WaitingWriter]:
    """`base`, which a test may have tampered with, as a `WaitingWriter`."""
    return type(base.__name__, (WaitingWriter, base), {})


class ReplayDesk:
    """Answers from what is recorded, and from nothing else: a node that asks for more does not come to its end."""

    origin = Origin("replayed", "t", 0, 1, 0, 0)
    ticket: Ticket = (0, 0, 0)
    surroundings = None

    def ask(self, request: Request) -> Future[Any]:
        answer: Future[Any] = Future()
        if isinstance(request, Record):
            answer.set_exception(NodeCancelled())
        else:
            answer.set_result(None)
        return answer

    def wait(self, answer: Future[Any]) -> Any:
        return answer.result()

    def hurry(self) -> None:
        raise AssertionError("the simulated graphs have no async nodes")
