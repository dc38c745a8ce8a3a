"""The public names, pinned: adding or losing one is a decision, not an accident."""

from __future__ import annotations

import ast
from pathlib import Path

import perdure

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
    docstring, *rest = ast.parse((Path(__file__).parents[1] / "__init__.py").read_bytes()).body
    assert isinstance(docstring, ast.Expr)
    others = [ast.unparse(node) for node in rest if not isinstance(node, ast.ImportFrom) and not _is_all(node)]
    assert others == []


def _is_all(node: ast.stmt) -> bool:
    match node:
        case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.AnnAssign(target=ast.Name(id="__all__")):
            return True
    return False
