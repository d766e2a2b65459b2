"""What is rare: odd providers, events that belong to nothing, and programs that listen to nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.trace import ProxyTracerProvider

import looopy.observe
from looopy import AgentLoop, ConfigurationError, EmbedRequest, LiteLLMEmbedder, watcher
from looopy.events import Event, Failure, InputRequired, LLMResponse, LLMRetry, ToolComplete
from looopy.messages import Message
from looopy.observe import Instrumentation, instrument, pipeline, sayings
from looopy.observe.attributes import provider_name, server
from looopy.observe.meters import LaterMeter, LightMeters
from looopy.observe.sending.destinations import Destination, Outlet
from looopy.observe.spans import Spans
from looopy.observe.tracer import Provider
from looopy.providers.transport import HTTP
from looopy.testing import ScriptedServer, embeds, says
from looopy.watcher import Watched

from .kept import RESOURCE
from .kept import Kept as KeptMetrics
from .watched import Keeps, agent, answer, light, sdk


async def watched_run(recording: Instrumentation) -> Watched:
    """A run that is watched and has not begun."""
    mine, seen = watcher.watcher(), []
    assert mine is recording

    class Notes:
        embed = recording.embed

        def watch(self, *about: Any) -> Watched:
            seen.append(about)
            return recording.watch(*about)

    watcher.watch_with(Notes())
    await answer(agent(says("5")))
    watcher.watch_with(mine)
    return recording.watch(*seen[0])


def test_the_public_names_are_listed() -> None:
    assert dir(looopy.observe) == looopy.observe.__all__


def test_an_address_that_is_none_is_left_out() -> None:
    assert server(SimpleNamespace(base_url="http://[half")) == ("", 0)


def test_a_prefix_names_the_provider() -> None:
    assert [provider_name(name) for name in ("bedrock/claude-3", "gpt-4o", "mine")] == [
        "aws.bedrock",
        "openai",
        "litellm",
    ]


def test_a_trace_that_a_destination_does_not_want_is_not_sent_there() -> None:
    keeps = Keeps()
    provider = sdk()
    wants_none = Destination("here", keeps, takes=lambda trace_id: False)
    Outlet.of(provider).lead_to([wants_none])
    provider.get_tracer("x").start_span("one").end()
    wants_none.flush()
    assert (keeps.names, wants_none.lost) == ([], 0)


async def test_whose_texts_are_embedded_is_on_the_span() -> None:
    spans: list[dict[str, Any]] = []

    class All(Keeps):
        def export(self, given):
            spans.extend(dict(span.attributes or {}) for span in given)
            return super().export(given)

    one, other = (embeds({"input": [text], "model": "e"}, [1.0]) for text in "ab")
    server = ScriptedServer(one, one, other)
    embedder = LiteLLMEmbedder(
        "http://p:4000", "e", api_key=None, batch_texts=1, transport=HTTP(server.transport())
    )
    with instrument(exporters=[All()], tracer_provider=sdk()) as recording:
        await embedder.embed(EmbedRequest(["a"], session_id="s", user_id="ada", tags=("t",)))
        await embedder.embed(EmbedRequest(["a", "b"]))
        assert recording.flush()
    about, both = spans
    assert [each.get("looopy.llm.attempts") for each in (about, both)] == [None, 2]
    assert (about["session.id"], about["user.id"], about["langfuse.trace.tags"]) == ("s", "ada", ("t",))


async def test_events_that_belong_to_no_open_span_change_nothing() -> None:
    failure = Failure(type="Busy", message="busy")
    strays: list[Event] = [
        LLMRetry(attempt=1, error=failure, seconds=0.0, model="m"),
        ToolComplete(call_id="nobody", tool_name="add", result=1),
        InputRequired(call_id="nobody", input_id="i", prompt="?"),
    ]
    keeps = Keeps()
    with instrument(exporters=[keeps], tracer_provider=light()) as recording:
        run = await watched_run(recording)
        for stray in strays:
            run.see(stray)
        run.end(None)
        assert recording.flush()
    assert keeps.names.count("invoke_agent clerk") == 2
    assert not [name for name in keeps.names if name.startswith(("attempt", "execute_tool"))]


async def test_a_run_that_is_told_of_an_error_leaves_no_span_open() -> None:
    keeps = Keeps()
    with instrument(exporters=[keeps], tracer_provider=light()) as recording:
        run = await watched_run(recording)
        run.end(ValueError("broken"))
        assert recording.flush()
    assert keeps.names.count("invoke_agent clerk") == 2


async def test_nothing_is_logged_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("looopy.run"), "propagate", False)
    keeps = Keeps()
    with instrument(exporters=[keeps], tracer_provider=light()) as recording:
        await answer()
        assert recording.flush()
    assert len(keeps.names) == 6


async def test_a_model_that_gives_no_stream_is_told_by_the_loop() -> None:
    class Wrong:
        model = "m"

        def call(self, request: Any, /) -> Any:
            return "Hi"

    with (
        instrument(exporters=(), tracer_provider=light()),
        pytest.raises(Exception, match="call"),
    ):
        await answer(AgentLoop(agent_id="clerk", llm_provider=Wrong()))


def test_recording_that_is_put_off_is_done_before_too_much_waits() -> None:
    meters, done, held, go = (
        LightMeters(KeptMetrics(), resource=RESOURCE),
        [],
        threading.Event(),
        threading.Event(),
    )

    def put_off(record: Callable[[Any], None], event: Any) -> None:
        run = LaterMeter(lambda: cast("Any", SimpleNamespace(on_event=record, end=bool)), meters)
        run.on_event(event)
        run.end()

    def hold(_: object) -> None:
        held.set()
        assert go.wait(5)

    put_off(hold, None)
    busy = threading.Thread(target=meters.collect, daemon=True)
    busy.start()
    assert held.wait(5)
    for number in range(600):  # nobody waits for the one that is at it
        put_off(done.append, number)
    assert done == []
    go.set()
    busy.join(5)
    for number in range(600, 900):
        put_off(done.append, number)
    assert done == list(range(len(done)))
    assert len(done) > 800
    meters.collect()
    meters.shutdown()
    assert done == list(range(900))


def test_langfuse_without_keys_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY"):
        instrument(langfuse=True, exporters=())


def test_a_program_that_names_its_service_keeps_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:1")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setattr(trace, "get_tracer_provider", ProxyTracerProvider)
    taken: list[Any] = []
    monkeypatch.setattr(trace, "set_tracer_provider", taken.append)
    pipeline._made.clear()
    for name in ("shop", "", "other"):
        with instrument(service_name=name):
            pass
    pipeline._made.clear()
    assert [provider.resource.attributes["service.name"] for provider in taken] == ["shop", "looopy", "other"]
    assert all(isinstance(provider, Provider) for provider in taken)


def test_the_same_place_under_two_names_gets_each_span_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-1")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-1")
    monkeypatch.setenv("LANGFUSE_BASE_URL", "http://localhost:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://localhost:1/api/public/otel/v1/traces")
    monkeypatch.setattr(trace, "get_tracer_provider", ProxyTracerProvider)
    monkeypatch.setattr(trace, "set_tracer_provider", lambda provider: None)
    pipeline._made.clear()
    with instrument(langfuse="otlp") as recording:
        assert repr(recording) == "<looopy.observe: Langfuse at http://localhost:1>"
    pipeline._made.clear()


def test_a_programs_own_meter_provider_takes_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = MeterProvider(shutdown_on_exit=False)
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: mine)
    with instrument(exporters=(), tracer_provider=sdk()) as recording:
        assert "your meter provider" in repr(recording)


def test_a_request_that_stops_at_words_says_which() -> None:
    assert sayings.parameters({"stop": "END", "temperature": 0.5}) == {
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.temperature": 0.5,
    }
    assert sayings.parameters({"stop": ["A", "B"]}) == {"gen_ai.request.stop_sequences": ("A", "B")}


def test_an_answer_from_a_cache_says_so_and_the_old_names_leave_out_what_is_not_known() -> None:
    event = LLMResponse(message=Message("assistant", "Hi"), cached=True)
    said = sayings.answer(event, None, attempts=1, legacy=True)
    assert said == {"gen_ai.response.finish_reasons": ("stop",), "looopy.llm.cached": True}


async def test_many_providers_in_turn_are_not_all_remembered() -> None:
    keeps = Keeps()
    with instrument(exporters=[keeps], tracer_provider=light()) as recording:
        spans: Spans = recording._spans
        for _ in range(70):
            await answer(agent(says("5")))
        assert len(spans.asked.known) <= 64
        assert recording.flush()
    assert len(keeps.names) == 210
