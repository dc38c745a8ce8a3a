"""Re-runs: what the original recorded is given again and not done again; what it did not record is not done at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from perdure import (
    Checkpoints,
    CheckpointStore,
    Command,
    CompiledGraph,
    GraphRecursionError,
    InputError,
    NotRecorded,
    ReceiveTimeout,
    RetryPolicy,
    Send,
    StateSnapshot,
    ThreadReferenced,
    UnknownThread,
    get_context,
    interrupt,
    receive,
    sleep,
    task,
)
from perdure.runtime.control import Control, Next
from perdure.runtime.meaning import RuntimeMeaning
from perdure.runtime.payloads import RESUME, pack
from perdure.runtime.recordings import way_on
from perdure.runtime.reruns import Rerun
from perdure.stores.deletion import delete_thread
from perdure.stores.operations import Expect
from perdure.stores.records import BATCH, BATCH_MARK, RERUN, Message, Retention, Status, ThreadRecord
from perdure.stores.tidying import Progress, Tidier
from tests.runtime.engine import THREAD, Log, asks, before, chain, history, says, thread, until, wire
from tests.runtime.test_checkpoint_kills import Mortal, own
from tests.sim.faults import Died


class World:
    """What a graph does to the outside: payments, questions asked, and how often each node was started."""

    def __init__(self) -> None:
        self.paid: list[Any] = []
        self.log = Log()

    def pays(self, amount: int) -> Callable[..., Any]:
        @task
        def pay() -> str:
            self.paid.append((amount, get_context().idempotency_key, get_context().original_key))
            return f"receipt {len(self.paid)}"

        return lambda state: {"items": [pay()]}

    def graph(self, store: CheckpointStore | None, **options: Any) -> CompiledGraph:
        """Pays, sleeps, asks, listens and pays again."""

        def nap(state: Any) -> Any:
            sleep(0.02)
            return {"items": ["slept"]}

        nodes = {
            "first": says("first"),
            "pay": self.pays(5),
            "nap": nap,
            "ask": asks("go on?"),
            "hear": lambda state: {"items": [receive("price")]},
            "last": self.pays(7),
        }
        return chain({name: self.log.node(name, node) for name, node in nodes.items()}, store, **options)

    def original(self, store: CheckpointStore) -> CompiledGraph:
        """A graph whose thread `t` has ended."""
        graph = self.graph(store)
        graph.invoke({}, THREAD)
        graph.signal(THREAD, "price", 3)
        assert graph.invoke(Command(resume="yes"), THREAD)["items"] == ITEMS
        return graph


ITEMS = ["first", "receipt 1", "slept", "yes", 3, "receipt 2"]


def ahead_of(graph: CompiledGraph, node: str, thread_id: str = "t") -> dict[str, Any]:
    """The checkpoint from which a node is run next."""
    return config(before(graph, node, thread(thread_id)))


def config(snapshot: StateSnapshot) -> dict[str, Any]:
    return dict(snapshot.config)


def recorded(graph: CompiledGraph, at: dict[str, Any], thread_id: str = "u", **wishes: Any) -> dict[str, Any]:
    return graph.fork(at, thread_id=thread_id, effects="recorded", **wishes)


# -- nothing is done twice -------------------------------------------------------------------------------------------


def test_nothing_is_paid_slept_asked_or_awaited_twice(store: CheckpointStore) -> None:
    world = World()
    graph = world.original(store)
    before_it, log = list(world.paid), world.log.calls
    log.clear()
    result = graph.invoke(None, recorded(graph, ahead_of(graph, "pay")))
    assert result == {"items": ITEMS}
    # Each node was started once: none waited for anything.
    assert (world.paid, log) == (before_it, ["pay", "nap", "ask", "hear", "last"])
    assert store.thread("u").status is Status.SUCCEEDED
    # And nothing of what was replayed was written again.
    assert {message.kind for message in store.messages("u", unread=False)} == {"resume"}


def test_a_rerun_with_other_code_and_another_state(store: CheckpointStore) -> None:
    world = World()
    graph = world.original(store)
    result = recorded(graph, ahead_of(graph, "pay"), update={"n": 5})
    nodes = {name: says(name) for name in ("first", "pay", "nap", "hear", "last")}
    nodes["ask"] = lambda state: {"items": [state["n"], interrupt("another question")]}
    other = chain({name: nodes[name] for name in ("first", "pay", "nap", "ask", "hear", "last")}, store)
    assert other.invoke(None, result)["items"] == ["first", "pay", "nap", 5, "yes", "hear", "last"]
    assert len(world.paid) == 2


def test_live_is_live(store: CheckpointStore) -> None:
    world = World()
    graph = world.original(store)
    world.log.calls.clear()
    fork = graph.fork(ahead_of(graph, "pay"), thread_id="u", effects="live")
    result = graph.invoke(None, fork)
    assert [one.value for one in result["__interrupt__"]] == ["go on?"]
    assert world.log.calls == ["pay", "nap", "nap", "ask"]
    graph.signal(fork, "price", 4)
    wanted = ["first", "receipt 3", "slept", "no", 4, "receipt 4"]
    assert graph.invoke(Command(resume="no"), thread("u"))["items"] == wanted
    assert [amount for amount, _, _ in world.paid] == [5, 7, 5, 7]


def test_keys_are_new_and_the_originals_are_known(store: CheckpointStore) -> None:
    world, keys = World(), list[tuple[str, str | None, str]]()

    def tell(state: Any) -> Any:
        context = get_context()
        keys.append((context.idempotency_key, context.original_key, context.original_thread))

    graph = chain({"first": says("first"), "tell": tell, "pay": world.pays(5)}, store)
    graph.invoke({}, THREAD)
    for thread_id, effects in (("u", "recorded"), ("v", "live")):
        graph.invoke(None, graph.fork(ahead_of(graph, "tell"), thread_id=thread_id, effects=effects))
    graph.invoke(None, graph.fork(ahead_of(graph, "tell"), thread_id="w"))
    (first, *_), *_ = keys
    assert [(original, of) for _, original, of in keys] == [(None, ""), (first, "t"), (first, "t"), (None, "")]
    assert len({key for key, _, _ in keys}) == 4
    (_, paid_with, none), (_, new_key, original) = world.paid[:2]
    assert (none, original) == (None, paid_with)
    assert new_key != paid_with


def test_calls_of_parallel_tasks_are_told_apart(store: CheckpointStore) -> None:
    made = list[int]()

    @task
    async def fetch(number: int) -> int:
        made.append(number)
        return number * 10

    async def work(number: int) -> dict[str, Any]:
        return {"items": await asyncio.gather(fetch(number), fetch(number + 1))}

    builder = wire({"plan": says(), "work": work, "end": says("end")}, [("__start__", "plan"), ("work", "end")])
    builder.add_conditional_edges("plan", lambda state: [Send("work", 1), Send("work", 5)], ["work"])
    graph = builder.add_edge("end", "__end__").compile(store)
    wanted = graph.invoke({}, THREAD)
    assert len(made) == 4
    assert graph.invoke(None, recorded(graph, ahead_of(graph, "work"))) == wanted
    assert len(made) == 4


def test_a_timeout_is_given_again(store: CheckpointStore) -> None:
    tries = list[int]()

    def hear(state: Any) -> Any:
        tries.append(1)
        try:
            return {"items": [receive("price", timeout=0.01)]}
        except ReceiveTimeout:
            return {"items": ["nothing"]}

    graph = chain({"first": says("first"), "hear": hear}, store)
    assert graph.invoke({}, THREAD)["items"] == ["first", "nothing"]
    tries.clear()
    assert graph.invoke(None, recorded(graph, ahead_of(graph, "hear")))["items"] == ["first", "nothing"]
    assert tries == [1]


def test_each_round_of_a_loop_has_its_own_records(store: CheckpointStore) -> None:
    """Also where most steps were no full checkpoints, and what the thread was told from outside lies between."""
    made = list[int]()

    @task
    def draw() -> int:
        made.append(len(made))
        return made[-1]

    def turn(state: Any) -> Any:
        n = state.get("n", 0)
        return {"n": n + 1, "items": [draw()] if n % 3 == 2 else []}

    builder = wire({"turn": turn}, [("__start__", "turn")])
    builder.add_conditional_edges("turn", lambda state: "turn" if state["n"] < 12 else "__end__", ["turn", "__end__"])
    graph = builder.compile(store, checkpoints=Checkpoints(every=5))
    graph.invoke({}, THREAD, interrupt_before=["turn"])
    graph.update_state(THREAD, {"items": ["told"]})
    assert graph.invoke(None, THREAD)["items"] == ["told", 0, 1, 2, 3]
    start = next(shot for shot in graph.get_state_history(THREAD) if shot.metadata["source"] == "update")
    fork = recorded(graph, config(start))
    assert graph.invoke(None, fork)["items"] == ["told", 0, 1, 2, 3]
    early = next(shot for shot in graph.get_state_history(THREAD) if shot.metadata["source"] == "input")
    changed = recorded(graph, config(early), "v", update={"items": ["else"]})
    assert graph.invoke(None, changed)["items"] == ["else", 0, 1, 2, 3]
    assert made == [0, 1, 2, 3]


def test_an_update_in_the_place_of_a_node(store: CheckpointStore) -> None:
    world = World()
    nodes = {name: world.pays(number) for number, name in enumerate("abc")}
    graph = chain(nodes, store)
    assert graph.invoke({}, THREAD)["items"] == ["receipt 1", "receipt 2", "receipt 3"]
    fork = recorded(graph, ahead_of(graph, "b"), update={"items": ["given"]}, as_node="b")
    assert graph.invoke(None, fork)["items"] == ["receipt 1", "given", "receipt 3"]
    assert len(world.paid) == 3


def test_a_breakpoint_that_the_original_passed_is_passed(store: CheckpointStore) -> None:
    graph = chain({name: says(name) for name in "abc"}, store, interrupt_before=["b", "c"])
    graph.invoke({}, THREAD)
    start = ahead_of(graph, "b")
    graph.invoke(None, THREAD)
    stopped = recorded(graph, start)
    with pytest.raises(NotRecorded, match=r"node 'c' .* was never resumed from there"):
        graph.invoke(None, stopped)
    graph.invoke(None, THREAD)
    assert graph.invoke(None, recorded(graph, start, "v"))["items"] == ["a", "b", "c"]
    own_stop = recorded(graph, start, "w")
    graph.add_breakpoints(own_stop, before="c")
    graph.invoke(None, thread("w"))
    assert (store.thread("w").status, graph.get_state(thread("w")).next) == ("interrupted", ("c",))


def test_the_limit_of_steps_counts_from_where_the_original_went_on(store: CheckpointStore) -> None:
    """That was answered, signalled and passed its breakpoint: each time it had the whole limit again."""
    few = {"recursion_limit": 3}
    nodes = {
        "a": says("a"),
        "b": says("b"),
        "ask": asks("?"),
        "c": says("c"),
        "hear": lambda state: {"items": [receive("price")]},
        "d": says("d"),
        "e": says("e"),
        "f": says("f"),
    }
    graph = chain(nodes, store, interrupt_before=["e"])
    graph.invoke({}, {**THREAD, **few})
    graph.signal(THREAD, "price", 3)
    graph.invoke(Command(resume="yes"), {**THREAD, **few})
    result = graph.invoke(None, {**THREAD, **few})
    fork = recorded(graph, ahead_of(graph, "a"))
    assert graph.invoke(None, {**fork, **few}) == result
    # The limit is one still.
    endless = chain({**nodes, "d": says("d"), "x": says("x"), "y": says("y"), "z": says("z")}, store)
    with pytest.raises(GraphRecursionError):
        endless.invoke(None, {**recorded(graph, ahead_of(graph, "a"), "v"), **few})


def test_the_recursion_limit_counts_as_it_did_then(store: CheckpointStore) -> None:
    """Where the original had reached it a re-run ends too, until that is retried; it never went beyond the retry. And
    newer code does not go on without end."""
    limit = {"recursion_limit": 3}
    graph = chain({name: says(name) for name in "abcde"}, store)
    with pytest.raises(GraphRecursionError):
        graph.invoke({}, {**THREAD, **limit})
    with pytest.raises(GraphRecursionError):
        graph.invoke(None, {**recorded(graph, ahead_of(graph, "a")), **limit})
    assert graph.get_state(thread("u")).next == ("d",)
    assert graph.invoke(None, {**THREAD, **limit})["items"] == list("abcde")
    assert graph.invoke(None, {**recorded(graph, ahead_of(graph, "a"), "v"), **limit})["items"] == list("abcde")
    # Also of a re-run, which was never stopped.
    assert graph.invoke(None, {**recorded(graph, ahead_of(graph, "b", "v"), "w"), **limit})["items"] == list("abcde")
    longer = chain({name: says(name) for name in "abcdefghijk"}, store)
    with pytest.raises(GraphRecursionError):
        longer.invoke(None, {**recorded(graph, ahead_of(graph, "a"), "x"), **limit})
    assert graph.get_state(thread("x")).next == ("g",)


def test_a_later_run_of_the_thread_is_its_own(store: CheckpointStore) -> None:
    world = World()
    graph = chain({"first": says("first"), "pay": world.pays(5)}, store)
    graph.invoke({}, THREAD)
    graph.invoke({}, THREAD)
    fork = recorded(graph, ahead_of(graph, "pay"))
    assert graph.invoke(None, fork)["items"] == ["first", "receipt 1"]
    assert graph.invoke({}, thread("u"))["items"] == ["first", "receipt 1", "first", "receipt 3"]
    assert world.paid[-1][2] is None


# -- what has no record ----------------------------------------------------------------------------------------------


def asking_late(world: World, store: CheckpointStore) -> CompiledGraph:
    """Its thread `t` has paid once and stopped at a question, in one node."""

    @task
    def pay(amount: int) -> int:
        world.paid.append(amount)
        return amount

    def node(state: Any) -> Any:
        first = pay(1)
        try:
            answer = interrupt("more?")
        except Exception as error:
            answer = str(error)
        return {"items": [first, answer, pay(2)]}

    graph = chain({"first": says("first"), "node": node}, store)
    graph.invoke({}, THREAD)
    return graph


def test_what_has_no_record_stops_the_run_with_the_reason(store: CheckpointStore) -> None:
    world = World()
    graph = asking_late(world, store)
    fork = recorded(graph, ahead_of(graph, "node"))
    with pytest.raises(NotRecorded) as caught:
        graph.invoke(None, fork)
    error = caught.value
    assert str(error) == (
        "thread 'u': node 'node' of graph 'graph', step 1: its call 1 (interrupt()) was not done. This is a re-run of "
        "thread 't' from checkpoint 0000000002 with what that recorded, and it recorded nothing beyond call 0. Re-run "
        "it with effects='live' to do everything anew, or fork this thread, which then goes on live"
    )
    assert (error.thread_id, error.node, error.original, error.checkpoint_id) == ("u", "node", "t", "0000000002")
    record = store.thread("u")
    assert (record.status, record.reason.partition(":")[0]) == ("failed", "perdure.runtime.errors.NotRecorded")
    assert world.paid == [1]
    # Once the original has been answered there is a record, and a retry finds it.
    graph.invoke(Command(resume="yes"), THREAD)
    assert graph.invoke(None, thread("u"))["items"] == ["first", 1, "yes", 2]
    assert world.paid == [1, 2]


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (lambda world: world.pays(5), "recorded no call there"),
        (lambda world: asks("?"), r"interrupt\(\)\) was not done"),
        (lambda world: lambda state: {"items": [receive("price")]}, r"receive\('price'\)\) was not done"),
        (lambda world: lambda state: sleep(3600), r"sleep\(\)\) was not done"),
    ],
)
def test_every_kind_of_call_needs_its_record(store: CheckpointStore, node: Any, why: str) -> None:
    world = World()
    chain({"first": says("first"), "node": says("then")}, store).invoke({}, THREAD)
    policy = RetryPolicy(retry_on=Exception, initial_interval=0.0)
    builder = wire({"first": says("first")}, [("__start__", "first"), ("first", "node"), ("node", "__end__")])
    graph = builder.add_node("node", node(world), retry_policy=policy).compile(store)
    with pytest.raises(NotRecorded, match=why):
        graph.invoke(None, recorded(graph, ahead_of(graph, "node")))
    assert (world.paid, store.thread("u").status, store.thread("u").wake_at) == ([], "failed", 0)


def swallow(node: Callable[..., Any]) -> Callable[..., Any]:
    """A node that takes whatever comes of another one for a value."""

    def all_caught(state: Any) -> Any:
        try:
            return node(state)
        except BaseException as error:
            return {"items": [type(error).__name__]}

    return all_caught


def gathering(world: World) -> Callable[..., Any]:
    """A node with two payments at once, whose exceptions are values."""

    @task
    async def pay(amount: int) -> int:
        world.paid.append(amount)
        return amount

    async def gather(state: Any) -> Any:
        found = await asyncio.gather(pay(1), pay(2), return_exceptions=True)
        return {"items": [str(one) for one in found]}

    return gather


def asked_afterwards(world: World) -> Callable[..., Any]:
    def ask(state: Any) -> Any:
        swallow(world.pays(5))(state)
        return {"items": [interrupt("?")]}

    return ask


def replaced(world: World) -> Callable[..., Any]:
    """A node that raises an error of its own instead, which its policy would retry."""

    def fail(state: Any) -> Any:
        try:
            return world.pays(5)(state)
        except BaseException:
            raise ConnectionError("the bank does not answer") from None

    return fail


def caught(world: World) -> Callable[..., Any]:
    return swallow(world.pays(5))


@pytest.mark.parametrize("node", [caught, gathering, asked_afterwards, replaced], ids=lambda each: each.__name__)
def test_no_node_can_catch_that_there_is_no_record(store: CheckpointStore, node: Any) -> None:
    """The run went on with the stop as a value, and ended as if it had done its work."""
    world = World()
    chain({"first": says("first"), "node": says("then")}, store).invoke({}, THREAD)
    builder = wire({"first": says("first")}, [("__start__", "first"), ("first", "node"), ("node", "__end__")])
    policy = RetryPolicy(retry_on=Exception, initial_interval=0.0)
    graph = builder.add_node("node", world.log.node("node", node(world)), retry_policy=policy).compile(store)
    with pytest.raises(NotRecorded, match="recorded no call there"):
        graph.invoke(None, recorded(graph, ahead_of(graph, "node")))
    assert (world.paid, world.log.calls, store.thread("u").status) == ([], ["node"], "failed")


def test_another_call_than_the_recorded_one(store: CheckpointStore) -> None:
    world = World()
    graph = world.original(store)
    nodes = {name: says(name) for name in ("first", "nap", "ask", "hear", "last")}
    other = chain({"first": nodes["first"], "pay": asks("how much?"), **nodes}, store)
    with pytest.raises(
        NotRecorded, match=r"its call 0 \(interrupt\(\)\) was not done.* recorded @task 'pay' in its place"
    ):
        other.invoke(None, recorded(graph, ahead_of(graph, "pay")))


def test_a_step_that_the_original_did_not_come_to(store: CheckpointStore) -> None:
    graph = until(3, store)
    graph.invoke({"n": 0}, THREAD)

    def counted(state: Any) -> Any:
        if state["n"] == 3:
            interrupt("on?")
        return {"n": state["n"] + 1}

    builder = wire({"count": counted}, [("__start__", "count")])
    builder.add_conditional_edges("count", lambda state: "count" if state["n"] < 9 else "__end__", ["count", "__end__"])
    longer = builder.compile(store)
    with pytest.raises(NotRecorded, match="recorded no call there"):
        longer.invoke(None, recorded(graph, config(list(graph.get_state_history(THREAD))[-1])))


def test_a_node_marked_as_having_effects_is_not_run(store: CheckpointStore) -> None:
    ran = list[str]()

    def post(state: Any) -> Any:
        ran.append("post")

    builder = wire({"first": says("first")}, [("__start__", "first"), ("first", "post"), ("post", "__end__")])
    graph = builder.add_node("post", post, effects=True).compile(store)
    graph.invoke({}, THREAD)
    with pytest.raises(NotRecorded, match="marked effects=True"):
        graph.invoke(None, recorded(graph, ahead_of(graph, "post")))
    graph.invoke(None, graph.fork(ahead_of(graph, "post"), thread_id="v", effects="live"))
    assert ran == ["post", "post"]


def test_a_rerun_of_what_was_inherited_is_refused(store: CheckpointStore) -> None:
    graph = World().original(store)
    fork = graph.fork(ahead_of(graph, "nap"), thread_id="u")
    with pytest.raises(InputError, match=r"0000000004 is not its own: it was forked from thread 't' at 0000000004"):
        recorded(graph, fork, "v")
    with pytest.raises(InputError, match=r'"recorded", "live"'):
        graph.fork(THREAD, effects="dead")
    for key in (RERUN, BATCH, BATCH_MARK):
        with pytest.raises(InputError, match="kept for re-runs"):
            graph.fork(THREAD, metadata={key: {}})
        with pytest.raises(InputError, match="kept for re-runs"):
            graph.invoke({}, {"configurable": {"thread_id": "new"}, "metadata": {key: {}}})
    with pytest.raises(UnknownThread):
        store.thread("new")


# -- re-runs of re-runs, and what they need --------------------------------------------------------------------------


def test_a_rerun_of_a_rerun_replays_the_first_thread(store: CheckpointStore) -> None:
    world = World()
    graph = world.original(store)
    graph.invoke(None, recorded(graph, ahead_of(graph, "pay")))
    paid = list(world.paid)
    assert graph.invoke(None, recorded(graph, ahead_of(graph, "nap", "u"), "v"))["items"] == ITEMS
    assert world.paid == paid
    # A fork of a re-run is none.
    assert RERUN not in graph.checkpointer.thread(_id(graph.fork(thread("v")))).metadata  # type: ignore[union-attr]


def test_a_live_rerun_of_a_rerun_lives(store: CheckpointStore) -> None:
    """It was given what the first thread had recorded."""
    world = World()
    graph = world.original(store)
    graph.invoke(None, recorded(graph, ahead_of(graph, "pay")))
    first_key = world.paid[0][1]
    result = graph.invoke(None, graph.fork(ahead_of(graph, "pay", "u"), thread_id="v", effects="live"))
    assert [one.value for one in result["__interrupt__"]] == ["go on?"]
    assert [amount for amount, *_ in world.paid] == [5, 7, 5]
    assert world.paid[2][2] == first_key  # who has done it before is known


@pytest.mark.parametrize("mark", [None, 1, {}, {"recorded": True}, {"recorded": True, "thread": 1, "seq": 1}])
def test_what_is_no_mark_of_a_rerun_counts_for_none(mark: Any) -> None:
    row = ThreadRecord(thread_id="t", graph="g", version="1", graph_key="", created_at=1.0, head=1)
    row = replace(row, metadata={RERUN: mark})
    assert (Rerun.of(row), row.replays) == (None, None)


def test_key_and_thread_of_the_original_are_of_the_same_one(store: CheckpointStore) -> None:
    """Where a re-run was run again the key was that of the first thread, the id that of the second."""
    told: list[tuple[str, str | None, str]] = []

    def tell(state: Any) -> None:
        context = get_context()
        told.append((context.idempotency_key, context.original_key, context.original_thread))

    graph = chain({"first": says("first"), "tell": tell, "last": says("last")}, store)
    graph.invoke({}, THREAD)
    graph.invoke(None, recorded(graph, ahead_of(graph, "first"), "u"))
    graph.invoke(None, recorded(graph, ahead_of(graph, "tell", "u"), "v"))
    (key, *none), *others = told
    assert none == [None, ""]
    assert [pair for _, *pair in others] == [[key, "t"]] * 2


def _id(config: dict[str, Any]) -> str:
    return str(config["configurable"]["thread_id"])


def test_what_a_rerun_has_still_to_replay_is_kept(store: CheckpointStore) -> None:
    world = World()
    graph = world.original(store)
    at = ahead_of(graph, "pay")
    first = recorded(graph, at)
    graph.invoke(None, first)
    second = recorded(graph, ahead_of(graph, "nap", "u"), "v")
    tidier = Tidier(store=store, meaning=RuntimeMeaning(), retention=Retention(max_checkpoints=1))
    for thread_id, nodes in (("t", ["pay", "nap", "ask", "hear", "last"]), ("u", ["nap", "ask", "hear", "last"])):
        list(tidier.thread(thread_id, 1e12, thorough=True))
        kept = [node for shot in history(graph, thread(thread_id)) for node in shot.next]
        assert kept[-len(nodes) :] == nodes
        with pytest.raises(ThreadReferenced, match="replay what it recorded and have not ended"):
            delete_thread(store, thread_id)
    assert graph.invoke(None, second)["items"] == ITEMS
    assert len(world.paid) == 2
    for thread_id in "tu":
        assert sum((done for done in tidier.thread(thread_id, 1e12, thorough=True)), start=Progress()).checkpoints
        delete_thread(store, thread_id)
    assert graph.get_state(thread("v")).values == {"items": ITEMS}


def test_a_rerun_whose_owner_dies_at_any_call(store: CheckpointStore) -> None:
    """Whoever takes it over replays what is left: nothing is done that was recorded, and the end is the same."""
    world = World()
    graph = world.original(store)
    paid = list(world.paid)
    for at in count():
        thread_id = f"u{at}"
        recorded(graph, ahead_of(graph, "pay"), thread_id)
        mortal = Mortal(store, at, after=bool(at % 2))
        resume = Message(message_id="resume", kind=RESUME, payload=pack(graph.codec, "", None, None))
        store.deliver(thread_id, resume, Expect(statuses=frozenset({Status.PAUSED})))
        while not (row := store.thread(thread_id)).status.ended:
            try:
                own(
                    store if mortal.died else mortal,
                    crashed=row.status is Status.RUNNING,
                    graph=graph,
                    thread_id=thread_id,
                )
            except Died:
                assert mortal.died
        assert store.thread(thread_id).status is Status.SUCCEEDED
        assert graph.get_state(thread(thread_id)).values == {"items": ITEMS}
        if not mortal.died:
            break
    assert at > 10
    assert world.paid == paid


# -- the decision ----------------------------------------------------------------------------------------------------


def test_the_way_on_from_a_checkpoint() -> None:
    def control(step: int, parent: int, *, run: int = 1, lag: int = 0, born: int | None = None) -> Control:
        nodes = (Next("a", "a"),)
        return Control(1, step, 0, run, "loop", parent, 0.0, "1", nodes, {}, {}, (), branch=0, born=born, lag=lag)

    found = way_on(
        {
            3: control(1, 2),
            4: control(2, 3),
            5: control(3, 4),
            # An update that left the tasks as they were, on a branch that was begun at 4.
            7: control(3, 4, lag=1, born=2),
            9: control(4, 7, lag=1),
            # The next run.
            11: control(5, 9, run=2, lag=1),
        },
        3,
    )
    assert {place: (one.seq, one.born, one.step) for place, one in found.items()} == {
        1: (3, 1, 1),
        2: (7, 2, 3),
        3: (9, 4, 4),
    }
    assert way_on({}, 3) == {}
