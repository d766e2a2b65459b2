"""What a proxy says when it does not answer, as looopy's typed errors.

Two ways in: an HTTP status with a body, and an error inside a stream. LiteLLM's own `type` and `code` mislead (a timeout is an
`invalid_request_error`), so the status decides and the exception's name in the message refines; facts from LiteLLM 1.106 and 1.109. Every
text names the URL, the model, where the value came from, and the mend, and holds no credential. Nothing here does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from email.utils import parsedate_to_datetime

from pydantic_core import from_json, to_json

from looopy.errors import (
    AuthenticationFailed,
    ContentRefused,
    ContextTooLong,
    ModelError,
    ModelFailed,
    ModelOverloaded,
    ModelRejected,
    ModelTimeout,
    NoEmbeddings,
    ProxyUnreachable,
    StreamBroken,
    UnknownModel,
    UnsupportedParameter,
)
from looopy.messages import JSON
from looopy.providers.address import Address
from looopy.providers.calls import as_list, as_object, as_text
from looopy.providers.chat import dollars

_SHOWN = 500  # characters of a server's text in a message
_KEPT = 2_000  # characters of it in `body`
_OFFERED = 10  # models named in a message

_BY_STATUS: Mapping[int, type[ModelError]] = {
    401: AuthenticationFailed,
    403: AuthenticationFailed,
    408: ModelTimeout,
    429: ModelOverloaded,
    503: ModelOverloaded,
    529: ModelOverloaded,
}
# In a 400, 404, 413 or 422; the first one whose words are in the text wins.
_BY_WORDS: tuple[tuple[type[ModelError], tuple[str, ...]], ...] = (
    (AuthenticationFailed, ("no_db_connection",)),
    (ContextTooLong, ("contextwindowexceedederror", "context_length_exceeded", "maximum context length")),
    (
        ContentRefused,
        ("contentpolicyviolationerror", "content_policy_violation", "content management policy"),
    ),
    (UnsupportedParameter, ("unsupportedparamserror", "unsupported_parameter")),
    (
        UnknownModel,
        ("no healthy deployment", "invalid model name", "model_not_found", "llm provider not provided"),
    ),
)
_NO_EMBEDDINGS = (
    "not allowed to generate embeddings",  # OpenAI, with 403
    "unmapped llm provider for this endpoint",  # LiteLLM, for Anthropic, DeepSeek, xAI, …
    "not supported for embedcontent",  # Gemini, with 404
    "embedding provider for model",  # LiteLLM, for Bedrock, with 500
    "does not support embeddings",
    "embeddings operation does not work",  # Azure
)
"""How a model that is not for embeddings says so, whatever the status."""
# Errors in a stream often have a word for a code; in this order, since "rate_limit_error" is one too.
_STATUS_OF_WORD = (
    ("rate_limit", 429),
    ("insufficient_quota", 429),
    ("overloaded", 529),
    ("authentication", 401),
    ("timeout", 408),
)
_FOR_GOOD = ("insufficient_quota", "budget_exceeded", "exceededbudget")
"""Refusals with 429 that no waiting mends."""

_MEND: Mapping[type[ModelError], str] = {
    ContextTooLong: "Shorten the conversation or the tools' results, or choose a model with a longer context.",
    ContentRefused: "The provider's content policy refuses this request; change what is asked.",
    ModelRejected: "The request itself is refused: sending it again does not help.",
    ModelFailed: "The proxy or the provider broke; trying again may help.",
    NoEmbeddings: "It gives no embeddings: name a model that does, for example 'text-embedding-3-small', or give one as fallback_model.",
    ModelTimeout: "Give it longer, or ask for less.",
    UnsupportedParameter: "Leave it out: of the provider's arguments, of extra_params, or of the request's params.",
}
_ADVICE = re.compile(r"\s*(?:\n\nLiteLLM: model group|Received Model Group=).*", re.DOTALL)
_MARKUP = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_TRY_AGAIN = re.compile(r"(?:try again|retry) (?:in|after) (\d+(?:\.\d+)?) ?(ms|s|m|h|d)?", re.IGNORECASE)
_PARAMETERS = re.compile(r"parameters: ?(\[[^\]]*\]|\{[^}]*\})")


@dataclass(frozen=True, slots=True)
class Asked:
    """What an error must name.

    Attributes:
        model: the model that was asked for.
        url: the URL that was called.
        address: the proxy and where its URL came from.
        call_id: the proxy's id of the call, or ours while it has not said.
    """

    model: str
    url: str
    address: Address
    call_id: str = ""

    @property
    def whom(self) -> str:
        """The model in a sentence; nothing for a look at the proxy, which asks no model."""
        return f" for model {self.model!r}" if self.model else ""

    @property
    def embeds(self) -> bool:
        """Whether embeddings were asked for."""
        return self.url == self.address.embeddings

    @property
    def whence(self) -> str:
        """Where the address came from."""
        return f"The address came from {self.address.source.removesuffix('=')}."


def unreachable(asked: Asked, reason: str) -> ProxyUnreachable:
    """No connection came about, or it ended before an answer began."""
    return ProxyUnreachable(
        f"LiteLLM API error: could not connect to {asked.url} ({asked.address.hide(reason)}).\n"
        f"  Is the proxy running? Try: curl {asked.address.root}/health/liveliness\n"
        f"  To start one: looopy proxy --model {asked.model or 'gpt-4o-mini'}\n  {asked.whence}",
        model=asked.model,
        url=asked.url,
        call_id=asked.call_id,
    )


def timed_out(asked: Asked, clock: str, seconds: float) -> ModelTimeout:
    """One of our clocks ran out."""
    whom = f"model {asked.model!r} at {asked.url}" if asked.model else asked.url
    what = {
        "connect": f"no connection to {asked.url} was there",
        "first-token": f"{whom} had said nothing",
        "between-tokens": f"{whom} fell silent in mid-answer",
        "call": f"{whom} had not finished",
    }[clock]
    field = clock.replace("-", "_")
    mend = f"  Give it longer: timeout=Timeouts({field}={seconds * 2:g})."
    if clock == "connect":
        mend = f"  Is the proxy running? Try: curl {asked.address.root}/health/liveliness\n  {asked.whence}"
    error = ModelTimeout(
        f"LiteLLM request timeout after {seconds:g} s ({clock}): {what}.\n{mend}",
        clock=clock,
        seconds=seconds,
        model=asked.model,
        url=asked.url,
    )
    error.call_id = asked.call_id
    return error


def broken(asked: Asked, reason: str, *, events_seen: int, status: int = 0) -> StreamBroken:
    """The answer began and did not end."""
    reason = asked.address.hide(reason)
    again = "" if events_seen else " Nothing was shown yet, so trying again is safe."
    after = f"{events_seen} event{'' if events_seen == 1 else 's'}"
    whose = f" of model {asked.model!r}" if asked.model else ""
    return StreamBroken(
        f"LiteLLM API error: the answer{whose} from {asked.url} broke off after {after}: "
        f"{reason[:_SHOWN]}.{again}",
        events_seen=events_seen,
        model=asked.model,
        url=asked.url,
        status=status,
        call_id=asked.call_id,
        body=reason[:_KEPT],
    )


def no_answer(asked: Asked, head: bytes, *, status: int = 200) -> ModelFailed:
    """A success that is no chat completion, or an empty one."""
    text = asked.address.hide(_plain(head.decode("utf-8", "replace")))
    came = f"it began with: {text[:_SHOWN]}" if text else "the body was empty"
    return ModelFailed(
        f"LiteLLM API error: {asked.url} answered HTTP {status}{asked.whom}, but with no answer in it; {came}\n"
        f"  A provider that broke looks so; trying again may help. Is the URL that of a LiteLLM proxy? {asked.whence}",
        model=asked.model,
        url=asked.url,
        status=status,
        call_id=asked.call_id,
        body=text[:_KEPT],
    )


def no_vectors(asked: Asked, reason: str) -> ModelFailed:
    """A success that is not a vector for each text."""
    return ModelFailed(
        f"LiteLLM API error: {asked.url} answered HTTP 200{asked.whom}, but not with a vector for each text: {reason[:_SHOWN]}\n"
        f"  A provider that broke looks so; trying again may help. Is the URL that of a LiteLLM proxy? {asked.whence}",
        model=asked.model,
        url=asked.url,
        status=200,
        call_id=asked.call_id,
    )


def other_dimensions(asked: Asked, wanted: int, given: int) -> UnsupportedParameter:
    """The vectors are of another length than was asked for: the proxy leaves out what a model does not take."""
    return UnsupportedParameter(
        f"LiteLLM API error: model {asked.model!r} at {asked.url} gave vectors of {given} numbers, not of dimensions={wanted}: it does not "
        f"take that parameter.\n  {_MEND[UnsupportedParameter]}",
        parameters=("dimensions",),
        model=asked.model,
        url=asked.url,
        status=200,
        call_id=asked.call_id,
    )


def text_too_long(error: ModelError, *, index: int, characters: int) -> ContextTooLong:
    """One text to embed does not fit by itself."""
    too_long = ContextTooLong(
        f"LiteLLM API error: texts[{index}], of {characters:,} characters, is too long for model {error.model!r} at {error.url}: "
        f"{error.body[:_SHOWN]}\n  Split it, or choose a model with a longer context.",
        model=error.model,
        url=error.url,
        status=error.status,
        call_id=error.call_id,
        body=error.body,
    )
    too_long.index = index
    return too_long


def refused(
    asked: Asked, status: int, headers: Mapping[str, str], body: bytes, *, offered: Sequence[str] = ()
) -> ModelError:
    """The typed error for an HTTP status other than 200.

    Args:
        asked: the call.
        status: the HTTP status.
        headers: of the answer, names in lower case.
        body: of the answer, whatever it is; JSON, text, HTML and nothing at all are understood.
        offered: the models that there are, where they are known.
    """
    text = body.decode("utf-8", "replace")
    try:
        parsed = as_object(from_json(body))
    except ValueError:
        parsed = {}
    error = parsed.get("error") or parsed.get("detail") or parsed.get("message") or _plain(text)
    where = f"HTTP {status} from {asked.url}"
    return _Refusal(asked, status, where, error, text, headers, "error" in parsed).typed(offered)


def refused_in_stream(asked: Asked, error: JSON) -> ModelError:
    """The typed error for an error in a stream before anything else; its `code` may be a status, a word, or missing."""
    fields = as_object(error)
    code = str(fields.get("code") or fields.get("status") or "")
    words = f"{code} {fields.get('type')}".lower()
    status = int(code) if re.fullmatch(r"[45][0-9][0-9]", code) else 0
    status = status or next((number for word, number in _STATUS_OF_WORD if word in words), 500)
    where = f"error {status} in the stream from {asked.url}"
    return _Refusal(asked, status, where, error, _words(error)).typed()


def said(error: JSON) -> str:
    """What an error says, in words, without LiteLLM's advice to whoever runs the proxy."""
    return _ADVICE.sub("", _words(error)).strip()


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What was said instead of an answer.

    Attributes:
        asked: the call.
        status: the HTTP status, or what stands for it.
        where: status and URL, for the text.
        error: the error as JSON.
        body: the whole text.
        headers: of the answer.
        structured: whether it has the shape of an API's error, so that something that speaks for models said it.
    """

    asked: Asked
    status: int
    where: str
    error: JSON
    body: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    structured: bool = True

    @property
    def text(self) -> str:
        """What it says, in words."""
        return self.asked.address.hide(said(self.error))

    @property
    def kind(self) -> type[ModelError]:
        """The class of error."""
        fields = as_object(self.error)
        words = f"{self.text} {fields.get('type')} {fields.get('code')}".lower()
        if self.asked.embeds and any(known in words for known in _NO_EMBEDDINGS):
            return NoEmbeddings
        if kind := _BY_STATUS.get(self.status):
            return kind
        for kind, known in _BY_WORDS:
            if any(word in words for word in known):
                return kind
        if self.status == 404 and self.structured:
            return UnknownModel
        return ModelFailed if self.status >= 500 else ModelRejected

    def typed(self, offered: Sequence[str] = ()) -> ModelError:
        """The error itself."""
        asked, kind, text = self.asked, self.kind, self.text
        wait = _wait(self.headers, text)
        opening = f"LiteLLM API error: {'request timeout upstream, ' if issubclass(kind, ModelTimeout) else ''}{self.where}"
        message = f"{opening}{asked.whom}: {text[:_SHOWN] or 'no text'}\n  {self._mend(kind, wait)}"
        if issubclass(kind, UnknownModel):
            error = UnknownModel(
                self._unknown(text, offered), model=asked.model, url=asked.url, offered=offered
            )
        elif issubclass(kind, ModelTimeout):
            seconds = dollars(self.headers.get("x-litellm-timeout")) or 0.0
            error = ModelTimeout(message, clock="call", seconds=seconds, model=asked.model, url=asked.url)
        elif issubclass(kind, UnsupportedParameter):
            parameters = _parameters(as_object(self.error), text)
            error = UnsupportedParameter(message, parameters=parameters, model=asked.model, url=asked.url)
        else:
            error = kind(message, model=asked.model, url=asked.url)
        error.status, error.call_id, error.retry_after = self.status, asked.call_id, wait
        error.body = asked.address.hide(self.body)[:_KEPT]
        if self.status == 429 and any(word in error.body.lower() for word in _FOR_GOOD):
            error.retryable = False
        return error

    def _unknown(self, text: str, offered: Sequence[str]) -> str:
        asked = self.asked
        mend = f"To see what it offers: curl {asked.address.root}/v1/models"
        if offered:
            more = f" and {len(offered) - _OFFERED} more" if len(offered) > _OFFERED else ""
            near = get_close_matches(asked.model, offered, n=1)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            mend = f"It offers: {', '.join(offered[:_OFFERED])}{more}.{guess}"
        return (
            f"LiteLLM API error: the proxy at {asked.address.root} has no model {asked.model!r} (HTTP {self.status}). {mend}\n"
            f"  It said: {text[:_SHOWN] or 'nothing'}\n  {asked.whence}"
        )

    def _mend(self, kind: type[ModelError], wait: float | None) -> str:
        source = self.asked.address.key_source.removesuffix("=")
        keyless = "" if source else "No API key was sent: set LITELLM_API_KEY, or pass the argument api_key."
        if kind is AuthenticationFailed:
            return keyless or f"The key came from {source}; is it one for this proxy and this model?"
        if kind is ModelOverloaded:
            return "Wait and try again." if wait is None else f"Wait {wait:g} s and try again."
        if kind is ModelFailed and not self.structured:
            # LiteLLM 1.106 without a database answers a request without a key with a bare 500.
            return f"{_MEND[kind]} {keyless}".rstrip()
        if 300 <= self.status < 400 or (self.status == 404 and not self.structured):
            what = "embeddings" if self.asked.embeds else "chat completions"
            return f"There are no {what} at this address; is it that of a LiteLLM proxy? {self.asked.whence}"
        return _MEND.get(kind, "")


def _words(error: JSON) -> str:
    if isinstance(error, str):
        return error
    fields = as_object(error)
    if text := as_text(fields.get("message")) or as_text(fields.get("msg")) or as_text(fields.get("error")):
        return text
    if parts := as_list(error):  # a validation error of FastAPI
        return "; ".join(f"{_words(part)} {as_object(part).get('loc') or ''}".strip() for part in parts)
    return to_json(error).decode()


def _plain(text: str) -> str:
    """A text or an HTML page as one line."""
    return " ".join(_MARKUP.sub(" ", text).split())


def _parameters(fields: dict[str, JSON], text: str) -> tuple[str, ...]:
    if found := _PARAMETERS.search(text):
        listed = found.group(1)
        return tuple(re.findall(r"'(\w+)'\s*:" if listed.startswith("{") else r"'(\w+)'", listed))
    if param := as_text(fields.get("param")):
        return (param,)
    return tuple(re.findall(r"support (\w+)=", text)[:1])


def _wait(headers: Mapping[str, str], text: str) -> float | None:
    """Seconds that the server asks to wait, wherever it says so.

    LiteLLM hands on a provider's `retry-after` under another name (litellm#21553), and says its own only in the text (litellm#27823).
    """
    for name in ("retry-after", "llm_provider-retry-after"):
        if (seconds := _seconds(headers.get(name, ""))) is not None:
            return seconds
    if found := _TRY_AGAIN.search(text):
        return float(found.group(1)) * _UNITS[(found.group(2) or "s").lower()]
    spent = (
        _seconds(headers.get(f"x-ratelimit-reset-{what}", ""))
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}", "0") == "0"
    )
    return max((seconds for seconds in spent if seconds is not None), default=None)


def _seconds(text: str) -> float | None:
    """A header's time: seconds, a duration as `6m0s`, or a date."""
    text = text.strip()
    if (seconds := dollars(text)) is not None:
        return seconds
    if re.fullmatch(rf"(?:{_DURATION.pattern})+", text):
        return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return max(0.0, (date.astimezone(UTC) - datetime.now(UTC)).total_seconds())
