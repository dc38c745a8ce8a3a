"""Somebody who looks at states while everything changes, and remembers what was shown."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from random import Random
from typing import Any

from perdure.runtime.compiled import CompiledGraph
from perdure.stores.base import CheckpointStore
from perdure.stores.errors import StoreUnavailable
from tests.chaos.graphs import graph


class Reader(threading.Thread):
    """Reads the newest state of one thread after the other."""

    def __init__(self, store: CheckpointStore) -> None:
        super().__init__(name="reader", daemon=True)
        self.seen: dict[str, list[tuple[str, Mapping[str, Any]]]] = defaultdict(list)
        """Checkpoint id and values, by thread."""
        self.error: BaseException | None = None
        self._store = store
        self._graph = CompiledGraph(graph.topology, store)
        self._random = Random(0)
        self._ended = threading.Event()

    def end(self) -> None:
        """Return when it has stopped. Raises what it met."""
        self._ended.set()
        self.join()
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        try:
            while not self._ended.wait(0.05):
                try:
                    self._look()
                except StoreUnavailable:
                    continue
        except BaseException as error:
            self.error = error

    def _look(self) -> None:
        threads = self._store.threads(limit=20).threads
        if not threads:
            return
        thread_id = self._random.choice(threads).thread_id
        state = self._graph.get_state({"configurable": {"thread_id": thread_id}})
        if "checkpoint_id" in state.config["configurable"]:
            self.seen[thread_id].append((state.checkpoint_id, dict(state.values)))
