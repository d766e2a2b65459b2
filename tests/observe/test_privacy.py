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

from looopy import LiteLLMProvider, LooopyError, Output
from looopy.errors import ModelRejected
from looopy.events import LLMEvent
from looopy.observe import instrument
from looopy.ports import LLMRequest
from looopy.providers.transport import HTTP
from looopy.testing import ScriptedModel, ScriptedServer, calls, cuts, fails, says
from observe.watched import agent, answer, each_provider

SAID = "Ada is ill"
KEY = "sk-live-ABCDEF0123456789xyz"


class Watched:
    """What is on the spans of a run, and in its log."""

    def __init__(self, spans: tuple[ReadableSpan, ...], log: list[logging.LogRecord]) -> None:
        self.spans = spans
        self.lines = [record.getMessage() for record in log]
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

    async def watched(provider: Any, clerk: Any, *, capture_content: bool = False, **asked: Any) -> Watched:
        spans = InMemorySpanExporter()
        recording = instrument(exporters=[spans], tracer_provider=provider(), capture_content=capture_content)
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
    assert "tool '_unknown' ended: failed, UnknownTool, 0.00 s" in seen.lines


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
    "an answer that does not fit": (
        lambda: {"llm_provider": ScriptedModel(says(SAID)), "output_type": Output(int, retries=0)},
        "OutputInvalid: the answer does not fit int",
    ),
    "a limit": (
        lambda: {"llm_provider": ScriptedModel(calls("add", a=1, b=2)), "max_iterations": 1},
        "LimitExceeded: run stopped by max_iterations=1: 1 model calls and no final answer; raise the limit, or go on from the partial result in error.result",
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
    assert seen.lines[-1].partition("; ")[2] == status
