"""The public names, pinned: adding or losing one is a decision, not an accident."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import perdure

ROOT = Path(__file__).parents[1]

EXPORTS = [
    "BatchRerun",
    "Breakpoints",
    "CacheOptions",
    "CallMismatch",
    "Cancelled",
    "CheckpointConflict",
    "CheckpointNotFound",
    "CheckpointStore",
    "Checkpoints",
    "Client",
    "ClientError",
    "Command",
    "CompiledGraph",
    "Corrupt",
    "DisallowedType",
    "END",
    "Fenced",
    "GraphLoadError",
    "GraphNotShippable",
    "GraphRecursionError",
    "GraphValidationError",
    "HeadError",
    "HeadOptions",
    "Heartbeat",
    "InputError",
    "Interrupt",
    "Interrupted",
    "InvalidUpdateError",
    "KeySource",
    "Keyring",
    "Migration",
    "MissingKey",
    "NewerFormat",
    "NodeContext",
    "NodeFailed",
    "NotInterrupted",
    "NotRecorded",
    "Paused",
    "PerdureError",
    "PostgresOptions",
    "ReceiveTimeout",
    "RedisOptions",
    "Refused",
    "RerunPlan",
    "Retention",
    "RetryPolicy",
    "RoutingError",
    "START",
    "Send",
    "ServiceError",
    "SqliteOptions",
    "StateDiff",
    "StateGraph",
    "StateSnapshot",
    "StateValidationError",
    "Status",
    "StoreConfig",
    "StoreError",
    "StoreFull",
    "StoreMisuse",
    "StoreUnavailable",
    "TaskSnapshot",
    "ThreadBusy",
    "ThreadExists",
    "ThreadHandle",
    "ThreadRecord",
    "ThreadReferenced",
    "Unencodable",
    "UnencodableState",
    "UnknownInterrupt",
    "UnknownThread",
    "ValueChange",
    "VersionMismatch",
    "add_messages",
    "checkpoint",
    "connect",
    "get_context",
    "heartbeat",
    "interrupt",
    "measure",
    "open_store",
    "receive",
    "sleep",
    "sleep_until",
    "task",
]


def test_exports_are_pinned() -> None:
    assert sorted(EXPORTS) == EXPORTS
    assert perdure.__all__ == EXPORTS


def test_every_export_is_there() -> None:
    assert [name for name in perdure.__all__ if not hasattr(perdure, name)] == []


def test_the_facade_holds_imports_and_all_and_nothing_else() -> None:
    docstring, *rest = ast.parse((ROOT / "__init__.pyi").read_bytes()).body
    assert isinstance(docstring, ast.Expr)
    others = [ast.unparse(node) for node in rest if not isinstance(node, ast.ImportFrom) and not _is_all(node)]
    assert others == []
    *_, names = rest
    assert isinstance(names, ast.Assign)
    assert ast.literal_eval(names.value) == EXPORTS
    docstring, *loading = ast.parse((ROOT / "__init__.py").read_bytes()).body
    assert [ast.unparse(node) for node in loading] == [
        "import lazy_loader",
        "__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)",
    ]


def test_a_worker_imports_only_what_it_needs() -> None:
    """Each has to import it before it can do anything: what takes long and serves others is left out."""
    code = (
        "import sys; import perdure.actors.thread_actor; from perdure import StateGraph, interrupt; "
        "print([name for name in sys.argv[1:] if name in sys.modules])"
    )
    unneeded = ["pydantic", "pyarrow.compute", "rich", "typer", "psycopg", "redis", "perdure.cluster"]
    done = subprocess.run([sys.executable, "-c", code, *unneeded], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def _is_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]
