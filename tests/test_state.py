"""`advance`: the fold that makes a task's state of its events."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looopy.errors import UnknownEvent
from looopy.events import (
    Artifact,
    ArtifactUpdate,
    Checkpoint,
    ContentDelta,
    ContentReset,
    Event,
    Failure,
    InputReceived,
    InputRequired,
    LLMCall,
    LLMResponse,
    LLMRetry,
    OutputRejected,
    Status,
    StatusUpdate,
    Task,
    ThoughtDelta,
    ToolCallDelta,
    ToolComplete,
    ToolProgress,
    ToolStart,
    dumps,
    loads,
)
from looopy.messages import Message, ToolCall, Usage
from looopy.state import LoopState, advance, settled

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
START = LoopState(task_id="t", context_id="c")
ASKED = (ToolCall("a", "add"), ToolCall("b", "add"))
WORKING = LoopState(
    task_id="t",
    context_id="c",
    messages=(Message.user("go"), Message.assistant(tool_calls=ASKED)),
    pending=ASKED,
    iteration=1,
)
BROKE = Failure(type="ValueError", message="it broke")


def fold(state: LoopState, *events: Event) -> LoopState:
    for event in events:
        state = advance(state, event)
    return state


# ----------------------------------------------------------------------------------------------------- event by event


def test_a_task_adds_its_prompt_to_the_history() -> None:
    before = replace(START, messages=(Message.user("old"),))
    task = Task(prompt=Message.user("go"), agent_id="math", seq=1, timestamp=NOON)

    assert advance(before, task) == replace(
        before,
        agent_id="math",
        messages=(Message.user("old"), Message.user("go")),
        status=Status(state="submitted", timestamp=NOON),
        seq=1,
    )
    assert advance(START, Task()).messages == ()


def test_a_status_says_where_the_task_stands_and_whether_its_stream_is_over() -> None:
    status = Status(state="failed", timestamp=NOON)

    after = advance(START, StatusUpdate(status=status, final=True, error=BROKE, seq=9))

    assert after == replace(START, status=status, final=True, error=BROKE, seq=9)
    assert (settled(START), settled(after)) == (False, True)


def test_a_model_call_counts_when_it_begins() -> None:
    before = replace(START, answered=True)

    assert advance(before, LLMCall(iteration=3, seq=4)) == replace(START, iteration=3, seq=4)


def test_an_answer_without_tools_is_the_answer() -> None:
    usage = Usage(input_tokens=3, output_tokens=4)
    said = Message.assistant("42")

    after = advance(START, LLMResponse(message=said, usage=usage, cost=0.5, seq=5))

    assert after == replace(START, messages=(said,), answered=True, usage=usage, cost=0.5, seq=5)
    assert after.output == "42"


@pytest.mark.parametrize(
    ("before", "said", "after"), [(None, None, None), (None, 0.0, 0.0), (0.5, None, 0.5), (0.5, 0.25, 0.75)]
)
def test_the_cost_is_that_of_the_calls_whose_price_is_known(
    before: float | None, said: float | None, after: float | None
) -> None:
    answer = LLMResponse(message=Message.assistant("x"), cost=said)

    assert advance(replace(START, cost=before), answer).cost == after


def test_an_answer_with_nothing_in_it_leaves_no_message() -> None:
    after = advance(START, LLMResponse(message=Message("assistant", reasoning="hm")))

    assert (after.messages, after.answered, after.output) == ((), True, "")


def test_a_rejected_text_is_answered_by_a_message_and_a_rejected_call_by_its_tool_message() -> None:
    before = replace(START, messages=(Message.assistant("no"),), answered=True)

    assert advance(before, OutputRejected(problem="not so", seq=5)) == replace(
        START, messages=(Message.assistant("no"), Message.user("not so")), rejected=1, seq=5
    )
    assert advance(WORKING, OutputRejected(problem="not so", call_id="a", seq=5)) == replace(
        WORKING, rejected=1, seq=5
    )


def test_the_state_says_why_the_newest_answer_ended() -> None:
    cut = LLMResponse(message=Message.assistant("Hel"), finish_reason="length")

    assert advance(START, cut).finish_reason == "length"


def test_what_was_cut_is_no_answer() -> None:
    after = advance(START, LLMResponse(message=Message.assistant("Hel"), finish_reason="interrupted"))

    assert (after.answered, after.output) == (False, "Hel")


def test_the_output_of_a_turn_without_an_answer_is_not_the_turns_before() -> None:
    before = replace(START, messages=(Message.user("a"), Message.assistant("old answer")))
    assert before.output == "old answer"

    assert advance(before, Task(prompt=Message.user("b"))).output == ""


def test_calls_are_pending_until_all_are_answered_and_then_stand_in_call_order() -> None:
    asked = LLMResponse(message=Message.assistant(tool_calls=ASKED), seq=1)
    state = advance(replace(START, messages=(Message.user("go"),)), asked)
    assert (state.pending, state.runnable, state.answered) == (ASKED, ASKED, False)

    state = advance(state, ToolComplete(call_id="b", result=2, seq=2))
    assert (state.pending, state.runnable, state.answers) == (ASKED, ASKED[:1], {"b": "2"})
    assert len(state.messages) == 2

    state = advance(state, ToolComplete(call_id="a", result={"x": 1}, seq=3))
    assert (state.pending, state.answers, state.seq) == ((), {}, 3)
    assert state.messages[2:] == (
        Message.tool('{"x":1}', tool_call_id="a"),
        Message.tool("2", tool_call_id="b"),
    )


def test_failures_are_counted_in_a_row() -> None:
    three = (ToolCall("a", "x"), ToolCall("b", "x"), ToolCall("c", "x"))
    state = replace(WORKING, pending=three)
    fails = [ToolComplete(call_id=call_id, error=BROKE) for call_id in ("a", "b")]

    state = fold(state, *fails)

    assert (state.failures, state.answers) == (2, {"a": "Error: it broke", "b": "Error: it broke"})
    assert advance(state, ToolComplete(call_id="c", result=None)).failures == 0


@pytest.mark.parametrize("stray", [ToolComplete(call_id="nobody", seq=9), ToolComplete(call_id="b", seq=9)])
def test_an_answer_to_no_open_call_changes_nothing(stray: ToolComplete) -> None:
    state = advance(WORKING, ToolComplete(call_id="b", result="first", seq=2))

    assert advance(state, stray) == state


def test_a_question_keeps_its_call_waiting_until_it_is_answered() -> None:
    question = InputRequired(input_id="i", call_id="a", prompt="sure?", seq=2)

    state = advance(WORKING, question)
    assert (state.waiting, state.runnable) == ((question,), ASKED[1:])

    state = advance(state, InputReceived(input_id="i", value={"ok": True}, seq=3))
    assert (state.waiting, state.inputs, state.runnable) == ((), {"i": {"ok": True}}, ASKED)


def test_a_call_that_is_answered_asks_nothing_any_more() -> None:
    state = advance(WORKING, InputRequired(input_id="i", call_id="a"))

    assert advance(state, ToolComplete(call_id="a", error=BROKE)).waiting == ()


def test_a_checkpoint_says_what_is_saved() -> None:
    assert advance(replace(START, seq=6), Checkpoint(seq=7)) == replace(START, seq=7, saved=7)


@pytest.mark.parametrize(
    "event",
    [
        ContentDelta(delta="x", seq=9),
        ThoughtDelta(delta="x", seq=9),
        LLMRetry(attempt=1, error=Failure(type="ModelFailed", message="m"), seq=9),
        ContentReset(seq=9),
        ToolCallDelta(call_id="a", seq=9),
        ToolStart(call_id="a", tool_name="add", seq=9),
        ToolProgress(call_id="a", seq=9),
        ArtifactUpdate(artifact=Artifact(artifact_id="x"), seq=9),
    ],
    ids=lambda event: event.kind,
)
def test_what_comes_again_as_a_whole_changes_nothing(event: Event) -> None:
    assert advance(WORKING, event) is WORKING


# --------------------------------------------------------------------------------------------------- sequences of events

ids = st.sampled_from(["a", "b", "c"])
json_values = st.none() | st.integers() | st.text() | st.lists(st.integers(), max_size=2)
messages = st.builds(
    Message,
    st.just("assistant"),
    st.text(max_size=3),
    tool_calls=st.lists(ids, unique=True, max_size=3).map(lambda ids: tuple(ToolCall(i, "t") for i in ids)),
)
usages = st.builds(Usage, input_tokens=st.integers(0, 9), output_tokens=st.integers(0, 9))
failures = st.none() | st.just(BROKE)
completes = st.builds(ToolComplete, call_id=ids, result=json_values, error=failures)
noise: st.SearchStrategy[Any] = st.one_of(
    completes,
    st.builds(ContentDelta, delta=st.text(max_size=2)),
    st.builds(ToolStart, call_id=ids, tool_name=st.just("t")),
    st.builds(ToolProgress, call_id=ids),
    st.builds(InputRequired, input_id=ids, call_id=ids),
    st.builds(InputReceived, input_id=ids, value=json_values),
    st.builds(OutputRejected, problem=st.text(max_size=3), call_id=ids),
    st.builds(LLMCall, iteration=st.integers(0, 9)),
    st.builds(Checkpoint, iteration=st.integers(0, 9)),
    st.builds(
        StatusUpdate,
        status=st.sampled_from(["working", "input-required", "failed"]).map(lambda name: Status(state=name)),
        final=st.booleans(),
        error=failures,
    ),
)
responses = st.builds(
    LLMResponse,
    message=messages,
    finish_reason=st.sampled_from(["stop", "tool_calls", "interrupted"]),
    usage=st.none() | usages,
    cost=st.none() | st.floats(0, 9),
)
anything: st.SearchStrategy[Any] = (
    noise | responses | st.builds(Task, prompt=st.none() | st.builds(Message.user, st.text(max_size=3)))
)


def numbered(events: list[Event]) -> list[Event]:
    return [replace(event, seq=seq, timestamp=NOON) for seq, event in enumerate(events, start=1)]


def check(state: LoopState) -> None:
    """What holds in every state."""
    pending = [call.id for call in state.pending]
    assert set(state.answers) < set(pending) or (state.answers, pending) == ({}, [])
    assert {call.id for call in state.runnable} <= set(pending) - set(state.answers)
    assert state.failures >= 0


@given(events=st.lists(anything, max_size=12).map(numbered))
def test_advance_takes_any_events_in_any_order_and_changes_none_of_its_arguments(events: list[Event]) -> None:
    state = START
    for event in events:
        given, copied = state, replace(state, answers=dict(state.answers), inputs=dict(state.inputs))
        state = advance(given, event)
        assert given == copied
        assert state.seq in (given.seq, event.seq)
        check(state)
    assert LoopState.loads(state.dumps()) == state
    assert fold(START, *[loads(dumps(event)) for event in events]) == state


@given(data=st.data())
def test_every_call_is_answered_once_and_in_order_before_the_model_is_asked_again(
    data: st.DataObject,
) -> None:
    """However the answers come: out of order, twice, with questions and strangers' events in between."""
    state = fold(START, Task(prompt=Message.user("go")))
    for _ in range(data.draw(st.integers(1, 4), label="rounds")):
        state = advance(state, data.draw(responses, label="response"))
        while state.pending:
            for event in data.draw(st.lists(noise, max_size=5), label="noise"):
                state = advance(state, event)
                check(state)
            if left := [call.id for call in state.pending if call.id not in state.answers]:
                state = advance(state, ToolComplete(call_id=data.draw(st.sampled_from(left)), result=1))
        assert (state.pending, state.answers) == ((), {})

    place = 0
    while place < len(state.messages):
        asked = [call.id for call in state.messages[place].tool_calls]
        answers = state.messages[place + 1 : place + 1 + len(asked)]
        assert [message.tool_call_id for message in answers] == asked
        place += 1 + len(asked)


# ---------------------------------------------------------------------------------------------------------- its record


def test_a_state_survives_a_round_trip_whole() -> None:
    question = InputRequired(input_id="i", call_id="a", schema={"type": "string"}, options=("x", "y"), seq=3)
    state = replace(
        WORKING,
        answers={"b": "2"},
        waiting=(question,),
        inputs={"j": [1, None]},
        usage=Usage(input_tokens=3),
        cost=0.25,
        failures=2,
        status=Status(state="input-required", message=Message.assistant("?"), timestamp=NOON),
        error=BROKE,
        final=True,
        seq=8,
        saved=7,
    )

    assert LoopState.loads(state.dumps()) == LoopState.loads(state.dumps().decode()) == state


def test_half_an_emoji_does_not_keep_a_state_from_being_stored() -> None:
    state = replace(START, messages=(Message.user("a\ud83d"),))

    assert LoopState.loads(state.dumps()) == replace(START, messages=(Message.user("a\ufffd"),))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (b"", "cannot read this stored state: Invalid JSON"),
        (b"\xff", "cannot read this stored state: Invalid JSON"),
        ('{"task_id": "t"}', "cannot read this stored state: context_id: Field required"),
        (
            '{"task_id": "t", "context_id": 5}',
            "cannot read this stored state: context_id: Input should be a valid string",
        ),
    ],
)
def test_a_record_that_cannot_be_read_is_an_unknown_event_that_says_why(
    record: bytes | str, said: str
) -> None:
    with pytest.raises(UnknownEvent) as caught:
        LoopState.loads(record)

    assert str(caught.value).startswith(said)
    assert caught.value.kind == "state"
