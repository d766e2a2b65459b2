"""Embeddings from a LiteLLM proxy: texts go out in batches, several at once, and come back in their order.

This is the I/O of a call and what configures it. `vectors.py` cuts the batches and reads the answers, `proxy.py` sends, `refusals.py` words
what goes wrong. Unlike the provider of chat this one tries again by itself: a call is many requests, and one that fails must
not cost the others.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic_core import to_json

from looopy.errors import ConfigurationError, ContextTooLong, ModelError, ModelRejected, NoEmbeddings
from looopy.messages import JSON, Usage, whole
from looopy.ports import Embeddings, EmbedRequest
from looopy.providers import refusals
from looopy.providers.address import address
from looopy.providers.body import Constant, bookkeeping, constant_of
from looopy.providers.calls import as_list, as_object, as_text
from looopy.providers.chat import Refused, dollars
from looopy.providers.clocks import Timeouts
from looopy.providers.proxy import Answered, Proxy, headers_for, served_by
from looopy.providers.refusals import Asked
from looopy.providers.transport import Transport, chosen
from looopy.providers.vectors import Embedded, NotVectors, batches, embedded
from looopy.watcher import watcher

__all__ = ["LiteLLMEmbedder"]

_ANSWER_LIMIT = (
    512 * 1024 * 1024
)  # bytes of an answer that are read: 2,048 vectors of 4,096 numbers as text are a fifth of it
_FIRST_PAUSE = 0.5  # seconds, doubled with each further try
_LONGEST_PAUSE = 60.0  # seconds; who asks for more is not waited for
_TOO_MUCH = re.compile(
    r"tokens.per.request|array.above.max|array too long|batch size|\d+ items or less"
    r"|(?:too many|at most \d+) (?:inputs|texts|items|documents|requests|tokens)|(?:request|payload|body|batch|input) (?:is )?too large",
    re.IGNORECASE,
)
"""How providers refuse a batch for its size, beside LiteLLM's own error for texts that are too long."""
_OURS: Mapping[str, str] = {
    "model": "the model is an argument",
    "input": "the texts are the request's",
}


class LiteLLMEmbedder:
    """An embedding model behind a LiteLLM proxy.

    What is sent: `model`, the texts, `encoding_format: "base64"` (smaller and faster; who does not take it is asked for numbers),
    `dimensions` if you pass them, `drop_params: true`, with retries of its own also `num_retries: 0` for the proxy, and the bookkeeping
    of sessions and traces. A batch that is refused for its size is sent again in halves.

    Args:
        base_url: the proxy's URL, with or without `/v1`; left out: LITELLM_URL, then OPENAI_BASE_URL.
        model: the name as the proxy knows it; left out: LOOOPY_EMBEDDING_MODEL.
        api_key: the key; left out: LITELLM_API_KEY (with OPENAI_BASE_URL also OPENAI_API_KEY). None: a proxy without authentication.
        dimensions: numbers in each vector, for models that can shorten them; None leaves it to the model.
        fallback_model: takes the place of a model that gives no embeddings, a chat model for example, and of no other; what comes back
            says so in `fell_back_from`. The proxy is asked once what the model is for, and the model itself only if the proxy does not know.
        batch_texts: texts in one request at most. 96 is what every provider takes; OpenAI takes 2,048.
        batch_tokens: tokens in one request at most, estimated as a quarter of the bytes in UTF-8; a longer text goes alone.
        parallel: requests of one call at once, at most.
        retries: how often a request is sent again after an error that may pass (overload, a broken server, a lost connection). The pause
            doubles from half a second to a minute, and is at least what the server asks for; who asks for more than a minute is not waited for.
        timeout: seconds for one request, or `Timeouts`.
        extra_params: further fields of the request's body, for example `{"input_type": "search_document"}`; they win over all of the
            above. A request's `params` win over them.
        transport: how HTTP requests are sent; left out: one that the process shares.

    Raises:
        ConfigurationError: there is no URL or no model, or a value cannot work.

    Example:
        >>> embedder = LiteLLMEmbedder("http://localhost:4000", "text-embedding-3-small", api_key=None)
        >>> embedder
        LiteLLMEmbedder(base_url='http://localhost:4000', model='text-embedding-3-small')
    """

    def __init__(
        self,
        base_url: str | None = None,
        model: str | None = None,
        api_key: str | None = "",
        *,
        dimensions: int | None = None,
        fallback_model: str | None = None,
        batch_texts: int = 96,
        batch_tokens: int = 100_000,
        parallel: int = 8,
        retries: int = 4,
        timeout: float | Timeouts = 60.0,
        extra_params: Mapping[str, JSON] | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.model = (model or os.environ.get("LOOOPY_EMBEDDING_MODEL", "")).strip()
        place = address(base_url, api_key, model=self.model)
        if not self.model:
            raise ConfigurationError(
                "no embedding model is named: pass model=, for example 'text-embedding-3-small', or set LOOOPY_EMBEDDING_MODEL. "
                f"To see what the proxy offers: curl {place.root}/v1/models",
                argument="model",
            )
        for name, value, least in (
            ("dimensions", dimensions, 1),
            ("batch_texts", batch_texts, 1),
            ("batch_tokens", batch_tokens, 1),
            ("parallel", parallel, 1),
            ("retries", retries, 0),
        ):
            if value is not None and value < least:
                raise ConfigurationError(f"{name}={value!r} must be at least {least}", argument=name)
        timeouts = timeout if isinstance(timeout, Timeouts) else Timeouts(call=timeout)
        self._how = _How(
            proxy=Proxy(place, timeouts, chosen(transport)),
            dimensions=dimensions,
            batch_texts=batch_texts,
            batch_tokens=batch_tokens,
            parallel=parallel,
            retries=retries,
            extra=extra_params or {},
        )
        self._fallback = fallback_model or ""
        self._embeds: dict[str, bool] = {}  # by model, where a fallback makes it matter
        constant_of({}, self._how.extra, "extra_params", ours=_OURS)  # so that it raises now

    def __repr__(self) -> str:
        """Show the address and the model; never the key."""
        return f"LiteLLMEmbedder(base_url={self.base_url!r}, model={self.model!r})"

    @property
    def base_url(self) -> str:
        """The proxy's URL, without credentials and `/v1`."""
        return self._how.proxy.address.root

    async def embed(self, request: EmbedRequest | Sequence[str], /) -> Embeddings:
        """Embed texts in order, one vector each; cancelling closes every connection at once.

        Args:
            request: the texts, or an `EmbedRequest` with what else is to be said. No text, no request.

        Returns:
            Their vectors, all from one model.

        Raises:
            ContextTooLong: one text does not fit; `.index` says which.
            ModelOverloaded: still refused after the retries; `.retry_after` in seconds.
            NoEmbeddings: the model gives none, and there is no fallback.
            UnsupportedParameter: the model does not give vectors of these `dimensions`.
            ModelError: whatever else goes wrong; nothing of the call is kept.
            ConfigurationError: a text is empty, or `request.params` cannot be sent.
        """
        if not isinstance(request, EmbedRequest):
            request = EmbedRequest(request)
        watching = watcher()
        return await (
            self._embed(request) if watching is None else watching.embed(self, request, self._embed)
        )

    async def _embed(self, request: EmbedRequest) -> Embeddings:
        model, call = request.model or self.model, _Call(self._how, request)
        if self._fallback in ("", model) or not request.texts:
            return await call.run(model)
        if model not in self._embeds:
            self._embeds[model] = await _may_embed(self._how.proxy, model)
        if self._embeds[model]:
            try:
                return await call.run(model)
            except NoEmbeddings:
                self._embeds[model] = False
        return replace(await call.run(self._fallback), fell_back_from=model)


@dataclass(frozen=True, slots=True, kw_only=True)
class _How:
    """The checked arguments of an embedder."""

    proxy: Proxy
    dimensions: int | None
    batch_texts: int
    batch_tokens: int
    parallel: int
    retries: int
    extra: Mapping[str, JSON]
    as_numbers: set[str] = field(default_factory=set[str])  # models that do not take `encoding_format`

    def fields(self, model: str) -> dict[str, JSON]:
        """What every request to a model has in its body."""
        fields: dict[str, JSON] = {"model": model, "drop_params": True}
        if self.retries:
            fields["num_retries"] = 0  # else the proxy's and ours multiply
        if self.dimensions is not None:
            fields["dimensions"] = self.dimensions
        return fields


@dataclass(frozen=True, slots=True)
class _Part:
    """What came of one request: the vectors of some of the texts."""

    span: range
    asked: Asked
    served_by: str
    cost: float | None
    embedded: Embedded


class _Call:
    """One call: its texts, and what has come of them so far."""

    _model: str
    _constant: Constant
    _parts: list[_Part]

    def __init__(self, how: _How, request: EmbedRequest) -> None:
        self._how = how
        self._request = request
        self._texts = [whole(text) for text in request.texts]
        self._headers = {
            "content-type": "application/json",
            "accept": "application/json",
            **how.proxy.address.headers,
        }
        self._attempts = 0
        self._start = asyncio.get_running_loop().time()

    async def run(self, model: str) -> Embeddings:
        """Send all there is to send to a model, so many requests at once as may be."""
        how, request = self._how, self._request
        self._model, self._parts = model, []
        extra = {**how.extra, **request.params}
        self._constant = constant_of(how.fields(model), extra, "params", ours=_OURS)
        spans = batches(self._texts, most=how.batch_texts, tokens=how.batch_tokens)
        try:
            # The group owns its tasks: it cancels and awaits each, whatever ends the call.
            async with asyncio.TaskGroup() as group:
                for _ in range(min(how.parallel, len(self._texts))):
                    group.create_task(self._work(spans))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return self._result()

    def _result(self) -> Embeddings:
        """Everything that came, as one.

        Raises:
            ModelFailed: the parts do not fit together.
        """
        parts = sorted(self._parts, key=lambda part: part.span.start)
        served = sorted({part.served_by for part in parts})
        if len(served) > 1:
            reason = (
                f"the proxy fell back for some of them, so that they are from {' and '.join(served)} and have nothing to do with each "
                "other. extra_params={'disable_fallbacks': True} forbids it"
            )
            raise refusals.no_vectors(parts[0].asked, reason)
        lengths = sorted({part.embedded.dimensions for part in parts})
        if len(lengths) > 1:
            raise refusals.no_vectors(
                parts[0].asked, f"some are of {lengths[0]} numbers and some of {lengths[1]}"
            )
        usages = [part.embedded.usage for part in parts]
        costs = [part.cost for part in parts]
        return Embeddings(
            vectors=tuple(vector for part in parts for vector in part.embedded.vectors),
            model=served[0] if served else self._model,
            usage=None if None in usages else sum(filter(None, usages), Usage()),
            cost=None if None in costs else sum(filter(None, costs), 0.0),
            seconds=asyncio.get_running_loop().time() - self._start,
            attempts=self._attempts,
            call_ids=tuple(part.asked.call_id for part in parts),
        )

    async def _work(self, spans: Iterator[range]) -> None:
        for span in spans:
            await self._settle(span)

    async def _settle(self, span: range) -> None:
        """Have the vectors of these texts; where they are too many or too long together, of each half."""
        try:
            self._parts.append(await self._patiently(span))
        except ModelRejected as error:
            if not _is_too_much(error):
                raise
            if len(span) == 1:
                characters = len(self._texts[span.start])
                raise refusals.text_too_long(error, index=span.start, characters=characters) from None
        else:
            return
        middle = len(span) // 2
        await self._settle(span[:middle])
        await self._settle(span[middle:])

    async def _patiently(self, span: range) -> _Part:
        """The answer to one batch, after as many tries as there may be."""
        for attempt in range(self._how.retries):
            try:
                return await self._try(span)
            except ModelError as error:
                if not error.retryable or (error.retry_after or 0.0) > _LONGEST_PAUSE:
                    raise
                await asyncio.sleep(_pause(error, attempt))
        return await self._try(span)

    async def _try(self, span: range) -> _Part:
        """The answer to one batch, in base64 if the model takes that."""
        model = self._model
        if model not in self._how.as_numbers and sys.byteorder == "little":
            try:
                return await self._ask(span, b',"encoding_format":"base64"')
            except ModelRejected as error:
                if "encoding_format" not in error.body:
                    raise
                self._how.as_numbers.add(model)
        return await self._ask(span, b"")

    async def _ask(self, span: range, encoding: bytes) -> _Part:
        """One request."""
        self._attempts += 1
        proxy, constant = self._how.proxy, self._constant
        own = headers_for(self._request)
        asked = Asked(self._model, proxy.address.embeddings, proxy.address, own["x-litellm-call-id"])
        encoding = b"" if "encoding_format" in constant.given else encoding
        texts = to_json(self._texts[span.start : span.stop])
        parts = (
            constant.head,
            encoding,
            b',"input":',
            texts,
            bookkeeping(self._request, constant),
            b"}",
        )
        answer = await proxy.post(asked, {**self._headers, **own}, b"".join(parts), limit=_ANSWER_LIMIT)
        return self._part(span, answer)

    def _part(self, span: range, answer: Answered) -> _Part:
        """What an answer holds; it raises what an answer without it means."""
        asked, wanted = answer.asked, self._how.dimensions
        try:
            found = embedded(answer.body, len(span))
        except Refused as refused:
            raise refusals.refused_in_stream(asked, refused.error) from None
        except NotVectors as wrong:
            raise refusals.no_vectors(asked, str(wrong)) from None
        if wanted is not None and found.dimensions != wanted:
            raise refusals.other_dimensions(asked, wanted, found.dimensions)
        # 0 stands for a price that the proxy does not know (litellm#39069).
        cost = dollars(answer.headers.get("x-litellm-response-cost")) or None
        return _Part(span, asked, served_by(self._model, answer.headers), cost, found)


async def _may_embed(proxy: Proxy, model: str) -> bool:
    """Whether a model embeds, as far as the proxy knows; True where it does not.

    To ask the model itself has a price: after its refusal (a 403 or 404) LiteLLM sends it nothing for five seconds, no chat either.
    """
    try:
        groups = as_list(as_object(await proxy.get("/model_group/info")).get("data"))
    except ModelError:
        return True
    modes = {
        as_text(group.get("model_group")): as_text(group.get("mode")) for group in map(as_object, groups)
    }
    return modes.get(model, "") in ("", "embedding")


def _is_too_much(error: ModelRejected) -> bool:
    """Whether less at once may be accepted."""
    return isinstance(error, ContextTooLong) or error.status == 413 or bool(_TOO_MUCH.search(error.body))


def _pause(error: ModelError, attempt: int) -> float:
    """Seconds until the next try; spread, so that batches that were refused together do not come back together."""
    backoff = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)
    return (error.retry_after or 0.0) + backoff * random.uniform(0.5, 1.0)  # noqa: S311  no secret
