"""What Redis and its driver say, as errors of a store."""

from __future__ import annotations

import re

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ClusterError,
    ConnectionError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    TimeoutError,
    TryAgainError,
)

from .errors import Corrupt, StoreError, StoreFull, StoreMisuse, StoreUnavailable

# A script's error has the code somewhere inside: "ERR Error running script (...): @user_script:7: -OOM command ...".
_FULL = re.compile(r"\bOOM command not allowed|\bMISCONF\b")
_DENIED = re.compile(
    r"\bNOAUTH\b|\bWRONGPASS\b|\bNOPERM\b|no permissions|invalid (username-)?password|Authentication required"
    r"|can't run this command|can't access at least one of the keys",
    re.IGNORECASE,
)
_AWAY = re.compile(
    r"\bREADONLY\b|read only replica|\bLOADING\b|\bMASTERDOWN\b|\bNOREPLICAS\b|\bBUSY\b|\bCLUSTERDOWN\b|\bTRYAGAIN\b"
    r"|\bUNBLOCKED\b|max number of clients"
)
_DAMAGED = re.compile(r"user_script|\bError running script\b")
_WRONG_TYPE = re.compile(r"\bWRONGTYPE\b|wrong kind of value")

REDIS_ERRORS = (RedisError, RedisClusterException, OSError)
"""What the driver may raise."""

_PASSING = (
    ConnectionError,
    NoScriptError,
    TimeoutError,
    ClusterError,
    ClusterDownError,
    TryAgainError,
    MasterDownError,
    MovedError,
)


def store_error(error: BaseException, where: str) -> StoreError:
    """The store's error for one of the driver's. No text of it holds a password: Redis repeats none."""
    text = str(error)
    if isinstance(error, (AuthenticationError, AuthorizationError, NoPermissionError)) or _DENIED.search(text):
        return StoreMisuse(
            f"{where}: Redis refuses this user ({text}); give a username and password that may use all keys with the "
            "store's prefix and run scripts (@read @write @scripting; @admin to check the server's settings)"
        )
    if _FULL.search(text):
        return StoreFull(
            f"{where}: Redis takes no more data ({text}); raise maxmemory or free memory or disk, then try again"
        )
    if _WRONG_TYPE.search(text):
        return Corrupt(
            f"{where}: a key with the store's prefix holds something else ({text}); another program has written there: "
            "give the store a prefix of its own, or restore a backup"
        )
    if "Cluster mode is not enabled" in text:
        return StoreMisuse(f"{where} is not a Redis Cluster; open it with redis:// (or rediss://)")
    if isinstance(error, _PASSING) or _AWAY.search(text) or isinstance(error, (RedisClusterException, OSError)):
        return StoreUnavailable(f"{where}: no answer from Redis ({text or type(error).__name__}); try again")
    if _DAMAGED.search(text):
        return Corrupt(f"{where}: what is kept there cannot be read ({text}); restore it from a backup")
    return StoreMisuse(f"{where}: Redis refused a call: {text}")
