"""All themes together."""

from __future__ import annotations

from .amendments import Amendments
from .commits import Commits
from .copies import Copies
from .creation import ThreadCreation
from .deletion import Deletion
from .forks import Forks
from .handovers import Handovers
from .integrity import Integrity, Values
from .listing import Listing
from .messages import Messages
from .opening import Opening
from .ownership import Ownership
from .rewriting import Rewriting
from .segments import Segments
from .settings import Settings
from .timers import Timers


class StoreConformance(
    ThreadCreation,
    Messages,
    Ownership,
    Commits,
    Segments,
    Values,
    Integrity,
    Timers,
    Listing,
    Forks,
    Deletion,
    Handovers,
    Amendments,
    Rewriting,
    Copies,
    Settings,
    Opening,
):
    """Everything that a store has to do."""
