"""Messages that are sent several times, in other orders, late, and of which no supervisor is told."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from random import Random

from perdure import open_store
from perdure.runtime.payloads import UPDATE
from perdure.stores.base import CheckpointStore
from tests.actors.conftest import Serve
from tests.faults.counting import start_counting
from tests.faults.graphs_counting import graph
from tests.faults.senders import say

WIRES = 4
MESSAGES = 40


def send(store: CheckpointStore, thread_id: str, seed: int, failed: list[BaseException]) -> None:
    """All messages, in an order of its own; most of them twice, the second time after others."""
    draw = Random(seed)
    texts = [f"said {number}" for number in range(MESSAGES)]
    order = draw.sample(texts, len(texts))
    for place, text in enumerate(draw.choices(texts, k=MESSAGES // 2)):
        order.insert(2 * place, text)
    try:
        for text in order:
            time.sleep(draw.choice((0.0, 0.0, 0.002, 0.02)))
            assert say(store, graph, thread_id, text)
    except BaseException as error:
        failed.append(error)


def test_each_counts_once_in_the_order_of_its_number(serve: Serve, tmp_path: Path) -> None:
    client = serve()
    running = start_counting(client, tmp_path)
    running.go_on(3)
    thread_id = running.thread.thread_id
    stores = [open_store(client.store.url) for _ in range(WIRES)]
    failed: list[BaseException] = []
    wires = [threading.Thread(target=send, args=(store, thread_id, seed, failed)) for seed, store in enumerate(stores)]
    for wire in wires:
        wire.start()
    for wire in wires:
        wire.join()
    for store in stores:
        store.close()
    assert not failed
    running.go_on(5)
    running.finish(client)
    messages = client.store.messages(thread_id, unread=False)
    said = [message.message_id for message in messages if message.kind == UPDATE]
    assert sorted(said) == sorted(f"said {number}" for number in range(MESSAGES))
    assert [message.number for message in messages] == list(range(1, len(messages) + 1))
    assert running.thread.get_state().values["heard"] == said
    assert all(message.applied > 0 for message in messages)
