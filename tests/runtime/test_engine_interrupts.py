"""`interrupt()`: one, several side by side, several in one node, in a loop; and the answers to them."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import (
    END,
    START,
    CheckpointStore,
    Command,
    InputError,
    Interrupt,
    InvalidUpdateError,
    NotInterrupted,
    PerdureError,
    StateGraph,
    UnencodableState,
    UnknownInterrupt,
    UnknownThread,
    interrupt,
)
from tests.runtime.engine import (
    THREAD,
    Log,
    State,
    asks,
    before,
    chain,
    fan,
    history,
    open_questions,
    says,
    story,
    thread,
)


def test_an_interrupt_and_its_answer(store: CheckpointStore) -> None:
    log = Log()
    graph = chain({"a": log.node("a"), "ask": log.node("ask", asks({"question": "ok?"})), "z": log.node("z")}, store)
    stopped = graph.invoke({"n": 1}, THREAD)
    [stop] = stopped.pop("__interrupt__")
    assert stopped == {"n": 1, "items": ["a"]}
    assert isinstance(stop, Interrupt)
    assert stop.value == {"question": "ok?"}
    shot = graph.get_state(THREAD)
    assert (shot.next, shot.interrupts, shot.tasks[0].interrupts) == (("ask",), (stop,), (stop,))
    assert (store.thread("t").status, store.thread("t").waits, store.thread("t").owner) == (
        "interrupted",
        (stop.id,),
        "",
    )
    assert graph.invoke(Command(resume="yes"), THREAD) == {"n": 1, "items": ["a", "yes", "z"]}
    assert log.calls == ["a", "ask", "ask", "z"]
    assert [step[1] for step in story(graph)] == [("a",), ("ask",), ("z",), ()]
    with pytest.raises(NotInterrupted, match="succeeded and waits for no answer"):
        graph.invoke(Command(resume="again"), THREAD)


@pytest.mark.parametrize("answer", [0, "", False, None, [], {}, {"a": 1}, ["x", {"y": (1, 2)}]], ids=repr)
def test_answers_of_any_kind(store: CheckpointStore, answer: Any) -> None:
    graph = chain({"ask": asks("?")}, store)
    graph.invoke({}, THREAD)
    assert graph.invoke(Command(resume=answer), THREAD)["items"] == [answer]


def test_going_on_without_an_answer_asks_again(store: CheckpointStore) -> None:
    log = Log()
    graph = chain({"ask": log.node("ask", asks("?"))}, store)
    first = graph.invoke({}, THREAD)
    assert graph.invoke(None, THREAD) == first
    assert log.calls == ["ask"]
    assert graph.invoke(Command(resume=1), THREAD)["items"] == [1]


def test_several_interrupts_side_by_side_are_answered_in_any_order(store: CheckpointStore) -> None:
    log = Log()
    nodes = {name: log.node(name, asks(name)) for name in ("x", "y", "z")}
    graph = fan({**nodes, "w": log.node("w")}, store, last=says("end"))
    ids = open_questions(graph.invoke({}, THREAD))
    assert set(ids) == {"x", "y", "z"}
    with pytest.raises(InputError, match="waits at 3 interrupts; answer by id"):
        graph.invoke(Command(resume="?"), THREAD)
    shot = graph.get_state(THREAD)
    assert shot.next == ("x", "y", "z")
    assert {task.name: task.result for task in shot.tasks}["w"] == {"items": ["w"]}

    assert set(open_questions(graph.invoke(Command(resume={ids["y"]: "Y"}), THREAD))) == {"x", "z"}
    assert graph.get_state(THREAD).next == ("x", "z")
    with pytest.raises(UnknownInterrupt, match=ids["y"]):
        graph.invoke(Command(resume={ids["y"]: "twice"}), THREAD)
    assert graph.invoke(Command(resume={ids["z"]: "Z", ids["x"]: "X"}), THREAD)["items"] == ["w", "X", "Y", "Z", "end"]
    assert sorted(log.calls) == ["w", "x", "x", "y", "y", "z", "z"]


def test_an_unknown_interrupt_id(store: CheckpointStore) -> None:
    graph = chain({"ask": asks("?")}, store)
    stopped = graph.invoke({}, THREAD)
    with pytest.raises(UnknownInterrupt, match=rf"it waits at '{stopped['__interrupt__'][0].id}'") as caught:
        graph.invoke(Command(resume={"0" * 32: 1}), THREAD)
    assert caught.value.interrupt_id == "0" * 32
    assert graph.get_state(THREAD).next == ("ask",)
    with pytest.raises(UnknownThread):
        graph.invoke(Command(resume=1), thread("none"))


def test_several_interrupts_in_one_node(store: CheckpointStore) -> None:
    log = Log()

    def ask(state: State) -> dict[str, Any]:
        name = interrupt("name?")
        age = interrupt({"age of": name})
        return {"items": [name, age, interrupt("sure?")]}

    graph = chain({"ask": log.node("ask", ask)}, store)
    assert open_questions(graph.invoke({}, THREAD)).keys() == {"name?"}
    assert graph.invoke(Command(resume="Ann"), THREAD)["__interrupt__"][0].value == {"age of": "Ann"}
    assert graph.get_state(THREAD).values == {"items": []}
    assert graph.invoke(Command(resume=30), THREAD)["__interrupt__"][0].value == "sure?"
    assert graph.invoke(Command(resume=True), THREAD)["items"] == ["Ann", 30, True]
    assert len(log.calls) == 4
    assert len(history(graph)) == 2


def test_an_interrupt_in_a_loop(store: CheckpointStore) -> None:
    builder = StateGraph(State)
    builder.add_node("ask", lambda state: {"n": state["n"] + interrupt(f"n={state['n']}")})
    builder.add_edge(START, "ask")
    builder.add_conditional_edges("ask", lambda state: "ask" if state["n"] < 3 else END, ["ask", END])
    graph = builder.compile(store)
    questions = [graph.invoke({"n": 0}, THREAD)["__interrupt__"][0]]
    for _ in range(2):
        questions.append(graph.invoke(Command(resume=1), THREAD)["__interrupt__"][0])
    assert [one.value for one in questions] == ["n=0", "n=1", "n=2"]
    assert len({one.id for one in questions}) == 3
    assert graph.invoke(Command(resume=1), THREAD)["n"] == 3


def test_an_answer_may_come_with_an_update(store: CheckpointStore) -> None:
    def ask(state: State) -> dict[str, Any]:
        return {"items": [interrupt("?"), state.get("n")]}

    graph = chain({"ask": ask}, store)
    graph.invoke({"n": 1}, THREAD)
    assert graph.invoke(Command(resume="yes", update={"n": 9, "items": ["u"]}), THREAD)["items"] == ["u", "yes", 9]
    graph.invoke({"n": 1}, thread("u"))
    with pytest.raises(InvalidUpdateError, match="'zz'"):
        graph.invoke(Command(resume="yes", update={"zz": 9}), thread("u"))
    assert graph.invoke(Command(resume="yes"), thread("u"))["items"] == ["yes", 1]


def test_an_update_that_comes_with_several_answers_is_applied_once(store: CheckpointStore) -> None:
    graph = fan({"x": asks("x"), "y": asks("y")}, store)
    ids = open_questions(graph.invoke({}, THREAD))
    found = graph.invoke(Command(resume={ids["x"]: 1, ids["y"]: 2}, update={"items": ["u"]}), THREAD)
    assert found["items"] == ["u", 1, 2]


def test_commands_that_answer_nothing_are_refused(store: CheckpointStore) -> None:
    graph = chain({"ask": asks("?")}, store)
    graph.invoke({}, THREAD)
    with pytest.raises(InputError, match="goto"):
        graph.invoke(Command(goto="ask"), THREAD)
    with pytest.raises(InputError, match="update_state"):
        graph.invoke(Command(update={"n": 1}), THREAD)
    assert graph.invoke(Command(resume=1), THREAD)["items"] == [1]


def test_a_new_input_takes_the_place_of_an_interrupted_run(store: CheckpointStore) -> None:
    graph = chain({"ask": asks("?")}, store)
    first = graph.invoke({"n": 1}, THREAD)["__interrupt__"][0]
    second = graph.invoke({"n": 2}, THREAD)["__interrupt__"][0]
    assert first.id != second.id
    with pytest.raises(UnknownInterrupt):
        graph.invoke(Command(resume={first.id: 1}), THREAD)
    assert graph.invoke(Command(resume=1), THREAD) == {"n": 2, "items": [1]}
    assert [run.status for run in store.runs("t")] == ["cancelled", "succeeded"]


def test_the_update_of_an_interrupted_state_keeps_the_question(store: CheckpointStore) -> None:
    graph = chain({"ask": lambda state: {"items": [interrupt("?"), state["n"]]}}, store)
    stop = graph.invoke({"n": 1}, THREAD)["__interrupt__"][0]
    graph.update_state(THREAD, {"n": 7})
    assert graph.get_state(THREAD).interrupts == (stop,)
    assert graph.invoke(Command(resume="yes"), THREAD)["items"] == ["yes", 7]


def test_an_old_question_is_asked_again_on_a_branch_of_its_own(store: CheckpointStore) -> None:
    graph = chain({"a": says("a"), "ask": asks("?")}, store)
    graph.invoke({}, THREAD)
    assert graph.invoke(Command(resume="one"), THREAD)["items"] == ["a", "one"]
    config = before(graph, "ask").config
    with pytest.raises(InputError, match="is not the newest"):
        graph.invoke(Command(resume="two"), config)
    again = graph.invoke(None, config)
    assert (again["items"], again["__interrupt__"][0].value) == (["a"], "?")
    assert graph.invoke(Command(resume="two"), THREAD)["items"] == ["a", "two"]
    assert [shot.values["items"] for shot in history(graph) if not shot.next] == [["a", "one"], ["a", "two"]]


def test_interrupts_pass_an_except_clause_of_the_node(store: CheckpointStore) -> None:
    def careful(state: State) -> dict[str, Any]:
        try:
            return {"items": [interrupt("?")]}
        except Exception:
            return {"items": ["swallowed"]}

    graph = chain({"careful": careful}, store)
    assert "__interrupt__" in graph.invoke({}, THREAD)
    assert graph.invoke(Command(resume="seen"), THREAD)["items"] == ["seen"]


def test_interrupt_outside_a_node() -> None:
    with pytest.raises(PerdureError, match="outside a node"):
        interrupt("?")


def test_a_question_that_cannot_be_stored_fails_its_node(store: CheckpointStore) -> None:
    graph = chain({"a": says("a"), "ask": asks(object())}, store)
    with pytest.raises(UnencodableState, match=r"by node 'ask': a value of type builtins.object"):
        graph.invoke({}, THREAD)
    assert (store.thread("t").status, graph.get_state(THREAD).next) == ("failed", ("ask",))


def test_the_ids_of_interrupts_are_those_of_every_attempt(store: CheckpointStore) -> None:
    graph = chain({"ask": asks("?")}, store)
    stop = graph.invoke({}, THREAD)["__interrupt__"][0]
    fails = iter([True, False])

    def flaky(state: State) -> dict[str, Any]:
        answer = interrupt("?")
        if next(fails):
            raise ConnectionError("lost")
        return {"items": [answer]}

    flaky_graph = chain({"ask": flaky}, store)
    with pytest.raises(ConnectionError):
        flaky_graph.invoke(Command(resume={stop.id: "kept"}), THREAD)
    # the answer was durable: the retry finds it
    assert flaky_graph.invoke(None, THREAD)["items"] == ["kept"]
