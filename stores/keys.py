"""Keys for encryption at rest: several at once by their ids, and references to where they are kept.

A key is 32 random bytes. The first of a keyring is the **active** one: it seals what is written. The others only open
what was sealed with them, so that keys can be replaced while a store is in use.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .errors import StoreMisuse

KEYS_VARIABLE = "PERDURE_KEYS"
"""Environment variable in which keys are looked for by default."""
KEY_SIZE = 32
"""Bytes of a key."""

_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True, repr=False)
class Keyring:
    """Keys by id. Its repr shows the ids only; pickling it takes the keys along.

    Raises `StoreMisuse` without a key, for a key that is not 32 bytes, or an id that is given twice or is not 1 to 64
    ASCII letters, digits, dots, dashes and underscores.
    """

    keys: tuple[tuple[str, bytes], ...]
    """(id, key), the active one first."""

    def __post_init__(self) -> None:
        if not self.keys:
            raise StoreMisuse("a keyring needs at least one key; make one with Keyring.generate()")
        for key_id, key in self.keys:
            # A malformed id is not shown: it may be a key that was given in its place.
            if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
                raise StoreMisuse("the id of a key must be 1 to 64 ASCII letters, digits, dots, dashes and underscores")
            if not isinstance(key, bytes) or len(key) != KEY_SIZE:
                raise StoreMisuse(f"key {key_id!r} is not {KEY_SIZE} bytes; make one with Keyring.generate()")
        if len(set(self.ids)) != len(self.keys):
            raise StoreMisuse(f"a keyring has two keys of one id; its ids: {', '.join(self.ids)}")

    @classmethod
    def generate(cls, key_id: str = "1") -> Self:
        """A keyring of one new key."""
        return cls(((key_id, secrets.token_bytes(KEY_SIZE)),))

    @classmethod
    def of(cls, keys: Mapping[str, bytes], *, active: str | None = None) -> Self:
        """The keys of a dict; `active` is the id of the one to write with, by default the first."""
        if active is not None and active not in keys:
            raise StoreMisuse(f"the active key {active!r} is none of those given")
        return cls(tuple(sorted(keys.items(), key=lambda item: active is not None and item[0] != active)))

    @classmethod
    def parse(cls, text: str, where: str = "the text given") -> Self:
        """Keys written as `id:base64`, separated by commas or line ends, the active one first; lines that begin with #
        are comments. `where` names the text in errors."""
        lines = (line.strip() for line in text.splitlines())
        entries = (entry for line in lines if not line.startswith("#") for entry in line.split(","))
        return cls(tuple(_parsed([entry.strip() for entry in entries if entry.strip()], where)))

    def rotated(self, key_id: str) -> Self:
        """This keyring with a new key in front, which is the active one."""
        return type(self)((*type(self).generate(key_id).keys, *self.keys))

    def text(self) -> str:
        """The keys as `parse` reads them, one a line. Secret."""
        return "".join(f"{key_id}:{base64.b64encode(key).decode()}\n" for key_id, key in self.keys)

    @property
    def active(self) -> str:
        """Id of the key that seals."""
        return self.keys[0][0]

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all keys, the active one first."""
        return tuple(key_id for key_id, _ in self.keys)

    def __repr__(self) -> str:
        return f"Keyring(active={self.active!r}, ids={list(self.ids)!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySource:
    """Where keys are kept, for who is not to carry them: every process reads them itself. One of the two is given."""

    variable: str = ""
    """Name of an environment variable."""
    path: str = ""
    """Path of a file, the same on every machine."""

    def __post_init__(self) -> None:
        if bool(self.variable) == bool(self.path):
            raise StoreMisuse("a KeySource names either an environment variable or a file")

    def read(self) -> Keyring:
        """The keys as they are there now. Raises `StoreMisuse` if there are none."""
        if self.variable:
            text, where = os.environ.get(self.variable, ""), f"environment variable {self.variable}"
        else:
            where = f"key file {self.path}"
            try:
                text = Path(self.path).read_text("utf-8")
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is not text"
                raise StoreMisuse(f"{where} cannot be read: {why}") from None
        if not text.strip():
            raise StoreMisuse(f"{where} holds no keys; each is written as id:base64 (Keyring.generate('1').text())")
        return Keyring.parse(text, where)


def _parsed(entries: Iterable[str], where: str) -> Iterable[tuple[str, bytes]]:
    for number, entry in enumerate(entries, 1):
        key_id, colon, encoded = entry.partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        # Neither part is shown: what is malformed may be a key.
        if not colon or len(key) != KEY_SIZE or not _KEY_ID.fullmatch(key_id):
            raise StoreMisuse(f"{where}: key {number} is not written as id:base64 with {KEY_SIZE} bytes in base64")
        yield key_id, key
