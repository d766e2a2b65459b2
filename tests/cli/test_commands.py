"""`run`, `chat` and `demo`: what they show, and how they end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from looopy import Usage, loads
from looopy.testing import ScriptedServer, calls, cuts, fails, says, thinks

from .command import APP, done, environment, read_until, start, without_times

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="exit codes of signals")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def test_run_shows_thoughts_tools_text_and_what_it_took(folder: Path) -> None:
    server = ScriptedServer(
        thinks("Let me ", "see.") + calls("calculate", expression="15 * 23 + 47"),
        says("It ", "is 392.", usage=Usage(input_tokens=1200, output_tokens=7), cost=0.0125),
    )
    with server.running() as url:
        code, out, err = done("run", "app:agent", "What", "is it?", folder=folder, URL=url)

    assert (code, err) == (0, "")
    assert without_times(out) == (
        "Let me see.\n"
        "\n"
        '🔧 calculate(expression="15 * 23 + 47")\n'
        "   → 392  … s\n"
        "\n"
        "It is 392.\n"
        "\n"
        "✔ completed · 2 model calls · 1,200 tokens in, 7 out · $0.0125 · … s\n"
    )
    assert server.requests[0].body["messages"][-1] == {"role": "user", "content": "What is it?"}


def test_run_tells_the_lines_of_parallel_tools_apart_and_nothing_commands_the_terminal(folder: Path) -> None:
    server = ScriptedServer(calls("look", place="x" * 99) + calls("fail"), says("Done\r\x1b]0;title\x07."))
    with server.running() as url:
        code, out, _ = done("run", "app:agent", "Look", folder=folder, URL=url)

    assert code == 0
    assert "\x1b" not in out
    assert f'🔧 look(place="{"x" * 58}…)\n🔧 fail()\n' in out
    shown = sorted(line for line in without_times(out).splitlines() if line.startswith("   "))
    label = f'look(place="{"x" * 27}…'
    assert [line for line in shown if "fail" in line] == ["   fail(): ✘ disk full \ufffd[2J  … s"]
    assert f"   {label}: 50 % · half-way" in shown or "   50 % · half-way" in shown
    assert "Done\ufffd]0;title\ufffd." in out


def test_run_with_json_writes_one_event_a_line_and_nothing_else(folder: Path) -> None:
    server = ScriptedServer(calls("look", place="here"), says("Nothing."))
    with server.running() as url:
        code, out, err = done("run", "app:agent", "--json", "Look", folder=folder, URL=url)

    events = [loads(line) for line in out.splitlines()]
    assert code == 0
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert (events[0].kind, events[-1].kind) == ("task", "status-update")
    assert err == "a tool prints\n"


@pytest.mark.parametrize(("arguments", "typed"), [([], "From a pipe"), (["-"], "From a pipe")])
def test_run_reads_the_prompt_from_stdin(folder: Path, arguments: list[str], typed: str) -> None:
    server = ScriptedServer(says("Hi."))
    with server.running() as url:
        code, _, _ = done("run", "app.py:agent", *arguments, folder=folder, typed=typed, URL=url)

    assert code == 0
    assert server.requests[0].body["messages"][-1]["content"] == "From a pipe"


def test_a_failed_run_says_why_without_a_traceback_and_ends_with_1(folder: Path) -> None:
    with ScriptedServer(says("Hel") + cuts()).running() as url:
        code, out, err = done("run", "app:agent", "Hi", folder=folder, URL=url)

    assert code == 1
    assert out.startswith("Hel\n\n✘ failed · 1 model call · ")
    assert err.startswith(f"StreamBroken: LiteLLM API error: the answer of model 'scripted-model' from {url}")
    assert "Traceback" not in err


def test_a_limit_that_is_reached_ends_with_1(folder: Path) -> None:
    with ScriptedServer(calls("calculate", expression="1+1"), says("2")).running() as url:
        code, _, err = done("run", "app:limited", "Hi", folder=folder, URL=url)

    assert code == 1
    assert err.startswith("LimitExceeded: run stopped by max_iterations=1")


def test_debug_shows_the_traceback_and_no_output_ever_shows_the_key(folder: Path) -> None:
    key = "sk-not-for-anybody-1234567890"
    with ScriptedServer(api_key="another").running() as url:
        shown = [
            done("run", "app:agent", "Hi", "--debug", folder=folder, URL=url, KEY=key),
            done("doctor", "--debug", folder=folder, LITELLM_URL=url, LITELLM_API_KEY=key),
            done("demo", folder=folder, LITELLM_URL=url, LITELLM_API_KEY=key),
        ]

    assert [code for code, _, _ in shown] == [1, 1, 1]
    assert "Traceback (most recent call last)" in shown[0][2]
    assert key not in "".join(out + err for _, out, err in shown)


def test_a_run_that_waits_for_an_answer_shows_the_question_and_ends_with_3(folder: Path) -> None:
    with ScriptedServer(calls("ask")).running() as url:
        code, out, err = done("run", "app:agent", "Hi", folder=folder, URL=url)

    assert code == 3
    assert "❓ Really? [yes | no]\n   input id: call_1\n" in out
    assert "inputs={'call_1': …}" in err


def test_a_reader_that_leaves_ends_the_run_quietly(folder: Path) -> None:
    server = ScriptedServer(says(*["word "] * 2000, every=0.01))
    with server.running() as url, start("run", "app:agent", "Hi", folder=folder, URL=url) as process:
        read_until(process.stdout, "word ")
        process.stdout.close()
        assert process.wait(timeout=20) == 141
        assert process.stderr.read() == ""


def test_colours_are_for_terminals_that_want_them(folder: Path) -> None:
    with ScriptedServer(otherwise=lambda _: says("Hi.")).running() as url:
        plain = on_a_terminal(folder, URL=url, TERM="xterm", NO_COLOR="1")
        colourful = on_a_terminal(folder, URL=url, TERM="xterm")

    assert "\x1b[3" not in plain  # dim and bold are no colours: https://no-color.org
    assert "✔ completed" in plain
    assert "\x1b[32m✔ completed" in colourful


def on_a_terminal(folder: Path, **variables: str) -> str:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "looopy", "run", "app:agent", "Hi"]
    with subprocess.Popen(command, cwd=folder, env=environment(**variables), stdout=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:  # Linux's way to say that the other side is closed
            pass
        finally:
            os.close(ours)
        assert process.wait(timeout=20) == 0
    return shown.decode()


def test_chat_takes_each_line_of_a_pipe_as_a_turn_of_one_conversation(folder: Path) -> None:
    server = ScriptedServer(says("Hello."), fails(500), says("Still here."))
    with server.running() as url:
        code, out, err = done(
            "chat", "app:agent", folder=folder, typed="Hi\n\nFail\nThere?\n/quit\nNo\n", URL=url
        )

    assert code == 1  # since a turn failed, and a script should know
    assert [line for line in out.splitlines() if line[:1] in (">", "H", "S", "✔", "✘")] == [
        "> Hi", "Hello.", out.splitlines()[3], "> Fail", out.splitlines()[7], "> There?", "Still here.", out.splitlines()[12]
    ]  # fmt: skip
    assert err.startswith("ModelFailed: ")
    assert [message["content"] for message in server.requests[2].body["messages"]] == [
        "Hi",
        "Hello.",
        "Fail",
        "There?",
    ]


def test_the_demo_needs_nothing_and_shows_every_event(tmp_path: Path) -> None:
    # A proxy of the environment is nothing to a model on our own machine.
    code, out, err = done(
        "demo", folder=tmp_path, HTTP_PROXY="http://127.0.0.1:9", LITELLM_API_KEY="sk-unused"
    )

    assert (code, err) == (0, "")
    shown = re.sub(r"\d+ tokens in, \d+ out", "… tokens in, … out", without_times(out))
    assert shown.splitlines()[0] == (
        "🚀 looopy demo: no LITELLM_URL is set, so looopy's stand-in model answers: no key, no network"
    )
    assert "💬 User: Calculate 15 * 23 + 47\n" in shown
    assert "\n[1] 📡 Event: task\n    Task ID: …\n    Status: submitted\n" in shown
    assert (
        "    🔧 Executing: calculate\n"
        '       Arguments: {"expression": "15 * 23 + 47"}\n'
        "\n"
        "[9] 📡 Event: tool-complete\n"
        "       Result: 392  (calculate, … s)\n"
    ) in shown
    assert shown.endswith(
        "    Status: completed\n"
        "    Message: The result of 15 × 23 + 47 is 392.\n"
        "    ✅ FINAL EVENT\n"
        "\n"
        f"{'=' * 70}\n"
        "✅ Completed! Total events: 22\n"
        "   2 model calls · … tokens in, … out · cost unknown · … s\n"
        f"{'=' * 70}\n"
    )


def test_the_demo_asks_the_proxy_that_is_named(tmp_path: Path) -> None:
    server = ScriptedServer(says("392."))
    with server.running() as url:
        code, out, _ = done(
            "demo", "What", "is", "-1?", folder=tmp_path, LITELLM_URL=url, LOOOPY_MODEL="big-model"
        )

    assert code == 0
    assert out.splitlines()[0] == f"🚀 looopy demo: big-model at LITELLM_URL {url}"
    assert server.requests[0].body["model"] == "big-model"
    assert server.requests[0].body["messages"][-1]["content"] == "What is -1?"


def test_without_its_extra_the_command_line_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['typer'] = None; sys.argv = ['looopy', *sys.argv[1:]]; "
        "from looopy.__main__ import main; sys.exit(main())"
    )
    shown = [
        subprocess.run([sys.executable, "-c", program, argument], capture_output=True, text=True, check=False)
        for argument in ("demo", "--version")
    ]

    assert [(process.returncode, process.stderr) for process in shown] == [
        (2, "looopy's command line needs typer and rich: pip install 'looopy[cli]'\n"),
        (0, ""),
    ]
    assert shown[1].stdout.startswith("looopy 0.")
