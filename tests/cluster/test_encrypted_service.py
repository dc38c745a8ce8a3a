"""A service on an encrypted store, and what of passwords and keys a user gets to see: nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure import (
    Client,
    HeadOptions,
    Interrupted,
    Keyring,
    KeySource,
    NodeFailed,
    StoreConfig,
    StoreMisuse,
    connect,
    open_store,
)
from perdure.actors.names import service_key
from perdure.cluster.connect import _config
from perdure.stores.addresses import redacted
from tests.actors.services import end
from tests.cluster.graphs_cli import asking, checking
from tests.cluster.test_cli import Here, Shell

PASSWORD = "hunter2-Xq"


def files_with(folder: Path, text: str | bytes) -> list[str]:
    sought = text.encode() if isinstance(text, str) else text
    return [path.name for path in folder.rglob("*") if path.is_file() and sought in path.read_bytes()]


def test_threads_run_on_an_encrypted_store(head: HeadOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in a variable are known to who has the variable; the head, which others may have started, is sent them."""
    ring, folder = Keyring.generate("k1"), tmp_path / "store"
    folder.mkdir()
    url = f"sqlite:///{folder}/threads.db"
    secrets = tmp_path / "keys"
    secrets.write_text(ring.text())
    monkeypatch.setenv("TEST_KEYS", ring.text())
    assert head.folder is not None
    client = connect(url, head=head, keys=KeySource(variable="TEST_KEYS"))
    try:
        _run(client, folder)
        _refused(client, url, head, ring)
        shell = Shell(url, head.folder, {"PERDURE_KEYS": ""})
        code, _, err = shell("show", "asks")
        assert code == 2
        assert "is encrypted; open it with its keys" in err
        for more, options in (({"PERDURE_KEYS": ring.text()}, []), ({}, ["--keys-file", str(secrets)])):
            code, out, err = Shell(url, head.folder, {"PERDURE_KEYS": "", **more})("show", "fails", *options)
            assert code == 0, err
            assert "the gate is" in out
        resume = Shell(url, head.folder, {"PERDURE_KEYS": ring.text()})
        assert resume.json("resume", "asks", '"top secret"')[1]["result"]["answer"] == "top secret"
        assert files_with(folder, "top secret") == []
        _moved(client, tmp_path)
        with open_store(url, keys=ring.rotated("k2")) as store:
            assert store.thread("asks").status == "succeeded"
    finally:
        end(client)
        client.close()
    for written in (ring.text().split(":")[1].strip(), ring.keys[0][1]):
        assert files_with(head.folder, written) == []


def _refused(client: Client, url: str, head: HeadOptions, ring: Keyring) -> None:
    """Clients whose keys do not go with those of the service were let in, and their threads waited for a service that
    could not read them."""
    with pytest.raises(StoreMisuse, match=r"key 'k2', the first one given, is not among those of the service .k1."):
        connect(url, head=head, keys=ring.rotated("k2"))
    assert client._supervisors.ask("settings")[0].store.keys is None


def _run(client: Client, folder: Path) -> None:
    thread = client.submit(asking, {"n": 4, "gate": "a very secret gate"}, thread_id="asks")
    with pytest.raises(Interrupted):
        thread.result(timeout=60)
    with pytest.raises(NodeFailed, match="the gate is"):
        client.submit(checking, {"gate": str(folder / "none")}, thread_id="fails").result(timeout=60)
    assert "the gate is" in client.store.thread("fails").reason
    assert files_with(folder, "secret gate") == []
    assert files_with(folder, "the gate is") == []


def _moved(client: Client, folder: Path) -> None:
    """What waits in a file goes on where it is imported, on the code that is given for it."""
    waits = client.submit(asking, {"n": 4, "gate": "a very secret gate"}, thread_id="waits")
    with pytest.raises(Interrupted):
        waits.result(timeout=60)
    path = folder / "waits.perdure"
    assert client.export_threads(path, {"threads": ["waits"]}).threads == 1
    assert b"secret gate" not in path.read_bytes()
    waits.resume("before")
    done = client.import_threads(path, rename={"waits": "moved"}, graphs=[asking])
    assert done.thread_ids == ["moved"]
    moved = client.thread("moved")
    assert moved.status == "interrupted"
    assert client.resume_many({"threads": ["moved"]}, "after").done == ("moved",)
    assert (waits.result(timeout=60)["answer"], moved.result(timeout=60)["answer"]) == ("before", "after")
    client.submit(asking, {"n": 4, "gate": "a very secret gate"}, thread_id="starts")
    client.export_threads(path, {"threads": ["starts"]}, replace=True)
    client.import_threads(path, rename={"starts": "started"})
    with pytest.raises(Interrupted):  # wherever it was when it was written: it starts by itself, and gets as far
        client.thread("started").result(timeout=60)


def test_a_service_is_found_after_its_password_was_changed() -> None:
    old, new = (StoreConfig(url=f"postgresql://u:{word}@h/db?schema=s") for word in (PASSWORD, "other"))
    assert service_key(old.identity, "session") == service_key(new.identity, "session")
    other = StoreConfig(url=f"postgresql://u:{PASSWORD}@h/db?schema=t")
    assert service_key(other.identity, "session") != service_key(old.identity, "session")


def test_what_connect_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring, url = Keyring.generate("k1"), f"sqlite:///{tmp_path}/x.db"
    monkeypatch.setenv("TEST_KEYS", ring.text())
    variable, file = KeySource(variable="TEST_KEYS"), KeySource(path="/run/keys")
    for given, local, travels in (
        (variable, True, ring),
        (variable, False, variable),
        (file, True, file),
        (ring, False, ring),
        (None, True, None),
    ):
        assert _config(url, None, given, shared_path=False, local=local).keys == travels
    assert _config("memory://", None, ring, shared_path=False, local=True).keys is None
    whole = StoreConfig(url=url, keys=ring, allow_plaintext=True)
    assert _config(whole, None, None, shared_path=False, local=True) == whole
    with pytest.raises(StoreMisuse, match="StoreConfig"):
        connect(whole, keys=ring)
    with pytest.raises(StoreMisuse, match="SQLite"):
        connect("redis://h", options=StoreConfig(url="redis://h").options, shared_path=True)


@pytest.mark.parametrize(
    "url", ["postgresql://u:{}@127.0.0.1:1/db", "redis://:{}@127.0.0.1:1/0", "postgresql://u:{}/db"]
)
def test_the_command_line_shows_no_password(url: str, tmp_path: Path) -> None:
    secret = url.format(PASSWORD)
    # What the interpreter shows of an error needs a process of its own.
    for shell, arguments in ((Shell, ["ls", "--debug"]), (Here, ["store", "stats", "--json"])):
        code, out, err = shell(secret, tmp_path)(*arguments)
        assert code != 0
        assert PASSWORD not in out + err
        assert redacted(secret) in out + err
