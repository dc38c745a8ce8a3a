"""The services of the recovery tests."""

from __future__ import annotations

from tests.actors.conftest import member, serve

__all__ = ["member", "serve"]
