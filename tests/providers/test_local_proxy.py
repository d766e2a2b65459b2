"""The proxy as a child process: what it is started with, when it is there, and that it ends. Here a scripted one; the real one is in tests/proxy."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from looopy import AgentLoop, ConfigurationError, LocalProxy, MissingExtra, ProxyUnreachable
from looopy.providers.keys import KEYS
from looopy.testing.standin import WHO

ROOT = Path(__file__).parents[2]
SCRIPTED = str(Path(__file__).parent / "scripted_proxy")
MODELS = {
    "small": "openai/gpt-4o-mini",
    "own": {
        "model": "openai/llama",
        "api_base": "http://localhost:1/v1",
        "api_key": "sk-own-secret-1",
        "rpm": 60,
    },
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in (*KEYS.values(), "LOOOPY_PROXY_PYTHON"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def installed(monkeypatch):
    """A scripted LiteLLM in the environment of the child."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((SCRIPTED, str(ROOT))))


@pytest.fixture
def watched(monkeypatch):
    """Somebody who sees the child's life: `accept` gives a socket that ends with it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        monkeypatch.setenv("SCRIPTED_WATCH", str(listener.getsockname()[1]))
        yield listener


def seen(listener):
    """The child, which has begun, as a socket."""
    child, _ = listener.accept()
    child.settimeout(10)
    return child


def is_gone(child):
    with child:
        try:
            return child.recv(1) == b""
        except ConnectionResetError:
            return True


def pid(proxy):
    return int(proxy.log.read_text().split()[0])


def environment_of(number):
    """The environment of a process; empty where the system does not tell."""
    file = Path(f"/proc/{number}/environ")
    pairs = file.read_text().split("\0") if file.exists() else []
    return dict(pair.split("=", 1) for pair in pairs if pair)


async def test_an_agent_runs_on_it_and_it_ends_with_the_context(installed, watched):
    async with LocalProxy(MODELS) as proxy:
        child, folder = seen(watched), proxy.log.parent
        result = await AgentLoop(llm_provider=proxy.provider("small", timeout=5)).execute("Hi")

    assert (result.output, is_gone(child), folder.exists()) == (WHO, True, False)


def test_it_works_where_no_loop_runs(installed, watched):
    with LocalProxy(["openai/gpt-4o-mini"]) as proxy:
        child = seen(watched)
        result = AgentLoop(llm_provider=proxy.provider("openai/gpt-4o-mini")).execute("Hi").result(timeout=5)

    assert (result.output, is_gone(child)) == (WHO, True)


async def test_an_http_proxy_of_the_environment_does_not_stand_between(installed, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with LocalProxy(MODELS) as proxy:
        assert (await AgentLoop(llm_provider=proxy.provider("small")).execute("Hi")).output == WHO


async def test_no_credential_is_in_its_configuration_and_each_is_in_its_environment(installed, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    monkeypatch.setenv("DATABASE_URL", "postgres://somewhere")
    async with LocalProxy(MODELS) as proxy:
        configuration = json.loads((proxy.log.parent / "config.yaml").read_text())
        mode = proxy.log.parent.stat().st_mode & 0o777
        environment = environment_of(pid(proxy))
        key = proxy.api_key

    assert configuration == {
        "model_list": [
            {
                "model_name": "small",
                "litellm_params": {"model": "openai/gpt-4o-mini", "api_key": "os.environ/OPENAI_API_KEY"},
            },
            {
                "model_name": "own",
                "litellm_params": {
                    "model": "openai/llama",
                    "api_base": "http://localhost:1/v1",
                    "api_key": "os.environ/LOOOPY_PROXY_SECRET_1",
                    "rpm": 60,
                },
            },
        ],
        "general_settings": {"cancel_on_disconnect": True},
    }
    assert mode == 0o700
    if sys.platform == "linux":
        assert {
            name: environment.get(name)
            for name in ("OPENAI_API_KEY", "LOOOPY_PROXY_SECRET_1", "LITELLM_MASTER_KEY", "DATABASE_URL")
        } == {
            "OPENAI_API_KEY": "sk-of-the-environment",
            "LOOOPY_PROXY_SECRET_1": "sk-own-secret-1",
            "LITELLM_MASTER_KEY": key,
            "DATABASE_URL": None,
        }
        assert environment["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"


async def test_it_has_its_own_key_each_time_which_is_not_shown(installed):
    proxy = LocalProxy(MODELS)
    assert repr(proxy) == "LocalProxy(small, own)"
    keys = set()
    for _ in range(2):
        async with proxy:
            keys.add(proxy.api_key)
            assert repr(proxy) == f"LocalProxy(small, own) at {proxy.base_url}"
            assert (
                repr(proxy.provider("small"))
                == f"LiteLLMProvider(base_url='{proxy.base_url}', model='small')"
            )

    assert [len(key) for key in keys] == [51, 51]


async def test_it_is_not_there_outside_of_its_context_and_once_within(installed):
    proxy = LocalProxy(MODELS)
    with pytest.raises(ConfigurationError, match="use it within `with LocalProxy"):
        proxy.provider("small")
    async with proxy:
        with pytest.raises(ConfigurationError, match="is running already: one object is one proxy"):
            await proxy.__aenter__()
        assert (await AgentLoop(llm_provider=proxy.provider("small")).execute("Hi")).output == WHO


async def test_leaving_while_it_starts_ends_it(installed, watched, monkeypatch):
    monkeypatch.setenv("SCRIPTED", "hangs")

    async def begin():
        async with LocalProxy(MODELS):
            pytest.fail("it never answers")

    task = asyncio.create_task(begin())
    child = await asyncio.to_thread(seen, watched)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert is_gone(child)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_it_ends_however_this_process_dies(installed, watched):
    program = "from looopy import LocalProxy\nwith LocalProxy(['m']) as proxy:\n  print('up', flush=True)\n  proxy.wait()"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        child = seen(watched)
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGKILL)

    assert is_gone(child)


async def test_one_that_ends_at_once_is_said_with_the_end_of_its_log(installed, watched, monkeypatch):
    monkeypatch.setenv("SCRIPTED", "dies")
    proxy = LocalProxy(MODELS)
    with pytest.raises(ProxyUnreachable) as caught:
        await proxy.__aenter__()

    number, _, said = str(caught.value).partition("the end of its log:\n")[2].partition("\n")
    assert number.isdigit()
    assert said == "no such thing; the key is ***, the other ***"
    assert (
        f"the LiteLLM proxy at {caught.value.url}, a child process of this one, ended with status 3; "
        in str(caught.value)
    )
    assert is_gone(seen(watched))
    assert repr(proxy) == "LocalProxy(small, own)"


def test_one_that_does_not_answer_in_time_is_ended(installed, watched, monkeypatch):
    monkeypatch.setenv("SCRIPTED", "hangs")
    with (
        pytest.raises(ProxyUnreachable, match=r"did not answer within 0\.01 s; the end of its log:"),
        LocalProxy(MODELS, start_seconds=0.01),
    ):
        pass


def test_a_free_port_that_somebody_takes_first_is_replaced_by_another(installed, monkeypatch, tmp_path):
    monkeypatch.setenv("SCRIPTED", f"taken-once:{tmp_path / 'marker'}")
    with LocalProxy(MODELS) as proxy:
        assert proxy.base_url.startswith("http://127.0.0.1:")


def test_the_end_of_a_running_one_is_noticed_by_who_waits(installed):
    with LocalProxy(MODELS) as proxy:
        os.kill(pid(proxy), signal.SIGTERM)
        with pytest.raises(ProxyUnreachable, match="a child process of this one, ended with status "):
            proxy.wait()


def test_without_the_extra_it_says_what_to_install():
    with pytest.raises(MissingExtra) as caught, LocalProxy(["m"], python=sys.executable):
        pass
    assert (
        str(caught.value)
        == f"LocalProxy, run by {sys.executable}, needs the LiteLLM proxy: pip install 'looopy[proxy]'"
    )


def test_a_python_that_is_none_is_said(monkeypatch):
    monkeypatch.setenv("LOOOPY_PROXY_PYTHON", "/nowhere/python")
    with pytest.raises(
        ConfigurationError,
        match="the python of the local proxy, '/nowhere/python', cannot be run: No such file",
    ) as caught:
        LocalProxy(["m"]).__enter__()
    assert caught.value.argument == "python"


def test_a_port_that_is_taken_or_no_port_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            ConfigurationError,
            match=f"port {port} of 127.0.0.1 cannot be used .Address already in use.: choose another",
        ):
            LocalProxy(["m"], port=port).__enter__()
    with pytest.raises(ConfigurationError, match=r"port 70000 of 127.0.0.1 cannot be used"):
        LocalProxy(["m"], port=70_000).__enter__()


def test_the_keys_in_the_environment_say_which_models_there_are(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-open")
    monkeypatch.setenv("GEMINI_API_KEY", " ")

    assert LocalProxy().models == ("openai/*", "anthropic/*")


def test_without_a_key_and_a_model_it_says_which_variables_it_looks_at():
    with pytest.raises(ConfigurationError) as caught:
        LocalProxy()
    assert str(caught.value) == (
        "no model is named and no API key is there: set one of OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, MISTRAL_API_KEY, COHERE_API_KEY, "
        "DEEPSEEK_API_KEY, GROQ_API_KEY, OPENROUTER_API_KEY, XAI_API_KEY, or name models, for example models=['ollama_chat/llama3.1'], "
        "in a shell --model ollama_chat/llama3.1"
    )


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ([], "models= is empty"),
        ("openai/gpt-4o-mini", "models='openai/gpt-4o-mini': pass a list of names, or a mapping"),
        ({"small": 3}, "models: 'small' is given as int: it takes LiteLLM's name of the model"),
        (
            {"small": {"api_base": "http://localhost"}},
            "models: 'small' is given as dict: it takes LiteLLM's name",
        ),
        ([3], "models: 3 is given as int"),
    ],
)
def test_models_that_cannot_be_are_refused(models, said):
    with pytest.raises(ConfigurationError, match=said):
        LocalProxy(models)
