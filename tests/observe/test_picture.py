"""The picture of a run, as text: whole drawings at several widths, and what no terminal must be made to do."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import pytest
from agents import delete
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from looopy import AgentLoop, ConfigurationError, MissingExtra, Usage
from looopy.events import Event, Failure, InputRequired, LLMCall, Task, ToolComplete, ToolStart
from looopy.observe.pictures.bars import ASCII, UNICODE, Axis
from looopy.observe.pictures.figures import dollars, duration, harmless, percent, shortly
from looopy.observe.pictures.picture import Picture
from looopy.observe.pictures.timeline import Origin, timeline
from looopy.testing import ScriptedModel, calls, run_virtual, says, stalls
from observe.recorded import Recorded, answer, crawl, research, retry, status
from observe.test_timeline import any_event, crowded


class Encoded(io.StringIO):
    """A file for texts of an encoding; what has no place in it is an error, as on a strict stdout."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:
        return self._encoding

    def write(self, text: str, /) -> int:
        text.encode(self._encoding)
        return super().write(text)


def drawn(events: list[Event], width: int = 100, *, encoding: str = "utf-8", **options: Any) -> str:
    file = Encoded(encoding)
    Console(file=file, width=width, color_system=None).print(Picture(timeline(events), **options))
    return file.getvalue()


def test_at_120_columns_one_sees_where_time_and_money_went() -> None:
    assert (
        drawn(research(), 120)
        == """\
✔ planner, completed, 15.0 s, task task-1, 2026-01-01 12:00:00 UTC
                                 0                5 s              10 s                  time  share     tokens     cost
invoke_agent planner             ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━  15.0 s   100%  8.1k→1.0k  $0.0411
├─ agent.iteration 1             ────────────────────────────                           8.2 s    55%
│  ├─ chat gpt-4o                ░░░░██████▊                                            3.1 s    21%    1.2k→80  $0.0100
│  ├─ ✘ execute_tool search                ▐█████████████████▍                          5.0 s    34%
│  │     TimeoutError: the index did not answer in 5 s
│  └─ execute_tool researcher               ███████▍                                    2.1 s    14%
│     └─ invoke_agent researcher            ━━━━━━━                                     2.0 s    14%    700→300  $0.0009
│        └─ agent.iteration 1               ───────                                     2.0 s    14%
│           └─ chat gpt-4o-mini             ░██████                                     2.0 s    13%    700→300  $0.0009
└─ agent.iteration 2                                          ───────────────────────   6.6 s    44%
   └─ chat gpt-4o                                             ░░░░░░░░░░░███████████▋   6.5 s    43%   6.2k→640  $0.0302

time   models, 3 calls           ████████████████████████████████████████▏             11.6 s    77%
       tools, 2 calls            ██████████▋                                            3.1 s    20%
       idle and own              █▎                                                    370 ms     2%
money  gpt-4o, 2 calls           ██████████████████████████████████████████████████▉             98%   7.4k→720  $0.0402
       gpt-4o-mini, 1 call       █▏                                                               2%    700→300  $0.0009
"""
    )


def test_at_80_columns_the_shares_give_way_to_the_bars() -> None:
    assert (
        drawn(research(), 80)
        == """\
✔ planner, completed, 15.0 s, task task-1, 2026-01-01 12:00:00 UTC
                                 0           10 s       time     tokens     cost
invoke_agent planner             ━━━━━━━━━━━━━━━━━━━  15.0 s  8.1k→1.0k  $0.0411
├─ agent.iteration 1             ──────────            8.2 s
│  ├─ chat gpt-4o                ░██▉                  3.1 s    1.2k→80  $0.0100
│  ├─ ✘ execute_tool search          ██████▍           5.0 s
│  │     TimeoutError: the index did not answer in 5 s
│  └─ execute_tool researcher        ██▊               2.1 s
│     └─ invoke_agent researcher     ━━━               2.0 s    700→300  $0.0009
│        └─ agent.iteration 1        ───               2.0 s
│           └─ chat gpt-4o-mini      ░█▋               2.0 s    700→300  $0.0009
└─ agent.iteration 2                       ─────────   6.6 s
   └─ chat gpt-4o                          ░░░░░███▉   6.5 s   6.2k→640  $0.0302

time   models, 3 calls           ██████████████▋      11.6 s
       tools, 2 calls            ███▉                  3.1 s
       idle and own              ▌                    370 ms
money  gpt-4o, 2 calls           ██████████████████▋           7.4k→720  $0.0402
       gpt-4o-mini, 1 call       ▍                              700→300  $0.0009
"""
    )


def test_at_40_columns_the_bars_give_way_to_the_names() -> None:
    assert (
        drawn(research(), 40)
        == """\
✔ planner, completed, 15.0 s, task task…
                        0           time
invoke_agent planner    ━━━━━━━━  15.0 s
├─ agent.iteration 1    ────       8.2 s
│  ├─ chat gpt-4o       █▋         3.1 s
│  ├─ ✘ execute_tool s…  ▐██▍      5.0 s
│  │     TimeoutError: the index did
│  │     not answer in 5 s
│  └─ execute_tool res…  ▐▉        2.1 s
│     └─ invoke_agent …  ━━        2.0 s
│        └─agent.itera…  ──        2.0 s
│          chat gpt-4o…  ▐▊        2.0 s
└─ agent.iteration 2        ────   6.6 s
   └─ chat gpt-4o           ░░██   6.5 s

time   models, 3 calls  ██████▏   11.6 s
       tools, 2 calls   █▋         3.1 s
       idle and own     ▎         370 ms
money  gpt-4o, 2 calls  ███████▉
       gpt-4o-mini, 1 … ▏
"""
    )


def test_where_the_encoding_has_no_blocks_it_is_drawn_with_what_every_terminal_has() -> None:
    assert (
        drawn(research(), 100, encoding="ascii")
        == """\
+ planner, completed, 15.0 s, task task-1, 2026-01-01 12:00:00 UTC
                                 0         5 s        10 s           time  share     tokens     cost
invoke_agent planner             ================================  15.0 s   100%  8.1k>1.0k  $0.0411
|- agent.iteration 1             -----------------                  8.2 s    55%
|  |- chat gpt-4o                ..#####                            3.1 s    21%    1.2k>80  $0.0100
|  |- x execute_tool search             ##########                  5.0 s    34%
|  |     TimeoutError: the index did not answer in 5 s
|  `- execute_tool researcher           ####                        2.1 s    14%
|     `- invoke_agent researcher       =====                        2.0 s    14%    700>300  $0.0009
|        `- agent.iteration 1          -----                        2.0 s    14%
|           `- chat gpt-4o-mini         .###                        2.0 s    13%    700>300  $0.0009
`- agent.iteration 2                              ---------------   6.6 s    44%
   `- chat gpt-4o                                  .......#######   6.5 s    43%   6.2k>640  $0.0302

time   models, 3 calls           #########################         11.6 s    77%
       tools, 2 calls            #######                            3.1 s    20%
       idle and own              #                                 370 ms     2%
money  gpt-4o, 2 calls           ###############################             98%   7.4k>720  $0.0402
       gpt-4o-mini, 1 call       #                                            2%    700>300  $0.0009
"""
    )


def test_of_many_iterations_those_at_the_ends_the_slowest_the_dearest_and_the_failed_are_shown() -> None:
    assert (
        drawn(crawl(100, slow=57, broken=31), 100)
        == """\
✔ crawler, completed, 3 min 40 s, task task-1, 2026-01-01 12:00:00 UTC
                           0        1 min    2 min    3 min          time  share     tokens     cost
invoke_agent crawler       ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━  3 min 40 s   100%  505k→5.0k  $0.5050
├─ agent.iteration 1       ─                                        2.0 s     1%
│  ├─ chat gpt-4o          ▏                                        1.0 s    <1%     100→50  $0.0001
│  └─ execute_tool fetch   ▏                                        1.0 s    <1%
├─ agent.iteration 2       ─                                        2.0 s     1%
│  ├─ chat gpt-4o          ▎                                        1.0 s    <1%     200→50  $0.0002
│  └─ execute_tool fetch   ▏                                        1.0 s    <1%
├─ agent.iteration 3       ─                                        2.0 s     1%
│  ├─ chat gpt-4o          ▏                                        1.0 s    <1%     300→50  $0.0003
│  └─ execute_tool fetch   ▏                                        1.0 s    <1%
├─ ⋮ 27 more               ┄┄┄┄┄┄┄┄┄                               54.0 s    25%   46k→1.4k  $0.0459
├─ agent.iteration 31               ─                               2.0 s     1%
│  ├─ chat gpt-4o                   ▏                               1.0 s    <1%    3.1k→50  $0.0031
│  └─ ✘ execute_tool fetch          ▎                               1.0 s    <1%
│        HTTPError: 404
├─ ⋮ 25 more                        ┄┄┄┄┄┄┄┄                       50.0 s    23%  110k→1.2k  $0.1100
├─ agent.iteration 57                       ────                   22.0 s    10%
│  ├─ chat gpt-4o                           ▎                       1.0 s    <1%    5.7k→50  $0.0057
│  └─ execute_tool fetch                    ▐██▊                   21.0 s    10%
├─ ⋮ 40 more                                   ┄┄┄┄┄┄┄┄┄┄┄┄┄   1 min 20 s    36%  310k→2.0k  $0.3100
├─ agent.iteration 98                                       ─       2.0 s     1%
│  ├─ chat gpt-4o                                           ▏       1.0 s    <1%    9.8k→50  $0.0098
│  └─ execute_tool fetch                                    ▏       1.0 s    <1%
├─ agent.iteration 99                                       ─       2.0 s     1%
│  ├─ chat gpt-4o                                           ▏       1.0 s    <1%    9.9k→50  $0.0099
│  └─ execute_tool fetch                                    ▎       1.0 s    <1%
└─ agent.iteration 100                                      ─       2.0 s     1%
   ├─ chat gpt-4o                                           ▏       1.0 s    <1%     10k→50  $0.0100
   └─ execute_tool fetch                                    ▐       1.0 s    <1%

time   models, 100 calls   ███████████████▌                    1 min 40 s    45%
       tools, 100 calls    ██████████████████▌                  2 min 0 s    55%
money  gpt-4o, 100 calls   ██████████████████████████████████               100%  505k→5.0k  $0.5050
"""
    )


def test_all_shows_every_iteration() -> None:
    lines = drawn(crawl(100), everything=True).splitlines()

    assert sum("agent.iteration" in line for line in lines) == 100


def test_a_record_of_several_streams_has_a_tree_for_each_and_sums_for_all() -> None:
    first = Recorded("task-1").at(0, Task(agent_id="a"), status("working")).asks(0, 1, 2, cost=0.5)
    second = Recorded("task-2").at(60, status("working")).asks(60, 61, 64, model="m", cost=0.25)
    events = [*first.at(2, status("completed")).events, *second.events]
    events += first.at(90, status("working")).events[-1:]

    assert (
        drawn(events, 80)
        == """\
✔ a, completed, 2.0 s, task task-1, 2026-01-01 12:00:00 UTC
                       0       0.5 s   1 s     1.5 s        time  share     cost
invoke_agent a         ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━   2.0 s   100%  $0.5000
└─ agent.iteration 1   ─────────────────────────────────   2.0 s   100%
   └─ chat gpt-4o      ░░░░░░░░░░░░░░░░█████████████████   2.0 s   100%  $0.5000

time   models, 1 call  █████████████████████████████████   2.0 s   100%
money  gpt-4o, 1 call  █████████████████████████████████           100%  $0.5000

… no end seen, 4.0 s, task task-2, 2026-01-01 12:01:00 UTC
                       0       1 s     2 s     3 s          time  share     cost
… invoke_agent         ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━   4.0 s   100%  $0.2500
└─ … agent.iteration 1 ─────────────────────────────────   4.0 s   100%
   └─ chat m           ░░░░░░░░█████████████████████████   4.0 s   100%  $0.2500

time   models, 1 call  █████████████████████████████████   4.0 s   100%
money  m, 1 call       █████████████████████████████████           100%  $0.2500

… a, resumed, no end seen, 0.0 ms, task task-1, 2026-01-01 12:01:30 UTC
                       0                                    time  share     cost
… invoke_agent a       ━                                  0.0 ms

3 trees together
time   models, 2 calls █████████████████████████████████   6.0 s   100%
money  gpt-4o, 1 call  ██████████████████████                       67%  $0.5000
       m, 1 call       ███████████                                  33%  $0.2500
"""
    )


def test_retries_failures_and_what_waits_are_said_beneath_the_call() -> None:
    busy = Failure(type="ModelOverloaded", message="429")
    recorded = Recorded().at(0, Task(agent_id="a"), status("working")).asks(0, 1, 2)
    recorded.at(2, ToolStart(call_id="1", tool_name="ask"))
    recorded.at(4, InputRequired(input_id="i", call_id="1"))
    recorded.at(4, LLMCall(iteration=2, model="m")).at(4, retry(busy)).at(5, retry(busy))
    recorded.at(8, status("failed", error=busy))

    assert (
        str(Picture(timeline(recorded.events)))
        == """\
✘ a, failed, 8.0 s, task task-1, 2026-01-01 12:00:00 UTC
                         0              2 s            4 s            6 s                time  share
✘ invoke_agent a         ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━  8.0 s   100%
├─ agent.iteration 1     ──────────────────────────────                                 4.0 s    50%
│  ├─ chat gpt-4o        ░░░░░░░░███████▎                                               2.0 s    25%
│  └─ ? execute_tool ask                ███████████████▌                                2.0 s    25%
└─ ✘ agent.iteration 2                                 ───────────────────────────────  4.0 s    50%
   └─ ✘ chat m                                         ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░  4.0 s    50%
         ↻ 2 retries, ModelOverloaded: 429
         ModelOverloaded: 429

time   models, 2 calls   █████████████████████████████████████████████▊                 6.0 s    75%
       tools, 1 call     ███████████████▎                                               2.0 s    25%
"""
    )


def test_a_model_that_takes_over_is_named_where_the_one_before_it_failed() -> None:
    busy = Failure(type="ModelOverloaded", message="429")
    recorded = Recorded().at(0, Task(agent_id="a"), LLMCall(iteration=1, model="gpt-4o"))
    recorded.at(1, retry(busy, "gpt-4o", "gpt-4o")).at(2, retry(busy, "gpt-4o", "mini"))
    recorded.at(3, answer(model="mini"), LLMCall(iteration=2, model="gpt-4o"))
    recorded.at(4, retry(busy, "gpt-4o", "mini"), retry(busy, "mini", "nano"), retry(busy, "nano", "nano"))
    recorded.at(5, answer(model="nano"), status("completed"))

    notes = [line.strip("│ ") for line in drawn(recorded.events).splitlines() if "↻" in line]

    assert notes == [
        "↻ 1 retry, then mini, ModelOverloaded: 429",
        "↻ then mini, then nano, 1 retry, ModelOverloaded: 429",
    ]


def test_a_long_reason_has_two_lines_and_what_is_cut_is_marked() -> None:
    long = Failure(type="ModelFailed", message=f"https://proxy.example/v1: {'all is on fire, ' * 8}sorry")
    wide = Failure(type="E", message="日本語" * 20)
    recorded = Recorded().at(0, Task(agent_id="a")).uses(0, 1, "one", error=long)
    recorded.uses(1, 2, "two", error=wide).at(2, status("completed"))

    notes = [
        line
        for line in drawn(recorded.events, 60).splitlines()[3:]
        if "         " in line[:9].replace("│", " ")
    ]

    assert notes == [
        "   │     ModelFailed: https://proxy.example/v1: all is on",
        "   │     fire, all is on fire, all is on fire, all is on fi…",
        "         E: 日本語日本語日本語日本語日本語日本語日本語日本語",
        "         日本語日本語日本語日本語日本語日本語日本語日本語日…",
    ]


def test_money_that_nobody_knows_is_said_to_be_unknown_and_many_models_share_a_row() -> None:
    recorded = Recorded().at(0, Task(agent_id="a"), status("working"))
    for number in range(10):
        recorded.asks(number, None, number + 1, iteration=number + 1, model=f"m{number}", usage=(9, number))
    costs = Recorded().at(0, Task(agent_id="a"), status("working")).asks(0, None, 1, cost=0.01)
    costs.at(1, LLMCall(iteration=2)).at(2, answer(usage=Usage(input_tokens=10, output_tokens=1)))

    tokens, money = (drawn(each.events).partition("\n\n")[2] for each in (recorded, costs))

    assert (
        tokens
        == """\
time   models, 10 calls         █████████████████████████████████████████████  10.0 s   100%
tokens m9, 1 call               ██████                                                   13%     9→9
       m8, 1 call               █████▋                                                   13%     9→8
       m7, 1 call               █████▍                                                   12%     9→7
       m6, 1 call               █████                                                    11%     9→6
       m5, 1 call               ████▋                                                    10%     9→5
       m4, 1 call               ████▍                                                    10%     9→4
       m3, 1 call               ████                                                      9%     9→3
       ⋮ 3 more models, 3 calls ██████████                                               22%    27→3
"""
    )
    assert (
        money
        == """\
time   models, 2 calls       ████████████████████████████████████████  2.0 s   100%
money  gpt-4o, 1 call        ████████████████████████████████████████          100%          $0.0100
       model unknown, 1 call                                                           10→1  unknown
"""
    )


def test_names_and_errors_cannot_command_the_terminal_or_break_the_lines() -> None:
    evil = "a\x1b[2J\nb\x9b1m\u202e\u200b\ud800日本語" * 9
    recorded = Recorded(evil).at(0, Task(agent_id=evil), status("working"))
    recorded.at(0, LLMCall(iteration=1, model=evil)).at(1, answer(model=evil))
    recorded.at(1, ToolStart(call_id="1", tool_name=evil))
    recorded.at(2, ToolComplete(call_id="1", error=Failure(type=evil, message=evil)))

    for encoding in ("utf-8", "ascii", "latin-1"):
        text = drawn(recorded.events, 80, encoding=encoding)
        assert all(sign.isprintable() for sign in text.replace("\n", ""))
        assert len(text.splitlines()) == 11


@given(st.lists(any_event | crowded, max_size=20), st.integers(1, 220), st.sampled_from(["utf-8", "ascii"]))
@settings(max_examples=100)
@example(research(), 1, "ascii")
@example([Task()], 80, "utf-8")  # nobody stamped it
def test_any_events_can_be_drawn_at_any_width(events: list[Event], width: int, encoding: str) -> None:
    text = drawn(events, width, encoding=encoding)

    assert all(cell_len(line) <= width for line in text.split("\n"))


@pytest.mark.parametrize(
    ("start", "end", "spoke", "bar"),
    [
        (0, 10, None, "██████████"),
        (0, 0, None, "▏"),
        (10, 10, None, "         ▐"),
        (1, 2.5, None, " █▌"),
        (1.5, 3, None, " ▐█"),
        (1.2, 1.7, None, " ▌"),
        (1.2, 3, None, " ██"),
        (0, 4, 2, "░░██"),
        (0, 4, 9, "░░░░"),
        (0, 1.5, 1, "█▌"),
        (2.5, 4.5, 3, "  ░█▌"),
        (-5, 50, None, "██████████"),
    ],
)
def test_a_bar_is_exact_to_an_eighth_where_it_ends_and_to_a_half_where_it_begins(
    start: float, end: float, spoke: float | None, bar: str
) -> None:
    assert "".join(Axis(0, 10, 10).block(start, end, UNICODE, spoke=spoke)) == bar


def test_a_bar_of_ascii_is_whole_characters() -> None:
    assert "".join(Axis(0, 10, 10).block(1.4, 3.6, ASCII, spoke=2.2)) == " .##"


@pytest.mark.parametrize(
    ("seconds", "ticks"),
    [
        (0, "0"),
        (0.00001, "0       0.002 ms        0.006 ms"),
        (0.3, "0            0.1 s        0.2 s"),
        (1, "0       0.2 s   0.4 s   0.6 s   0.8 s"),
        (17, "0          5 s         10 s        15 s"),
        (110, "0         30 s       1 min      90 s"),
        (200, "0           1 min       2 min"),
        (40_000, "0                 5 h               10 h"),
        (10**8, "0         7200 h    14400 h    21600 h"),
    ],
)
def test_the_axis_has_round_times(seconds: float, ticks: str) -> None:
    assert Axis(5, 5 + seconds, 40).ticks() == ticks


def test_figures_are_short() -> None:
    assert [duration(each) for each in (0, 0.0004, 0.04, 1.44, 59.96, 125, 3599.6, 1e6)] == [
        "0.0 ms", "0.4 ms", "40 ms", "1.4 s", "1 min 0 s", "2 min 5 s", "1 h 0 min", "277 h 47 min",
    ]  # fmt: skip
    assert [shortly(each) for each in (7, 999, 1200, 9960, 35_123, 999_700, 5 * 10**6, 10**10)] == [
        "7", "999", "1.2k", "10k", "35k", "1.0M", "5.0M", "10.0G",
    ]  # fmt: skip
    assert [percent(each, 10) for each in (0, 0.01, 4.96, 10)] == ["0%", "<1%", "50%", "100%"]
    assert percent(0, 0) == ""
    assert [dollars(each) for each in (None, 0, 1e-9, 0.00001234, 0.00009, 0.0125)] == [
        "cost unknown", "$0.0000", "$0.0000", "$0.00001234", "$0.00009", "$0.0125",
    ]  # fmt: skip
    assert harmless("a\tb\x1bé", "ascii") == "a b??"


def test_run_trace_draws_what_has_happened_until_now_from_any_thread(
    capsys: pytest.CaptureFixture[str],
) -> None:
    agent = AgentLoop(agent_id="greeter", llm_provider=ScriptedModel(says("Hello.")))
    run = agent.execute("Hi", task_id="task-1")
    run.trace()
    run.result()
    run.trace()
    file = io.StringIO()
    run.trace(file)

    before, _, after = capsys.readouterr().out.partition("\n")
    assert before == "nothing has happened yet"
    assert after == file.getvalue()
    assert re.match(rf"✔ greeter, completed, [\d.]+ ms, trace {run.trace_id}\n", after)
    assert "invoke_agent greeter" in after


async def test_run_trace_draws_a_task_that_goes_on_with_its_name_and_its_count() -> None:
    model = ScriptedModel(calls("delete", path="a.txt"), says("done"))
    agent = AgentLoop(agent_id="clerk", llm_provider=model, tools=[delete])
    asked = agent.execute("Hi")
    question = (await asked).waiting[0].input_id
    run = agent.resume(asked.state, inputs={question: "yes"})
    await run
    file = io.StringIO()
    run.trace(file)

    lines = file.getvalue().splitlines()
    assert lines[0].startswith("✔ clerk, resumed, completed, ")
    assert [line[:23].rstrip() for line in lines[2:4]] == ["invoke_agent clerk", "├─ agent.iteration 1"]


def test_run_trace_draws_a_run_that_goes_on_up_to_now() -> None:
    file = io.StringIO()

    async def look() -> None:
        run = AgentLoop(llm_provider=ScriptedModel(says("Hel") + stalls())).execute("Hi", task_id="task-1")
        async for event in run:
            if event.kind == "content-delta":
                run.trace(file)
                break

    run_virtual(look())

    assert file.getvalue().startswith("… agent, no end seen, ")
    assert "└─ … agent.iteration 1" in file.getvalue()


def test_run_trace_without_rich_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "looopy.observe.pictures.picture")
    monkeypatch.setitem(sys.modules, "rich.cells", None)

    with pytest.raises(MissingExtra, match=r"drawing a trace needs rich: pip install 'looopy\[cli\]'"):
        AgentLoop(llm_provider=ScriptedModel()).execute("Hi").trace()


def test_run_trace_takes_an_open_file_and_says_how() -> None:
    name: Any = "out.txt"
    with pytest.raises(ConfigurationError) as caught:
        AgentLoop(llm_provider=ScriptedModel()).execute("Hi").trace(name)
    assert str(caught.value) == (
        "run.trace('out.txt'): it takes an open file: with open('out.txt', 'w') as file: run.trace(file)"
    )


def test_a_head_that_has_no_room_is_cut_with_a_mark_and_the_name_first() -> None:
    recorded = Recorded().at(0, Task(agent_id="a-very-long-name-of-an-agent")).at(0.5, status("completed"))
    origins = {"task-1": Origin(agent="a", trace_id="2fa15caf10740c5869f831a3da712345")}

    def head(width: int) -> str:
        file = Encoded("utf-8")
        picture = Picture(timeline(recorded.events, origins=origins))
        Console(file=file, width=width, color_system=None).print(picture)
        return file.getvalue().splitlines()[0].rstrip()

    assert head(90) == (
        "✔ a-very-long-name-of-an-agent, completed, 500 ms, trace 2fa15caf10740c5869f831a3da712345"
    )
    assert head(70) == "✔ a-very-l…, completed, 500 ms, trace 2fa15caf10740c5869f831a3da712345"
    assert head(50) == "✔ a-very-…, completed, 500 ms, trace 2fa15caf1074…"
