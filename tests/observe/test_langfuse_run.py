"""A whole run in Langfuse, set up by its three variables, by the `langfuse` package and by OTLP: the same tree arrives, and can be scored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from looopy import AgentLoop, LiteLLMProvider, ManagedPrompt, RunResult, Usage
from looopy.observe import instrument, score, trace_url
from looopy.providers.transport import HTTP
from looopy.testing import ScriptedServer, calls, says
from observe.drawn import drawn
from observe.langfuse_server import PROJECT, LangfuseServer
from observe.watched import SPANS, answer, sdk

EVERYWHERE = {
    "gen_ai.agent.name": "clerk",
    "gen_ai.conversation.id": "talk-1",
    "looopy.task.id": "task-1",
    "session.id": "session-1",
    "user.id": "ada",
    "langfuse.trace.tags": ["docs"],
    "langfuse.environment": "staging",
    "langfuse.release": "v7",
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LangfuseServer]:
    with LangfuseServer() as server:
        account = server.account()
        monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", account.public_key)
        monkeypatch.setenv("LANGFUSE_SECRET_KEY", account.secret_key)
        monkeypatch.setenv("LANGFUSE_BASE_URL", server.url)
        yield server


def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


def run(way: Literal["package", "otlp"]) -> RunResult:
    used = Usage(input_tokens=50, output_tokens=10)
    server = ScriptedServer(
        calls("weather", city="Oslo") + says(usage=used, cost=0.25), says("Rain.", usage=used, cost=0.25)
    )
    provider = LiteLLMProvider(
        "http://proxy", "gpt-4o-mini", api_key=None, transport=HTTP(server.transport())
    )
    with instrument(capture_content=True, langfuse=way, environment="staging", release="v7") as recording:
        prompt = ManagedPrompt(text="Be brief.", name="clerk", version=3)
        agent = AgentLoop(agent_id="clerk", llm_provider=provider, tools=[weather], system_prompt=prompt)
        result = agent.execute(
            "The weather?",
            task_id="task-1",
            context_id="talk-1",
            session_id="session-1",
            user_id="ada",
            tags=["docs"],
        ).result()
        assert recording.flush()
    return result


@pytest.mark.parametrize("way", ["package", "otlp"])
def test_a_run_arrives_in_langfuse_whole_once_and_as_a_conversation(
    server: LangfuseServer, way: Literal["package", "otlp"]
) -> None:
    result = run(way)

    spans = server.wait(spans=6)
    assert len(spans) == 6
    assert {span.trace_id for span in spans} == {result.trace_id}
    leave_out = (
        "langfuse.internal.is_app_root", "gen_ai.request.max_tokens", "gen_ai.request.temperature", "gen_ai.tool.definitions",
        "looopy.llm.call_id", "server.address", "server.port", "gen_ai.provider.name", "gen_ai.request.stream",
        "gen_ai.response.id", "gen_ai.response.model", "gen_ai.response.time_to_first_chunk",
        "langfuse.observation.completion_start_time", "openinference.span.kind",
    )  # fmt: skip
    assert drawn(spans, common=EVERYWHERE, leave_out=leave_out) == EXPECTED


EXPECTED = """\
invoke_agent clerk [INTERNAL]
  . gen_ai.agent.id = clerk
  . gen_ai.aggregated_usage.input_tokens = 100
  . gen_ai.aggregated_usage.output_tokens = 20
  . gen_ai.operation.name = invoke_agent
  . gen_ai.request.model = gpt-4o-mini
  . langfuse.observation.input = [{"role":"user","content":"The weather?"}]
  . langfuse.observation.output = {"role":"assistant","content":"Rain."}
  . looopy.cost = 0.5
  . looopy.iterations = 2
  . looopy.status = completed
    agent.iteration [INTERNAL]
      . langfuse.observation.type = chain
      . looopy.iteration = 1
        chat gpt-4o-mini [CLIENT]
          . gen_ai.operation.name = chat
          . gen_ai.request.model = gpt-4o-mini
          . gen_ai.response.finish_reasons = ["tool_calls"]
          . gen_ai.usage.cost = 0.25
          . gen_ai.usage.input_tokens = 50
          . gen_ai.usage.output_tokens = 10
          . langfuse.observation.input = [{"role":"system","content":"Be brief."},{"role":"user","content":"The weather?"}]
          . langfuse.observation.output = {"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\\"city\\":\\"Oslo\\"}"}}]}
          . langfuse.observation.prompt.name = clerk
          . langfuse.observation.prompt.version = 3
        execute_tool weather [INTERNAL]
          . gen_ai.operation.name = execute_tool
          . gen_ai.tool.call.arguments = {"city":"Oslo"}
          . gen_ai.tool.call.id = call_1
          . gen_ai.tool.call.result = rain in Oslo
          . gen_ai.tool.description = The weather of a city.
          . gen_ai.tool.name = weather
          . gen_ai.tool.type = function
    agent.iteration [INTERNAL]
      . langfuse.observation.type = chain
      . looopy.iteration = 2
        chat gpt-4o-mini [CLIENT]
          . gen_ai.operation.name = chat
          . gen_ai.request.model = gpt-4o-mini
          . gen_ai.response.finish_reasons = ["stop"]
          . gen_ai.usage.cost = 0.25
          . gen_ai.usage.input_tokens = 50
          . gen_ai.usage.output_tokens = 10
          . langfuse.observation.input = [{"role":"system","content":"Be brief."},{"role":"user","content":"The weather?"},{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\\"city\\":\\"Oslo\\"}"}}]},{"role":"tool","tool_call_id":"call_1","content":"rain in Oslo"}]
          . langfuse.observation.output = {"role":"assistant","content":"Rain."}
          . langfuse.observation.prompt.name = clerk
          . langfuse.observation.prompt.version = 3"""


@pytest.mark.parametrize("way", ["package", "otlp"])
async def test_what_langfuse_does_not_take_is_counted_and_said_with_the_mend_whichever_way_it_goes(
    server: LangfuseServer, way: Literal["package", "otlp"], said
) -> None:
    server.always = 401, {}, b'{"message":"Invalid credentials"}'
    with instrument(langfuse=way, tracer_provider=sdk()) as recording:
        assert await answer() == "5"
        assert recording.flush() is False
        assert (recording.delivered, recording.lost) == (0, SPANS)
        (told,) = said()
        assert told == (
            f"Langfuse: could not export 6 spans to {server.url}/api/public/otel/v1/traces: the keys were refused (401): LANGFUSE_PUBLIC_KEY "
            "and LANGFUSE_SECRET_KEY must hold the public and the secret key of one project, of the same region or server (the EU's is "
            'https://cloud.langfuse.com, the US\'s https://us.cloud.langfuse.com). The server says: \'{"message":"Invalid credentials"}\'. '
            "(said once)"
        )
        server.always = None
        assert await answer() == "5"
        assert recording.flush() is True
        assert (recording.delivered, recording.lost) == (SPANS, SPANS)


async def test_what_went_by_the_package_is_counted_anew_by_each_recording(server: LangfuseServer) -> None:
    provider = sdk()
    for _ in range(2):
        with instrument(langfuse="package", tracer_provider=provider) as recording:
            assert await answer() == "5"
            assert recording.flush()
            assert (recording.delivered, recording.lost) == (SPANS, 0)


def test_a_score_and_the_address_of_a_run_go_by_its_result(server: LangfuseServer) -> None:
    result = run("otlp")
    assert result.trace_url == f"{server.url}/trace/{result.trace_id}"

    identifier = score(result, "helpful", True, comment="thumbs up").result()

    (arrived,) = server.scores
    told = {name: arrived[name] for name in ("id", "traceId", "name", "value", "dataType", "comment")}
    assert told == {
        "id": identifier, "traceId": result.trace_id, "name": "helpful", "value": 1, "dataType": "BOOLEAN", "comment": "thumbs up",
    }  # fmt: skip
    assert trace_url(result).result() == f"{server.url}/project/{PROJECT}/traces/{result.trace_id}"


def test_the_messages_in_langfuse_are_those_that_it_shows_as_bubbles(server: LangfuseServer) -> None:
    run("otlp")

    chats = sorted(
        (span for span in server.wait(spans=6) if span.kind == "CLIENT"), key=lambda span: span.start
    )
    said: list[Any] = json.loads(chats[1].attributes["langfuse.observation.input"])
    assert [message["role"] for message in said] == ["system", "user", "assistant", "tool"]
    assert said[2]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Oslo"}'}


@pytest.mark.parametrize("rate", ["0", "1"])
def test_a_trace_that_langfuse_does_not_get_has_no_address_there(
    server: LangfuseServer, monkeypatch: pytest.MonkeyPatch, rate: str
) -> None:
    monkeypatch.setenv("LANGFUSE_SAMPLE_RATE", rate)
    result = run("otlp")
    assert result.trace_url == (f"{server.url}/trace/{result.trace_id}" if rate == "1" else "")
