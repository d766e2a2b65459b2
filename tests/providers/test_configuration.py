"""What a provider is told is checked when it is built, and shows no credential."""

from __future__ import annotations

import base64
import inspect
from typing import Any

import httpx
import pytest
from providers.replay import CHAT, URL, Reply, Wire, deltas, events

from looopy.errors import ConfigurationError
from looopy.providers.litellm import LiteLLMProvider, Timeouts
from looopy.providers.presets import TABLE, LiteLLM, Preset
from looopy.testing.clock import run_virtual

VARIABLES = ("LITELLM_URL", "LITELLM_API_KEY", "LOOOPY_MODEL", "OPENAI_BASE_URL", "OPENAI_API_KEY")


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def sent(base_url: str | None = None, **settings: Any) -> tuple[str, dict[str, str]]:
    """The URL that a call goes to, and what authenticates it."""
    wire = Wire(Reply([deltas({"content": "a"})]))
    wire.ask(base_url=base_url, **{"api_key": "", **settings})
    (request,) = wire.requests
    names = ("authorization", "x-litellm-api-key")
    return str(request.url), {name: request.headers[name] for name in names if name in request.headers}


# --------------------------------------------------------------------------------------------------------- address


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://localhost:4000", CHAT),
        (" http://localhost:4000/ ", CHAT),
        ("http://localhost:4000/v1", CHAT),
        ("http://localhost:4000/v1/", CHAT),
        ("http://localhost:4000/v1/chat/completions", CHAT),
        ("https://proxy.example/llm", "https://proxy.example/llm/v1/chat/completions"),
        ("https://proxy.example/llm/v1/", "https://proxy.example/llm/v1/chat/completions"),
        ("https://vendor.example/v4/chat/completions", "https://vendor.example/v4/chat/completions"),
        ("http://[::1]:4000", "http://[::1]:4000/v1/chat/completions"),
    ],
)
def test_a_base_url_may_end_anywhere(base_url: str, url: str):
    assert sent(base_url) == (url, {})


@pytest.mark.parametrize(
    ("environment", "url", "key"),
    [
        ({"LITELLM_URL": URL}, CHAT, None),
        ({"LITELLM_URL": URL, "LITELLM_API_KEY": " k1 \n"}, CHAT, "k1"),
        ({"OPENAI_BASE_URL": f"{URL}/v1", "OPENAI_API_KEY": "k2"}, CHAT, "k2"),
        ({"OPENAI_BASE_URL": f"{URL}/v1", "OPENAI_API_KEY": "k2", "LITELLM_API_KEY": "k1"}, CHAT, "k1"),
        # OpenAI's own key is not shown to whoever runs a proxy.
        ({"LITELLM_URL": URL, "OPENAI_BASE_URL": "http://other", "OPENAI_API_KEY": "k2"}, CHAT, None),
    ],
)
def test_what_is_left_out_comes_from_the_environment(
    environment: dict[str, str], url: str, key: str | None, monkeypatch: pytest.MonkeyPatch
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert sent() == (url, {"authorization": f"Bearer {key}"} if key else {})


def test_an_argument_wins_over_the_environment_and_none_means_no_key(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LITELLM_URL", "http://other")
    monkeypatch.setenv("LITELLM_API_KEY", "k1")
    assert sent(URL, api_key="k2") == (CHAT, {"authorization": "Bearer k2"})
    assert sent(URL, api_key=None) == (CHAT, {})


def test_the_model_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOOOPY_MODEL", "gpt-4o ")
    assert LiteLLMProvider(URL).model == "gpt-4o"


def test_a_login_in_the_url_authenticates_and_leaves_the_key_its_own_header():
    basic = f"Basic {base64.b64encode(b'user:p@ss').decode()}"
    url = "http://user:p%40ss@localhost:4000"
    assert sent(url) == (CHAT, {"authorization": basic})
    assert sent(url, api_key="k") == (CHAT, {"authorization": basic, "x-litellm-api-key": "Bearer k"})


def test_nothing_to_call_is_said_at_construction():
    with pytest.raises(ConfigurationError) as caught:
        LiteLLMProvider()
    assert str(caught.value) == (
        "no address of a LiteLLM proxy: set LITELLM_URL, or pass base_url=, for example 'http://localhost:4000'. "
        "To start a proxy: pip install 'looopy[cli,proxy]', then looopy proxy --model gpt-4o-mini. "
        'AgentLoop(llm_provider="stand-in") needs none.'
    )
    with pytest.raises(ConfigurationError, match="no model is named: pass model="):
        LiteLLMProvider(URL)


@pytest.mark.parametrize(
    ("base_url", "text"),
    [
        ("localhost:4000", "base_url is 'localhost:4000': it needs a scheme, for example 'http://localhost:4000'"),
        ("user:secret@localhost", "base_url is '***@localhost': it needs a scheme, for example 'http://***@localhost'"),
        ("gpt-4o-mini", "base_url is 'gpt-4o-mini': it needs a scheme, for example 'http://gpt-4o-mini'; where that is the model, write model='gpt-4o-mini'"),
        ("ftp://localhost", "base_url is 'ftp://localhost': its scheme must be http or https"),
        ("http://", "base_url is 'http://': that is no URL; it should be like 'http://localhost:4000'"),
        ("http://localhost:port", "base_url is 'http://localhost:port': that is no URL; it should be like 'http://localhost:4000'"),
        ("http://local host", "base_url is 'http://local host': that is no URL; it should be like 'http://localhost:4000'"),
        ("http://[::1", "base_url is 'http://[::1': that is no URL; it should be like 'http://localhost:4000'"),
        ("http://user:secret@localhost:port", "base_url is 'http://***@localhost:port': that is no URL; it should be like 'http://localhost:4000'"),
        ("http://h/?key=secret", "base_url is 'http://h/?…': it must end with the path; leave out what follows '?' or '#'"),
    ],
)  # fmt: skip
def test_a_url_that_cannot_work_is_named_without_its_credentials(base_url: str, text: str):
    with pytest.raises(ConfigurationError) as caught:
        LiteLLMProvider(base_url, "gpt-4o")
    assert str(caught.value) == text
    assert caught.value.argument == "base_url"


def test_the_variable_that_holds_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LITELLM_URL", "localhost:4000")
    with pytest.raises(ConfigurationError, match=r"^LITELLM_URL is 'localhost:4000': it needs a scheme"):
        LiteLLMProvider(model="gpt-4o")
    monkeypatch.setenv("LITELLM_URL", URL)
    monkeypatch.setenv("LITELLM_API_KEY", "sk-se cret")
    with pytest.raises(
        ConfigurationError, match=r"^the API key from LITELLM_API_KEY holds a space"
    ) as caught:
        LiteLLMProvider(model="gpt-4o")
    assert "se" + " cret" not in str(caught.value)


# --------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"temperature": 2.5}, "temperature=2.5 must be from 0 to 2"),
        ({"temperature": float("nan")}, "temperature=nan must be from 0 to 2"),
        ({"temperature": None}, "temperature=None: leave it out for what the model is known to take"),
        ({"temperature": "hot"}, "temperature='hot' must be a number, from 0 to 2"),
        ({"max_tokens": True}, "max_tokens=True must be a number, at least 1, or None"),
        ({"top_p": 0.0}, "top_p=0.0 must be above 0 and at most 1"),
        ({"max_tokens": 0}, "max_tokens=0 must be at least 1, or None"),
        ({"timeout": 0}, "timeout: call=0 must be a number of seconds above 0, or None for no limit"),
        ({"extra_params": {"messages": []}}, "extra_params sets 'messages', which has its own place: "),
        ({"extra_params": {"stream": False}}, "extra_params sets 'stream', which has its own place: "),
        ({"extra_params": {"model": "x"}}, "extra_params sets 'model', which has its own place: "),
        ({"extra_params": {"metadata": 1}}, "extra_params: metadata must be a JSON object"),
        ({"extra_params": {"tools": "x"}}, "extra_params: tools must be a JSON array"),
        ({"extra_params": {"stop": object()}}, "extra_params cannot be sent as JSON: "),
    ],
)
def test_a_value_that_cannot_work_is_named_at_construction(settings: Any, text: str):
    with pytest.raises(ConfigurationError) as caught:
        LiteLLMProvider(URL, "gpt-4o", **settings)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("seconds", [0, -1.0, float("inf"), float("nan")])
def test_every_clock_is_above_0_and_finite(seconds: float):
    for name in ("connect", "first_token", "between_tokens", "call"):
        with pytest.raises(ConfigurationError, match=f"timeout: {name}="):
            Timeouts(**{name: seconds})


def test_a_repr_shows_the_address_and_the_model_and_no_credential():
    provider = LiteLLMProvider("http://user:secret@localhost:4000/v1", "gpt-4o", "sk-secret")
    assert repr(provider) == "LiteLLMProvider(base_url='http://localhost:4000', model='gpt-4o')"
    assert (provider.base_url, provider.model) == (URL, "gpt-4o")
    assert "secret" not in repr([vars(provider), provider._configuration, provider._arguments])


# ---------------------------------------------------------------------------------------------------- update_config


def test_a_change_holds_for_the_next_call():
    wire = Wire(Reply([deltas({"content": "a"})]))
    provider = wire.provider(temperature=0.1)
    provider.update_config(model="gpt-5-mini", max_tokens=None, api_key=None)
    run_virtual(events(provider))
    (body,) = wire.sent
    assert (provider.model, body["model"], body["temperature"]) == ("gpt-5-mini", "gpt-5-mini", 0.1)
    assert "max_tokens" not in body
    assert "authorization" not in wire.requests[0].headers


def test_a_change_that_cannot_work_changes_nothing():
    provider = Wire().provider()
    with pytest.raises(ConfigurationError, match="temperature=3"):
        provider.update_config(model="other", temperature=3)
    with pytest.raises(TypeError, match="modle"):
        provider.update_config(modle="other")
    assert provider.model == "gpt-4o"
    provider.update_config(top_p=0.5)
    assert provider.model == "gpt-4o"


# ---------------------------------------------------------------------------------------------------------- presets


def test_the_table_is_what_can_be_called():
    methods = {name for name in vars(LiteLLM) if not name.startswith("_")}
    assert set(TABLE) == methods - {"model", "ollama"}
    for name, preset in TABLE.items():
        provider = getattr(LiteLLM, name)(URL, "sk-key", temperature=0.1)
        assert (provider.model, provider.base_url) == (preset.model, URL)
        assert preset.note in (inspect.getdoc(preset) or "")


def test_the_promised_names_are_kept_and_say_that_they_are_legacy():
    assert {name: preset.model for name, preset in TABLE.items() if preset.legacy} == {
        "gpt4": "gpt-4",
        "gpt4_turbo": "gpt-4-turbo",
        "gpt35_turbo": "gpt-3.5-turbo",
        "claude3_opus": "claude-3-opus-20240229",
        "claude3_sonnet": "claude-3-sonnet-20240229",
        "claude3_haiku": "claude-3-haiku-20240307",
    }
    assert all(("Legacy" in (preset.__doc__ or "")) == preset.legacy for preset in TABLE.values())


def test_no_two_presets_stand_for_the_same_model():
    assert len({preset.model for preset in TABLE.values()}) == len(TABLE)


def test_any_other_model_has_a_way_in():
    assert LiteLLM.model("openrouter/vendor/model", URL).model == "openrouter/vendor/model"
    assert LiteLLM.ollama(URL).model == "ollama_chat/llama3.1"
    assert LiteLLM.ollama(URL, "mistral", max_tokens=None).model == "ollama_chat/mistral"
    assert Preset("x", "note")(URL).model == "x"


def test_an_httpx_transport_is_refused_with_the_way_to_wrap_it() -> None:
    with pytest.raises(ConfigurationError, match=r"HTTP\(transport\)"):
        LiteLLMProvider(
            "http://localhost:4000",
            "m",
            api_key=None,
            transport=httpx.MockTransport(lambda _: httpx.Response(200)),
        )  # pyright: ignore[reportArgumentType]
