"""`looopy chat`: a conversation, one line a turn.

Ctrl-C during an answer cancels that answer and keeps the conversation; Ctrl-D or `/quit` ends it. Where stdin is no terminal, each of
its lines is a turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator

from looopy.agent import AgentLoop
from looopy.cli.show import Screen, Terminal
from looopy.cli.watch import FAILED, INTERRUPTED, Interruption, watched
from looopy.events import Event, Failure, StatusUpdate

_PROMPT = "> "


def converse(
    agent: AgentLoop, out: Terminal, *, tell: Callable[[str], None], complain: Callable[[Failure], None]
) -> int:
    """Hold a conversation until its end.

    Args:
        agent: whom to talk to.
        out: where answers go.
        tell: says something to the person.
        complain: shows why a turn failed.

    Returns:
        The exit code: 1 if stdin is no terminal and a turn failed, 143 after SIGTERM, else 0.
    """
    people = sys.stdin.isatty()
    screen, session, failed = Screen(out), agent.session(), False

    def show(event: Event) -> None:
        screen.show(event)
        if isinstance(event, StatusUpdate) and event.final and event.error and event.status.state == "failed":
            complain(event.error)

    with asyncio.Runner() as runner:
        for prompt in _asked(agent, out) if people else _lines(out):
            run = session.send(prompt)
            with Interruption(tell) as interruption:
                code = runner.run(watched(run, show, interruption))
            if interruption.code not in (0, INTERRUPTED):
                return code
            failed = failed or code == FAILED
            out.write_line()
    return FAILED if failed and not people else 0


def _asked(agent: AgentLoop, out: Terminal) -> Iterator[str]:
    """What a person types."""
    with contextlib.suppress(ImportError):
        importlib.import_module(
            "readline"
        )  # gives `input` its history and its arrow keys, where there is one

    out.write_line(f"{agent.agent_id} · Ctrl-C stops an answer, Ctrl-D or /quit ends", "dim")
    while True:
        try:
            typed = input(_PROMPT).strip()
        except EOFError:
            out.write_line()
            return
        except KeyboardInterrupt:
            out.write_line()
            out.write_line("Ctrl-D or /quit ends", "dim")
            continue
        if typed == "/quit":
            return
        if typed:
            yield typed


def _lines(out: Terminal) -> Iterator[str]:
    """What comes through a pipe, repeated so that the answers can be told apart."""
    for line in sys.stdin:
        typed = line.strip()
        if typed == "/quit":
            return
        if typed:
            out.write_line(_PROMPT + typed)
            yield typed
