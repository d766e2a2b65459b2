"""The real LiteLLM proxy as looopy starts it: `LocalProxy` and `looopy proxy`, in front of the scripted upstream."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from child import python_of

from looopy import AgentLoop, LiteLLMProvider, LocalProxy
from looopy.errors import UnknownModel

from .upstream import Upstream

# Most start a proxy.
pytestmark = [pytest.mark.proxy, pytest.mark.timeout(90)]


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> None:
    """The python that has LiteLLM, and keys and addresses of two makers, in the environment."""
    monkeypatch.setenv("LOOOPY_PROXY_PYTHON", python_of("proxy", "LiteLLM proxy"))
    monkeypatch.setenv("OPENAI_API_KEY", "upstream-openai-key")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{upstream.url}/v1")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "upstream-anthropic-key")
    monkeypatch.setenv("ANTHROPIC_API_BASE", upstream.url)


@pytest.mark.usefixtures("python")
async def test_the_keys_in_the_environment_are_enough_for_all_models_of_their_makers(
    upstream: Upstream,
) -> None:
    plays = {
        name: upstream.play("text") for name in ("openai/gpt-4o-mini", "gpt-4o-mini", "claude-haiku-4-5")
    }
    async with LocalProxy() as proxy:
        answers = [
            await AgentLoop(llm_provider=proxy.provider(name)).execute(each.prompt)
            for name, each in plays.items()
        ]
        with pytest.raises(UnknownModel):
            await AgentLoop(llm_provider=proxy.provider("nobodys-model")).execute("Hi")

    assert [answer.output for answer in answers] == ["Hello from the upstream."] * 3
    assert all((answer.cost or 0) > 0 for answer in answers)
    keys = [
        request.headers.get("authorization") or request.headers.get("x-api-key")
        for each in plays.values()
        for request in each.requests
    ]
    assert keys == ["Bearer upstream-openai-key", "Bearer upstream-openai-key", "upstream-anthropic-key"]


def test_a_model_may_have_a_name_an_address_and_a_key_of_its_own(
    upstream: Upstream, named: LocalProxy
) -> None:
    played = upstream.play("one-tool")

    def get_weather(city: str) -> str:
        """Say how warm it is in a city."""
        return f"4 degrees in {city}"

    agent = AgentLoop(llm_provider=named.provider("small"), tools=[get_weather])
    output = agent.execute(played.prompt).result(timeout=20).output

    assert "a-key-of-its-own" not in (named.log.parent / "config.yaml").read_text()
    assert output == "It is 4 degrees in Oslo."
    assert {request.headers["authorization"] for request in played.requests} == {"Bearer a-key-of-its-own"}


@pytest.mark.usefixtures("python")
def test_the_command_runs_it_until_ctrl_c(upstream: Upstream) -> None:
    played = upstream.play("text")
    with subprocess.Popen(
        [sys.executable, "-m", "looopy", "proxy", "--port", "0"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        url, key = (process.stdout.readline().strip().partition("=")[2] for _ in range(2))
        answer = (
            AgentLoop(llm_provider=LiteLLMProvider(url, "gpt-4o-mini", key))
            .execute(played.prompt)
            .result(timeout=20)
        )
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)

    assert (answer.output, process.returncode) == ("Hello from the upstream.", 130)
    assert told.startswith("starting the LiteLLM proxy for openai/*, anthropic/* …\nit is up; its log is ")
