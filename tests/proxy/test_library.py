"""The agent on the real LiteLLM library, in one process, on the routes to OpenAI, Anthropic and Gemini.

The library is in the environment of the proxy, so a python of that runs looopy too (in_process.py), and is told by this one what to do.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import reactivex
from child import python_of

from .conftest import MODELS
from .test_proxy import after_the_prompt
from .told import ONE_TOOL
from .upstream import Upstream

# The first test also waits for the library to load.
pytestmark = [pytest.mark.proxy, pytest.mark.timeout(90)]

on_each_route = pytest.mark.parametrize("model", MODELS)

Ask = Callable[..., Any]


@pytest.fixture(scope="package")
def library(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Tells the other process to do something, and gives its answer."""
    python, folder = python_of("proxy", "LiteLLM library"), tmp_path_factory.mktemp("library")
    here = Path(__file__).parent
    packages = Path(reactivex.__file__).parents[1]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [python, here / "in_process.py", packages],
        env={
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder),
            "PYTHONPATH": str(here.parents[1]),
        },
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )

    def ask(do: str, model: str = "", prompt: str = "", key: str | None = "upstream-key") -> Any:
        route = MODELS.get(model, {"model": model, "path": "/v1"})
        command = {
            "do": do,
            "model": route["model"],
            "url": upstream.url + route["path"],
            "prompt": prompt,
            "key": key,
        }
        process.stdin.write(json.dumps(command) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, (folder / "log").read_text()[-2000:]
        return json.loads(answer)

    with log, process:
        yield ask
        process.kill()


@on_each_route
def test_an_agent_calls_a_tool_and_answers(library: Ask, upstream: Upstream, model: str) -> None:
    played = upstream.play("one-tool")

    told = library("run", model, played.prompt)

    assert told["kinds"] == [
        "task",
        "status-update",
        "llm-call",
        "content-delta",
        "tool-call-delta",
        "llm-response",
        "tool-start",
        "tool-complete",
        "llm-call",
        "content-delta",
        "llm-response",
        "status-update",
    ]
    assert (told["said"], told["error"]) == ("It is 4 degrees in Oslo.", None)
    assert [after_the_prompt(request) for request in played.requests] == [[], ONE_TOOL[model]]
    assert all(cost > 0 for cost in told["costs"])
    assert len(told["tokens"]) == 2


@on_each_route
def test_thoughts_arrive_apart_from_the_answer(library: Ask, upstream: Upstream, model: str) -> None:
    told = library("run", model, upstream.play("reasoning").prompt)

    assert (told["thought"], told["said"]) == (
        "First the weather.Now the answer.",
        "It is 4 degrees in Oslo.",
    )


@on_each_route
def test_a_provider_that_is_down_is_asked_once(library: Ask, upstream: Upstream, model: str) -> None:
    played = upstream.play("down")

    kind, text = library("run", model, played.prompt)["error"]

    assert (kind, "no capacity left" in text, len(played.requests)) == ("ModelOverloaded", True, 1)


@on_each_route
def test_what_breaks_in_mid_answer_is_a_broken_stream(library: Ask, upstream: Upstream, model: str) -> None:
    told = library("run", model, upstream.play("breaks").prompt)

    assert told["error"][0] == "StreamBroken"


@on_each_route
def test_the_upstream_sees_a_reader_leave(library: Ask, upstream: Upstream, model: str) -> None:
    played = upstream.play("stalls")

    assert library("leave", model, played.prompt) == "One"
    played.hung_up.result(timeout=10)


def test_a_missing_key_is_said_with_its_variable(library: Ask) -> None:
    kind, text = library("run", "gpt-4o-mini", "Hi", key=None)["error"]

    assert (kind, text.partition("\n  ")[2]) == (
        "AuthenticationFailed",
        "No API key was found: set OPENAI_API_KEY, or pass api_key=.",
    )


def test_a_model_without_its_maker_is_unknown(library: Ask) -> None:
    kind, text = library("run", "nonsense", "Hi")["error"]

    assert (kind, text.partition("\n  ")[2][:26]) == ("UnknownModel", "Name the model as LiteLLM ")


def test_it_keeps_the_contract_of_a_provider_but_for_tokens_that_litellm_counts_itself(library: Ask) -> None:
    """Where a provider does not say how many tokens it took, LiteLLM counts, and does not say that it did."""
    assert list(library("contract")) == ["usage_is_passed_on"]


def test_the_library_asks_no_network_for_prices_and_prints_no_advice(
    library: Ask, upstream: Upstream
) -> None:
    library("run", "gpt-4o-mini", upstream.play("text").prompt)

    assert library("settings") == [False, True, "True"]
