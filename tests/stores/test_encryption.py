"""Encryption at rest: nothing readable is kept, nothing changed or moved goes unnoticed, keys can be replaced."""

from __future__ import annotations

import base64
import os
import pickle
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.stores.backed import BackedStore
from perdure.stores.encryption import EncryptedVault
from perdure.stores.errors import Corrupt, MissingKey, NewerFormat, StoreError, StoreMisuse
from perdure.stores.keys import Keyring, KeySource
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Amendment, RunUpdate
from perdure.stores.records import GraphRecord, Status
from perdure.stores.segments import Kind, Row
from perdure.stores.sqlite import SqliteStore
from perdure.stores.urls import open_store
from perdure.stores.vault import PlainVault, Vault, describe, sealing_key
from tests.stores.backends import ANY, Backend, commit, message, new_thread, owned

SECRET = b"the launch code is 0000"
RING = Keyring.generate("k1")
VAULT = EncryptedVault(RING)
PLACE = ("segment", "thread", "1", "1", "commit")


def row(seq: int, payload: bytes = SECRET) -> Row:
    return Row(Kind.VALUE, seq, "log", seq, 0, "node", 0, payload)


# -- the vault -----------------------------------------------------------------------------------------------------


@given(st.binary(max_size=300), st.lists(st.text(max_size=8), min_size=1, max_size=4).map(tuple))
@settings(deadline=None)
def test_what_is_sealed_opens_at_its_place_only(data: bytes, place: tuple[str, ...]) -> None:
    kept = VAULT.seal(place, data)
    assert VAULT.open(place, memoryview(kept)) == data
    for other in ((*place, ""), ("", *place), (*place[:-1], place[-1] + "x"), ("".join(place),) * len(place)):
        if other != place:
            with pytest.raises(Corrupt) as caught:
                VAULT.open(other, kept)
            assert describe(other) in str(caught.value)


def test_the_same_data_never_looks_the_same() -> None:
    kept = {VAULT.seal(PLACE, SECRET) for _ in range(2000)}
    assert len(kept) == 2000
    assert len({data[8:24] for data in kept}) == 2000, "salts repeat"
    assert len({data[24:36] for data in kept}) == 2000, "nonces repeat"
    assert not any(SECRET[:8] in data for data in kept)


@pytest.mark.parametrize("size", [0, 1, 500])
def test_every_flipped_bit_and_every_cut_is_noticed(size: int) -> None:
    kept = bytearray(VAULT.seal(PLACE, os.urandom(size)))
    for index in range(len(kept)):
        for bit in range(8):
            kept[index] ^= 1 << bit
            with pytest.raises((Corrupt, NewerFormat, MissingKey)) as caught:
                VAULT.open(PLACE, bytes(kept))
            assert describe(PLACE) in str(caught.value)
            kept[index] ^= 1 << bit
    for end in range(len(kept)):
        with pytest.raises((Corrupt, MissingKey)):
            VAULT.open(PLACE, bytes(kept[:end]))
    with pytest.raises(Corrupt):
        VAULT.open(PLACE, bytes(kept) + b"\0")


@given(st.binary(max_size=120), st.sampled_from([b"", b"PRDE", b"PRDE\x01", b"PRDE\x01\x02k1", b"PRDP", b"PRDS"]))
@settings(deadline=None)
def test_arbitrary_bytes_do_not_open(data: bytes, head: bytes) -> None:
    for place in (PLACE, ("message", "t", "m")):
        with pytest.raises((Corrupt, NewerFormat, MissingKey)):
            VAULT.open(place, head + data)
        for lenient in (EncryptedVault(RING, allow_plaintext=True), PlainVault()):
            try:
                lenient.open(place, head + data)
            except (Corrupt, NewerFormat, MissingKey):
                pass


def test_keys_are_replaced_one_after_the_other() -> None:
    old, both = RING, RING.rotated("k2")
    first = EncryptedVault(old).seal(PLACE, b"1")
    second = EncryptedVault(both).seal(PLACE, b"2")
    assert (sealing_key(first), sealing_key(second), sealing_key(b"PRDSxxxx")) == ("k1", "k2", None)
    assert [EncryptedVault(both).open(PLACE, each) for each in (first, second)] == [b"1", b"2"]
    with pytest.raises(MissingKey, match=r"'k2'.*k1") as caught:
        EncryptedVault(old).open(PLACE, second)
    assert describe(PLACE) in str(caught.value)
    same_id = Keyring.generate("k1")
    with pytest.raises(Corrupt, match="does not decrypt"):
        EncryptedVault(same_id).open(PLACE, first)


def test_a_process_that_runs_learns_of_new_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(RING.text())
    running = EncryptedVault(KeySource(path=str(file)))
    new = RING.rotated("k2")
    kept = EncryptedVault(new).seal(PLACE, b"by a newer process")
    with pytest.raises(MissingKey):
        running.open(PLACE, kept)
    file.write_text(new.text())
    assert running.open(PLACE, kept) == b"by a newer process"
    assert sealing_key(running.seal(PLACE, b"")) == "k2"


def test_plaintext_is_refused_unless_allowed() -> None:
    plain, lenient = PlainVault(), EncryptedVault(RING, allow_plaintext=True)
    for place in (PLACE, ("message", "t", "m")):
        for data in (b"PRDS as a segment begins", b""):
            kept = plain.seal(place, data)
            with pytest.raises(Corrupt, match="not encrypted"):
                VAULT.open(place, kept)
            assert lenient.open(place, kept) == data
        with pytest.raises(MissingKey, match="is encrypted"):
            plain.open(place, lenient.seal(place, SECRET))


def test_many_threads_share_a_vault() -> None:
    failures: list[object] = []

    def work(number: int) -> None:
        for step in range(300):
            place, data = ("message", str(number), str(step)), os.urandom(step)
            if VAULT.open(place, VAULT.seal(place, data)) != data:
                failures.append(place)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# -- keys ----------------------------------------------------------------------------------------------------------


def test_keys_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Keyring.generate("a").rotated("b")
    assert ring.ids == ("b", "a")
    assert Keyring.parse(ring.text()) == ring
    assert Keyring.of(dict(ring.keys)) == ring
    assert Keyring.of(dict(ring.keys), active="a").ids == ("a", "b")
    file = tmp_path / "keys"
    file.write_text(f"# the keys of the audit\n\n{ring.text()}")
    assert KeySource(path=str(file)).read() == ring
    monkeypatch.setenv("PERDURE_KEYS", ring.text().replace("\n", ","))
    assert KeySource(variable="PERDURE_KEYS").read() == ring
    assert pickle.loads(pickle.dumps(ring)) == ring


def spellings(key: bytes) -> Iterator[str]:
    yield from (repr(key), repr(key)[2:-1], key.hex(), base64.b64encode(key).decode())


@pytest.mark.parametrize(
    "text",
    [
        "{key}",
        "a:{key}x",
        "a:{short}",
        "{key}:a",
        "a:{key},a:{key}",
        "a b:{key}",
        "a:{key}\n{key}",
        ":{key}",
        "a={key}",
    ],
)
def test_malformed_keys_are_refused_without_showing_them(text: str) -> None:
    key = os.urandom(32)
    encoded = base64.b64encode(key).decode()
    with pytest.raises(StoreMisuse) as caught:
        Keyring.parse(text.format(key=encoded, short=encoded[:20]))
    for spelling in spellings(key):
        assert spelling not in str(caught.value)
    assert encoded[:20] not in str(caught.value)


def test_what_is_no_keyring_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_KEYS", raising=False)
    for make in (
        lambda: Keyring(()),
        lambda: Keyring.of({"a": b"short"}),
        lambda: Keyring.of({"a": bytes(32)}, active="b"),
        lambda: KeySource(),
        lambda: KeySource(variable="A", path="b"),
        lambda: KeySource(variable="NO_KEYS").read(),
        lambda: KeySource(path=str(tmp_path / "none")).read(),
        lambda: KeySource(path=str(tmp_path)).read(),
        lambda: EncryptedVault(KeySource(variable="NO_KEYS")),
    ):
        with pytest.raises(StoreMisuse):
            make()


def test_no_repr_and_no_error_shows_a_key() -> None:
    other = EncryptedVault(Keyring.generate("k9"))
    shown = [repr(RING), str(RING), repr(VAULT), repr([RING])]
    for kept in (other.seal(PLACE, SECRET), VAULT.seal(PLACE, SECRET)[:-1], b"", b"PRDE", b"PRDE\x01\xff"):
        with pytest.raises(StoreError) as caught:
            VAULT.open(PLACE, kept)
        error: BaseException | None = caught.value
        while error is not None:
            shown.append(f"{error!r} {error} {error.__dict__}")
            error = error.__cause__ or error.__context__
    for spelling in spellings(RING.keys[0][1]):
        assert not any(spelling in text for text in shown)
    assert "k1" in shown[0]


# -- a store -------------------------------------------------------------------------------------------------------


def filled(store: BackedStore) -> None:
    store.create(new_thread(), message("m1", payload=SECRET))
    store.claim("t", epoch=0, token="token-1", owner="owner")
    store.commit([commit(1, rows=(row(1),))])
    store.commit([commit(2, rows=())])
    store.deliver("t", message("m2", "cancel"), ANY)
    update = RunUpdate(run=1, status=Status.FAILED, end=3, error=SECRET, reason=SECRET.decode())
    store.commit([commit(3, rows=(row(3),), runs=(update,), reason=SECRET.decode())])
    store.put_graph(GraphRecord(graph_key="g", name="g", version="1", kind="pickle", body=SECRET))


def check(store: BackedStore) -> None:
    assert [segment.rows for segment in store.segments("t")] == [(row(3),), (), (row(1),)]
    assert [one.payload for one in store.messages("t", unread=False)] == [SECRET, b""]
    assert [(run.error, run.reason) for run in store.runs("t")] == [(SECRET, SECRET.decode())]
    rows = (store.thread("t"), *store.threads().threads, store.image("t").thread, store.amend("t", Amendment(tidied=1)))
    assert {one.reason for one in rows if one.thread_id == "t"} == {SECRET.decode()}
    assert store.graph("g").body == SECRET


def opened(path: Path, vault: Vault | None) -> SqliteStore:
    return SqliteStore(path, vault=vault)


def test_a_store_keeps_nothing_readable(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with opened(path, VAULT) as store:
        filled(store)
        check(store)
        assert store.key_ids("t") == {"k1"}
        assert all(SECRET not in file.read_bytes() for file in tmp_path.iterdir())
    with opened(path, VAULT.__class__(RING.rotated("k2"))) as store:
        check(store)
        store.deliver("t", message("m3"), ANY)
        assert store.key_ids("t") == {"k1", "k2"}
    with opened(tmp_path / "plain.db", None) as store:
        filled(store)
        assert store.key_ids("t") == {""}
        assert any(SECRET in file.read_bytes() for file in tmp_path.iterdir()), "the test looks at the wrong bytes"


@pytest.mark.parametrize("read", ["segments", "messages", "runs", "graph"])
def test_a_store_without_the_key_names_record_and_key(tmp_path: Path, read: str) -> None:
    with opened(tmp_path / "store.db", VAULT) as store:
        filled(store)
    for vault, says in ((EncryptedVault(Keyring.generate("k9")), "'k1'"), (None, "keys")):
        with opened(tmp_path / "store.db", vault) as store, pytest.raises(MissingKey, match=says) as caught:
            getattr(store, read)(*("g",) if read == "graph" else ("t",))
        assert store.where in str(caught.value)


def test_a_segment_that_was_emptied_or_swapped_is_noticed(tmp_path: Path) -> None:
    """An empty segment used to be kept as no bytes at all, so that whoever could write to the file could make any
    commit's rows disappear."""
    path = tmp_path / "store.db"
    with opened(path, VAULT) as store:
        filled(store)
    with closing(sqlite3.connect(path)) as raw:
        kept = dict(raw.execute("SELECT first, data FROM segments"))
    assert all(kept.values())
    for first, data in ((1, b""), (2, b""), (1, kept[3]), (2, kept[1]), (1, PlainVault().seal(PLACE, b"PRDS"))):
        with closing(sqlite3.connect(path)) as raw, raw:
            raw.execute("UPDATE segments SET data = ? WHERE first = ?", (data, first))
        with opened(path, VAULT) as store, pytest.raises(Corrupt, match=f"'t', commits {first}"):
            store.segments("t")
        with closing(sqlite3.connect(path)) as raw, raw:
            raw.execute("UPDATE segments SET data = ? WHERE first = ?", (kept[first], first))
    with opened(path, VAULT) as store:
        check(store)


def test_messages_errors_and_graphs_are_bound_to_their_records(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with opened(path, VAULT) as store:
        filled(store)
        owned(store, "other")
        store.deliver("other", message("m1", payload=b"harmless"), ANY)
    for table, column in (("messages", "payload"), ("runs", "error"), ("graphs", "body")):
        with closing(sqlite3.connect(path)) as raw, raw:
            values = [value for (value,) in raw.execute(f"SELECT DISTINCT {column} FROM {table}") if value]
            foreign = next((value for value in values[1:]), VAULT.seal(("run", "t", "2"), b"x"))
            (before,) = raw.execute(f"SELECT {column} FROM {table} WHERE rowid = 1").fetchone()
            raw.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = 1", (foreign,))
        with opened(path, VAULT) as store, pytest.raises(Corrupt, match="does not decrypt"):
            if table == "graphs":
                store.graph("g")
            else:
                getattr(store, table)("t", **({"unread": False} if table == "messages" else {}))
        with closing(sqlite3.connect(path)) as raw, raw:
            raw.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = 1", (before,))


def test_a_copy_is_sealed_anew() -> None:
    source, target = MemoryStore(vault=VAULT), MemoryStore(vault=EncryptedVault(RING.rotated("k2")))
    filled(source)
    target.load(source.image("t"), source.segments("t"), complete=True)
    target.put_graph(source.graph("g"))
    check(target)
    assert target.key_ids("t") == {"k2"}
    segments = target.segments("t")[::-1]
    assert target.rewrite("t", segments[:2], [replace(segments[1], first=1, rows=segments[0].rows)])
    assert [segment.rows for segment in target.segments("t")] == [(row(3),), (row(1),)]


def test_every_store_encrypts(backend: Backend) -> None:
    store = open_store(backend.url, keys=RING)
    assert isinstance(store, BackedStore)
    backend._opened.append(store)  # so that it is closed, and that a memory store is looked into
    filled(store)
    check(store)
    assert store.key_ids("t") == {"k1"}
    for what, read in (
        ("segment", lambda: store.segments("t")),
        ("message", lambda: store.messages("t", unread=False)),
        ("run", lambda: store.runs("t")),
    ):
        backend.damage(store, "t", what)
        with pytest.raises(Corrupt, match="does not decrypt"):
            read()
    if backend.shared:
        with pytest.raises(StoreMisuse, match="is encrypted"):
            open_store(backend.url)


def test_a_reason_that_cannot_be_read_hides_no_thread(tmp_path: Path) -> None:
    """Rows are read by everything; a reason is for people only."""
    path = tmp_path / "store.db"
    with opened(path, VAULT) as store:
        filled(store)
    with opened(path, EncryptedVault(Keyring.generate("k9"))) as store:
        assert "'k1'" in store.thread("t").reason
    for kept in ("PRDE:not base64", "PRDE:", "PRDE:UFJERQ=="):
        with closing(sqlite3.connect(path)) as raw, raw:
            raw.execute("UPDATE threads SET reason = ?", (kept,))
        with opened(path, VAULT) as store:
            assert "cannot be read" in store.thread("t").reason
            assert store.claim("t", epoch=1, token="token-2", owner="other").epoch == 2
        with closing(sqlite3.connect(path)) as raw, raw:
            raw.execute("UPDATE threads SET epoch = 1")


def test_reasons_are_as_they_are_without_keys(tmp_path: Path) -> None:
    with opened(tmp_path / "store.db", None) as store:
        owned(store)
        for reason in ("PRDE:of a user's own", "plain", ""):
            store.commit([commit(store.thread("t").seq + 1, reason=reason)])
            assert store.thread("t").reason == reason
