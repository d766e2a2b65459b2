"""The events: one union, read and written whole, stamped once."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from looopy import events
from looopy.errors import LooopyError, ModelOverloaded, UnknownEvent
from looopy.events import (
    BLANK,
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
    TaskState,
    ThoughtDelta,
    ToolCallDelta,
    ToolComplete,
    ToolProgress,
    ToolStart,
    dumps,
    loads,
    stamp,
)
from looopy.messages import DataPart, FilePart, FinishReason, Message, TextPart, ToolCall, Usage

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text(), json_values, max_size=3)
numbers = st.floats(min_value=0, max_value=1e9)
moments = st.datetimes(timezones=st.just(UTC))
calls = st.builds(ToolCall, st.text(), st.text(), objects, st.text())
parts = (
    st.builds(TextPart, st.text())
    | st.builds(FilePart, st.text(), st.text(), mime_type=st.text(), name=st.text())
    | st.builds(DataPart, json_values)
)
messages = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    st.text() | st.lists(parts, max_size=2).map(tuple),
    tool_calls=st.lists(calls, max_size=2).map(tuple),
    tool_call_id=st.text(),
    reasoning=st.text(),
    extra=objects,
    model=st.text(),
)
usages = st.builds(
    Usage, **dict.fromkeys(("input_tokens", "output_tokens", "cached_tokens"), st.integers(0, 10**9))
)
failures = st.builds(Failure, type=st.text(), message=st.text(), retryable=st.booleans())
statuses = st.builds(
    Status,
    state=st.sampled_from(get_args(TaskState)),
    message=st.none() | messages,
    timestamp=moments,
)
STAMPS: dict[str, st.SearchStrategy[Any]] = {
    "task_id": st.text(),
    "context_id": st.text(),
    "seq": st.integers(0, 2**53),
    "timestamp": moments,
    "parent_task_id": st.text(),
    "path": st.lists(st.text(), max_size=2).map(tuple),
}
FIELDS: dict[type[Any], dict[str, st.SearchStrategy[Any]]] = {
    Task: {"prompt": st.none() | messages, "agent_id": st.text(), "metadata": objects},
    StatusUpdate: {"status": statuses, "final": st.booleans(), "error": st.none() | failures},
    ArtifactUpdate: {
        "artifact": st.builds(
            Artifact, artifact_id=st.text(), parts=st.lists(parts, max_size=2).map(tuple), name=st.text()
        ),
        "append": st.booleans(),
        "last_chunk": st.booleans(),
    },
    LLMCall: {"iteration": st.integers(0, 99), "model": st.text(), "messages": st.integers(0, 99)},
    LLMRetry: {
        "attempt": st.integers(1, 99),
        "error": failures,
        "seconds": numbers,
        "model": st.text(),
        "next_model": st.text(),
    },
    ContentReset: {},
    ContentDelta: {"delta": st.text()},
    ThoughtDelta: {"delta": st.text()},
    ToolCallDelta: {"call_id": st.text(), "tool_name": st.text(), "delta": st.text()},
    LLMResponse: {
        "message": messages,
        "finish_reason": st.sampled_from(get_args(FinishReason)),
        "usage": st.none() | usages,
        "cost": st.none() | numbers,
        "seconds": numbers,
        "first_token": st.none() | numbers,
        "attempts": st.integers(1, 99),
        "served_by": st.text(),
        "cached": st.booleans(),
    },
    ToolStart: {"call_id": st.text(), "tool_name": st.text(), "arguments": objects},
    ToolProgress: {
        "call_id": st.text(),
        "progress": st.none() | st.floats(0, 1),
        "note": st.text(),
        "data": json_values,
    },
    ToolComplete: {
        "call_id": st.text(),
        "result": json_values,
        "error": st.none() | failures,
        "seconds": numbers,
    },
    OutputRejected: {"problem": st.text(), "attempt": st.integers(1, 99), "call_id": st.text()},
    InputRequired: {
        "input_id": st.text(),
        "prompt": st.text(),
        "input_type": st.sampled_from(["confirmation", "clarification", "selection", "data"]),
        "schema": st.none() | objects,
        "options": st.lists(st.text(), max_size=2).map(tuple),
    },
    InputReceived: {"input_id": st.text(), "value": json_values},
    Checkpoint: {"iteration": st.integers(0, 99)},
}
EVENTS: dict[type[Any], st.SearchStrategy[Event]] = {
    kind: st.builds(kind, **STAMPS, **given_fields) for kind, given_fields in FIELDS.items()
}


def test_there_is_a_strategy_for_every_kind() -> None:
    assert set(EVENTS) == set(get_args(Event))


@pytest.mark.parametrize("strategy", EVENTS.values(), ids=lambda strategy: "")
@given(data=st.data())
def test_an_event_of_every_kind_survives_a_round_trip(
    strategy: st.SearchStrategy[Event], data: st.DataObject
) -> None:
    event = data.draw(strategy)
    line = dumps(event)

    assert loads(line) == loads(line.decode()) == event
    assert b"\n" not in line
    assert pickle.loads(pickle.dumps(event)) == event


@given(record=st.binary() | st.text() | objects.map(json.dumps) | st.text(st.characters(categories=["Cs"])))
@example(record="\ud800")
@example(record='{"kind": "\ud800"}')
@example(record=b"\xff" * 300)
def test_any_bytes_or_text_are_an_event_or_an_unknown_event(record: bytes | str) -> None:
    try:
        outcome: object = loads(record)
    except UnknownEvent as error:
        outcome = str(error)

    if isinstance(outcome, str):
        assert len(outcome.encode()) < 3000
    else:
        assert isinstance(outcome, Event)


@given(event=st.one_of(*EVENTS.values()), data=st.data())
def test_an_event_that_is_cut_anywhere_is_an_unknown_event(event: Event, data: st.DataObject) -> None:
    line = dumps(event)
    cut = line[: data.draw(st.integers(0, len(line) - 1))]

    with pytest.raises(UnknownEvent, match="cannot read this event"):
        loads(cut)


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ('{"kind":"zzz"}', "zzz", "Input tag 'zzz' found"),
        ('{"kind":5}', "5", "Input tag '5' found"),
        ("{}", "", "Unable to extract tag"),
        ("[]", "", "Input should be an object"),
        ("", "", "Invalid JSON"),
        (
            '{"kind":"tool-complete","error":{"type":"x"}}',
            "tool-complete",
            "cannot read this event: tool-complete.error.message: Field required; it was written by another version",
        ),
    ],
)
def test_an_unknown_event_says_its_kind_and_what_is_wrong(line: str, kind: str, said: str) -> None:
    with pytest.raises(UnknownEvent) as caught:
        loads(line)

    assert caught.value.kind == kind
    assert said in str(caught.value)
    assert str(caught.value).endswith(line)


def test_half_an_emoji_in_an_event_does_not_keep_it_from_being_written() -> None:
    event = LLMResponse(
        message=Message.assistant("a\ud83d"), seq=1, timestamp=datetime(2026, 1, 2, tzinfo=UTC)
    )

    assert loads(dumps(event)) == replace(event, message=Message.assistant("a\ufffd"))


def test_an_event_with_a_runtime_object_in_it_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        dumps(ToolComplete(result=object()))


# ---------------------------------------------------------------------------------------------------------------- stamp

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def test_a_blank_event_is_stamped_in_place() -> None:
    event = ContentDelta(delta="a")
    assert (event.seq, event.timestamp) == (0, BLANK)

    stamped = stamp(event, task_id="t", context_id="c", seq=3, timestamp=NOON)

    assert stamped is event
    assert stamped == ContentDelta(delta="a", task_id="t", context_id="c", seq=3, timestamp=NOON)


@given(event=st.one_of(*EVENTS.values()))
def test_an_event_that_was_stamped_before_is_copied(event: Event) -> None:
    """A provider may replay what it emitted in another run: that run's event must stay as it is."""
    event = replace(event, seq=event.seq + 1)
    before = replace(event)

    stamped = stamp(event, task_id="t", context_id="c", seq=7, timestamp=NOON)

    assert event == before
    assert stamped == replace(event, task_id="t", context_id="c", seq=7, timestamp=NOON)


# -------------------------------------------------------------------------------------------------------------- failure


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ValueError("it broke"), Failure(type="ValueError", message="it broke")),
        (KeyError(), Failure(type="KeyError", message="KeyError()")),
        (KeyError("x"), Failure(type="KeyError", message="KeyError('x')")),
        (ModelOverloaded("later"), Failure(type="ModelOverloaded", message="later", retryable=True)),
        (LooopyError("m"), Failure(type="LooopyError", message="m")),
        (OSError("no file 'a\udcff'"), Failure(type="OSError", message="no file 'a\ufffd'")),
        (
            RuntimeError("401 for https://me:hunter22@host/"),
            Failure(type="RuntimeError", message="401 for https://***@host/"),
        ),
    ],
)
def test_a_failure_says_what_an_exception_said_without_its_credentials(
    error: Exception, failure: Failure
) -> None:
    assert Failure.of(error) == failure


def test_the_calls_of_an_answer_are_its_messages_calls() -> None:
    asked = (ToolCall("c", "add"),)

    assert LLMResponse(message=Message.assistant(tool_calls=asked)).tool_calls == asked


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.__name__)
def test_a_kind_is_written_as_the_class_in_lower_case(kind: type[Any]) -> None:
    """`llm-call` is `LLMCall`: whoever knows one knows the other."""
    spelled: Callable[[str], str] = lambda name: name.replace("-", "").lower()  # noqa: E731

    assert spelled(kind.__dataclass_fields__["kind"].default) == kind.__name__.lower()
    assert kind.__name__ in vars(events)
