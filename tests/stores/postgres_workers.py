"""What the other processes of the Postgres tests do. Importable from here, for other processes."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

from perdure.stores.errors import StoreError
from perdure.stores.node_slots import NodeSlots
from perdure.stores.postgres import PostgresStore


def open_at_once(url: str, start: Barrier, answers: Connection) -> None:
    """Open the store at the same moment as the others; send the layouts that this one applied."""
    start.wait(60)
    try:
        with PostgresStore(url) as store:
            answers.send(store.migrated)
    except StoreError as error:
        answers.send(repr(error))


def stop_in_transaction(url: str, thread_id: str, answers: Connection) -> None:
    """Stop (as by SIGSTOP) with the thread's row locked."""
    store = PostgresStore(url)
    with store._transaction() as tx:
        assert tx.thread(thread_id) is not None
        answers.send(os.getpid())
        os.kill(os.getpid(), signal.SIGSTOP)


def hold_slots(server: str, limit: int, answers: Connection) -> None:
    """Take all places of the machine and wait to be killed."""
    slots = NodeSlots(server, limit)
    held = [slots.take(5) for _ in range(limit)]
    answers.send(len(held))
    signal.pause()
