"""LangGraph's checkpoints in Perdure's stores: `pip install 'perdure[langgraph]'`."""

from __future__ import annotations

try:
    from .checkpointer import PerdureSaver
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("langgraph", "langchain_core"):
        raise
    raise ModuleNotFoundError(
        "PerdureSaver needs LangGraph, which is not installed: pip install 'perdure[langgraph]'", name=error.name
    ) from error

__all__ = ["PerdureSaver"]
