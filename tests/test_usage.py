"""The usage report: a fold over the events of many runs."""

from __future__ import annotations

import asyncio
import re
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looopy import AgentLoop, Cache, LLMResponse, MemoryCache, Usage, UsageReport, UsageRow, dumps, loads
from looopy.errors import ConfigurationError
from looopy.events import Task
from looopy.messages import Message
from looopy.testing import ScriptedModel, calls, fails, run_virtual, says, stalls

SPENT = Usage(input_tokens=100, output_tokens=20, cached_tokens=40, reasoning_tokens=5)


def now() -> str:
    """Tell the time."""
    return "noon"


def agent(name, *answers, **options):
    return AgentLoop(agent_id=name, llm_provider=ScriptedModel(*answers), tools=[now], **options)


def untimed(rows):
    return [replace(row, seconds=0.0) for row in rows]


async def test_runs_are_added_up_by_model_by_agent_and_by_conversation():
    report = UsageReport()
    planner = agent(
        "planner",
        calls("now") + says(usage=SPENT, cost=0.5, model="large"),
        says("ok", usage=SPENT, model="small"),
    )
    writer = agent("writer", says("Hi", usage=SPENT, cost=0.25, model="large"))

    for each in (planner, writer):
        run = each.session("chat").send("Go")
        report.watch(run)
        await run

    twice = SPENT + SPENT
    assert untimed(report.rows()) == [
        UsageRow(name="large", calls=2, usage=twice, cost=0.75),
        UsageRow(name="small", calls=1, usage=SPENT, unpriced=1),
    ]
    assert untimed(report.rows(by="agent")) == [
        UsageRow(name="planner", calls=2, usage=twice, cost=0.5, unpriced=1),
        UsageRow(name="writer", calls=1, usage=SPENT, cost=0.25),
    ]
    assert untimed(report.rows(by="session")) == [
        UsageRow(name="chat", calls=3, usage=twice + SPENT, cost=0.75, unpriced=1)
    ]
    assert untimed([report.total]) == [UsageRow(calls=3, usage=twice + SPENT, cost=0.75, unpriced=1)]


async def test_a_run_that_is_over_counts_too_and_each_event_once():
    report = UsageReport()
    run = agent("a", says("Hi", usage=SPENT, cost=0.5)).execute("Hi")
    await run

    report.watch(run)
    report.watch(run)
    async for event in run:
        report.add(loads(dumps(event)))

    assert (report.total.calls, report.total.cost) == (1, 0.5)


async def test_a_resumed_task_goes_on_in_the_same_row():
    report = UsageReport()
    for seq in (1, 4, 6):
        message = Message.assistant("")
        report.add(
            Task(task_id="t", seq=seq, agent_id="a")
            if seq == 1
            else LLMResponse(task_id="t", seq=seq, message=message)
        )

    assert [(row.name, row.calls) for row in report.rows(by="agent")] == [("a", 2)]


async def test_a_run_that_fails_counts_up_to_there():
    report = UsageReport()
    run = agent("a", calls("now") + says(usage=SPENT, cost=0.5), fails(400)).execute("Hi")
    report.watch(run)
    with pytest.raises(Exception, match="scripted bad request"):
        await run

    assert (report.total.calls, report.total.cost) == (1, 0.5)


def test_watching_begins_a_run_and_leaving_ends_it():
    async def watched():
        report, run = UsageReport(), agent("a", says("Hi") + stalls()).execute("Hi")
        leave = report.watch(run)
        await asyncio.sleep(1)
        before = run.status
        leave.dispose()
        await asyncio.sleep(1)
        return before, run.status, report.total.calls

    assert run_virtual(watched()) == ("working", "canceled", 0)


def test_an_unknown_price_stays_unknown_and_is_counted():
    report = UsageReport()
    for cost, usage in ((None, None), (None, SPENT), (0.25, SPENT)):
        report.add(LLMResponse(message=Message.assistant("Hi"), cost=cost, usage=usage))

    assert report.total == UsageRow(calls=3, usage=SPENT + SPENT, cost=0.25, unpriced=2, uncounted=1)
    assert UsageReport().total.cost is None


def test_what_comes_out_of_a_cache_is_counted_apart_and_uses_no_tokens():
    report, model = UsageReport(), ScriptedModel(says("Hi", usage=SPENT, cost=0.5), says("Hi"))
    kept = AgentLoop(llm_provider=Cache(model, MemoryCache()))
    for prompt in ("Hi", "Hi", "Ho", "Ho"):  # nobody tells the tokens of the second answer
        run = kept.execute(prompt)
        report.watch(run)
        run.result(5)

    assert untimed([report.total]) == [
        UsageRow(calls=4, hits=2, usage=SPENT, cost=0.5, unpriced=1, uncounted=1)
    ]


def test_a_model_has_the_name_that_it_was_asked_for_by_as_in_the_conversation():
    report = UsageReport()
    for deployment in ("openai/gpt-4o-mini", "azure/gpt-4o-mini"):
        message = Message("assistant", "Hi", model="gpt-4o-mini")
        report.add(LLMResponse(message=message, model=deployment))

    assert [(row.name, row.calls) for row in report.rows()] == [("gpt-4o-mini", 2)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda report: report.table(by="user"), "by='user': a report is read by 'model', 'agent', 'session'; "),
        (lambda report: report.rows(by=["model"]), "by=['model']: a report is read by 'model', "),
        (lambda report: report.watch(object), "UsageReport.watch: the class object is no run; pass what agent.execute"),
        (lambda report: report.watch("run"), "UsageReport.watch: str is no run; pass what agent.execute(…)"),
    ],
)  # fmt: skip
def test_what_a_report_cannot_do_is_told_with_the_mend(wrong, said):
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        wrong(UsageReport())


def test_the_changes_are_the_total_now_and_after_each_call():
    report = UsageReport()
    seen = []
    subscription = report.changes.subscribe(lambda row: seen.append((row.calls, row.cost)))
    for cost in (None, 0.5):
        report.add(LLMResponse(message=Message.assistant("Hi"), cost=cost))
    subscription.dispose()
    report.add(LLMResponse(message=Message.assistant("Hi")))

    assert seen == [(0, None), (1, None), (2, 0.5)]


def test_a_report_prints_a_table():
    report = UsageReport()
    for model, cost, seconds in (
        ("gpt-4o-mini", 0.5, 1.25),
        ("gpt-4o-mini", None, 2),
        ("my-own", None, 0),
        ("free", None, 0),
    ):
        usage = replace(SPENT, input_tokens=12_345) if model == "gpt-4o-mini" else None
        report.add(
            LLMResponse(message=Message.assistant("Hi"), model=model, cost=cost, seconds=seconds, usage=usage)
        )
    report.add(LLMResponse(message=Message.assistant("Hi"), cost=0.125))
    report.add(LLMResponse(message=Message.assistant("Hi"), cost=0.0000231, model="cheap"))

    assert str(report) == (
        """\
model        calls  hits   input  cached  output  reasoning  seconds  cost
gpt-4o-mini      2     0  24,690      80      40         10      3.2  $0.5000 + unknown for 1
(unnamed)        1     0       0       0       0          0      0.0  $0.1250
cheap            1     0       0       0       0          0      0.0  $0.0000231
free             1     0       0       0       0          0      0.0  unknown for 1
my-own           1     0       0       0       0          0      0.0  unknown for 1
total            6     0  24,690      80      40         10      3.2  $0.6250 + unknown for 3"""
    )
    assert UsageReport().table(by="session") == (
        """\
session  calls  hits  input  cached  output  reasoning  seconds  cost
total        0     0      0       0       0          0      0.0  –"""
    )


def test_many_threads_add_to_one_report():
    report = UsageReport()
    totals = []
    report.changes.subscribe(lambda row: totals.append(row.calls))

    def add(task):
        for seq in range(1, 101):
            report.add(
                LLMResponse(task_id=task, seq=seq, message=Message.assistant("Hi"), cost=1.0, usage=SPENT)
            )

    threads = [threading.Thread(target=add, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)

    assert (report.total.calls, report.total.cost, report.total.usage.input_tokens) == (800, 800.0, 80_000)
    assert totals == list(range(801))


RESPONSES = st.builds(
    LLMResponse,
    message=st.just(Message.assistant("")),
    task_id=st.sampled_from("abc"),
    context_id=st.sampled_from("xy"),
    model=st.sampled_from(["", "m", "n"]),
    cost=st.none() | st.sampled_from([0.25, 0.5]),
    usage=st.none() | st.just(SPENT),
)


@given(st.lists(RESPONSES))
def test_every_way_to_read_a_report_comes_to_the_same_total(responses):
    report = UsageReport()
    for response in responses:
        report.add(response)

    for by in ("model", "agent", "session"):
        rows = report.rows(by=by)
        assert sum(row.calls for row in rows) == report.total.calls == len(responses)
        assert sum(row.unpriced for row in rows) == report.total.unpriced
        assert sum((row.usage for row in rows), Usage()) == report.total.usage
        assert sum(row.cost or 0 for row in rows) == (report.total.cost or 0)
