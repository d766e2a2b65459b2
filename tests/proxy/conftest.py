"""The real LiteLLM proxy, as a child process, in front of the scripted upstream: one of each for this folder, and one as looopy starts it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from child import free_ports, python_of, started
from observe.receiver import Receiver

from looopy import LocalProxy
from looopy.testing import Answer, ScriptedServer

from .upstream import Upstream

MODELS = {
    "gpt-4o-mini": {"model": "openai/gpt-4o-mini", "path": "/v1"},
    "claude-haiku-4-5": {"model": "anthropic/claude-haiku-4-5", "path": ""},
    "gemini-2.5-flash": {"model": "gemini/gemini-2.5-flash", "path": "/v1beta"},
}
"""The proxy's public names, each a route of its own; LiteLLM's price map knows what all three cost."""

EMBEDDERS = {
    "text-embedding-3-small": {"model": "openai/text-embedding-3-small", "path": "/v1"},
    "gemini-embedding-001": {"model": "gemini/gemini-embedding-001", "path": "/v1beta"},
}
"""Those that embed: the first takes base64, for the second the proxy leaves that wish out."""

EXAMPLES = (
    "gpt-4o-mini",
    "anthropic/claude-haiku-4-5",
    "gemini/gemini-2.5-flash",
    "text-embedding-3-small",
)
"""The models of the examples that are whole systems."""

START_SECONDS = 45
"""The proxy needs about 6 s of CPU to start; the rest is for a machine that is busy."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where the proxy listens, and the key it made for these tests."""

    url: str
    key: str = field(repr=False)


@pytest.fixture(scope="package")
def upstream() -> Iterator[Upstream]:
    """The providers' stand-in."""
    server = Upstream()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="package")
def collector() -> Iterator[Receiver]:
    """Where the proxy sends the spans that it makes itself, and an instrumented agent may send its own."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="package")
def proxy(
    upstream: Upstream, collector: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """The running proxy, ready to be called."""
    python, folder = python_of("proxy", "LiteLLM proxy"), tmp_path_factory.mktemp("proxy")
    config = folder / "config.yaml"
    config.write_text(json.dumps(_config(upstream.url)), encoding="utf-8")
    key, (port,) = f"sk-{secrets.token_hex(24)}", free_ports(1)
    module, url = "litellm.proxy.proxy_cli", f"http://127.0.0.1:{port}"
    arguments = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    environment = {
        "LITELLM_MASTER_KEY": key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OTEL_EXPORTER": "otlp_http",
        "OTEL_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",  # milliseconds
    }
    with (
        started(
            "the LiteLLM proxy", python, module, *arguments, folder=folder, environment=environment
        ) as child,
        httpx.Client(base_url=url, timeout=2, trust_env=False) as client,
    ):

        def is_ready() -> bool | None:
            return client.get("/health/readiness").status_code == 200 or None

        child.until(is_ready, "come up", seconds=START_SECONDS)
        yield Proxy(url=url, key=key)


class Maker:
    """The maker of the models of an example: it plays the example's script.

    Attributes:
        script: the one that is played now.
    """

    script: Callable[[dict[str, Any]], Answer]

    def __call__(self, body: dict[str, Any]) -> Answer:
        return self.script(body)


@pytest.fixture(scope="package")
def maker() -> Maker:
    return Maker()


@pytest.fixture(scope="package")
def named(upstream: Upstream, maker: Maker) -> Iterator[LocalProxy]:
    """A proxy as looopy starts it, with the models of the examples, and `small`, each with an address and a key of its own."""
    with ScriptedServer(otherwise=maker).running() as url:
        models = {
            name: {"model": f"openai/{name}", "api_base": f"{url}/v1", "api_key": "sk-none"}
            for name in EXAMPLES
        }
        small = {
            "model": "openai/gpt-4o-mini",
            "api_base": f"{upstream.url}/v1",
            "api_key": "a-key-of-its-own",
        }
        with LocalProxy(models | {"small": small}, python=python_of("proxy", "LiteLLM proxy")) as proxy:
            yield proxy


def _config(upstream: str) -> dict[str, object]:
    """LiteLLM's configuration; JSON is YAML. The providers' keys are made up: the upstream asks for none."""
    return {
        "model_list": [
            {
                "model_name": name,
                "litellm_params": {
                    "model": route["model"],
                    "api_base": upstream + route["path"],
                    "api_key": "upstream-key",
                },
            }
            for name, route in {**MODELS, **EMBEDDERS}.items()
        ],
        "litellm_settings": {
            "callbacks": ["otel"],
            "cache": True,
            "cache_params": {"type": "local", "mode": "default_off"},  # for who asks with `use-cache`
        },
    }
