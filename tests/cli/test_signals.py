"""Ctrl-C and SIGTERM: the first cancels, the second ends, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from looopy import loads
from looopy.testing import ScriptedServer, calls, says, stalls

from .command import APP, ended, read_until, start

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize(
    ("number", "name", "code"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)]
)
def test_a_signal_cancels_the_run_and_shows_its_last_event(
    folder: Path, number: int, name: str, code: int
) -> None:
    server = ScriptedServer(says("Hel") + stalls())
    with (
        server.running() as url,
        start("run", "app:agent", "--json", "Hi", folder=folder, URL=url) as process,
    ):
        read_until(process.stdout, '"kind":"content-delta","delta":"Hel"}\n')
        process.send_signal(number)
        returned, out, err = ended(process)
        asyncio.run(server.hung_up())

    last = loads(out.splitlines()[-1])
    assert (returned, last.status.state, last.final) == (code, "canceled", True)
    assert err == f"{name}: cancelling the run (once more to exit at once)\n"


def test_a_tool_in_a_thread_does_not_hold_up_the_exit(folder: Path) -> None:
    with (
        ScriptedServer(calls("wait")).running() as url,
        start("run", "app:agent", "Hi", folder=folder, URL=url) as process,
    ):
        read_until(process.stderr, "waiting\n")
        process.send_signal(signal.SIGINT)
        returned, out, err = ended(process)

    assert returned == 130
    assert "\n✘ canceled · 1 model call" in out
    assert err == "Ctrl-C: cancelling the run (once more to exit at once)\n"


def test_the_second_signal_ends_a_process_whose_loop_is_blocked(folder: Path) -> None:
    with (
        ScriptedServer(calls("block")).running() as url,
        start("run", "app:agent", "Hi", folder=folder, URL=url) as process,
    ):
        read_until(process.stderr, "blocking\n")
        process.send_signal(signal.SIGTERM)  # two of one kind could arrive as one
        process.send_signal(signal.SIGINT)
        returned, _, err = ended(process)

    assert returned in (130, 143)
    assert err == ""


def test_a_run_that_does_not_end_is_left_after_a_while(folder: Path) -> None:
    with (
        ScriptedServer(calls("block")).running() as url,
        start("run", "app:agent", "Hi", folder=folder, URL=url) as process,
    ):
        read_until(process.stderr, "blocking\n")
        process.send_signal(signal.SIGTERM)
        returned, _, err = ended(process)

    assert (returned, err) == (143, "looopy: the run did not end within 3 s of being cancelled; leaving it\n")


def test_ctrl_c_in_a_chat_cancels_the_answer_and_keeps_the_conversation(folder: Path) -> None:
    server = ScriptedServer(says("Hel") + stalls(), says("Again."))
    with server.running() as url, start("chat", "app:agent", folder=folder, URL=url) as process:
        process.stdin.write("Hi\n")
        process.stdin.flush()
        read_until(process.stdout, "Hel")
        process.send_signal(signal.SIGINT)
        read_until(process.stdout, "✘ canceled")
        returned, out, err = ended(process, "And now?\n")

    assert returned == 0
    assert "> And now?\nAgain.\n" in out
    assert err == "Ctrl-C: cancelling the run (once more to exit at once)\n"
    assert [message["content"] for message in server.requests[1].body["messages"]] == [
        "Hi",
        "Hel",
        "And now?",
    ]


def test_sigterm_in_a_chat_cancels_the_answer_and_ends(folder: Path) -> None:
    with (
        ScriptedServer(says("Hel") + stalls()).running() as url,
        start("chat", "app:agent", folder=folder, URL=url) as process,
    ):
        process.stdin.write("Hi\n")
        process.stdin.flush()
        read_until(process.stdout, "Hel")
        process.send_signal(signal.SIGTERM)
        returned, out, _ = ended(process)

    assert returned == 143
    assert "✘ canceled" in out


def test_ctrl_c_at_the_keyboard_of_a_demo_leaves_no_traceback(folder: Path) -> None:
    with (
        ScriptedServer(says("Hel") + stalls()).running() as url,
        start("demo", folder=folder, LITELLM_URL=url) as process,
    ):
        read_until(process.stdout, "Hel")
        os.kill(process.pid, signal.SIGINT)
        returned, out, err = ended(process)

    assert returned == 130
    assert "    Status: canceled\n" in out
    assert "❌ Canceled! Total events: " in out
    assert "Traceback" not in err
    assert subprocess.run(["ps", "-p", str(process.pid)], capture_output=True, check=False).returncode != 0
