"""`python -m looopy …` as a process, in a folder and an environment of the test's own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

APP = """
import os
import sys
import threading

from looopy import AgentLoop, Limits
from looopy.cli.calculator import calculate
from looopy.ports import ToolContext
from looopy.providers.litellm import LiteLLMProvider


def look(place: str, context: ToolContext) -> str:
    "Look around."
    context.progress(0.5, "half-way")
    print("a tool prints")
    return "nothing in " + place


def fail() -> str:
    "Fail."
    raise RuntimeError("disk full \\x1b[2J")


def ask(context: ToolContext) -> str:
    "Ask a person."
    return context.ask("Really?", options=["yes", "no"])


async def block() -> str:
    "Block the event loop."
    print("blocking", file=sys.stderr, flush=True)
    threading.Event().wait()


def wait() -> str:
    "Block a thread."
    print("waiting", file=sys.stderr, flush=True)
    threading.Event().wait()


agent = AgentLoop(
    agent_id="tester",
    llm_provider=LiteLLMProvider(os.environ["URL"], "scripted-model", os.environ.get("KEY")),
    tools=[calculate, look, fail, ask, block, wait],
)
limited = AgentLoop(llm_provider=agent.llm_provider, tools=[calculate], max_iterations=1)
"""


def environment(**variables: str) -> dict[str, str]:
    """What a process needs, and the given variables: none of those that say where models are or how to colour."""
    kept = ("PATH", "HOME", "LANG", "SYSTEMROOT", "COVERAGE_PROCESS_START")
    return {name: os.environ[name] for name in kept if name in os.environ} | variables


def start(*args: str, folder: Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "looopy", *args],
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def done(*args: str, folder: Path, typed: str = "", **variables: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    with start(*args, folder=folder, **variables) as process:
        return ended(process, typed)


def ended(process: subprocess.Popen[str], typed: str | None = None) -> tuple[int, str, str]:
    """Exit code, and what is left of stdout and stderr, of a command that ends by itself."""
    try:
        out, err = process.communicate(typed, timeout=20)
    finally:
        process.kill()
    return process.returncode, out, err


def read_until(stream: IO[Any], text: str) -> str:
    """What comes, up to a text that must."""
    read = ""
    while not read.endswith(text):
        piece = stream.read(1)
        assert piece, f"the stream ended without {text!r}: {read!r}"
        read += piece
    return read


def without_times(text: str) -> str:
    """The text with every duration, id and port as `…`."""
    text = re.sub(r"\b\d+(\.\d+)? (ms|s)\b", "… s", text)
    text = re.sub(r"\b[0-9a-f]{32}\b", "…", text)
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:…", text)
