"""Which project of which Langfuse server this process reports to: keys, address, environment, release, sampling.

A value, checked when it is made, and read from the variables that the `langfuse` package reads too. Nothing here does I/O. Credentials are
in `headers` alone, never in a text.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from looopy.errors import ConfigurationError
from looopy.observe import attributes as a
from looopy.observe.langfuse.chat import chat_view
from looopy.observe.switches import switched_off
from looopy.redaction import redact

if TYPE_CHECKING:
    from looopy.observe.sending.otlp import OTLPExporter

CLOUD = "https://cloud.langfuse.com"

_ENVIRONMENT = "langfuse.environment"
_RELEASE = "langfuse.release"
_COST = "langfuse.observation.cost_details"
_FREE = '{"total":0}'  # a `gen_ai.usage.cost` of 0 is no cost to Langfuse: it would reckon one by its list of prices
_LOW = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A project on a Langfuse server.

    Attributes:
        public_key: `pk-lf-…`, from the project's settings.
        secret_key: `sk-lf-…`, from there too.
        base_url: the server's address without a path of its pages.
        environment: for example "production"; empty for Langfuse's default.
        release: which release of your program this is, for example a commit; optional.
        sample_rate: which share of traces Langfuse gets, from 0 to 1.

    Raises:
        ConfigurationError: one of them cannot work; the message says which and the mend.
    """

    public_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    base_url: str = CLOUD
    environment: str = ""
    release: str = ""
    sample_rate: float = 1.0

    def __post_init__(self) -> None:
        _check_keys(self.public_key, self.secret_key)
        object.__setattr__(self, "base_url", _server(self.base_url))
        if self.environment and not re.fullmatch(r"(?!langfuse)[a-z0-9_-]{1,40}", self.environment):
            raise ConfigurationError(
                f"LANGFUSE_TRACING_ENVIRONMENT is {self.environment!r}, and Langfuse would file it under 'default': use up to 40 of a-z, 0-9, "
                "- and _, not beginning with 'langfuse'",
                argument="LANGFUSE_TRACING_ENVIRONMENT",
            )
        if not 0 <= self.sample_rate <= 1:
            raise _no_rate(self.sample_rate)

    @classmethod
    def from_environment(cls) -> Account | None:
        """The account that the variables name; None where there are no keys, or `LANGFUSE_TRACING_ENABLED` is "false".

        The variables: `LANGFUSE_PUBLIC_KEY`, `LANGFUSE_SECRET_KEY`, `LANGFUSE_BASE_URL` (or the older `LANGFUSE_HOST`),
        `LANGFUSE_TRACING_ENVIRONMENT`, `LANGFUSE_RELEASE`, `LANGFUSE_SAMPLE_RATE`.

        Raises:
            ConfigurationError: only one key is set, or a variable cannot work.
        """
        public_key, secret_key = _variable("LANGFUSE_PUBLIC_KEY"), _variable("LANGFUSE_SECRET_KEY")
        if switched_off() or not (public_key or secret_key):
            return None
        rate = _variable("LANGFUSE_SAMPLE_RATE") or "1"
        try:
            sample_rate = float(rate)
        except ValueError:
            raise _no_rate(rate) from None
        return cls(
            public_key=public_key,
            secret_key=secret_key,
            base_url=_variable("LANGFUSE_BASE_URL") or _variable("LANGFUSE_HOST") or CLOUD,
            environment=_variable("LANGFUSE_TRACING_ENVIRONMENT"),
            release=_variable("LANGFUSE_RELEASE"),
            sample_rate=sample_rate,
        )

    @property
    def endpoint(self) -> str:
        """Where spans go by OTLP over HTTP. (Langfuse takes traces alone: metrics it would discard, logs it has no place for.)"""
        return f"{self.base_url}/api/public/otel/v1/traces"

    def trace_url(self, trace_id: str) -> str:
        """Where a person looks at a trace: a page of Langfuse that knows the project."""
        return f"{self.base_url}/trace/{trace_id}"

    @property
    def headers(self) -> dict[str, str]:
        """What authenticates, and asks for spans to be shown at once."""
        login = base64.b64encode(f"{self.public_key}:{self.secret_key}".encode()).decode()
        return {"Authorization": f"Basic {login}", "x-langfuse-ingestion-version": "4"}

    def exporter(self, **headers: str) -> OTLPExporter:
        """What sends spans there.

        Args:
            **headers: more of them, with `_` for `-`.
        """
        from looopy.observe.sending.otlp import OTLPExporter  # noqa: PLC0415  the SDK is an extra

        return OTLPExporter(
            self.endpoint,
            headers=self.headers | {name.replace("_", "-"): text for name, text in headers.items()},
            compression="gzip",
            rewrite=self.rewrite,
            name="Langfuse",
        )

    def hide(self, text: str) -> str:
        """The text without credentials."""
        return redact(text, self.secret_key, self.public_key)

    def samples(self, trace_id: int) -> bool:
        """Whether Langfuse gets this trace.

        The answer is that of OpenTelemetry's `TraceIdRatioBased` sampler for the same rate: where both are asked, no trace is lost twice.
        """
        return trace_id & _LOW < round(self.sample_rate * (_LOW + 1))

    def rewrite(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        """A span's attributes as Langfuse shall get them: messages as its chat view reads them, the environment, the release.

        What a span says itself goes before; the attributes that are given stay as they are.
        """
        seen = chat_view(attributes)
        own = {
            name: value
            for name, value in (
                (_ENVIRONMENT, self.environment),
                (_RELEASE, self.release),
                (_COST, _FREE if attributes.get(a.COST) == 0 else ""),
            )
            if value and name not in seen
        }
        return {**seen, **own} if own else seen


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()


def _no_rate(rate: object) -> ConfigurationError:
    return ConfigurationError(
        f"LANGFUSE_SAMPLE_RATE is {rate!r}: it is a number from 0 (nothing) to 1 (every trace)",
        argument="LANGFUSE_SAMPLE_RATE",
    )


def _check_keys(public_key: str, secret_key: str) -> None:
    for variable, key, other, kind in (
        ("LANGFUSE_PUBLIC_KEY", public_key, secret_key, "pk-lf-"),
        ("LANGFUSE_SECRET_KEY", secret_key, public_key, "sk-lf-"),
    ):
        if not key:
            given = "LANGFUSE_SECRET_KEY" if variable == "LANGFUSE_PUBLIC_KEY" else "LANGFUSE_PUBLIC_KEY"
            what = f"{given} is set and {variable} is not" if other else f"{variable} is empty"
            raise ConfigurationError(
                f"{what}: Langfuse needs both keys, which are made together in the project's settings",
                argument=variable,
            )
        if key.startswith(("pk-lf-", "sk-lf-")) and not key.startswith(kind):
            raise ConfigurationError(
                f"{variable} holds a key that begins with {key[:6]!r}: the one that begins with {kind!r} belongs there, so swap the two",
                argument=variable,
            )
        if not re.fullmatch(r"[!-9;-~]+", key):  # a colon would end the public key in Basic authentication
            raise ConfigurationError(
                f"{variable} holds a space, a line break, a colon or a character that is not ASCII: was it copied whole?",
                argument=variable,
            )


_PAGES = re.compile(r"(?i)/(?:project|organization|auth|setup|trace|public|account|api/public)(?:/.*)?$")
"""Paths of Langfuse's own pages and of its API, which people copy from the browser or from a manual."""


def _server(url: str) -> str:
    """The server's address as requests need it: no slash at its end."""

    def error(mend: str) -> ConfigurationError:
        shown = re.sub(r"//[^/]*@", "//***@", re.sub(r"[?#].*", "?…", url, flags=re.DOTALL))
        return ConfigurationError(f"LANGFUSE_BASE_URL is {shown!r}: {mend}", argument="LANGFUSE_BASE_URL")

    try:
        parts = urlsplit(url)
        host = parts.hostname and (parts.port or 1) > 0
    except ValueError:
        raise error(f"that is no URL; it should be like {CLOUD!r}") from None
    if parts.scheme not in ("http", "https"):
        raise error(f"it needs http:// or https:// before it, for example {CLOUD!r}")
    if not host or not re.fullmatch(r"[!-~]+", url):
        raise error(f"that is no URL; it should be like {CLOUD!r}")
    if "@" in parts.netloc:
        raise error(
            "leave out what is before the '@'; the keys go into LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY"
        )
    root = f"{parts.scheme}://{parts.netloc}{_PAGES.sub('', parts.path.rstrip('/'))}"
    if root != url.rstrip("/"):
        raise error(f"that is one of its pages; the server's address is {root!r}")
    return root
