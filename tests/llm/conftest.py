"""What the tests of the front door share: an environment without a model, and a proxy for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from looopy.testing import ScriptedServer

CONFIGURES = ("LITELLM_", "LOOOPY_", "OPENAI_")


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith(CONFIGURES)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def at_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[ScriptedServer], ScriptedServer]]:
    """Puts a scripted server on a port and its URL into the environment."""
    with ExitStack() as running:

        def serve(server: ScriptedServer) -> ScriptedServer:
            monkeypatch.setenv("LITELLM_URL", running.enter_context(server.running()))
            return server

        yield serve
