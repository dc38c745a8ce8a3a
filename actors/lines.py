"""The two lines of a service: of threads that want a process to themselves, and of those that may share one."""

from __future__ import annotations

from .line import Line, Waiting


class Lines:
    """Each thread waits in the one that it says (`Waiting.shared`)."""

    def __init__(self) -> None:
        self.alone = Line()
        self.shared = Line()

    def __contains__(self, thread_id: str) -> bool:
        return thread_id in self.alone or thread_id in self.shared

    def __len__(self) -> int:
        return len(self.alone) + len(self.shared)

    def get(self, thread_id: str) -> Waiting | None:
        """A thread that waits in either."""
        return self.alone.get(thread_id) or self.shared.get(thread_id)

    def add(self, thread: Waiting) -> None:
        """Put a thread at the end of its line."""
        (self.shared if thread.shared else self.alone).add(thread)

    def remove(self, thread: Waiting) -> None:
        """Take a thread out, if it waits."""
        (self.shared if thread.shared else self.alone).remove(thread.thread_id)

    def take(self, graph_key: str) -> list[Waiting]:
        """Take out all that wait for a graph, at once."""
        found = [*self.alone.of_graph(graph_key), *self.shared.of_graph(graph_key)]
        for thread in found:
            self.remove(thread)
        return found
