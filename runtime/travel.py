"""What a compiled graph does with the threads of its store: look at their past, change it, go on from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.errors import Refused, UnknownThread
from ..stores.history import HistoryReader
from ..stores.records import IN_PROCESS
from .bookmarks import find_control, give_name, names_of, take_name
from .breakpoints import Breakpoints, in_force
from .cache import ReadCache
from .clock import SystemClock
from .commands import END, START
from .config import Config, read_config
from .conflicts import conflict_of, update_made, was_refused
from .diffs import StateDiff, diff_values
from .errors import CheckpointConflict, CheckpointNotFound, InputError, InvalidUpdateError, PerdureError
from .forks import ForkWishes, new_fork, options_since
from .inprocess import InProcess
from .local import LocalExecutor
from .options import named_nodes, node_list
from .payloads import BreakpointsPayload
from .requests import ask_step, last_node, make_update
from .reruns import read_effects
from .settled import Settled
from .snapshots import SnapshotReader, StateSnapshot, checkpoint_id, checkpoint_seq, config_of
from .topology import Topology, suggestion

ConfigDict: TypeAlias = Mapping[str, Any]
Nodes: TypeAlias = Sequence[str] | str


class Travel(ABC):
    """The part of `CompiledGraph` that reads and changes threads. A `config` names one, and a checkpoint of it if that
    is not to be the newest."""

    topology: Topology
    checkpointer: CheckpointStore | None
    _cache: ReadCache

    @property
    @abstractmethod
    def codec(self) -> Codec:
        """Encodes the graph's values."""

    @abstractmethod
    def _runner(self, given: Config, executor: Callable[[], LocalExecutor] | None = None) -> InProcess:
        """Runs the thread in this process."""

    @abstractmethod
    def _values(self, settled: Settled) -> dict[str, Any]:
        """What a run returns."""

    # -- looking -------------------------------------------------------------------------------------------------

    def get_state(self, config: ConfigDict) -> StateSnapshot:
        """The newest state of the thread, or the one of the checkpoint that `config` names.

        A thread that does not exist has an empty state. Raises `CheckpointNotFound`.
        """
        given = self._thread_config(config)
        try:
            reader = self._reader(given.thread_id)
        except UnknownThread:
            if given.checkpoint:
                raise CheckpointNotFound(given.thread_id, checkpoint_id(given.checkpoint)) from None
            return StateSnapshot({}, (), {"configurable": {"thread_id": given.thread_id}}, {}, "", None, (), ())
        return reader.at(given.checkpoint) if given.checkpoint else reader.head()

    def get_state_history(
        self,
        config: ConfigDict,
        *,
        filter: Mapping[str, Any] | None = None,
        before: ConfigDict | None = None,
        limit: int | None = None,
    ) -> Iterator[StateSnapshot]:
        """The thread's states, newest first. `filter` names metadata that must be equal, `before` a checkpoint."""
        given = self._thread_config(config)
        until = read_config(before).checkpoint if before is not None else None
        if until == 0:
            raise InputError(f"before={before!r} names no checkpoint; give the config of a state")
        try:
            reader = self._reader(given.thread_id)
        except UnknownThread:
            return
        yield from reader.history(where=filter, before=until, limit=limit)

    def diff(self, first: ConfigDict, second: ConfigDict) -> StateDiff:
        """What the state that `second` names has that the one of `first` has not: keys added, changed, removed, and
        what lists got appended. Of one thread only what changed in between is read. Raises `CheckpointNotFound`,
        `UnknownThread`."""
        one, other = self._thread_config(first), self._thread_config(second)
        if one.thread_id != other.thread_id:
            readers = ((self._reader(given.thread_id), given.checkpoint) for given in (one, other))
            before, after = (reader.at(seq) if seq else reader.head() for reader, seq in readers)
            return diff_values(before.values, after.values, self.codec, ids=(before.checkpoint_id, after.checkpoint_id))
        head = self._store().thread(one.thread_id).head
        return self._reader(one.thread_id).diff(one.checkpoint or head, other.checkpoint or head)

    def names(self, config: ConfigDict) -> dict[str, str]:
        """The thread's checkpoints that have names: name to checkpoint id. Retention keeps them."""
        return names_of(self._store(), self._thread_config(config).thread_id)

    def breakpoints(self, config: ConfigDict) -> Breakpoints:
        """The nodes at which the thread's run stops. Raises `UnknownThread`."""
        options = self._reader(self._thread_config(config).thread_id).options()
        return in_force(self.topology, options)

    # -- changing ------------------------------------------------------------------------------------------------

    def update_state(
        self,
        config: ConfigDict,
        values: Any,
        as_node: str | None = None,
        *,
        expected_checkpoint: str | None = None,
    ) -> dict[str, Any]:
        """Change the state through its reducers, as if `as_node` had returned `values` (END: and nothing followed).
        Without it the tasks that are to run next stay as they are, except that the conditional edges of the node that
        ran last, if it ran alone, are asked again; a thread without a state takes it as an input. A config that names a
        checkpoint forks from there. No node is run.

        With `expected_checkpoint`, an id, only if that is still the newest checkpoint: of two people who change the
        same one, the second is told what the first has done. Returns the config of the new checkpoint. Raises
        `InvalidUpdateError`, `ThreadBusy`, `CheckpointNotFound`, `CheckpointConflict`.
        """
        given = self._thread_config(config)
        self.check_update(values, as_node)
        runner = self._runner(given)
        expected = checkpoint_seq(given.thread_id, expected_checkpoint) if expected_checkpoint is not None else 0
        try:
            seq = make_update(runner, given, values, as_node, expected)
        except (Refused, CheckpointConflict):
            if not expected:
                raise
            raise conflict_of(self._reader(given.thread_id), expected, values) from None
        if expected and was_refused(HistoryReader(self._store(), given.thread_id), seq, expected):
            raise conflict_of(self._reader(given.thread_id), expected, values)
        return config_of(given.thread_id, update_made(self._store(), given.thread_id, seq))

    def fork(
        self,
        config: ConfigDict,
        update: Any = None,
        as_node: str | None = None,
        *,
        thread_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        effects: str | None = None,
    ) -> dict[str, Any]:
        """Make a new thread that goes on from a checkpoint of this one, after `update`; nothing is run yet:
        `invoke(None, fork)` does. Costs one row, whatever the history's size; the origin stays as it is. Also of a
        thread that a service drives. (In the same thread: `update_state` with a config that names a checkpoint.)

        With `effects` it is a re-run of this thread's run, perhaps with another version of the graph. "recorded": what
        this one recorded after the checkpoint (results of `@task`, answers, signals, sleeps, breakpoints passed) is
        given again, and what it did not record fails the re-run with `NotRecorded`. "live": everything is done anew.
        Either way keys are new, and `get_context().original_key` is the original's. The origin's history is kept until
        a re-run that replays it has ended.

        Returns the fork's config. Raises `CheckpointNotFound`, `ThreadExists`, `InvalidUpdateError`, `UnknownThread`,
        `InputError`, also for a "recorded" re-run from a checkpoint that this thread has of its own origin.
        """
        given = self._thread_config(config)
        store = self._store()
        origin = store.thread(given.thread_id)
        seq = given.checkpoint or origin.head
        if not seq:
            raise InputError(f"thread {given.thread_id!r} has no checkpoint yet to fork from")
        control = find_control(store, given.thread_id, seq)
        if update is not None or as_node is not None:
            self.check_update(update, as_node)
            as_node = last_node(self.topology, control) if as_node is None else as_node
        wishes = ForkWishes(
            update=update,
            as_node=as_node,
            thread_id=thread_id,
            metadata=metadata,
            start=False,
            effects=read_effects(effects) if effects is not None else None,
            options=options_since(store, origin, seq, self.codec) if effects is None else None,
        )
        record, message = new_fork(origin, seq, control, wishes, self.codec, SystemClock(), IN_PROCESS)
        delivery = store.create(record, message)
        if message is None:
            return config_of(record.thread_id, seq)
        try:
            made = self._runner(given).see_to(record, delivery.number)
        except PerdureError:
            store.delete(record.thread_id)  # without its update it is not what was asked for
            raise
        return config_of(record.thread_id, made if wishes.updates else seq)

    def step(self, config: ConfigDict) -> dict[str, Any]:
        """Run one step, passing the breakpoint at which the thread stands, and stop again; a config that names a
        checkpoint goes back there first. Returns what `invoke` would.

        Raises what a node raised; `NotInterrupted` where nothing is left to run, `CheckpointNotFound`, `ThreadBusy`,
        `UnknownThread`.
        """
        given = self._thread_config(config)
        runner = self._runner(given)
        ask_step(runner, given)
        return self._values(runner.run(given.thread_id))

    def add_breakpoints(self, config: ConfigDict, *, before: Nodes = (), after: Nodes = ()) -> None:
        """Stop the thread's run, also one that is running, before or after these nodes (`"*"`: all) from its next step
        on. Raises `InputError`, `Refused` for a thread that has ended, `UnknownThread`."""
        change = BreakpointsPayload(add_before=self._nodes(before), add_after=self._nodes(after))
        self._change_breakpoints(config, change)

    def remove_breakpoints(self, config: ConfigDict, *, before: Nodes = "*", after: Nodes = "*") -> None:
        """Stop the thread's run no more before or after these nodes; by default at none. A thread that stands at one is
        paused until somebody goes on with it. Raises as `add_breakpoints`."""
        change = BreakpointsPayload(remove_before=self._nodes(before), remove_after=self._nodes(after))
        self._change_breakpoints(config, change)

    def name_checkpoint(self, config: ConfigDict, name: str) -> str:
        """Give a checkpoint (the newest, unless `config` names one) a name, under which retention keeps it; a name that
        another one had moves on. Also while the thread runs. Returns the checkpoint's id.

        Raises `CheckpointNotFound`, `UnknownThread`; `StoreMisuse` for a checkpoint that belongs to the thread this one
        was forked from.
        """
        given = self._thread_config(config)
        return give_name(self._store(), given.thread_id, name, given.checkpoint)

    def remove_name(self, config: ConfigDict, name: str) -> None:
        """Take a checkpoint's name away; from then on retention may drop it."""
        take_name(self._store(), self._thread_config(config).thread_id, name)

    def signal(self, config: ConfigDict, name: str, value: Any = None) -> None:
        """Send a signal to a thread: a node's `receive(name)` returns `value`. Also while an `invoke` runs or waits,
        here or elsewhere. Returns once it is in the store.

        Raises `Refused` for a thread that has ended, `UnknownThread`, `InputError`, `Unencodable`.
        """
        given = self._thread_config(config)
        self._runner(given).signal(given.thread_id, name, value)

    def check_update(self, values: Any, as_node: str | None) -> None:
        """Refuse an update from outside that cannot be applied. Raises `InvalidUpdateError`, `StateValidationError`."""
        from_node = as_node or "update_state"
        self.topology.state.updates(values, from_node)
        if as_node is not None and as_node not in (START, END, *self.topology.nodes):
            nodes = self.topology.nodes
            raise InvalidUpdateError(
                f"as_node={as_node!r} is no node of graph {self.topology.name!r}{suggestion(as_node, nodes)}; its "
                f"nodes are {', '.join(map(repr, nodes))}",
                nodes=(as_node,),
            )

    # -- inside --------------------------------------------------------------------------------------------------

    def _change_breakpoints(self, config: ConfigDict, change: BreakpointsPayload) -> None:
        given = self._thread_config(config)
        self._runner(given).change_breakpoints(given.thread_id, change)

    def _nodes(self, given: Nodes) -> tuple[str, ...]:
        names = node_list(given)
        named_nodes(self.topology, names)
        return names

    def _reader(self, thread_id: str) -> SnapshotReader:
        store = self._store()
        return SnapshotReader(store, store.thread(thread_id), self.codec, self.topology.state, self._cache)

    def _store(self) -> CheckpointStore:
        if self.checkpointer is None:
            raise InputError("this graph was compiled without a store; give compile(checkpointer=open_store(url)) one")
        return self.checkpointer

    def _thread_config(self, config: ConfigDict) -> Config:
        given = read_config(config)
        if not given.thread_id:
            raise InputError("name the thread: config={'configurable': {'thread_id': ...}}")
        return given
