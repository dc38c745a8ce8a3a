"""What the rows and messages of a thread say, for the housekeeping of a store."""

from __future__ import annotations

from collections.abc import Mapping

from ..stores.codec import Codec
from ..stores.records import Message
from ..stores.segments import Row
from .control import decode_control
from .payloads import INPUTS, UPDATE, UpdatePayload, unpack


class RuntimeMeaning:
    """Reads control records and messages. Values of classes that only a graph's code names are not built."""

    def __init__(self) -> None:
        self._codec = Codec(opaque=True)

    def manifest(self, row: Row) -> Mapping[str, int]:
        """The version of each channel at a checkpoint. Raises `Corrupt`, `NewerFormat`."""
        return decode_control(row.payload, f"checkpoint {row.checkpoint}").manifest

    def made_at(self, row: Row) -> float:
        """When a checkpoint was made (Unix seconds). Raises `Corrupt`, `NewerFormat`."""
        return decode_control(row.payload, f"checkpoint {row.checkpoint}").at

    def refers_to(self, message: Message) -> int:
        """The checkpoint from which a message wants to go on; 0 for none. Raises `Corrupt`."""
        if message.kind == UPDATE:
            return UpdatePayload(*unpack(self._codec, message)).parent
        if message.kind in INPUTS:
            _, _, *parent = unpack(self._codec, message)
            return int(parent[0]) if parent else 0
        return 0
