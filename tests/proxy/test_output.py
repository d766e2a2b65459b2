"""Answers of a type through the real LiteLLM proxy: what of the schema reaches OpenAI, Anthropic and Gemini, and that the answer comes back."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from looopy import AgentLoop, LiteLLMProvider, Output

from .conftest import MODELS, Proxy
from .test_proxy import get_weather, within
from .upstream import Upstream

pytestmark = [pytest.mark.proxy, pytest.mark.timeout(90)]

on_each_route = pytest.mark.parametrize("model", MODELS)


class Report(BaseModel):
    city: str = Field(description="where", min_length=2)
    sky: Literal["grey", "blue"]


GREY = Report(city="Oslo", sky="grey")
STRICT = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "where; minLength: 2"},
        "sky": {"type": "string", "enum": ["grey", "blue"]},
    },
    "required": ["city", "sky"],
    "additionalProperties": False,
}


def agent(proxy: Proxy, model: str, **options: Any) -> AgentLoop:
    return AgentLoop(llm_provider=LiteLLMProvider(proxy.url, model, proxy.key), **options)


def native_schema(body: dict[str, Any]) -> Any:
    """The schema that a provider is to hold its model to, where its API has it: OpenAI's, Anthropic's, Gemini's."""
    match body:
        case {"response_format": {"json_schema": {"strict": True, "schema": schema}}}:
            return schema
        case {"output_format": {"schema": schema}} | {"generationConfig": {"response_json_schema": schema}}:
            return schema
        case _:
            return body


@on_each_route
async def test_a_native_schema_reaches_the_provider_as_it_is(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    played = upstream.play("report")

    result = await within(agent(proxy, model).execute(played.prompt, output_type=Report))

    assert (result.output, result.iterations) == (GREY, 1)
    (request,) = played.requests
    assert native_schema(request.body) == STRICT


@on_each_route
async def test_a_tool_gives_the_answer_and_is_told_when_it_is_wrong(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    played = upstream.play("report-by-tool")

    result = await within(agent(proxy, model).execute(played.prompt, output_type=Output(Report, mode="tool")))

    assert (result.output, result.iterations) == (GREY, 2)
    for request in played.requests:
        forced = request.body.get("tool_choice") or request.body["toolConfig"]
        assert "final_answer" in str(forced)
    assert "sky: Input should be 'grey' or 'blue', got 'green'" in str(played.requests[1].body)


@on_each_route
async def test_the_schema_in_the_prompt_reaches_every_provider(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    played = upstream.play("report")

    result = await within(
        agent(proxy, model).execute(played.prompt, output_type=Output(Report, mode="prompt"))
    )

    assert result.output == GREY
    assert "one JSON object that fits this JSON schema" in str(played.requests[0].body)


async def test_older_gemini_is_offered_the_answer_as_a_tool_beside_others(
    proxy: Proxy, upstream: Upstream
) -> None:
    played = upstream.play("report-by-tool")
    clerk = agent(proxy, "gemini-2.5-flash", tools=[get_weather])

    result = await within(clerk.execute(played.prompt, output_type=Report))

    assert result.output == GREY
    (declared,) = played.requests[0].body["tools"]
    assert [each["name"] for each in declared["function_declarations"]] == ["get_weather", "final_answer"]
