"""Processes of a test's own that start at once: forks of one that has imported everything already.

A new interpreter spends more than a second of the processor on imports; a fork spends milliseconds. It is a process
like any other: it has a pid, runs beside the test and can be stopped and killed. `FORKS` is used as a context of
`multiprocessing`; what a process runs has to be importable. It starts without what the test has opened or set.
"""

from __future__ import annotations

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
# The threads that numpy and the allocator of pyarrow start on import are made again in a fork; no other is started.
FORKS.set_forkserver_preload(
    ["perdure.saver", "perdure.stores.postgres", "perdure.stores.redis", "tests.stores.workers"]
)
