"""URLs, options and keys of stores: what is opened by them, what is refused, and that no secret is ever shown."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.stores.addresses import Address, redacted
from perdure.stores.backed import BackedStore
from perdure.stores.config import StoreConfig
from perdure.stores.errors import MissingKey, StoreError, StoreMissing, StoreMisuse
from perdure.stores.keys import Keyring, KeySource
from perdure.stores.memory import MemoryStore
from perdure.stores.postgres_options import PostgresOptions
from perdure.stores.redis_options import RedisOptions
from perdure.stores.sqlite import SqliteStore
from perdure.stores.sqlite_options import SqliteOptions
from perdure.stores.urls import open_store
from tests.stores.backends import ANY, message, new_thread, owned

SECRET = "hunter2-Xq"
AWKWARD = "p/s:s@w?r#d%&é " + SECRET
RING = Keyring.generate("k1")


# -- what is opened ------------------------------------------------------------------------------------------------


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "a b#c?%41"
    folder.mkdir()
    for url, options in (
        ("sqlite:///relative.db", SqliteOptions(shared_path=True)),
        ("sqlite:///relative.db?shared_path=true", None),
    ):
        with open_store(url, options=options) as store:
            assert store.url == f"sqlite:///{tmp_path}/relative.db"
            assert isinstance(store, SqliteStore)
            assert store.shared_path is True
            assert store.path == tmp_path / "relative.db"
    with SqliteStore(folder / "x.db") as store:
        owned(store)
        with open_store(store.url) as again:
            assert again.thread("t").epoch == 1
    assert sorted(path.name for path in folder.iterdir()) == ["x.db", "x.db-lock"]
    with open_store("memory://") as store:
        assert store.url == "memory://"
    with pytest.raises(StoreMissing):
        open_store("sqlite:///nowhere.db", create=False)


def test_a_postgres_store_is_opened_again_by_its_url(postgres_url: str) -> None:
    options = PostgresOptions(schema="audit", max_connections=2)
    with open_store(f"{postgres_url}?schema=agents&application_name=mine", options=options) as store:
        store.create(new_thread())
    with open_store(store.url) as again:
        assert again.thread("t").graph == "g"
    with open_store(postgres_url, options=PostgresOptions(schema="agents")) as same:
        assert same.thread("t").graph == "g"
    with pytest.raises(StoreMissing):
        open_store(postgres_url, options=options, create=False)


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("mysql://x", None, "memory://"),
        ("agents.db", None, "sqlite:///"),
        ("", None, "sqlite:///"),
        ("sqlite://relative.db", None, "sqlite:///"),
        ("sqlite:///", None, "names no file"),
        ("sqlite:///:memory:", None, "memory://"),
        ("sqlite:///x.db?mode=ro", None, "its options: shared_path"),
        ("sqlite:///x.db?shared_path", None, "name=value"),
        ("sqlite:///x.db?shared_path=maybe", None, "bool"),
        ("sqlite:///x.db?shared_path=true&shared_path=true", None, "twice"),
        ("sqlite:///x.db#part", None, "%23"),
        ("sqlite:////no/such/folder/x.db", None, "does not exist"),
        ("sqlite:////tmp", None, "not a file"),
        ("sqlite:///x.db", PostgresOptions(), "SqliteOptions"),
        ("memory://", SqliteOptions(), "no options"),
        ("memory://?x=1", None, "its options: none"),
        ("memory://x", None, "no name"),
        ("redis://h?ttl=soon", None, "duration"),
        ("redis://h?maxttl=1", None, "no option maxttl"),
        ("redis://h?partitions=0", None, "partitions"),
        ("postgresql://h/db?max_connections=many", None, "int"),
        (f"postgresql://u:{SECRET}@h/db?max_connections=many", None, "int"),
        (f"postgresql://u:{SECRET}@h/db?", None, "name=value"),
        (f"mysql://u:{SECRET}@h", None, "memory://"),
        (f"host=h password={SECRET}", None, "memory://"),
        (f"{SECRET}@h", None, "memory://"),
        *((f"{scheme}://u:{part}{SECRET}@h/0", None, "%40") for scheme in ("redis", "postgresql") for part in "/@:[?"),
        *((f"{scheme}://u:1?x={SECRET}@h/0", None, "%40") for scheme in ("redis", "postgresql")),
        *((f"{scheme}://u:{SECRET}/db", None, "%40") for scheme in ("redis", "postgresql")),
        (f"redis://u:{SECRET}#x@h/0", None, "%23"),
    ],
)
def test_what_is_refused(url: str, options: Any, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreMisuse) as caught:
        open_store(url, options=options)
    assert says in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value)).replace(f"{url!r}", "")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_text_is_refused() -> None:
    for url in (None, 5, Path("x")):
        with pytest.raises(StoreMisuse):
            open_store(url)  # type: ignore[arg-type]


# -- addresses -----------------------------------------------------------------------------------------------------


def test_options_of_a_url() -> None:
    address = Address.of(
        "postgresql://u:pw@h/db?sslmode=verify-full&schema=a%26b&max_connections=8&target_session_attrs=any"
        "&statement_timeout=1.5&prepare=false",
        PostgresOptions(schema="given", application_name="given"),
    )
    assert address.url == "postgresql://u:pw@h/db?target_session_attrs=any"
    assert address.options == PostgresOptions(
        schema="a&b",
        max_connections=8,
        sslmode="verify-full",
        statement_timeout=timedelta(seconds=1.5),
        prepare=False,
        application_name="given",
    )
    assert Address.of(address.full) == replace(address, options=PostgresOptions(schema="a&b"))
    redis = Address.of("unix:///run/redis.sock?db=2&ttl=86400&prefix=p")
    assert (redis.url, redis.options) == (
        "unix:///run/redis.sock?db=2",
        RedisOptions(ttl=timedelta(days=1), prefix="p"),
    )
    assert redis.full == "unix:///run/redis.sock?db=2&prefix=p"


def test_the_identity_of_a_store() -> None:
    one = {
        "postgresql://u:old@h/db",
        "postgres://u:new@h/db",
        "postgresql://u@h/db?password=x",
        "postgresql://u@h/db?max_connections=3",
        "postgresql://u@h/db?schema=perdure",
        "postgresql://u@h/db?sslpassword=x",
    }
    assert {StoreConfig(url=url).identity for url in one} == {"postgresql://u@h/db"}
    # A handle's or store's URL is quoted: two services once ran for one file.
    files = {"sqlite:////d/a b.db", "sqlite:////d/a%20b.db", "sqlite:////d/./x/../a b.db"}
    assert {StoreConfig(url=url).identity for url in files} == {"sqlite:////d/a b.db"}
    others = {
        "postgresql://h/db",
        "postgresql://u@h/other",
        "postgresql://u@h/db?schema=s",
        "postgresql://u@/db?host=/run",
        "redis://h/0",
        "redis://h/1",
        "redis://h/0?prefix=p",
        "sqlite:////a:b@c.db",
        "sqlite:////a:d@c.db",
        "memory://",
    }
    assert len({StoreConfig(url=url).identity for url in others}) == len(others)


@given(st.text(min_size=1), st.sampled_from(["postgresql", "redis", "rediss", "redis+cluster", "nonsense", "x y"]))
def test_no_password_is_left_in_a_redacted_url(password: str, scheme: str) -> None:
    for url in (
        f"{scheme}://u:{password}-{SECRET}-{password}@h/db",
        f"{scheme}://u:{quote(password + SECRET, safe='')}@h/db?x=1",
        f"{scheme}://h/db?password={SECRET}{quote(password)}",
        f"{scheme}://h/db?x=1&sslPassWord={SECRET}",
        f"{scheme}://h/db?pass%77ord={SECRET}",
    ):
        assert SECRET not in redacted(url)
        with suppress(StoreMisuse):
            assert SECRET not in repr(Address.of(url))
            assert SECRET not in Address.of(url).identity


def test_redacted_urls_stay_readable() -> None:
    for url, shown in (
        ("postgresql://u:pw@h:5432/db?x=1", "postgresql://u:***@h:5432/db?x=1"),
        ("postgresql://u@h1:1,h2:2/db", "postgresql://u@h1:1,h2:2/db"),
        ("redis://:pw@[::1]:6379/0", "redis://:***@[::1]:6379/0"),
        ("redis://h", "redis://h"),
        ("postgresql://u:pw/db", "postgresql://***"),
        ("sqlite:////a:b@c.db", "sqlite:////a:b@c.db"),
        ("unix://u:pw@/run/x.sock?db=1", "unix://u:***@/run/x.sock?db=1"),
    ):
        assert redacted(url) == shown


# -- configurations ------------------------------------------------------------------------------------------------


def test_a_configuration_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = StoreConfig(url="sqlite:///a b.db?shared_path=1", keys=RING).absolute()
    assert config.url == f"sqlite:///{quote(str(tmp_path))}/a%20b.db"
    assert config.options == SqliteOptions(shared_path=True)
    assert config.absolute() == config
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config
    with copy.open() as store:
        store.create(new_thread(), message(payload=SECRET.encode()))
    with config.open(create=False) as store:
        assert store.messages("t")[0].payload == SECRET.encode()
    with pytest.raises(StoreMisuse, match="keys"):
        StoreConfig(url="memory://", allow_plaintext=True)


def test_keys_by_reference_do_not_travel(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(RING.text())
    config = StoreConfig(url=f"sqlite:///{tmp_path}/x.db", keys=KeySource(path=str(file)))
    sent = pickle.dumps(config)
    assert RING.keys[0][1] not in sent
    with pickle.loads(sent).open() as store:
        store.create(new_thread(), message(payload=b"x"))
        assert isinstance(store, BackedStore)
        assert store.key_ids("t") == {"k1"}


# -- encryption, on and off ----------------------------------------------------------------------------------------


def test_an_encrypted_store_is_not_opened_without_keys(tmp_path: Path) -> None:
    """Whoever forgot the keys would write payloads that those with keys refuse to read."""
    url = f"sqlite:///{tmp_path}/x.db"
    open_store(url, keys=RING).close()
    with pytest.raises(StoreMisuse, match="is encrypted; open it with its keys"):
        open_store(url)
    open_store(url, keys=RING.rotated("k2")).close()
    with open_store(url, keys=RING.rotated("k2")) as store:
        store.create(new_thread(), message(payload=b"x"))
    with open_store(url, keys=RING) as store, pytest.raises(MissingKey, match="'k2'"):
        store.messages("t")


def test_a_store_with_plaintext_is_encrypted_from_now_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    with open_store(url) as store:
        store.create(new_thread(), message("m1", payload=b"old"))
    with pytest.raises(StoreMisuse, match=r"written without keys.*perdure store copy"):
        open_store(url, keys=RING)
    with open_store(url, keys=RING, allow_plaintext=True) as store:
        store.create(new_thread("u"), message("m1", payload=b"new"))
        assert [store.messages(one)[0].payload for one in "tu"] == [b"old", b"new"]
        assert isinstance(store, BackedStore)
        assert [store.key_ids(one) for one in "tu"] == [{""}, {"k1"}]
    with pytest.raises(StoreMisuse, match="is encrypted"):
        open_store(url)


def test_a_memory_store_takes_keys() -> None:
    with open_store("memory://", keys=RING) as store:
        assert isinstance(store, MemoryStore)
        owned(store)
        store.deliver("t", message(payload=b"x"), ANY)
        assert store.key_ids("t") == {"k1"}


# -- optional libraries --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("library", "call", "hint"),
    [
        ("psycopg", "open_store('postgresql://h/db')", "pip install 'perdure[postgres]'"),
        ("redis", "open_store('redis://h')", "pip install 'perdure[redis]'"),
        (
            "cryptography",
            "open_store('memory://', keys=Keyring.generate())",
            "pip install 'perdure[encryption]'",
        ),
    ],
)
def test_what_is_not_installed_is_named(library: str, call: str, hint: str) -> None:
    program = f"""
        import sys
        sys.modules[{library!r}] = None
        from perdure.stores.config import StoreConfig
        from perdure.stores.errors import StoreMisuse
        from perdure.stores.keys import Keyring
        from perdure.stores.urls import open_store
        open_store("memory://").close()
        StoreConfig(url="postgresql://h/db")
        StoreConfig(url="redis://h", keys=Keyring.generate())
        try:
            {call}
        except StoreMisuse as error:
            print(error)
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert hint in done.stdout
    assert library in done.stdout


def test_no_driver_is_loaded_before_it_is_asked_for() -> None:
    program = "import sys, perdure.stores.config; print({'psycopg', 'redis', 'cryptography'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# -- secrets -------------------------------------------------------------------------------------------------------


def spoiled(url: str, **parts: str) -> Iterator[str]:
    """URLs of the server with a password that is wrong, and with other faults besides."""
    split = urlsplit(url)
    user = split.username or ""
    host = f"{split.hostname}:{split.port}"
    for password in (SECRET, AWKWARD):
        for place in (host, f"{split.hostname}:1", "no-such-host.invalid:1"):
            yield urlunsplit(split._replace(netloc=f"{user}:{quote(password, safe='')}@{place}"))
        netloc = f"{user}:{quote(password, safe='')}@{host}"
        yield urlunsplit(split._replace(netloc=netloc, path="/no-such-db"))
    yield f"{url}?password={SECRET}&sslmode=verify-full&sslrootcert=/no/such/file"
    yield f"{url}?password={SECRET}&no_such_option=1"


def test_no_error_log_or_repr_shows_a_secret(
    postgres_url: str,
    redis_url: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    failures = 0

    def attempt(work: Callable[[], object]) -> None:
        nonlocal failures
        try:
            shown.append(repr(work()))
        except StoreError as error:
            failures += 1
            shown.extend(_texts(error))

    file = tmp_path / "plain.db"
    open_store(f"sqlite:///{file}").close()
    for url in (*spoiled(postgres_url), *spoiled(redis_url)):
        attempt(lambda url=url: StoreConfig(url=url, keys=RING))  # type: ignore[misc]
        attempt(lambda url=url: open_store(url, keys=RING))  # type: ignore[misc]
    good = replace_password(postgres_url)
    attempt(lambda: PostgresOptions(password=SECRET))
    attempt(lambda: RedisOptions(password=SECRET))
    attempt(lambda: Address.of(good, PostgresOptions(password=SECRET)))
    with open_store(f"sqlite:///{file}", keys=RING) as store:
        attempt(lambda: store)
        attempt(lambda: store.thread("none"))
        attempt(lambda: store.graph("none"))
    assert failures >= 12
    out, err = capfd.readouterr()
    key = RING.keys[0][1]
    for secret in (SECRET, quote(AWKWARD, safe=""), RING.text().split(":")[1].strip(), key.hex(), repr(key)[2:-1]):
        assert [one for one in (*shown, out, err, caplog.text) if secret in one] == []


def replace_password(url: str) -> str:
    split = urlsplit(url)
    return urlunsplit(split._replace(netloc=f"{split.username}:{SECRET}@{split.hostname}:{split.port}"))


def _texts(error: StoreError) -> Iterator[str]:
    """All that a log could show of an error: itself, its attributes, and what it came from."""
    yield f"{error!r} {error.__dict__} {pickle.dumps(error)!r}"
    yield "".join(traceback.format_exception(error))
