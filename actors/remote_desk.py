"""How a node in a Ray task reaches the actor that owns its thread."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from ray import ObjectRef
from ray.actor import ActorHandle

from ..runtime.desk import NodeCancelled, Record, Request, Surroundings, Ticket
from ..runtime.errors import PerdureError
from ..runtime.task import Origin
from ..stores.errors import StoreError


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns a thread."""

    actor: ActorHandle[Any]
    thread_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What an owner answers."""

    value: Any = None
    error: PerdureError | StoreError | None = None
    """What is raised in the node."""
    gone: bool = False
    """The task is not the owner's to run any more."""


class RemoteDesk:
    """The desk of one step's nodes (`runtime.desk.Desk`), in a worker process. Every request is a call of the owner,
    which knows by thread, epoch and ticket whether it is still meant."""

    def __init__(self, owner: Owner, ticket: Ticket, origin: Origin) -> None:
        self._owner = owner
        self._ticket = ticket
        self._origin = origin

    @property
    def origin(self) -> Origin:
        """Where the step's tasks belong."""
        return self._origin

    @property
    def ticket(self) -> Ticket:
        """Names the step to the owner."""
        return self._ticket

    @property
    def surroundings(self) -> Surroundings | None:
        """None: they are the owner's."""
        return None

    def ask(self, request: Request) -> Future[Any]:
        """Ask the owner, from any thread."""
        owner, answer = self._owner, Future[Any]()
        try:
            ref: ObjectRef[Reply] = owner.actor.call.remote(owner.thread_id, owner.epoch, self._ticket, request)
        except (TypeError, ValueError, AttributeError) as error:
            answer.set_exception(self._unfit(request, error))  # it cannot be pickled
            return answer
        ref.future().add_done_callback(lambda done: _pass_on(done, answer))
        return answer

    def wait(self, answer: Future[Any]) -> Any:
        """The answer; blocks the calling thread."""
        return answer.result()

    def hurry(self) -> None:
        """The owner writes by itself."""

    def _unfit(self, request: Request, error: Exception) -> PerdureError:
        origin, node = self._origin, request.path.partition("#")[0]
        what = f"the result of {request.call}" if isinstance(request, Record) else "what heartbeat() was given"
        return PerdureError(
            f"thread {origin.thread_id!r}: node {node!r} of graph {origin.graph!r}: {what} cannot be sent to the "
            f"thread's owner ({error}); return plain data"
        )


def _pass_on(done: Any, answer: Future[Any]) -> None:
    if answer.cancelled():
        return
    try:
        reply: Reply = done.result()
    except Exception:  # noqa: BLE001 — whatever it is, there is no owner that could answer: it died, or ends
        reply = Reply(gone=True)
    if reply.gone:
        answer.set_exception(NodeCancelled())
    elif reply.error is not None:
        answer.set_exception(reply.error)
    else:
        answer.set_result(reply.value)
