"""What a model can do: the proxy's word, the table's, and both together; and how its tokens are counted."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from looopy import (
    Capabilities,
    FilePart,
    LiteLLMProvider,
    LLMRequest,
    Message,
    Prices,
    Tokens,
    ToolDefinition,
    Usage,
)
from looopy.providers.address import address
from looopy.providers.capabilities import described, known
from looopy.providers.catalogue import KEPT, Catalogue
from looopy.providers.clocks import Timeouts
from looopy.providers.proxy import Proxy
from looopy.providers.transport import HTTP
from looopy.testing import ScriptedServer, says

PARAMETERS = ["temperature", "top_p", "max_tokens", "tools", "tool_choice", "response_format"]
GROUP = {
    "model_group": "smart",
    "mode": "chat",
    "max_input_tokens": 128000.0,
    "max_output_tokens": 16384.0,
    "input_cost_per_token": 1.5e-07,
    "output_cost_per_token": 6e-07,
    "supports_function_calling": True,
    "supports_parallel_function_calling": True,
    "supports_vision": False,
    "supports_reasoning": False,
    "supported_openai_params": PARAMETERS,
}
MAPPED = {
    "key": "vendor/new-model",
    "mode": "chat",
    "max_input_tokens": 128000,
    "input_cost_per_token": 1.5e-07,
    "output_cost_per_token": 6e-07,
    "cache_read_input_token_cost": 7.5e-08,
    "supports_response_schema": True,
}


def deployments(*entries, name="smart"):
    return {"data": [{"model_name": name, "model_info": entry} for entry in entries]}


class Answers:
    """A proxy that answers by path; what it has no answer for is a 404."""

    def __init__(self, answers):
        self.answers = answers
        self.asked = []

    def __call__(self, request):
        self.asked.append(request)
        answer = self.answers.get(request.url.path, (404, {"detail": "Not Found"}))
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        return httpx.Response(status, content=body if isinstance(body, bytes) else json.dumps(body).encode())

    @property
    def paths(self):
        return [request.url.path for request in self.asked]

    def provider(self, model="smart"):
        return LiteLLMProvider(
            "http://proxy", model, "sk-0123456789abcdef", transport=HTTP(httpx.MockTransport(self))
        )


# ------------------------------------------------------------------------------------------------------------ the table
@pytest.mark.parametrize(
    ("models", "can", "cannot"),
    [
        (["gpt-4o-mini", "azure/gpt-4o", "openrouter/openai/chatgpt-4o-latest"], "tools vision json_schema sampling", "reasoning"),
        (["gpt-6.1-sol", "us.openai.gpt-6-luna", "gpt-5-mini"], "tools reasoning forced_tools", "sampling"),
        (["gpt-5", "o3", "o4-mini"], "reasoning", "sampling"),
        (["claude-opus-5-5", "bedrock/global.anthropic.claude-sonnet-5-5", "claude-fable-5-1"], "tools", "sampling forced_tools"),
        (["claude-haiku-5-5"], "forced_tools", "sampling"),
        (["claude-opus-4-7-20260416", "claude-sonnet-5", "claude-mythos-preview"], "tools", "sampling"),
        (["claude-haiku-4-5-20251001", "claude-3-opus-20240229", "gemini/gemini-2.5-pro"], "sampling", ""),
        (["gemini/gemini-3.8-flash", "gemini-3.5-flash-lite"], "tools", "sampling"),
        (["ollama_chat/llama3.1", "ollama/llama2"], "sampling", "forced_tools"),
        (["ollama/codellama:7b"], "", "tools"),
    ],
)  # fmt: skip
def test_the_table_knows_what_well_known_models_can_and_refuse(models, can, cannot):
    for model in models:
        said = known(model)
        assert said.source == "table"
        assert {name for name in can.split() if getattr(said, name) is not True} == set(), model
        assert {name for name in cannot.split() if getattr(said, name) is not False} == set(), model


def test_of_an_unknown_model_nothing_is_known():
    assert known("my-alias") == Capabilities(model="my-alias")
    assert described("my-alias", None, None) == Capabilities(model="my-alias")


# ------------------------------------------------------------------------------------------------------------ the proxy
def test_a_proxys_list_says_what_its_models_can():
    assert described("smart", {"data": [{"model_group": "other"}, GROUP]}, None) == Capabilities(
        model="smart",
        mode="chat",
        tools=True,
        parallel_tools=True,
        forced_tools=True,
        json_schema=None,  # to take `response_format` is not yet to take a schema
        vision=False,
        reasoning=False,
        sampling=True,
        max_input_tokens=128_000,
        max_output_tokens=16_384,
        parameters=tuple(PARAMETERS),
        prices=Prices(input=0.15, output=0.6),
        source="proxy",
    )


def test_the_proxys_map_knows_more_than_its_list():
    said = described("smart", {"data": [GROUP]}, deployments(MAPPED))

    assert (said.json_schema, said.prices) == (True, Prices(input=0.15, output=0.6, cached=0.075))


def test_what_is_not_among_the_parameters_is_refused():
    group = {**GROUP, "supported_openai_params": ["max_tokens", "tools"]}
    said = described("smart", {"data": [group]}, None)

    assert (said.sampling, said.forced_tools, said.json_schema, said.tools) == (False, False, False, True)


def test_the_model_behind_an_alias_decides_and_not_the_alias():
    """LiteLLM 1.106 lists `temperature` among the parameters of models that refuse it."""
    opus = {**MAPPED, "key": "claude-opus-5-5"}
    groups = {"data": [{**GROUP, "model_group": "gpt-4o"}]}
    said = described("gpt-4o", groups, deployments(opus, name="gpt-4o"))

    assert (said.sampling, said.forced_tools) == (False, False)
    assert described("gpt-4o", groups, deployments(MAPPED, name="gpt-4o")).sampling is True


def test_of_several_deployments_only_what_holds_for_all_is_certain():
    group = {**GROUP, "max_output_tokens": None, "supported_openai_params": None, "supports_vision": None}
    old = {
        "key": "gpt-4o",
        "mode": "chat",
        "max_input_tokens": 8_000,
        "input_cost_per_token": 1,
        "output_cost_per_token": 2,
    }
    said = described("smart", {"data": [group]}, deployments({**MAPPED, "key": "claude-opus-5-5"}, old))

    assert (said.sampling, said.tools, said.vision, said.prices) == (False, True, True, None)
    assert (said.max_input_tokens, said.max_output_tokens) == (8_000, 16_384)
    said = described("smart", {"data": [group]}, deployments(MAPPED, old))
    assert (said.vision, said.sampling, said.max_output_tokens) == (None, None, None)


def test_a_model_that_the_proxys_map_does_not_have_is_only_what_the_table_says():
    group = {
        **GROUP,
        "mode": None,
        "supports_function_calling": False,
        "max_input_tokens": None,
        "max_output_tokens": None,
    }
    group |= {"input_cost_per_token": None, "output_cost_per_token": None}
    unknown = described("smart", {"data": [group]}, deployments({"key": "openai/my-own"}))
    local = described("smart", {"data": [group]}, deployments({"key": "ollama_chat/llama3.1"}))

    assert unknown == Capabilities(model="smart", parameters=tuple(PARAMETERS))
    assert (local.sampling, local.forced_tools, local.tools, local.source) == (True, False, None, "table")


def test_an_embedding_model_does_not_chat():
    said = described("smart", {"data": [{**GROUP, "mode": "embedding"}]}, None)

    assert (said.mode, said.sampling, said.tools, said.max_input_tokens) == (
        "embedding",
        False,
        False,
        128_000,
    )


NOISE = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GROUP, *MAPPED, "data", "model_name", "model_info"]), inner),
    max_leaves=8,
)  # fmt: skip


@given(
    group=st.dictionaries(st.sampled_from([*GROUP]), NOISE),
    entry=st.dictionaries(st.sampled_from([*MAPPED, "input_cost_per_token_above_9k_tokens"]), NOISE),
    answer=NOISE,
)
def test_whatever_a_proxy_answers_is_no_exception(group, entry, answer):
    for groups in (answer, {"data": [{**group, "model_group": "smart"}]}):
        for behind in (answer, deployments(entry)):
            assert described("smart", groups, behind).model == "smart"


# --------------------------------------------------------------------------------------------------------- the provider
async def test_the_proxy_is_asked_once_and_again_on_demand():
    proxy = Answers({"/model_group/info": {"data": [GROUP]}, "/model/info": deployments(MAPPED)})
    provider = proxy.provider()

    said = await provider.capabilities()
    assert (said.model, said.max_input_tokens, said.prices) == (
        "smart",
        128_000,
        Prices(input=0.15, output=0.6, cached=0.075),
    )
    assert await provider.capabilities() is said
    assert await provider.capabilities("claude-opus-5-5") == known("claude-opus-5-5")
    assert proxy.paths == ["/model_group/info", "/model/info"]
    assert await provider.capabilities(refresh=True) == said
    provider.update_config(model="other")
    assert (await provider.capabilities()).model == "other"
    assert proxy.paths == ["/model_group/info", "/model/info"] * 3


async def test_what_a_proxy_said_is_believed_for_ten_minutes():
    proxy = Answers({"/model_group/info": {"data": [GROUP]}})
    now = [0.0]
    where = Proxy(address("http://proxy", None, model="smart"), Timeouts(), HTTP(httpx.MockTransport(proxy)))
    catalogue = Catalogue(where, clock=lambda: now[0])

    for now[0] in (0.0, KEPT, KEPT + 1):
        await catalogue.capabilities("smart", refresh=False)

    assert KEPT == 600.0
    assert proxy.paths == ["/model_group/info", "/model/info"] * 2


@pytest.mark.parametrize("answer", [(404, {"detail": "Not Found"}), (401, {"error": {}}), b"<html>"])
async def test_a_proxy_that_does_not_tell_leaves_it_to_the_table_and_is_asked_again(answer):
    proxy = Answers({"/model_group/info": answer})
    provider = proxy.provider("gpt-4o-mini")

    assert await provider.capabilities() == await provider.capabilities() == known("gpt-4o-mini")
    assert proxy.paths == ["/model_group/info"] * 2


# ------------------------------------------------------------------------------------------------------------- the cost
def priced(*answers):
    """A provider whose proxy tells prices and answers by a script."""
    server, tells = (
        ScriptedServer(*answers),
        Answers({"/model_group/info": {"data": [GROUP]}, "/model/info": deployments(MAPPED)}),
    )

    class Both(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            if request.method == "GET":
                return tells(request)
            return await server.transport().handle_async_request(request)

    return LiteLLMProvider("http://proxy", "smart", None, transport=HTTP(Both())), tells


SPENT = Usage(input_tokens=1_000_000, output_tokens=100_000, cached_tokens=200_000)


async def test_a_call_that_the_proxy_gives_no_price_for_costs_what_its_prices_say_once_they_are_known():
    answers = [
        says("Hi", usage=SPENT),
        says("Hi", usage=SPENT),
        says("Hi", usage=SPENT, cost=0.5),
        says("Hi"),
    ]
    provider, proxy = priced(*answers)

    async def cost():
        return (await provider.call(LLMRequest(messages=()))).cost

    assert await cost() is None
    assert proxy.paths == []  # no request in a call's way
    await provider.capabilities()
    assert math.isclose(await cost(), 0.8 * 0.15 + 0.2 * 0.075 + 0.1 * 0.6)
    assert await cost() == 0.5
    assert await cost() is None  # no usage, no cost


# ----------------------------------------------------------------------------------------------------------- the tokens
MESSAGES = (Message.user("hello there"), Message.assistant("Hi!"))
TOOLS = (ToolDefinition(name="f", description="Does much."),)


async def test_the_proxy_counts_tokens():
    proxy = Answers(
        {"/utils/token_counter": {"total_tokens": 42, "count_source": "local_estimate", "error": False}}
    )

    assert await proxy.provider().count_tokens(MESSAGES, TOOLS) == Tokens(
        42, estimated=True, counted_by="proxy"
    )
    assert await proxy.provider().count_tokens([], model="other") == Tokens(
        42, estimated=True, counted_by="proxy"
    )
    first, second = proxy.asked
    assert (first.method, first.url.query) == ("POST", b"call_endpoint=true")
    assert json.loads(first.content) == {
        "model": "smart",
        "messages": [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "Hi!"}],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "Does much.",
                    "parameters": {"type": "object", "properties": {}},
                },
            }
        ],
    }
    assert json.loads(second.content) == {"model": "other", "messages": []}


async def test_a_count_by_the_models_own_provider_is_no_estimate():
    proxy = Answers({"/utils/token_counter": {"total_tokens": 42, "count_source": "provider_api"}})

    assert await proxy.provider().count_tokens(MESSAGES) == Tokens(42, estimated=False, counted_by="provider")


async def test_a_proxy_that_breaks_over_the_provider_counts_by_itself():
    """As LiteLLM 1.106 does where the provider's own counting fails."""

    class Breaks(Answers):
        def __call__(self, request):
            answer = super().__call__(request)
            return httpx.Response(500, content=b"Internal Server Error") if request.url.query else answer

    proxy = Breaks({"/utils/token_counter": {"total_tokens": 9, "count_source": "local_estimate"}})

    assert await proxy.provider().count_tokens(MESSAGES) == Tokens(9, estimated=True, counted_by="proxy")


@pytest.mark.parametrize(
    "answer", [(404, {}), (500, b"x"), b"<html>", {"error": True, "total_tokens": 0}, {"total_tokens": None}]
)
async def test_where_nobody_counts_the_number_says_that_it_is_an_estimate(answer):
    proxy = Answers({"/utils/token_counter": answer})

    assert await proxy.provider().count_tokens(MESSAGES) == Tokens(19, estimated=True, counted_by="looopy")


async def test_an_estimate_takes_a_picture_for_a_thousand_tokens_however_large():
    picture = FilePart.of(b"x" * 1_000_000, mime_type="image/png")
    sound = FilePart.of(b"x" * 1_000_000, mime_type="audio/wav")
    message = replace(MESSAGES[0], content=(picture, sound))

    found = await Answers({}).provider().count_tokens([message])

    assert 2_000 < found.count < 2_100
