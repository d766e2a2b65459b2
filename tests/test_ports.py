"""The sockets: what travels through them, and who fits."""

from __future__ import annotations

import json
import pickle
import sys
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from reactivex import Observable
from reactivex import operators as ops

from looopy.errors import ConfigurationError
from looopy.events import ArtifactUpdate, InputRequired, LLMEvent, ToolEvent, ToolProgress
from looopy.messages import Message, ToolCall
from looopy.ports import (
    ArtifactStore,
    Embedder,
    Embeddings,
    EmbedRequest,
    InputNeeded,
    LLMProvider,
    LLMRequest,
    StateStore,
    ToolContext,
    ToolDefinition,
    ToolProvider,
)
from looopy.state import LoopState
from looopy.stores.memory import InMemoryArtifactStore, InMemoryStateStore
from looopy.testing import ScriptedModel, says


def context(
    emitted: list[ToolProgress | ArtifactUpdate] | None = None, **inputs: object
) -> ToolContext[list[int]]:
    return ToolContext(
        task_id="t",
        context_id="c",
        call_id="call_1",
        tool_name="delete",
        iteration=2,
        deps=[1],
        inputs=inputs,
        emit=([] if emitted is None else emitted).append,
        cancelled=lambda: False,
    )


def test_a_tool_has_the_shape_of_openais_chat_format() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    tool = ToolDefinition(name="add", description="Add “up”.", parameters=schema)

    assert json.loads(tool.wire) == {
        "type": "function",
        "function": {"name": "add", "description": "Add “up”.", "parameters": schema},
    }
    assert json.loads(ToolDefinition(name="now").wire)["function"]["parameters"] == {
        "type": "object",
        "properties": {},
    }


def test_a_tool_is_turned_into_bytes_once_and_they_are_no_part_of_its_value() -> None:
    used, fresh = ToolDefinition(name="add"), ToolDefinition(name="add")

    assert used.wire is used.wire
    assert used == fresh
    assert repr(used) == repr(fresh)
    assert pickle.loads(pickle.dumps(used)) == fresh
    assert json.loads(replace(used, name="sub").wire)["function"]["name"] == "sub"


def test_a_request_has_no_room_in_common_with_another() -> None:
    first, second = LLMRequest(messages=()), LLMRequest(messages=())

    assert first == second
    assert first.params is not second.params


def test_a_tool_says_how_far_it_is_under_its_calls_name() -> None:
    emitted: list[ToolProgress | ArtifactUpdate] = []

    context(emitted).progress(0.5, "half", data={"rows": 3})
    context(emitted).progress()

    assert emitted == [
        ToolProgress(call_id="call_1", tool_name="delete", progress=0.5, note="half", data={"rows": 3}),
        ToolProgress(call_id="call_1", tool_name="delete"),
    ]


def test_the_first_time_a_tool_asks_its_call_ends_with_the_question() -> None:
    with pytest.raises(InputNeeded, match="waiting for an answer to 'sure\\?'") as caught:
        context().ask("sure?", input_type="selection", schema={"type": "string"}, options=["yes", "no"])

    assert caught.value.question == InputRequired(
        input_id="call_1",
        call_id="call_1",
        tool_name="delete",
        prompt="sure?",
        input_type="selection",
        schema={"type": "string"},
        options=("yes", "no"),
    )


@pytest.mark.parametrize("value", ["yes", None, False, ""])
def test_the_second_time_it_gets_the_answer_even_a_falsy_one(value: object) -> None:
    assert context(call_1=value).ask("sure?") is value


def test_the_questions_of_one_call_are_told_apart_by_their_names() -> None:
    answered = context(**{"call_1:first": 1})

    assert answered.ask("one?", name="first") == 1
    with pytest.raises(InputNeeded) as caught:
        answered.ask("two?", name="second")
    assert caught.value.question.input_id == "call_1:second"


def test_a_context_shows_no_function_in_its_repr() -> None:
    assert repr(context()) == (
        "ToolContext(task_id='t', context_id='c', call_id='call_1', tool_name='delete', iteration=2, deps=[1], inputs={})"
    )


class Renamed:
    """A wrapper is the socket that it wraps."""

    def __init__(self, tools: ToolProvider) -> None:
        self._tools = tools

    def tools(self, state: LoopState, /) -> Sequence[ToolDefinition]:
        listed = self._tools.tools(state)
        assert isinstance(listed, Sequence)
        return [replace(tool, name=f"my_{tool.name}") for tool in listed]

    def call(self, call: ToolCall, context: ToolContext[Any], /) -> Observable[ToolEvent]:
        return self._tools.call(replace(call, name=call.name.removeprefix("my_")), context)


class Shouting:
    def __init__(self, llm: LLMProvider) -> None:
        self._llm = llm

    def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
        return self._llm.call(request).pipe(ops.filter(lambda event: event.kind == "llm-response"))


def test_what_has_a_sockets_methods_fits_it() -> None:
    model = ScriptedModel(says("Hi"))

    assert isinstance(model, LLMProvider)
    assert isinstance(Shouting(model), LLMProvider)
    assert not isinstance("gpt-4o", LLMProvider)
    assert issubclass(Renamed, ToolProvider)
    assert isinstance(InMemoryStateStore(), StateStore)
    assert isinstance(InMemoryArtifactStore(), ArtifactStore)


def test_a_request_keeps_its_messages_as_they_are() -> None:
    said = (Message.user("Hi"),)

    assert LLMRequest(messages=said).messages is said


@pytest.mark.parametrize(
    ("texts", "argument", "message"),
    [
        ("a cat", "texts", "texts='a cat' is one text: write [text]"),
        (["a", "", "c"], "texts[1]", "texts[1] is empty, and has no embedding: leave it out"),
        (["a", None], "texts[1]", "texts[1] is no text but NoneType, and has no embedding: leave it out"),
        (b"a", "texts[0]", "texts[0] is no text but int, and has no embedding: leave it out"),
    ],
)
def test_what_has_no_embedding_is_named_before_anything_is_sent(
    texts: Any, argument: str, message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        EmbedRequest(texts)
    assert (caught.value.argument, str(caught.value)) == (argument, message)


def test_texts_are_taken_as_they_are_when_the_request_is_made() -> None:
    texts = ["a", "b"]
    request = EmbedRequest(texts)
    texts.clear()
    assert request.texts == ("a", "b")
    assert replace(request, session_id="s").texts == ("a", "b")
    assert EmbedRequest(text for text in "ab").texts == ("a", "b")


def test_vectors_are_a_matrix_for_numpy_and_need_it_for_nothing() -> None:
    embeddings = Embeddings(vectors=(array("f", [1, 2]), array("f", [3, 4]), array("f", [5, 6])), model="m")

    matrix = embeddings.__array_interface__
    assert matrix == {
        "version": 3,
        "shape": (3, 2),
        "typestr": "<f4" if sys.byteorder == "little" else ">f4",
        "data": array("f", [1, 2, 3, 4, 5, 6]).tobytes(),
    }
    assert repr(embeddings) == "Embeddings(3 × 2, model='m')"
    assert pickle.loads(pickle.dumps(embeddings)) == embeddings
    assert Embeddings(vectors=()).__array_interface__["shape"] == (0, 0)


def test_whoever_embeds_a_request_is_an_embedder() -> None:
    class Lengths:
        async def embed(self, request: EmbedRequest, /) -> Embeddings:
            return Embeddings(vectors=tuple(array("f", [len(text)]) for text in request.texts))

    assert isinstance(Lengths(), Embedder)
    assert not isinstance(ScriptedModel(), Embedder)
