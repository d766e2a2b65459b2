"""The real LiteLLM proxy as a child process of this one: from a list of models, or from the API keys in the environment.

It listens on the loopback alone, under a key made for it, and ends with the context that it was started in, or with this process however that
ends. `litellm.py` talks to it as to any other proxy; `local_models.py` writes its configuration.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from asyncio import sleep
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn, Self, Unpack

from looopy.errors import ConfigurationError, LooopyError, MissingExtra, ProxyUnreachable
from looopy.messages import JSON
from looopy.providers.configuration import Options
from looopy.providers.keys import values
from looopy.providers.litellm import LiteLLMProvider
from looopy.providers.local_models import LocalModels
from looopy.providers.transport import direct
from looopy.redaction import redact
from looopy.threads import in_thread

_HOST = "127.0.0.1"
_LOOK = 0.1  # seconds between two looks at a proxy that is starting
_ANSWER = 2.0  # seconds that it may take to answer a look
_GOODBYE = 3.0  # seconds that it may take to end by itself
_TOLD = 2_000  # characters of its log that are told
_TAKEN = re.compile(r"address already in use", re.IGNORECASE)
_NOT_INSTALLED = re.compile(r"No module named 'litellm|litellm\[proxy\]")

# The child ends when its standard input does: the system closes the other end of that pipe however this process ends.
_LAUNCH = """
import os, runpy, sys, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(0)), daemon=True).start()
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
_MODULE = "litellm.proxy.proxy_cli"

# What makes another proxy of it: with a database, on several processes, with TLS, talkative.
_LEFT_OUT = re.compile(
    r"(DATABASE|DIRECT)_.*|STORE_MODEL_IN_DB|CONFIG_FILE_PATH|WORKER_CONFIG|(NUM_WORKERS|DEBUG|DETAILED_DEBUG)|SSL_(KEY|CERT)FILE_PATH"
)


class LocalProxy:
    """The real LiteLLM proxy, for as long as a context lasts: `with` and `async with` both start it and wait until it answers.

    It needs the extra `proxy` in the python that runs it, some seconds to start, and 320 MB of memory.

    Args:
        models: names as LiteLLM knows them, such as "openai/gpt-4o-mini" or "anthropic/*"; or a mapping from the names to ask for to such a name or to
            LiteLLM's parameters of it (`model`, `api_base`, …). Left out: all models of the makers whose keys are in the environment.
        port: where it listens; 0 for any free one.
        python: the interpreter that has LiteLLM; left out: LOOOPY_PROXY_PYTHON, then the one that runs this.
        start_seconds: how long it may take to start.

    Raises:
        ConfigurationError: there is no model, and no key; or the port cannot be used.
        MissingExtra: at the start: that python has no LiteLLM proxy.
        ProxyUnreachable: at the start: it ended, or did not answer in time; the message has the end of its log.

    Example:
        >>> proxy = LocalProxy({"small": "openai/gpt-4o-mini"})
        >>> proxy
        LocalProxy(small)
    """

    def __init__(
        self,
        models: Sequence[str] | Mapping[str, str | Mapping[str, JSON]] | None = None,
        *,
        port: int = 0,
        python: str | os.PathLike[str] | None = None,
        start_seconds: float = 60.0,
    ) -> None:
        self._models = LocalModels.of(models)
        self._port = port
        self._python = os.fspath(
            python or os.environ.get("LOOOPY_PROXY_PYTHON", "").strip() or sys.executable
        )
        self._start_seconds = start_seconds
        self._child: _Child | None = None
        self._deadline = 0.0

    def __repr__(self) -> str:
        """Show what it offers and where; never the key."""
        where = f" at {self._child.url}" if self._child else ""
        return f"LocalProxy({', '.join(self.models)}){where}"

    @property
    def models(self) -> tuple[str, ...]:
        """The names to ask for; `openai/*` stands for all models of a maker."""
        return self._models.names

    @property
    def base_url(self) -> str:
        """Where it listens."""
        return self._running.url

    @property
    def api_key(self) -> str:
        """The key that it asks for: made for it, and worth nothing once it has ended."""
        return self._running.key

    @property
    def log(self) -> Path:
        """The file that it writes to; gone when it has ended."""
        return self._running.log

    def provider(self, model: str, **options: Unpack[Options]) -> LiteLLMProvider:
        """A model behind it.

        Args:
            model: one of `models`, or one that a `*` of them stands for.
            options: as in `LiteLLMProvider`.
        """
        child = self._running
        return LiteLLMProvider(child.url, model, child.key, transport=direct(), **options)

    def wait(self) -> NoReturn:
        """Block until it ends, which it does not do by itself.

        Raises:
            ProxyUnreachable: it has ended; the message has the end of its log.
        """
        child = self._running
        child.process.wait()
        raise child.failure()

    def __enter__(self) -> Self:
        self._begin()
        try:
            while not self._has_come_up(self._running.answers()):
                time.sleep(_LOOK)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    async def __aenter__(self) -> Self:
        self._begin()
        try:
            while True:
                if self._has_come_up(await in_thread(self._running.answers)):
                    return self
                await sleep(_LOOK)
        except BaseException:
            await in_thread(self._stop)
            raise

    async def __aexit__(self, *_: object) -> None:
        await in_thread(self._stop)

    @property
    def _running(self) -> _Child:
        if self._child is None:
            raise ConfigurationError(
                "the local proxy is not running: use it within `with LocalProxy(…) as proxy:` or `async with`"
            )
        return self._child

    def _begin(self) -> None:
        if self._child is not None:
            raise ConfigurationError(f"{self!r} is running already: one object is one proxy")
        self._deadline = time.monotonic() + self._start_seconds
        self._child = self._new()

    def _new(self) -> _Child:
        return _Child(self._python, _free(self._port), self._models)

    def _has_come_up(self, answers: bool) -> bool:
        """Whether the proxy that was begun has started; raises when it will not."""
        child = self._running
        if answers:
            return True
        if child.process.poll() is not None:
            # A free port may be taken until the proxy, seconds later, listens on it.
            if self._port or not _TAKEN.search(child.tail()):
                raise child.failure()
            child.end()
            self._child = self._new()
        elif time.monotonic() > self._deadline:
            raise child.failure(f"did not answer within {self._start_seconds:g} s")
        return False

    def _stop(self) -> None:
        child, self._child = self._running, None
        child.end()


class _Child:
    """One process: begun when it is made, until `end`."""

    def __init__(self, python: str, port: int, models: LocalModels) -> None:
        self.url = f"http://{_HOST}:{port}"
        self.key = f"sk-{secrets.token_hex(24)}"
        self._port = port
        self._python = python
        self._hidden = tuple(models.secrets.values())
        self._folder = TemporaryDirectory(prefix="looopy-proxy-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        self.log = folder / "log"
        config = folder / "config.yaml"
        config.write_text(json.dumps(models.configuration), encoding="utf-8")  # JSON is YAML
        try:
            with self.log.open("wb") as output:
                self.process = subprocess.Popen(  # noqa: S603  the interpreter that the user named
                    [
                        python,
                        "-c",
                        _LAUNCH,
                        _MODULE,
                        "--config",
                        str(config),
                        "--host",
                        _HOST,
                        "--port",
                        str(port),
                    ],
                    env=_environment(self.key, models.secrets),
                    cwd=folder,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a Ctrl-C in the terminal is for us: we end it
                )
        except OSError as error:
            self._folder.cleanup()
            raise ConfigurationError(
                f"the python of the local proxy, {python!r}, cannot be run: {error.strerror}",
                argument="python",
            ) from error

    def answers(self) -> bool:
        """Whether the proxy is there and knows its key: so it is this one, and no other on the same port."""
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=_ANSWER)
        try:
            connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {self.key}"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def tail(self) -> str:
        """The end of its log, without credentials."""
        said = self.log.read_text(encoding="utf-8", errors="replace").strip()
        return redact(said, self.key, *self._hidden, *values())[-_TOLD:]

    def failure(self, what: str = "") -> LooopyError:
        """What it means that it has ended, or else what it did."""
        said = self.tail()
        if self.process.poll() is not None and _NOT_INSTALLED.search(said):
            return MissingExtra(
                f"LocalProxy, run by {self._python},", needs="the LiteLLM proxy", extra="proxy"
            )
        what = what or f"ended with status {self.process.returncode}"
        return ProxyUnreachable(
            f"the LiteLLM proxy at {self.url}, a child process of this one, {what}; the end of its log:\n{said or '(it is empty)'}",
            url=self.url,
        )

    def end(self) -> None:
        """End it: politely, so that it can send what it has logged, and soon."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_GOODBYE)
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None, "it has a pipe there"
        self.process.stdin.close()
        self._folder.cleanup()


def _environment(key: str, hidden: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not _LEFT_OUT.fullmatch(name)}
    ours = {
        "LITELLM_MASTER_KEY": key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the network for prices
        "LITELLM_MODE": "PRODUCTION",  # else it reads whatever file .env lies above it
        "LITELLM_TELEMETRY": "False",
    }
    return {**kept, **ours, **hidden}


def _free(port: int) -> int:
    """The port, if nobody listens on it; any such one for 0. Asked before, since LiteLLM takes another where 4000 is taken.

    Raises:
        ConfigurationError: somebody does, or it is no port.
    """
    with socket.socket() as probe:
        # On POSIX that leaves out connections which are still closing, and nothing else.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name == "posix")
        try:
            probe.bind((_HOST, port))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigurationError(
                f"port {port} of {_HOST} cannot be used ({why}): choose another one, or 0 for any that is free",
                argument="port",
            ) from error
        return int(probe.getsockname()[1])
