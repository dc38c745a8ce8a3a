"""Goes back into a recorded audit and on from there: `python -m perdure.examples.time_travel`.

An audit of Python files stops at its question. Its history is listed, the checkpoint after the analysis gets a name,
and three forks answer what the counts would be with other thresholds: no file is analysed again. Then two people change
the audit at once, and one of them is told. Runs in this process; all that it prints was read from the store.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from perdure import CheckpointConflict, Command, CompiledGraph, PerdureError, StateSnapshot, StoreError, open_store
from perdure.examples.audit_graph import ANALYSE, graph
from perdure.examples.audit_rules import COMPLEXITY

app = typer.Typer(add_completion=False, help=__doc__)

THREAD = "audit"
ANALYSED = "analysed"
"""Name of the checkpoint at which every file has been looked at, and nothing is merged."""
OTHER_THRESHOLDS = (5, 20, 40)


@app.command()
def main(
    path: Annotated[Path | None, typer.Option(help="Folder to audit; the standard library's email package.")] = None,
    store: Annotated[str, typer.Option(help="Store of the threads.")] = "memory://",
) -> None:
    """Audit a folder, then travel through what was recorded."""
    root = path or Path(sysconfig.get_paths()["stdlib"]) / "email"
    try:
        with open_store(store) as opened:
            travel(CompiledGraph(graph.topology, opened), root.absolute(), Console())
    except (PerdureError, StoreError, OSError) as error:
        typer.echo(f"failed: {type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from None


def travel(audit: CompiledGraph, root: Path, console: Console) -> None:
    """All of it, one after the other."""
    asked = audit.invoke({"root": str(root), "threshold": COMPLEXITY}, thread(THREAD))["__interrupt__"][0].value
    console.print(f"{THREAD!r} asks after {asked['files']} files: {total(asked['counts'])} findings, write the report?")
    history = list(audit.get_state_history(thread(THREAD)))
    console.print(listed(history))
    name_analysed(audit, history)
    console.print(compared(audit, asked["counts"]))
    console.print(f"the second of two people is told: {collide(audit)}", soft_wrap=True)
    ended = audit.invoke(Command(resume={"approve": True, "ignore": ["shadowed-builtin"]}), thread(THREAD))
    state = audit.get_state(thread(THREAD))
    last = audit.diff(state.parent_config or {}, state.config)
    console.print(f"answered; threshold {state.values['threshold']}, ignored {ended['ignored']}; last step: {last}")


def name_analysed(audit: CompiledGraph, history: Sequence[StateSnapshot]) -> None:
    """Name the checkpoint from which the findings are merged: whatever the retention, it is kept."""
    analysed = next(state for state in history if state.next == ("collect",))
    audit.name_checkpoint(analysed.config, ANALYSED)


def compared(audit: CompiledGraph, counts: dict[str, int]) -> Table:
    """The counts of the audit and of a fork for each other threshold, from the named checkpoint on."""
    analysed = thread(THREAD, checkpoint_id=audit.names(thread(THREAD))[ANALYSED])
    found = {COMPLEXITY: (THREAD, counts)}
    for threshold in OTHER_THRESHOLDS:
        fork = f"{THREAD}-{threshold}"
        audit.fork(analysed, {"threshold": threshold}, thread_id=fork)
        asked = audit.invoke(None, thread(fork))["__interrupt__"][0].value
        found[threshold] = (fork, asked["counts"])
    table = Table("thread", "threshold", "too complex", "findings", "files analysed by it")
    for threshold, (name, own) in sorted(found.items()):
        row = (threshold, own.get("too-complex", 0), total(own), analysed_by(audit, name))
        table.add_row(name, *map(str, row))
    return table


def analysed_by(audit: CompiledGraph, thread_id: str) -> int:
    """How many files a thread has analysed itself. The checkpoints that it has of another one say so."""
    own = audit.get_state_history(thread(thread_id), filter={"thread_id": thread_id, "source": "loop"})
    return sum(state.metadata["writes"].count(ANALYSE) for state in own)


def collide(audit: CompiledGraph) -> str:
    """Two people have seen the same state and change its threshold; what the second is told."""
    seen = audit.get_state(thread(THREAD)).checkpoint_id
    audit.update_state(thread(THREAD), {"threshold": 15}, expected_checkpoint=seen)
    try:
        audit.update_state(thread(THREAD), {"threshold": 30}, expected_checkpoint=seen)
    except CheckpointConflict as conflict:
        return f"yours {conflict.yours}, theirs {conflict.theirs}"
    raise AssertionError(f"thread {THREAD!r}: both of two changes of checkpoint {seen} were applied")


def listed(history: Sequence[StateSnapshot]) -> Table:
    """The checkpoints, newest first."""
    table = Table("checkpoint", "made by", "leaves to run")
    for state in history:
        writes = state.metadata["writes"] or [state.metadata["source"]]
        table.add_row(state.checkpoint_id.lstrip("0"), summed(writes), summed(state.next) or "-")
    return table


def summed(names: Sequence[str]) -> str:
    """The names, each once, with how often it is there."""
    return ", ".join(
        f"{name} x {names.count(name)}" if names.count(name) > 1 else name for name in dict.fromkeys(names)
    )


def total(counts: dict[str, int]) -> int:
    """Findings of all rules."""
    return sum(counts.values())


def thread(thread_id: str, **more: Any) -> dict[str, Any]:
    """The config that names a thread."""
    return {"configurable": {"thread_id": thread_id, **more}}


if __name__ == "__main__":
    app()
