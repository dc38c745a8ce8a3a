"""The public names, and where each is: what type checkers and editors read, and `__init__.py` loads by."""

from .actors.errors import GraphLoadError, GraphNotShippable, ServiceError
from .cluster.client import Client
from .cluster.connect import connect
from .cluster.endpoint import HeadError, HeadOptions
from .cluster.errors import Cancelled, ClientError, Interrupted, Paused
from .cluster.handle import ThreadHandle
from .cluster.rerun_plan import RerunPlan
from .cluster.reruns import BatchRerun
from .runtime.breakpoints import Breakpoints
from .runtime.cache import CacheOptions
from .runtime.checkpoints import Checkpoints, checkpoint
from .runtime.commands import END, START, Command, Interrupt, Send
from .runtime.compiled import CompiledGraph
from .runtime.context import NodeContext, get_context, heartbeat, measure
from .runtime.diffs import StateDiff, ValueChange
from .runtime.errors import (
    CallMismatch,
    CheckpointConflict,
    CheckpointNotFound,
    GraphRecursionError,
    GraphValidationError,
    InputError,
    InvalidUpdateError,
    NodeFailed,
    NotInterrupted,
    NotRecorded,
    PerdureError,
    ReceiveTimeout,
    RoutingError,
    StateValidationError,
    ThreadBusy,
    UnencodableState,
    UnknownInterrupt,
    VersionMismatch,
)
from .runtime.graph import StateGraph
from .runtime.interrupts import interrupt
from .runtime.messages import add_messages
from .runtime.migrations import Migration
from .runtime.policies import RetryPolicy
from .runtime.position import Heartbeat
from .runtime.signals import receive
from .runtime.sleeping import sleep, sleep_until
from .runtime.snapshots import StateSnapshot, TaskSnapshot
from .runtime.tasks import task
from .stores.base import CheckpointStore
from .stores.config import StoreConfig
from .stores.errors import (
    Corrupt,
    DisallowedType,
    Fenced,
    MissingKey,
    NewerFormat,
    Refused,
    StoreError,
    StoreFull,
    StoreMisuse,
    StoreUnavailable,
    ThreadExists,
    ThreadReferenced,
    Unencodable,
    UnknownThread,
)
from .stores.keys import Keyring, KeySource
from .stores.postgres_options import PostgresOptions
from .stores.records import Retention, Status, ThreadRecord
from .stores.redis_options import RedisOptions
from .stores.sqlite_options import SqliteOptions
from .stores.urls import open_store

__all__ = [
    "BatchRerun",
    "Breakpoints",
    "CacheOptions",
    "CallMismatch",
    "Cancelled",
    "CheckpointConflict",
    "CheckpointNotFound",
    "CheckpointStore",
    "Checkpoints",
    "Client",
    "ClientError",
    "Command",
    "CompiledGraph",
    "Corrupt",
    "DisallowedType",
    "END",
    "Fenced",
    "GraphLoadError",
    "GraphNotShippable",
    "GraphRecursionError",
    "GraphValidationError",
    "HeadError",
    "HeadOptions",
    "Heartbeat",
    "InputError",
    "Interrupt",
    "Interrupted",
    "InvalidUpdateError",
    "KeySource",
    "Keyring",
    "Migration",
    "MissingKey",
    "NewerFormat",
    "NodeContext",
    "NodeFailed",
    "NotInterrupted",
    "NotRecorded",
    "Paused",
    "PerdureError",
    "PostgresOptions",
    "ReceiveTimeout",
    "RedisOptions",
    "Refused",
    "RerunPlan",
    "Retention",
    "RetryPolicy",
    "RoutingError",
    "START",
    "Send",
    "ServiceError",
    "SqliteOptions",
    "StateDiff",
    "StateGraph",
    "StateSnapshot",
    "StateValidationError",
    "Status",
    "StoreConfig",
    "StoreError",
    "StoreFull",
    "StoreMisuse",
    "StoreUnavailable",
    "TaskSnapshot",
    "ThreadBusy",
    "ThreadExists",
    "ThreadHandle",
    "ThreadRecord",
    "ThreadReferenced",
    "Unencodable",
    "UnencodableState",
    "UnknownInterrupt",
    "UnknownThread",
    "ValueChange",
    "VersionMismatch",
    "add_messages",
    "checkpoint",
    "connect",
    "get_context",
    "heartbeat",
    "interrupt",
    "measure",
    "open_store",
    "receive",
    "sleep",
    "sleep_until",
    "task",
]
