"""The span of texts that are embedded: `embeddings {model}`, below whatever is current."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind

from looopy.events import Failure
from looopy.observe import attributes as a
from looopy.observe.carried import inherited
from looopy.observe.content import told
from looopy.observe.faults import Faults
from looopy.observe.opened import Tracer
from looopy.observe.outcomes import failed
from looopy.observe.reasons import kind
from looopy.ports import Embedder, Embeddings, EmbedRequest


async def embedded(
    tracer: Tracer,
    faults: Faults,
    embedder: Embedder,
    request: EmbedRequest,
    ask: Callable[[EmbedRequest], Awaitable[Embeddings]],
) -> Embeddings:
    """Embed texts within a span, which is the current one meanwhile. Neither the texts nor the vectors are on it."""
    try:
        span, below_it = _begun(tracer, embedder, request)
    except Exception as error:
        faults.caught("texts were embedded unrecorded", error, lost=1)
        return await ask(request)
    here = trace.set_span_in_context(span)
    token = otel.attach(here)
    try:
        answer = await ask(below_it)
    except BaseException as error:  # also a cancel: the span must end
        _say(faults, partial(_failed, span, Failure.of(error)))
        raise
    else:
        _say(faults, partial(_answered, span, answer))
        return answer
    finally:
        if otel.get_current() is here:  # else who gave this up did so from another context
            otel.detach(token)
        tracer.end_span(span)


def _say(faults: Faults, what: Callable[[], None]) -> None:
    try:
        what()
    except Exception as error:
        faults.caught("a span could not say what became of texts that were embedded", error)


def _begun(tracer: Tracer, embedder: Embedder, request: EmbedRequest) -> tuple[Span, EmbedRequest]:
    """The span, and the request as it shall be made below it."""
    model = request.model or str(getattr(embedder, "model", ""))
    span = tracer.start_span(
        f"embeddings {model}" if model else "embeddings",
        otel.get_current(),
        SpanKind.CLIENT,
        _known(embedder, request, model),
    )
    here = span.get_span_context()
    if here.is_valid:
        request = replace(
            request,
            trace_id=trace.format_trace_id(here.trace_id),
            parent_span_id=trace.format_span_id(here.span_id),
            sampled=here.trace_flags.sampled,
        )
    return span, request


def _failed(span: Span, failure: Failure) -> None:
    span.set_status(failed(told(failure, None)))
    span.set_attribute(a.ERROR, kind(failure))


def _answered(span: Span, answer: Embeddings) -> None:
    span.set_attributes(_found(answer))


def _known(embedder: Embedder, request: EmbedRequest, model: str) -> a.Attributes:
    """What can be said before the model is asked."""
    known: a.Attributes = {
        **inherited(otel.get_current()),
        a.OPERATION: "embeddings",
        a.PROVIDER: a.provider_name(model),
        a.MODEL: model,
        a.TEXTS: len(request.texts),
    }
    address, port = a.server(embedder)
    if address:
        known[a.ADDRESS] = address
    if port:
        known[a.PORT] = port
    if request.session_id:
        known[a.SESSION] = request.session_id
    if request.user_id:
        known[a.USER] = request.user_id
    if request.tags:
        known[a.TAGS] = request.tags
    return known


def _found(answer: Embeddings) -> a.Attributes:
    """What the answer says."""
    found: a.Attributes = {a.DIMENSIONS: answer.dimensions}
    if answer.attempts > 1:
        found[a.ATTEMPTS] = answer.attempts
    if answer.model:
        found[a.RESPONSE_MODEL] = answer.model
    if answer.usage is not None:
        found[a.USAGE + "input_tokens"] = answer.usage.input_tokens
    if answer.cost is not None:
        found[a.COST] = answer.cost
    return found
