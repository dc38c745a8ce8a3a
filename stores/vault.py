"""What lies between a record's bytes and a store's: every payload carries a checksum, or is encrypted.

A **vault** seals bytes for one place and opens them again. The place names the record (its thread, its id): what was
moved to another place does not open.
"""

from __future__ import annotations

import struct
import zlib
from abc import ABC, abstractmethod
from typing import ClassVar

from .errors import Corrupt, MissingKey, NewerFormat

Place = tuple[str, ...]
"""What kind of record it is, then what names it: ("message", thread id, message id)."""

SEGMENT_MAGIC = b"PRDS"


class Vault(ABC):
    """Seals the payloads of one store."""

    secret: ClassVar[bool] = False
    """Whether who reads the store without it learns nothing of what it sealed."""

    @abstractmethod
    def seal(self, place: Place, data: bytes) -> bytes:
        """`data` as it is to be kept at `place`."""

    @abstractmethod
    def open(self, place: Place, kept: bytes | memoryview) -> bytes | memoryview:
        """What was sealed for `place`. Raises `Corrupt`, `NewerFormat`, `MissingKey`."""


class PlainVault(Vault):
    """Checksums only. Segments have one of their own, so they are kept as they are; an empty payload is kept empty.

    Others: magic "PRDP" | version u8 | CRC-32 of place and data u32 | data.
    """

    def seal(self, place: Place, data: bytes) -> bytes:
        if not data or place[0] == "segment":
            return data
        return _HEAD.pack(_MAGIC, _VERSION, _checksum(place, data)) + data

    def open(self, place: Place, kept: bytes | memoryview) -> bytes | memoryview:
        if not kept:
            return b""
        magic = bytes(kept[:4])
        if magic == ENCRYPTED_MAGIC:
            raise MissingKey(f"{describe(place)} is encrypted; open the store with its keys")
        if place[0] == "segment":
            return kept
        if magic != _MAGIC or len(kept) < _HEAD.size:
            raise Corrupt(f"{describe(place)} is damaged: it does not begin as a payload does")
        _, version, checksum = _HEAD.unpack_from(kept)
        if version > _VERSION:
            raise NewerFormat(
                f"{describe(place)} has payload format {version}, this Perdure reads up to {_VERSION}; upgrade it"
            )
        data = bytes(kept[_HEAD.size :])
        if version != _VERSION or _checksum(place, data) != checksum:
            raise Corrupt(f"{describe(place)} is damaged: its checksum does not match; restore it from a backup")
        return data


def describe(place: Place) -> str:
    """The place in words, for errors."""
    kind, *names = place
    return f"{kind} {' / '.join(repr(name) for name in names)}"


def sealing_key(kept: bytes | memoryview) -> str | None:
    """Id of the key that a payload was encrypted with, as its header says; None where it is not encrypted.

    For finding out which keys are in use: nothing is decrypted, so nothing vouches for it.
    """
    if bytes(kept[:4]) != ENCRYPTED_MAGIC or len(kept) < _KEY_ID:
        return None
    # Written as ASCII; whatever else stands there is shown escaped.
    return bytes(kept[_KEY_ID : _KEY_ID + kept[_KEY_ID - 1]]).decode("ascii", "backslashreplace")


def bound(place: Place) -> bytes:
    """The place as bytes that no other place has (lengths before texts)."""
    return b"".join(struct.pack("<I", len(text)) + text for text in (part.encode() for part in place))


ENCRYPTED_MAGIC = b"PRDE"
_KEY_ID = 6
"""Where the id of its key begins in an encrypted payload; the byte before it is the id's length."""
_MAGIC = b"PRDP"
_VERSION = 1
_HEAD = struct.Struct("<4sBI")


def _checksum(place: Place, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(bound(place)))
