"""A settings file, and the provider that follows from it."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import pytest

from looopy import (
    AuthenticationFailed,
    BudgetExceeded,
    ConfigurationError,
    LiteLLMProvider,
    LLMRequest,
    Message,
    MissingExtra,
    ModelOverloaded,
    Timeouts,
    Usage,
    llm,
)
from looopy.providers.budget import Budget
from looopy.providers.cache import Cache
from looopy.providers.fallback import Fallback
from looopy.providers.rate_limit import RateLimit
from looopy.providers.retry import Retry
from looopy.settings import Settings
from looopy.stores.answers import RedisCache, SQLiteCache
from looopy.testing import ScriptedServer, embeds, fails, says

HI = LLMRequest(messages=(Message.user("Hi"),))
URL = 'url = "http://localhost:4000"\nmodel = "gpt-4o-mini"\n'


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("LITELLM_", "LOOOPY_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def written(tmp_path):
    """Writes a settings file."""

    def write(text, *, encoding="utf-8"):
        file = tmp_path / "looopy.toml"
        file.write_text(text, encoding=encoding)
        return file

    return write


def wrappers(provider):
    """The classes of a provider and of what it holds, from the outside."""
    names = []
    while True:
        names.append(type(provider).__name__)
        held = getattr(provider, "providers", None) or [getattr(provider, "provider", None)]
        if held[0] is None:
            return names
        provider = held[0]


async def test_what_the_file_says_is_what_the_proxy_is_sent(written, monkeypatch):
    server = ScriptedServer(otherwise=lambda _: says("Hi."))
    monkeypatch.setenv("TEAM_KEY", "sk-team")
    async with server.serve() as url:
        settings = Settings.load(
            written(f"""
                url = "{url}"
                api_key_env = "TEAM_KEY"
                model = "gpt-4o-mini"
                max_tokens = 4000
                temperature = 1.2
                top_p = 0.5
                frequency_penalty = 0.25
                presence_penalty = -0.25

                [params]
                seed = 7
            """)
        )
        await settings.provider().call(HI)

    (request,) = server.requests
    assert request.body == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "drop_params": True,
        "max_tokens": 4000,
        "temperature": 1.2,
        "top_p": 0.5,
        "frequency_penalty": 0.25,
        "presence_penalty": -0.25,
        "seed": 7,
    }
    assert request.headers["authorization"] == "Bearer sk-team"


async def test_a_key_that_is_no_good_is_told_by_the_name_of_its_variable(written, monkeypatch):
    monkeypatch.setenv("TEAM_KEY", "sk-wrong-1234567890")
    server = ScriptedServer(models=("m",), api_key="sk-right-1234567890")
    async with server.serve() as url:
        settings = Settings.load(written(f'url = "{url}"\nmodel = "m"\napi_key_env = "TEAM_KEY"'))
        with pytest.raises(AuthenticationFailed, match="The key came from TEAM_KEY; is it"):
            await settings.provider().call(HI)
        with pytest.raises(AuthenticationFailed, match="The key came from TEAM_KEY; is it"):
            await settings.embedder(model="m").embed(["Hi"])

    monkeypatch.setenv("TEAM_KEY", "sk wrong")
    with pytest.raises(ConfigurationError, match="the API key from TEAM_KEY holds a space"):
        Settings.load(written(f'url = "{url}"\nmodel = "m"\napi_key_env = "TEAM_KEY"'))


async def test_a_file_that_says_little_leaves_the_rest_as_the_providers_have_it(written, monkeypatch):
    server = ScriptedServer(otherwise=lambda _: says("Hi."))
    async with server.serve() as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
        provider = Settings.load(written('model = "gpt-4o-mini"')).provider()
        await provider.call(HI)

    assert wrappers(provider) == ["LiteLLMProvider"]
    body = server.requests[0].body
    assert (body["max_tokens"], body["temperature"], "top_p" in body) == (4096, 0.7, False)
    assert server.requests[0].headers["authorization"] == "Bearer sk-1"


def test_wrappers_are_nested_so_that_each_does_what_it_is_for(written):
    settings = Settings.load(
        written(
            URL
            + """
            fallbacks = ["gpt-4.1", "claude-haiku-4-5"]

            [timeouts]
            connect = 1
            first_token = 2.5
            between_tokens = 3
            call = 30

            [retry]
            attempts = 5
            first_wait = 0.1
            longest_wait = 10
            seconds = 60

            [cache]
            store = "memory"
            seconds = 60
            entries = 10

            [budget]
            tokens = 1000
            cost = 0.5

            [rate_limit]
            at_once = 2
            """
        )
    )
    provider = settings.provider()

    assert provider is settings.provider()
    match provider:
        case (
            Cache(
                provider=Budget(
                    provider=Fallback(providers=(Retry(provider=RateLimit() as limited) as retry, *others))
                ) as budget
            ) as cache
        ):
            pass
    assert (cache.seconds, budget.tokens, budget.cost, budget.meter, others) == (
        60,
        1000,
        0.5,
        settings.meter,
        ["gpt-4.1", "claude-haiku-4-5"],
    )
    assert repr(cache.store) == "MemoryCache(0 of 10 entries)"
    assert (retry.attempts, retry.first_wait, retry.longest_wait, retry.seconds) == (5, 0.1, 10, 60)
    assert isinstance(limited.provider, LiteLLMProvider)
    assert settings.timeouts.model_dump() == {
        "connect": 1,
        "first_token": 2.5,
        "between_tokens": 3,
        "call": 30,
    }
    assert Timeouts(**settings.timeouts.model_dump()).call == 30


async def test_they_work_together(written):
    down = {"gpt-4o-mini"}
    server = ScriptedServer(
        otherwise=lambda body: (
            fails(429)
            if body["model"] in down
            else says("Hi.", usage=Usage(input_tokens=60, output_tokens=40))
        )
    )
    async with server.serve() as url:
        settings = Settings.load(
            written(f"""
                url = "{url}"
                model = "gpt-4o-mini"
                fallbacks = ["gpt-4o-mini", "gpt-4.1"]
                retry = {{ attempts = 2, first_wait = 0 }}
                cache = {{ store = "memory" }}
                budget = {{ tokens = 100 }}
            """)
        )
        provider = settings.provider()
        first = await provider.call(HI)
        again = await provider.call(HI)
        with pytest.raises(BudgetExceeded):
            await provider.call(LLMRequest(messages=(Message.user("Bye"),)))

    assert [request.body["model"] for request in server.requests] == ["gpt-4o-mini", "gpt-4o-mini", "gpt-4.1"]
    assert (first.attempts, first.served_by, first.cached, again.cached) == (3, "gpt-4.1", False, True)


@pytest.mark.parametrize(
    ("cache", "store"),
    [('store = "sqlite"\npath = "answers.db"', SQLiteCache), ('store = "redis"\nurl = "redis://:secret@localhost:6379/0"', RedisCache)],
)  # fmt: skip
def test_a_cache_may_be_a_file_beside_the_settings_or_redis(cache, store, written, tmp_path):
    settings = Settings.load(written(f"{URL}[cache]\n{cache}"))

    kept = settings.provider().store
    assert isinstance(kept, store)
    if store is SQLiteCache:
        assert repr(kept) == f"SQLiteCache({str(tmp_path / 'answers.db')!r})"
    assert "secret" not in repr(settings)


def test_the_environment_wins_over_the_file(written, monkeypatch):
    for name, value in {
        "LITELLM_URL": "http://other:4000",
        "LITELLM_API_KEY": "sk-other",
        "LOOOPY_MODEL": "gpt-4.1",
        "LOOOPY_EMBEDDING_MODEL": "text-embedding-3-large",
        "LOOOPY_TEMPERATURE": "0.1",
        "LOOOPY_FALLBACKS": "a, b",
        "LOOOPY_CACHE__SECONDS": "5",
        "LOOOPY_MAX_TOKENS": "",
        "LOOOPY_SETTINGS": "nowhere.toml",
    }.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load(
        written(
            URL
            + """
            api_key = "sk-file"
            temperature = 1.0
            max_tokens = 10
            fallbacks = ["c"]
            cache = { store = "memory", seconds = 60 }
            embedding = { model = "text-embedding-3-small", dimensions = 8 }
            """
        )
    )

    assert (settings.url, settings.api_key.get_secret_value(), settings.model, settings.temperature, settings.max_tokens) == (
        "http://other:4000", "sk-other", "gpt-4.1", 0.1, 10,
    )  # fmt: skip
    assert (settings.fallbacks, settings.cache.store, settings.cache.seconds) == (("a", "b"), "memory", 5)
    assert settings.embedding.model_dump() == {"model": "text-embedding-3-large", "dimensions": 8}


def test_a_list_in_the_environment_may_be_json(written, monkeypatch):
    monkeypatch.setenv("LOOOPY_FALLBACKS", '["a", "b"]')
    assert Settings.load(written(URL)).fallbacks == ("a", "b")
    monkeypatch.setenv("LOOOPY_FALLBACKS", '["a"')
    with pytest.raises(
        ConfigurationError, match="LOOOPY_FALLBACKS: fallbacks: Value error, EOF while parsing a list"
    ):
        Settings.load(written(URL))


def test_no_secret_is_shown(written, monkeypatch):
    settings = Settings.load(
        written('url = "http://me:hidden1@localhost:4000"\nmodel = "x"\napi_key = "sk-hidden2"')
    )

    shown = f"{settings!r} {settings} {settings.provider()!r} {settings.model_dump()['api_key']}"
    assert "hidden1" not in shown.replace(settings.url, "")
    assert "hidden2" not in shown
    monkeypatch.setenv("LITELLM_API_KEY", "sk-hidden3")
    assert "hidden3" not in repr(Settings.load(written(URL)))


@pytest.mark.parametrize(
    ("text", "said", "key"),
    [
        ("temprature = 1", "FILE: there is no key 'temprature'; did you mean 'temperature'?", "temprature"),
        ("[cache]\nstor = 'memory'\nstore = 'memory'", "FILE: there is no key 'cache.stor'; did you mean 'cache.store'?", "cache.stor"),
        ("[retry]\nattempts = 2\ntemperature = 1", "FILE: there is no key 'retry.temperature'; 'temperature' stands above the first [table]", "retry.temperature"),
        ("[budget]\nxyz = 2", "FILE: there is no key 'budget.xyz'; there are tokens, cost", "budget.xyz"),
        ("[embedding]\nxyz = 2", "FILE: there is no key 'embedding.xyz'; there are model, dimensions", "embedding.xyz"),
        ("temperature = 'hot'", "FILE: temperature: Input should be a valid number, unable to parse string as a number, got 'hot'", "temperature"),
        ("temperature = 3", "FILE: temperature: Input should be less than or equal to 2, got 3", "temperature"),
        ("[cache]\nstore = 'disk'", "FILE: cache.store: Input should be 'memory', 'sqlite' or 'redis', got 'disk'", "cache.store"),
        ("[cache]\nseconds = 3", "FILE: cache.store: missing, and it is required", "cache.store"),
        ("fallbacks = [1]", "FILE: fallbacks[0]: Input should be a valid string, got 1", "fallbacks[0]"),
        ("cache = 'memory'", "FILE: cache: Input should be a valid dictionary or instance of CacheSettings, got 'memory'", "cache"),
        ("api_key = 12345", "FILE: api_key: Input should be a valid string", "api_key"),
        ("[cache]\nstore = 'sqlite'", 'FILE: cache.store is "sqlite": cache.path must name its file', "cache.path"),
        ("[cache]\nstore = 'redis'", 'FILE: cache.store is "redis": cache.url, or the variable LOOOPY_CACHE__URL, must say where, as "redis://localhost:6379/0"', "cache.url"),
        ("[budget]\n", "FILE: [budget] is empty: write one of tokens, cost below it, or leave it out", "budget"),
        ("[rate_limit]\n", "FILE: [rate_limit] is empty: write one of requests_per_minute, tokens_per_minute, at_once below it, or leave it out", "rate_limit"),
        ("api_key_env = 'NOWHERE'", "FILE: api_key_env names the variable NOWHERE, which is not set in the environment", "api_key_env"),
        ("api_key_env = 'zq9-a-key-of-a-proxy-77'", "FILE: api_key_env holds something else than the name of a variable that is set in the environment, such as OPENAI_API_KEY; a key itself stands in api_key, or better in LITELLM_API_KEY", "api_key_env"),
        ("max_tokens = " + "9" * 5_000, "the settings file FILE cannot be read: Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits; use sys.set_int_max_str_digits() to increase the limit", "path"),
        ("[params]\nx = " + "[" * 3_000, "the settings file FILE is nested too deeply to be read", "path"),
        ("[budget]\ntokens = 1" + "0" * 400, "FILE: Budget(tokens=1" + "0" * 400 + "): it must be a number above 0, a price also 0; leave it out for none", "tokens"),
        ("temperature = 'zq9-a-key-of-a-proxy-77'", "FILE: temperature: Input should be a valid number, unable to parse string as a number", "temperature"),
        ("temperature = true", "FILE: temperature: Value error, it must be a number, got True", "temperature"),
        ("max_tokens = true", "FILE: max_tokens: Value error, it must be a number, got True", "max_tokens"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_with_the_key_and_the_file(text, said, key, written):
    file = written(URL + text)

    with pytest.raises(ConfigurationError) as caught:
        Settings.load(file)
    assert (str(caught.value), caught.value.argument) == (said.replace("FILE", str(file)), key)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"LOOOPY_TEMPERATURE": "hot"}, "LOOOPY_TEMPERATURE: temperature: Input should be a valid number, unable to parse string as a number, got 'hot'"),
        ({"LOOOPY_CACHE__STORE": "disk"}, "LOOOPY_CACHE__STORE: cache.store: Input should be 'memory', 'sqlite' or 'redis', got 'disk'"),
        ({"LOOOPY_CACHE": '{"store": "disk"}'}, "LOOOPY_CACHE: cache.store: Input should be 'memory', 'sqlite' or 'redis', got 'disk'"),
        ({"LOOOPY_CACHE": "disk"}, "LOOOPY_CACHE: cache: Input should be a valid dictionary or instance of CacheSettings, got 'disk'"),
        ({"LOOOPY_PARAMS": "seed=7"}, "LOOOPY_PARAMS: it must be JSON"),
        ({"LOOOPY_CACHE__STOR": "redis"}, "LOOOPY_CACHE__STOR: there is no key 'cache.stor'; did you mean 'cache.store'?"),
    ],
)  # fmt: skip
def test_so_is_it_with_a_variable_of_the_environment(environment, said, written, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError) as caught:
        Settings.load(written(URL))
    assert str(caught.value) == said


def test_a_file_that_cannot_be_read_is_said(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert str(caught.value) == f"there is no settings file 'looopy.toml' (looked for in {tmp_path})"
    with pytest.raises(ConfigurationError, match=r"looopy.toml is no TOML: .* \(at line 3, column 3\)"):
        Settings.load(written(URL + "[[["))
    with pytest.raises(ConfigurationError, match=r"looopy.toml cannot be read: 'utf-8' codec"):
        Settings.load(written('model = "größe"', encoding="latin-1"))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Settings.load(tmp_path)


def test_without_a_proxy_or_a_model_it_says_what_to_set(written):
    file = written('model = "gpt-4o-mini"')
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(file)
    assert (str(caught.value), caught.value.argument) == (
        f'{file}: url is missing: write url = "http://localhost:4000", your LiteLLM proxy\'s, or set LITELLM_URL',
        "url",
    )
    file = written('url = "http://localhost:4000"')
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(file)
    assert (str(caught.value), caught.value.argument) == (
        f'{file}: model is missing: write model = "gpt-4o-mini", or set LOOOPY_MODEL',
        "model",
    )


async def test_the_address_may_be_that_of_openais_variable(written, monkeypatch):
    server = ScriptedServer(says("Hi."))
    async with server.serve() as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        assert (
            await llm.complete("Hi", provider=Settings.load(written('model = "m"')).provider())
        ).output == "Hi."


def test_a_missing_package_for_the_cache_names_its_extra(written, monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)

    with pytest.raises(ConfigurationError) as caught:
        Settings.load(written(f'{URL}[cache]\nstore = "redis"\nurl = "redis://localhost"'))
    assert str(caught.value) == "RedisCache needs redis: pip install 'looopy[redis]'"


def test_without_pydantic_settings_the_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "looopy.settings")
    monkeypatch.setitem(sys.modules, "pydantic_settings", None)

    with pytest.raises(MissingExtra) as caught:
        import_module("looopy.settings")
    assert str(caught.value) == "looopy.settings needs pydantic-settings: pip install 'looopy[settings]'"


async def test_the_embedder_is_at_the_same_proxy_with_the_same_key(written):
    server = ScriptedServer(
        otherwise=lambda body: (
            fails(400, "litellm.BadRequestError: You are not allowed to generate embeddings from this model")
            if body["model"] == "gpt-4o-mini"
            else embeds(body)
        )
    )
    async with server.serve() as url:
        settings = Settings.load(
            written(
                f'url = "{url}"\nmodel = "gpt-4o-mini"\napi_key = "sk-1"\n[embedding]\nmodel = "text-embedding-3-small"\ndimensions = 8'
            )
        )
        own = await settings.embedder().embed(["a cat"])
        chat = await settings.embedder(model="gpt-4o-mini", dimensions=4).embed(["a cat"])

    assert (own.model, own.dimensions, own.fell_back_from) == ("text-embedding-3-small", 8, "")
    assert (chat.model, chat.dimensions, chat.fell_back_from) == ("text-embedding-3-small", 4, "gpt-4o-mini")
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer sk-1"}


def test_settings_without_an_embedding_model_say_so_when_one_is_wanted(written):
    settings = Settings.load(file := written(URL))

    with pytest.raises(ConfigurationError) as caught:
        settings.embedder()
    assert str(caught.value).startswith(f"{file}: no embedding model is named: pass model=")


async def test_the_stand_in_takes_its_place_in_the_nesting(written, monkeypatch):
    monkeypatch.setenv("LOOOPY_STAND_IN", "1")
    settings = Settings.load(written("fallbacks = ['a']\n[retry]\nattempts = 2"))

    assert wrappers(settings.provider()) == ["Fallback", "Retry", "StandInProvider"]
    assert (await settings.embedder().embed(["a cat"])).model == "looopy-stand-in"


def test_the_front_door_reads_the_file_that_the_environment_names(written, monkeypatch):
    server = ScriptedServer(otherwise=lambda body: embeds(body) if "input" in body else says("Hi."))
    with server.running() as url:
        file = written(
            f'url = "{url}"\nmodel = "one"\ncache = {{ store = "memory" }}\nembedding = {{ model = "text-embedding-3-small" }}'
        )
        monkeypatch.setenv("LOOOPY_SETTINGS", str(file))
        for model in ("", "", "two", "stand-in"):
            assert llm.complete("Hi", model=model).result(5).output
        assert llm.embed(["a cat"]).result(5).model == "text-embedding-3-small"

    assert [request.body["model"] for request in server.requests] == ["one", "two", "text-embedding-3-small"]


def test_a_file_that_it_names_wrongly_is_an_error_of_the_call(monkeypatch):
    monkeypatch.setenv("LOOOPY_SETTINGS", "nowhere.toml")

    with pytest.raises(ConfigurationError, match=r"there is no settings file 'nowhere.toml'"):
        llm.complete("Hi")


def test_a_proxy_that_is_overloaded_is_told_as_ever(written):
    server = ScriptedServer(otherwise=lambda _: fails(429))
    with server.running() as url:
        settings = Settings.load(written(f'url = "{url}"\nmodel = "one"'))
        with pytest.raises(ModelOverloaded):
            llm.complete("Hi", provider=settings.provider()).result(5)
