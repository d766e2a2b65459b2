"""`looopy demo`: an agent that calls a tool and answers, with every event numbered and shown.

It goes through the real provider over HTTP: to the proxy at LITELLM_URL, or else to the stand-in model on a loopback port. Shown in more
detail than `show.py` does, since here the events are what there is to see.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from looopy.agent import AgentLoop
from looopy.cli.calculator import calculate
from looopy.cli.show import Terminal, Totals, one_line, plain, progress
from looopy.events import (
    ContentDelta,
    Event,
    LLMCall,
    LLMResponse,
    StatusUpdate,
    Task,
    ThoughtDelta,
    ToolCallDelta,
    ToolComplete,
    ToolProgress,
    ToolStart,
)
from looopy.messages import render
from looopy.observe.pictures.figures import counted, duration
from looopy.providers.litellm import LiteLLMProvider
from looopy.testing.standin import MODEL, serving_stand_in

PROMPT = "Calculate 15 * 23 + 47"
DEFAULT_MODEL = "gpt-4o-mini"
_RULE = "=" * 70
_SHOWN = 500  # characters of a result
_PACE = 0.04  # seconds between the stand-in's words, for those who watch


@dataclass(frozen=True, slots=True)
class Demo:
    """The demo's agent, and in words where its model is."""

    agent: AgentLoop
    about: str
    url: str
    key: str


@contextmanager
def demo(*, watched: bool) -> Generator[Demo]:
    """The demo, ready to run; the stand-in model is served until the context is left.

    Args:
        watched: whether somebody looks on, so that the stand-in takes its time.
    """
    if os.environ.get("LITELLM_URL", "").strip():
        provider = LiteLLMProvider(model=model())
        key = "set (LITELLM_API_KEY)" if os.environ.get("LITELLM_API_KEY") else "none"
        about = f"{provider.model} at LITELLM_URL {provider.base_url}"
        yield Demo(_agent(provider), about, provider.base_url, key)
        return
    with serving_stand_in(every=_PACE if watched else 0.0) as url, _directly():
        about = "no LITELLM_URL is set, so looopy's stand-in model answers: no key, no network"
        yield Demo(_agent(LiteLLMProvider(url, MODEL, api_key=None)), about, url, "none")


def model() -> str:
    """The model that LOOOPY_MODEL names, or a small one that most proxies have."""
    return os.environ.get("LOOOPY_MODEL") or DEFAULT_MODEL


def _agent(provider: LiteLLMProvider) -> AgentLoop:
    return AgentLoop(
        agent_id="demo",
        llm_provider=provider,
        tools=[calculate],
        system_prompt="Work out every calculation with the tool `calculate`, then answer in one sentence.",
    )


@contextmanager
def _directly() -> Generator[None]:
    """No HTTP proxy of the environment stands between us and our own loopback port."""
    before = os.environ.get("no_proxy")
    os.environ["no_proxy"] = ",".join(filter(None, (before or os.environ.get("NO_PROXY"), "127.0.0.1")))
    try:
        yield
    finally:
        if before is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = before


class Journal:
    """Every event with its number, its kind and what is in it; pieces of one text share a line.

    Args:
        terminal: where.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._totals = Totals()
        self._streaming = ""
        self._first = 0
        self._newest = 0

    def open(self, about: Demo, prompt: str) -> None:
        """The head: who answers, and what is asked."""
        line = self._terminal.write_line
        self._terminal.write("🚀 looopy demo: ", "bold")
        line(about.about)
        line()
        line(_RULE, "dim")
        line(f"📡 LiteLLM URL: {about.url}")
        line(f"🔑 API key: {about.key}")
        line(_RULE, "dim")
        line()
        self._terminal.write("💬 User: ", "bold")
        line(plain(prompt))
        line(_RULE, "dim")

    def show(self, event: Event) -> None:
        """Show one event."""
        self._totals.add(event)
        if isinstance(event, ContentDelta | ThoughtDelta | ToolCallDelta):
            self._piece(event)
            return
        self._end_pieces()
        self._head(event)
        for text in _details(event):
            self._terminal.write_line(f"    {text}")
        if isinstance(event, StatusUpdate) and event.final:
            self._terminal.write_line("    ✅ FINAL EVENT", "green")
            self._close(event)

    def _head(self, event: Event) -> None:
        self._terminal.write_line()
        self._terminal.write(f"[{event.seq}] ", "dim")
        self._terminal.write_line(f"📡 Event: {event.kind}", "bold")

    def _piece(self, event: ContentDelta | ThoughtDelta | ToolCallDelta) -> None:
        call = event if isinstance(event, ToolCallDelta) else None
        what = f"{event.kind} {call.call_id if call else ''}"
        if self._streaming != what:
            self._end_pieces()
            self._head(event)
            self._streaming, self._first = what, event.seq
            self._terminal.write(f"    {plain(call.tool_name)} " if call else "    ", "cyan")
        self._newest = event.seq
        text = plain(event.delta).replace("\n", "\n    ")
        self._terminal.write(text, "dim" if isinstance(event, ThoughtDelta) else "cyan")

    def _end_pieces(self) -> None:
        if not self._streaming:
            return
        self._streaming = ""
        count = self._newest - self._first + 1
        self._terminal.write_line(f"  ({count} events, up to [{self._newest}])" if count > 1 else "", "dim")

    def _close(self, event: StatusUpdate) -> None:
        state = event.status.state
        sign = "✅" if state == "completed" else "❌"
        self._terminal.write_line()
        self._terminal.write_line(_RULE, "dim")
        self._terminal.write_line(f"{sign} {state.capitalize()}! Total events: {self._totals.events}", "bold")
        self._terminal.write_line(f"   {self._totals}")
        self._terminal.write_line(_RULE, "dim")


def _details(event: Event) -> list[str]:
    match event:
        case Task():
            return [f"Task ID: {event.task_id}", f"Status: {event.state}"]
        case StatusUpdate():
            return _status(event)
        case LLMCall():
            sent = f"{counted(event.messages, 'message')}, {counted(event.tools, 'tool')}"
            return [f"Model: {plain(event.model) or 'the default'} (call {event.iteration}: {sent})"]
        case LLMResponse():
            usage = event.usage
            tokens = f", {usage.input_tokens} tokens in, {usage.output_tokens} out" if usage else ""
            return [
                f"Finish reason: {event.finish_reason} ({plain(event.model)}{tokens}, {duration(event.seconds)})"
            ]
        case ToolStart():
            return [
                f"🔧 Executing: {plain(event.tool_name)}",
                f"   Arguments: {one_line(json.dumps(event.arguments, ensure_ascii=False), _SHOWN)}",
            ]
        case ToolProgress():
            return [f"   Progress: {progress(event)}"]
        case ToolComplete():
            told = f"Error: {event.error.message}" if event.error else f"Result: {render(event.result)}"
            return [f"   {one_line(told, _SHOWN)}  ({plain(event.tool_name)}, {duration(event.seconds)})"]
        case _:
            return []


def _status(event: StatusUpdate) -> list[str]:
    lines = [f"Status: {event.status.state}"]
    if event.error is not None:
        lines += [f"Error: {event.error.type}: {plain(event.error.message)}"]
    elif event.status.message is not None:
        lines += ["Message: " + plain(event.status.message.text).replace("\n", "\n    ")]
    return lines
