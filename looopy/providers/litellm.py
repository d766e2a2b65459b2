"""A model behind a LiteLLM proxy, over HTTP and always streamed.

This is the I/O of one call and what configures it. `body.py` makes the request's bytes, `transport.py` sends them, `chat.py` reads the
answer, `refusals.py` words what goes wrong, `clocks.py` keeps the times; `presets.py` names models. Above stand the loop, which knows
`LLMProvider` alone, and wrappers (retry, fallback, …): this provider never retries by itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Unpack

from reactivex import Observable

from looopy import reactive
from looopy.errors import ModelError
from looopy.events import LLMEvent, LLMResponse
from looopy.messages import JSON, Message, Usage
from looopy.ports import LLMRequest, ToolDefinition
from looopy.providers import refusals
from looopy.providers.capabilities import Capabilities
from looopy.providers.catalogue import Tokens
from looopy.providers.chat import Answer, Refused, dollars
from looopy.providers.clocks import Clocks, Expired, Timeouts
from looopy.providers.configuration import TEMPERATURE, TOP_P, Arguments, Configuration, Settings
from looopy.providers.prices import library_cost
from looopy.providers.proxy import headers_for, served_by
from looopy.providers.refusals import Asked
from looopy.providers.transport import ConnectionBroken, Reply, Transport, chosen

__all__ = ["LiteLLMProvider", "Settings", "Timeouts"]

_GOODBYE = 0.25  # seconds that the end of the body may take after [DONE]; then the connection is given up rather than waited for


class LiteLLMProvider:
    """A model behind a LiteLLM proxy.

    What is sent: `model`, the conversation, `stream`, `max_tokens`, `drop_params: true` (the proxy leaves out what the model does not take)
    and the bookkeeping of sessions and traces. `temperature` is sent when you pass it, and otherwise only to models known to take it,
    since newer ones refuse it; `top_p` only when you pass it, since 1.0 changes nothing and some models refuse it beside a temperature.

    Args:
        base_url: the proxy's URL, with or without `/v1`; left out: LITELLM_URL, then OPENAI_BASE_URL.
        model: the name as the proxy knows it; left out: LOOOPY_MODEL.
        api_key: the key; left out: LITELLM_API_KEY (with OPENAI_BASE_URL also OPENAI_API_KEY). None: a proxy without authentication.
        temperature: 0 to 2.
        max_tokens: the longest answer, in tokens, reasoning included; None leaves it to the proxy.
        top_p: above 0, to 1.
        timeout: seconds for the whole call, or `Timeouts` for each clock.
        extra_params: further fields of the request's body; they win over all of the above. A request's `params` win over them.
        transport: how HTTP requests are sent; left out: one that the process shares.

    Raises:
        ConfigurationError: there is no URL or no model, or a value cannot work.

    Example:
        >>> provider = LiteLLMProvider("http://localhost:4000", "gpt-4o-mini", api_key=None)
        >>> provider
        LiteLLMProvider(base_url='http://localhost:4000', model='gpt-4o-mini')
    """

    def __init__(
        self,
        base_url: str | None = None,
        model: str | None = None,
        api_key: str | None = "",
        *,
        temperature: float = TEMPERATURE,
        max_tokens: int | None = 4096,
        top_p: float = TOP_P,
        timeout: float | Timeouts = 60.0,
        extra_params: Mapping[str, JSON] | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._arguments = Arguments(
            base_url=base_url,
            model=model,
            api_key=api_key,
            temperature=temperature,
            max_tokens=max_tokens,
            top_p=top_p,
            timeout=timeout,
            extra_params=extra_params,
        )
        self._transport = chosen(transport)
        self._lock = threading.Lock()
        self._configuration = Configuration.of(self._arguments, self._transport)

    def __repr__(self) -> str:
        """Show the address and the model; never the key."""
        return f"LiteLLMProvider(base_url={self._configuration.address.root!r}, model={self.model!r})"

    @property
    def model(self) -> str:
        """The name that is asked for."""
        return self._configuration.model

    @property
    def base_url(self) -> str:
        """The proxy's URL, without credentials and `/v1`."""
        return self._configuration.address.root

    def update_config(self, **changes: Unpack[Settings]) -> None:
        """Change arguments for the calls that begin from now on, also from another thread; a running call keeps its own.

        Args:
            changes: arguments of the constructor, `transport` excepted.

        Raises:
            ConfigurationError: a value cannot work; then nothing is changed.
            TypeError: there is no such argument.
        """
        with self._lock:
            arguments = replace(self._arguments, **changes)
            self._configuration = Configuration.of(arguments, self._transport)
            self._arguments = arguments

    def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
        """Ask the model: deltas as they come, and last one `LLMResponse`; disposing closes the connection at once.

        `on_error` is a `ModelError`, or a `ConfigurationError` when `request.params` cannot be sent.
        """
        return reactive.from_aiter(lambda: _answer(self._configuration, request))

    def parameters(self, request: LLMRequest, /) -> Mapping[str, JSON]:
        """What a request is sent with beside the conversation and the tools: `temperature`, `max_tokens` and the like; traces show it.

        Raises:
            ConfigurationError: `request.params` cannot be sent.
        """
        return self._configuration.body.fields(request)

    async def models(self) -> tuple[str, ...]:
        """The names that the proxy offers to this key.

        Raises:
            ModelError: the proxy does not answer, or refuses.
        """
        return await self._configuration.proxy.models()

    async def model_group_info(self) -> JSON:
        """What the proxy knows of each model it offers (`GET /model_group/info`): limits, prices, abilities; None if it is no LiteLLM proxy.

        Raises:
            ModelError: the proxy does not answer, or refuses the key.
        """
        try:
            return await self._configuration.proxy.get("/model_group/info")
        except ModelError as error:
            if error.status == 404:
                return None
            raise

    async def capabilities(self, model: str = "", *, refresh: bool = False) -> Capabilities:
        """What a model can do and what it costs, as the proxy says and a table of well-known models; None for what nobody knows.

        The proxy is asked once in ten minutes, and again when the provider's configuration changes. Where it cannot be asked, the table
        answers alone. From then on, a call that the proxy gives no price for has the `cost` that follows from the proxy's prices.

        Args:
            model: its name on the proxy; left out: the provider's own.
            refresh: ask the proxy now.
        """
        configuration = self._configuration
        return await configuration.catalogue.capabilities(model or configuration.model, refresh=refresh)

    async def count_tokens(
        self, messages: Sequence[Message], tools: Sequence[ToolDefinition] = (), *, model: str = ""
    ) -> Tokens:
        """How many tokens a request would have; the answer says whether that is an estimate.

        The proxy asks the model's provider where that counts for it, and else counts itself. Where the proxy does not answer, four bytes are
        taken for a token.

        Args:
            messages: the conversation.
            tools: what the model is offered.
            model: its name on the proxy; left out: the provider's own.
        """
        configuration = self._configuration
        return await configuration.catalogue.count(model or configuration.model, messages, tools)

    async def alive(self) -> bool:
        """Whether a proxy answers at the address; needs no key, and asks no model."""
        try:
            await self._configuration.proxy.get("/health/liveliness")
        except ModelError:
            return False
        return True


async def _answer(configuration: Configuration, request: LLMRequest) -> AsyncIterator[LLMEvent]:
    call = _Call(configuration, request)
    clocks, answer = call.clocks, call.answer
    ended = False
    try:
        with clocks:
            portions = await call.begin()
        while not (ended or answer.done):
            try:
                with clocks:
                    events = answer.feed(await anext(portions))
            except StopAsyncIteration:
                ended, events = True, answer.close()
            seen = answer.seen
            for event in events:
                if call.first_token is None:
                    call.heard_first()
                yield event
            if answer.seen > seen:
                clocks.heard()
        if not ended:
            await _drain(portions)
    except (Expired, ConnectionBroken, Refused) as error:
        if (failure := call.failure(error)) is not None:
            raise failure from None
    finally:
        await call.close()
    response = call.response()
    if response.cost is None and response.usage is not None:
        response = replace(response, cost=await _price(configuration, response.usage, response))
    yield response


class _Call:
    """One request and its answer."""

    __slots__ = ("_asked", "_body", "_headers", "_proxy", "_reply", "answer", "clocks", "first_token")

    def __init__(self, configuration: Configuration, request: LLMRequest) -> None:
        headers = {**configuration.headers, **headers_for(request)}
        self._proxy = configuration.proxy
        self._asked = Asked(
            model=request.model or configuration.model,
            url=configuration.address.chat,
            address=configuration.address,
            call_id=headers["x-litellm-call-id"],
        )
        self._headers = headers
        self._body = configuration.body.of(request)
        self._reply: Reply | None = None
        self.answer = Answer()
        self.first_token: float | None = None
        self.clocks = Clocks(configuration.timeouts)

    async def begin(self) -> AsyncIterator[bytes]:
        """Send the request; the body of the answer, once it is one."""
        body, self._body = self._body, b""  # a long conversation need not be held while the answer comes
        reply = self._reply = await self._proxy.send("POST", self._asked, self._headers, body)
        self._asked = replace(
            self._asked, call_id=reply.headers.get("x-litellm-call-id") or self._asked.call_id
        )
        if reply.status != 200:
            raise await self._proxy.refusal(self._asked, reply)
        return aiter(reply)

    def heard_first(self) -> None:
        """The answer's first piece is here."""
        self.first_token = self.clocks.elapsed
        self.clocks.heard()

    def failure(self, error: Expired | ConnectionBroken | Refused) -> ModelError | None:
        """What it means that the answer was interrupted; None when it was whole by then."""
        asked, answer = self._asked, self.answer
        if isinstance(error, Expired):
            return refusals.timed_out(asked, error.clock, error.seconds)
        if isinstance(error, ConnectionBroken):
            return None if answer.complete else refusals.broken(asked, error.reason, events_seen=answer.seen)
        if error.error is None:
            return refusals.no_answer(asked, answer.head)
        if answer.seen:
            return refusals.broken(asked, refusals.said(error.error), events_seen=answer.seen)
        return refusals.refused_in_stream(asked, error.error)

    def response(self) -> LLMResponse:
        """The whole answer.

        Raises:
            StreamBroken: it ended without an end.
            ModelFailed: there is nothing in it.
        """
        answer, asked = self.answer, self._asked
        assert self._reply is not None, "an answer came with a reply"
        headers = self._reply.headers
        if answer.begun and not answer.complete:
            reason = "the stream ended without a finish reason and without [DONE]"
            raise refusals.broken(asked, reason, events_seen=answer.seen)
        if answer.empty:
            raise refusals.no_answer(asked, answer.head)
        # Unstreamed the price is a header, and 0 there means unknown; streamed it is in the usage (litellm#39069).
        header_cost = dollars(headers.get("x-litellm-response-cost")) if answer.unstreamed else None
        # The proxy names the key at a hit only, and tells what the answer cost when it was made.
        cached = "x-litellm-cache-key" in headers
        return LLMResponse(
            message=answer.message(served_by(asked.model, headers)),
            finish_reason=answer.finish_reason,
            model=headers.get("x-litellm-model-name") or answer.model or asked.model,
            usage=answer.usage,
            cost=0.0 if cached else header_cost or answer.cost,
            seconds=self.clocks.elapsed,
            first_token=self.first_token,
            response_id=answer.response_id,
            call_id=asked.call_id,
            cached=cached,
        )

    async def close(self) -> None:
        """Nothing more is wanted: let the connection go."""
        self.clocks.stop()
        if self._reply is not None:
            await self._reply.aclose()


async def _price(configuration: Configuration, usage: Usage, response: LLMResponse) -> float | None:
    """The cost of a call that the proxy gave none for: by its prices, if they are here, else by the offline library's, if that is installed."""
    cost = configuration.catalogue.cost(response.message.model, usage)
    return await library_cost(response.model, usage) if cost is None else cost


async def _drain(portions: AsyncIterator[bytes]) -> None:
    """Take the end of the body, so that the connection can be used again; mostly it is there already."""
    try:
        async with asyncio.timeout(_GOODBYE):
            async for _ in portions:
                pass
    except (TimeoutError, ConnectionBroken):
        return
