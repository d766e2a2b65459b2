"""Whatever comes is an answer or one typed error, however it is split and wherever it is cut."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from providers.replay import DONE, HI, USAGE, Reply, Wire, answered, call, chunk, deltas, heard, sse

from looopy.errors import ModelError, ModelFailed, StreamBroken
from looopy.events import ContentDelta, LLMEvent, LLMResponse, dumps, loads
from looopy.testing.clock import run_virtual

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["index", "id", "name", "function", "arguments", "text", "type", "thinking", "signature", "content", "message",
         "prompt_tokens", "cost", "delta", "error", "code"]), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
DELTAS = st.dictionaries(
    st.sampled_from(
        ["content", "role", "tool_calls", "function_call", "reasoning_content", "reasoning", "reasoning_details",
         "thinking_blocks", "provider_specific_fields", "refusal"]), VALUES, max_size=4,
)  # fmt: skip
CHUNKS = st.fixed_dictionaries(
    {},
    optional={
        "id": VALUES,
        "model": VALUES,
        "usage": VALUES,
        "error": VALUES,
        "x_groq": VALUES,
        "detail": VALUES,
        "choices": VALUES
        | st.lists(
            st.fixed_dictionaries(
                {}, optional={"index": st.integers(0, 1), "delta": DELTAS | VALUES, "finish_reason": VALUES, "message": DELTAS}
            ),
            max_size=2,
        ),
    },
)  # fmt: skip


def outcome(*pieces: bytes) -> LLMResponse | ModelError:
    try:
        answer = answered(*pieces)
    except ModelError as error:
        return error
    assert loads(dumps(answer)) == answer
    return answer


@settings(max_examples=200)
@given(st.lists(CHUNKS | VALUES, max_size=4), st.booleans())
def test_any_json_gives_an_answer_or_a_typed_error(values: list[Any], streamed: bool):
    body = sse(*values) + DONE if streamed else json.dumps(values[0] if values else None).encode()
    assert isinstance(outcome(body), LLMResponse | ModelError)


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=30), max_size=4), st.sampled_from([b"", b"data: ", b"{", b"data: {"]))
def test_any_bytes_give_a_typed_error_or_an_answer(portions: list[bytes], start: bytes):
    assert isinstance(outcome(start, *portions), LLMResponse | ModelError)


VALID = (
    deltas(
        {"role": "assistant", "reasoning_content": "Hm"},
        {"content": "é"},
        {"tool_calls": [call(0, "a", "f", '{"x"')]},
        {"tool_calls": [call(0, arguments=": 1}")]},
    )[: -len(DONE)]
    + b": ping\n\n"
    + sse({"choices": [], "usage": USAGE})
    + DONE
)


@given(st.lists(st.integers(0, len(VALID)), max_size=6))
def test_a_stream_gives_the_same_events_however_it_is_split(cuts: list[int]):
    places = [0, *sorted(cuts), len(VALID)]
    assert heard(*(VALID[start:end] for start, end in pairwise(places))) == heard(VALID)


def test_a_stream_cut_at_any_byte_is_the_answer_or_one_typed_error():
    whole = answered(VALID)
    finish = VALID.index(b'"finish_reason"')
    for cut in range(len(VALID)):
        ended = outcome(VALID[:cut])
        if isinstance(ended, LLMResponse):
            assert cut > finish
            assert ended in (whole, replace(whole, usage=None, cost=None))
        else:
            assert isinstance(ended, StreamBroken | ModelFailed)


def test_the_first_event_is_there_before_the_rest_of_the_burst_is_parsed():
    """The last chunk is no JSON: had the burst been parsed as a whole, no event would have come before its error."""
    seen: list[LLMEvent] = []
    ends: list[Exception] = []

    async def main() -> None:
        stream = sse(*(chunk(content="a") for _ in range(2_000))) + b"data: {]\n\n"
        first, over = asyncio.Event(), asyncio.Event()
        Wire(Reply([stream])).provider().call(HI).subscribe(
            lambda event: (seen.append(event), first.set()),
            lambda error: (ends.append(error), over.set()),
            over.set,
        )
        await first.wait()
        assert len(seen) == 1
        await over.wait()

    run_virtual(main())
    assert seen == [ContentDelta(delta="a")] * 2_000
    assert [type(error) for error in ends] == [StreamBroken]
