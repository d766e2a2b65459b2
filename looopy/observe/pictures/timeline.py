"""Events as a tree of spans: what ran within what, from when to when, and what it cost.

A pure fold that takes any events: cut, shuffled, of several tasks, of another version; what is missing is made up from its neighbours. No
OpenTelemetry here, only the names that its traces have. `picture.py` draws the tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from looopy.events import (
    ContentDelta,
    Event,
    Failure,
    InputRequired,
    LLMCall,
    LLMResponse,
    LLMRetry,
    Status,
    StatusUpdate,
    Task,
    TaskState,
    ThoughtDelta,
    ToolCallDelta,
    ToolComplete,
    ToolStart,
)
from looopy.messages import Usage

SpanKind: TypeAlias = Literal["agent", "iteration", "chat", "tool"]

SpanStatus: TypeAlias = Literal["ok", "error", "canceled", "waiting", "open"]
"""How a span ended; `open`: no end was seen, since it still runs or the record is cut."""

DEEPEST = 16
"""Agents within agents that are shown within each other; deeper ones stand beside each other, so that any record makes a tree one can walk."""

_ENDS: dict[TaskState, SpanStatus] = {
    "completed": "ok",
    "canceled": "canceled",
    "input-required": "waiting",
    "auth-required": "waiting",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST = 1e9  # seconds, dollars or tokens that one event may claim; more is nonsense


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What somebody knows of a task beside its events.

    Attributes:
        agent: who works on it.
        iterations: how many it had had when the events begin.
        trace_id: the trace that it is recorded in.
        parent: the task from which it was begun, if that is to be a part of the same tree; empty for none.
        call_id: the tool call of that task which began it; empty for one that nobody knows.
    """

    agent: str = ""
    iterations: int = 0
    trace_id: str = ""
    parent: str = ""
    call_id: str = ""


_UNKNOWN = Origin()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A request of a model call that came to nothing.

    Attributes:
        error: why.
        then: the model that was asked next, if it was another; empty if it was the same.
    """

    error: Failure
    then: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time in which something was done.

    Attributes:
        kind: an agent's stream, one of its iterations, a model call, or a tool call.
        name: as traces name it: "invoke_agent math", "agent.iteration", "chat gpt-4o", "execute_tool search".
        start: seconds since 1970.
        end: seconds since 1970, not before `start`; of an open span: until when it was seen.
        status: how it ended.
        error: why it failed or was canceled.
        task_id: of an agent: its task.
        trace_id: of an agent: the trace that its task is recorded in; empty where nobody knows.
        resumed: of an agent: whether the task went on here after it had waited or been cut.
        iteration: of an iteration: 1 for the first; 0 when nobody said.
        model: of a chat: the model that answered, or else was asked.
        retries: of a chat: each request but the last.
        first_token: of a chat: seconds from its start to its first piece; None while there was none.
        usage: of a chat: tokens; None when nobody said.
        cost: of a chat: US dollars; None when nobody knows.
        children: what ran within, in the order of beginning.
    """

    kind: SpanKind
    name: str
    start: float
    end: float
    status: SpanStatus = "ok"
    error: Failure | None = None
    task_id: str = ""
    trace_id: str = ""
    resumed: bool = False
    iteration: int = 0
    model: str = ""
    retries: tuple[Retry, ...] = ()
    first_token: float | None = None
    usage: Usage | None = None
    cost: float | None = None
    children: tuple[Span, ...] = ()

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.start

    def walk(self) -> Iterator[Span]:
        """This span and all within it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


def timeline(
    events: Iterable[Event], *, until: datetime | None = None, origins: Mapping[str, Origin] | None = None
) -> tuple[Span, ...]:
    """The spans of some events, one tree for each stream.

    A stream is a task from its beginning to its final status. A resumed task begins another tree, as it begins another trace: hours may lie
    between the two. An agent that a tool calls lies within that tool's span. The time taken is linear in the number of events.

    Args:
        events: in the order of their happening; others make an odd tree, and never an error.
        until: the present, for what is still open; left out: the newest event.
        origins: what is known of tasks beside their events, by task.
    """
    streams = _Streams(origins or {})
    for event in events:
        streams.add(event)
    now = None if until is None else _seconds_since_1970(until)
    return tuple(_frozen(root, root.end if now is None else max(root.end, now)) for root in streams.roots)


# ------------------------------------------------------------------------------------------------------------------- while folding


@dataclass(slots=True)
class _Growing:
    """A span of which not everything is known yet. `end` is the newest moment seen; the status says whether it has ended."""

    kind: SpanKind
    name: str
    start: float
    end: float
    status: SpanStatus = "open"
    error: Failure | None = None
    task_id: str = ""
    trace_id: str = ""
    resumed: bool = False
    iteration: int = 0
    model: str = ""
    retries: tuple[Retry, ...] = ()
    first_token: float | None = None
    usage: Usage | None = None
    cost: float | None = None
    children: list[_Growing] = field(default_factory=list["_Growing"])

    def close(self, at: float, status: SpanStatus, error: Failure | None = None) -> None:
        """It ended."""
        self.end, self.status, self.error = at, status, error


@dataclass(slots=True)
class _Stream:
    """One stream of one task, and what is open in it.

    `root` is the span of the outermost agent, `beside` the list in which its own stands, `level` how many agents deep that is. `callers` are
    the open tools that have called no agent yet.
    """

    agent: _Growing
    root: _Growing
    beside: list[_Growing]
    level: int
    name: str
    working: bool = False
    over: bool = False
    iterations: int = 0
    iteration: _Growing | None = None
    chat: _Growing | None = None
    tools: dict[str, _Growing] = field(default_factory=dict[str, "_Growing"])
    callers: dict[str, _Growing] = field(default_factory=dict[str, "_Growing"])

    def add(self, event: Event, at: float) -> None:
        match event:
            # First, since there are thousands of them.
            case ContentDelta() | ThoughtDelta() | ToolCallDelta():
                if self.chat is not None and self.chat.first_token is None:
                    self.chat.first_token = max(0.0, at - self.chat.start)
            case LLMCall():
                self._ask(event, at)
            case LLMResponse():
                self._answer(event, at)
            case ToolStart():
                self._call(event.call_id, event.tool_name, at)
            case ToolComplete():
                canceled = event.error is not None and event.error.type == "TaskCanceled"
                status: SpanStatus = "canceled" if canceled else "error" if event.error else "ok"
                began = at - _plausible(event.seconds)
                self._called(event.call_id, event.tool_name, began).close(at, status, event.error)
            case InputRequired():
                self._called(event.call_id, event.tool_name, at).close(at, "waiting")
            case StatusUpdate(final=True):
                self._finish(event, at)
            case StatusUpdate(status=Status(state="working")):
                self.working = True
            case LLMRetry() if self.chat is not None:
                then = event.next_model if event.next_model != event.model else ""
                self.chat.retries += (Retry(error=event.error, then=then),)
            case _:
                pass
        self._seen(at)

    def _seen(self, at: float) -> None:
        for span in (self.root, self.agent, self.iteration):
            if span is not None and span.status == "open":
                span.end = max(span.end, at)

    def _ask(self, event: LLMCall, at: float) -> None:
        if self.iteration is not None:
            self.iteration.close(self.iteration.end, "ok")
        self.iterations = event.iteration
        self.iteration = self._iterate(at)
        self.chat = _Growing("chat", _named("chat", event.model), at, at, model=event.model)
        self.iteration.children.append(self.chat)

    def _answer(self, event: LLMResponse, at: float) -> None:
        chat = self.chat
        if chat is None:  # the record begins in the middle of an answer
            began = at - _plausible(event.seconds)
            chat = _Growing("chat", _named("chat", event.model), began, at)
            self._host(began).children.append(chat)
        chat.end = at
        if not chat.model:  # it was not said who is asked
            chat.name = _named("chat", event.model)
        chat.model = event.model or chat.model
        chat.usage = event.usage if _possible(event.usage) else None
        chat.cost = None if event.cost is None else _plausible(event.cost)
        if chat.first_token is None and event.first_token is not None:
            # Both are counted from the request that was answered: it may not have been the first.
            asked = max(chat.start, at - _plausible(event.seconds))
            chat.first_token = asked - chat.start + _plausible(event.first_token)
        if event.finish_reason != "interrupted":  # else the final status says why
            chat.close(at, "ok")
            self.chat = None

    def _call(self, call_id: str, name: str, at: float) -> _Growing:
        tool = _Growing("tool", _named("execute_tool", name), at, at)
        self._host(at).children.append(tool)
        self.tools[call_id] = self.callers[call_id] = tool
        return tool

    def _called(self, call_id: str, name: str, began: float) -> _Growing:
        tool = self.tools.get(call_id) or self._call(call_id, name, began)
        del self.tools[call_id]
        self.callers.pop(call_id, None)
        return tool

    def _host(self, at: float) -> _Growing:
        """The iteration that goes on; a resumed task takes up the one in which it stopped."""
        if self.iteration is None:
            self.iteration = self._iterate(at)
        return self.iteration

    def _iterate(self, at: float) -> _Growing:
        iteration = _Growing("iteration", "agent.iteration", at, at, iteration=self.iterations)
        self.agent.children.append(iteration)
        return iteration

    def _finish(self, event: StatusUpdate, at: float) -> None:
        self.over = True
        status = _ENDS.get(event.status.state, "error")
        under_way = self.chat is not None or bool(self.tools)
        if self.chat is not None:
            self.chat.close(at, status, event.error)
        for tool in self.tools.values():
            tool.close(at, status)
        if self.iteration is not None:  # one in which all was done did not fail with the task
            self.iteration.close(at, status if under_way or status == "waiting" else "ok")
        self.agent.close(at, status, event.error)

    def calling(self, agent: str, call_id: str) -> _Growing:
        """Where an agent that is called from here belongs.

        The tool that is known to have called it; or else the one that bears its name, or else the first that has called none yet.
        """
        if (tool := self.tools.get(call_id)) is not None:
            self.callers.pop(call_id, None)
            return tool
        named = _named("execute_tool", agent)
        fitting = (call_id for call_id, tool in self.callers.items() if tool.name == named)
        likely = next(fitting, None) or next(iter(self.callers), None)
        return self.iteration or self.agent if likely is None else self.callers.pop(likely)


class _Streams:
    """The streams of a record."""

    def __init__(self, origins: Mapping[str, Origin]) -> None:
        self.roots: list[_Growing] = []
        self._origins = origins
        self._newest: dict[str, _Stream] = {}

    def add(self, event: Event) -> None:
        at = _seconds_since_1970(event.timestamp)
        stream = self._newest.get(event.task_id)
        if stream is None or stream.over or _begins(event, stream):
            stream = self._newest[event.task_id] = self._begin(event, at, stream)
        stream.add(event, at)

    def _begin(self, event: Event, at: float, before: _Stream | None) -> _Stream:
        origin = self._origins.get(event.task_id)
        name = event.agent_id if isinstance(event, Task) else before.name if before else ""
        name = name or (origin.agent if origin else "") or (event.path[-1] if event.path else "")
        resumed = not isinstance(event, Task) and (before is not None or origin is not None)
        origin = origin or _UNKNOWN
        agent = _Growing(
            "agent",
            _named("invoke_agent", name),
            at,
            at,
            task_id=event.task_id,
            trace_id=origin.trace_id,
            resumed=resumed,
        )
        parent = event.parent_task_id or origin.parent
        caller = self._newest.get(parent) if parent and parent != event.task_id else None
        if caller is None:
            root, beside, level = agent, self.roots, 1
        elif caller.level < DEEPEST:
            root, beside, level = caller.root, caller.calling(name, origin.call_id).children, caller.level + 1
        else:
            root, beside, level = caller.root, caller.beside, caller.level
        beside.append(agent)
        iterations = (origin if before is None else before).iterations if resumed else 0
        return _Stream(agent, root, beside, level, name, iterations=iterations)


def _begins(event: Event, stream: _Stream) -> bool:
    """Whether an event opens another stream of a task whose last one has no end: the process that worked on it died."""
    working = isinstance(event, StatusUpdate) and event.status.state == "working"
    return isinstance(event, Task) or (working and stream.working)


def _frozen(span: _Growing, seen: float, status: SpanStatus = "open") -> Span:
    """The span as a value. What is open within a span that ended has ended with it; else it was open until `seen`."""
    within: SpanStatus = status if span.status == "open" else span.status
    end = max(span.start, span.end, seen if span.status == "open" else span.end)
    children = tuple(_frozen(child, end, within) for child in span.children)
    start = min((span.start, *(child.start for child in children)))
    first = None if span.first_token is None else min(span.first_token, end - start)
    return Span(
        kind=span.kind,
        name=span.name,
        start=start,
        end=max((end, *(child.end for child in children))),
        status="open" if span.status == "open" and within in ("ok", "open") else within,
        error=span.error,
        task_id=span.task_id,
        trace_id=span.trace_id,
        resumed=span.resumed,
        iteration=span.iteration,
        model=span.model,
        retries=span.retries,
        first_token=first,
        usage=span.usage,
        cost=span.cost,
        children=children,
    )


def _named(operation: str, name: str) -> str:
    return f"{operation} {name}" if name else operation


def _seconds_since_1970(moment: datetime) -> float:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH).total_seconds()


def _possible(usage: Usage | None) -> bool:
    return usage is not None and all(
        0 <= tokens < _MOST for tokens in (usage.input_tokens, usage.output_tokens)
    )


def _plausible(figure: float) -> float:
    """Seconds or dollars that a record claims: 0 for what cannot be."""
    return figure if 0 <= figure < _MOST else 0.0
