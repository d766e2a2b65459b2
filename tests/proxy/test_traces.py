"""One trace on both sides of the real LiteLLM proxy: looopy's spans, and those that the proxy makes of the same request itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from observe.receiver import Receiver, Span, tree
from opentelemetry.sdk.trace import TracerProvider

from looopy.observe import OTLPExporter, instrument

from .conftest import Proxy
from .test_proxy import agent, within
from .upstream import Upstream

pytestmark = [pytest.mark.proxy, pytest.mark.timeout(90)]


def until(collector: Receiver, complete: Callable[[Sequence[Span]], bool]) -> Sequence[Span]:
    """The spans, once there are enough; the proxy sends some of its own after it has answered."""
    seen = collector.spans
    while not complete(seen):
        seen = collector.wait(len(seen) + 1)
    return seen


def of_looopy(span: Span) -> bool:
    return span.scope == "looopy"


async def test_a_run_and_what_the_proxy_did_for_it_are_one_trace(
    proxy: Proxy, upstream: Upstream, collector: Receiver
) -> None:
    played = upstream.play("one-tool")
    exporter = OTLPExporter(collector.traces_url)
    with instrument(exporters=[exporter], tracer_provider=TracerProvider()):
        result = await within(agent(proxy, "gpt-4o-mini").execute(played.prompt))

    def below_looopys(spans: Sequence[Span]) -> list[Span]:
        """What hangs on looopy's spans, and these."""
        ours = {span.span_id for span in spans if of_looopy(span)}
        return [span for span in spans if of_looopy(span) or span.parent_id in ours]

    def of_the_run(spans: Sequence[Span]) -> list[Span]:
        return [span for span in spans if span.trace_id == result.trace_id]

    def is_complete(spans: Sequence[Span]) -> bool:
        return len(below_looopys(of_the_run(spans))) >= 10 and "orphan" not in tree(of_the_run(spans))

    spans = of_the_run(until(collector, is_complete))

    assert (
        tree(below_looopys(spans), lambda span: f"{span.name} [{span.kind}] by {span.scope}")
        == """\
invoke_agent agent [INTERNAL] by looopy
  agent.iteration [INTERNAL] by looopy
    chat gpt-4o-mini [CLIENT] by looopy
      POST /v1/chat/completions [SERVER] by fastapi
      Received Proxy Server Request [SERVER] by litellm
    execute_tool get_weather [INTERNAL] by looopy
  agent.iteration [INTERNAL] by looopy
    chat gpt-4o-mini [CLIENT] by looopy
      POST /v1/chat/completions [SERVER] by fastapi
      Received Proxy Server Request [SERVER] by litellm"""
    )
    models = [span.attributes for span in spans if span.name == "litellm_request"]
    assert [each["gen_ai.request.model"] for each in models] == ["gpt-4o-mini"] * 2
    assert {span.resource["service.name"] for span in spans if not of_looopy(span)} == {"litellm"}
