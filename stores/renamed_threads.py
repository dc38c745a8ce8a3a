"""The threads of a file under the ids that they are to have: a source of a copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from .arguments import check_id
from .errors import StoreMisuse, UnknownThread
from .operations import ThreadImage
from .records import IN_PROCESS, RERUN, SERVICE, GraphRecord, Origin, Segment, ThreadRecord
from .thread_file_reading import ThreadFile

Rename: TypeAlias = Mapping[str, str] | Callable[[str], str]
"""New ids by old ones (those that are not in it stay), or a function that gives them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenamedThreads:
    """A file as a source: only some of its threads, under the ids that they are to have."""

    file: ThreadFile
    names: Mapping[str, str]
    """Ids in the store by those in the file: of all in the file."""
    wanted: Mapping[str, str]
    """Ids in the file by those in the store: of those that are brought in."""
    graphs: Mapping[str, GraphRecord]
    """By the name of the graph: what runs its threads from now on."""
    fixed = True

    def rows(self) -> Iterator[ThreadRecord]:
        return map(self.thread, self.wanted)

    def thread(self, thread_id: str) -> ThreadRecord:
        return self._row(self.file.thread(self._old(thread_id)))

    def image(self, thread_id: str) -> ThreadImage:
        image = self.file.image(self._old(thread_id))
        runs = tuple(replace(run, thread_id=thread_id) for run in image.runs)
        return replace(image, thread=self._row(image.thread), runs=runs)

    def segments(
        self, thread_id: str, *, first: int = 1, last: int | None = None, limit: int | None = None
    ) -> list[Segment]:
        found = self.file.segments(self._old(thread_id), first=first, last=last, limit=limit)
        return [replace(segment, thread_id=thread_id) for segment in found]

    def graph_keys(self) -> tuple[str, ...]:
        return self.file.graph_keys()

    def graph(self, graph_key: str) -> GraphRecord:
        return self.file.graph(graph_key)

    def setting(self, name: str) -> Any:
        return self.file.setting(name)

    def _old(self, thread_id: str) -> str:
        if thread_id not in self.wanted:
            raise UnknownThread(thread_id, str(self.file))
        return self.wanted[thread_id]

    def _row(self, row: ThreadRecord) -> ThreadRecord:
        origin = row.origin
        if origin is not None:
            origin = Origin(thread_id=self.names[origin.thread_id], seq=origin.seq)
        metadata, mark = row.metadata, row.metadata.get(RERUN)
        if isinstance(mark, Mapping) and isinstance(above := mark.get("thread"), str) and above in self.names:
            metadata = {**metadata, RERUN: {**mark, "thread": self.names[above]}}
        graph = self.graphs.get(row.graph) if row.driver == SERVICE else None
        return replace(
            row,
            thread_id=self.names[row.thread_id],
            origin=origin,
            metadata=metadata,
            version=graph.version if graph is not None else row.version,
            graph_key=graph.graph_key if graph is not None else row.graph_key,
        )


def new_names(file: ThreadFile, rename: Rename | None) -> dict[str, str]:
    """The ids that the threads are to have, by those in the file. Raises `StoreMisuse` where they do not fit."""
    ids = dict.fromkeys(file.thread_ids)
    if not (rename is None or isinstance(rename, Mapping) or callable(rename)):
        raise StoreMisuse(f"rename is {rename!r}; give a dict of new ids by old ones, or a function of the old id")
    if isinstance(rename, Mapping):
        if unknown := [one for one in rename if one not in ids]:
            raise StoreMisuse(f"{file} holds no thread {unknown[0]!r} that could be renamed to {rename[unknown[0]]!r}")
        names = {one: rename.get(one, one) for one in ids}
    else:
        names = {one: rename(one) if rename is not None else one for one in ids}
    before: dict[str, str] = {}
    for old, new in names.items():
        check_id("thread id", new)
        if new in before:
            raise StoreMisuse(
                f"threads {before[new]!r} and {old!r} of {file} would both be {new!r}; rename one of them"
            )
        before[new] = old
        if new != old and file.thread(old).driver not in (SERVICE, IN_PROCESS):
            raise StoreMisuse(
                f"thread {old!r} of {file} is LangGraph's, which finds it by its id: it cannot become {new!r}"
            )
    return names
