"""The command line `perdure`."""

from .app import app

__all__ = ["app"]
