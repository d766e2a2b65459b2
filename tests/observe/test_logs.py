"""Logs: the records of real runs."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import reactivex as rx
from agents import delete

from looopy import AgentLoop, Fallback, InMemoryStateStore, Message, Retry, TaskCanceled, Usage
from looopy.events import Event, Failure, LLMResponse, LLMRetry, ToolStart
from looopy.observe import instrument
from looopy.observe.logs import FIELDS, MEASURES, RunLog
from looopy.testing import Answer, ScriptedModel, calls, cuts, fails, run_virtual, says, stalls, waits
from observe.watching import Named, left_at, watched

TRACE, SPAN = "a" * 32, "b" * 16


class Kept(logging.Handler):
    """Keeps records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def lines(self) -> list[str]:
        """Levels and words, without who says them."""
        return [
            f"{record.levelname} {record.getMessage().removeprefix(who(record))}" for record in self.records
        ]

    def fields(self, *names: str) -> list[dict[str, Any]]:
        """Those attributes of each record that a formatter finds beside the usual."""
        return [
            {name: getattr(record, name) for name in names if hasattr(record, name)}
            for record in self.records
        ]


def who(record: logging.LogRecord) -> str:
    """What each line begins with."""
    fields = vars(record)
    return f"{fields['agent_id']} {fields['task_id'][:6]}: "


@contextmanager
def kept(level: int) -> Iterator[Kept]:
    """What the logger of runs says at this level."""
    logger, kept = logging.getLogger("looopy.run"), Kept()
    logger.addHandler(kept)
    logger.setLevel(level)
    try:
        yield kept
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(kept)


def clerk(*script: Answer, **options: Any) -> AgentLoop:
    model = ScriptedModel(*script, name="gpt-5")
    return AgentLoop(agent_id="clerk", llm_provider=model, **options)


def log() -> RunLog:
    return RunLog(agent="clerk", trace_id=TRACE, span_id=SPAN)


def logged(*script: Answer, level: int = logging.DEBUG, **options: Any) -> list[str]:
    """The lines of a run of this script."""
    with kept(level) as said:
        run_virtual(watched(clerk(*script, **options).execute("secret prompt"), log().on_event))
    return said.lines()


async def nap(seconds: float = 2.0) -> str:
    """Sleep."""
    await asyncio.sleep(seconds)
    return "secret result"


async def broken(word: str = "") -> None:
    """Fail."""
    raise ValueError(f"cannot do {word}")


TWO_CALLS = (
    calls("nap", seconds=2) + says(usage=Usage(input_tokens=50, output_tokens=10), cost=0.0002),
    says("secret answer", usage=Usage(input_tokens=70, output_tokens=3), cost=0.0003),
)


# --------------------------------------------------------------------------------------------------------- what is said when


def test_a_run_is_told_from_its_beginning_to_its_end() -> None:
    # The events come a second apart: 1 task, 3 llm-call, 4 delta, 5 llm-response, 6 tool-start … 11 completed
    assert logged(*TWO_CALLS, tools=[nap]) == [
        "INFO run begins",
        "DEBUG model call 1 begins: 1 messages, 1 tools",
        "INFO model call 1 ended: tool_calls, gpt-5, 2.00 s, 50 + 10 tokens, 0.0002 USD",
        "DEBUG tool 'nap' begins",
        "INFO tool 'nap' ended: completed, 2.00 s",
        "DEBUG model call 2 begins: 3 messages, 1 tools",
        "INFO model call 2 ended: stop, gpt-5, 2.00 s, 70 + 3 tokens, 0.0003 USD",
        "INFO run completed: 2 model calls, 10.00 s, 120 + 13 tokens, 0.0005 USD",
    ]


def test_a_checkpoint_is_not_worth_a_line() -> None:
    assert logged(says("Hi"), level=logging.INFO, task_state_store=InMemoryStateStore()) == [
        "INFO run begins",
        "INFO model call 1 ended: stop, gpt-5, 2.00 s",
        "INFO run completed: 1 model call, 7.00 s",
    ]


def test_each_record_has_its_ids_and_its_measures_as_fields() -> None:
    with kept(logging.DEBUG) as said:
        run = clerk(*TWO_CALLS, tools=[nap]).execute("go", task_id="t", context_id="c")
        run_virtual(watched(run, log().on_event))

    always: dict[str, Any] = {
        "task_id": "t",
        "context_id": "c",
        "agent_id": "clerk",
        "iteration": 1,
        "call_id": "",
        "tool_name": "",
        "model": "",
        "trace_id": TRACE,
        "span_id": SPAN,
    }
    tool = {"call_id": "call_1", "tool_name": "nap"}
    first = {
        "outcome": "tool_calls",
        "error_type": "",
        "seconds": 2.0,
        "input_tokens": 50,
        "output_tokens": 10,
    }
    second = {"outcome": "stop", "error_type": "", "seconds": 2.0, "input_tokens": 70, "output_tokens": 3}
    whole = {
        "outcome": "completed",
        "error_type": "",
        "seconds": 10.0,
        "input_tokens": 120,
        "output_tokens": 13,
    }
    nothing = {"input_tokens": None, "output_tokens": None, "cost": None}
    assert said.fields(*FIELDS, *MEASURES) == [
        {**always, "event": "task", "iteration": 0},
        {**always, "event": "llm-call"},
        {**always, "event": "llm-response", "model": "gpt-5", **first, "cost": 0.0002},
        {**always, "event": "tool-start", **tool},
        {
            **always,
            "event": "tool-complete",
            **tool,
            "outcome": "completed",
            "error_type": "",
            "seconds": 2.0,
            **nothing,
        },
        {**always, "event": "llm-call", "iteration": 2},
        {**always, "event": "llm-response", "iteration": 2, "model": "gpt-5", **second, "cost": 0.0003},
        {**always, "event": "status-update", "iteration": 2, **whole, "cost": 0.0005},
    ]
    assert {record.name for record in said.records} == {"looopy.run"}


@pytest.mark.parametrize(
    ("script", "options", "line"),
    [
        (
            [fails(429, "slow down,\n  please")],
            {},
            "ERROR run failed: 1 model call, 3.00 s; ModelOverloaded: API error 429 from gpt-5, as scripted",
        ),
        (
            [says("Hel") + cuts()],
            {},
            "ERROR run failed: 1 model call, 5.00 s; StreamBroken: the answer of gpt-5 broke off after 1 pieces, as scripted",
        ),
        (
            [calls("nap", seconds=0)],
            {"max_iterations": 1},
            "WARNING run failed: 1 model call, 7.00 s; LimitExceeded: run stopped by max_iterations=1: 1 model calls and no final answer; raise the limit, or go on from the partial result in error.result",
        ),
    ],
)
def test_a_run_that_fails_says_why_in_one_line(
    script: list[Answer], options: dict[str, Any], line: str
) -> None:
    assert logged(*script, level=logging.WARNING, tools=[nap], **options) == [line]


def test_a_retry_is_a_warning_that_says_who_is_asked_when() -> None:
    first = Retry(
        ScriptedModel(fails(429, "busy"), fails(503, "busy")), attempts=2, first_wait=0.5, jitter=lambda: 1.0
    )
    second = ScriptedModel(says("Hi"), name="second")
    agent = AgentLoop(agent_id="clerk", llm_provider=Fallback(first, Named(second, "gpt-5-mini")))

    with kept(logging.INFO) as said:
        run_virtual(watched(agent.execute("go"), log().on_event))

    why = "ModelOverloaded: API error {} from scripted-model, as scripted"
    assert said.lines() == [
        "INFO run begins",
        "WARNING model call 1: request 1 failed, asks again in 0.50 s; " + why.format(429),
        "WARNING model call 1: request 2 failed, asks gpt-5-mini in 0.00 s; " + why.format(503),
        "INFO model call 1 ended: stop, second, 2.00 s",
        "INFO run completed: 1 model call, 7.00 s",
    ]
    assert said.fields("event", "error_type")[1] == {"event": "llm-retry", "error_type": "ModelOverloaded"}


def test_a_providers_own_words_about_a_retry_are_left_out_since_they_may_quote_anything() -> None:
    error = Failure(type="Busy", message="key sk-proj-4711abcdefgh\nis busy")
    answer = LLMResponse(message=Message.assistant("Hi"))
    model = ScriptedModel(rx.of(LLMRetry(attempt=1, error=error), answer))

    with kept(logging.WARNING) as said:
        run_virtual(watched(AgentLoop(llm_provider=model).execute("go"), log().on_event))

    assert said.lines() == ["WARNING model call 1: request 1 failed, asks again in 0.00 s; Busy"]


def test_a_tool_that_fails_is_a_warning_with_the_kind_of_its_error_and_no_more() -> None:
    assert logged(
        calls("broken", word="secret argument") + calls("forged\nERROR"),
        says("sorry"),
        level=logging.WARNING,
        tools=[broken],
    ) == [
        "WARNING tool '_unknown' ended: failed, UnknownTool, 1.00 s",
        "WARNING tool 'broken' ended: failed, ValueError, 3.00 s",
    ]


def test_a_cancelled_run_is_no_error_and_a_tool_that_waited_is_not_told_of() -> None:
    run = clerk(calls("nap") + calls("nap"), tools=[nap], max_parallel_tools=1).execute("go")
    told = log()

    def cancel_at_the_tool(event: Event) -> None:
        told.on_event(event)
        if isinstance(event, ToolStart):
            run.cancel("enough")

    with kept(logging.INFO) as said:
        run_virtual(watched(run, cancel_at_the_tool))

    assert said.lines() == [
        "INFO run begins",
        "INFO model call 1 ended: tool_calls, gpt-5, 3.00 s",
        "INFO tool 'nap' ended: canceled, TaskCanceled, 1.00 s",
        "INFO run canceled: 1 model call, 9.00 s; TaskCanceled: the run was cancelled: enough",
    ]


def test_a_question_and_its_answer_are_told_without_their_words() -> None:
    agent = clerk(calls("delete", path="secret.txt"), says("done"), tools=[delete])

    async def ask_and_answer() -> None:
        asked = await watched(agent.execute("go"), log().on_event)
        assert asked.state is not None
        inputs = {asked.state.waiting[0].input_id: "yes"}
        await watched(agent.resume(asked.state, inputs=inputs), log().on_event)

    with kept(logging.DEBUG) as said:
        run_virtual(ask_and_answer())

    assert said.lines() == [
        "INFO run begins",
        "DEBUG model call 1 begins: 1 messages, 1 tools",
        "INFO model call 1 ended: tool_calls, gpt-5, 2.00 s",
        "DEBUG tool 'delete' begins",
        "INFO tool 'delete' asks for a clarification",
        "INFO run waits for an answer: 1 model call, 7.00 s",
        "INFO run goes on",
        "DEBUG an answer came",
        "DEBUG tool 'delete' begins",
        "INFO tool 'delete' ended: completed, 1.00 s",
        "DEBUG model call 2 begins: 3 messages, 1 tools",
        "INFO model call 2 ended: stop, gpt-5, 2.00 s",
        "INFO run completed: 1 model call, 7.00 s",
    ]


def test_a_run_that_goes_on_without_an_answer_begins_too() -> None:
    agent = clerk(calls("delete", path="a.txt"), tools=[delete])

    async def ask_twice() -> None:
        asked = await watched(agent.execute("go"), log().on_event)
        with kept(logging.INFO) as said:
            await watched(agent.resume(asked.state), log().on_event)
        assert said.lines() == ["INFO run goes on", "INFO run waits for an answer: 0 model calls, 1.00 s"]

    run_virtual(ask_twice())


async def test_a_stream_that_is_torn_down_is_told_of_once() -> None:
    told = log()
    with kept(logging.WARNING) as said:
        await left_at("llm-call", clerk(stalls()).execute("go"), told.on_event)
        told.end()
        told.end()

    assert said.lines() == ["WARNING run abandoned: its events stopped before its end"]


def test_ten_runs_at_once_keep_their_records_apart() -> None:
    agent = clerk(*[waits(1) + says("Hi")] * 10)

    async def at_once() -> None:
        runs = [agent.execute("go", task_id=f"task {number}") for number in range(10)]
        await asyncio.gather(*(watched(run, log().on_event) for run in runs))

    with kept(logging.INFO) as said:
        run_virtual(at_once())

    for number in range(10):
        mine = [record for record in said.records if vars(record)["task_id"] == f"task {number}"]
        assert [record.getMessage() for record in mine] == [
            f"clerk task {number}: run begins",
            f"clerk task {number}: model call 1 ended: stop, gpt-5, 2.00 s",
            f"clerk task {number}: run completed: 1 model call, 5.00 s",
        ]


def test_lines_of_several_runs_can_be_told_apart_in_any_format() -> None:
    with kept(logging.INFO) as said:
        for task_id in ("3f2a91c07b5d4e6f8a9b0c1d2e3f4a5b", "order 4711", "a\nb\x1b"):
            run_virtual(watched(clerk(says("Hi")).execute("go", task_id=task_id), log().on_event))

    assert [record.getMessage() for record in said.records if vars(record)["event"] == "task"] == [
        "clerk 3f2a91: run begins",
        "clerk order 4711: run begins",
        "clerk a b\N{REPLACEMENT CHARACTER}: run begins",
    ]


# ------------------------------------------------------------------------------------------------------- quiet, and no secrets


def test_nothing_of_the_conversation_and_no_credential_is_ever_logged() -> None:
    key = "sk-proj-4711abcdefgh"
    with kept(logging.DEBUG) as said:
        for script in (
            TWO_CALLS,
            [calls("broken", word=f"secret {key}"), fails(401, f"Incorrect API key provided: {key}")],
        ):
            agent = clerk(*script, tools=[nap, broken], system_prompt="secret instructions")
            run_virtual(watched(agent.execute("secret prompt"), log().on_event))

    everything = "".join(repr(record.__dict__) for record in said.records)
    assert "secret" not in everything
    assert key not in everything
    assert "AuthenticationFailed: API error 401 from gpt-5, as scripted" in everything


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL])
def test_only_what_the_level_lets_through_is_said(level: int) -> None:
    def lines(level: int) -> list[str]:
        model = ScriptedModel(calls("broken"), calls("nap"), fails(503), fails(503))
        agent = AgentLoop(llm_provider=Retry(model, attempts=2, jitter=lambda: 0.0), tools=[nap, broken])
        with kept(level) as said:
            run_virtual(watched(agent.execute("go"), log().on_event))
        return said.lines()

    everything = lines(logging.DEBUG)

    assert {line.split()[0] for line in everything} == {"DEBUG", "INFO", "WARNING", "ERROR"}
    assert lines(level) == [line for line in everything if getattr(logging, line.split()[0]) >= level]


def test_a_program_that_does_not_configure_logging_prints_nothing() -> None:
    program = (
        "from looopy import AgentLoop; from looopy.observe.logs import RunLog; from looopy.testing import ScriptedModel, fails\n"
        "run = AgentLoop(llm_provider=ScriptedModel(fails(401))).execute('go')\n"
        "run.subscribe(RunLog(agent='agent').on_event)\n"
        "try: run.result()\n"
        "except Exception as error: print(type(error).__name__)\n"
    )

    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )

    assert (said.stdout, said.stderr) == ("AuthenticationFailed\n", "")


def test_a_formatter_can_write_each_record_as_json() -> None:
    with kept(logging.INFO) as said:
        run_virtual(watched(clerk(says("Hi")).execute("go", task_id="t"), log().on_event))

    line = json.dumps({"message": said.records[-1].getMessage(), **said.fields(*FIELDS, *MEASURES)[-1]})

    assert json.loads(line)["task_id"] == "t"


# ------------------------------------------------------------------------------------------------ who listens takes part


@pytest.mark.parametrize("kind", ["llm-response", "tool-complete"])
async def test_who_cancels_a_run_from_its_log_is_heard_after_the_event_that_was_logged(kind: str) -> None:
    """The answer was paid for: it is in the state, and every subscriber gets it."""
    reached = "model call 1 ended" if kind == "llm-response" else "tool 'nap' ended"

    class TooDear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if reached in record.getMessage():
                run.cancel("too dear")

    alarm = TooDear()
    with kept(logging.DEBUG), instrument(exporters=(), langfuse=False):
        logging.getLogger("looopy.run").addHandler(alarm)
        try:
            run = clerk(
                waits(0.001) + calls("nap", seconds=0) + says("Wait.", cost=0.5), says("never"), tools=[nap]
            ).execute("go")
            with pytest.raises(TaskCanceled) as ended:
                async with asyncio.timeout(5):
                    await run
        finally:
            logging.getLogger("looopy.run").removeHandler(alarm)
    kinds = [event.kind async for event in run.events()]
    assert kind in kinds
    assert kinds[-1] == "status-update"
    assert [event.seq for event in run._log] == list(range(1, len(kinds) + 1))
    assert ended.value.result is not None
    assert (ended.value.result.cost, ended.value.result.messages[1].text) == (0.5, "Wait.")
