"""The real `langfuse` package, pointed at a server on loopback: all of our spans arrive, once, as Langfuse should show them."""

from __future__ import annotations

import importlib
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from langfuse import Langfuse, get_client, propagate_attributes
from langfuse._client.span_processor import LangfuseSpanProcessor
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import SpanKind, Tracer

import looopy.observe.langfuse
from looopy import MissingExtra
from looopy.observe.langfuse import Mask, attach
from looopy.observe.sending.otlp import OTLPExporter
from observe.langfuse_server import LangfuseServer
from observe.receiver import tree


@pytest.fixture
def server() -> Iterator[LangfuseServer]:
    with LangfuseServer() as server:
        yield server


@pytest.fixture
def provider() -> Iterator[TracerProvider]:
    provider = TracerProvider(shutdown_on_exit=False)
    yield provider
    provider.shutdown()


def text(role: str, content: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": content}]}])


COMMON: dict[str, Any] = {
    "gen_ai.agent.name": "math",
    "gen_ai.conversation.id": "ctx-1",
    "user.id": "ada",
    "langfuse.trace.tags": ["docs", "beta"],
}


def a_run(tracer: Tracer) -> None:
    """The spans of one run, as looopy makes them."""

    def begin(
        name: str, below: trace.Span | None, kind: SpanKind = SpanKind.INTERNAL, **more: Any
    ) -> trace.Span:
        at_start = COMMON | {key.replace("__", "."): value for key, value in more.items()}
        context = trace.set_span_in_context(below) if below else None
        return tracer.start_span(name, context, kind, at_start)

    root = begin("invoke_agent math", None, gen_ai__operation__name="invoke_agent")
    root.set_attributes(
        {"gen_ai.input.messages": text("user", "1 + 2?"), "gen_ai.output.messages": text("assistant", "3")}
    )
    step = begin("agent.iteration", root, langfuse__observation__type="chain")
    chat = begin("chat gpt-4o", step, SpanKind.CLIENT, gen_ai__operation__name="chat")
    chat.set_attributes(
        {
            "gen_ai.system_instructions": '[{"type":"text","content":"Be brief."}]',
            "gen_ai.input.messages": text("user", "1 + 2?"),
            "gen_ai.output.messages": text("assistant", "3"),
            "gen_ai.usage.input_tokens": 7,
            "langfuse.observation.prompt.name": "support",
            "langfuse.observation.prompt.version": 3,
        }
    )
    tool = begin("execute_tool add", step, gen_ai__operation__name="execute_tool", gen_ai__tool__name="add")
    tool.set_attributes({"gen_ai.tool.call.arguments": '{"a":1}', "gen_ai.tool.call.result": "3"})
    for span in (tool, chat, step, root):
        span.end()


TREE = """\
invoke_agent math [INTERNAL]
  agent.iteration [INTERNAL]
    chat gpt-4o [CLIENT]
    execute_tool add [INTERNAL]"""


def test_a_run_arrives_whole_with_what_langfuse_groups_links_and_filters_by(
    server: LangfuseServer, provider: TracerProvider
) -> None:
    """The package drops what it does not know, and gives environment and release to its own provider only."""
    account = server.account(environment="staging", release="v7")
    plain = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(plain))
    attached = attach(account, provider)

    a_run(provider.get_tracer("looopy"))
    attached.flush()

    spans = server.wait(spans=4)
    assert tree(spans) == TREE
    root, step, chat, tool = sorted(spans, key=lambda span: span.start)
    shared = COMMON | {"langfuse.environment": "staging", "langfuse.release": "v7"}
    question = {"role": "user", "content": "1 + 2?"}
    answer = '{"role":"assistant","content":"3"}'
    assert root.attributes == shared | {
        "gen_ai.operation.name": "invoke_agent",
        "langfuse.observation.input": json.dumps([question], separators=(",", ":")),
        "langfuse.observation.output": answer,
        "langfuse.internal.is_app_root": True,
    }
    assert step.attributes == shared | {"langfuse.observation.type": "chain"}
    assert chat.attributes == shared | {
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 7,
        "langfuse.observation.prompt.name": "support",
        "langfuse.observation.prompt.version": 3,
        "langfuse.observation.input": json.dumps(
            [{"role": "system", "content": "Be brief."}, question], separators=(",", ":")
        ),
        "langfuse.observation.output": answer,
    }
    assert tool.attributes["gen_ai.tool.call.result"] == "3"
    assert server.headers[0]["x-langfuse-ingestion-version"] == "4"
    # looopy's own exporter sends the same, and others still get the form of the conventions.
    ours = server.account(environment="staging", release="v7")
    exporter = OTLPExporter(ours.endpoint, headers=ours.headers, rewrite=ours.rewrite)
    exporter.export(plain.get_finished_spans())
    exporter.shutdown()
    assert {span.span_id: span.attributes for span in server.wait(spans=8)[4:]} == {
        span.span_id: span.attributes for span in spans
    }
    others = {span.name: span.attributes or {} for span in plain.get_finished_spans()}
    assert "gen_ai.input.messages" in others["chat gpt-4o"]
    attached.shutdown()


def test_what_it_has_delivered_is_counted_and_a_forked_child_counts_anew(
    server: LangfuseServer, provider: TracerProvider
) -> None:
    account = server.account()
    attach(account, provider)
    a_run(provider.get_tracer("looopy"))
    provider.force_flush()
    attached = attach(account, provider)
    a_run(provider.get_tracer("looopy"))
    attached.flush()
    assert (attached.delivered, attached.lost) == (4, 0)

    attached.forked()  # the exporter too begins with 0 there; here it has not forked
    assert (attached.delivered, attached.lost) == (8, 0)
    attached.hurry()
    attached.shutdown()


def test_attaching_twice_or_making_the_client_again_doubles_nothing(
    server: LangfuseServer, provider: TracerProvider, caplog: pytest.LogCaptureFixture
) -> None:
    account = server.account()
    attached = [attach(account, provider), attach(account, provider)]
    Langfuse(public_key=account.public_key, secret_key=account.secret_key, tracer_provider=provider)
    attached.append(attach(account, provider))

    a_run(provider.get_tracer("looopy"))
    for each in attached:
        each.flush()

    assert tree(server.spans) == TREE
    assert "looopy adds nothing" not in caplog.text
    for each in reversed(attached):
        each.shutdown()


def test_the_client_is_the_one_that_get_client_gives_and_its_own_spans_are_in_the_tree(
    server: LangfuseServer, provider: TracerProvider
) -> None:
    account = server.account()
    attached = attach(account, provider)

    client = get_client(public_key=account.public_key)
    with client.start_as_current_observation(name="request"):
        a_run(provider.get_tracer("looopy.tools"))
    attached.flush()

    assert tree(server.spans).splitlines()[:2] == ["request [INTERNAL]", "  invoke_agent math [INTERNAL]"]
    attached.shutdown()


def test_a_client_of_another_provider_goes_on_and_ours_is_sent_beside_it(
    server: LangfuseServer, provider: TracerProvider, caplog: pytest.LogCaptureFixture
) -> None:
    account, other = server.account(environment="staging"), TracerProvider(shutdown_on_exit=False)
    client = Langfuse(
        public_key=account.public_key,
        secret_key=account.secret_key,
        base_url=account.base_url,
        tracer_provider=other,
    )
    attached = attach(account, provider)
    attach(account, provider)

    a_run(provider.get_tracer("looopy"))
    client.start_observation(name="theirs").end()
    attached.flush()
    client.flush()

    names = sorted(span.name for span in server.wait(spans=5))
    assert names == ["agent.iteration", "chat gpt-4o", "execute_tool add", "invoke_agent math", "theirs"]
    assert [
        span.attributes.get("langfuse.environment") for span in server.spans if span.name != "theirs"
    ] == ["staging"] * 4
    assert "looopy adds nothing" not in caplog.text
    attached.shutdown()
    client.shutdown()
    other.shutdown()


@pytest.mark.parametrize("kind", ["client", "client with our mask", "processor"])
def test_who_was_on_the_provider_before_stays_and_is_told_what_is_missing(
    kind: str, server: LangfuseServer, provider: TracerProvider, caplog: pytest.LogCaptureFixture
) -> None:
    account = server.account()
    keys = {"public_key": account.public_key, "secret_key": account.secret_key, "base_url": account.base_url}
    client = None
    if kind == "processor":
        provider.add_span_processor(LangfuseSpanProcessor(**keys))
    else:
        mask = Mask(account) if kind.endswith("mask") else None
        client = Langfuse(**keys, tracer_provider=provider, mask_otel_spans=mask)
    with caplog.at_level(logging.WARNING, "looopy"):
        attached = attach(account, provider)

    a_run(provider.get_tracer("looopy"))
    attached.hurry()
    attached.flush()

    assert tree(server.wait(spans=4)) == TREE
    assert (attached.delivered, attached.lost) == (0, 0)  # which looopy cannot know
    chat = next(span for span in server.spans if span.name.startswith("chat"))
    assert ("langfuse.observation.input" in chat.attributes) == kind.endswith("mask")
    assert ("make your client with Langfuse(mask_otel_spans=Mask(account))" in caplog.text) != kind.endswith(
        "mask"
    )
    attached.shutdown()
    if client:
        client.shutdown()


def test_another_project_on_the_same_provider_gets_the_spans_too(
    server: LangfuseServer, provider: TracerProvider
) -> None:
    attached = [attach(server.account(), provider), attach(server.account(), provider)]

    a_run(provider.get_tracer("looopy"))
    for each in attached:
        each.flush()

    assert len(server.wait(spans=8)) == 8
    for each in attached:
        each.shutdown()


class Counted(IdGenerator):
    """Trace ids spread evenly over what samplers look at."""

    def __init__(self) -> None:
        self.made = 0

    def generate_trace_id(self) -> int:
        self.made += 1
        return self.made << 60

    def generate_span_id(self) -> int:
        self.made += 1
        return self.made


@pytest.mark.parametrize("sampler", [None, TraceIdRatioBased(0.5)])
def test_the_sample_rate_is_applied_once_whether_or_not_the_provider_samples_too(
    sampler: Any, server: LangfuseServer
) -> None:
    provider = TracerProvider(sampler=sampler, id_generator=Counted(), shutdown_on_exit=False)
    attached = attach(server.account(sample_rate=0.5), provider)
    tracer = provider.get_tracer("looopy")

    for place in range(16):
        tracer.start_span(f"{place}").end()
    attached.flush()

    assert len(server.wait(spans=8)) == 8
    attached.shutdown()
    provider.shutdown()


def test_spans_that_have_nothing_to_do_with_models_stay_away(
    server: LangfuseServer, provider: TracerProvider
) -> None:
    attached = attach(server.account(), provider)

    provider.get_tracer("http").start_span("GET").end()
    provider.get_tracer("looopyish").start_span("other").end()
    provider.get_tracer("looopy").start_span("bare").end()
    attached.flush()

    assert [span.name for span in server.wait(spans=1)] == ["bare"]
    attached.shutdown()


def test_what_the_caller_propagates_reaches_every_span(
    server: LangfuseServer, provider: TracerProvider
) -> None:
    attached = attach(server.account(environment="staging"), provider)

    with propagate_attributes(
        session_id="s-1",
        trace_name="ask",
        environment="canary",
        version="2",
        prompt={"name": "own", "version": 9},
    ):
        a_run(provider.get_tracer("looopy"))
    attached.flush()

    spans = server.wait(spans=4)
    for name, value in {
        "session.id": "s-1",
        "langfuse.trace.name": "ask",
        "langfuse.environment": "canary",
        "langfuse.version": "2",
    }.items():
        assert [span.attributes[name] for span in spans] == [value] * 4
    links = {span.name: span.attributes["langfuse.observation.prompt.version"] for span in spans}
    assert links["execute_tool add"] == 9
    attached.shutdown()


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langfuse", None)
    monkeypatch.delitem(sys.modules, "looopy.observe.langfuse.package")
    with pytest.raises(MissingExtra, match=r"pip install 'looopy\[langfuse\]'"):
        importlib.import_module("looopy.observe.langfuse.package")


def test_the_names_of_the_package_are_those_that_it_promises() -> None:
    module = looopy.observe.langfuse
    assert dir(module) == sorted(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'scores_of'"):
        module.scores_of  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
