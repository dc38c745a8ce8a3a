"""What the other processes of the SQLite tests do. Importable from here, for other processes."""

from __future__ import annotations

import os
import resource
import signal
import struct
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from perdure.stores.errors import ClaimLost, StoreError, StoreFull
from perdure.stores.sqlite import SqliteStore
from perdure.stores.urls import open_store
from tests.stores.backends import TOKEN, commit, delta, new_thread


def claim_all(url: str, names: list[str], token: str, start: Barrier, answers: Connection) -> None:
    """Claim each thread at the same moment as the others; send the names of those that were won."""
    won: list[str] = []
    with open_store(url) as store:
        for name in names:
            start.wait(30)
            try:
                store.claim(name, epoch=0, token=token, owner=f"owner {token}")
                won.append(name)
            except ClaimLost:
                pass
    answers.send(won)


def commit_until_killed(url: str, thread_id: str, epoch: int, answers: Connection) -> None:
    """Commit one row after another, each of 2 KB, and send each seq that was acknowledged."""
    with open_store(url) as store:
        store.claim(thread_id, epoch=epoch, token=TOKEN, owner="victim")
        seq = store.thread(thread_id).seq
        while True:
            seq += 1
            rows = (delta(seq, seq.to_bytes(8, "big") + os.urandom(2048)),)
            (result,) = store.commit([commit(seq, thread_id=thread_id, epoch=epoch + 1, rows=rows, head=seq)])
            if isinstance(result, StoreError):
                raise result
            answers.send(seq)


def stop_in_transaction(path: str, answers: Connection) -> None:
    """Stop (as by SIGSTOP) after having written, before having committed."""
    store = SqliteStore(path)
    with store._transaction() as tx:
        tx.insert_thread(new_thread("half written"))
        answers.send(os.getpid())
        os.kill(os.getpid(), signal.SIGSTOP)


def stop_before_naming_itself(path: str, answers: Connection) -> None:
    """Stop after the lock was taken, while its file still names the owner before."""
    store = SqliteStore(path)
    with store._connections.lock.held():
        memory = store._connections.lock._memory
        assert memory is not None
        memory[8:24] = struct.pack("<Qd", 999_999_999, 1.0)
        answers.send(os.getpid())
        os.kill(os.getpid(), signal.SIGSTOP)


def fill_up(url: str, limit: int, answers: Connection) -> None:
    """Write where no file may grow beyond `limit` bytes; then, with room again, go on with the same store object.

    Sends (seq reached before it was full, seq after, errors seen).
    """
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with open_store(url) as store:
        store.create(new_thread("full"))
        store.claim("full", epoch=0, token=TOKEN, owner="o")
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        answers.send(_fill_and_go_on(store, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))))


def fill_up_disk(url: str, ballast: Path, answers: Connection) -> None:
    """The same where the disk is full until the ballast is gone."""
    with open_store(url) as store:
        store.create(new_thread("full"))
        store.claim("full", epoch=0, token=TOKEN, owner="o")
        answers.send(_fill_and_go_on(store, ballast.unlink))


def _fill_and_go_on(store: Any, make_room: Any) -> tuple[int, int, list[str]]:
    errors: list[str] = []
    # A reader stays connected: were the writer's the last connection, to replace it would empty the log and make room.
    seq = store.thread("full").seq
    while not errors and seq < 10_000:
        change = commit(seq + 1, thread_id="full", rows=(delta(seq + 1, os.urandom(20_000)),))
        try:
            store.commit([change])
            seq += 1
        except StoreFull as error:
            errors.append(str(error))
    reached = seq
    # Still full: refused again, readable all the same, and the same call passes once there is room.
    try:
        store.commit([change])
        errors.append("not full any more?")
    except StoreFull as error:
        errors.append(str(error))
    assert store.thread("full").seq == reached
    make_room()
    for _ in range(20):
        (result,) = store.commit([change])
        assert not isinstance(result, StoreError), result
        assert result.seq == seq + 1
        seq += 1
        change = commit(seq + 1, thread_id="full", rows=(delta(seq + 1, os.urandom(20_000)),))
    return reached, store.thread("full").seq, errors


def without_rights(url: str, scratch: str, prepared: list[str], answers: Connection) -> None:
    """Read and write as somebody who may only read. Sends what each call came to."""
    # Loads all code that a store needs: it may lie where nobody else may read.
    with open_store(scratch) as store:
        store.threads()
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    outcome: list[str] = []
    try:
        with open_store(url) as store:
            outcome.append(store.thread(prepared[0]).thread_id)
            for call in (lambda: store.create(new_thread("new")), lambda: store.commit([commit(1)])):
                try:
                    call()
                    outcome.append("written")
                except StoreError as error:
                    outcome.append(type(error).__name__)
            outcome.append(store.thread(prepared[0]).thread_id)
    except StoreError as error:
        outcome.append(type(error).__name__)
    answers.send(outcome)
