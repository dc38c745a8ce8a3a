"""The supervisors of a service, as a client reaches them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from ..actors.errors import ServiceError
from ..actors.key_proof import CHALLENGE_SIZE, KeyProof, differences, prove
from ..actors.names import NAMESPACE, supervisor_name
from ..actors.settings import ServiceSettings
from ..actors.shards import shard_key, shard_of
from ..actors.supervisor import SUPERVISOR_OPTIONS, SupervisorClass
from ..stores.errors import StoreError, StoreMisuse
from ..stores.records import ThreadRecord

NOTICE_TIMEOUT = 5.0
ANSWER_TIMEOUT = 30.0
POLL = 0.1


class Supervisors:
    """Made of the first one, which starts the others. Hints go to the one that a thread belongs to, where it is known
    how many there are, else to the first, which passes them on."""

    def __init__(self, settings: ServiceSettings, busy_file: str) -> None:
        """Raises `StoreMisuse` if the service runs already, with keys that do not go with those of `settings`;
        `ServiceError` if it does not answer."""
        self._settings = settings
        name = supervisor_name(shard_key(settings, 0))
        self._check_keys(name)
        options = {"name": name, "namespace": NAMESPACE, **SUPERVISOR_OPTIONS}
        self._handles: dict[int, Any] = {0: SupervisorClass.options(**options).remote(settings, busy_file)}
        self._shards = 1
        """As far as is known: who started the service may have asked for more."""
        self._asked = False
        if settings.shards > 1:
            self.all()

    def notify(self, thread_id: str) -> None:
        """A thread was changed. A hint: without it the next sweep finds the thread."""
        try:
            self._of(thread_id).notify.remote(thread_id)
        except (RayError, ValueError):
            return  # it is being restarted, and then it sweeps

    def submitted(self, rows: Sequence[ThreadRecord]) -> None:
        """Threads were created, as these rows say. A hint, like `notify`."""
        shares: dict[int, list[ThreadRecord]] = {}
        for row in rows:
            shares.setdefault(shard_of(row.thread_id, self._shards), []).append(row)
        for shard, own in shares.items():
            try:
                self._shard(shard).submitted.remote(own)
            except (RayError, ValueError):
                continue  # it is being restarted, and then it sweeps

    def stalled(self, thread_id: str) -> str:
        """Why a thread makes no progress; empty if nothing is known."""
        try:
            reason: str = ray.get(self._of(thread_id).stalled.remote(thread_id), timeout=NOTICE_TIMEOUT)
        except (RayError, ValueError):
            return ""
        return reason

    def ask(self, call: str, *args: Any) -> list[Any]:
        """What each of them answers to a call that may be repeated; one that is being restarted is waited for. Raises
        `ServiceError`."""
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while True:
            try:
                return ray.get([getattr(one, call).remote(*args) for one in self.all()], timeout=ANSWER_TIMEOUT)
            except ActorUnavailableError as error:
                if time.monotonic() > deadline:
                    raise ServiceError(f"a supervisor does not answer: {error}") from error
                time.sleep(POLL)
            except RayError as error:
                raise ServiceError(f"a supervisor does not answer: {error}") from error

    def _check_keys(self, name: str) -> None:
        """Compare with the service that runs, if one does: what either writes, the other has to read."""
        challenge, deadline = os.urandom(CHALLENGE_SIZE), time.monotonic() + ANSWER_TIMEOUT
        own = prove(self._settings.store, challenge)
        while True:
            try:
                running: Any = ray.get_actor(name, namespace=NAMESPACE)
                proof: KeyProof = ray.get(running.prove_keys.remote(challenge), timeout=ANSWER_TIMEOUT)
                break
            except ValueError:
                return  # there is none: this client's keys are those of the service from now on
            except RayActorError as error:
                # It is being restarted, or has ended and will not be found any more.
                if time.monotonic() > deadline:
                    raise ServiceError(f"a supervisor does not answer: {error}") from error
                time.sleep(POLL)
            except RayTaskError as error:
                raise (error.cause if isinstance(error.cause, StoreError) else error) from None
            except RayError as error:
                raise ServiceError(f"a supervisor does not answer: {error}") from error
        if found := differences(own, proof):
            raise StoreMisuse(
                f"the service of {self._settings.store.where} runs with other keys: {'; '.join(found)}. Connect with "
                "the service's keys; or, to change those, end it (`perdure down` on this machine) and connect anew"
            )

    def all(self) -> list[Any]:
        """Each of them. Raises `ServiceError`."""
        try:
            if not self._asked:
                running: ServiceSettings = ray.get(self._handles[0].settings.remote(), timeout=ANSWER_TIMEOUT)
                self._shards, self._asked = running.shards, True
            return [self._shard(shard) for shard in range(self._shards)]
        except (RayError, ValueError) as error:
            raise ServiceError(f"a supervisor does not answer: {error}") from error

    def _of(self, thread_id: str) -> Any:
        return self._shard(shard_of(thread_id, self._shards))

    def _shard(self, shard: int) -> Any:
        if shard not in self._handles:
            name = supervisor_name(shard_key(self._settings, shard))
            self._handles[shard] = ray.get_actor(name, namespace=NAMESPACE)
        return self._handles[shard]
