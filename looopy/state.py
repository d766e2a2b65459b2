"""The task as a value.

`LoopState` holds everything needed to carry a task on, and `advance` is its only writer: folding a task's events gives its state. Nothing
here does I/O or knows about models: `loop.py` decides and performs, the stores keep the value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic_core import ValidationError

from looopy.errors import UnknownEvent
from looopy.events import (
    Checkpoint,
    ContentDelta,
    Event,
    Failure,
    InputReceived,
    InputRequired,
    LLMCall,
    LLMResponse,
    OutputRejected,
    Status,
    StatusUpdate,
    Task,
    ThoughtDelta,
    ToolCallDelta,
    ToolComplete,
    encode,
    misfit,
)
from looopy.frozen import changed
from looopy.messages import JSON, FinishReason, Message, Role, ToolCall, Usage, render

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopState:
    """Everything a task needs to go on.

    Attributes:
        task_id: the task.
        context_id: the conversation that it belongs to.
        agent_id: who works on it.
        session_id: groups its model calls in logs and traces; empty for the task's own id.
        user_id: on whose behalf.
        tags: labels for logs and traces.
        messages: the conversation so far, without the system prompt; every tool call in it is answered, but for the pending ones.
        pending: the calls of the newest answer, in call order, until all of them are answered; then empty again.
        answers: texts for pending calls that came early, by call id.
        waiting: questions that somebody must answer before their calls can go on.
        inputs: answers to such questions, by input id.
        iteration: model calls begun.
        usage: tokens of all model calls.
        cost: US dollars of the calls whose price is known; None while none is.
        failures: tool failures in a row.
        answered: the newest answer asks for no tool.
        finish_reason: why the newest answer ended.
        rejected: answers that did not fit the task's output type, and were asked for again.
        status: where the task stands.
        error: why it failed or was canceled.
        final: its stream has ended.
        seq: number of the last event that changed the state.
        saved: number of the last `checkpoint`.
    """

    task_id: str
    context_id: str
    agent_id: str = ""
    session_id: str = ""
    user_id: str = ""
    tags: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    pending: tuple[ToolCall, ...] = ()
    answers: dict[str, str] = field(default_factory=dict[str, str])
    waiting: tuple[InputRequired, ...] = ()
    inputs: dict[str, JSON] = field(default_factory=dict[str, Any])
    iteration: int = 0
    usage: Usage = Usage()
    cost: float | None = None
    failures: int = 0
    answered: bool = False
    finish_reason: FinishReason = "stop"
    rejected: int = 0
    status: Status = Status(state="submitted")
    error: Failure | None = None
    final: bool = False
    seq: int = 0
    saved: int = 0

    @property
    def runnable(self) -> tuple[ToolCall, ...]:
        """The pending calls that are neither answered nor waiting for somebody, in call order."""
        waiting = {question.call_id for question in self.waiting}
        return tuple(call for call in self.pending if call.id not in self.answers and call.id not in waiting)

    @property
    def output(self) -> str:
        """The text of the newest answer, whole or partial; empty before there is one, also where there is an older turn's."""
        newest = next((message for message in reversed(self.messages) if message.role in _SPEAKERS), None)
        return newest.text if newest and newest.role == "assistant" else ""

    def dumps(self) -> bytes:
        """The state as JSON, for a store."""
        return encode(_codec(), self)

    @classmethod
    def loads(cls, record: bytes | str) -> LoopState:
        """The state that `dumps` wrote.

        Raises:
            UnknownEvent: the record is cut or was written by a version that kept other fields.
        """
        try:
            return _codec().validate_json(record)
        except ValidationError as error:
            what = f"cannot read this stored state: {misfit(error)}; it was written by another version of looopy, or is cut"
            raise UnknownEvent(what, kind="state") from None


_SPEAKERS: frozenset[Role] = frozenset(("user", "assistant"))


@cache
def _codec() -> TypeAdapter[LoopState]:
    # Loaded at the first use: an agent without a store need not wait for all of pydantic.
    from pydantic import TypeAdapter  # noqa: PLC0415

    return TypeAdapter(LoopState)


def settled(state: LoopState) -> bool:
    """Whether the stream is at its end: the task is over, or waits for `resume`."""
    return state.final


def advance(state: LoopState, event: Event) -> LoopState:
    """Fold one event into the state: pure, total, and the only writer of `LoopState`.

    Deltas, progress and starts change nothing: what they add up to comes again as a whole.
    """
    match event:
        case ContentDelta() | ThoughtDelta() | ToolCallDelta():  # first, since there are thousands of them
            return state
        case LLMResponse():
            return _answered_by_model(state, event)
        case ToolComplete():
            return _answered_by_tool(state, event)
        case LLMCall():
            return changed(state, seq=event.seq, iteration=event.iteration, answered=False)
        case StatusUpdate():
            return changed(state, seq=event.seq, status=event.status, error=event.error, final=event.final)
        case Task():
            said = () if event.prompt is None else (event.prompt,)
            status = Status(state=event.state, timestamp=event.timestamp)
            return changed(
                state,
                seq=event.seq,
                messages=(*state.messages, *said),
                status=status,
                agent_id=event.agent_id,
            )
        case InputRequired():
            return changed(state, seq=event.seq, waiting=(*state.waiting, event))
        case InputReceived():
            left = tuple(question for question in state.waiting if question.input_id != event.input_id)
            return changed(
                state, seq=event.seq, waiting=left, inputs={**state.inputs, event.input_id: event.value}
            )
        case OutputRejected():
            said = () if event.call_id else (Message.user(event.problem),)
            return changed(
                state,
                seq=event.seq,
                messages=(*state.messages, *said),
                answered=False,
                rejected=state.rejected + 1,
            )
        case Checkpoint():
            return changed(state, seq=event.seq, saved=event.seq)
        case _:
            return state


def _answered_by_model(state: LoopState, event: LLMResponse) -> LoopState:
    message = event.message
    said = (message,) if message.content or message.tool_calls else ()
    cost = state.cost if event.cost is None else (state.cost or 0.0) + event.cost
    return changed(
        state,
        seq=event.seq,
        messages=(*state.messages, *said),
        pending=message.tool_calls,
        answers={},
        usage=state.usage + event.usage if event.usage else state.usage,
        cost=cost,
        answered=not message.tool_calls and event.finish_reason != "interrupted",
        finish_reason=event.finish_reason,
    )


def _answered_by_tool(state: LoopState, event: ToolComplete) -> LoopState:
    if all(call.id != event.call_id for call in state.pending) or event.call_id in state.answers:
        return state
    text = f"Error: {event.error.message}" if event.error else render(event.result)
    answers = {**state.answers, event.call_id: text}
    state = changed(
        state,
        seq=event.seq,
        answers=answers,
        failures=state.failures + 1 if event.error else 0,
        waiting=tuple(question for question in state.waiting if question.call_id != event.call_id),
    )
    if len(answers) < len(state.pending):
        return state
    back = tuple(Message.tool(answers[call.id], tool_call_id=call.id) for call in state.pending)
    return changed(state, messages=(*state.messages, *back), pending=(), answers={})
