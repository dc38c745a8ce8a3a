"""Addresses of stores: a URL taken apart into where the store is and how to use it; and as text without secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from os.path import normpath
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, quote, unquote, urlencode

import msgspec

from .errors import StoreMisuse
from .postgres_options import PostgresOptions
from .redis_options import RedisOptions
from .sqlite_options import SqliteOptions

StoreOptions: TypeAlias = SqliteOptions | PostgresOptions | RedisOptions

MEMORY_URL = "memory://"
FORMS = "memory://, sqlite:///relative.db, sqlite:////absolute.db, postgresql://user@host/database, redis://host/0"

_SQLITE = "sqlite:///"
_REDIS = ("redis", "rediss", "redis+cluster", "rediss+cluster", "unix")
_OPTIONS: Mapping[str, type[StoreOptions] | None] = MappingProxyType(
    {
        "memory": None,
        "sqlite": SqliteOptions,
        "postgres": PostgresOptions,
        "postgresql": PostgresOptions,
        **dict.fromkeys(_REDIS, RedisOptions),
    }
)
_LOCAL = frozenset({"memory", "sqlite"})
"""Schemes without a password; : and @ may occur in a path."""
_PARTS = frozenset({"schema", "prefix"})
"""Options that say which of a server's stores is meant, and not only how to use it."""
_SECRET = re.compile(r"pass|secret|token", re.IGNORECASE)
_USER = re.compile(r"[^:/@\[\]]*(:[^:/@\[\]]*)?")
_HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(:[0-9]*)?", re.ASCII)
_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """Where a store is and how to use it. Its text shows no password."""

    url: str
    """Without the options that stood in it."""
    options: StoreOptions | None = field(default=None)
    """None for a memory store, which has none."""

    @classmethod
    def of(cls, url: object, options: StoreOptions | None = None) -> Address:
        """Take a URL apart; its options (`?schema=agents&max_connections=8`) are added to those given and win over
        them. Parameters of a Postgres URL that are none of ours stay in it, for libpq.

        Raises `StoreMisuse` for a scheme or an option that is not known, a value that is not what the option takes, or
        options of another kind of store.
        """
        scheme = url.partition("://")[0] if isinstance(url, str) and "://" in url else ""
        if not isinstance(url, str) or scheme not in _OPTIONS:
            raise StoreMisuse(f"{redacted(url)} is not the URL of a store; known are {FORMS}")
        kind = _OPTIONS[scheme]
        if options is not None and (kind is None or not isinstance(options, kind)):
            known = kind.__name__ if kind else "no options"
            raise StoreMisuse(f"{redacted(url)}: a {scheme} store takes {known}, not {type(options).__name__}")
        if "#" in url:
            raise StoreMisuse(f"{redacted(url)}: write # in a path or password as %23")
        bare, mark, query = url.partition("?")
        if scheme not in _LOCAL and not _well_formed(bare.partition("://")[2], query):
            # Drivers would take a part of the password for a host or port, and show it in their errors.
            raise StoreMisuse(
                f"{redacted(url)} is not {scheme}://user:password@host:port/...; in a user or password write / as %2F, "
                "? as %3F, @ as %40, : as %3A, % as %25"
            )
        if not mark:
            return cls(url, options or (kind() if kind else None))
        given, left = _sorted_out(redacted(url), scheme, query)
        return cls(f"{bare}?{left}" if left else bare, _with(options, kind, given, redacted(url)))

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0]

    @property
    def where(self) -> str:
        """For people: the URL without passwords."""
        return redacted(self.full)

    @property
    def full(self) -> str:
        """The URL with those of the options that say which of a server's stores is meant."""
        parts = {name: value for name, value in self._changed().items() if name in _PARTS}
        joint = "&" if "?" in self.url else "?"
        return f"{self.url}{joint}{urlencode(parts)}" if parts else self.url

    @property
    def identity(self) -> str:
        """The same text for the same store, with whatever password it is opened."""
        if self.scheme == "sqlite":
            return _SQLITE + normpath(unquote(self.url.removeprefix(_SQLITE)))  # however the path is written
        if self.scheme in _LOCAL:
            return self.url
        base, _, query = self.full.partition("?")
        scheme, _, rest = base.partition("://")
        users, at, place = rest.rpartition("@")
        public = [pair for pair in query.split("&") if pair and not _is_secret(pair)]
        scheme = "postgresql" if scheme == "postgres" else scheme
        text = f"{scheme}://{users.partition(':')[0]}{at}{place}"
        return f"{text}?{'&'.join(public)}" if public else text

    def absolute(self) -> Address:
        """The address as any process of this machine understands it: a relative SQLite path is the caller's."""
        if self.scheme != "sqlite" or self.url.startswith(f"{_SQLITE}/") or self.url == _SQLITE:
            return self
        return replace(self, url=_SQLITE + quote(str(Path(unquote(self.url.removeprefix(_SQLITE))).absolute())))

    def _changed(self) -> dict[str, Any]:
        """The options that are not what they are by default."""
        if self.options is None:
            return {}
        own = {one.name: getattr(self.options, one.name) for one in fields(self.options)}
        default = type(self.options)()
        return {name: value for name, value in own.items() if value != getattr(default, name)}

    def __repr__(self) -> str:
        return f"Address({self.where!r}, {self.options!r})"


def redacted(url: object) -> str:
    """A URL for messages: every password in it is ***. Errs on the side of hiding: also for text that is no URL."""
    if not isinstance(url, str):
        return repr(url)
    scheme, mark, rest = url.partition("://")
    if not mark or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return repr(url) if not _SECRET.search(url) and "@" not in url else "the text given"
    if scheme in _LOCAL:
        return url
    # From the first colon to the last @: a password may hold any of the characters that should have been encoded.
    users, at, place = rest.rpartition("@")
    user, colon, _ = users.partition(":")
    if not _hosts(place):
        place = "***"
    shown = f"{user}{':***' if colon else ''}{at}{place}"
    base, mark, query = shown.partition("?")
    pairs = (f"{pair.partition('=')[0]}=***" if _is_secret(pair) else pair for pair in query.split("&"))
    return f"{scheme}://{base}{mark}{'&'.join(pairs)}"


def _well_formed(rest: str, query: str) -> bool:
    users, _, place = rest.rpartition("@")
    return _USER.fullmatch(users) is not None and _hosts(place) and "@" not in query


def _hosts(place: str) -> bool:
    """Whether it begins with hosts, each with a port that is a number or none."""
    return all(_HOST.fullmatch(host) for host in re.split("[/?]", place, maxsplit=1)[0].split(","))


def _is_secret(pair: str) -> bool:
    return _SECRET.search(unquote(pair.partition("=")[0])) is not None


def _sorted_out(where: str, scheme: str, query: str) -> tuple[dict[str, str], str]:
    """Our options among a URL's parameters, and the others as they were written."""
    kind = _OPTIONS[scheme]
    known = {one.name for one in fields(kind)} if kind else set()
    given: dict[str, str] = {}
    left: list[str] = []
    for pair in query.split("&"):
        try:
            ((name, value),) = parse_qsl(pair, keep_blank_values=True, strict_parsing=True, errors="strict")
        except ValueError:
            name = value = ""
        if not _NAME.fullmatch(name):
            # Not shown: it may be the end of a password with a ? in it.
            raise StoreMisuse(
                f"{where.partition('?')[0]}: what follows the ? is not name=value; options are written "
                "?name=value&..., and ? and & in a path or password as %3F and %26"
            )
        if name in given:
            raise StoreMisuse(f"{where}: the option {name} is given twice")
        if name in known:
            given[name] = value
        elif kind is PostgresOptions or (kind is RedisOptions and name == "db"):
            left.append(pair)
        else:
            raise StoreMisuse(
                f"{where}: a {scheme} store has no option {name}; its options: {', '.join(sorted(known)) or 'none'}"
            )
    return given, "&".join(left)


def _with(
    options: StoreOptions | None, kind: type[StoreOptions] | None, given: dict[str, str], where: str
) -> StoreOptions | None:
    if kind is None:
        return None
    try:
        parsed = msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise StoreMisuse(f"{where}: an option has a wrong value: {error}") from None
    return replace(options or kind(), **{name: getattr(parsed, name) for name in given})
