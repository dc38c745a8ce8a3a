"""The demo: the audit on Ray and SQLite loses its owner to SIGKILL halfway, goes on, and is forked.

Nothing is staged: what it prints was read from the store or from the journal of attempts, and where these say that a
promise was broken it fails.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from perdure import Client, HeadOptions, Interrupted, StateSnapshot, ThreadHandle, connect
from perdure.cluster.head import running_head, stop_head
from perdure.examples.audit_graph import graph
from perdure.examples.audit_kill import PATIENCE, DemoFailed, Kill, Recovery
from perdure.examples.audit_watch import FanOut, attempts
from perdure.stores.processes import ProcessId, family, wait_gone

MAX_CPUS = 4
"""With all of a large machine's cores the standard library would be done before there is anything to kill."""
ANSWER = {"approve": True, "ignore": ["shadowed-builtin"]}
FORK_OFFSET = 10
"""How much higher the fork's threshold is."""


@dataclass(frozen=True, slots=True)
class Audited:
    """One of the two threads, when it had ended."""

    thread_id: str
    threshold: int
    outcome: dict[str, Any]
    bytes: int
    """Payloads of its own commits; a fork's do not include those of the thread that it came from."""
    attempts: int
    """How often one of its tasks began with a file."""

    @property
    def complex(self) -> int:
        """Findings of the one rule that depends on the threshold."""
        found: int = self.outcome["counts"].get("too-complex", 0)
        return found

    @property
    def findings(self) -> int:
        """Those that are in the report."""
        return sum(count for rule, count in self.outcome["counts"].items() if rule not in self.outcome["ignored"])


def run_demo(root: Path | None, threshold: int, keep: Path | None, console: Console) -> None:
    """Run it, and leave nothing behind but the two reports in the current folder and, in the folder `keep` if there is
    one, the store `audit.db` and the journal. Raises `DemoFailed`, and what Perdure raises."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="perdure-demo-") as name:
        folder = keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        with own_head(Path(name), console) as head, connect(f"sqlite:///{folder}/audit.db", head=head) as client:
            ready = time.monotonic() - began
            console.print(f"A Ray head of its own and {client.store.url}: ready after {ready:.1f} s", soft_wrap=True)
            Demo(client, folder / "journal", console).run(root, threshold)
    console.print(f"{time.monotonic() - began:.1f} s in all")


@contextmanager
def own_head(folder: Path, console: Console) -> Iterator[HeadOptions]:
    """A head that is nobody else's, and that is gone afterwards with all its processes."""
    # Short: should this process itself be killed, the head ends by itself once the audit is over.
    cpus = min(MAX_CPUS, os.cpu_count() or 1)
    options = HeadOptions(folder=folder, num_cpus=cpus, idle=timedelta(seconds=20))
    members: frozenset[ProcessId] = frozenset()
    try:
        yield options
    finally:
        endpoint = running_head(folder)
        if endpoint is not None:
            members = family(endpoint.process)
        stop_head(folder=folder)
    left = wait_gone(members, 5)
    if left:
        raise DemoFailed(f"processes are left over: {', '.join(str(process.pid) for process in left)}")
    console.print(f"The head has ended, and all of its {len(members)} processes.")


class Demo:
    """The stages, each with what it prints."""

    def __init__(self, client: Client, journal: Path, console: Console) -> None:
        self._client = client
        self._journal = journal
        self._console = console

    def run(self, root: Path | None, threshold: int) -> None:
        """All of them."""
        report = Path("audit-report.md").absolute()
        request = {"root": str(root or ""), "threshold": threshold, "report": str(report)}
        thread = self._client.submit(
            graph, request, thread_id="audit", tags=["demo"], configurable={"journal": str(self._journal)}
        )
        fan_out = FanOut(self._client.store, thread.thread_id)
        kill = Kill(self._client.store, thread, fan_out, self._journal, self._console)
        self._show_recovery(kill.run(), fan_out)
        outcome = self._answer(thread)
        first = Audited(thread.thread_id, threshold, outcome, self._bytes(thread), len(attempts(self._journal)))
        history = list(thread.get_state_history())
        self._show_history(history)
        self._show_reports(first, self._fork(thread, history, threshold + FORK_OFFSET))

    # -- the kill ------------------------------------------------------------------------------------------------

    def _show_recovery(self, recovery: Recovery, fan_out: FanOut) -> None:
        table = Table("after kill -9 of the owner", "")
        table.add_row("spare actors at that moment", str(recovery.spares))
        table.add_row("a new owner had claimed the thread after", _ms(recovery.claimed))
        table.add_row("a new process had begun with a file after", _ms(recovery.running))
        table.add_row("its first result was durable after", _ms(recovery.durable))
        table.add_row("tasks durable before the kill", f"{len(recovery.kept)} of {len(fan_out.files)}")
        table.add_row("of these, run again", str(len(recovery.broken)))
        table.add_row("tasks begun but not durable, run again", str(len(recovery.repeated) - len(recovery.broken)))
        self._show("Recovery", table)
        if recovery.broken:
            raise DemoFailed(f"durable results were computed again: {', '.join(recovery.broken[:3])} ...")
        missing = set(fan_out.files.values()) - {one.path for one in attempts(self._journal)}
        if missing:
            raise DemoFailed(f"{len(missing)} files were never begun, such as {min(missing)}")

    # -- the answer ----------------------------------------------------------------------------------------------

    def _answer(self, thread: ThreadHandle) -> dict[str, Any]:
        """Answer the interrupt; the run's outcome."""
        try:
            thread.result(timeout=PATIENCE)
        except Interrupted as stop:
            asked = stop.interrupts[0].value
        else:
            raise DemoFailed(f"thread {thread.thread_id!r} ended without asking anybody")
        found = sum(asked["counts"].values())
        self._say(f"{thread.thread_id!r} waits: {found:,} findings in {asked['files']:,} files, write the report?")
        self._say(f"Answered {ANSWER}")
        thread.resume(ANSWER)
        outcome = thread.result(timeout=PATIENCE)
        if not Path(outcome["report"]).is_file():
            raise DemoFailed(f"there is no report at {outcome['report']!r}")
        return outcome

    # -- history and fork ----------------------------------------------------------------------------------------

    def _show_history(self, history: Sequence[StateSnapshot]) -> None:
        table = Table("checkpoint", "made by", "leaves to run", "at (UTC)")
        for snapshot in history:
            made_by = _counted(snapshot.metadata["writes"]) or snapshot.metadata["source"]
            checkpoint = snapshot.checkpoint_id.lstrip("0")
            table.add_row(checkpoint, made_by, _counted(snapshot.next) or "-", snapshot.created_at[11:23])
        self._show("History", table)

    def _fork(self, thread: ThreadHandle, history: Sequence[StateSnapshot], threshold: int) -> Audited:
        """Fork from where the files had just been analysed, and answer the fork too."""
        checkpoint = next((one for one in history if one.next == ("collect",)), None)
        if checkpoint is None:
            raise DemoFailed("the history has no checkpoint right after the analysis")
        before = len(attempts(self._journal))
        report = Path(f"audit-report-{threshold}.md").absolute()
        forked = thread.fork(
            checkpoint.checkpoint_id,
            update={"threshold": threshold, "report": str(report)},
            thread_id=f"{thread.thread_id}-{threshold}",
        )
        number = checkpoint.checkpoint_id.lstrip("0")
        self._say(f"Forked from checkpoint {number} into thread {forked.thread_id!r}, with threshold {threshold}")
        outcome = self._answer(forked)
        return Audited(forked.thread_id, threshold, outcome, self._bytes(forked), len(attempts(self._journal)) - before)

    def _bytes(self, thread: ThreadHandle) -> int:
        fan_out = FanOut(self._client.store, thread.thread_id)
        fan_out.look()
        return fan_out.bytes

    def _show_reports(self, first: Audited, second: Audited) -> None:
        table = Table("thread", repr(first.thread_id), repr(second.thread_id))
        pairs = {
            "threshold": (first.threshold, second.threshold),
            "files begun, second attempts included": (first.attempts, second.attempts),
            "bytes of payload that it has stored": (first.bytes, second.bytes),
            "functions that are too complex": (first.complex, second.complex),
            "findings in the report": (first.findings, second.findings),
        }
        for what, (one, other) in pairs.items():
            table.add_row(what, f"{one:,}", f"{other:,}")
        self._show("Two reports, one analysis", table)
        for audited in (first, second):
            self._say(f"report: {audited.outcome['report']}")

    # -- printing ------------------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _show(self, title: str, table: Table) -> None:
        """A table: texts to the left, numbers to the right."""
        for column in table.columns:
            numbers = all(str(text)[:1].isdecimal() for text in column.cells)
            column.justify = "right" if numbers else "left"
        self._console.print(f"\n[bold]{title}[/bold]")
        self._console.print(table)


def _counted(names: Sequence[str]) -> str:
    return ", ".join(name if times == 1 else f"{name} x {times}" for name, times in Counter(names).items())


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms"
