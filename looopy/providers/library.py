"""A model by way of the LiteLLM library, in this process: for who has an API key and no proxy.

The library (extra `litellm`) takes seconds to load, so it is loaded at the first call, on a thread of its own. It is asked for what the proxy would
be asked for (`body.py`), its chunks are read as the proxy's are (`chat.py`), and its errors become the same types (`refusals.py`). What a proxy adds
is not here: nothing is retried, cached, or known of what models can do.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import aclosing, contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Unpack, cast

from pydantic_core import from_json, to_json
from reactivex import Observable

from looopy import reactive
from looopy.errors import (
    AuthenticationFailed,
    ConfigurationError,
    MissingExtra,
    ModelError,
    ModelFailed,
    UnknownModel,
    words,
)
from looopy.events import LLMEvent, LLMResponse
from looopy.messages import JSON
from looopy.ports import LLMRequest
from looopy.providers import refusals
from looopy.providers.address import Address
from looopy.providers.body import Body
from looopy.providers.calls import as_object, as_text
from looopy.providers.chat import Answer, Refused, dollars
from looopy.providers.clocks import Clocks, Expired, Timeouts
from looopy.providers.configuration import TEMPERATURE, TOP_P, Arguments, Options
from looopy.providers.keys import values, variable_of
from looopy.providers.refusals import Asked
from looopy.redaction import keep_secret, redact
from looopy.threads import in_thread

_SHOWN = 500  # characters of the library's text in a message
_FOR_EVER = 86_400.0  # seconds: the library has a limit of its own where it is given none
_NO_KEY = re.compile(r"missing .{0,40}(api[ _]?key|credentials)", re.IGNORECASE)
"""How the library says that there is no key; with OpenAI as an internal error."""


class LiteLLMLibraryProvider:
    """A model by way of the LiteLLM library, in this process; no proxy is needed.

    The library is loaded at the first call, which takes seconds, without its asking the network for prices and without telemetry. A program that has
    imported `litellm` itself has set it up as it likes.

    Args:
        model: as LiteLLM names it, for example "openai/gpt-4o-mini" or "anthropic/claude-haiku-4-5".
        api_key: the key of the model's maker; left out, LiteLLM finds it in the environment (OPENAI_API_KEY, ANTHROPIC_API_KEY, …).
        base_url: another address than the maker's own.
        options: `temperature`, `max_tokens`, `top_p`, `timeout` and `extra_params`, as in `LiteLLMProvider`. Of the timeouts, `connect` is LiteLLM's
            own affair. Extra parameters are what `litellm.acompletion` takes.

    Raises:
        ConfigurationError: no model is named, or a value cannot work.
        MissingExtra: LiteLLM is not installed.

    Example:
        >>> LiteLLMLibraryProvider("openai/gpt-4o-mini")
        LiteLLMLibraryProvider(model='openai/gpt-4o-mini')
    """

    def __init__(
        self,
        model: str,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        if not model.strip():
            raise ConfigurationError(
                "no model is named: pass one as LiteLLM names it, for example 'openai/gpt-4o-mini'",
                argument="model",
            )
        if sys.modules.get("litellm") is None and find_spec("litellm") is None:
            raise MissingExtra("LiteLLMLibraryProvider", needs="litellm", extra="litellm")
        given = cast("Any", {**_DEFAULTS, **options})
        arguments = Arguments(base_url=base_url, model=model, api_key=api_key, **given)
        arguments.check()
        timeout = arguments.timeout
        self._timeouts = timeout if isinstance(timeout, Timeouts) else Timeouts(call=timeout)
        self._model = model.strip()
        self._body = Body(self._model, partial(Arguments.fields, arguments), arguments.extra_params or {})
        self._place = {name: value for name, value in (("api_key", api_key), ("api_base", base_url)) if value}
        keep_secret(api_key or "")

    def __repr__(self) -> str:
        """Show the model; never the key."""
        return f"LiteLLMLibraryProvider(model={self._model!r})"

    @property
    def model(self) -> str:
        """The name that is asked for."""
        return self._model

    def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
        """Ask the model: deltas as they come, and last one `LLMResponse`; disposing closes the connection at once.

        `on_error` is a `ModelError`; a `ConfigurationError` when `request.params` cannot be sent, and a `MissingExtra` when something that LiteLLM needs is not installed.
        """
        return reactive.from_aiter(lambda: self._answer(request))

    def parameters(self, request: LLMRequest, /) -> Mapping[str, JSON]:
        """What a request is sent with beside the conversation and the tools: `temperature`, `max_tokens` and the like; traces show it.

        Raises:
            ConfigurationError: `request.params` cannot be sent.
        """
        return self._body.fields(request)

    async def _answer(self, request: LLMRequest) -> AsyncIterator[LLMEvent]:
        arguments = self._arguments(request)
        library = await in_thread(_library)
        asked, answer, clocks = self._asked(request), Answer(), Clocks(self._timeouts)
        usage: JSON = None
        first_token: float | None = None
        try:
            with clocks, _typed(asked, answer):
                stream = await library.acompletion(**arguments)
            async with aclosing(stream):
                pieces = aiter(stream)
                while True:
                    with clocks, _typed(asked, answer):
                        piece = await anext(pieces, None)
                        if piece is None:
                            break
                        chunk = piece.model_dump(mode="json", exclude_none=True)
                        events = list(answer.take(chunk))
                    usage = chunk.get("usage") or usage
                    for event in events:
                        if first_token is None:
                            first_token = clocks.elapsed
                            clocks.heard()
                        yield event
                    if events:
                        clocks.heard()
        except Expired as error:
            raise refusals.timed_out(asked, error.clock, error.seconds) from None
        finally:
            clocks.stop()
        if answer.empty:
            raise _said_nothing(asked)
        if not answer.complete:
            raise refusals.broken(asked, "the stream ended without a finish reason", events_seen=answer.seen)
        hidden = as_object(getattr(stream, "_hidden_params", None))
        yield LLMResponse(
            message=answer.message(asked.model),
            finish_reason=answer.finish_reason,
            model=answer.model or asked.model,
            usage=answer.usage,
            cost=_cost(library, asked.model, usage) if answer.cost is None else answer.cost,
            seconds=clocks.elapsed,
            first_token=first_token,
            response_id=answer.response_id,
            call_id=as_text(hidden.get("litellm_call_id")),
        )

    def _arguments(self, request: LLMRequest) -> dict[str, Any]:
        """What `acompletion` is called with: the body that a proxy would get, as keywords."""
        quiet = {"max_retries": 0, "timeout": self._timeouts.call or _FOR_EVER}
        return {**quiet, **self._place, **from_json(self._body.of(request))}

    def _asked(self, request: LLMRequest) -> Asked:
        model = request.model or self._model
        place = redact(self._place.get("api_base", "litellm.acompletion"))
        variable = variable_of(model)
        source = "api_key=" if "api_key" in self._place else variable if os.environ.get(variable) else ""
        secrets = (self._place.get("api_key", ""), *values())
        return Asked(model=model, url=place, address=Address(place, place, "", source, {}, secrets))


_DEFAULTS: Options = {
    "temperature": TEMPERATURE,
    "max_tokens": 4096,
    "top_p": TOP_P,
    "timeout": 60.0,
    "extra_params": None,
}


def _library() -> Any:
    """The library, loaded.

    Raises:
        MissingExtra: it, or something that it needs, is not installed.
    """
    ours = "litellm" not in sys.modules
    # Read while it loads. Without the first it asks the network for prices; in its other mode it puts what is in a file .env into the environment.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")
    try:
        library = cast("Any", import_module("litellm"))
    except ImportError as error:
        raise MissingExtra("LiteLLMLibraryProvider", needs=f"litellm ({error})", extra="litellm") from error
    if ours:
        library.telemetry = False
        library.suppress_debug_info = True  # else it prints advice with every error
    return library


@contextmanager
def _typed(asked: Asked, answer: Answer) -> Generator[None]:
    """Whatever the library raises is a `ModelError`."""
    try:
        yield
    except Refused as error:
        raise _failure(asked, refusals.said(error.error), error, answer.seen) from None
    except Exception as error:  # noqa: BLE001  its errors have no common root
        raise _failure(asked, words(error), error, answer.seen) from None


def _failure(asked: Asked, text: str, error: Exception, seen: int) -> ModelError:
    """The typed error for one of the library's."""
    number = getattr(error, "status_code", None)
    status = number if isinstance(number, int) and number >= 400 else 500
    if seen:
        return refusals.broken(asked, text, events_seen=seen, status=status)
    if _NO_KEY.search(text):
        status = 401
    headers = cast("Mapping[str, str]", getattr(error, "litellm_response_headers", None) or {})
    told = {"message": text, "type": type(error).__name__, "code": str(status)}
    typed = refusals.refused(asked, status, _lower(headers), to_json({"error": told}))
    if mend := _mend(typed, asked):
        typed.args = (
            f"LiteLLM error for model {asked.model!r}: {asked.address.hide(text)[:_SHOWN]}\n  {mend}",
        )
    return typed


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _mend(error: ModelError, asked: Asked) -> str:
    """What to do where it is another thing than with a proxy."""
    if isinstance(error, AuthenticationFailed):
        source = asked.address.key_source.removesuffix("=")
        variable = variable_of(asked.model) or "the variable that LiteLLM names"
        if source:
            return f"The key came from {source}; may it use this model?"
        return f"No API key was found: set {variable}, or pass api_key=."
    if isinstance(error, UnknownModel):
        return "Name the model as LiteLLM does, its maker first: 'openai/gpt-4o-mini'. Is it spelled right, and may your key use it?"
    return ""


def _said_nothing(asked: Asked) -> ModelFailed:
    return ModelFailed(
        f"LiteLLM error: model {asked.model!r} at {asked.url} gave an answer with nothing in it; a provider that broke looks so, trying again may help",
        model=asked.model,
        url=asked.url,
    )


def _cost(library: Any, model: str, usage: JSON) -> float | None:
    """US dollars by the library's prices; None where it has none for this model."""
    if not usage:
        return None
    try:
        priced = library.ModelResponse(model=model, usage=library.Usage(**usage))
        return dollars(library.completion_cost(completion_response=priced, model=model)) or None
    except Exception:  # noqa: BLE001  a price is not worth an answer
        return None
