"""Logs of runs: a fold of each run's events into records of the standard library's logger `looopy.run`.

Silent until the program configures logging: nothing is printed, also no warning. What is said in a conversation is never logged: no prompt,
no argument, no result. Errors of tools, servers and plugs may quote them, so of what failed only its kind is told, and looopy's own words for it,
in one line and without credentials.

Each line begins with the agent and the task, so that lines of several runs can be told apart in any format, for example

    clerk 3f2a91: model call 1 ended: tool_calls, gpt-4o-mini, 0.52 s, 50 + 10 tokens, 0.0002 USD

Each record has the attributes named in `FIELDS`, and those in `MEASURES` where something was measured, for formatters that write JSON.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from looopy.errors import LimitExceeded
from looopy.events import (
    BLANK,
    ContentDelta,
    Event,
    Failure,
    InputReceived,
    InputRequired,
    LLMCall,
    LLMResponse,
    LLMRetry,
    StatusUpdate,
    Task,
    ThoughtDelta,
    ToolCallDelta,
    ToolComplete,
    ToolProgress,
    ToolStart,
)
from looopy.messages import Usage
from looopy.observe import reasons
from looopy.observe.outcomes import CANCELED, duration, elapsed, outcome
from looopy.observe.pictures.figures import harmless
from looopy.observe.shown import short, tool_name

FIELDS = (
    "event",
    "task_id",
    "context_id",
    "agent_id",
    "iteration",
    "call_id",
    "tool_name",
    "model",
    "trace_id",
    "span_id",
)
"""On every record, so that a format may name them; `event` is the event's kind. Empty, or 0, where there is none."""

MEASURES = ("outcome", "error_type", "seconds", "input_tokens", "output_tokens", "cost")
"""On the records of what ended: a model call, a tool call or a run; None for what nobody knows. A retry has its `error_type`."""

_SHORT = 16  # characters of a task's id that are shown as they are; of a longer one, six

logger = logging.getLogger("looopy.run")
# Of this logger alone: what `looopy.observe` warns of, that traces do not arrive, must be seen in a program that configures nothing.
logger.addHandler(logging.NullHandler())


def heard() -> bool:
    """Whether anybody listens to the log of runs: a handler that does something, on the logger or above it."""
    above: logging.Logger | None = logger
    while above is not None:
        for handler in above.handlers:
            if not isinstance(handler, logging.NullHandler):
                return True
        above = above.parent if above.propagate else None
    return False


class RunLog:
    """One run's log: give it each event, and call `end` when the stream is torn down, whether or not it came to its end.

    | level | what |
    |---|---|
    | DEBUG | a model call or a tool call begins; an answer to a question came |
    | INFO | a run begins or ends, also by a cancel; a model call or a tool call ends; a question is asked |
    | WARNING | a tool failed; a request to a model failed and another is made; a limit ended the run; the run was abandoned |
    | ERROR | anything else ended the run early |

    Args:
        agent: the agent's id.
        trace_id: of the run's trace, 32 hex digits; empty for none.
        span_id: of the run's span, 16 hex digits; empty for none.
    """

    __slots__ = ("_agent", "_began", "_called", "_calls", "_cost", "_fields", "_model", "_started", "_usage")

    def __init__(self, *, agent: str, trace_id: str = "", span_id: str = "") -> None:
        self._fields: dict[str, object] = dict.fromkeys(FIELDS, "")
        self._fields |= {"agent_id": agent, "iteration": 0, "trace_id": trace_id, "span_id": span_id}
        self._agent = harmless(short(agent))
        self._model = ""
        self._began: Event | None = None  # None also after the end
        self._called = BLANK
        self._calls = 0
        self._started: dict[str, datetime] = {}
        self._usage: Usage | None = None
        self._cost: float | None = None

    def on_event(self, event: Event) -> None:
        """Fold one event in. Pieces change nothing: what they add up to comes again as a whole."""
        match event:
            case ContentDelta() | ThoughtDelta() | ToolCallDelta() | ToolProgress():
                pass  # first, since there are thousands
            case LLMCall():
                self._call(event)
            case LLMRetry():
                self._again(event)
            case LLMResponse():
                self._answered(event)
            case ToolStart():
                self._started[event.call_id] = event.timestamp
                self._log(logging.DEBUG, event, "tool %r begins", tool_name(event.tool_name))
            case ToolComplete():
                self._tool_over(event)
            case InputRequired():
                self._started.pop(event.call_id, None)
                name = tool_name(event.tool_name)
                self._log(logging.INFO, event, "tool %r asks for a %s", name, event.input_type)
            case InputReceived():
                self._begin(event, "run goes on")
                self._log(logging.DEBUG, event, "an answer came")
            case StatusUpdate(final=True):
                self._over(event)
            case StatusUpdate():
                self._begin(event, "run goes on")
            case Task():
                self._begin(event, "run begins")
            case _:
                pass

    def end(self) -> None:
        """The stream is torn down: a run that has not ended by then is abandoned. Later calls do nothing."""
        began, self._began = self._began, None
        if began is not None:
            self._log(logging.WARNING, began, "run abandoned: its events stopped before its end")

    # -- the run

    def _begin(self, event: Event, what: str) -> None:
        if self._began is None:
            self._began = event
            self._log(logging.INFO, event, what)

    def _over(self, event: StatusUpdate) -> None:
        began, self._began = self._began, None
        state, error = event.status.state, event.error
        level = _level(error)
        if began is None or not logger.isEnabledFor(level):
            return
        seconds = elapsed(began.timestamp, event.timestamp)
        told = "waits for an answer" if state == "input-required" else state
        calls = f"{self._calls} model call{'' if self._calls == 1 else 's'}"
        spent = _spent(seconds, self._usage, self._cost)
        measures = _measures(state, seconds, error=error, usage=self._usage, cost=self._cost)
        if error is None:
            self._log(level, event, "run %s: %s, %s", told, calls, spent, **measures)
        else:
            why = reasons.told(error)
            self._log(level, event, "run %s: %s, %s; %s", told, calls, spent, why, **measures)

    # -- its calls

    def _call(self, event: LLMCall) -> None:
        self._called = event.timestamp
        self._calls += 1
        self._fields["iteration"] = event.iteration
        self._model = event.model
        what = "model call %d begins: %s%d messages, %d tools"
        asked = _part(event.model)
        self._log(logging.DEBUG, event, what, event.iteration, asked, event.messages, event.tools)

    def _again(self, event: LLMRetry) -> None:
        self._called = event.timestamp + timedelta(seconds=event.seconds)
        if not logger.isEnabledFor(logging.WARNING):
            return
        whom = "again" if event.next_model == event.model else short(event.next_model)
        self._log(
            logging.WARNING,
            event,
            "model call %d: request %d failed, asks %s in %.2f s; %s",
            self._fields["iteration"],
            event.attempt,
            whom,
            event.seconds,
            reasons.told(event.error),
            error_type=reasons.kind(event.error),
        )

    def _answered(self, event: LLMResponse) -> None:
        usage, cost = event.usage, event.cost
        if usage is not None:
            self._usage = usage if self._usage is None else self._usage + usage
        if cost is not None:
            self._cost = cost + (self._cost or 0.0)
        if not logger.isEnabledFor(logging.INFO):
            return
        seconds = duration(self._called, event)
        self._log(
            logging.INFO,
            event,
            "model call %d ended: %s, %s%s",
            self._fields["iteration"],
            event.finish_reason,
            _part(event.model or self._model),
            _spent(seconds, usage, cost),
            **_measures(event.finish_reason, seconds, usage=usage, cost=cost),
        )

    def _tool_over(self, event: ToolComplete) -> None:
        started = self._started.pop(event.call_id, None)
        if started is None:  # it was never taken up: the run ended before
            return
        how, seconds = outcome(event.error), duration(started, event)
        level = logging.WARNING if how == "failed" else logging.INFO
        if not logger.isEnabledFor(level):
            return
        told = f"{how}, {reasons.kind(event.error)}" if event.error else how
        measures = _measures(how, seconds, error=event.error)
        known = event.error is None or event.error.type != "UnknownTool"
        name = tool_name(event.tool_name) if known else "_unknown"
        self._log(level, event, "tool %r ended: %s, %.2f s", name, told, seconds, tool_name=name, **measures)

    def _log(self, level: int, event: Event, what: str, *args: object, **measures: object) -> None:
        if not logger.isEnabledFor(level):
            return
        extra = {
            **self._fields,
            "event": event.kind,
            "task_id": event.task_id,
            "context_id": event.context_id,
            "call_id": short(getattr(event, "call_id", "")),
            "tool_name": tool_name(name) if (name := getattr(event, "tool_name", "")) else "",
            "model": short(getattr(event, "model", "")),
            **measures,
        }
        line = f"%s %s: {what}"
        logger.log(level, line, self._agent, _short(event.task_id), *args, extra=extra)


def _level(error: Failure | None) -> int:
    """How bad it is that a run ended so."""
    if error is None or error.type == CANCELED:
        return logging.INFO
    return logging.WARNING if error.type == LimitExceeded.__name__ else logging.ERROR


def _short(task_id: str) -> str:
    """Enough of an id to tell it from others."""
    return harmless(task_id if len(task_id) <= _SHORT else task_id[:6])


def _part(model: str) -> str:
    """A model's name as one thing of several; empty where nobody said it."""
    return f"{harmless(short(model))}, " if model else ""


def _spent(seconds: float, usage: Usage | None, cost: float | None) -> str:
    """Time, tokens and money, as far as they are known."""
    tokens = f", {usage.input_tokens} + {usage.output_tokens} tokens" if usage else ""
    money = f", {cost:.6g} USD" if cost is not None else ""
    return f"{seconds:.2f} s{tokens}{money}"


def _measures(
    how: str,
    seconds: float,
    *,
    error: Failure | None = None,
    usage: Usage | None = None,
    cost: float | None = None,
) -> dict[str, object]:
    """The values of `MEASURES`, in their order."""
    kind = reasons.kind(error) if error else ""
    tokens = (usage.input_tokens, usage.output_tokens) if usage else (None, None)
    return dict(zip(MEASURES, (how, kind, seconds, *tokens, cost), strict=True))
