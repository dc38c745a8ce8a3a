"""Whether two processes can read what the other writes: found out without a key being told."""

from __future__ import annotations

import pytest

from perdure import Keyring, StoreConfig
from perdure.actors.key_proof import differences, prove

RING = Keyring.generate("k1")
NEWER = RING.rotated("k2")


def compared(given: Keyring | None, running: Keyring | None, *, given_plain: bool = False) -> list[str]:
    url = "sqlite:////tmp/none.db"
    own = StoreConfig(url=url, keys=given, allow_plaintext=given_plain)
    return differences(prove(own, b"challenge"), prove(StoreConfig(url=url, keys=running), b"challenge"))


@pytest.mark.parametrize(
    ("given", "running", "text"),
    [
        (None, RING, "the service encrypts with key 'k1', and no keys were given"),
        (RING, None, "the service does not encrypt, and key 'k1' was given"),
        (Keyring.generate("k1"), RING, "key 'k1' of the service is another key than the one given by this id"),
        (Keyring.generate("k9"), RING, "'k1', which is not among those given (k9)"),
        (NEWER, RING, "key 'k2', the first one given, is not among those of the service (k1)"),
    ],
)
def test_keys_that_do_not_go_together(given: Keyring | None, running: Keyring | None, text: str) -> None:
    found = "; ".join(compared(given, running))
    assert text in found
    for ring in (given, running):
        assert ring is None or not any(key.hex() in found or repr(key) in found for _, key in ring.keys)


@pytest.mark.parametrize(
    ("given", "running"),
    [
        (None, None),
        (RING, RING),
        # The first step of replacing a key, and the last but one.
        (Keyring.of(dict(NEWER.keys), active="k1"), RING),
        (NEWER, Keyring.of(dict(NEWER.keys), active="k1")),
    ],
)
def test_keys_that_do(given: Keyring | None, running: Keyring | None) -> None:
    assert compared(given, running) == []


def test_who_would_read_what_is_not_encrypted_may_not_join_those_who_do_not() -> None:
    assert "allow_plaintext=True was given" in compared(RING, RING, given_plain=True)[0]


def test_a_proof_is_of_no_use_for_another_challenge() -> None:
    config = StoreConfig(url="sqlite:////tmp/none.db", keys=RING)
    assert prove(config, b"1").keys.keys() == prove(config, b"2").keys.keys() == {"k1"}
    assert prove(config, b"1").keys["k1"] != prove(config, b"2").keys["k1"]
