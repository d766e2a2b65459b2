"""Without content, nothing that was said is on a span or in a log, whoever fails with it and wherever it is put; nor is a credential, ever."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import pytest
import reactivex as rx
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from looopy import LooopyError
from looopy.observe import instrument
from looopy.testing import calls, says
from observe.watched import agent, answer, each_provider

SAID = "Ada is ill"
KEY = "sk-live-ABCDEF0123456789xyz"


class Watched:
    """What is on the spans of a run, and in its log."""

    def __init__(self, spans: tuple[ReadableSpan, ...], log: list[logging.LogRecord]) -> None:
        self.spans = spans
        self.lines = [record.getMessage() for record in log]
        self.everything = repr([(span.name, span.status.description, dict(span.attributes or {})) for span in spans])
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
        with instrument(exporters=[spans], tracer_provider=provider(), capture_content=capture_content):
            with suppress(LooopyError, RuntimeError):
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
