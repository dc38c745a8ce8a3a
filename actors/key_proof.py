"""Whether two processes open one store with keys that go together, found out without either telling the other a key."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..stores.config import StoreConfig
from ..stores.keys import KeySource

CHALLENGE_SIZE = 16
"""Random bytes that who asks for a proof sends along, so that a proof is of no use to anybody else."""
_CONTEXT = b"perdure key proof 1"


@dataclass(frozen=True, slots=True)
class KeyProof:
    """How a process encrypts, without its keys."""

    keys: Mapping[str, bytes]
    """HMAC-SHA-256 of the challenge under each key, by the key's id, the active one first; empty without encryption."""
    plaintext: bool
    """Whether what is not encrypted is read too."""

    @property
    def active(self) -> str:
        """Id of the key that seals; empty without encryption."""
        return next(iter(self.keys), "")


def prove(config: StoreConfig, challenge: bytes) -> KeyProof:
    """Proof of the keys that a store is opened with. Raises `StoreMisuse` if their source holds none."""
    ring = config.keys.read() if isinstance(config.keys, KeySource) else config.keys
    if ring is None:
        return KeyProof({}, plaintext=True)
    keys = {key_id: hmac.new(key, _CONTEXT + challenge, hashlib.sha256).digest() for key_id, key in ring.keys}
    return KeyProof(keys, config.allow_plaintext)


def differences(given: KeyProof, running: KeyProof) -> list[str]:
    """Why who was given the one and a service with the other cannot read what the other writes; empty if they can.

    That one of them has keys more, or another active one, is no difference as long as both know both active keys: so
    it is while keys are being replaced.
    """
    if bool(given.keys) != bool(running.keys):
        return [
            f"the service encrypts with key {running.active!r}, and no keys were given"
            if running.keys
            else f"the service does not encrypt, and key {given.active!r} was given"
        ]
    return list(_differences(given, running)) if given.keys else []


def _differences(given: KeyProof, running: KeyProof) -> Iterator[str]:
    if running.active not in given.keys:
        yield f"the service encrypts with key {running.active!r}, which is not among those given ({_ids(given)})"
    if given.active not in running.keys:
        yield f"key {given.active!r}, the first one given, is not among those of the service ({_ids(running)})"
    for key_id, digest in given.keys.items():
        if key_id in running.keys and not hmac.compare_digest(digest, running.keys[key_id]):
            yield f"key {key_id!r} of the service is another key than the one given by this id"
    if given.plaintext and not running.plaintext:
        # The reverse does no harm: all that is written is encrypted, and what this process does not read it says.
        yield "the service does not read what is not encrypted, and allow_plaintext=True was given"


def _ids(proof: KeyProof) -> str:
    return ", ".join(proof.keys)
