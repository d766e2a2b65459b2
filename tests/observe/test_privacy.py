"""Without content, nothing that was said is on a span or in a log, whoever fails with it and wherever it is put; nor is a credential, ever."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import reactivex as rx
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from looopy import LiteLLMProvider, LooopyError, Message, Output
from looopy.errors import ModelRejected, ModelTimeout
from looopy.events import Failure, LLMEvent, LLMResponse, LLMRetry, ToolComplete
from looopy.messages import FilePart, ToolCall
from looopy.observe import instrument
from looopy.ports import LLMRequest, ToolContext, ToolDefinition
from looopy.providers.transport import HTTP
from looopy.state import LoopState
from looopy.testing import ScriptedModel, ScriptedServer, calls, cuts, fails, says
from observe.each import each_provider
from observe.watched import agent, answer

SAID = "Ada is ill"
KEY = "sk-live-ABCDEF0123456789xyz"


class Watched:
    """What is on the spans of a run, and in its log."""

    def __init__(self, spans: tuple[ReadableSpan, ...], log: list[logging.LogRecord]) -> None:
        self.spans = spans
        self.lines = [record.getMessage().partition(": ")[2] for record in log]
        self.everything = repr(
            [(span.name, span.status.description, dict(span.attributes or {})) for span in spans]
        )
        self.everything += repr([vars(record) for record in log])

    def statuses(self) -> dict[str, str | None]:
        return {span.name: span.status.description for span in self.spans if span.status.description}

    def named(self, name: str) -> ReadableSpan:
        return next(span for span in self.spans if span.name.startswith(name))

    def leaks(self, *words: str) -> list[str]:
        return [word for word in words if word in self.everything]


@pytest.fixture
def watched(caplog: pytest.LogCaptureFixture):
    """Runs an agent and says what was recorded of it."""
    caplog.set_level(logging.DEBUG, "looopy.run")

    async def watched(
        provider: Any, clerk: Any, *, capture_content: bool = False, redact: Any = None, **asked: Any
    ) -> Watched:
        spans = InMemorySpanExporter()
        recording = instrument(
            exporters=[spans], tracer_provider=provider(), capture_content=capture_content, redact=redact
        )
        with recording, suppress(LooopyError, RuntimeError):
            await answer(clerk, **asked)
        return Watched(spans.get_finished_spans(), [r for r in caplog.records if r.name == "looopy.run"])

    return watched


# ---------------------------------------------------------------------------------------------------------- names of tools
@each_provider
@pytest.mark.parametrize("name", [f"send {SAID}", KEY, "x" * 1_000_000])
async def test_a_tool_that_a_model_made_up_has_no_name(watched, provider, name: str) -> None:
    seen = await watched(provider, agent(calls(name), says("5")))
    assert seen.leaks(name) == []
    assert seen.named("execute_tool").name == "execute_tool _unknown"
    assert seen.named("execute_tool").attributes["gen_ai.tool.name"] == "_unknown"
    assert "tool '_unknown' ended: failed, UnknownTool" in [line.rpartition(", ")[0] for line in seen.lines]


@each_provider
async def test_a_made_up_name_that_looks_like_one_is_seen_only_by_who_asks_for_every_detail(
    watched, provider
) -> None:
    seen = await watched(provider, agent(calls("Ada_is_ill"), says("5")))
    assert [line for line in seen.lines if "Ada" in line] == ["tool 'Ada_is_ill' begins"]
    assert [span.name for span in seen.spans if "Ada" in repr((span.name, span.attributes))] == []
    assert seen.named("execute_tool").name == "execute_tool _unknown"


# --------------------------------------------------------------------------------------------------------- words of errors
class Plug:
    """A model that says what it is made with."""

    model = "gpt-4o"

    def __init__(self, *events: LLMEvent, error: Exception | None = None) -> None:
        self.events = events
        self.error = error

    def call(self, request: LLMRequest) -> rx.Observable[LLMEvent]:
        return rx.throw(self.error) if self.error else rx.of(*self.events)


def proxy(*script: Any) -> LiteLLMProvider:
    server = ScriptedServer(*script)
    return LiteLLMProvider("http://proxy:4000", "gpt-4o", api_key=None, transport=HTTP(server.transport()))


def broken() -> None:
    raise LookupError(f"no record of {SAID}, {KEY}")


ADVICE = "; raise the limit, or go on from the partial result in error.result"
ASKED = "LiteLLM API error: HTTP {} from http://proxy:4000/v1/chat/completions for model 'gpt-4o'"
ENDINGS: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "a tool that ends the task": (
        lambda: {
            "llm_provider": ScriptedModel(calls("broken"), name="gpt-4o"),
            "tools": [broken],
            "on_tool_error": "raise",
        },
        "ToolFailed: the tool 'broken' raised LookupError",
    ),
    "a model that raises": (
        lambda: {"llm_provider": Plug(error=RuntimeError(f"cannot parse {SAID}, {KEY}"))},
        "RuntimeError",
    ),
    "a model that raises as looopy does": (
        lambda: {"llm_provider": Plug(error=ModelRejected(f"HTTP 400 for {SAID}: {KEY}"))},
        "ModelRejected",
    ),
    "a server that refuses": (
        lambda: {"llm_provider": proxy(fails(400, f"invalid message: {SAID} {KEY}"))},
        f"ModelRejected: {ASKED.format(400)}",
    ),
    "a server without the model": (
        lambda: {"llm_provider": proxy(fails(404, f"model_not_found: {SAID} {KEY}"))},
        "UnknownModel: LiteLLM API error: the proxy at http://proxy:4000 has no model 'gpt-4o' (HTTP 404)",
    ),
    "a server that breaks off": (
        lambda: {"llm_provider": proxy(says("Hel") + cuts())},
        "StreamBroken: LiteLLM API error: the answer of model 'gpt-4o' from http://proxy:4000/v1/chat/completions broke off after 1 event",
    ),
    "a library that refuses": (
        lambda: {
            "llm_provider": Plug(error=ModelRejected(f"LiteLLM error for model 'gpt-4o': {SAID}\n  {KEY}"))
        },
        "ModelRejected: LiteLLM error for model 'gpt-4o'",
    ),
    "a clock": (
        lambda: {
            "llm_provider": Plug(
                error=ModelTimeout(
                    f"LiteLLM request timeout after 2.5 s (first-token): model 'gpt-4o' at http://proxy:4000 had said nothing.\n{SAID}",
                    clock="first-token",
                    seconds=2.5,
                )
            )
        },
        "ModelTimeout: LiteLLM request timeout after 2.5 s (first-token): model 'gpt-4o' at http://proxy:4000 had said nothing",
    ),
    "an answer that does not fit": (
        lambda: {"llm_provider": ScriptedModel(says(SAID)), "output_type": Output(int, retries=0)},
        "OutputInvalid: the answer does not fit int",
    ),
    "a limit": (
        lambda: {"llm_provider": ScriptedModel(calls("add", a=1, b=2)), "max_iterations": 1},
        "LimitExceeded: run stopped by max_iterations=1: 1 model calls and no final answer",
    ),
}


@each_provider
@pytest.mark.parametrize("what", ENDINGS)
async def test_what_ends_a_run_is_told_in_looopys_own_words_alone(watched, provider, what: str) -> None:
    made, status = ENDINGS[what]
    options = made()
    output_type = options.pop("output_type", str)
    seen = await watched(provider, agent(**options), output_type=output_type)
    assert seen.leaks(SAID, KEY) == []
    assert seen.statuses()["invoke_agent clerk"] == seen.statuses()["agent.iteration"] == status
    assert seen.lines[-1].partition("; ")[2].removesuffix(ADVICE) == status


# -------------------------------------------------------------------------------------------------- names, ids and metadata
class Refuses:
    """A tool provider whose failures are of no kind that anybody knows."""

    def tools(self, state: LoopState) -> list[ToolDefinition]:
        return [ToolDefinition(name="ask", description="", parameters={"type": "object"})]

    def call(self, call: ToolCall, context: ToolContext) -> rx.Observable[ToolComplete]:
        return rx.of(ToolComplete(error=Failure(type=f"no {SAID} {KEY}", message=SAID)))


@each_provider
async def test_a_credential_in_what_a_plug_says_of_itself_is_hidden(watched, provider) -> None:
    bad = Failure(type="Refused", message=f"bad key {KEY}, asked for {SAID}")
    retry = LLMRetry(attempt=1, error=bad, model=f"m {KEY}", next_model=f"n {KEY}")
    named = {"response_id": f"r {KEY}", "model": f"m {KEY}", "call_id": f"c {KEY}", "served_by": f"s {KEY}"}
    response = LLMResponse(message=Message("assistant", "5"), **named)
    plug = Plug(retry, response)
    plug.model = ""
    seen = await watched(provider, agent(llm_provider=plug))

    assert seen.leaks(KEY, SAID) == []
    chat = seen.named("chat")
    assert chat.name == "chat m ***"
    assert chat.attributes["gen_ai.response.id"] == "r ***"
    assert (seen.named("attempt").name, seen.named("attempt").status.description) == (
        "attempt m ***",
        "Refused",
    )


@each_provider
async def test_with_content_the_words_of_an_error_are_shown_without_credentials_and_cut(
    watched, provider
) -> None:
    plug = Plug(error=RuntimeError(f"{KEY} cannot be used for {SAID}{'!' * 100_000}"))
    seen = await watched(provider, agent(llm_provider=plug), capture_content=True)
    status = seen.named("chat").status.description
    assert status.startswith(f"RuntimeError: *** cannot be used for {SAID}!!")
    assert status.endswith("!… [cut: 16,384 of 100,033 characters shown]")
    assert seen.leaks(KEY) == []


@each_provider
async def test_the_kind_of_an_error_is_the_name_of_a_class_or_none(watched, provider) -> None:
    seen = await watched(provider, agent(calls("ask"), says("5"), tools=[], tool_providers=[Refuses()]))
    assert seen.leaks(KEY, SAID) == []
    assert seen.named("execute_tool").attributes["error.type"] == "_OTHER"
    assert seen.named("execute_tool").status.description == "_OTHER"


@each_provider
async def test_metadata_tags_and_the_user_are_recorded_without_credentials_and_not_endlessly(
    watched, provider
) -> None:
    endless = "x" * 100_000
    metadata = {
        "tenant": f"acme {KEY}",
        "api_key": "aaa111",
        "request": {"authorization": "Bearer abcdef1234567890", "path": "/"},
        "notes": endless,
        "many": list(range(10_000)),
        "tries": 3,
        "none": None,
    }
    asked: dict[str, Any] = {"user_id": f"ada {KEY}", "tags": [KEY, endless]}
    seen = await watched(provider, agent(agent_id=endless), metadata=metadata, **asked)

    assert seen.leaks(KEY, "aaa111", "abcdef1234567890") == []
    root = seen.named("invoke_agent")
    cut = "x" * 128 + "… [cut: 128 of 100,000 characters shown]"
    assert root.name == f"invoke_agent {cut}"
    shown = {
        name.removeprefix("langfuse.trace.metadata."): value
        for name, value in root.attributes.items()
        if name.startswith("langfuse.trace.metadata.")
    }
    many = shown.pop("many")
    assert len(many) < 1_200
    assert shown == {
        "tenant": "acme ***",
        "api_key": "***",
        "request": '{"authorization":"***","path":"/"}',
        "notes": "x" * 1_024 + "… [cut: 1,024 of 100,000 characters shown]",
        "tries": 3,
    }
    for span in seen.spans:
        assert (span.attributes["user.id"], span.attributes["langfuse.trace.tags"]) == (
            "ada ***",
            ("***", cut),
        )


@each_provider
async def test_the_key_of_a_provider_is_hidden_whatever_it_looks_like(watched, provider) -> None:
    key = "house-key-77"
    server = ScriptedServer(calls("look"), says(f"It is {key}."))
    model = LiteLLMProvider("http://proxy:4000", "m", key, transport=HTTP(server.transport()))

    def look() -> str:
        """Look."""
        return f"LITELLM_API_KEY is {key}"

    seen = await watched(provider, agent(llm_provider=model, tools=[look]), capture_content=True)
    assert seen.leaks(key) == []
    assert seen.named("execute_tool").attributes["gen_ai.tool.call.result"] == "LITELLM_API_KEY is ***"
    assert seen.named("invoke_agent").attributes["output.value"] == "It is ***."


@each_provider
@pytest.mark.parametrize("name", ["LITELLM_MASTER_KEY", "db_pass", "x-auth", "db_pwd", "sessionid"])
async def test_what_stands_under_the_name_of_a_credential_is_hidden(watched, provider, name: str) -> None:
    def look() -> dict[str, str]:
        """Look."""
        return {name: "abc1", "passes": "9", "author": "Ada"}

    seen = await watched(provider, agent(calls("look"), says("5"), tools=[look]), capture_content=True)
    result = seen.named("execute_tool").attributes["gen_ai.tool.call.result"]
    assert result == f'{{"{name}":"***","passes":"9","author":"Ada"}}'


PNG = FilePart.of(b"\x89PNG" * 400, mime_type="image/png", name="rain.png")
NAMED = (
    '{"url":"","data":"[1,600 bytes, not recorded]","mime_type":"image/png","name":"rain.png","type":"file"}'
)


@each_provider
@pytest.mark.parametrize("redact", [None, lambda text, _: text], ids=["as it is", "with a hook"])
@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (PNG, NAMED),
        ({"picture": PNG, "data": "kept"}, f'{{"picture":{NAMED},"data":"kept"}}'),
        ({"picture": PNG, "quoted": 'a "b"'}, f'{{"picture":{NAMED},"quoted":"a \\"b\\""}}'),
        (
            f"See data:image/png;base64,{PNG.data} and go.",
            "See data:image/png;base64,[1,600 bytes, not recorded] and go.",
        ),
    ],
)
async def test_a_file_that_a_tool_gives_back_is_named_and_not_dumped(
    watched, provider, given: object, shown: str, redact: Any
) -> None:
    def look() -> Any:
        """Look."""
        return given

    seen = await watched(
        provider, agent(calls("look"), says("5"), tools=[look]), capture_content=True, redact=redact
    )
    assert seen.named("execute_tool").attributes["gen_ai.tool.call.result"] == shown
    assert seen.leaks(PNG.data[:40]) == []
