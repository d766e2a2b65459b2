"""Everything that can happen in a run, as values.

An event is a frozen dataclass with a `kind`; together they are one discriminated union, `Event`, that `dumps` and `loads` turn into JSON
and back. Providers and tools make events without ids; the loop stamps each once (`stamp`). No runtime object is in an event, and no
credential.

Order within a run: `task` first, `status-update` (working) second, exactly one `status-update` with `final` last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar, cast

from pydantic_core import PydanticSerializationError, ValidationError, to_json

from looopy.errors import LooopyError, UnknownEvent, words
from looopy.frozen import changed
from looopy.messages import JSON, FinishReason, Message, Part, ToolCall, Usage, jsonable, whole

if TYPE_CHECKING:
    from pydantic import TypeAdapter

TaskState: TypeAlias = Literal[
    "submitted", "working", "input-required", "auth-required", "completed", "failed", "canceled", "rejected"
]
"""The states of the A2A protocol, https://a2a-protocol.org/latest/specification/ (TaskState)."""

BLANK = datetime(1, 1, 1, tzinfo=UTC)
"""The timestamp of an event that nobody has stamped yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stamped:
    """What every event carries.

    Attributes:
        task_id: the task it belongs to.
        context_id: the conversation that the task belongs to.
        seq: 1, 2, 3 … in one task, without gaps; 0 before it is stamped.
        timestamp: when it happened, UTC.
        parent_task_id: for a child agent's event: the task that called the child.
        path: for a child agent's event: the agents on the way down, outermost first.
    """

    task_id: str = ""
    context_id: str = ""
    seq: int = 0
    timestamp: datetime = BLANK
    parent_task_id: str = ""
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error as a value.

    Attributes:
        type: the exception's class, for example "ModelTimeout".
        message: what happened and the mend, without credentials.
        retryable: whether the same may succeed later without a change.
    """

    type: str
    message: str
    retryable: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure that stands for an exception."""
        retryable = error.retryable if isinstance(error, LooopyError) else False
        return cls(type=type(error).__name__, message=whole(words(error)), retryable=retryable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where a task stands, and since when.

    Attributes:
        state: one of A2A's task states.
        message: what is said with it; the answer, when completed.
        timestamp: when it was entered, UTC.
    """

    state: TaskState
    message: Message | None = None
    timestamp: datetime = BLANK


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Something a task makes.

    Attributes:
        artifact_id: chosen by whoever makes it; unique in its context.
        parts: its content; of an appended update, the new parts only.
    """

    artifact_id: str
    parts: tuple[Part, ...] = ()
    name: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(_Stamped):
    """The task exists: the first event of a run.

    Attributes:
        prompt: what was asked; None when the run goes on from earlier messages.
        agent_id: who works on it.
        metadata: what the caller gave along.
    """

    kind: Literal["task"] = "task"
    state: TaskState = "submitted"
    prompt: Message | None = None
    agent_id: str = ""
    metadata: dict[str, JSON] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusUpdate(_Stamped):
    """The task entered a state.

    Attributes:
        final: nothing follows in this stream: the task is over, or waits for `resume`.
        error: why it failed or was canceled.
    """

    kind: Literal["status-update"] = "status-update"
    status: Status
    final: bool = False
    error: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactUpdate(_Stamped):
    """A tool made an artifact, or a piece of one.

    Attributes:
        append: add the parts to those there are, rather than replace them.
        last_chunk: it is whole now.
    """

    kind: Literal["artifact-update"] = "artifact-update"
    artifact: Artifact
    append: bool = False
    last_chunk: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMCall(_Stamped):
    """A model call begins.

    Attributes:
        iteration: 1 for the first call of the task.
        model: the name asked for; empty where the provider decides.
        messages: how many messages it is sent.
        tools: how many tools it is offered.
    """

    kind: Literal["llm-call"] = "llm-call"
    iteration: int
    model: str = ""
    messages: int = 0
    tools: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMRetry(_Stamped):
    """A request to a model failed, was overtaken or had an answer that was not taken, and the model call goes on with another request.

    Attributes:
        attempt: which request of the model call failed, from 1.
        error: why.
        seconds: until the next request; 0 for at once.
        model: the model that failed.
        next_model: the model that is asked next; a fallback takes over when it differs.
    """

    kind: Literal["llm-retry"] = "llm-retry"
    attempt: int
    error: Failure
    seconds: float = 0.0
    model: str = ""
    next_model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentReset(_Stamped):
    """Forget the pieces of this model call so far, text, thoughts and tool calls: the answer starts over."""

    kind: Literal["content-reset"] = "content-reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentDelta(_Stamped):
    """A piece of the answer's text, never empty."""

    kind: Literal["content-delta"] = "content-delta"
    delta: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtDelta(_Stamped):
    """A piece of the model's reasoning, never empty."""

    kind: Literal["thought-delta"] = "thought-delta"
    delta: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallDelta(_Stamped):
    """A piece of a tool call while the model writes it.

    Attributes:
        call_id: which call.
        tool_name: its name, as far as it is known.
        delta: the next piece of the arguments' JSON text; empty when only the name came.
    """

    kind: Literal["tool-call-delta"] = "tool-call-delta"
    call_id: str
    tool_name: str = ""
    delta: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMResponse(_Stamped):
    """A model's whole answer; the last event of a model call.

    Attributes:
        message: what it said, with its tool calls.
        finish_reason: why it ended; `interrupted` when it was cut and `message` is what came until then.
        model: the model that really answered, as the proxy names its deployment, for example "openai/gpt-4o-mini". `message.model` is the name that it
            is asked for by, "gpt-4o-mini"; reports go by that one.
        usage: tokens; None when nobody said.
        cost: US dollars; None when nobody knows the price. Never 0 for unknown.
        seconds: from the request to the last byte.
        first_token: seconds from the request to the first piece; None when there was none.
        response_id: the provider's id of the answer.
        call_id: the proxy's id of the call.
        attempts: how many requests it took, those that failed included; 0 out of a cache.
        served_by: which of several models answered, by the name that a `Fallback` has for it; empty where there is but one.
        cached: whether it was kept from an earlier call, here or by the proxy, or shared with an equal one in flight: then it cost nothing, and
            `usage` is that call's.
    """

    kind: Literal["llm-response"] = "llm-response"
    message: Message
    finish_reason: FinishReason = "stop"
    model: str = ""
    usage: Usage | None = None
    cost: float | None = None
    seconds: float = 0.0
    first_token: float | None = None
    response_id: str = ""
    call_id: str = ""
    attempts: int = 1
    served_by: str = ""
    cached: bool = False

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that the answer asks for."""
        return self.message.tool_calls


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStart(_Stamped):
    """A tool call is taken up; `tool-complete`, `input-required` or `auth-required` with the same `call_id` follows."""

    kind: Literal["tool-start"] = "tool-start"
    call_id: str
    tool_name: str
    arguments: dict[str, JSON] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolProgress(_Stamped):
    """A tool says how far it is.

    Attributes:
        call_id: which call; filled in by the loop when the tool leaves it empty.
        progress: 0 to 1; None when the tool cannot tell.
        note: a line for people.
        data: whatever else the tool yields, as JSON.
    """

    kind: Literal["tool-progress"] = "tool-progress"
    call_id: str = ""
    tool_name: str = ""
    progress: float | None = None
    note: str = ""
    data: JSON = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolComplete(_Stamped):
    """A tool call is answered.

    Attributes:
        result: what the tool returned, as JSON; None when it failed.
        error: why it failed; the model reads its message.
        seconds: how long it took.
    """

    kind: Literal["tool-complete"] = "tool-complete"
    call_id: str = ""
    tool_name: str = ""
    result: JSON = None
    error: Failure | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRejected(_Stamped):
    """An answer does not fit the run's `output_type`, and the model is asked again.

    Attributes:
        problem: what the model is told: what is wrong, and how to answer.
        attempt: which answer of the task it was, from 1.
        call_id: the call that gave it, which `tool-complete` answers; empty for text, which a message of the user's answers.
    """

    kind: Literal["output-rejected"] = "output-rejected"
    problem: str
    attempt: int = 1
    call_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRequired(_Stamped):
    """Somebody must answer before the call can go on; `AgentLoop.resume` takes the answer.

    Attributes:
        input_id: the key of the answer in `resume(inputs={…})`.
        call_id: the tool call that asks.
        prompt: the question.
        input_type: what kind of answer is wanted.
        schema: a JSON schema of the answer; None for any.
        options: what to choose from, for a selection.
    """

    kind: Literal["input-required"] = "input-required"
    input_id: str
    call_id: str = ""
    tool_name: str = ""
    prompt: str = ""
    input_type: Literal["confirmation", "clarification", "selection", "data"] = "clarification"
    schema: dict[str, JSON] | None = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InputReceived(_Stamped):
    """The answer came.

    Attributes:
        input_id: which question it answers.
        value: the answer, as JSON.
    """

    kind: Literal["input-received"] = "input-received"
    input_id: str
    value: JSON = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(_Stamped):
    """The state is stored, this event included: `AgentLoop.resume` goes on from here."""

    kind: Literal["checkpoint"] = "checkpoint"
    iteration: int = 0


LLMEvent: TypeAlias = ContentDelta | ThoughtDelta | ToolCallDelta | LLMRetry | ContentReset | LLMResponse
"""What a provider emits: deltas as they come, what it does about failures, and last one `LLMResponse`."""

ToolEvent: TypeAlias = ToolProgress | ArtifactUpdate | InputRequired | ToolComplete
"""What a tool provider emits for one call: any progress, and last `ToolComplete` or `InputRequired`."""

Event: TypeAlias = (
    Task
    | StatusUpdate
    | ArtifactUpdate
    | LLMCall
    | LLMRetry
    | ContentReset
    | ContentDelta
    | ThoughtDelta
    | ToolCallDelta
    | LLMResponse
    | ToolStart
    | ToolProgress
    | ToolComplete
    | OutputRejected
    | InputRequired
    | InputReceived
    | Checkpoint
)
"""Every event of a run."""

E = TypeVar("E", bound=_Stamped)


def stamp(event: E, *, task_id: str, context_id: str, seq: int, timestamp: datetime) -> E:
    """Give an event its ids; the loop does it once, before anybody else sees the event.

    A blank event is filled in, since nobody else holds it; one that was stamped before (replayed from a cache, say) is copied.
    """
    if event.seq:
        event = changed(event)
    write = object.__setattr__
    write(event, "task_id", task_id)
    write(event, "context_id", context_id)
    write(event, "seq", seq)
    write(event, "timestamp", timestamp)
    return event


@cache
def _codec() -> TypeAdapter[Event]:
    # Loaded at the first use: an agent that stores no event need not wait for all of pydantic.
    from pydantic import Field, TypeAdapter  # noqa: PLC0415

    return TypeAdapter(Annotated[Event, Field(discriminator="kind")])


def dumps(event: Event) -> bytes:
    """The event as one line of JSON; lone surrogates in text, which no encoding takes, become U+FFFD.

    Raises:
        TypeError: something in it has no JSON form.
    """
    return encode(_codec(), event)


T = TypeVar("T")


def encode(codec: TypeAdapter[T], value: T) -> bytes:
    """What a codec writes, also where there is text in the value that cannot be encoded."""
    try:
        return codec.dump_json(value)
    except PydanticSerializationError:
        return to_json(jsonable(codec.dump_python(value)))


def loads(line: bytes | str) -> Event:
    """The event that `dumps` wrote: `loads(dumps(event)) == event`.

    Raises:
        UnknownEvent: broken JSON, a kind that this version does not know, or fields that do not fit.
    """
    try:
        return _codec().validate_json(line)
    except ValidationError as error:
        shown = whole(line[:200]) if isinstance(line, str) else line[:200].decode("utf-8", "replace")
        why = "it was written by another version of looopy, or is cut"
        raise UnknownEvent(
            f"cannot read this event: {misfit(error)}; {why}: {shown}", kind=_kind(error)
        ) from None


def misfit(error: ValidationError) -> str:
    """The first thing that is wrong with a record, and where."""
    first = error.errors(include_url=False)[0]
    return ": ".join([*filter(None, [".".join(map(str, first["loc"]))]), first["msg"]])


def _kind(error: ValidationError) -> str:
    """The kind of a record that cannot be read: of one that is known, it is where the error is; of another, what it says."""
    first = error.errors(include_url=False)[0]
    if first["loc"]:
        return str(first["loc"][0])
    given: object = first["input"]
    return str(cast("dict[str, JSON]", given).get("kind", "")) if isinstance(given, dict) else ""
