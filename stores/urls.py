"""Opens the store that a URL names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import unquote, urlsplit

from .addresses import MEMORY_URL, Address, StoreOptions
from .base import CheckpointStore
from .errors import StoreMisuse
from .keys import Keyring, KeySource
from .memory import MemoryStore
from .sqlite import SqliteStore
from .sqlite_options import SqliteOptions
from .vault import Vault

ENCRYPTED_SETTING = "encrypted"
"""Setting of a store that was ever opened with keys: true. Nobody is to write to it without."""

_Open = Callable[[Address, Vault | None, bool], CheckpointStore]


def open_store(
    url: str,
    *,
    options: StoreOptions | None = None,
    keys: Keyring | KeySource | None = None,
    allow_plaintext: bool = False,
    create: bool = True,
) -> CheckpointStore:
    """Open `memory://`, `sqlite:///relative.db`, `sqlite:////absolute.db`, `postgresql://user@host/database`,
    `redis://host/0`, `rediss://` (TLS), `redis+cluster://`, `rediss+cluster://` or `unix:///path/to/redis.sock`,
    creating what is not there (with `create` False that is left alone and raises `StoreMissing`).

    Options are those of `SqliteOptions`, `PostgresOptions` or `RedisOptions`, in an object or in the URL
    (`?schema=agents&max_connections=8`; durations in seconds); the URL's win. With `keys` all payloads are encrypted;
    `allow_plaintext` also reads those that were written before there were keys.

    Raises `StoreMisuse` for a URL or an option that is not known, a driver that is not installed, keys that are missing
    or that a store was written without; and what opening the store may raise.
    """
    address = Address.of(url, options)
    vault = vault_with(keys, allow_plaintext=allow_plaintext) if keys is not None else None
    store = _openers()[address.scheme](address, vault, create)
    try:
        _agree_on_encryption(store, address.where, vault is not None, allow_plaintext)
    except BaseException:
        store.close()
        raise
    return store


def _openers() -> Mapping[str, _Open]:
    redis = dict.fromkeys(("redis", "rediss", "redis+cluster", "rediss+cluster", "unix"), _open_redis)
    postgres = dict.fromkeys(("postgres", "postgresql"), _open_postgres)
    return {"memory": _open_memory, "sqlite": _open_sqlite, **postgres, **redis}


def _open_memory(address: Address, vault: Vault | None, create: bool) -> CheckpointStore:
    if address.url != MEMORY_URL:
        raise StoreMisuse(f"{address.where}: a memory store has no name; write memory://")
    return MemoryStore(vault=vault)


def _open_sqlite(address: Address, vault: Vault | None, create: bool) -> CheckpointStore:
    parts = urlsplit(address.url)
    path = unquote(parts.path[1:])
    if parts.netloc or not path or path.startswith(":memory:") or "\0" in path:
        raise StoreMisuse(
            f"{address.where} names no file; write sqlite:///relative.db, sqlite:////absolute.db, or memory:// for one "
            "in memory"
        )
    options = address.options if isinstance(address.options, SqliteOptions) else SqliteOptions()
    return SqliteStore(path, shared_path=options.shared_path, create=create, vault=vault)


def _open_postgres(address: Address, vault: Vault | None, create: bool) -> CheckpointStore:
    with _installed("psycopg", "postgres", address):
        backend: Any = import_module(".postgres", __package__)
    store: CheckpointStore = backend.PostgresStore(address.url, options=address.options, vault=vault, create=create)
    return store


def _open_redis(address: Address, vault: Vault | None, create: bool) -> CheckpointStore:
    with _installed("redis", "redis", address):
        backend: Any = import_module(".redis", __package__)
    store: CheckpointStore = backend.RedisStore(address.url, options=address.options, vault=vault, create=create)
    return store


def vault_with(keys: Keyring | KeySource, *, allow_plaintext: bool = False) -> Vault:
    """What seals with keys. Raises `StoreMisuse` where the library for it is not installed, or a source has none."""
    with _installed("cryptography", "encryption", None):
        encryption: Any = import_module(".encryption", __package__)
    vault: Vault = encryption.EncryptedVault(keys, allow_plaintext=allow_plaintext)
    return vault


@contextmanager
def _installed(library: str, extra: str, address: Address | None) -> Iterator[None]:
    """Turn the failed import of an optional library into a hint."""
    try:
        yield
    except ImportError as error:
        if (error.name or library).partition(".")[0] == "perdure":
            raise
        what = f"{address.where} needs" if address else "encryption needs"
        raise StoreMisuse(f"{what} {library}, which is not installed here: pip install 'perdure[{extra}]'") from error


def _agree_on_encryption(store: CheckpointStore, where: str, sealed: bool, allow_plaintext: bool) -> None:
    """Raise `StoreMisuse` where a store would come to hold encrypted and other payloads without anybody wanting it."""
    encrypted = store.setting(ENCRYPTED_SETTING) is True
    if encrypted and not sealed:
        raise StoreMisuse(
            f"{where} is encrypted; open it with its keys (keys=..., on the command line --keys-file or PERDURE_KEYS)"
        )
    if encrypted or not sealed:
        return
    if not allow_plaintext and store.threads(limit=1).threads:
        raise StoreMisuse(
            f"{where} holds threads that were written without keys; copy it into a new store that has some "
            "(perdure store copy), or encrypt only what is written from now on with allow_plaintext=True"
        )
    store.put_setting(ENCRYPTED_SETTING, True)
