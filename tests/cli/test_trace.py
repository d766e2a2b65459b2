"""`trace` and `run --trace`: a run as a picture, live or from a record, whatever state that record is in."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from observe.recorded import crawl, research

from looopy import dumps, loads
from looopy.observe.pictures.picture import Picture
from looopy.observe.pictures.timeline import timeline
from looopy.testing import ScriptedServer, calls, says

from .command import APP, done

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="exit codes of signals")

LINES = b"".join(dumps(event) + b"\n" for event in research())
DRAWN = str(Picture(timeline(research())))  # 100 columns


def test_a_record_is_drawn_from_a_file_and_from_stdin(tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_bytes(LINES)

    assert done("trace", "run.jsonl", folder=tmp_path, COLUMNS="100") == (0, DRAWN, "")
    assert done("trace", "-", folder=tmp_path, typed=LINES.decode(), COLUMNS="100") == (0, DRAWN, "")


def test_a_terminal_without_unicode_gets_ascii(tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_bytes(LINES)

    code, out, err = done("trace", "run.jsonl", folder=tmp_path, PYTHONIOENCODING="ascii", TERM="dumb")

    assert (code, err) == (0, "")
    assert out.isascii()
    assert "|  |- x execute_tool search" in out


def test_lines_that_cannot_be_read_are_told_and_the_others_drawn(tmp_path: Path) -> None:
    first, *others = LINES.splitlines(keepends=True)
    newer = b'{"kind": "tomorrow", "task_id": "task-1"}\n'
    (tmp_path / "run.jsonl").write_bytes(
        b"".join([first, newer, b"\n", b"no JSON\n", *others, newer, first[:40]])
    )

    code, out, err = done("trace", "run.jsonl", folder=tmp_path, COLUMNS="100")

    assert (code, out) == (1, DRAWN)
    said = err.splitlines()
    assert said[0] == (
        "run.jsonl: 2 events of a kind that this version of looopy does not know: tomorrow; left out"
    )
    assert [re.match(r"run.jsonl, line \d+: cannot read this event", line)[0] for line in said[1:]] == [
        "run.jsonl, line 4: cannot read this event",
        f"run.jsonl, line {len(others) + 6}: cannot read this event",
    ]


def test_kinds_of_a_newer_version_are_no_error(tmp_path: Path) -> None:
    typed = LINES.decode() + '{"kind": "tomorrow"}\n'

    code, out, err = done("trace", "-", folder=tmp_path, typed=typed, COLUMNS="100")

    assert (code, out) == (0, DRAWN)
    assert err == "stdin: 1 event of a kind that this version of looopy does not know: tomorrow; left out\n"


def test_of_many_broken_lines_only_the_first_are_told(tmp_path: Path) -> None:
    code, out, err = done("trace", "-", folder=tmp_path, typed="no JSON\n" * 9)

    assert (code, out) == (1, "")
    assert [line.partition(": ")[0] for line in err.splitlines()] == [
        "stdin, line 1",
        "stdin, line 2",
        "stdin, line 3",
        "stdin",
    ]
    assert err.endswith("stdin: 6 more lines that cannot be read\n")


def test_a_record_without_events_and_a_file_that_is_not_there_say_the_mend(tmp_path: Path) -> None:
    assert done("trace", "-", folder=tmp_path) == (
        1,
        "",
        "stdin: there is no event in it; `looopy run --json` writes one a line\n",
    )
    assert done("trace", "nowhere.jsonl", folder=tmp_path) == (
        2,
        "",
        "ConfigurationError: cannot read 'nowhere.jsonl': No such file or directory\n",
    )


def test_all_shows_what_is_left_out_else(tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_bytes(b"".join(dumps(event) + b"\n" for event in crawl(40)))

    shown = [done("trace", "run.jsonl", *option, folder=tmp_path)[1] for option in ([], ["--all"])]

    assert [text.count("agent.iteration") for text in shown] == [6, 40]
    assert "more" in shown[0]
    assert "more" not in shown[1]


def test_run_with_trace_draws_the_run_after_its_live_view(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with ScriptedServer(calls("fail"), says("Sorry.")).running() as url:
        code, out, err = done("run", "app:agent", "--trace", "Hi", folder=tmp_path, URL=url)

    live, _, picture = out.partition("✔ completed · 2 model calls")
    assert (code, err) == (0, "")
    assert "Sorry." in live
    tree = [line[:25].rstrip() for line in picture.split("\n\n")[1].splitlines()]
    assert tree[2:] == [
        "invoke_agent tester",
        "├─ agent.iteration 1",
        "│  ├─ chat scripted-model",
        "│  └─ ✘ execute_tool fail",
        "│        RuntimeError: di",
        "└─ agent.iteration 2",
        "   └─ chat scripted-model",
    ]


def test_a_run_that_is_drawn_anyway_is_drawn_once(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        APP + "from looopy.observe import instrument\ninstrument(console=True, exporters=())\n"
    )
    with ScriptedServer(says("Hello.")).running() as url:
        code, out, err = done("run", "app:agent", "--trace", "Hi", folder=tmp_path, URL=url)

    assert (code, out.count("invoke_agent"), err.count("invoke_agent")) == (0, 0, 1)


def test_run_with_trace_and_json_draws_on_stderr_also_when_the_run_fails(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with ScriptedServer(calls("calculate", expression="1+1")).running() as url:
        code, out, err = done(
            "run", "app:limited", "--json", "--trace", "Hi", folder=tmp_path, URL=url, COLUMNS="100"
        )

    why, _, picture = err.partition("\n\n")
    assert code == 1
    assert why.startswith("LimitExceeded: run stopped by max_iterations=1")
    events = [loads(line) for line in out.splitlines()]
    assert re.search(r", trace [0-9a-f]{32}\b", picture.splitlines()[0])
    assert picture.splitlines()[1:] == str(Picture(timeline(events))).splitlines()[1:]


NESTED = """
import asyncio
from looopy import AgentLoop
from looopy.testing import ScriptedModel, calls, says

helper = AgentLoop(agent_id="helper", llm_provider=ScriptedModel(says("4", cost=5.0)))

async def ask(question: str) -> str:
    "Ask the helper."
    return (await helper.execute(question)).output

model = ScriptedModel(calls("ask", question="2 + 2?") + says(cost=0.125), says("It is 4.", cost=0.125))
agent = AgentLoop(agent_id="boss", llm_provider=model, tools=[ask])
"""


def test_the_money_of_agents_that_tools_call_is_in_the_picture(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(NESTED)
    code, out, err = done("run", "app:agent", "--trace", "Hi", folder=tmp_path)
    names = [line.split("━")[0].rstrip() for line in out.splitlines() if "invoke_agent" in line]
    assert (code, err, names) == (0, "", ["invoke_agent boss", "│     └─ invoke_agent helper"])
    assert [line.split()[-1] for line in out.splitlines() if line.startswith("money")] == ["$5.2500"]
