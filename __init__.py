"""Perdure: durable graphs on Ray.

The public names are listed in `__init__.pyi`; each is imported when it is first asked for. So a worker that runs a node
imports neither what clients need nor what stores need that it does not use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
