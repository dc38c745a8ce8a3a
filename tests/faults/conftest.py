"""The services of the fault tests."""

from __future__ import annotations

from tests.actors.conftest import folder, member, serve

__all__ = ["folder", "member", "serve"]
