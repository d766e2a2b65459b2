"""What came of an export, in words that say the mend.

An exporter works in the background, where nobody sees it fail. So each way to fail has a name (`kind`), a sentence about what was seen, and one about
what to change. Nothing here sends anything, and no text here shows a credential.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

import httpx

from looopy.errors import words
from looopy.redaction import redact

_TRACES = "/v1/traces"
_LANGFUSE_TRACES = "/api/public/otel/v1/traces"
_RETRIED = frozenset({429, 502, 503, 504})  # by the OTLP specification: these, and no other


@dataclass(frozen=True, slots=True)
class Settings:
    """What the reader of a mend has to change: the names of arguments or of variables.

    Attributes:
        endpoint: holds the URL.
        headers: holds the credentials.
        timeout: holds the seconds.
        certificate: holds the file of the certificate authority.
        appended: the path that is added to what `endpoint` holds.
    """

    endpoint: str = "endpoint="
    headers: str = "headers="
    timeout: str = "timeout="
    certificate: str = "certificate="
    appended: str = ""


LANGFUSE = Settings(
    endpoint="LANGFUSE_BASE_URL",
    headers="LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY",
    certificate="SSL_CERT_FILE",
    appended=_LANGFUSE_TRACES,
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where spans are sent, as far as a text may know it.

    Attributes:
        url: the address without credentials and query.
        settings: what holds it.
        langfuse: whether Langfuse is there.
        authorized: whether a credential is sent.
        seconds: how long an answer is waited for.
        secrets: what no text may show.
    """

    url: str
    settings: Settings = Settings()
    langfuse: bool = False
    authorized: bool = False
    seconds: float = 10.0
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def port(self) -> int | None:
        """The port, where the URL names one."""
        return urlsplit(self.url).port

    def set_to(self, url: str) -> str:
        """The advice to send to this URL."""
        return f"set {self.settings.endpoint} to {url.removesuffix(self.settings.appended)!r}"

    def quoted(self, text: str, *, opening: str = "The server says") -> str:
        """A sentence of what a server said: in one line, short, without credentials; empty if that is nothing."""
        line = " ".join(redact(text, *self.secrets).split())
        return f" {opening}: {line[:300] + '…' * (len(line) > 300)!r}." if line else ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as words; empty where it is a web page."""
        if self.is_page:
            return ""
        if "protobuf" in self.headers.get("content-type", ""):
            # A refusal in protobuf is a google.rpc.Status: the longest text in it is its message.
            return max(re.findall(rb"[ -~]{4,}", self.body), key=len, default=b"").decode()
        return self.body.decode("utf-8", "replace")

    @property
    def is_page(self) -> bool:
        """Whether this is for a browser."""
        start = self.body[:200].lstrip().lower()
        return "text/html" in self.headers.get("content-type", "") or start.startswith(
            (b"<!doctype", b"<html")
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """Why spans did not arrive; or, with `spans` 0, what else there is to say of them.

    Attributes:
        kind: names the way to fail; each is said once.
        words: what was seen, and the mend.
        spans: how many are lost by it.
        status: the HTTP status; 0 where there was no answer.
        retry: whether the same may work in a moment.
        retry_after: seconds that the server asks to wait; None when it does not say.
        unreachable: whether nothing answered at all.
    """

    kind: str
    words: str
    spans: int = 0
    status: int = 0
    retry: bool = False
    retry_after: float | None = None
    unreachable: bool = False


# ------------------------------------------------------------------------------------------------------------ an answer
def of_answer(target: Target, answer: Answer) -> Failure | None:
    """Read an answer: None if the spans were taken, as a whole or in part.

    Args:
        target: where they were sent.
        answer: what came back.
    """
    status = answer.status
    if 200 <= status < 300:
        return _page(target, answer) if answer.is_page else None
    if 300 <= status < 400:
        return _redirected(target, answer)
    kind, what = _REFUSALS.get(status, ("broken" if status >= 500 else "refused", _other))
    return Failure(
        kind,
        f"{what(target, answer)}{target.quoted(answer.text)}",
        status=status,
        retry=status in _RETRIED,
        retry_after=_retry_after(answer),
    )


def _page(target: Target, answer: Answer) -> Failure:
    title = re.findall(r"(?is)<title[^>]*>(.*?)</title", answer.body.decode("utf-8", "replace"))
    called = target.quoted(title[0], opening="Its title") if title else ""
    return Failure(
        "page",
        f"a web page answered, so a user interface, a login or a proxy stands there and no receiver of OTLP: {_path(target)}.{called}",
        status=answer.status,
    )


def _redirected(target: Target, answer: Answer) -> Failure:
    to = shown(urljoin(target.url, answer.headers.get("location", "")))
    mend = target.set_to(to) if to != target.url else "the server does not say to where"
    login = " That looks like a login: the path is not open to programs." if _LOGIN.search(to) else ""
    return Failure(
        "redirect",
        f"it answered {answer.status}, a redirect, which is not followed since it would take the credentials along: {mend}.{login}",
        status=answer.status,
    )


_LOGIN = re.compile(r"log-?in|sign-?in|oauth|auth/|sso", re.IGNORECASE)


def _unauthorized(target: Target, answer: Answer) -> str:
    settings = target.settings
    if not target.authorized:
        return f"it wants a credential ({answer.status}), and none is sent: set {settings.headers}{_example(target)}."
    if target.langfuse:
        return (
            f"the keys were refused ({answer.status}): {settings.headers} must hold the public and the secret key of one project, "
            "of the same region or server (the EU's is https://cloud.langfuse.com, the US's https://us.cloud.langfuse.com)."
        )
    return f"the credential was refused ({answer.status}): check {settings.headers}{_example(target)}."


def _example(target: Target) -> str:
    if "OTEL" not in target.settings.headers:
        return ""
    value = "Basic%20…, the base64 of public:secret key" if target.langfuse else "Bearer%20…"
    return f" (authorization={value}; a space is written %20)"


def _not_found(target: Target, answer: Answer) -> str:
    return f"nothing takes traces at this path ({answer.status}): {_path(target)}."


def _path(target: Target) -> str:
    """The advice for a wrong path."""
    url = target.url
    if url.endswith(_TRACES * 2):
        return f"{target.settings.endpoint} must not hold {_TRACES}, which is added to it: {target.set_to(url.removesuffix(_TRACES))}"
    if target.langfuse and not url.endswith(_LANGFUSE_TRACES):
        parts = urlsplit(url)
        return target.set_to(f"{parts.scheme}://{parts.netloc}{_LANGFUSE_TRACES}")
    if not url.endswith(_TRACES):
        return f"the path of traces is {_TRACES}: {target.set_to(url.rstrip('/') + _TRACES)}"
    if target.langfuse:
        return (
            f"check {target.settings.endpoint}; a Langfuse of your own takes OpenTelemetry since version 3.22"
        )
    return (
        f"check host and port in {target.settings.endpoint} (a collector takes OTLP over HTTP at port 4318)"
    )


def _bad(target: Target, answer: Answer) -> str:
    if "https" in answer.text.lower():
        return f"it wants TLS (400): {target.set_to(target.url.replace('http://', 'https://', 1))}."
    return "it refused the spans as malformed (400); if its text does not help, please report this to looopy."


def _too_large(_: Target, answer: Answer) -> str:
    return (
        f"a batch of spans is larger than it takes ({answer.status}): raise the server's limit (nginx: client_max_body_size), "
        "or capture less content; OTEL_BSP_MAX_EXPORT_BATCH_SIZE makes batches smaller."
    )


def _wrong_type(_: Target, answer: Answer) -> str:
    return (
        f"it does not take protobuf ({answer.status}), in which looopy sends: "
        "let an OpenTelemetry collector stand between, or choose the server's path for OTLP in http/protobuf."
    )


def _overloaded(_: Target, answer: Answer) -> str:
    return f"it is overloaded or down ({answer.status}), also after waiting: see to the server, or sample fewer traces."


def _limited(_: Target, answer: Answer) -> str:
    return f"it takes no more for now ({answer.status}): sample fewer traces, or raise your limit there."


def _other(_: Target, answer: Answer) -> str:
    where = "see the server's own log" if answer.status >= 500 else "the server does not want them"
    return f"it answered {answer.status}: {where}."


_REFUSALS: Mapping[int, tuple[str, Callable[[Target, Answer], str]]] = {
    400: ("malformed", _bad),
    401: ("unauthorized", _unauthorized),
    403: ("unauthorized", _unauthorized),
    404: ("not-found", _not_found),
    405: ("not-found", _not_found),
    413: ("too-large", _too_large),
    415: ("wrong-type", _wrong_type),
    429: ("limited", _limited),
    502: ("overloaded", _overloaded),
    503: ("overloaded", _overloaded),
    504: ("overloaded", _overloaded),
}


def _retry_after(answer: Answer) -> float | None:
    """Seconds, from a number or a date."""
    value = answer.headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


# ------------------------------------------------------------------------------------------------------------ no answer
def of_error(target: Target, error: Exception) -> Failure:
    """Read why there was no answer.

    Args:
        target: where spans were sent.
        error: what the HTTP client raised.
    """
    settings, host = target.settings, urlsplit(target.url).hostname
    grpc = " Port 4317 is for gRPC: OTLP over HTTP, which looopy speaks, is at port 4318." * (
        target.port == 4317
    )
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return Failure(
                    "certificate",
                    f"its certificate is not trusted ({cause.verify_message}): set {settings.certificate} to the file of the authority that signed it.",
                    unreachable=True,
                )
            case ssl.SSLError():
                plain = target.set_to(target.url.replace("https://", "http://", 1))
                return Failure(
                    "tls",
                    f"no TLS connection came about ({cause.reason or 'no reason given'}): if the server speaks plain HTTP, {plain}.{grpc}",
                    unreachable=True,
                )
            case socket.gaierror():
                return Failure(
                    "unknown-host",
                    f"no such host as {host!r} is known: check the name in {settings.endpoint}.",
                    retry=True,
                    unreachable=True,
                )
            case ConnectionRefusedError():
                return Failure(
                    "refused-connection",
                    f"nobody listens there (connection refused): start the receiver, or set {settings.endpoint} to where it is; "
                    "a container must publish the port.",
                    retry=True,
                    unreachable=True,
                )
            case httpx.ConnectTimeout():
                return Failure(
                    "timeout",
                    f"no connection within {target.seconds:g} s: check host and port in {settings.endpoint}, and what firewall is between.",
                    unreachable=True,
                )
            case httpx.TimeoutException():
                return Failure(
                    "timeout",
                    f"no answer within {target.seconds:g} s: see to the server, or raise {settings.timeout}.{grpc}",
                    unreachable=True,
                )
            case httpx.RemoteProtocolError() if "disconnected" not in str(cause):
                return Failure(
                    "no-http",
                    "what answers there is no HTTP/1.1 server: "
                    + (
                        grpc.strip()
                        or f"check the port in {settings.endpoint}; OTLP over HTTP is at 4318, gRPC at 4317."
                    ),
                )
            case _:
                pass
    if isinstance(error, httpx.TransportError):
        return Failure(
            "broken-connection",
            f"the connection failed ({_clean(target, error)}): see to the server, or to the proxy between.{grpc}",
            retry=True,
            unreachable=True,
        )
    return Failure("unsent", f"they could not be sent: {_clean(target, error)}.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """What a client's error was raised from, the first cause first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return reversed(chain)


def _clean(target: Target, error: Exception) -> str:
    return " ".join(redact(words(error), *target.secrets).split())[:300].rstrip(".")


def shown(url: str) -> str:
    """A URL without user, password, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
