"""Metrics: what is recorded of real runs, as the SDK's reader gives it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from agents import delete, events_of

from looopy import (
    AgentLoop,
    Fallback,
    InMemoryStateStore,
    Limits,
    LiteLLMProvider,
    Retry,
    Usage,
)
from looopy.events import Event, Failure, InputRequired, LLMResponse, Task, ToolStart
from looopy.messages import Message
from looopy.observe.metrics import Instruments
from looopy.providers.transport import HTTP
from looopy.testing import (
    Answer,
    ScriptedModel,
    ScriptedServer,
    calls,
    cuts,
    fails,
    run_virtual,
    says,
    stalls,
    waits,
)
from observe.metered import AGENT, ANSWERED, CHAT, RUN, TOOL, Metered, Points
from observe.recorded import Recorded
from observe.watching import START, Named, left_at, one_a_second, watched


def clerk(*script: Answer, **options: Any) -> AgentLoop:
    return AgentLoop(agent_id="clerk", llm_provider=ScriptedModel(*script), **options)


def measured(*script: Answer, **options: Any) -> Points:
    """What a run of this script leaves behind."""
    metered = Metered()
    run_virtual(watched(clerk(*script, **options).execute("go"), metered.run().on_event))
    return metered.points()


async def nap(seconds: float = 2.0) -> str:
    """Sleep."""
    await asyncio.sleep(seconds)
    return "rested"


async def broken() -> None:
    """Fail."""
    raise ValueError("it broke")


# ------------------------------------------------------------------------------------------------------------ model calls


def test_a_run_is_measured_call_by_call_with_the_standard_attributes() -> None:
    metered = Metered()
    server = ScriptedServer(
        waits(0.5) + calls("nap") + says(usage=Usage(input_tokens=50, output_tokens=10), cost=0.0002),
        waits(0.25)
        + says("Slept", " well.", usage=Usage(input_tokens=70, output_tokens=3), cost=0.0003, every=0.25),
    )
    provider = LiteLLMProvider("http://proxy:4000", "gpt-5", api_key="k", transport=HTTP(server.transport()))
    agent = AgentLoop(agent_id="clerk", llm_provider=provider, tools=[nap])
    run = agent.execute("go", user_id="ada", task_id="t")

    run_virtual(watched(run, metered.run(address="proxy", port=4000).on_event))

    chat = {
        **CHAT,
        "server.address": "proxy",
        "server.port": 4000,
        "gen_ai.request.model": "gpt-5",
        "gen_ai.response.model": "gpt-5",
    }
    assert run.state is not None
    assert metered.points() == {
        "gen_ai.client.operation.duration": [(chat, (2, 1.25))],
        "gen_ai.client.operation.time_to_first_chunk": [(chat, (2, 1.0))],
        "gen_ai.client.token.usage": [
            ({**chat, "gen_ai.token.type": "input"}, (2, 120)),
            ({**chat, "gen_ai.token.type": "output"}, (2, 13)),
        ],
        "looopy.cost": [({**chat, **AGENT}, 0.0005)],
        "gen_ai.execute_tool.duration": [
            ({**TOOL, "gen_ai.tool.name": "nap", "looopy.outcome": "completed"}, (1, 2.0))
        ],
        "gen_ai.invoke_agent.duration": [
            ({**RUN, "looopy.outcome": "completed"}, (1, float(run.state.seq - 1)))
        ],
        "gen_ai.invoke_agent.inference_calls": [(AGENT, (1, 2))],
        "gen_ai.invoke_agent.tool_calls": [(AGENT, (1, 1))],
        "looopy.runs.active": [(AGENT, 0)],
    }


def test_the_instruments_have_the_units_and_the_buckets_of_the_conventions() -> None:
    metered = Metered()
    usage = Usage(input_tokens=1, output_tokens=1)
    server = ScriptedServer(calls("nap", seconds=0), fails(429), says("ok", usage=usage, cost=1.0))
    provider = LiteLLMProvider("http://proxy", "gpt-5", api_key="k", transport=HTTP(server.transport()))
    run_virtual(
        watched(AgentLoop(llm_provider=Retry(provider), tools=[nap]).execute("go"), metered.run().on_event)
    )

    seconds = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
    tokens = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
    long = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)
    few = (1, 2, 4, 8, 16, 32, 64, 128)
    assert {
        name: (metric.unit, getattr(metric.data.data_points[0], "explicit_bounds", None))
        for name, metric in metered.metrics().items()
    } == {
        "gen_ai.client.operation.duration": ("s", seconds),
        "gen_ai.client.operation.time_to_first_chunk": ("s", seconds),
        "gen_ai.client.token.usage": ("{token}", tokens),
        "gen_ai.execute_tool.duration": ("s", seconds),
        "gen_ai.invoke_agent.duration": ("s", long),
        "gen_ai.invoke_agent.inference_calls": ("{inference_call}", few),
        "gen_ai.invoke_agent.tool_calls": ("{tool_call}", few),
        "looopy.runs.active": ("{run}", None),
        "looopy.llm.retries": ("{retry}", None),
        "looopy.cost": ("{USD}", None),
    }
    assert all(metric.description for metric in metered.metrics().values())


def test_what_nobody_knows_is_not_recorded() -> None:
    # 1 task, 2 working, 3 llm-call, 4 content-delta, 5 llm-response, 6 completed
    assert measured(says("Hi")) == {
        "gen_ai.client.operation.duration": [(ANSWERED, (1, 2.0))],
        "gen_ai.invoke_agent.duration": [({**RUN, "looopy.outcome": "completed"}, (1, 5.0))],
        "gen_ai.invoke_agent.inference_calls": [(AGENT, (1, 1))],
        "gen_ai.invoke_agent.tool_calls": [(AGENT, (1, 0))],
        "looopy.runs.active": [(AGENT, 0)],
    }


@pytest.mark.parametrize(
    ("script", "limits", "error", "state", "seconds"),
    [
        (fails(429), Limits(), "ModelOverloaded", "failed", (1.0, 3.0)),
        (says("Hel") + cuts(), Limits(), "StreamBroken", "failed", (3.0, 5.0)),
        (stalls(), Limits(first_token_seconds=5), "LimitExceeded", "failed", (1.0, 3.0)),
    ],
)
def test_a_model_call_that_fails_is_measured_until_the_run_says_why(
    script: Answer, limits: Limits, error: str, state: str, seconds: tuple[float, float]
) -> None:
    came = error == "StreamBroken"  # before it broke off, a piece had come
    first = {"gen_ai.client.operation.time_to_first_chunk": [(CHAT, (1, 0.0))]} if came else {}

    assert measured(script, limits=limits) == {
        **first,
        "gen_ai.client.operation.duration": [({**CHAT, "error.type": error}, (1, seconds[0]))],
        "gen_ai.invoke_agent.duration": [
            ({**RUN, "looopy.outcome": state, "error.type": error}, (1, seconds[1]))
        ],
        "gen_ai.invoke_agent.inference_calls": [(AGENT, (1, 1))],
        "gen_ai.invoke_agent.tool_calls": [(AGENT, (1, 0))],
        "looopy.runs.active": [(AGENT, 0)],
    }


def test_what_is_no_call_and_no_end_changes_nothing() -> None:
    # 3 checkpoint, 6 llm-response, 7 checkpoint, 8 completed: two seconds later, and else the same
    assert measured(says("Hi"), task_state_store=InMemoryStateStore()) == {
        **measured(says("Hi")),
        "gen_ai.invoke_agent.duration": [({**RUN, "looopy.outcome": "completed"}, (1, 7.0))],
    }


def test_an_answer_that_its_provider_gave_up_counts_as_a_failed_call() -> None:
    points = measured(says("Hel", finish_reason="interrupted"), says("Hello"))

    assert points["gen_ai.client.operation.duration"] == [
        ({**CHAT, "error.type": "_OTHER"}, (1, 3.0)),
        (ANSWERED, (1, 2.0)),
    ]


def test_each_request_of_a_call_that_is_retried_is_measured_and_its_wait_is_not() -> None:
    # 3 llm-call, 4 llm-retry, half a second's wait, 5 llm-retry at once, 6 content-delta, 7 llm-response
    first, second = ScriptedModel(fails(429), fails(503)), ScriptedModel(says("Hi"), name="second")
    provider = Fallback(
        Named(Retry(first, attempts=2, first_wait=0.5, jitter=lambda: 1.0), "first"), Named(second, "second")
    )
    metered = Metered()
    agent = AgentLoop(agent_id="clerk", llm_provider=provider)
    run_virtual(watched(agent.execute("go"), metered.run().on_event))

    points = metered.points()
    failed = {**CHAT, "gen_ai.request.model": "first", "error.type": "ModelOverloaded"}
    answered = {**CHAT, "gen_ai.request.model": "second", "gen_ai.response.model": "second"}
    assert points["gen_ai.client.operation.duration"] == [(failed, (2, 1.5)), (answered, (1, 2.0))]
    assert points["looopy.llm.retries"] == [({**failed, **AGENT}, 2)]
    assert points["gen_ai.invoke_agent.inference_calls"] == [(AGENT, (1, 3))]


def test_a_request_that_was_never_made_is_not_measured() -> None:
    provider = Retry(ScriptedModel(fails(429)), first_wait=60, longest_wait=60, jitter=lambda: 1.0)
    metered = Metered()
    agent = AgentLoop(agent_id="clerk", llm_provider=provider, limits=Limits(run_seconds=5))
    run_virtual(watched(agent.execute("go"), metered.run().on_event))

    points = metered.points()
    failed = {**CHAT, "error.type": "ModelOverloaded"}
    assert points["gen_ai.client.operation.duration"] == [(failed, (1, 1.0))]
    assert points["looopy.llm.retries"] == [({**failed, **AGENT}, 1)]
    assert points["gen_ai.invoke_agent.inference_calls"] == [(AGENT, (1, 1))]


def test_an_answer_without_a_call_is_passed_over() -> None:
    metered = Metered()
    metered.run().on_event(LLMResponse(message=Message.assistant("Hi"), cost=1.0))

    assert metered.points() == {}


def test_an_answer_may_have_no_model() -> None:
    metered = Metered()
    meter = metered.run()

    def nameless(event: Event) -> None:
        meter.on_event(replace(event, model="") if isinstance(event, LLMResponse) else event)

    run_virtual(watched(clerk(says("Hi")).execute("go"), nameless))

    assert metered.points()["gen_ai.client.operation.duration"] == [(CHAT, (1, 2.0))]


# ------------------------------------------------------------------------------------------------------------------- tools


def test_tools_are_measured_by_name_and_outcome_but_names_that_a_model_made_up_are_one() -> None:
    points = measured(
        calls("nap", seconds=1)
        + calls("nap", seconds=2)
        + calls("broken")
        + calls("nope_1")
        + calls("nope_2")
        + calls("nap", "{"),
        says("done"),
        tools=[nap, broken],
    )

    failed = {**TOOL, "looopy.outcome": "failed"}
    nap_failed = {**failed, "gen_ai.tool.name": "nap", "error.type": "InvalidArguments"}
    unknown = {**failed, "gen_ai.tool.name": "_unknown", "error.type": "UnknownTool"}
    by_outcome = {
        (point["gen_ai.tool.name"], point["looopy.outcome"]): (point, measure)
        for point, measure in points["gen_ai.execute_tool.duration"]
    }
    assert {key: (point, measure[0]) for key, (point, measure) in by_outcome.items()} == {
        ("nap", "completed"): ({**TOOL, "gen_ai.tool.name": "nap", "looopy.outcome": "completed"}, 2),
        ("nap", "failed"): (nap_failed, 1),
        ("broken", "failed"): ({**failed, "gen_ai.tool.name": "broken", "error.type": "ValueError"}, 1),
        ("_unknown", "failed"): (unknown, 2),
    }
    assert by_outcome["nap", "completed"][1] == (2, 3.0)
    assert points["gen_ai.invoke_agent.tool_calls"] == [(AGENT, (1, 6))]


def test_a_cancelled_run_cancels_the_tool_that_ran_and_the_one_that_waited_never_counts() -> None:
    metered = Metered()
    meter = metered.run()
    run = clerk(calls("nap", seconds=9) + calls("nap"), tools=[nap], max_parallel_tools=1).execute("go")

    def cancel_at_the_tool(event: Event) -> None:
        meter.on_event(event)
        if isinstance(event, ToolStart):
            run.cancel()

    run_virtual(watched(run, cancel_at_the_tool))

    canceled = {"looopy.outcome": "canceled", "error.type": "TaskCanceled"}
    points = metered.points()
    assert points["gen_ai.execute_tool.duration"] == [
        ({**TOOL, "gen_ai.tool.name": "nap", **canceled}, (1, 1.0))
    ]
    assert [point for point, _ in points["gen_ai.invoke_agent.duration"]] == [{**RUN, **canceled}]
    assert points["gen_ai.invoke_agent.tool_calls"] == [(AGENT, (1, 1))]
    assert points["looopy.runs.active"] == [(AGENT, 0)]


def test_a_run_that_waits_for_an_answer_is_over_and_its_resumption_another() -> None:
    metered = Metered()
    agent = clerk(calls("delete", path="a.txt"), says("done"), tools=[delete])

    async def ask_and_answer() -> None:
        asked = await watched(agent.execute("go"), metered.run().on_event)
        state = asked.state
        assert state is not None
        inputs = {state.waiting[0].input_id: "yes"}
        await watched(agent.resume(state, inputs=inputs), metered.run().on_event)

    run_virtual(ask_and_answer())

    tool = {**TOOL, "gen_ai.tool.name": "delete"}
    points = metered.points()
    assert [point for point, _ in points["gen_ai.execute_tool.duration"]] == [
        {**tool, "looopy.outcome": "completed"},
        {**tool, "looopy.outcome": "input-required"},
    ]
    assert [(point, count) for point, (count, _) in points["gen_ai.invoke_agent.duration"]] == [
        ({**RUN, "looopy.outcome": "completed"}, 1),
        ({**RUN, "looopy.outcome": "input-required"}, 1),
    ]
    assert points["looopy.runs.active"] == [(AGENT, 0)]


# -------------------------------------------------------------------------------------------------------------------- runs


def test_ten_runs_at_once_are_ten_active_and_then_none() -> None:
    metered = Metered()
    agent = clerk(*[waits(1) + says("Hi")] * 10)

    async def in_the_middle() -> Points:
        await asyncio.sleep(0.5)
        return metered.points()

    async def at_once() -> Points:
        runs = [watched(agent.execute("go"), metered.run().on_event) for _ in range(10)]
        return (await asyncio.gather(in_the_middle(), *runs))[0]

    assert run_virtual(at_once()) == {"looopy.runs.active": [(AGENT, 10)]}
    assert metered.points() == {
        "gen_ai.client.operation.duration": [(ANSWERED, (10, 20.0))],
        "gen_ai.invoke_agent.duration": [({**RUN, "looopy.outcome": "completed"}, (10, 50.0))],
        "gen_ai.invoke_agent.inference_calls": [(AGENT, (10, 10))],
        "gen_ai.invoke_agent.tool_calls": [(AGENT, (10, 0))],
        "looopy.runs.active": [(AGENT, 0)],
    }


async def test_a_stream_that_is_torn_down_counts_as_canceled_once() -> None:
    metered = Metered()
    meter = metered.run()

    await left_at("llm-call", clerk(stalls()).execute("go"), meter.on_event)
    assert metered.points() == {"looopy.runs.active": [(AGENT, 1)]}
    meter.end()
    meter.end()

    canceled = {"error.type": "TaskCanceled"}
    points = metered.points()
    assert [point for point, _ in points["gen_ai.client.operation.duration"]] == [{**CHAT, **canceled}]
    assert [(point, count) for point, (count, _) in points["gen_ai.invoke_agent.duration"]] == [
        ({**RUN, "looopy.outcome": "canceled", **canceled}, 1)
    ]
    assert points["looopy.runs.active"] == [(AGENT, 0)]


def test_the_end_of_a_run_that_is_over_changes_nothing() -> None:
    metered = Metered()
    meter = metered.run()
    run_virtual(watched(clerk(says("Hi")).execute("go"), meter.on_event))
    before = metered.points()

    meter.end()

    assert metered.points() == before


def test_a_question_of_a_tool_that_never_started_is_not_counted() -> None:
    metered = Metered()
    metered.run().on_event(InputRequired(call_id="nobody", input_id="i", prompt="?", tool_name="delete"))

    assert metered.points() == {}


def test_a_run_that_never_begins_is_not_counted() -> None:
    metered = Metered()
    metered.run().end()

    assert metered.points() == {}


def test_a_clock_that_is_set_back_makes_no_negative_time() -> None:
    metered = Metered()
    meter = metered.run()
    backwards = run_virtual(events_of(clerk(says("Hi")).execute("go")))

    for event in backwards:
        meter.on_event(replace(event, timestamp=START - (one_a_second(event).timestamp - START)))

    assert metered.points()["gen_ai.client.operation.duration"] == [(ANSWERED, (1, 0.0))]


def test_without_a_provider_the_numbers_go_where_the_program_says_later() -> None:
    meter = Instruments().run(agent="clerk", provider="litellm")

    run = run_virtual(watched(clerk(says("Hi")).execute("go"), meter.on_event))

    assert run.status == "completed"


def test_what_a_plug_puts_in_the_place_of_a_class_is_no_attribute() -> None:
    metered = Metered()
    run, meter = Recorded(), metered.run()
    run.at(0, Task(agent_id="clerk")).uses(
        1, 2, "ask", error=Failure(type="no such Ada Lovelace", message="")
    )
    for event in run.events:
        meter.on_event(event)
    ((attributes, _),) = metered.points()["gen_ai.execute_tool.duration"]
    assert attributes["error.type"] == "_OTHER"
