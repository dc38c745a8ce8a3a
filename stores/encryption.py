"""Encryption of payloads at rest: AES-256-GCM, bound to the place of the record.

What is sealed: the rows of every commit (state values, control records), the payloads of messages, the errors of runs
and the reasons of endings and pauses (which may quote an exception, and that the state), the code of graphs. What stays
readable, since stores search by it: ids, statuses, metadata, tags, the names of graphs, messages and checkpoints, times
and numbers, settings. Put no secrets there.

Who can write to the store can still delete records, put an older state of one back in its place, or change what is
readable; they cannot read payloads, change them, or move them elsewhere without being noticed.
"""

from __future__ import annotations

import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .errors import Corrupt, MissingKey, NewerFormat, StoreMisuse
from .keys import KEY_SIZE, Keyring, KeySource
from .vault import ENCRYPTED_MAGIC, Place, PlainVault, Vault, bound, describe, sealing_key

VERSION = 1
_HEAD = struct.Struct("<4sBB")
_SALT = 16
_NONCE = 12
_TAG = 16
_CONTEXT = b"perdure payload 1"
"""Part of format 1: keys derived for it serve nothing else."""


class EncryptedVault(Vault):
    """Seals with the active key of a keyring, opens with any of them.

    Format: magic "PRDE" | version u8 | length of the key's id u8 | id | salt (16) | nonce (12) | ciphertext | tag (16).
    All before the ciphertext, and the place, are associated data.

    NIST SP 800-38D, 8.3, allows at most 2^32 random 96-bit nonces for one key, and a busy store would get there. So
    every record has a key of its own, derived with HKDF-SHA-256 (RFC 5869) from the keyring's and a random 128-bit
    salt: for two records to share key and nonce, both would have to collide.

    With a `KeySource`, keys that are not known are looked for there once more, so that a process that runs for weeks
    learns of new ones (in a file; its environment stays as it was). With `allow_plaintext` records that were written
    without encryption are read too; without it they are `Corrupt`, as somebody may have put them there.
    """

    secret = True

    def __init__(self, keys: Keyring | KeySource, *, allow_plaintext: bool = False) -> None:
        """Raises `StoreMisuse` if the source holds no keys."""
        self._source = keys if isinstance(keys, KeySource) else None
        self._plain = PlainVault() if allow_plaintext else None
        self._ring = keys.read() if isinstance(keys, KeySource) else keys
        self._keys = dict(self._ring.keys)

    def __repr__(self) -> str:
        return f"EncryptedVault({self._ring!r}, allow_plaintext={self._plain is not None})"

    def seal(self, place: Place, data: bytes) -> bytes:
        key_id, key = self._ring.keys[0]
        name = key_id.encode()
        nonce = os.urandom(_NONCE)
        salt = os.urandom(_SALT)
        head = b"".join((_HEAD.pack(ENCRYPTED_MAGIC, VERSION, len(name)), name, salt, nonce))
        try:
            return head + _cipher(key, salt).encrypt(nonce, data, head + bound(place))
        except OverflowError as error:
            raise StoreMisuse(f"{describe(place)} is too large to be encrypted: {len(data)} bytes") from error

    def open(self, place: Place, kept: bytes | memoryview) -> bytes | memoryview:
        """Raises `MissingKey` where the record's key is not in the keyring, `Corrupt`, `NewerFormat`."""
        view = memoryview(kept)
        if bytes(view[:4]) != ENCRYPTED_MAGIC:
            return self._opened_plain(place, kept)
        if len(view) < _HEAD.size:
            raise _damaged(place)
        _, version, length = _HEAD.unpack_from(view)
        if version > VERSION:
            raise NewerFormat(
                f"{describe(place)} has encryption format {version}, this Perdure reads up to {VERSION}; upgrade it"
            )
        start = _HEAD.size + length + _SALT + _NONCE
        key_id = sealing_key(view)
        if version != VERSION or len(view) < start + _TAG or key_id is None:
            raise _damaged(place)
        head = bytes(view[:start])
        salt, nonce = head[-_SALT - _NONCE : -_NONCE], head[-_NONCE:]
        try:
            return _cipher(self._key(place, key_id), salt).decrypt(nonce, view[start:], head + bound(place))
        except InvalidTag:
            raise _damaged(place) from None

    def _key(self, place: Place, key_id: str) -> bytes:
        if key_id not in self._keys and self._source is not None:
            self._ring = self._source.read()
            self._keys = dict(self._ring.keys)
        if key_id not in self._keys:
            # The id comes out of bytes that nobody has vouched for yet.
            raise MissingKey(
                f"{describe(place)} was encrypted with key {key_id!r}, which is not among the keys given "
                f"({', '.join(self._ring.ids)}); add it to them"
            )
        return self._keys[key_id]

    def _opened_plain(self, place: Place, kept: bytes | memoryview) -> bytes | memoryview:
        if self._plain is not None:
            return self._plain.open(place, kept)
        raise Corrupt(
            f"{describe(place)} is not encrypted, and this store's records have to be: it was written without keys, or "
            "tampered with; allow_plaintext=True reads a store that is on its way to encryption"
        )


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), KEY_SIZE, salt, _CONTEXT).derive(key))


def _damaged(place: Place) -> Corrupt:
    return Corrupt(
        f"{describe(place)} is damaged: it does not decrypt. Its bytes were changed, or moved here from another "
        "record, or its key's id now names another key; restore it from a backup"
    )
