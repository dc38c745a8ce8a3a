"""Runs recorded audits again with a new rule: `python -m perdure.examples.rerun_history`.

Packages of the standard library are audited on a Ray head of the example's own, and each audit is approved. Then there
is a newer version of the audit, with a rule more, and all of them are run again with it, only from the step on that
merges the findings: no file is analysed again, and nobody is asked again. All that it prints was read from the store.
"""

from __future__ import annotations

import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from perdure import BatchRerun, Client, Interrupted, ThreadHandle, connect
from perdure.examples import audit_lengths
from perdure.examples.audit import FAILURES
from perdure.examples.audit_demo import own_head
from perdure.examples.audit_graph import ANALYSE, graph
from perdure.examples.audit_kill import PATIENCE, DemoFailed
from perdure.examples.audit_lengths import LONGEST, RULE, too_long

app = typer.Typer(add_completion=False, help=__doc__)

PACKAGES = (
    "asyncio", "concurrent", "email", "html", "http", "importlib", "json", "logging", "multiprocessing", "unittest",
    "urllib", "xml",
)  # fmt: skip
ANSWER = {"approve": True, "ignore": ["shadowed-builtin"]}
SHOWN = 5
"""Of the longest functions."""


@app.command()
def main(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Folders, an audit each; some packages of the standard library.")
    ] = None,
) -> None:
    """Audit some folders, then run the audits again with a rule more."""
    console = Console()
    roots = [path.absolute() for path in paths or [Path(sysconfig.get_paths()["stdlib"], name) for name in PACKAGES]]
    try:
        with (
            tempfile.TemporaryDirectory(prefix="perdure-demo-") as name,
            own_head(Path(name), console) as head,
            connect(f"sqlite:///{name}/audits.db", head=head) as client,
        ):
            rerun_history(client, roots, console)
    except FAILURES as error:
        typer.echo(f"failed: {type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from None


def rerun_history(client: Client, roots: Sequence[Path], console: Console) -> None:
    """All of it, one after the other. Raises `DemoFailed` where the store says that more was run than had to be."""
    began = time.monotonic()
    originals = record(client, roots)
    console.print(f"{len(originals)} audits recorded and approved in {time.monotonic() - began:.1f} s")
    run_again(client, originals, console)


def run_again(client: Client, originals: Mapping[str, ThreadHandle], console: Console) -> None:
    """Run recorded audits again, and show what came of it. Raises `DemoFailed`."""
    began = time.monotonic()
    batch = client.rerun(
        {"threads": list(originals)},
        at="before:collect",
        graph=audit_lengths.graph,
        concurrency=len(originals),
        batch_id=RULE,
    )
    batch.wait(PATIENCE, console=console)
    console.print(f"run again with rule {RULE!r}, from `collect` on, in {time.monotonic() - began:.1f} s")
    reruns = reruns_of(client, batch)
    console.print(compared(originals, reruns))
    console.print(longest(reruns))


def record(client: Client, roots: Sequence[Path]) -> dict[str, ThreadHandle]:
    """Audit every folder, and approve each list of findings: the threads by their ids."""
    names = [f"audit-{root.name}" for root in roots]
    threads = client.submit_many(graph, [{"root": str(root)} for root in roots], thread_ids=names, isolation="shared")
    for thread in threads:
        try:
            thread.result(timeout=PATIENCE)
        except Interrupted:
            continue
        raise DemoFailed(f"thread {thread.thread_id!r} ended without asking anybody")
    client.resume_many({"threads": names}, ANSWER)
    for thread in threads:
        thread.result(timeout=PATIENCE)
    return dict(zip(names, threads, strict=True))


def reruns_of(client: Client, batch: BatchRerun) -> dict[str, ThreadHandle]:
    """The threads that run others again, by the ids of those."""
    if failed := batch.failures():
        raise DemoFailed(f"{failed[0].thread_id!r} could not be run again: {failed[0].reason}")
    return {item.thread_id: client.thread(item.rerun_id, graph=audit_lengths.graph) for item in batch.ended()}


def compared(originals: Mapping[str, ThreadHandle], reruns: Mapping[str, ThreadHandle]) -> Table:
    """What came of each audit, then and now."""
    table = Table("audit", "files", "findings", RULE, "ignored", "analysed again")
    for thread_id, original in originals.items():
        old, new = values(original), values(reruns[thread_id])
        known = {rule: count for rule, count in new["counts"].items() if rule != RULE}
        again = analysed_by(reruns[thread_id])
        if again or (known, new["ignored"]) != (old["counts"], old["ignored"]):
            raise DemoFailed(f"{thread_id!r}: {again} files analysed again; recorded {old['counts']}, now {known}")
        cells = (len(old["paths"]), sum(known.values()), new["counts"].get(RULE, 0), len(new["ignored"]), again)
        table.add_row(thread_id, *map(str, cells))
    return table


def longest(reruns: Mapping[str, ThreadHandle]) -> Table:
    """The functions that break the new rule most."""
    found = too_long(report for thread in reruns.values() for report in values(thread)["reports"])
    table = Table("function", "file", f"lines, of {LONGEST}")
    for function in found[:SHOWN]:
        path = Path(function["path"])
        table.add_row(function["name"], f"{path.parent.name}/{path.name}:{function['line']}", str(function["lines"]))
    return table


def analysed_by(thread: ThreadHandle) -> int:
    """How many files a thread has analysed itself. The checkpoints that it has of another one say so."""
    own = thread.get_state_history(filter={"thread_id": thread.thread_id, "source": "loop"})
    return sum(state.metadata["writes"].count(ANALYSE) for state in own)


def values(thread: ThreadHandle) -> dict[str, Any]:
    """The thread's final state."""
    return dict(thread.get_state().values)


if __name__ == "__main__":
    app()
