"""The examples that are whole systems, asked to use a proxy: they print through the real LiteLLM proxy what they print without one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from child import python_of
from examples.started import module, started

from looopy import LocalProxy
from looopy.testing import Answer, ScriptedServer

pytestmark = [pytest.mark.proxy, pytest.mark.timeout(120)]

MODELS = (
    "gpt-4o-mini",
    "anthropic/claude-haiku-4-5",
    "gemini/gemini-2.5-flash",
    "text-embedding-3-small",
)


class Maker:
    """The maker of all the models, behind the proxy: it plays the script of an example.

    Attributes:
        script: the one that is played now.
    """

    script: Callable[[dict[str, Any]], Answer]

    def __call__(self, body: dict[str, Any]) -> Answer:
        return self.script(body)


@pytest.fixture(scope="module")
def maker() -> Maker:
    return Maker()


@pytest.fixture(scope="module")
def proxy(maker: Maker) -> Iterator[LocalProxy]:
    server = ScriptedServer(otherwise=maker)
    with server.running() as url:
        models = {
            name: {"model": f"openai/{name}", "api_base": f"{url}/v1", "api_key": "sk-none"}
            for name in MODELS
        }
        with LocalProxy(models, python=python_of("proxy", "LiteLLM proxy")) as proxy:
            yield proxy


@pytest.mark.parametrize("name", ["07_people", "08_chat_router", "09_tutor", "10_knowledge_graph"])
def test_an_example_does_the_same_through_the_real_proxy(name: str, proxy: LocalProxy, maker: Maker) -> None:
    maker.script = module(name).play

    through_it = started(name, LITELLM_URL=proxy.base_url, LITELLM_API_KEY=proxy.api_key)

    assert alike(through_it) == alike(started(name))


def alike(said: tuple[str, str]) -> tuple[list[list[str]], str]:
    """What was said, without the time that it took, the width of columns, and the route that the proxy puts before a model's name."""
    out, err = said
    return [re.sub(r"\d+\.\d(?= +\$)|openai/", "", line).split() for line in out.splitlines()], err
