"""The LiteLLM library as a provider: what is asked of it, and what becomes of what it says. The real one is in tests/proxy."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

from looopy import AgentLoop, LiteLLMLibraryProvider, LLMRequest, Message, MissingExtra, Timeouts, Usage
from looopy.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ContextTooLong,
    LooopyError,
    ModelFailed,
    ModelOverloaded,
    ModelTimeout,
    StreamBroken,
    UnknownModel,
)
from looopy.testing import (
    LLMRig,
    ScriptedServer,
    calls,
    cuts,
    fails,
    llm_provider_contract,
    raw,
    run_virtual,
    says,
    stalls,
)

MODEL = "openai/gpt-4o-mini"
URL = "http://scripted"
HI = LLMRequest(messages=(Message.user("Hi"),))


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    """A scripted `litellm` that nobody has loaded yet, and no key in the environment."""
    for name in ("LITELLM_LOCAL_MODEL_COST_MAP", "LITELLM_MODE", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "")  # so that it is as before afterwards, whatever is set meanwhile
        monkeypatch.delenv(name)
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "scripted"))
    yield
    sys.modules.pop("litellm", None)


@pytest.fixture
def library(_installed):
    """That `litellm`, loaded: the program has set it up itself."""
    return import_module("litellm")


def answering(library, *answers, **options):
    """A provider whose model gives these answers, and the server that gives them."""
    server = ScriptedServer(*answers)
    library.servers[URL] = server
    return LiteLLMLibraryProvider(MODEL, base_url=URL, **options), server


async def failure_of(provider, request=HI):
    with pytest.raises(LooopyError) as caught:
        await provider.call(request)
    return caught.value


@pytest.mark.parametrize("check", llm_provider_contract)
async def test_it_keeps_the_contract(library, check):
    def rig(*answers):
        provider, server = answering(library, *answers)
        return LLMRig(
            provider,
            asked=lambda: len(server.requests),
            open=lambda: sum(request.outcome == "open" for request in server.requests),
        )

    await check(rig)


async def test_an_agent_runs_on_it(library):
    def weather(city: str) -> str:
        """Say how warm it is in a city."""
        return f"4 degrees in {city}"

    provider, server = answering(library, calls("weather", city="Oslo"), says("It is 4 degrees."))
    result = await AgentLoop(llm_provider=provider, tools=[weather]).execute("How warm is it in Oslo?")

    assert result.output == "It is 4 degrees."
    assert [message["content"] for message in server.requests[1].body["messages"]] == [
        "How warm is it in Oslo?",
        None,
        "4 degrees in Oslo",
    ]


async def test_the_library_is_asked_for_what_a_proxy_would_be_asked_for(library):
    provider, _ = answering(
        library,
        says("Hello."),
        api_key="sk-mine",
        temperature=0.2,
        timeout=Timeouts(call=None),
        extra_params={"seed": 7},
    )
    request = LLMRequest(messages=HI.messages, session_id="s-1", params={"max_retries": 2})
    await provider.call(request)

    assert library.asked == [
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Hi"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "drop_params": True,
            "max_tokens": 4096,
            "temperature": 0.2,
            "seed": 7,
            "max_retries": 2,
            "timeout": 86_400.0,
            "api_key": "sk-mine",
            "api_base": URL,
            "litellm_session_id": "s-1",
            "metadata": {"session_id": "s-1"},
        }
    ]
    assert provider.parameters(request)["max_retries"] == 2


async def test_the_answer_has_its_model_usage_cost_and_ids(library):
    provider, _ = answering(
        library, says("Hello.", usage=Usage(input_tokens=3, output_tokens=2), model="gpt-4o-mini-2024")
    )
    response = await provider.call(HI)

    assert (response.message.text, response.message.model) == ("Hello.", MODEL)
    assert (response.model, response.usage, response.cost) == (
        "gpt-4o-mini-2024",
        Usage(input_tokens=3, output_tokens=2),
        0.005,
    )
    assert (response.response_id, response.call_id) == ("chatcmpl-1", "call-1")


@pytest.mark.parametrize(
    ("usage", "cost", "model", "known"),
    [
        (Usage(input_tokens=3), 0.25, MODEL, 0.25),  # the library's own word is taken
        (None, None, MODEL, None),
        (Usage(input_tokens=3), None, "openai/nobody-knows", None),
    ],
)
async def test_what_nobody_knows_the_price_of_has_no_cost(library, usage, cost, model, known):
    provider, _ = answering(library, says("Hello.", usage=usage, cost=cost))
    assert (await provider.call(LLMRequest(messages=HI.messages, model=model))).cost == known


async def test_what_the_library_raises_is_typed_with_what_it_said(library):
    provider, _ = answering(
        library,
        fails(429, "litellm.RateLimitError: slow down", retry_after=3),
        fails(400, "litellm.ContextWindowExceededError: too long"),
        fails(503, "litellm.ServiceUnavailableError: Bearer sk-secretsecret1 is busy"),
        api_key="sk-mine-1234567890",
    )
    overloaded, too_long, busy = [await failure_of(provider) for _ in range(3)]

    assert (type(overloaded), overloaded.retry_after, overloaded.status, overloaded.url) == (
        ModelOverloaded,
        3.0,
        429,
        URL,
    )
    assert str(overloaded) == (
        "LiteLLM API error: HTTP 429 from http://scripted for model 'openai/gpt-4o-mini': litellm.RateLimitError: slow down\n"
        "  Wait 3 s and try again."
    )
    assert type(too_long) is ContextTooLong
    assert (type(busy), "sk-" in str(busy) + busy.body) == (ModelOverloaded, False)


@pytest.mark.parametrize(
    ("key", "found", "mend"),
    [
        (None, "", "No API key was found: set OPENAI_API_KEY, or pass api_key=."),
        (None, "sk-of-the-environment", "The key came from OPENAI_API_KEY; may it use this model?"),
        ("sk-mine-1234567890", "", "The key came from api_key; may it use this model?"),
    ],
)
async def test_a_key_that_will_not_do_is_said_with_where_it_came_from(library, monkeypatch, key, found, mend):
    monkeypatch.setenv("OPENAI_API_KEY", found)
    provider, _ = answering(library, fails(401, f"no good: {key or found}"), api_key=key)
    error = await failure_of(provider)

    shown = f"no good: {'***' if key or found else ''}"
    assert (type(error), str(error)) == (
        AuthenticationFailed,
        f"LiteLLM error for model '{MODEL}': {shown}\n  {mend}",
    )


async def test_a_missing_key_is_no_internal_error(library):
    provider, _ = answering(
        library, fails(500, "litellm.InternalServerError: Missing credentials. Please pass an `api_key`")
    )
    error = await failure_of(provider, LLMRequest(messages=HI.messages, model="somebody/model"))

    assert (type(error), error.status) == (AuthenticationFailed, 401)
    assert str(error).endswith("No API key was found: set the variable that LiteLLM names, or pass api_key=.")


async def test_a_model_without_its_maker_is_said_with_the_mend(library):
    provider, _ = answering(library, fails(400, "litellm.BadRequestError: LLM Provider NOT provided."))
    error = await failure_of(provider)

    assert type(error) is UnknownModel
    assert str(error).endswith(
        "Name the model as LiteLLM does, its maker first: 'openai/gpt-4o-mini'. Is it spelled right, and may your key use it?"
    )


async def test_an_error_without_a_status_is_a_failure(library):
    error = await failure_of(LiteLLMLibraryProvider(MODEL))  # the scripted library raises a KeyError

    assert (type(error), error.url) == (ModelFailed, "litellm.acompletion")


async def test_what_breaks_in_mid_answer_is_a_broken_stream(library):
    provider, _ = answering(
        library, says("It is") + fails(500), says("It is") + cuts(), says("It is") + raw(b"data: [DONE]\n\n")
    )
    errors = [await failure_of(provider) for _ in range(3)]

    assert [(type(error), error.events_seen) for error in errors] == [(StreamBroken, 1)] * 3


async def test_an_answer_with_nothing_in_it_is_a_failure(library):
    provider, _ = answering(library, raw(b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'))
    error = await failure_of(provider)

    assert (type(error), "nothing in it" in str(error)) == (ModelFailed, True)


def test_its_clocks_ring(library):
    provider, server = answering(library, says("It is") + stalls(), timeout=Timeouts(between_tokens=5))

    async def ask():
        error = await failure_of(provider)
        await server.hung_up()
        return error

    error = run_virtual(ask())
    assert (type(error), error.clock, error.seconds) == (ModelTimeout, "between-tokens", 5)


async def test_it_loads_the_library_at_the_first_call_without_network_and_telemetry():
    provider = LiteLLMLibraryProvider(MODEL)
    assert "litellm" not in sys.modules
    await failure_of(provider)

    library = sys.modules["litellm"]
    assert library.loaded_with == {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
    assert (library.telemetry, library.suppress_debug_info) == (False, True)


async def test_a_library_that_the_program_has_loaded_stays_as_it_is(library):
    await failure_of(LiteLLMLibraryProvider(MODEL))

    assert (library.telemetry, library.suppress_debug_info) == (True, False)


def test_without_the_library_the_constructor_says_what_to_install(monkeypatch):
    monkeypatch.setattr(
        sys,
        "path",
        [
            place
            for place in sys.path
            if not (Path(place) / "litellm").exists() and not (Path(place) / "litellm.py").exists()
        ],
    )
    with pytest.raises(MissingExtra) as caught:
        LiteLLMLibraryProvider(MODEL)
    assert str(caught.value) == "LiteLLMLibraryProvider needs litellm: pip install 'looopy[litellm]'"


async def test_where_the_library_cannot_be_loaded_the_call_says_what_to_install(monkeypatch, tmp_path):
    (tmp_path / "litellm.py").write_text("import something_of_its_own")
    monkeypatch.syspath_prepend(str(tmp_path))
    error = await failure_of(LiteLLMLibraryProvider(MODEL))

    assert (type(error), str(error)) == (
        MissingExtra,
        "LiteLLMLibraryProvider needs litellm (No module named 'something_of_its_own'): pip install 'looopy[litellm]'",
    )


@pytest.mark.parametrize(
    ("model", "options", "argument"),
    [
        (" ", {}, "model"),
        (MODEL, {"temperature": 3}, "temperature"),
        (MODEL, {"extra_params": {"model": "x"}}, "extra_params"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_made(model, options, argument):
    with pytest.raises(ConfigurationError) as caught:
        LiteLLMLibraryProvider(model, **options)
    assert caught.value.argument == argument


def test_its_repr_has_no_key():
    provider = LiteLLMLibraryProvider(MODEL, "sk-secret", base_url="http://me:secret@localhost")
    assert (repr(provider), provider.model) == ("LiteLLMLibraryProvider(model='openai/gpt-4o-mini')", MODEL)
