"""LangGraph in a virtual environment of its own, made when it is first needed."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from pathlib import Path
from typing import Any

from rich.console import Console

FOLDER = Path(__file__).parent / ".langgraph-venv"
REQUIREMENTS = ("langgraph>=1.2", "langgraph-checkpoint-sqlite>=3.1")
_PYTHON = FOLDER / "bin" / "python"
_DONE = FOLDER / ".installed"


class LangGraphMissing(RuntimeError):
    """It could not be installed; the message says why."""


def ensure(console: Console) -> None:
    """Make the environment if it is not there. Raises `LangGraphMissing`."""
    wanted = "\n".join(REQUIREMENTS)
    if _DONE.exists() and _DONE.read_text() == wanted:
        return
    console.print(f"installing {', '.join(REQUIREMENTS)} into {FOLDER} ...")
    venv.create(FOLDER, with_pip=True, clear=True)
    command = [str(_PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LangGraphMissing(f"pip could not install LangGraph:\n{done.stderr[-2000:]}")
    # Last: an installation that was cut short is started again.
    _DONE.write_text(wanted)


def run(order: dict[str, Any], timeout: float = 1800.0) -> dict[str, Any]:
    """Have `langgraph_side` carry out an order. Raises `LangGraphMissing` where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["LANGSMITH_TRACING"] = "false"
    command = [str(_PYTHON), "-m", f"{__package__}.langgraph_side", json.dumps(order)]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[1],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise LangGraphMissing(f"LangGraph's side of {order['graph']!r} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
