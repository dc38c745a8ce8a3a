"""How values become bytes and come back equal, of the same type, and never as anything the schema did not name."""

from __future__ import annotations

from .encodings import Encoding, Opaque
from .types import types_in
from .values import Codec

__all__ = ["Codec", "Encoding", "Opaque", "types_in"]
