"""Texts become vectors in their order, whatever the batches meet on their way."""

from __future__ import annotations

import asyncio
import json
import re
from array import array
from typing import Any

import pytest

from looopy import Embedder, Embeddings, EmbedRequest, LiteLLMEmbedder, Usage
from looopy.errors import (
    AuthenticationFailed,
    ConfigurationError,
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
from looopy.providers.litellm import Timeouts
from looopy.providers.transport import HTTP
from looopy.testing import (
    Answer,
    ScriptedServer,
    cuts,
    embeds,
    fails,
    raw,
    run_virtual,
    stalls,
    vector_of,
    waits,
)

MODEL = "text-embedding-3-small"
WORDS = ["a cat", "the dog", "a cat and a dog", "stars", "the sea", "a ship at sea", "moon"]
TOO_LONG = "litellm.ContextWindowExceededError: This model's maximum context length is 8192 tokens."
NOT_OPENAI = (
    "litellm.BadRequestError: OpenAIException - You are not allowed to generate embeddings from this model"
)
NOT_ANTHROPIC = "litellm.BadRequestError: Unmapped LLM provider for this endpoint. You passed model=claude, custom_llm_provider=anthropic."
NOT_GEMINI = "litellm.NotFoundError: GeminiException - models/gemini is not found, or is not supported for embedContent."


def in_memory(server: ScriptedServer, model: str = MODEL, **settings: Any) -> LiteLLMEmbedder:
    return LiteLLMEmbedder(
        "http://proxy", model, settings.pop("api_key", None), transport=HTTP(server.transport()), **settings
    )


def embed(server: ScriptedServer, texts: Any = ("a cat",), **settings: Any) -> Embeddings:
    """What a call in virtual time gives."""
    return run_virtual(in_memory(server, **settings).embed(texts))


def error_of(*answers: Answer, texts: Any = ("a cat",), **settings: Any) -> ModelError:
    """What a call raises that is not tried again."""
    with pytest.raises(ModelError) as caught:
        embed(ScriptedServer(*answers), texts, **{"retries": 0, **settings})
    return caught.value


def vectors(*texts: str, dimensions: int = 64) -> tuple[array[float], ...]:
    return tuple(array("f", vector_of(text, dimensions)) for text in texts)


def sent(server: ScriptedServer) -> list[list[str]]:
    """The texts of each request."""
    return [request.body["input"] for request in server.requests]


def with_headers(answer: Answer, **headers: str) -> Answer:
    return answer + Answer(headers={name.replace("_", "-"): value for name, value in headers.items()})


# ------------------------------------------------------------------------------------------------------------ what comes


async def test_each_text_gets_its_vector_however_they_are_batched() -> None:
    server = ScriptedServer(otherwise=lambda request: embeds(request, cost=0.25))
    async with server.serve() as url:
        found = await LiteLLMEmbedder(url, MODEL, None, batch_texts=2, parallel=3).embed(WORDS)

    assert found == Embeddings(
        vectors=vectors(*WORDS),
        model=MODEL,
        usage=Usage(input_tokens=17),
        cost=1.0,
        seconds=found.seconds,
        attempts=4,
        call_ids=found.call_ids,
    )
    assert sorted(sent(server)) == sorted([WORDS[:2], WORDS[2:4], WORDS[4:6], WORDS[6:]])
    assert sorted(found.call_ids) == ["scripted-1", "scripted-2", "scripted-3", "scripted-4"]
    assert repr(found) == "Embeddings(7 × 64, model='text-embedding-3-small')"


async def test_connections_are_used_again() -> None:
    server = ScriptedServer(otherwise=embeds)
    async with server.serve() as url:
        await LiteLLMEmbedder(url, MODEL, None, batch_texts=1, parallel=2).embed(WORDS)
    assert (len(server.requests), server.connections) == (7, 2)


def test_no_text_is_no_request() -> None:
    server = ScriptedServer()
    assert embed(server, ()) == Embeddings(vectors=(), model=MODEL, usage=Usage(), cost=0.0)
    assert server.requests == []


def test_it_is_a_plug_of_the_socket_and_shows_no_key() -> None:
    embedder = in_memory(ScriptedServer(), api_key="sk-secret-0123456789")
    assert isinstance(embedder, Embedder)
    assert repr(embedder) == "LiteLLMEmbedder(base_url='http://proxy', model='text-embedding-3-small')"


def test_no_error_holds_the_key() -> None:
    answer = fails(400, "the key sk-secret-0123456789 is not for this")
    error = error_of(answer, api_key="sk-secret-0123456789")
    assert "secret" not in f"{error} {error.body}"


def test_what_no_request_says_is_unknown_in_the_sum() -> None:
    silent = b'{"data": [{"embedding": [1, 2]}]}'
    found = embed(ScriptedServer(raw(silent)))
    assert (found.usage, found.cost, found.vectors) == (None, None, (array("f", [1, 2]),))


def test_a_price_of_zero_is_an_unknown_price() -> None:
    assert embed(ScriptedServer(otherwise=lambda request: embeds(request, cost=0.0))).cost is None


def test_vectors_that_come_in_another_order_find_their_texts() -> None:
    def shuffled(request: Any) -> Answer:
        data = [{"index": index, "embedding": [index, 0.5]} for index in (2, 0, 1)]
        return raw(json.dumps({"data": data}).encode())

    found = embed(ScriptedServer(otherwise=shuffled), ["a", "b", "c"])
    assert [list(vector) for vector in found.vectors] == [[0, 0.5], [1, 0.5], [2, 0.5]]


def test_seconds_and_attempts_count_everything_from_the_call_on() -> None:
    server = ScriptedServer(waits(2) + fails(500), otherwise=lambda request: waits(3) + embeds(request))
    found = embed(server)
    assert found.attempts == 2
    assert 5.25 <= found.seconds <= 5.5


# ------------------------------------------------------------------------------------------------------------ what is sent


def test_a_request_is_the_texts_and_little_else() -> None:
    server = ScriptedServer(otherwise=embeds)
    embed(server, ["a cat", "half of an emoji: \ud83d"])
    assert [request.body for request in server.requests] == [
        {
            "model": MODEL,
            "drop_params": True,
            "num_retries": 0,
            "encoding_format": "base64",
            "input": ["a cat", "half of an emoji: �"],
        }
    ]
    assert server.paths == ["POST /v1/embeddings"]


def test_retries_are_left_to_the_proxy_where_there_are_none_of_ours() -> None:
    server = ScriptedServer(otherwise=embeds)
    embed(server, retries=0)
    assert "num_retries" not in server.requests[0].body


def test_a_request_says_on_whose_behalf_it_is_and_in_which_trace() -> None:
    server = ScriptedServer(otherwise=embeds)
    request = EmbedRequest(
        ["a cat"],
        model="another",
        session_id="s",
        trace_id="a" * 32,
        parent_span_id="b" * 16,
        sampled=False,
        trace_name="graph",
        user_id="u",
        tags=("t",),
        params={"input_type": "search_query"},
    )
    found = embed(
        server, request, dimensions=4, extra_params={"input_type": "search_document", "truncate": "NONE"}
    )

    assert server.requests[0].body == {
        "model": "another",
        "drop_params": True,
        "num_retries": 0,
        "dimensions": 4,
        "input_type": "search_query",
        "truncate": "NONE",
        "encoding_format": "base64",
        "input": ["a cat"],
        "litellm_session_id": "s",
        "user": "u",
        "metadata": {
            "session_id": "s",
            "trace_id": "a" * 32,
            "parent_observation_id": "b" * 16,
            "trace_name": "graph",
            "trace_user_id": "u",
            "tags": ["t"],
        },
    }
    assert server.requests[0].headers["traceparent"] == f"00-{'a' * 32}-{'b' * 16}-00"
    assert (found.model, found.vectors) == ("another", vectors("a cat", dimensions=4))


def test_numbers_are_asked_for_where_base64_is_refused_and_the_embedder_remembers() -> None:
    def numbers_only(request: Any) -> Answer:
        if "encoding_format" in request:
            return fails(
                400, "litellm.UnsupportedParamsError: x does not support parameters: ['encoding_format']"
            )
        return embeds(request)

    server = ScriptedServer(otherwise=numbers_only)
    embedder = in_memory(server, batch_texts=2, parallel=2)

    async def twice() -> list[Embeddings]:
        return [await embedder.embed(WORDS[:4]), await embedder.embed(WORDS[:4])]

    first, second = run_virtual(twice())
    assert first.vectors == second.vectors == vectors(*WORDS[:4])
    assert (first.attempts, second.attempts) == (4, 2)


def test_who_chooses_the_encoding_gets_that() -> None:
    server = ScriptedServer(otherwise=embeds)
    found = embed(server, extra_params={"encoding_format": "float"})
    assert server.requests[0].body["encoding_format"] == "float"
    assert found.vectors == vectors("a cat")


# ------------------------------------------------------------------------------------------------------------ many at once


def test_so_many_requests_are_under_way_as_may_be() -> None:
    server = ScriptedServer(otherwise=lambda request: waits(1) + embeds(request))
    assert embed(server, WORDS, batch_texts=1, parallel=3).seconds == 3.0
    assert embed(server, WORDS, batch_texts=1, parallel=100).seconds == 1.0


@pytest.mark.parametrize("lost", ["cancelled", "refused"])
async def test_a_call_that_ends_early_closes_every_connection_at_once(lost: str) -> None:
    hanging = [stalls(headers=False), stalls(), raw(b"{") + stalls()]
    server = ScriptedServer(*hanging, fails(401))
    async with server.serve() as url:
        embedder = LiteLLMEmbedder(url, MODEL, None, batch_texts=1, parallel=3 if lost == "cancelled" else 4)
        call = asyncio.create_task(embedder.embed(WORDS[:4]))
        await server.asked(3)
        if lost == "cancelled":
            call.cancel()
        await asyncio.wait([call], timeout=5)
        await server.hung_up(3)
    assert call.cancelled() if lost == "cancelled" else isinstance(call.exception(), AuthenticationFailed)


# ------------------------------------------------------------------------------------------------------------ what goes wrong


def wrong(data: object) -> Answer:
    return raw(json.dumps({"data": data}).encode())


PASSING = {
    "overloaded": (fails(429), ModelOverloaded),
    "no capacity": (fails(503), ModelOverloaded),
    "broken server": (fails(500), ModelFailed),
    "html": (raw(b"<html>Bad gateway</html>", status=502), ModelFailed),
    "cut before the head": (cuts(), ProxyUnreachable),
    "cut in the body": (raw(b'{"data": [') + cuts(), StreamBroken),
    "cut refusal": (raw(b"{", status=500) + cuts(), ModelFailed),
    "silence": (stalls(), ModelTimeout),
    "an error with status 200": (raw(b'{"error": {"message": "Overloaded", "code": 529}}'), ModelOverloaded),
    "garbage": (raw(b"\xff\xfe"), ModelFailed),
    "nothing": (raw(b""), ModelFailed),
    "no list": (raw(b"[]"), ModelFailed),
    "too few": (wrong([]), ModelFailed),
    "too many": (wrong([{"embedding": [1.0]}] * 2), ModelFailed),
    "no vector": (wrong([{"embedding": None}]), ModelFailed),
    "words": (wrong([{"embedding": ["a"]}]), ModelFailed),
    "half a number": (wrong([{"embedding": "AAA="}]), ModelFailed),
    "no base64": (wrong([{"embedding": "?"}]), ModelFailed),
    "a number too large": (wrong([{"embedding": [10**400]}]), ModelFailed),
    "another index": (wrong([{"embedding": [1.0], "index": 1}]), ModelFailed),
    "no index": (wrong([{"embedding": [1.0], "index": "0"}]), ModelFailed),
}  # fmt: skip


@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_tried_again_and_named_when_it_does_not(fault: str) -> None:
    answer, kind = PASSING[fault]
    found = embed(ScriptedServer(answer, otherwise=embeds))
    assert (found.vectors, found.attempts) == (vectors("a cat"), 2)

    server = ScriptedServer(otherwise=lambda _: answer)
    with pytest.raises(kind) as caught:
        embed(server, retries=2)
    assert (type(caught.value), caught.value.retryable, len(server.requests)) == (kind, True, 3)


@pytest.mark.parametrize(
    "fault", ["overloaded", "cut before the head", "cut in the body", "garbage", "too few"]
)
async def test_a_batch_that_fails_over_a_socket_costs_the_others_nothing(fault: str) -> None:
    server = ScriptedServer(PASSING[fault][0], otherwise=embeds)
    async with server.serve() as url:
        found = await LiteLLMEmbedder(url, MODEL, None, batch_texts=2, parallel=2).embed(WORDS)
    assert (found.vectors, found.attempts) == (vectors(*WORDS), 5)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (fails(401), AuthenticationFailed),
        (fails(403), AuthenticationFailed),
        (fails(400), ModelRejected),
        (fails(400, "litellm.ContentPolicyViolationError: no"), ContentRefused),
        (fails(400, "dimensions must be at most 1536"), ModelRejected),
        (fails(429, "You exceeded your current quota: insufficient_quota"), ModelOverloaded),
        (fails(400, "There are no healthy deployments for this model"), UnknownModel),
    ],
)
def test_what_does_not_pass_is_not_tried_again(answer: Answer, kind: type[ModelError]) -> None:
    server = ScriptedServer(answer)
    with pytest.raises(kind) as caught:
        embed(server, WORDS)
    assert type(caught.value) is kind
    assert len(server.requests) == 1


def test_pauses_double_and_are_at_least_what_the_server_asks_for() -> None:
    server = ScriptedServer(fails(500), fails(500), fails(500), fails(429, retry_after=20), otherwise=embeds)
    seconds = embed(server).seconds
    assert 0.25 + 0.5 + 1 + 20 + 2 <= seconds <= 0.5 + 1 + 2 + 20 + 4


def test_who_asks_for_more_than_a_minute_is_not_waited_for() -> None:
    server = ScriptedServer(fails(429, retry_after=61))
    with pytest.raises(ModelOverloaded) as caught:
        embed(server)
    assert (caught.value.retry_after, len(server.requests)) == (61, 1)


def test_each_request_has_the_time_that_was_given() -> None:
    error = error_of(waits(9) + raw(b""), timeout=Timeouts(call=2))
    assert isinstance(error, ModelTimeout)
    assert (error.clock, error.seconds) == ("call", 2)


async def test_no_proxy_is_said_so() -> None:
    with pytest.raises(ProxyUnreachable, match=r"could not connect to http://127\.0\.0\.1:1/v1/embeddings"):
        await LiteLLMEmbedder("http://127.0.0.1:1", MODEL, None, retries=0).embed(["a"])


def test_an_address_without_embeddings_is_said_so() -> None:
    assert "There are no embeddings at this address" in str(error_of(raw(b"Not Found", status=404)))


def test_the_text_of_an_error_names_what_came() -> None:
    assert str(error_of(wrong([]))) == (
        "LiteLLM API error: http://proxy/v1/embeddings answered HTTP 200 for model 'text-embedding-3-small', but not with a vector for each "
        "text: 0 for 1\n  A provider that broke looks so; trying again may help. Is the URL that of a LiteLLM proxy? The address came from base_url."
    )


def test_dimensions_that_the_model_does_not_take_are_an_error() -> None:
    server = ScriptedServer(otherwise=lambda request: embeds(request, [1.0, 0.0, 0.0]))
    with pytest.raises(
        UnsupportedParameter, match="gave vectors of 3 numbers, not of dimensions=2"
    ) as caught:
        embed(server, dimensions=2)
    assert (caught.value.parameters, len(server.requests)) == (("dimensions",), 1)


def test_vectors_of_two_lengths_are_an_error_within_a_batch_and_across() -> None:
    within = error_of(wrong([{"embedding": [1]}, {"embedding": [1, 2]}]), texts=["a", "b"])
    assert "some are of 1 numbers and some of 2" in str(within)
    across = [wrong([{"embedding": [1]}]), wrong([{"embedding": [1, 2]}])]
    assert "some are of 1 numbers and some of 2" in str(error_of(*across, texts=["a", "b"], batch_texts=1))


# ------------------------------------------------------------------------------------------------------------ too much


def at_most(characters: int, answer: Answer) -> Any:
    return lambda request: answer if len("".join(request["input"])) > characters else embeds(request)


@pytest.mark.parametrize(
    "refusal",
    [
        fails(400, TOO_LONG),
        fails(413),
        fails(400, "litellm.BadRequestError: Requested 600123 tokens, max 300000 tokens per request"),
        fails(400, "Invalid 'input': array too long. Expected an array with maximum length 2048"),
        fails(400, "at most 100 requests can be in one batch"),
    ],
)
def test_a_batch_that_is_refused_for_its_size_is_sent_in_halves(refusal: Answer) -> None:
    server = ScriptedServer(otherwise=at_most(15, refusal))
    found = embed(server, WORDS[:4])
    assert found.vectors == vectors(*WORDS[:4])
    assert sent(server) == [WORDS[:4], WORDS[:2], WORDS[2:4], WORDS[2:3], WORDS[3:4]][: len(server.requests)]


def test_a_text_that_does_not_fit_by_itself_is_named() -> None:
    texts = [*WORDS, "word " * 100, *WORDS]
    with pytest.raises(ContextTooLong) as caught:
        embed(ScriptedServer(otherwise=at_most(100, fails(400, TOO_LONG))), texts, batch_texts=5)
    assert (caught.value.index, caught.value.status, caught.value.model) == (7, 400, MODEL)
    assert re.fullmatch(
        r"LiteLLM API error: texts\[7\], of 500 characters, is too long for model .*: .*8192 tokens.*\n  Split it, or choose a .*",
        str(caught.value),
    )


# ------------------------------------------------------------------------------------------------------------ other models


@pytest.mark.parametrize(
    "refusal", [fails(403, NOT_OPENAI), fails(400, NOT_ANTHROPIC), fails(404, NOT_GEMINI)]
)
def test_a_chat_model_gives_way_to_the_fallback_and_the_answer_says_so(refusal: Answer) -> None:
    server = ScriptedServer(
        otherwise=lambda request: refusal if request["model"] == "gpt-4o" else embeds(request)
    )
    embedder = in_memory(server, "gpt-4o", fallback_model=MODEL)

    async def twice() -> list[Embeddings]:
        return [await embedder.embed(["a cat"]), await embedder.embed(["the dog"])]

    first, second = run_virtual(twice())
    assert (first.vectors, first.model, first.fell_back_from) == (vectors("a cat"), MODEL, "gpt-4o")
    assert (second.vectors, second.model, second.fell_back_from) == (vectors("the dog"), MODEL, "gpt-4o")
    assert [request.body["model"] for request in server.requests] == ["gpt-4o", MODEL, MODEL]
    assert repr(first) == f"Embeddings(1 × 64, model='{MODEL}', fell_back_from='gpt-4o')"
    assert (first.attempts, second.attempts) == (2, 1)


def test_a_model_that_the_proxy_knows_to_be_for_chat_is_not_even_asked() -> None:
    """Its refusal would cost the chat: LiteLLM lets a model rest after it."""
    server = ScriptedServer(otherwise=embeds, models=("gpt-4o", MODEL, "other-embedder"))
    embedder = in_memory(server, "gpt-4o", fallback_model=MODEL)

    async def thrice() -> list[Embeddings]:
        chosen = EmbedRequest(["a cat"], model="other-embedder")
        return [await embedder.embed(texts) for texts in (["a cat"], ["a cat"], chosen)]

    found = run_virtual(thrice())
    assert [(each.model, each.fell_back_from) for each in found] == [
        (MODEL, "gpt-4o"),
        (MODEL, "gpt-4o"),
        ("other-embedder", ""),
    ]
    look, ask = "GET /model_group/info", "POST /v1/embeddings"
    assert server.paths == [look, ask, ask, look, ask]


def test_the_fallback_itself_and_no_text_need_no_look_at_the_proxy() -> None:
    server = ScriptedServer(otherwise=embeds)
    assert embed(server, [], fallback_model="other").vectors == ()
    assert embed(server, fallback_model=MODEL).fell_back_from == ""
    assert server.paths == ["POST /v1/embeddings"]


def test_without_a_fallback_a_chat_model_is_an_error_with_a_mend() -> None:
    error = error_of(fails(403, NOT_OPENAI), model="gpt-4o")
    assert type(error) is NoEmbeddings
    assert str(error).endswith(
        "It gives no embeddings: name a model that does, for example 'text-embedding-3-small', or give one as fallback_model."
    )


def test_nothing_of_a_model_that_refuses_half_way_is_left_beside_the_fallback() -> None:
    server = ScriptedServer(wrong([{"embedding": [1]}]), fails(403, NOT_OPENAI), otherwise=embeds)
    found = embed(server, WORDS[:2], model="gpt-4o", fallback_model=MODEL, batch_texts=1, parallel=1)
    assert (found.vectors, found.model, found.attempts) == (vectors(*WORDS[:2]), MODEL, 4)


def test_a_fallback_without_embeddings_is_an_error() -> None:
    server = ScriptedServer(otherwise=lambda _: fails(403, NOT_OPENAI))
    with pytest.raises(NoEmbeddings, match="for model 'gpt-4o-mini'"):
        embed(server, model="gpt-4o", fallback_model="gpt-4o-mini")
    with pytest.raises(NoEmbeddings, match="for model 'gpt-4o'"):
        embed(server, model="gpt-4o", fallback_model="gpt-4o")


def test_no_other_error_leads_to_the_fallback() -> None:
    assert error_of(fails(500), fallback_model="other").model == MODEL


def test_a_proxy_that_does_not_say_what_a_model_is_for_leaves_it_to_the_model() -> None:
    server = ScriptedServer(otherwise=embeds, api_key="sk-right")
    with pytest.raises(AuthenticationFailed):
        embed(server, fallback_model="other")
    assert server.paths == ["GET /model_group/info", "POST /v1/embeddings"]


def test_a_fallback_of_the_proxy_shows_in_the_models_name() -> None:
    server = ScriptedServer(
        otherwise=lambda request: with_headers(
            embeds(request), x_litellm_attempted_fallbacks="1", x_litellm_model_group="other"
        )
    )
    assert embed(server, WORDS, batch_texts=2).model == "other"


def test_vectors_of_two_models_are_never_given_as_one_answer() -> None:
    first = with_headers(
        wrong([{"embedding": [1]}]), x_litellm_attempted_fallbacks="1", x_litellm_model_group="other"
    )
    error = error_of(first, wrong([{"embedding": [1]}]), texts=["a", "b"], batch_texts=1)
    assert type(error) is ModelFailed
    assert f"they are from other and {MODEL} and have nothing to do with each other" in str(error)


# ------------------------------------------------------------------------------------------------------------ configuration


@pytest.mark.parametrize(
    ("argument", "value", "text"),
    [
        ("dimensions", 0, "dimensions=0 must be at least 1"),
        ("batch_texts", 0, "batch_texts=0 must be at least 1"),
        ("batch_tokens", 0, "batch_tokens=0 must be at least 1"),
        ("parallel", 0, "parallel=0 must be at least 1"),
        ("retries", -1, "retries=-1 must be at least 0"),
        ("timeout", 0, "timeout: call=0 must be a number of seconds above 0"),
        ("extra_params", {"input": ["a"]}, "extra_params sets 'input', which has its own place: the texts are the request's"),
        ("transport", object(), "transport=object: it has no send()"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_at_once(argument: str, value: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(text)) as caught:
        LiteLLMEmbedder("http://proxy", MODEL, **{argument: value})
    assert caught.value.argument == argument


def test_params_that_have_their_own_place_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="params sets 'model'"):
        embed(ScriptedServer(), EmbedRequest(["a"], params={"model": "x"}))


def test_the_model_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOOPY_EMBEDDING_MODEL", "text-embedding-3-large")
    assert LiteLLMEmbedder("http://proxy").model == "text-embedding-3-large"
    monkeypatch.delenv("LOOOPY_EMBEDDING_MODEL")
    with pytest.raises(ConfigurationError, match="no embedding model is named: pass model=") as caught:
        LiteLLMEmbedder("http://proxy")
    assert caught.value.argument == "model"
