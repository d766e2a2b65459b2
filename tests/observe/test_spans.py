"""What arrives at a collector by OTLP over HTTP: the whole tree of each kind of run, names, kinds, attributes and values."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import trace

from looopy import (
    AgentLoop,
    Fallback,
    InMemoryStateStore,
    LiteLLMEmbedder,
    LiteLLMProvider,
    ManagedPrompt,
    Retry,
    Run,
    Usage,
)
from looopy.errors import LooopyError
from looopy.events import ContentDelta, LLMRetry
from looopy.messages import DataPart, FilePart, TextPart
from looopy.observe import Instrumentation, OTLPExporter, instrument
from looopy.ports import ToolContext
from looopy.providers.transport import HTTP
from looopy.testing import Answer, ScriptedServer, calls, embeds, fails, says, stalls, thinks
from observe.drawn import drawn
from observe.receiver import Receiver
from observe.schemas import CONVENTIONS, STRICT
from observe.watched import light

COMMON = {"gen_ai.agent.name": "clerk", "gen_ai.conversation.id": "talk-1", "looopy.task.id": "task-1"}
USED: dict[str, Any] = {
    "usage": Usage(input_tokens=50, output_tokens=10, cached_tokens=20, reasoning_tokens=4),
    "cost": 0.25,
}
SHOWN_ONCE = (
    "gen_ai.agent.id", "gen_ai.provider.name", "gen_ai.request.stream", "gen_ai.request.max_tokens",
    "gen_ai.request.temperature", "gen_ai.tool.definitions", "gen_ai.tool.type", "gen_ai.tool.description",
    "langfuse.observation.type", "openinference.span.kind", "server.address", "server.port",
    "looopy.llm.call_id", "gen_ai.response.id", "gen_ai.response.time_to_first_chunk",
    "langfuse.observation.completion_start_time", "input.value", "output.value",
)  # fmt: skip
"""What the first two tests show, and the others need not show again."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def recorded(receiver: Receiver, *, capture_content: bool = True, **options: Any) -> Instrumentation:
    return instrument(
        exporters=[OTLPExporter(receiver.traces_url)], capture_content=capture_content, **options
    )


@dataclass
class City:
    """Where it is."""

    city: str


def weather(city: str) -> str:
    """The weather of a city."""
    if city == "Atlantis":
        raise LookupError(f"{city} has sunk")
    return f"rain in {city}"


def model(*answers: Answer, name: str = "gpt-4o-mini") -> LiteLLMProvider:
    server = ScriptedServer(*answers)
    return LiteLLMProvider("http://proxy:4000", name, api_key=None, transport=HTTP(server.transport()))


def clerk(provider: Any, **options: Any) -> AgentLoop:
    return AgentLoop(**({"agent_id": "clerk", "llm_provider": provider, "tools": [weather]} | options))


def ask(agent: AgentLoop, **options: Any) -> Run:
    return agent.execute("The weather?", task_id="task-1", context_id="talk-1", **options)


async def ended(run: Run) -> LooopyError | None:
    async with asyncio.timeout(5):
        try:
            await run
        except LooopyError as error:
            return error
        return None


async def test_an_answer_is_an_agent_an_iteration_and_a_chat_that_say_all_there_is(
    receiver: Receiver,
) -> None:
    labels = {"session_id": "session-1", "user_id": "ada", "tags": ["docs"]}
    everywhere = {"session.id": "session-1", "user.id": "ada", "langfuse.trace.tags": ["docs"]}
    with recorded(receiver):
        agent = clerk(model(says("Rain.", **USED)), system_prompt="Be brief.")
        await ended(ask(agent, metadata={"tenant": "acme", "tries": 3}, **labels))

    assert (
        drawn(receiver.spans, common=COMMON | everywhere)
        == """\
invoke_agent clerk [INTERNAL]
  . gen_ai.agent.id = clerk
  . gen_ai.aggregated_usage.cache_read.input_tokens = 20
  . gen_ai.aggregated_usage.input_tokens = 50
  . gen_ai.aggregated_usage.output_tokens = 10
  . gen_ai.aggregated_usage.reasoning.output_tokens = 4
  . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
  . gen_ai.operation.name = invoke_agent
  . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"text","content":"Rain."}],"finish_reason":"stop"}]
  . gen_ai.provider.name = openai
  . gen_ai.request.model = gpt-4o-mini
  . input.value = The weather?
  . langfuse.trace.metadata.tenant = acme
  . langfuse.trace.metadata.tries = 3
  . looopy.cost = 0.25
  . looopy.iterations = 1
  . looopy.status = completed
  . output.value = Rain.
    agent.iteration [INTERNAL]
      . langfuse.observation.type = chain
      . looopy.iteration = 1
      . openinference.span.kind = CHAIN
        chat gpt-4o-mini [CLIENT]
          . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
          . gen_ai.operation.name = chat
          . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"text","content":"Rain."}],"finish_reason":"stop"}]
          . gen_ai.provider.name = openai
          . gen_ai.request.max_tokens = 4096
          . gen_ai.request.model = gpt-4o-mini
          . gen_ai.request.stream = true
          . gen_ai.request.temperature = 0.7
          . gen_ai.response.finish_reasons = ["stop"]
          . gen_ai.response.id = chatcmpl-1
          . gen_ai.response.model = gpt-4o-mini
          . gen_ai.response.time_to_first_chunk = …
          . gen_ai.system_instructions = [{"type":"text","content":"Be brief."}]
          . gen_ai.tool.definitions = [{"type":"function","name":"weather","description":"The weather of a city.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}}]
          . gen_ai.usage.cache_read.input_tokens = 20
          . gen_ai.usage.cost = 0.25
          . gen_ai.usage.input_tokens = 50
          . gen_ai.usage.output_tokens = 10
          . gen_ai.usage.reasoning.output_tokens = 4
          . langfuse.observation.completion_start_time = …
          . looopy.llm.call_id = scripted-1
          . server.address = proxy
          . server.port = 4000"""
    )


async def test_parallel_tools_stand_beside_each_other_and_the_one_that_failed_says_so(
    receiver: Receiver,
) -> None:
    both = calls("weather", city="Oslo") + calls("weather", city="Atlantis")
    with recorded(receiver):
        await ended(ask(clerk(model(both + says(**USED), says("Rain.", **USED)))))

    assert (
        drawn(receiver.spans, common=COMMON)
        == """\
invoke_agent clerk [INTERNAL]
  . gen_ai.agent.id = clerk
  . gen_ai.aggregated_usage.cache_read.input_tokens = 40
  . gen_ai.aggregated_usage.input_tokens = 100
  . gen_ai.aggregated_usage.output_tokens = 20
  . gen_ai.aggregated_usage.reasoning.output_tokens = 8
  . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
  . gen_ai.operation.name = invoke_agent
  . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"text","content":"Rain."}],"finish_reason":"stop"}]
  . gen_ai.provider.name = openai
  . gen_ai.request.model = gpt-4o-mini
  . input.value = The weather?
  . looopy.cost = 0.5
  . looopy.iterations = 2
  . looopy.status = completed
  . output.value = Rain.
    agent.iteration [INTERNAL]
      . langfuse.observation.type = chain
      . looopy.iteration = 1
      . openinference.span.kind = CHAIN
        chat gpt-4o-mini [CLIENT]
          . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
          . gen_ai.operation.name = chat
          . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"tool_call","id":"call_1","name":"weather","arguments":{"city":"Oslo"}},{"type":"tool_call","id":"call_2","name":"weather","arguments":{"city":"Atlantis"}}],"finish_reason":"tool_call","tool_calls":[{"id":"call_1","type":"function","name":"weather","arguments":"{\\"city\\":\\"Oslo\\"}"},{"id":"call_2","type":"function","name":"weather","arguments":"{\\"city\\":\\"Atlantis\\"}"}]}]
          . gen_ai.provider.name = openai
          . gen_ai.request.max_tokens = 4096
          . gen_ai.request.model = gpt-4o-mini
          . gen_ai.request.stream = true
          . gen_ai.request.temperature = 0.7
          . gen_ai.response.finish_reasons = ["tool_calls"]
          . gen_ai.response.id = chatcmpl-1
          . gen_ai.response.model = gpt-4o-mini
          . gen_ai.response.time_to_first_chunk = …
          . gen_ai.tool.definitions = [{"type":"function","name":"weather","description":"The weather of a city.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}}]
          . gen_ai.usage.cache_read.input_tokens = 20
          . gen_ai.usage.cost = 0.25
          . gen_ai.usage.input_tokens = 50
          . gen_ai.usage.output_tokens = 10
          . gen_ai.usage.reasoning.output_tokens = 4
          . langfuse.observation.completion_start_time = …
          . looopy.llm.call_id = scripted-1
          . server.address = proxy
          . server.port = 4000
        execute_tool weather [INTERNAL]
          . gen_ai.operation.name = execute_tool
          . gen_ai.tool.call.arguments = {"city":"Oslo"}
          . gen_ai.tool.call.id = call_1
          . gen_ai.tool.call.result = rain in Oslo
          . gen_ai.tool.description = The weather of a city.
          . gen_ai.tool.name = weather
          . gen_ai.tool.type = function
        execute_tool weather [INTERNAL] ERROR: LookupError: Atlantis has sunk
          . error.type = LookupError
          . gen_ai.operation.name = execute_tool
          . gen_ai.tool.call.arguments = {"city":"Atlantis"}
          . gen_ai.tool.call.id = call_2
          . gen_ai.tool.description = The weather of a city.
          . gen_ai.tool.name = weather
          . gen_ai.tool.type = function
    agent.iteration [INTERNAL]
      . langfuse.observation.type = chain
      . looopy.iteration = 2
      . openinference.span.kind = CHAIN
        chat gpt-4o-mini [CLIENT]
          . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]},{"role":"assistant","parts":[{"type":"tool_call","id":"call_1","name":"weather","arguments":{"city":"Oslo"}},{"type":"tool_call","id":"call_2","name":"weather","arguments":{"city":"Atlantis"}}]},{"role":"tool","parts":[{"type":"tool_call_response","id":"call_1","response":"rain in Oslo"}]},{"role":"tool","parts":[{"type":"tool_call_response","id":"call_2","response":"Error: Atlantis has sunk"}]}]
          . gen_ai.operation.name = chat
          . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"text","content":"Rain."}],"finish_reason":"stop"}]
          . gen_ai.provider.name = openai
          . gen_ai.request.max_tokens = 4096
          . gen_ai.request.model = gpt-4o-mini
          . gen_ai.request.stream = true
          . gen_ai.request.temperature = 0.7
          . gen_ai.response.finish_reasons = ["stop"]
          . gen_ai.response.id = chatcmpl-2
          . gen_ai.response.model = gpt-4o-mini
          . gen_ai.response.time_to_first_chunk = …
          . gen_ai.tool.definitions = [{"type":"function","name":"weather","description":"The weather of a city.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}}]
          . gen_ai.usage.cache_read.input_tokens = 20
          . gen_ai.usage.cost = 0.25
          . gen_ai.usage.input_tokens = 50
          . gen_ai.usage.output_tokens = 10
          . gen_ai.usage.reasoning.output_tokens = 4
          . langfuse.observation.completion_start_time = …
          . looopy.llm.call_id = scripted-2
          . server.address = proxy
          . server.port = 4000"""
    )


async def test_attempts_that_failed_stand_below_the_chat_that_a_fallback_answered(receiver: Receiver) -> None:
    first = model(fails(503, "no capacity"), fails(429, "slow down"), name="gpt-4o-mini")
    second = model(says("Rain.", **USED), name="claude-sonnet-4-5")
    provider = Fallback(Retry(first, attempts=2, first_wait=0.001, jitter=lambda: 0.0), second)
    with recorded(receiver):
        await ended(ask(clerk(provider)))

    assert (
        drawn(receiver.spans, common=COMMON, leave_out=SHOWN_ONCE)
        == """\
invoke_agent clerk [INTERNAL]
  . gen_ai.aggregated_usage.cache_read.input_tokens = 20
  . gen_ai.aggregated_usage.input_tokens = 50
  . gen_ai.aggregated_usage.output_tokens = 10
  . gen_ai.aggregated_usage.reasoning.output_tokens = 4
  . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
  . gen_ai.operation.name = invoke_agent
  . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"text","content":"Rain."}],"finish_reason":"stop"}]
  . gen_ai.request.model = gpt-4o-mini
  . looopy.cost = 0.25
  . looopy.iterations = 1
  . looopy.status = completed
    agent.iteration [INTERNAL]
      . looopy.iteration = 1
        chat gpt-4o-mini [CLIENT]
          . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
          . gen_ai.operation.name = chat
          . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"text","content":"Rain."}],"finish_reason":"stop"}]
          . gen_ai.request.model = gpt-4o-mini
          . gen_ai.response.finish_reasons = ["stop"]
          . gen_ai.response.model = claude-sonnet-4-5
          . gen_ai.usage.cache_read.input_tokens = 20
          . gen_ai.usage.cost = 0.25
          . gen_ai.usage.input_tokens = 50
          . gen_ai.usage.output_tokens = 10
          . gen_ai.usage.reasoning.output_tokens = 4
          . looopy.llm.attempts = 3
          . looopy.llm.served_by = claude-sonnet-4-5
            attempt gpt-4o-mini [INTERNAL] ERROR: ModelOverloaded: LiteLLM API error: HTTP 503 from http://proxy:4000/v1/chat/completions for model 'gpt-4o-mini': no capacity
  Wait and try again.
              . error.type = ModelOverloaded
              . langfuse.observation.level = WARNING
              . looopy.llm.attempt = 1
              . looopy.llm.model = gpt-4o-mini
              . looopy.llm.next_model = gpt-4o-mini
              . looopy.llm.retry_delay = 0.0
            attempt gpt-4o-mini [INTERNAL] ERROR: ModelOverloaded: LiteLLM API error: HTTP 429 from http://proxy:4000/v1/chat/completions for model 'gpt-4o-mini': slow down
  Wait and try again.
  2 attempts were made.
              . error.type = ModelOverloaded
              . langfuse.observation.level = WARNING
              . looopy.llm.attempt = 2
              . looopy.llm.model = gpt-4o-mini
              . looopy.llm.next_model = claude-sonnet-4-5
              . looopy.llm.retry_delay = 0.0"""
    )


async def test_a_type_that_is_asked_for_and_what_was_written_into_a_cache_are_told(
    receiver: Receiver,
) -> None:
    used = Usage(input_tokens=50, output_tokens=10, cache_creation_tokens=30)
    provider = model(says('{"city":"Oslo"}', usage=used))
    with recorded(receiver):
        await ended(clerk(provider, tools=[]).execute("Where?", output_type=City))

    chat = next(span for span in receiver.spans if span.kind == "CLIENT")
    root = next(span for span in receiver.spans if span.name == "invoke_agent clerk")
    assert chat.attributes["gen_ai.output.type"] == "json"
    assert chat.attributes["gen_ai.usage.cache_creation.input_tokens"] == 30
    assert root.attributes["gen_ai.aggregated_usage.cache_creation.input_tokens"] == 30


async def test_a_chat_whose_attempts_all_failed_says_how_many_there_were(receiver: Receiver) -> None:
    refuses = model(fails(503, "no capacity"), fails(503, "no capacity"), fails(503, "no capacity"))
    with recorded(receiver):
        await ended(ask(clerk(Retry(refuses, attempts=3, first_wait=0.001, jitter=lambda: 0.0))))

    assert {
        span.name.split()[0]: span.attributes.get("looopy.llm.attempts")
        for span in receiver.spans
        if not span.name.startswith("attempt")
    } == {"invoke_agent": None, "agent.iteration": None, "chat": 3}


async def test_a_chat_that_is_cancelled_while_it_waits_counts_no_attempt_that_was_not_made(
    receiver: Receiver,
) -> None:
    waits = Retry(model(fails(503, "no capacity"), says("Rain.")), attempts=3, first_wait=20)
    with recorded(receiver):
        run = ask(clerk(waits))
        async for event in run:
            if isinstance(event, LLMRetry):
                run.cancel()
    assert [span.name for span in receiver.spans if span.name.startswith("attempt")] == [
        "attempt gpt-4o-mini"
    ]
    assert [span.attributes.get("looopy.llm.attempts") for span in receiver.spans] == [None] * 4


async def test_a_run_that_is_cancelled_ends_its_spans_with_the_reason(receiver: Receiver) -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        """Wait for ever."""
        begun.set()
        await asyncio.Event().wait()

    with recorded(receiver):
        run = ask(clerk(model(calls("hang")), tools=[hang])).start()
        await begun.wait()
        run.cancel("the user left")
        await ended(run)

    assert (
        drawn(receiver.spans, common=COMMON, leave_out=SHOWN_ONCE)
        == """\
invoke_agent clerk [INTERNAL] ERROR: TaskCanceled: the run was cancelled: the user left
  . error.type = TaskCanceled
  . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
  . gen_ai.operation.name = invoke_agent
  . gen_ai.request.model = gpt-4o-mini
  . langfuse.observation.level = WARNING
  . looopy.iterations = 1
  . looopy.status = canceled
    agent.iteration [INTERNAL] ERROR: TaskCanceled: the run was cancelled: the user left
      . error.type = TaskCanceled
      . langfuse.observation.level = WARNING
      . looopy.iteration = 1
      . looopy.status = canceled
        chat gpt-4o-mini [CLIENT]
          . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
          . gen_ai.operation.name = chat
          . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"tool_call","id":"call_1","name":"hang","arguments":{}}],"finish_reason":"tool_call","tool_calls":[{"id":"call_1","type":"function","name":"hang","arguments":"{}"}]}]
          . gen_ai.request.model = gpt-4o-mini
          . gen_ai.response.finish_reasons = ["tool_calls"]
          . gen_ai.response.model = gpt-4o-mini
        execute_tool hang [INTERNAL] ERROR: TaskCanceled: not finished: the run was cancelled: the user left
          . error.type = TaskCanceled
          . gen_ai.operation.name = execute_tool
          . gen_ai.tool.call.arguments = {}
          . gen_ai.tool.call.id = call_1
          . gen_ai.tool.name = hang
          . langfuse.observation.level = WARNING
          . looopy.status = canceled"""
    )


async def test_an_early_break_keeps_what_the_model_had_said(receiver: Receiver) -> None:
    with recorded(receiver):
        run = ask(clerk(model(says("Let me th") + stalls())))
        async with asyncio.timeout(5):
            async for event in run:
                if isinstance(event, ContentDelta):
                    break
        await ended(run)

    assert (
        drawn(receiver.spans, common=COMMON, leave_out=SHOWN_ONCE)
        == """\
invoke_agent clerk [INTERNAL] ERROR: TaskCanceled: the run was cancelled: its last subscriber left
  . error.type = TaskCanceled
  . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
  . gen_ai.operation.name = invoke_agent
  . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"text","content":"Let me th"}],"finish_reason":"error"}]
  . gen_ai.request.model = gpt-4o-mini
  . langfuse.observation.level = WARNING
  . looopy.iterations = 1
  . looopy.status = canceled
    agent.iteration [INTERNAL] ERROR: TaskCanceled: the run was cancelled: its last subscriber left
      . error.type = TaskCanceled
      . langfuse.observation.level = WARNING
      . looopy.iteration = 1
      . looopy.status = canceled
        chat gpt-4o-mini [CLIENT] ERROR: TaskCanceled: the run was cancelled: its last subscriber left
          . error.type = TaskCanceled
          . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
          . gen_ai.operation.name = chat
          . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"text","content":"Let me th"}],"finish_reason":"error"}]
          . gen_ai.request.model = gpt-4o-mini
          . gen_ai.response.finish_reasons = ["interrupted"]
          . gen_ai.response.model = gpt-4o-mini
          . langfuse.observation.level = WARNING
          . looopy.status = canceled"""
    )


async def test_a_limit_names_itself_on_what_it_ended(receiver: Receiver) -> None:
    with recorded(receiver):
        await ended(ask(clerk(model(calls("weather", city="Oslo")), max_iterations=1)))

    assert (
        drawn(receiver.spans, common=COMMON, leave_out=SHOWN_ONCE)
        == """\
invoke_agent clerk [INTERNAL] ERROR: LimitExceeded: run stopped by max_iterations=1: 1 model calls and no final answer
  . error.type = LimitExceeded
  . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
  . gen_ai.operation.name = invoke_agent
  . gen_ai.request.model = gpt-4o-mini
  . looopy.iterations = 1
  . looopy.status = failed
    agent.iteration [INTERNAL] ERROR: LimitExceeded: run stopped by max_iterations=1: 1 model calls and no final answer
      . error.type = LimitExceeded
      . looopy.iteration = 1
      . looopy.status = failed
        chat gpt-4o-mini [CLIENT]
          . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
          . gen_ai.operation.name = chat
          . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"tool_call","id":"call_1","name":"weather","arguments":{"city":"Oslo"}}],"finish_reason":"tool_call","tool_calls":[{"id":"call_1","type":"function","name":"weather","arguments":"{\\"city\\":\\"Oslo\\"}"}]}]
          . gen_ai.request.model = gpt-4o-mini
          . gen_ai.response.finish_reasons = ["tool_calls"]
          . gen_ai.response.model = gpt-4o-mini
        execute_tool weather [INTERNAL]
          . gen_ai.operation.name = execute_tool
          . gen_ai.tool.call.arguments = {"city":"Oslo"}
          . gen_ai.tool.call.id = call_1
          . gen_ai.tool.call.result = rain in Oslo
          . gen_ai.tool.name = weather"""
    )


async def test_a_model_that_refuses_is_an_error_where_it_happened_and_above(receiver: Receiver) -> None:
    with recorded(receiver):
        await ended(ask(clerk(model(fails(401, "who are you?")))))

    assert (
        drawn(receiver.spans, common=COMMON, leave_out=SHOWN_ONCE)
        == """\
invoke_agent clerk [INTERNAL] ERROR: AuthenticationFailed: LiteLLM API error: HTTP 401 from http://proxy:4000/v1/chat/completions for model 'gpt-4o-mini': who are you?
  No API key was sent: set LITELLM_API_KEY, or pass the argument api_key.
  . error.type = AuthenticationFailed
  . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
  . gen_ai.operation.name = invoke_agent
  . gen_ai.request.model = gpt-4o-mini
  . looopy.iterations = 1
  . looopy.status = failed
    agent.iteration [INTERNAL] ERROR: AuthenticationFailed: LiteLLM API error: HTTP 401 from http://proxy:4000/v1/chat/completions for model 'gpt-4o-mini': who are you?
  No API key was sent: set LITELLM_API_KEY, or pass the argument api_key.
      . error.type = AuthenticationFailed
      . looopy.iteration = 1
      . looopy.status = failed
        chat gpt-4o-mini [CLIENT] ERROR: AuthenticationFailed: LiteLLM API error: HTTP 401 from http://proxy:4000/v1/chat/completions for model 'gpt-4o-mini': who are you?
  No API key was sent: set LITELLM_API_KEY, or pass the argument api_key.
          . error.type = AuthenticationFailed
          . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
          . gen_ai.operation.name = chat
          . gen_ai.request.model = gpt-4o-mini
          . looopy.status = failed"""
    )


async def test_an_agent_that_a_tool_calls_stands_below_the_tool_and_in_its_callers_session(
    receiver: Receiver,
) -> None:
    inner = AgentLoop(agent_id="geographer", llm_provider=model(says("In Norway."), name="claude-sonnet-4-5"))

    def where(city: str) -> str:
        """Where a city is."""
        return inner.execute(f"Where is {city}?", task_id="task-2", context_id="talk-2").result().output

    with recorded(receiver):
        await ended(
            ask(clerk(model(calls("where", city="Oslo"), says("In Norway.")), tools=[where]), user_id="ada")
        )

    assert (
        drawn(receiver.spans, common={"user.id": "ada"}, leave_out=SHOWN_ONCE)
        == """\
invoke_agent clerk [INTERNAL]
  . gen_ai.agent.name = clerk
  . gen_ai.conversation.id = talk-1
  . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
  . gen_ai.operation.name = invoke_agent
  . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"text","content":"In Norway."}],"finish_reason":"stop"}]
  . gen_ai.request.model = gpt-4o-mini
  . looopy.iterations = 2
  . looopy.status = completed
  . looopy.task.id = task-1
    agent.iteration [INTERNAL]
      . gen_ai.agent.name = clerk
      . gen_ai.conversation.id = talk-1
      . looopy.iteration = 1
      . looopy.task.id = task-1
        chat gpt-4o-mini [CLIENT]
          . gen_ai.agent.name = clerk
          . gen_ai.conversation.id = talk-1
          . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
          . gen_ai.operation.name = chat
          . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"tool_call","id":"call_1","name":"where","arguments":{"city":"Oslo"}}],"finish_reason":"tool_call","tool_calls":[{"id":"call_1","type":"function","name":"where","arguments":"{\\"city\\":\\"Oslo\\"}"}]}]
          . gen_ai.request.model = gpt-4o-mini
          . gen_ai.response.finish_reasons = ["tool_calls"]
          . gen_ai.response.model = gpt-4o-mini
          . looopy.task.id = task-1
        execute_tool where [INTERNAL]
          . gen_ai.agent.name = clerk
          . gen_ai.conversation.id = talk-1
          . gen_ai.operation.name = execute_tool
          . gen_ai.tool.call.arguments = {"city":"Oslo"}
          . gen_ai.tool.call.id = call_1
          . gen_ai.tool.call.result = In Norway.
          . gen_ai.tool.name = where
          . looopy.task.id = task-1
            invoke_agent geographer [INTERNAL]
              . gen_ai.agent.name = geographer
              . gen_ai.conversation.id = talk-2
              . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"Where is Oslo?"}]}]
              . gen_ai.operation.name = invoke_agent
              . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"text","content":"In Norway."}],"finish_reason":"stop"}]
              . gen_ai.request.model = claude-sonnet-4-5
              . looopy.iterations = 1
              . looopy.status = completed
              . looopy.task.id = task-2
              . session.id = talk-1
                agent.iteration [INTERNAL]
                  . gen_ai.agent.name = geographer
                  . gen_ai.conversation.id = talk-2
                  . looopy.iteration = 1
                  . looopy.task.id = task-2
                  . session.id = talk-1
                    chat claude-sonnet-4-5 [CLIENT]
                      . gen_ai.agent.name = geographer
                      . gen_ai.conversation.id = talk-2
                      . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"Where is Oslo?"}]}]
                      . gen_ai.operation.name = chat
                      . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"text","content":"In Norway."}],"finish_reason":"stop"}]
                      . gen_ai.request.model = claude-sonnet-4-5
                      . gen_ai.response.finish_reasons = ["stop"]
                      . gen_ai.response.model = claude-sonnet-4-5
                      . looopy.task.id = task-2
                      . session.id = talk-1
    agent.iteration [INTERNAL]
      . gen_ai.agent.name = clerk
      . gen_ai.conversation.id = talk-1
      . looopy.iteration = 2
      . looopy.task.id = task-1
        chat gpt-4o-mini [CLIENT]
          . gen_ai.agent.name = clerk
          . gen_ai.conversation.id = talk-1
          . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]},{"role":"assistant","parts":[{"type":"tool_call","id":"call_1","name":"where","arguments":{"city":"Oslo"}}]},{"role":"tool","parts":[{"type":"tool_call_response","id":"call_1","response":"In Norway."}]}]
          . gen_ai.operation.name = chat
          . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"text","content":"In Norway."}],"finish_reason":"stop"}]
          . gen_ai.request.model = gpt-4o-mini
          . gen_ai.response.finish_reasons = ["stop"]
          . gen_ai.response.model = gpt-4o-mini
          . looopy.task.id = task-1"""
    )


async def test_texts_that_a_tool_embeds_stand_below_the_tool_without_the_texts(receiver: Receiver) -> None:
    server = ScriptedServer(
        embeds(
            {"input": ["rain in Oslo", "sun"], "model": "text-embedding-3-small"}, [1.0], [2.0], cost=0.001
        )
    )
    embedder = LiteLLMEmbedder(
        "http://proxy:4000", "text-embedding-3-small", api_key=None, transport=HTTP(server.transport())
    )

    async def search(words: str) -> int:
        """Search for words."""
        return len((await embedder.embed([words, "sun"])).vectors)

    with recorded(receiver):
        await ended(ask(clerk(model(calls("search", words="rain in Oslo"), says("2.")), tools=[search])))

    assert (
        drawn(receiver.spans, common=COMMON, leave_out=SHOWN_ONCE)
        == """\
invoke_agent clerk [INTERNAL]
  . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
  . gen_ai.operation.name = invoke_agent
  . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"text","content":"2."}],"finish_reason":"stop"}]
  . gen_ai.request.model = gpt-4o-mini
  . looopy.iterations = 2
  . looopy.status = completed
    agent.iteration [INTERNAL]
      . looopy.iteration = 1
        chat gpt-4o-mini [CLIENT]
          . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
          . gen_ai.operation.name = chat
          . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"tool_call","id":"call_1","name":"search","arguments":{"words":"rain in Oslo"}}],"finish_reason":"tool_call","tool_calls":[{"id":"call_1","type":"function","name":"search","arguments":"{\\"words\\":\\"rain in Oslo\\"}"}]}]
          . gen_ai.request.model = gpt-4o-mini
          . gen_ai.response.finish_reasons = ["tool_calls"]
          . gen_ai.response.model = gpt-4o-mini
        execute_tool search [INTERNAL]
          . gen_ai.operation.name = execute_tool
          . gen_ai.tool.call.arguments = {"words":"rain in Oslo"}
          . gen_ai.tool.call.id = call_1
          . gen_ai.tool.call.result = 2
          . gen_ai.tool.name = search
            embeddings text-embedding-3-small [CLIENT]
              . gen_ai.embeddings.dimension.count = 1
              . gen_ai.operation.name = embeddings
              . gen_ai.request.model = text-embedding-3-small
              . gen_ai.response.model = text-embedding-3-small
              . gen_ai.usage.cost = 0.001
              . gen_ai.usage.input_tokens = 4
              . looopy.embeddings.texts = 2
    agent.iteration [INTERNAL]
      . looopy.iteration = 2
        chat gpt-4o-mini [CLIENT]
          . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]},{"role":"assistant","parts":[{"type":"tool_call","id":"call_1","name":"search","arguments":{"words":"rain in Oslo"}}]},{"role":"tool","parts":[{"type":"tool_call_response","id":"call_1","response":"2"}]}]
          . gen_ai.operation.name = chat
          . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"text","content":"2."}],"finish_reason":"stop"}]
          . gen_ai.request.model = gpt-4o-mini
          . gen_ai.response.finish_reasons = ["stop"]
          . gen_ai.response.model = gpt-4o-mini"""
    )
    embedded = next(span for span in receiver.spans if span.name.startswith("embeddings"))
    assert server.requests[0].headers["traceparent"] == f"00-{embedded.trace_id}-{embedded.span_id}-01"


async def test_a_task_that_waits_is_one_trace_and_its_resumption_another(receiver: Receiver) -> None:
    def delete(path: str, context: ToolContext[Any]) -> str:
        """Delete a file, once somebody agrees."""
        return str(context.ask(f"delete {path}?"))

    answers = model(calls("delete", path="a.txt"), says("Done."))
    agent = clerk(answers, tools=[delete], task_state_store=InMemoryStateStore())
    with recorded(receiver):
        await ended(ask(agent))
        await ended(agent.resume("task-1", inputs={"call_1": "yes"}))

    assert (
        drawn(receiver.spans, common=COMMON, leave_out=SHOWN_ONCE)
        == """\
invoke_agent clerk [INTERNAL]
  . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
  . gen_ai.operation.name = invoke_agent
  . gen_ai.request.model = gpt-4o-mini
  . looopy.iterations = 1
  . looopy.status = input-required
    agent.iteration [INTERNAL]
      . looopy.iteration = 1
        chat gpt-4o-mini [CLIENT]
          . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]}]
          . gen_ai.operation.name = chat
          . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"tool_call","id":"call_1","name":"delete","arguments":{"path":"a.txt"}}],"finish_reason":"tool_call","tool_calls":[{"id":"call_1","type":"function","name":"delete","arguments":"{\\"path\\":\\"a.txt\\"}"}]}]
          . gen_ai.request.model = gpt-4o-mini
          . gen_ai.response.finish_reasons = ["tool_calls"]
          . gen_ai.response.model = gpt-4o-mini
        execute_tool delete [INTERNAL]
          . gen_ai.operation.name = execute_tool
          . gen_ai.tool.call.arguments = {"path":"a.txt"}
          . gen_ai.tool.call.id = call_1
          . gen_ai.tool.name = delete
          . looopy.status = input-required
invoke_agent clerk [INTERNAL]
  . gen_ai.operation.name = invoke_agent
  . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"text","content":"Done."}],"finish_reason":"stop"}]
  . gen_ai.request.model = gpt-4o-mini
  . looopy.iterations = 2
  . looopy.status = completed
    agent.iteration [INTERNAL]
      . looopy.iteration = 1
        execute_tool delete [INTERNAL]
          . gen_ai.operation.name = execute_tool
          . gen_ai.tool.call.arguments = {"path":"a.txt"}
          . gen_ai.tool.call.id = call_1
          . gen_ai.tool.call.result = yes
          . gen_ai.tool.name = delete
    agent.iteration [INTERNAL]
      . looopy.iteration = 2
        chat gpt-4o-mini [CLIENT]
          . gen_ai.input.messages = [{"role":"user","parts":[{"type":"text","content":"The weather?"}]},{"role":"assistant","parts":[{"type":"tool_call","id":"call_1","name":"delete","arguments":{"path":"a.txt"}}]},{"role":"tool","parts":[{"type":"tool_call_response","id":"call_1","response":"yes"}]}]
          . gen_ai.operation.name = chat
          . gen_ai.output.messages = [{"role":"assistant","parts":[{"type":"text","content":"Done."}],"finish_reason":"stop"}]
          . gen_ai.request.model = gpt-4o-mini
          . gen_ai.response.finish_reasons = ["stop"]
          . gen_ai.response.model = gpt-4o-mini"""
    )


async def test_without_content_nothing_that_was_said_is_on_a_span(receiver: Receiver) -> None:
    both = calls("weather", city="Oslo") + calls("weather", city="Atlantis")
    with recorded(receiver, capture_content=False):
        await ended(ask(clerk(model(both, says("Rain.")), system_prompt="Be brief.")))

    assert (
        drawn(receiver.spans, common=COMMON, leave_out=SHOWN_ONCE)
        == """\
invoke_agent clerk [INTERNAL]
  . gen_ai.operation.name = invoke_agent
  . gen_ai.request.model = gpt-4o-mini
  . looopy.iterations = 2
  . looopy.status = completed
    agent.iteration [INTERNAL]
      . looopy.iteration = 1
        chat gpt-4o-mini [CLIENT]
          . gen_ai.operation.name = chat
          . gen_ai.request.model = gpt-4o-mini
          . gen_ai.response.finish_reasons = ["tool_calls"]
          . gen_ai.response.model = gpt-4o-mini
        execute_tool weather [INTERNAL]
          . gen_ai.operation.name = execute_tool
          . gen_ai.tool.call.id = call_1
          . gen_ai.tool.name = weather
        execute_tool weather [INTERNAL] ERROR: LookupError
          . error.type = LookupError
          . gen_ai.operation.name = execute_tool
          . gen_ai.tool.call.id = call_2
          . gen_ai.tool.name = weather
    agent.iteration [INTERNAL]
      . looopy.iteration = 2
        chat gpt-4o-mini [CLIENT]
          . gen_ai.operation.name = chat
          . gen_ai.request.model = gpt-4o-mini
          . gen_ai.response.finish_reasons = ["stop"]
          . gen_ai.response.model = gpt-4o-mini"""
    )
    everything = repr(receiver.spans)
    assert [
        word for word in ("The weather?", "Oslo", "Atlantis", "sunk", "Rain", "brief") if word in everything
    ] == []


async def test_the_names_of_before_stand_beside_todays_where_they_are_asked_for(receiver: Receiver) -> None:
    with recorded(receiver, legacy_attributes=True):
        await ended(
            ask(clerk(model(says("Rain.", **USED)), tools=[], system_prompt="Be brief."), user_id="ada")
        )

    chat = next(span for span in receiver.spans if span.kind == "CLIENT")
    old = (
        "langfuse.session.id",
        "langfuse.user.id",
        "gen_ai.system",
        "gen_ai.prompt",
        "gen_ai.completion",
        "gen_ai.usage.prompt_tokens",
        "gen_ai.usage.completion_tokens",
        "gen_ai.usage.total_tokens",
    )
    assert {name: chat.attributes[name] for name in old} == {
        "langfuse.session.id": chat.attributes["gen_ai.conversation.id"],
        "langfuse.user.id": chat.attributes["user.id"],
        "gen_ai.system": "openai",
        "gen_ai.prompt": '[{"role":"system","parts":[{"type":"text","content":"Be brief."}]},'
        + chat.attributes["gen_ai.input.messages"][1:],
        "gen_ai.completion": chat.attributes["gen_ai.output.messages"],
        "gen_ai.usage.prompt_tokens": 50,
        "gen_ai.usage.completion_tokens": 10,
        "gen_ai.usage.total_tokens": 60,
    }


async def test_a_managed_prompt_is_named_on_the_chats_made_with_it(receiver: Receiver) -> None:
    with recorded(receiver):
        prompt = ManagedPrompt(text="Be brief.", name="clerk", version=3)
        await ended(ask(clerk(model(says("Rain.")), system_prompt=prompt)))

    linked = {
        span.name: (
            span.attributes["langfuse.observation.prompt.name"],
            span.attributes["langfuse.observation.prompt.version"],
        )
        for span in receiver.spans
        if "langfuse.observation.prompt.name" in span.attributes
    }
    assert linked == {"chat gpt-4o-mini": ("clerk", 3)}


async def test_the_proxy_is_told_of_the_span_that_asks_it(receiver: Receiver) -> None:
    server = ScriptedServer(says("Rain."))
    provider = LiteLLMProvider("http://proxy", "m", api_key=None, transport=HTTP(server.transport()))
    with recorded(receiver):
        run = ask(clerk(provider))
        result = await run

    chat = next(span for span in receiver.spans if span.kind == "CLIENT")
    told = server.requests[0]
    assert told.headers["traceparent"] == f"00-{chat.trace_id}-{chat.span_id}-01"
    assert told.body["metadata"]["trace_id"] == chat.trace_id == result.trace_id == run.trace_id
    assert told.body["metadata"]["parent_observation_id"] == chat.span_id


async def test_ten_runs_at_once_are_ten_traces_that_are_all_alike(receiver: Receiver) -> None:
    with recorded(receiver):
        agents = [clerk(model(calls("weather", city="Oslo"), says("Rain."))) for _ in range(10)]
        await asyncio.gather(*(ended(ask(agent)) for agent in agents))

    traces: dict[str, list[Any]] = {}
    for span in receiver.spans:
        traces.setdefault(span.trace_id, []).append(span)
    drawings = {drawn(spans, common=COMMON) for spans in traces.values()}
    assert (len(receiver.spans), len(traces), len(drawings)) == (60, 10, 1)


async def test_spans_of_the_caller_stand_above_and_those_of_a_tool_below(receiver: Receiver) -> None:
    provider = light()
    with recorded(receiver, tracer_provider=provider):
        tracer = provider.get_tracer("shop")

        async def price(of: str) -> int:
            """What something costs."""
            with tracer.start_as_current_span("look into the list"):
                return 4

        with tracer.start_as_current_span("GET /price") as here:
            run = ask(clerk(model(calls("price", of="tea"), says("4.")), tools=[price]))
        await ended(run)

    assert run.trace_id == trace.format_trace_id(here.get_span_context().trace_id)
    assert (
        drawn(
            receiver.spans,
            common={},
            leave_out=(*SHOWN_ONCE, *COMMON, "gen_ai.input.messages", "gen_ai.output.messages"),
        )
        == """\
GET /price [INTERNAL]
    invoke_agent clerk [INTERNAL]
      . gen_ai.operation.name = invoke_agent
      . gen_ai.request.model = gpt-4o-mini
      . looopy.iterations = 2
      . looopy.status = completed
        agent.iteration [INTERNAL]
          . looopy.iteration = 1
            chat gpt-4o-mini [CLIENT]
              . gen_ai.operation.name = chat
              . gen_ai.request.model = gpt-4o-mini
              . gen_ai.response.finish_reasons = ["tool_calls"]
              . gen_ai.response.model = gpt-4o-mini
            execute_tool price [INTERNAL]
              . gen_ai.operation.name = execute_tool
              . gen_ai.tool.call.arguments = {"of":"tea"}
              . gen_ai.tool.call.id = call_1
              . gen_ai.tool.call.result = 4
              . gen_ai.tool.name = price
                look into the list [INTERNAL]
        agent.iteration [INTERNAL]
          . looopy.iteration = 2
            chat gpt-4o-mini [CLIENT]
              . gen_ai.operation.name = chat
              . gen_ai.request.model = gpt-4o-mini
              . gen_ai.response.finish_reasons = ["stop"]
              . gen_ai.response.model = gpt-4o-mini"""
    )


async def test_the_messages_on_spans_are_what_the_conventions_schemas_ask_for(receiver: Receiver) -> None:
    picture = FilePart.of(b"\x89PNG", mime_type="image/png", name="rain.png")
    asked = (TextPart("What is this?"), picture, DataPart({"city": "Oslo"}))
    both = thinks("Two lookups.") + calls("weather", city="Oslo") + calls("weather", city="Atlantis")
    with recorded(receiver):
        agent = clerk(model(both, calls("nothing") + says("Hm."), says("Rain.")), system_prompt="Be brief.")
        await ended(agent.execute(asked))

    checked = [
        (span.name, name)
        for span in receiver.spans
        for name, schema in CONVENTIONS.items()
        if name in span.attributes
        and (
            schema.validate(json.loads(span.attributes[name])),
            STRICT[name].validate(json.loads(span.attributes[name])),
        )
    ]
    assert Counter(name for _, name in checked) == {
        "gen_ai.system_instructions": 3,
        "gen_ai.input.messages": 4,
        "gen_ai.output.messages": 4,
        "gen_ai.tool.definitions": 3,
    }
