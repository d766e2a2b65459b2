"""Marble diagrams: written, drawn back, and driving a whole agent."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
import reactivex as rx
from reactivex import operators as ops

from looopy import AgentLoop, Limits, tool
from looopy.errors import ConfigurationError, ModelOverloaded, WrongThread
from looopy.events import (
    ContentDelta,
    Event,
    LLMResponse,
    Status,
    StatusUpdate,
    Task,
    ToolComplete,
    ToolProgress,
    ToolStart,
)
from looopy.messages import Message, ToolCall
from looopy.providers.litellm import LiteLLMProvider, Timeouts
from looopy.providers.transport import HTTP
from looopy.testing import (
    Marbles,
    ScriptedModel,
    ScriptedServer,
    ScriptedTools,
    calls,
    run_virtual,
    says,
    stalls,
    waits,
)

ASKS = LLMResponse(message=Message.assistant(tool_calls=(ToolCall("1", "slow"), ToolCall("2", "fast"))))


def test_a_slow_tool_holds_the_next_model_call_but_not_a_fast_one():
    m = Marbles(
        w="working",
        d=ContentDelta(delta="…"),
        M=ASKS,
        A=ToolComplete(call_id="1", tool_name="slow", result="a"),
        B=ToolComplete(call_id="2", tool_name="fast", result="b"),
        Z=LLMResponse(message=Message.assistant("Done.")),
        c="completed",
        _=Event,
    )
    model = ScriptedModel(m.cold("d-(M|)"), m.cold("-d-(Z|)"))
    slow, fast = m.cold("----(A|)"), m.cold("-(B|)")

    run = AgentLoop(llm_provider=model, tool_providers=[ScriptedTools(slow=slow, fast=fast)]).execute("Go")

    assert m.draw(run) == "(wd)-MB--Ad-(Zc|)"
    assert (slow.subscriptions, fast.subscriptions) == ([(2, 6)], [(2, 3)])


def test_leaving_a_run_ends_what_it_waits_for_in_that_column():
    m = Marbles(w="working", M=ASKS, B="tool-complete", _=Event)
    tools = ScriptedTools(slow=m.cold("--------|"), fast=rx.of(ToolComplete(result=1)))
    model = ScriptedModel(m.cold("--(M|)"))
    run = AgentLoop(llm_provider=model, tool_providers=[tools]).execute("Go")
    assert m.draw(run, dispose_at=4) == "w-(MB)-!"
    assert run.status == "canceled"


def test_every_clock_of_a_run_is_driven_by_its_diagram():
    async def hang() -> str:
        """Hang."""
        await asyncio.sleep(1000)
        return "late"

    m = Marbles(w="working", d=ContentDelta, t=ToolStart, f="failed", _=Event)

    def drawn(answer, **limits):
        agent = AgentLoop(llm_provider=ScriptedModel(answer), tools=[hang], limits=Limits(**limits))
        return m.draw(agent.execute("Go"))

    assert drawn(stalls(), run_seconds=5) == "w----(f|)"
    assert drawn(waits(10) + says("x"), first_token_seconds=3) == "w--(f|)"
    assert drawn(waits(1) + says("x") + stalls(), idle_seconds=2) == "wd-(f|)"
    assert drawn(says("a", "b", "c", "d", every=1), model_seconds=2.5) == "wd(df|)"
    assert drawn(calls("hang"), tool_seconds=4) == "(wt)---(f|)"


@pytest.mark.parametrize(
    ("answer", "timeouts", "drawn"),
    [
        (stalls(headers=False), Timeouts(first_token=3), "w--(f|)"),
        (stalls(), Timeouts(call=4), "w---(f|)"),
        (waits(1) + says("x") + stalls(), Timeouts(between_tokens=2), "wd-(f|)"),
        (says("x", "x", every=2), Timeouts(between_tokens=3), "w-d-(dc|)"),
    ],
)
def test_the_clocks_of_the_real_provider_are_driven_too(answer, timeouts, drawn):
    m = Marbles(w="working", d=ContentDelta, f="failed", c="completed", _=Event)
    server = ScriptedServer(answer, pieces="burst")
    transport = HTTP(server.transport())
    provider = LiteLLMProvider("http://proxy", "m", api_key=None, timeout=timeouts, transport=transport)
    assert m.draw(AgentLoop(llm_provider=provider).execute("Go")) == drawn
    assert server.open_connections == 0


def test_a_tools_timeout_is_in_virtual_time():
    @tool(timeout=3)
    async def hang() -> str:
        """Hang."""
        await asyncio.sleep(1000)
        return "late"

    m = Marbles(t=ToolStart, A=lambda event: isinstance(event, ToolComplete) and event.error, _=Event)
    model = ScriptedModel(calls("hang"), says("Sorry."))
    assert m.draw(AgentLoop(llm_provider=model, tools=[hang]).execute("Go")) == "t--(A|)"


@pytest.mark.parametrize(
    "diagram", ["a-b-(ab)|", "(ab|)", "--|", "|", "a-b", "ab#", "", "-(a#)", "a", "abc(abc)-c|"]
)
def test_a_stream_is_drawn_back_as_it_was_written(diagram):
    m = Marbles(a=1, b="text", c=(1, 2))
    assert m.draw(m.cold(diagram)) == diagram


def test_blanks_only_align_and_a_tick_can_be_any_time():
    m = Marbles(a=1, tick=0.1)
    source = m.cold("a - - a |")
    assert m.draw(source) == "a--a|"
    assert source.subscriptions == [(0, 4)]


def test_operators_on_a_cold_stream_are_drawn_in_virtual_time():
    m = Marbles({"1": 1, "2": 2})
    source = m.cold("1-2-(12)|")
    assert m.draw(source.pipe(ops.delay(2.0))) == "--1-2-(12)|"
    assert m.draw(source.pipe(ops.timeout(1.5))) == "1#"
    assert m.draw(source.pipe(ops.debounce(1.5))) == "-1-2-(2|)"


def test_each_subscription_begins_anew_and_is_recorded():
    m = Marbles(a=1)
    source = m.cold("-a-a-a|")
    assert m.draw(source.pipe(ops.take(2))) == "-a-(a|)"
    assert m.draw(source, dispose_at=2) == "-a!"
    assert source.subscriptions == [(0, 3), (0, 2)]


def test_a_subscription_that_lasts_has_no_end_yet():
    m = Marbles(a=1)
    source, seen = m.cold("a"), []

    async def look():
        source.subscribe(seen.append)

    run_virtual(look())
    assert (source.subscriptions, seen) == ([(0, None)], [1])


def test_events_are_emitted_as_copies_since_the_loop_stamps_them():
    event = ContentDelta(delta="x")
    m = Marbles(d=event)
    seen = []
    drawn = m.draw(m.cold("dd|").pipe(ops.do_action(seen.append)))
    assert drawn == "dd|"
    assert seen == [event, event]
    assert len({id(one) for one in (*seen, event)}) == 3


def test_an_event_equals_its_meaning_but_for_what_the_loop_stamps_and_measures():
    m = Marbles(r=LLMResponse(message=Message.assistant("4")), p=ToolProgress(note="half"), T=Task)
    stream = rx.of(
        LLMResponse(message=Message.assistant("4"), seconds=2.0, first_token=1.0, seq=4, task_id="t"),
        ToolProgress(note="half", seq=2),
        Task(),
    )
    assert m.draw(stream) == "(rpT|)"


def test_a_symbol_may_mean_several_things_and_the_first_that_fits_is_drawn():
    m = Marbles(x=(ContentDelta, "tool-progress"), d=ContentDelta, n=lambda event: event == 3)
    assert m.draw(rx.of(ContentDelta(delta="a"), ToolProgress(), 3)) == "(xxn|)"


def test_what_has_no_meaning_is_drawn_as_a_question_mark_and_named():
    m = Marbles(d=ContentDelta)
    drawn = m.draw(rx.of(ContentDelta(delta="a"), ToolProgress(note="half", seq=7), 5))
    assert drawn == "(d??|)\n? in column 0: ToolProgress(note='half')\n? in column 0: 5"


def test_a_status_can_be_meant_by_its_state():
    m = Marbles(w="working", s="status-update")
    working = StatusUpdate(status=Status(state="working", timestamp=datetime.now(UTC)))
    submitted = StatusUpdate(status=Status(state="submitted"))
    assert m.draw(rx.of(working, submitted)) == "(ws|)"
    assert Marbles(x=StatusUpdate(status=Status(state="working"))).draw(rx.of(working)) == "(x|)"


def test_the_error_of_a_diagram_can_be_chosen():
    error = ModelOverloaded("busy")
    m = Marbles({"#": error}, a=1)
    caught = []
    drawn = m.draw(m.cold("a#").pipe(ops.catch(lambda failure, _: caught.append(failure) or rx.of(1))))
    assert (drawn, caught) == ("a(a|)", [error])
    with pytest.raises(ConfigurationError, match="# is to be an exception, not 'no'"):
        Marbles({"#": "no"}).cold("#")


def test_an_endless_stream_needs_an_end():
    m = Marbles(a=lambda _: True)
    with pytest.raises(ConfigurationError, match="goes on after 10000 columns: draw it with dispose_at"):
        m.draw(rx.interval(1.0))
    assert m.draw(rx.interval(1.0), dispose_at=3) == "-aa(a!)"


def test_a_stream_that_ends_before_it_is_left_was_not_left():
    m = Marbles(a=1)
    assert m.draw(m.cold("a|"), dispose_at=5) == "a|"


@pytest.mark.parametrize(
    ("diagram", "message"),
    [
        ("(ab", "parentheses do not match"),
        ("a)b", "parentheses do not match"),
        ("((a))", "parentheses do not match"),
        ("a|b", "nothing can follow"),
        ("(#a)", "nothing can follow"),
        ("a-z|", r"'z' has no meaning; write Marbles\(z=…\). Those with one: a b"),
    ],
)
def test_a_diagram_that_cannot_be_read_says_why(diagram, message):
    with pytest.raises(ConfigurationError, match=message):
        Marbles(a=1, b=2).cold(diagram)


def test_a_vocabulary_without_words_says_so():
    with pytest.raises(ConfigurationError, match="Those with one: none"):
        Marbles().cold("a")


@pytest.mark.parametrize("symbol", ["-", "|", "ab", ""])
def test_a_symbol_is_one_character_without_a_meaning_of_its_own(symbol):
    with pytest.raises(ConfigurationError, match="cannot stand for an event"):
        Marbles({symbol: 1})


async def test_a_diagram_is_drawn_outside_of_event_loops():
    with pytest.raises(WrongThread):
        Marbles().draw(rx.empty())
