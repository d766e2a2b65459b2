"""The spans of one run: opened and closed by its events, each with an explicit parent.

    invoke_agent {agent}
    └── agent.iteration             one for each model call, with the tools that it asks for
        ├── chat {model}            CLIENT; the current span while the model is asked
        │   └── attempt {model}     one for each attempt that failed before another took over
        └── execute_tool {tool}     the current span while the tool runs, so that agents and requests in it come below

No span is current across a turn of the loop: model and tools are subscribed in a copy of the run's context in which theirs is, and that copy
is theirs alone. So a `break`, a dispose, another thread or another loop can mix nothing up. OpenTelemetry's API only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context as Variables
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import repeat
from threading import RLock
from typing import ClassVar

from opentelemetry import trace
from opentelemetry.trace import SpanKind, TraceFlags

from looopy.errors import TaskCanceled
from looopy.events import (
    Event,
    Failure,
    InputRequired,
    LLMCall,
    LLMResponse,
    LLMRetry,
    StatusUpdate,
    Task,
    ToolComplete,
    ToolStart,
)
from looopy.messages import JSON, Message, ToolCall, Usage
from looopy.observe import attributes as a
from looopy.observe import sayings
from looopy.observe.asked import Asked
from looopy.observe.carried import by_run, by_tool, in_tool, inherited
from looopy.observe.content import Content, heavy, told
from looopy.observe.faults import Faults
from looopy.observe.opened import Opened, Tracer, within
from looopy.observe.outcomes import failed
from looopy.observe.reasons import ABANDONED, kind
from looopy.observe.shown import short, tool_name
from looopy.observe.wrapped import WatchedModel, WatchedTools
from looopy.ports import LLMRequest, ToolDefinition, below
from looopy.setup import Setup
from looopy.state import LoopState
from looopy.watcher import Caller

_ABANDONED = Failure(type=ABANDONED, message="recording stopped before the run was over")
_INTERNAL, _CLIENT = SpanKind.INTERNAL, SpanKind.CLIENT  # an enum's members are functions in Python
_CANCELING = (_ABANDONED.type, TaskCanceled.__name__)


@dataclass(slots=True, kw_only=True)
class Spans:
    """How runs are recorded.

    Attributes:
        tracer: makes the spans.
        faults: what was kept from runs.
        content: what of the conversation goes on them; None for nothing.
        legacy: also the names of before 2025, for dashboards that ask for them.
    """

    tracer: Tracer
    faults: Faults
    content: Content | None = None
    legacy: bool = False
    asked: Asked = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.asked = Asked(legacy=self.legacy)

    def of(self, setup: Setup, state: LoopState, caller: Caller) -> RunSpans:
        """The spans of one execution, whose first one begins now."""
        return RunSpans(self, setup, state, caller)


class RunSpans:
    """The spans of one execution.

    Attributes:
        trace_id: the trace, as 32 hex digits; the caller's where there is no SDK to make one.
    """

    __slots__ = (
        "_answer",
        "_asked_for",
        "_attempt",
        "_attempt_began",
        "_chat",
        "_common",
        "_cost",
        "_heavy",
        "_iteration",
        "_iterations",
        "_lock",
        "_looked_at",
        "_offered",
        "_over",
        "_provider",
        "_root",
        "_shown",
        "_spans",
        "_task_id",
        "_tools",
        "_used",
        "trace_id",
    )

    def __init__(self, spans: Spans, setup: Setup, state: LoopState, caller: Caller) -> None:
        self._spans = spans
        self._lock = RLock()  # whoever stops the recording may be in another thread than the run
        self._provider = setup.llm_provider
        agent = short(state.agent_id)
        self._common: a.Attributes = {
            a.AGENT_NAME: agent,
            a.CONVERSATION: state.context_id,
            a.TASK: state.task_id,
        }
        # An agent that a tool calls is part of its caller's session: a trace has but one.
        above = inherited(caller.context)
        session = state.session_id or above.get(a.SESSION) or above.get(a.CONVERSATION)
        if session and session != state.context_id:
            self._common[a.SESSION] = session
        if user := short(state.user_id) or above.get(a.USER):
            self._common[a.USER] = user
        if tags := tuple(map(short, state.tags)) or above.get(a.TAGS):
            self._common[a.TAGS] = tags
        if spans.legacy:
            self._common |= sayings.whose_before(self._common)
        model = str(getattr(setup.llm_provider, "model", ""))
        self._heavy = False
        self._root = spans.tracer.begin(
            f"invoke_agent {agent}",
            caller.context,
            _INTERNAL,
            (self._common, _agent(agent, model)),
        )
        self._root.keep(by_run(state.task_id, self._common))
        self._task_id = state.task_id
        recording = self._root.span.is_recording()  # else the sampler left the trace out, or there is no SDK
        self._shown = spans.content.transcript() if spans.content and recording else None
        self._over = not recording
        self._looked_at = 0
        self._iteration: Opened | None = None
        self._iterations = state.iteration
        self._chat: Opened | None = None
        self._asked_for = ""
        self._attempt, self._attempt_began = 1, 0
        self._tools: dict[str, Opened] = {}
        self._offered: Sequence[ToolDefinition] = ()
        self._used: list[Usage] = []
        self._cost: float | None = None
        self._answer: Message | None = None
        here = self._root.context
        self.trace_id = f"{here.trace_id:032x}" if here.is_valid else caller.trace_id

    def plugs(self, setup: Setup) -> Mapping[str, object]:
        """The model and the tools of a setup, so wrapped that each call sees its span as the current one."""
        return {
            "llm_provider": WatchedModel(setup.llm_provider, self),
            "tool_providers": tuple(map(WatchedTools, setup.tool_providers, repeat(self))),
        }

    @property
    def faults(self) -> Faults:
        """What was kept from the run."""
        return self._spans.faults

    @property
    def span_id(self) -> str:
        """The agent's span, as 16 hex digits; the caller's where no spans are made, and empty where there is none."""
        here = self._root.context
        return trace.format_span_id(here.span_id) if here.is_valid else ""

    @property
    def recorded(self) -> bool:
        """Whether the sampler took the trace."""
        return self._root.context.trace_flags.sampled

    def within(self) -> Variables:
        """A context in which the agent's span is the current one."""
        return within(self._root.inside)

    # ----------------------------------------------------------------------------------------------------- what events open and close

    def on_event(self, event: Event) -> None:
        """Open or close what an event stands for."""
        fold = self._FOLDS.get(type(event))
        if fold is not None:
            with self._lock:
                if not self._over:
                    fold(self, event)

    def end(self, failure: Failure = _ABANDONED) -> None:
        """End what is open, since no event will say any more how the run ended. From any thread."""
        with self._lock:
            if not self._over:
                self._close(failure, "canceled" if failure.type in _CANCELING else "failed")

    def _weigh(self, given: Message | JSON) -> None:
        """Look whether something is too large to wait until it is sent: then it is cut now, as is all that comes after it."""
        if self._shown is not None and not self._heavy and heavy(given):
            self._heavy = True
            for span in self._all_open():
                span.say_at_once()

    def _all_open(self) -> list[Opened]:
        """The spans that are open, the lowest first."""
        some = (*self._tools.values(), self._chat, self._iteration, self._root)
        return [each for each in some if each is not None]

    def _asked(self, event: Task) -> None:
        self._weigh(event.prompt)
        if event.metadata:
            self._root.say(sayings.metadata, event.metadata)
        if self._shown is not None and event.prompt is not None:
            self._root.say(sayings.question, event.prompt, self._shown)

    def _called(self, event: LLMCall) -> Opened:
        if self._iteration is not None:
            self._iteration.over()
        self._iterations = event.iteration
        return self._begin_iteration()

    def _begin_iteration(self) -> Opened:
        self._iteration = self._root.below(
            self._spans.tracer,
            "agent.iteration",
            _INTERNAL,
            (self._common, _chain(self._iterations)),
            {},
        )
        return self._iteration

    @property
    def _around(self) -> Opened:
        """What a call comes below: the iteration; of a resumed task, one that began in an earlier stream."""
        return self._iteration or self._begin_iteration()

    # -- the model

    def chat(self, request: LLMRequest) -> tuple[LLMRequest, Opened | None, Variables]:
        """A model is asked: the request as it shall be sent, its span, and the context to send it in."""
        with self._lock:
            if not self._over:
                return self._ask(request)
        return self._under(request, self._root), None, copy_context()

    def _ask(self, request: LLMRequest) -> tuple[LLMRequest, Opened, Variables]:
        self._offered = request.tools
        model = request.model or str(getattr(self._provider, "model", ""))
        steady = (self._common, self._spans.asked.of(self._provider, model, request))
        attributes: a.Attributes = {}
        if request.prompt_name and request.prompt_version is not None:
            attributes[a.PROMPT_NAME] = request.prompt_name
            attributes[a.PROMPT_VERSION] = request.prompt_version
        self._asked_for = model
        name = f"chat {model}" if model else "chat"
        chat = self._around.below(self._spans.tracer, name, _CLIENT, steady, attributes)
        self._chat = chat
        if self._shown is not None:
            messages, before = request.messages, self._looked_at
            for message in messages[before if before <= len(messages) else 0 :]:
                if message is not self._answer and not (before and message.role == "tool"):
                    self._weigh(message)  # else it was when its event came
            self._looked_at = len(messages)
            chat.say(sayings.request, messages, request.tools, self._shown, self._spans.legacy)
        self._attempt, self._attempt_began = 1, time.time_ns()
        return self._under(request, chat), chat, within(chat.inside)

    def _under(self, request: LLMRequest, span: Opened) -> LLMRequest:
        """The request as a part of a span, which the proxy will be told of."""
        _, span_id, _, flags, _, valid = span.context  # its properties are functions in Python
        if not valid:
            return request
        return below(
            request,
            trace_id=self.trace_id,
            span_id=f"{span_id:016x}",
            sampled=bool(flags & TraceFlags.SAMPLED),
        )

    def _answered(self, event: LLMResponse) -> None:
        self._weigh(event.message)
        self._answer = event.message
        if event.usage is not None:
            self._used.append(event.usage)
        if event.cost is not None:
            self._cost = (self._cost or 0.0) + event.cost
        if (chat := self._chat) is None:
            return
        try:
            chat.say(sayings.answer, event, self._shown, self._attempt, self._spans.legacy)
            if event.model and not self._asked_for:
                chat.span.update_name(f"chat {short(event.model)}")
        finally:
            if event.finish_reason != "interrupted":  # else the final status says why
                chat.over()
                self._chat = None

    def _failed_attempt(self, event: LLMRetry) -> None:
        """A span for what has been tried: it began with the attempt and is over."""
        if self._chat is None:
            return
        now = time.time_ns()
        name = f"attempt {short(event.model)}" if event.model else "attempt"
        attributes: a.Attributes = {**self._common, **sayings.attempt(event)}
        span = self._spans.tracer.start_span(
            name, self._chat.inside, attributes=attributes, start_time=self._attempt_began
        )
        self._attempt, self._attempt_began = self._attempt + 1, now + round(event.seconds * 1e9)
        try:
            span.set_status(failed(told(event.error, self._shown)))
        finally:
            self._spans.tracer.end_span(span, now)

    @property
    def _attempts(self) -> int:
        """How many were made: the one that was waited for is none yet."""
        return self._attempt - (self._attempt_began > time.time_ns())

    # -- the tools

    def tool(self, call: ToolCall) -> tuple[Opened | None, Variables]:
        """A tool is run: its span, and the context to run it in."""
        tool = self._tools.get(call.id)
        if tool is not None:
            return tool, within(tool.inside)
        return None, in_tool(self._task_id, call.id)

    def _begin_tool(self, event: ToolStart) -> None:
        name = tool_name(event.tool_name)
        tool = self._around.below(
            self._spans.tracer,
            f"execute_tool {name}",
            _INTERNAL,
            (self._common, _executes(name)),
            {},
        )
        tool.keep(by_tool(self._task_id, event.call_id))
        self._tools[event.call_id] = tool
        tool.say(sayings.tool, event, self._shown, self._offered)

    def _end_tool(self, event: ToolComplete) -> None:
        self._weigh(event.result if event.error is None else event.error.message)
        if (tool := self._tools.pop(event.call_id, None)) is not None:
            try:
                self._say_outcome(tool, event)
            finally:
                tool.over()

    def _say_outcome(self, tool: Opened, event: ToolComplete) -> None:
        if event.error is not None:
            tool.span.set_status(failed(told(event.error, self._shown, by_tool=True)))
            tool.span.set_attribute(a.ERROR, kind(event.error))
            if event.error.type == "UnknownTool":  # nor is a name that looks like one
                tool.span.update_name("execute_tool _unknown")
                tool.span.set_attribute(a.TOOL, "_unknown")
            if event.error.type == TaskCanceled.__name__:
                tool.span.set_attributes(_CANCELED)
        elif self._shown is not None:
            tool.say(sayings.result, event.result, self._shown)

    def _waits(self, event: InputRequired) -> None:
        if (tool := self._tools.pop(event.call_id, None)) is not None:
            try:
                tool.span.set_attribute(a.STATUS, "input-required")
            finally:
                tool.over()

    # -- the end

    def _end(self, event: StatusUpdate) -> None:
        if not event.final:
            return
        try:
            state, answer = event.status.state, self._answer
            self._root.say(sayings.ending, state, self._used, self._cost, self._iterations)
            if self._shown is not None and answer is not None and answer.text:
                self._root.say(sayings.last_words, state, answer, self._shown)
        finally:
            self._close(event.error, event.status.state)

    def _close(self, failure: Failure | None, state: str) -> None:
        self._over = True
        status = failed(told(failure, self._shown)) if failure else None
        for each in self._all_open():
            try:
                if each is self._chat and self._attempts > 1:
                    each.span.set_attribute(a.ATTEMPTS, self._attempts)
                if failure is not None and status is not None:
                    each.span.set_status(status)
                    each.span.set_attributes({a.ERROR: kind(failure), a.STATUS: state})
                    if state == "canceled":
                        each.span.set_attributes(_CANCELED)
            except Exception as error:
                self.faults.caught("a span could not say how it ended", error)
            finally:
                each.over()
        self._tools.clear()
        self._chat = self._iteration = None
        if self._heavy and self._shown is not None:
            self._shown.forget()

    _FOLDS: ClassVar[Mapping[type, Callable[..., object]]] = {
        Task: _asked,
        LLMCall: _called,
        LLMRetry: _failed_attempt,
        LLMResponse: _answered,
        ToolStart: _begin_tool,
        ToolComplete: _end_tool,
        InputRequired: _waits,
        StatusUpdate: _end,
    }
    """What each kind of event does: looked up, since asking for one type after the other is half the cost."""


# What many spans say in the same words: the same mapping for all of them, which is written once for each batch.


@lru_cache(maxsize=256)
def _agent(name: str, model: str) -> a.Attributes:
    said: a.Attributes = {
        a.OPERATION: "invoke_agent",
        a.PROVIDER: a.provider_name(model),
        a.AGENT_ID: name,
    }
    return said | {a.MODEL: model} if model else said


@lru_cache(maxsize=256)
def _chain(iteration: int) -> a.Attributes:
    return {a.KIND: "chain", a.PHOENIX_KIND: "CHAIN", a.ITERATION: iteration}


@lru_cache(maxsize=256)
def _executes(tool: str) -> a.Attributes:
    return {a.OPERATION: "execute_tool", a.TOOL_TYPE: "function", a.TOOL: tool}


_CANCELED: a.Attributes = {a.STATUS: "canceled", a.LEVEL: "WARNING"}
