"""Libraries that values may come from but that need not be installed."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import StoreMisuse


def require(library: str) -> Any:
    """Import `library`, which a stored value needs. Raises `StoreMisuse` with an install hint."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise StoreMisuse(f"this value needs {library}, which is not installed here: pip install {library}") from error
