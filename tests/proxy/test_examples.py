"""The examples that are whole systems, asked to use a proxy: they print through the real LiteLLM proxy what they print without one."""

from __future__ import annotations

import re

import pytest
from examples.started import module, started

from looopy import LocalProxy

from .conftest import Maker

pytestmark = [pytest.mark.proxy, pytest.mark.timeout(120)]


@pytest.mark.parametrize("name", ["07_people", "08_chat_router", "09_tutor", "10_knowledge_graph"])
def test_an_example_does_the_same_through_the_real_proxy(name: str, named: LocalProxy, maker: Maker) -> None:
    maker.script = module(name).play

    through_it = started(name, LITELLM_URL=named.base_url, LITELLM_API_KEY=named.api_key)

    assert alike(through_it) == alike(started(name))


def alike(said: tuple[str, str]) -> tuple[list[list[str]], str]:
    """What was said, without the time that it took, the width of columns, and the route that the proxy puts before a model's name."""
    out, err = said
    return [re.sub(r"\d+\.\d(?= +\$)|openai/", "", line).split() for line in out.splitlines()], err
