"""Where spans go: the URL, the headers, and what the standard variables of OpenTelemetry say of both.

Read as the specification's "OpenTelemetry Protocol Exporter" says, with what opentelemetry-python makes of it where the two differ: a timeout is in
seconds there, and in milliseconds in the specification.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from looopy.errors import ConfigurationError
from looopy.observe.sending.diagnosis import Settings

_log = logging.getLogger("looopy.observe")

Compression = Literal["none", "gzip"]

ENDPOINT = "http://localhost:4318/v1/traces"
TIMEOUT = 10.0  # seconds
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t -~]*")


@dataclass(frozen=True, slots=True)
class Address:
    """One checked destination.

    Attributes:
        url: without user and password.
        headers: all that is sent to it, names in lower case.
        secrets: what no text may show.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)


def address(endpoint: str, headers: Mapping[str, str], settings: Settings) -> Address:
    """Check a destination. A user and password in the URL become a header, which no log shows.

    Raises:
        ConfigurationError: no request can be made of it.
    """
    parts = _split(endpoint.strip(), settings)
    login, _, host = parts.netloc.rpartition("@")
    sent = _checked(headers, settings)
    if login and "authorization" not in sent:
        sent["authorization"] = f"Basic {base64.b64encode(unquote(login).encode()).decode()}"
    return Address(
        url=parts._replace(netloc=host, fragment="").geturl(), headers=sent, secrets=_secrets(parts, sent)
    )


def _secrets(parts: SplitResult, headers: Mapping[str, str]) -> tuple[str, ...]:
    """What is sent along and opens something: all that headers say, since nobody knows which of them is a key, and what a URL has but its address."""
    # The scheme of a credential is no secret, and a single letter would be starred all over a text.
    said = (value.rpartition(" ")[2] if _SECRET.search(name) else value for name, value in headers.items())
    asked = (value for _, value in parse_qsl(parts.query))
    login = parts.netloc.rpartition("@")[0]
    hidden = (*said, login, unquote(login), unquote(parts.password or ""), parts.query, *asked)
    return tuple(dict.fromkeys(text for text in hidden if len(text) > 3))


def secrets_of_metrics() -> tuple[str, ...]:
    """What no text may show of where the environment sends metrics."""
    try:
        parts = urlsplit(_variable("ENDPOINT", "METRICS_")[0])
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    pairs = [pair.partition("=") for pair in _variable("HEADERS", "METRICS_")[0].split(",")]
    as_written = {name.strip().lower(): value.strip() for name, _, value in pairs}
    as_sent = {name: unquote(value) for name, value in as_written.items()}
    return (*_secrets(parts, as_written), *_secrets(parts, as_sent))


def _split(endpoint: str, settings: Settings) -> SplitResult:
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        parts, usable = SplitResult("", "", "", "", ""), False
    if usable and re.fullmatch(r"[!-~]+", endpoint):
        return parts
    what = settings.endpoint.rstrip("=")
    seen = re.sub(r".*@", "***@", re.sub(r"[?#].*", "?…", endpoint, flags=re.DOTALL), flags=re.DOTALL)
    raise ConfigurationError(
        f"{what} is {seen.removesuffix(settings.appended)!r}, no URL of http or https: "
        f"it should be like 'http://localhost:4318{'' if settings.appended else '/v1/traces'}'",
        argument=what,
    )


_SECRET = re.compile(r"auth|key|token|secret|password|cookie")


def _checked(headers: Mapping[str, str], settings: Settings) -> dict[str, str]:
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            what = settings.headers.rstrip("=")
            raise ConfigurationError(
                f"{what}: the header {name!r} holds a line break or a character that HTTP does not take; was its value copied whole?",
                argument=what,
            )
    return {name.lower(): value.strip() for name, value in headers.items()}


def tls(
    certificate: str | None, client_key: str | None, client_certificate: str | None, settings: Settings
) -> ssl.SSLContext | None:
    """What to trust and what to show; None for the usual authorities and no certificate of our own.

    Raises:
        ConfigurationError: a file is missing, is none of these, or lacks its other half.
    """
    if client_key and not client_certificate:
        raise ConfigurationError(
            "client_key= needs client_certificate= too: the certificate that the key belongs to",
            argument="client_key",
        )
    if not certificate and not client_certificate:
        return None
    try:
        context = ssl.create_default_context(cafile=certificate)
        if client_certificate:
            context.load_cert_chain(client_certificate, client_key)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(
            f"the certificates for {settings.endpoint.rstrip('=')} cannot be used ({error.strerror or error}): "
            f"check the files {', '.join(repr(name) for name in (certificate, client_certificate, client_key) if name)}",
            argument=settings.certificate.rstrip("="),
        ) from error
    return context


# ----------------------------------------------------------------------------------------------------------- environment
@dataclass(frozen=True, slots=True)
class Environment:
    """What OTEL_EXPORTER_OTLP_* say for traces, where OTEL_EXPORTER_OTLP_TRACES_* say nothing else."""

    endpoint: str
    headers: Mapping[str, str] = field(repr=False)
    timeout: float
    compression: Compression
    certificate: str | None
    client_key: str | None
    client_certificate: str | None
    settings: Settings


def environment() -> Environment:
    """Read the variables. An empty one counts as unset.

    Raises:
        ConfigurationError: the protocol is one that looopy does not speak.
    """
    _check_protocol(*_variable("PROTOCOL"))
    endpoint, endpoint_from = _variable("ENDPOINT")
    appended = "" if endpoint_from.endswith("TRACES_ENDPOINT") else "/v1/traces"
    headers, headers_from = _variable("HEADERS")
    timeout, timeout_from = _variable("TIMEOUT")
    certificate, certificate_from = _variable("CERTIFICATE")
    compression, compression_from = _variable("COMPRESSION")
    return Environment(
        endpoint=_with_path(endpoint or "http://localhost:4318", appended),
        headers=parse_headers(headers, headers_from),
        timeout=_seconds(timeout, timeout_from),
        compression=_compression(compression, compression_from),
        certificate=certificate or None,
        client_key=_variable("CLIENT_KEY")[0] or None,
        client_certificate=_variable("CLIENT_CERTIFICATE")[0] or None,
        settings=Settings(endpoint_from, headers_from, timeout_from, certificate_from, appended),
    )


def _variable(name: str, of: str = "TRACES_") -> tuple[str, str]:
    """A setting, and the variable that it comes from or would come from."""
    for variable in (f"OTEL_EXPORTER_OTLP_{of}{name}", f"OTEL_EXPORTER_OTLP_{name}"):
        if value := os.environ.get(variable, "").strip():
            return value, variable
    return "", f"OTEL_EXPORTER_OTLP_{name}"


def _check_protocol(protocol: str, variable: str) -> None:
    if protocol == "grpc":
        raise ConfigurationError(
            f"{variable} is 'grpc', which looopy does not speak: set it to 'http/protobuf' and the endpoint to port 4318 (gRPC's is 4317), "
            "or pass exporters=[…] with an exporter of your own",
            argument=variable,
        )
    if protocol == "http/json":
        _log.warning("%s is 'http/json': looopy sends 'http/protobuf', to the same address", variable)
    elif protocol not in ("", "http/protobuf"):
        raise ConfigurationError(
            f"{variable} is {protocol!r}: it should be 'http/protobuf'", argument=variable
        )


def _with_path(endpoint: str, path: str) -> str:
    if not path:
        return endpoint
    base, mark, query = endpoint.partition("?")
    return f"{base.rstrip('/')}{path}{mark}{query}"


def parse_headers(text: str, variable: str) -> dict[str, str]:
    """Headers from `name=value,name=value`, percent-encoded. What is no such pair is left out and said, without its value."""
    headers: dict[str, str] = {}
    for number, pair in enumerate(filter(str.strip, text.split(",")), start=1):
        name, equals, value = pair.partition("=")
        if equals and _TOKEN.fullmatch(unquote(name).strip()):
            headers[unquote(name).strip().lower()] = unquote(value).strip()
        else:
            _log.warning("%s: header %d is not like name=value, and is left out", variable, number)
    return headers


def _seconds(text: str, variable: str) -> float:
    try:
        seconds = float(text or TIMEOUT)
    except ValueError:
        seconds = 0.0
    if 0 < seconds < float("inf"):
        return seconds
    _log.warning("%s is %r, no number of seconds above 0: %g is taken", variable, text[:40], TIMEOUT)
    return TIMEOUT


def _compression(text: str, variable: str) -> Compression:
    match text.lower():
        case "gzip":
            return "gzip"
        case "" | "none":
            return "none"
        case _:
            _log.warning(
                "%s is %r: looopy knows 'gzip' and 'none', and sends uncompressed", variable, text[:40]
            )
            return "none"
