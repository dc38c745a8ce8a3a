"""LangGraph's checkpoints in Perdure's stores: `pip install perdure[langgraph]`."""

from __future__ import annotations

from .checkpointer import PerdureSaver

__all__ = ["PerdureSaver"]
