"""How a store is opened: its address, options and keys in one value that travels to other processes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .addresses import MEMORY_URL, Address, StoreOptions
from .base import CheckpointStore
from .errors import StoreMisuse
from .keys import Keyring, KeySource
from .urls import open_store


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StoreConfig:
    """All that opening a store takes. Its repr shows no password and no key; pickling it takes them along.

    Raises `StoreMisuse` for a URL or option that is not known.
    """

    url: str
    """As for `open_store`; options that stand in it are moved to `options`."""
    options: StoreOptions | None = None
    keys: Keyring | KeySource | None = None
    """Encrypts what is kept. A `KeySource` is read where the store is opened, so that keys do not travel."""
    allow_plaintext: bool = False
    """Also reads what was written before there were keys."""

    def __post_init__(self) -> None:
        address = Address.of(self.url, self.options)
        object.__setattr__(self, "url", address.url)
        object.__setattr__(self, "options", address.options)
        if self.allow_plaintext and self.keys is None:
            raise StoreMisuse("allow_plaintext is about a store that is opened with keys; give keys, or leave it out")

    @property
    def in_memory(self) -> bool:
        """Whether it is a memory store, which nobody else can open."""
        return self.url == MEMORY_URL

    @property
    def where(self) -> str:
        """What messages call the store; without passwords."""
        return self._address.where

    @property
    def identity(self) -> str:
        """The same text for the same store, with whatever password, keys and settings it is opened."""
        return self._address.identity

    def absolute(self) -> StoreConfig:
        """The same for any process of this machine: a relative SQLite path is the caller's."""
        return replace(self, url=self._address.absolute().url)

    def open(self, *, create: bool = True) -> CheckpointStore:
        """Open the store; see `open_store`."""
        return open_store(
            self.url, options=self.options, keys=self.keys, allow_plaintext=self.allow_plaintext, create=create
        )

    @property
    def _address(self) -> Address:
        return Address(self.url, self.options)

    def __repr__(self) -> str:
        return f"StoreConfig({self.where!r}, options={self.options!r}, keys={self.keys!r})"
