"""Events as lines for people, while they happen; and what a run came to, in one line.

`Screen` shows one run after the other: text as it streams, thoughts dim, tools with arguments, result and seconds. It only reads events:
whatever can be shown here can be shown from a recorded stream too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import IO, BinaryIO, Literal, TypeAlias

from rich.console import Console

from looopy.events import (
    ArtifactUpdate,
    ContentDelta,
    ContentReset,
    Event,
    InputRequired,
    LLMCall,
    LLMResponse,
    LLMRetry,
    OutputRejected,
    StatusUpdate,
    ThoughtDelta,
    ToolComplete,
    ToolProgress,
    ToolStart,
    dumps,
)
from looopy.messages import JSON, Usage, render
from looopy.observe.pictures.figures import counted, dollars, duration

_ARGUMENT = 60  # characters of one argument that are shown
_LABEL = 40  # characters of a call where it stands before its result
_RESULT = 200  # characters of a result that are shown

_ENDS: dict[str, tuple[str, str]] = {
    "completed": ("✔", "green"),
    "failed": ("✘", "red"),
    "canceled": ("✘", "yellow"),
    "input-required": ("?", "yellow"),
}

_Block: TypeAlias = Literal["", "text", "thought", "tool", "retry"]


class Terminal(Console):
    """A Console for streams: what is written appears at once and as it is, and a reader that has left is an error."""

    def __init__(self, file: IO[str] | None = None, *, stderr: bool = False) -> None:
        super().__init__(file=file, stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def on_broken_pipe(self) -> None:
        """Let the run be cancelled."""
        raise  # noqa: PLE0704  rich calls this while it handles the BrokenPipeError

    def write(self, text: str, style: str | None = None) -> None:
        """Write without a line break."""
        self.out(text, style=style, end="")

    def write_line(self, text: str = "", style: str | None = None) -> None:
        """Write a line."""
        self.out(text, style=style)


@dataclass(slots=True)
class Totals:
    """What a run has used, added up from its events.

    Attributes:
        events: how many there were.
        calls: model calls.
        usage: tokens; None while nobody said.
        cost: US dollars, of the calls whose price is known; None while none is.
        seconds: from the first event to the newest.
    """

    events: int = 0
    calls: int = 0
    usage: Usage | None = None
    cost: float | None = None
    seconds: float = 0.0
    _began: datetime | None = None

    def add(self, event: Event) -> None:
        """Count an event."""
        self.events += 1
        self._began = self._began or event.timestamp
        self.seconds = (event.timestamp - self._began).total_seconds()
        if isinstance(event, LLMCall):
            self.calls += 1
        elif isinstance(event, LLMResponse):
            if event.usage is not None:
                self.usage = (self.usage or Usage()) + event.usage
            if event.cost is not None:
                self.cost = (self.cost or 0.0) + event.cost

    def __str__(self) -> str:
        """For example "2 model calls · 214 tokens in, 36 out · cost unknown · 1.4 s"."""
        usage = self.usage
        tokens = (
            f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out" if usage else "tokens unknown"
        )
        return f"{counted(self.calls, 'model call')} · {tokens} · {dollars(self.cost)} · {duration(self.seconds)}"


class Screen:
    """Shows runs as they happen.

    Args:
        terminal: where.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._width = max(40, min(_RESULT, terminal.width - 30)) if terminal.is_terminal else _RESULT
        self._totals = Totals()
        self._block: _Block = ""
        self._at_start = True
        self._hint = False
        self._said = False
        self._open: dict[str, str] = {}
        self._newest_call = ""

    def show(self, event: Event) -> None:
        """Show one event, and count it."""
        if not event.path and isinstance(event, StatusUpdate) and event.status.state == "working":
            self._totals = Totals()
        self._totals.add(event)
        self._erase_hint()
        match event:
            case LLMCall():
                self._said = False
                self._wait_for(event.model or "the model")
            case ContentDelta():
                self._said = True
                self._stream("text", event.delta)
            case ThoughtDelta():
                self._stream("thought", event.delta, "dim")
            case LLMRetry():
                self._again(event)
            case ContentReset():
                self._said = False
                self._line("retry", "(the answer starts over)", "yellow")
            case LLMResponse():
                self._answered(event)
            case OutputRejected():
                self._line("retry", f"↻ {one_line(event.problem, _RESULT)}", "yellow")
            case ToolStart() | ToolProgress() | ToolComplete() | ArtifactUpdate():
                self._tool(event)
            case InputRequired():
                self._question(event)
            case StatusUpdate(final=True) if not event.path:
                self._ended(event)
            case _:
                pass

    def _tool(self, event: ToolStart | ToolProgress | ToolComplete | ArtifactUpdate) -> None:
        match event:
            case ToolStart():
                call = f"{plain(event.tool_name)}({arguments(event.arguments)})"
                self._open[event.call_id] = shortened(call, _LABEL)
                self._newest_call = event.call_id
                self._line("tool", f"🔧 {call}", "cyan")
            case ToolProgress():
                self._line("tool", f"   {self._whose(event.call_id)}{progress(event)}", "dim")
            case ToolComplete():
                whose = self._whose(event.call_id)
                self._open.pop(event.call_id, None)
                if event.error:
                    text, style = f"✘ {one_line(event.error.message, _RESULT)}", "red"
                else:
                    text, style = f"→ {one_line(render(event.result), self._width)}", None
                self._line("tool", f"   {whose}{text}", style, end="")
                self._terminal.write_line(f"  {duration(event.seconds)}", "dim")
            case ArtifactUpdate():
                artifact = event.artifact
                self._line("tool", f"   📄 {plain(artifact.name or artifact.artifact_id)}", "dim")

    def _answered(self, event: LLMResponse) -> None:
        """What was not streamed, and why an answer ended early."""
        if not self._said and event.message.text:
            self._stream("text", event.message.text)
        if event.finish_reason == "length":
            self._line("text", "(cut: the answer reached its length limit)", "yellow")
        elif event.finish_reason == "content_filter":
            self._line("text", "(cut by the provider's content filter)", "yellow")

    def _again(self, event: LLMRetry) -> None:
        """Why a request failed, and when or of whom the next is made."""
        other = plain(event.next_model) if event.next_model != event.model else ""
        why = plain(event.error.type)
        if other and not event.seconds:
            self._line("retry", f"→ {why}, falling back to {other}", "yellow")
        else:
            of = f" from {other}" if other else ""
            self._line("retry", f"↻ {why}, again{of} in {duration(event.seconds)}", "yellow")
        self._wait_for(event.next_model or "the model")

    def _question(self, event: InputRequired) -> None:
        options = f" [{' | '.join(event.options)}]" if event.options else ""
        asked = event.prompt or f"{event.tool_name or 'the task'} needs {event.input_type}"
        self._line("tool", f"❓ {plain(asked + options)}", "yellow")
        self._line("tool", f"   input id: {plain(event.input_id)}", "yellow")

    def _ended(self, event: StatusUpdate) -> None:
        self._fresh_line()
        state = event.status.state
        sign, style = _ENDS.get(state, ("✘", "red"))
        if self._totals.events > 2:
            self._terminal.write_line()
        self._terminal.write(f"{sign} {state}", style)
        self._terminal.write_line(f" · {self._totals}", "dim")
        self._block = ""
        self._open.clear()

    def _whose(self, call_id: str) -> str:
        """Which call a line is about, where several are open or the newest line was another's."""
        clear = len(self._open) == 1 and self._newest_call == call_id
        self._newest_call = call_id
        return "" if clear else f"{self._open.get(call_id, '')}: "

    def _stream(self, block: _Block, text: str, style: str | None = None) -> None:
        self._turn_to(block)
        text = plain(text)
        self._terminal.write(text, style)
        self._at_start = text.endswith("\n")

    def _line(self, block: _Block, text: str, style: str | None = None, *, end: str = "\n") -> None:
        self._turn_to(block)
        self._fresh_line()
        self._terminal.write(text, style)
        self._terminal.write(end)

    def _turn_to(self, block: _Block) -> None:
        """Between text, thoughts and tools stands an empty line."""
        if self._block and self._block != block:
            self._fresh_line()
            self._terminal.write_line()
        self._block = block

    def _fresh_line(self) -> None:
        if not self._at_start:
            self._terminal.write_line()
        self._at_start = True

    def _wait_for(self, model: str) -> None:
        """A hint that goes away with the next event; on a terminal only."""
        if self._terminal.is_terminal and not self._terminal.is_dumb_terminal:
            self._fresh_line()
            self._terminal.write(f"⋯ {plain(model)}", "dim")
            self._hint = True

    def _erase_hint(self) -> None:
        if self._hint:
            self._terminal.file.write("\r\x1b[2K")
            self._hint = False


def json_lines(out: BinaryIO) -> Callable[[Event], None]:
    """Shows each event as one line of JSON, at once."""

    def show(event: Event) -> None:
        out.write(dumps(event) + b"\n")
        out.flush()

    return show


def plain(text: str) -> str:
    """Text that cannot command the terminal: a model or a tool may have written anything."""
    return text.translate(_CONTROL)


_CONTROL = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (*range(0x20), *range(0x7F, 0xA0))
    if chr(code) not in "\n\t"
}
_CONTROL[ord("\r")] = ""


def one_line(text: str, most: int) -> str:
    """Text on one line, cut to so many characters with its whole size."""
    shown = plain(text[: most + 1]).strip().replace("\n", " ⏎ ")
    return shown if len(text) <= most else f"{shown[:most]}… ({len(text):,} characters)"


def shortened(text: str, most: int) -> str:
    """Text cut to so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def arguments(values: dict[str, JSON]) -> str:
    """A call's arguments as Python would write them, each shortened."""
    return ", ".join(f"{plain(name)}={_argument(value)}" for name, value in values.items())


def _argument(value: JSON) -> str:
    return shortened(plain(json.dumps(value, ensure_ascii=False)), _ARGUMENT)


def progress(event: ToolProgress) -> str:
    """How far a tool is, for example "40 % · reading"."""
    share = "" if event.progress is None else f"{event.progress:.0%}".replace("%", " %")
    data = "" if event.data is None else one_line(render(event.data), _RESULT)
    return " · ".join(part for part in (share, one_line(event.note, _RESULT), data) if part) or "…"
