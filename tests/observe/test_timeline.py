"""Events as a tree of spans: what ran within what, and from when to when; also where the record is cut, shuffled or foreign."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from test_events import EVENTS

from looopy import Usage
from looopy.events import (
    Checkpoint,
    ContentDelta,
    Event,
    Failure,
    InputReceived,
    InputRequired,
    LLMCall,
    Task,
    ToolComplete,
    ToolStart,
)
from looopy.observe.pictures.timeline import DEEPEST, Retry, Span, timeline
from looopy.observe.pictures.totals import Spent, Time, spent, time_of
from observe.recorded import NOON, START, TOO_SLOW, Recorded, answer, crawl, research, retry, status


def span(kind: Any, name: str, start: float, end: float, *children: Span, **fields: Any) -> Span:
    """A span by its seconds after noon."""
    return Span(kind=kind, name=name, start=start, end=end, children=children, **fields)


def spans_of(events: list[Event], **until: datetime) -> tuple[Span, ...]:
    return tuple(_from_noon(root) for root in timeline(events, **until))


def _from_noon(root: Span) -> Span:
    return replace(
        root,
        start=round(root.start - NOON, 2),
        end=round(root.end - NOON, 2),
        first_token=None if root.first_token is None else round(root.first_token, 2),
        children=tuple(_from_noon(child) for child in root.children),
    )


def outline(spans: tuple[Span, ...], depth: int = 0) -> list[str]:
    """Names and ends, indented."""
    lines: list[str] = []
    for each in spans:
        number = f" {each.iteration}" if each.iteration else ""
        lines += [f"{'  ' * depth}{each.name}{number}: {each.status}", *outline(each.children, depth + 1)]
    return lines


def test_a_run_is_a_tree_of_iterations_model_calls_and_tools_with_the_agents_that_they_called() -> None:
    researcher = span(
        "agent",
        "invoke_agent researcher",
        3.2,
        5.25,
        span(
            "iteration",
            "agent.iteration",
            3.22,
            5.25,
            span(
                "chat",
                "chat gpt-4o-mini",
                3.22,
                5.2,
                model="gpt-4o-mini",
                first_token=0.38,
                usage=Usage(input_tokens=700, output_tokens=300),
                cost=0.0009,
            ),
            iteration=1,
        ),
        task_id="task-2",
    )
    first = span(
        "iteration",
        "agent.iteration",
        0.02,
        8.2,
        span(
            "chat",
            "chat gpt-4o",
            0.02,
            3.1,
            model="gpt-4o",
            first_token=1.08,
            usage=Usage(input_tokens=1200, output_tokens=80),
            cost=0.01,
        ),
        span("tool", "execute_tool search", 3.15, 8.2, status="error", error=TOO_SLOW),
        span("tool", "execute_tool researcher", 3.16, 5.3, researcher),
        iteration=1,
    )
    second = span(
        "iteration",
        "agent.iteration",
        8.4,
        15,
        span(
            "chat",
            "chat gpt-4o",
            8.4,
            14.9,
            model="gpt-4o",
            first_token=3.1,
            usage=Usage(input_tokens=6200, output_tokens=640),
            cost=0.0302,
        ),
        iteration=2,
    )

    assert spans_of(research()) == (
        span("agent", "invoke_agent planner", 0, 15, first, second, task_id="task-1"),
    )


def test_the_sums_count_each_second_and_each_dollar_once() -> None:
    (root,) = spans_of(research())

    assert spent([root]) == Spent(3, Usage(input_tokens=8100, output_tokens=1020), 0.01 + 0.0009 + 0.0302)
    time = time_of(root)
    assert [round(part, 2) for part in (time.models, time.tools, time.own)] == [11.56, 3.07, 0.37]
    assert round(time.seconds, 2) == root.seconds == 15


def test_what_nobody_said_is_unknown_in_the_sums() -> None:
    recorded = Recorded().at(0, Task(agent_id="a"), status("working")).asks(0, None, 1)

    assert spent(timeline(recorded.events)) == Spent(1, None, None)
    assert spent([]) == Spent()
    assert sum((), Time()) == Time()


def test_a_resumed_task_is_a_second_tree_that_takes_up_the_iteration_in_which_it_stopped() -> None:
    recorded = Recorded().at(0, Task(agent_id="a"), status("working")).asks(0, 1, 2)
    recorded.at(2, ToolStart(call_id="1", tool_name="ask"))
    recorded.at(3, InputRequired(input_id="i", call_id="1", tool_name="ask"), status("input-required"))
    recorded.at(9000, InputReceived(input_id="i", value="yes"), status("working"))
    recorded.uses(9000, 9001, "ask").asks(9001, 9002, 9003, iteration=2).at(9003, status("completed"))

    trees = spans_of(recorded.events)

    assert outline(trees) == [
        "invoke_agent a: waiting",
        "  agent.iteration 1: waiting",
        "    chat gpt-4o: ok",
        "    execute_tool ask: waiting",
        "invoke_agent a: ok",
        "  agent.iteration 1: ok",
        "    execute_tool ask: ok",
        "  agent.iteration 2: ok",
        "    chat gpt-4o: ok",
    ]
    assert [(tree.resumed, tree.start, tree.end) for tree in trees] == [(False, 0, 3), (True, 9000, 9003)]


def test_a_task_whose_process_died_is_open_and_goes_on_in_another_tree() -> None:
    recorded = Recorded().at(0, Task(agent_id="a"), status("working")).at(0, LLMCall(iteration=1, model="m"))
    recorded.at(60, status("working")).asks(60, 61, 62, iteration=2).at(62, status("completed"))

    assert outline(spans_of(recorded.events)) == [
        "invoke_agent a: open",
        "  agent.iteration 1: open",
        "    chat m: open",
        "invoke_agent a: ok",
        "  agent.iteration 2: ok",
        "    chat gpt-4o: ok",
    ]


def test_a_failed_model_call_carries_the_error_that_ended_the_task() -> None:
    down = Failure(type="ModelTimeout", message="no answer")
    recorded = Recorded().at(0, Task(agent_id="a"), status("working")).at(0, LLMCall(iteration=1, model="m"))
    (root,) = spans_of(recorded.at(2, status("failed", error=down)).events)

    chat = span("chat", "chat m", 0, 2, status="error", error=down, model="m")
    iteration = span("iteration", "agent.iteration", 0, 2, chat, status="error", iteration=1)
    assert root == span(
        "agent", "invoke_agent a", 0, 2, iteration, status="error", error=down, task_id="task-1"
    )


def test_a_cancelled_run_ends_what_was_under_way_and_an_iteration_that_was_done_did_not_fail() -> None:
    stop = Failure(type="TaskCanceled", message="the run was cancelled")
    cut = Recorded().at(0, Task(agent_id="a"), status("working")).at(0, LLMCall(iteration=1, model="m"))
    cut.at(1, ContentDelta(delta="…")).at(2, answer(model="m", finish_reason="interrupted"))
    tools = Recorded("task-2").at(0, Task(agent_id="b"), status("working")).asks(0, 1, 2)
    tools.at(2, ToolStart(call_id="1", tool_name="t"))
    tools.at(3, ToolComplete(call_id="1", tool_name="t", error=stop))
    tools.at(3, ToolComplete(call_id="2", tool_name="never_begun", error=stop))
    lost = Recorded("task-3").at(0, Task(agent_id="c"), status("working"))
    lost.at(1, ToolStart(call_id="1", tool_name="t"))
    events = [
        *cut.at(2, status("canceled", error=stop)).events,
        *tools.at(3, status("canceled", error=stop)).events,
        *lost.at(3, status("canceled", error=stop)).events,
    ]

    assert outline(spans_of(events)) == [
        "invoke_agent a: canceled",
        "  agent.iteration 1: canceled",
        "    chat m: canceled",
        "invoke_agent b: canceled",
        "  agent.iteration 1: ok",
        "    chat gpt-4o: ok",
        "    execute_tool t: canceled",
        "    execute_tool never_begun: canceled",
        "invoke_agent c: canceled",
        "  agent.iteration: canceled",
        "    execute_tool t: canceled",
    ]


def test_what_is_open_lasts_until_the_newest_event_or_the_present() -> None:
    recorded = Recorded().at(0, Task(agent_id="a"), status("working")).at(1, LLMCall(iteration=1, model="m"))
    recorded.at(3, ContentDelta(delta="…"))

    (now,) = spans_of(recorded.events)
    (later,) = spans_of(recorded.events, until=START + timedelta(seconds=9))

    assert {each.end for each in now.walk()} == {3}
    assert {each.end for each in later.walk()} == {9}
    assert {each.status for each in later.walk()} == {"open"}


def test_a_record_that_begins_in_the_middle_reckons_back_when_things_began() -> None:
    recorded = Recorded(path=("a", "b"))
    recorded.at(2, ContentDelta(delta="…")).at(3, answer(model="m", seconds=2.0, first_token=0.5))
    recorded.at(5, ToolComplete(call_id="1", tool_name="t", seconds=1.5)).at(6, status("completed"))

    (root,) = spans_of(recorded.events)

    chat = span("chat", "chat m", 1, 3, model="m", first_token=0.5)
    iteration = span("iteration", "agent.iteration", 1, 6, chat, span("tool", "execute_tool t", 3.5, 5))
    assert root == span("agent", "invoke_agent b", 1, 6, iteration, task_id="task-1")


def test_parallel_calls_of_one_agent_have_each_their_own_run() -> None:
    planner = Recorded().at(0, Task(agent_id="planner"), status("working")).asks(0, 1, 2)
    for call in ("1", "2"):
        planner.at(2, ToolStart(call_id=call, tool_name="ask_helper"))
    planner.at(2, ToolStart(call_id="3", tool_name="helper"))
    for number in range(4):
        helper = Recorded(f"help-{number}", parent="task-1").at(3, Task(agent_id="helper"), status("working"))
        planner.events += helper.at(4, status("completed")).events
    for call in ("1", "2", "3"):
        planner.at(5, ToolComplete(call_id=call))

    (root,) = timeline(planner.events)

    hosts = [(child.name, [each.task_id for each in child.children]) for child in root.children[0].children]
    assert hosts == [
        ("chat gpt-4o", []),
        ("execute_tool ask_helper", ["help-1"]),
        ("execute_tool ask_helper", ["help-2"]),
        ("execute_tool helper", ["help-0"]),
        ("invoke_agent helper", []),  # no call is left for it
    ]


def test_agents_without_end_within_each_other_stand_beside_each_other_at_last() -> None:
    events = Recorded("0").at(0, status("working")).events
    for number in range(1, 5000):
        events += Recorded(str(number), parent=str(number - 1)).at(number, status("working")).events

    (root,) = timeline(events)

    assert depth(root) == DEEPEST
    assert sum(1 for _ in root.walk()) == 5000


def test_a_task_that_calls_itself_its_parent_is_nobodys_child() -> None:
    assert len(timeline(Recorded("t", parent="t").at(0, Task(), Task()).events)) == 2


def test_retries_belong_to_the_model_call_and_say_why() -> None:
    busy = Failure(type="ModelOverloaded", message="429")
    recorded = Recorded().at(0, retry(busy), Task(agent_id="a"), status("working"))
    recorded.at(0, LLMCall(iteration=1, model="m")).at(1, retry(busy), ToolStart(call_id="1", tool_name="t"))
    recorded.at(2, retry(busy), Checkpoint(), answer(model="m"))

    (_, root) = timeline(recorded.events)

    assert [each.retries for each in root.walk()] == [(), (), (Retry(error=busy), Retry(error=busy)), ()]


def test_a_long_log_is_no_more_work_than_many_short_ones() -> None:
    """A fold that looked back at each event would not be through within the time that a test has."""
    (root,) = timeline(crawl(25_000))

    assert len(root.children) == 25_000


any_event = st.one_of(*EVENTS.values())


def few(event: Event, *, task: str, parent: str, call: str, second: float, figure: float) -> Event:
    """The event as one of few tasks and calls, so that it meets others, and with figures that nobody can have measured."""
    changes = {
        "task_id": task,
        "parent_task_id": parent,
        "timestamp": START + timedelta(seconds=second),
        "call_id": call,
        "seconds": figure,
        "first_token": figure,
        "cost": figure,
        "usage": Usage(input_tokens=-5, output_tokens=10**400),
    }
    return replace(event, **{name: value for name, value in changes.items() if hasattr(event, name)})


ids = st.sampled_from(["", "1", "2", "3"])
crowded = st.builds(
    few, any_event, task=ids, parent=ids, call=ids, second=st.floats(-9, 9), figure=st.floats()
)


@given(st.lists(any_event | crowded, max_size=30))
@settings(max_examples=200)
def test_any_events_make_trees_whose_children_lie_within_their_parents(events: list[Event]) -> None:
    for root in timeline(events):
        assert depth(root) <= DEEPEST * 3
        for each in root.walk():
            assert each.start <= each.end
            assert each.first_token is None or 0 <= each.first_token <= each.seconds
            assert all(each.start <= child.start <= child.end <= each.end for child in each.children)
        assert time_of(root).own >= -1e-3  # as exact as floats are since the year 1


@given(st.integers(0, 30), st.integers(0, 30), st.randoms(use_true_random=False))
def test_any_cut_and_any_order_of_a_record_makes_trees(begin: int, end: int, random: Any) -> None:
    events = research()[begin:end]
    random.shuffle(events)

    assert bool(timeline(events)) == bool(events)


def test_dates_without_a_zone_are_taken_as_utc() -> None:
    naive = replace(Task(), timestamp=datetime(2026, 1, 1, 12))  # noqa: DTZ001  that is what is tried
    aware = replace(status("completed"), timestamp=START.astimezone(timezone(timedelta(hours=3))))

    (root,) = timeline([naive, aware])

    assert (root.start, root.end) == (NOON, NOON)
    assert timeline([], until=datetime.now(UTC)) == ()


def depth(root: Span) -> int:
    return 1 + max((depth(child) for child in root.children), default=0)


def test_the_first_piece_of_a_retried_call_came_when_it_did_also_where_the_pieces_are_not_recorded() -> None:
    """What a response says of it counts from the request that was answered."""
    recorded = Recorded().at(0, Task(prompt=None)).at(1, LLMCall(iteration=1, model="m"))
    recorded.at(3, retry(TOO_SLOW)).at(6, answer(model="m", seconds=2.0, first_token=0.5)).at(
        7, status("completed")
    )

    (root,) = spans_of(recorded.events)

    (chat,) = (each for each in root.walk() if each.kind == "chat")
    assert (chat.start, chat.first_token, chat.end) == (1, 3.5, 6)
