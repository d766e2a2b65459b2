"""The real LiteLLM proxy, as a child process, in front of the scripted upstream: one of each for the session.

The proxy has a virtual environment of its own (`./run proxy-env` makes `.venv-proxy`; `LOOOPY_PROXY_PYTHON`
names another python), because it brings a hundred packages that looopy does not want. Without it the tests of
this folder are skipped, and fail under `LOOOPY_REQUIRE_SERVICES=1`.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from .upstream import Upstream

MODELS = {
    "gpt-4o-mini": {"model": "openai/gpt-4o-mini", "path": "/v1"},
    "claude-haiku-4-5": {"model": "anthropic/claude-haiku-4-5", "path": ""},
    "gemini-2.5-flash": {"model": "gemini/gemini-2.5-flash", "path": "/v1beta"},
}
"""The proxy's public names, each a route of its own; LiteLLM's price map knows what all three cost."""

START_SECONDS = 45
"""The proxy needs about 6 s of CPU to start; the rest is for a machine that is busy."""

# The child ends when its standard input does: the kernel closes the other end of that pipe however
# pytest dies.
_LAUNCH = """
import os, runpy, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(0)), daemon=True).start()
runpy.run_module("litellm.proxy.proxy_cli", run_name="__main__")
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where the proxy listens, and the key it made for this session."""

    url: str
    key: str = field(repr=False)


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """The providers' stand-in."""
    server = Upstream()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def proxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The running proxy, ready to be called."""
    python = _proxy_python()
    folder = tmp_path_factory.mktemp("proxy")
    config, log = folder / "config.yaml", folder / "proxy.log"
    config.write_text(json.dumps(_config(upstream.url)), encoding="utf-8")
    key, port = f"sk-{secrets.token_hex(24)}", _free_port()
    arguments = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        child = subprocess.Popen(
            [python, "-c", _LAUNCH, *arguments],
            env=_environment(key, folder),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_ready(child, f"http://127.0.0.1:{port}", log)
        yield Proxy(url=f"http://127.0.0.1:{port}", key=key)
    finally:
        child.kill()
        child.communicate(timeout=10)


def _proxy_python() -> str:
    here = Path(__file__).resolve().parents[2] / ".venv-proxy" / "bin" / "python"
    python = Path(os.environ.get("LOOOPY_PROXY_PYTHON", here))
    if not python.exists():
        missing = (
            f"no LiteLLM proxy at {python}: run `./run proxy-env`, or name a python in LOOOPY_PROXY_PYTHON"
        )
        if os.environ.get("LOOOPY_REQUIRE_SERVICES") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return str(python)


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
            for name, route in MODELS.items()
        ],
    }


def _environment(key: str, home: Path) -> dict[str, str]:
    """Only what the child needs: no provider's key and no setting of this machine reaches it."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LITELLM_MASTER_KEY": key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_PROXY": "127.0.0.1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_ready(child: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/health/readiness", timeout=2, trust_env=False).status_code == 200:
                return
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=0.1)  # between two looks; one that dies is noticed at once
    said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    state = (
        f"exited with {child.returncode}"
        if child.returncode is not None
        else f"not ready in {START_SECONDS} s"
    )
    pytest.fail(f"the LiteLLM proxy ({sys.platform}) {state}; the end of its log:\n{said}")
