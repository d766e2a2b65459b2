"""The sockets: what looopy needs from models, from tools and from stores, as Protocols of one or two methods.

A plug fits a socket; a wrapper is the socket that it wraps. The request types that travel through them are here too. Implementations
are in `providers/`, `tools/` and `stores/`, or yours.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar, cast, runtime_checkable

from pydantic_core import to_json
from reactivex import Observable

from looopy.errors import ConfigurationError, LooopyError
from looopy.events import ArtifactUpdate, InputRequired, LLMEvent, ToolEvent, ToolProgress
from looopy.messages import JSON, Message, ToolCall, Usage, digest
from looopy.state import LoopState

Deps = TypeVar("Deps", covariant=True)

ToolChoice: TypeAlias = Literal["auto", "required", "none"] | str
"""Whether the model may, must or must not call a tool; any other text is the name of the tool that it must call."""


class _Kept:
    """Room for what a definition was turned into; no field, so that it is neither compared nor stored."""

    __slots__ = ("_digest", "_wire")
    _digest: bytes
    _wire: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolDefinition(_Kept):
    """A tool as a model sees it.

    Attributes:
        name: 1 to 64 of letters, digits, `_` and `-`.
        description: what it does and when to use it.
        parameters: a JSON schema of type object.
    """

    name: str
    description: str = ""
    parameters: dict[str, JSON] = field(default_factory=lambda: {"type": "object", "properties": {}})

    @property
    def wire(self) -> bytes:
        """The definition in OpenAI's chat format, as JSON bytes; made once."""
        try:
            return self._wire
        except AttributeError:
            function = {"name": self.name, "description": self.description, "parameters": self.parameters}
            object.__setattr__(self, "_wire", to_json({"type": "function", "function": function}))
            return self._wire

    @property
    def digest(self) -> bytes:
        """32 bytes that stand for the definition, as `messages.digest` makes them; made once.

        Raises:
            TypeError: something in it has no JSON form.
        """
        try:
            return self._digest
        except AttributeError:
            object.__setattr__(self, "_digest", digest(self))
            return self._digest


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMRequest:
    """One model call.

    Attributes:
        messages: the conversation, the system prompt first.
        tools: what the model may call.
        tool_choice: whether it must.
        model: another model than the provider's own, for this call.
        session_id: groups the calls of one task or conversation in the proxy's logs and in Langfuse.
        trace_id: 32 hex digits of the trace that this call belongs to; empty for none.
        parent_span_id: 16 hex digits of the span that this call is under; empty for none.
        sampled: whether that span is recorded, so that the proxy need not record what it belongs to either.
        trace_name: a name for the trace, for example the agent's.
        user_id: on whose behalf.
        tags: labels for logs and traces.
        prompt_name: what a prompt store calls the system prompt; empty where none keeps it.
        prompt_version: which version of it; None where there is no name.
        params: further fields of the request body, for example `{"seed": 7}`; they win over the provider's own.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...] = ()
    tool_choice: ToolChoice = "auto"
    model: str = ""
    session_id: str = ""
    trace_id: str = ""
    parent_span_id: str = ""
    sampled: bool = True
    trace_name: str = ""
    user_id: str = ""
    tags: tuple[str, ...] = ()
    prompt_name: str = ""
    prompt_version: int | None = None
    params: Mapping[str, JSON] = field(default_factory=dict[str, Any])


def below(request: LLMRequest, *, trace_id: str, span_id: str, sampled: bool) -> LLMRequest:
    """The request as part of a span. Its fields are filled in, as `events.stamp` does: it was made for one call, and nobody else holds it."""
    write = object.__setattr__
    write(request, "trace_id", trace_id)
    write(request, "parent_span_id", span_id)
    write(request, "sampled", sampled)
    return request


@runtime_checkable
class LLMProvider(Protocol):
    """A model.

    `call` is cold: each subscription is one request. It emits deltas as they come and last one `LLMResponse`, without ids, then
    completes; a failure is `on_error` with a `ModelError`. Disposing ends the request at once.
    """

    def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
        """Ask the model."""
        ...


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts to embed.

    Attributes:
        texts: any number of them, none empty.
        model: another model than the embedder's own, for these texts.
        session_id: groups the calls of one task or conversation in the proxy's logs and in Langfuse.
        trace_id: 32 hex digits of the trace that this call belongs to; empty for none.
        parent_span_id: 16 hex digits of the span that this call is under; empty for none.
        sampled: whether that span is recorded, so that the proxy need not record what it belongs to either.
        trace_name: a name for the trace, for example the agent's.
        user_id: on whose behalf.
        tags: labels for logs and traces.
        params: further fields of the request body, for example `{"input_type": "search_query"}`; they win over the embedder's own.

    Raises:
        ConfigurationError: a text is empty or no text; `.argument` says which, as "texts[2]".
    """

    texts: Sequence[str]
    _: KW_ONLY
    model: str = ""
    session_id: str = ""
    trace_id: str = ""
    parent_span_id: str = ""
    sampled: bool = True
    trace_name: str = ""
    user_id: str = ""
    tags: tuple[str, ...] = ()
    params: Mapping[str, JSON] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if isinstance(self.texts, str):
            raise ConfigurationError(f"texts={self.texts[:80]!r} is one text: write [text]", argument="texts")
        object.__setattr__(self, "texts", tuple(self.texts))
        for index, text in enumerate(cast("tuple[object, ...]", self.texts)):
            if not text or not isinstance(text, str):
                what = "is empty" if text == "" else f"is no text but {type(text).__name__}"
                raise ConfigurationError(
                    f"texts[{index}] {what}, and has no embedding: leave it out", argument=f"texts[{index}]"
                )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Embeddings:
    """A vector for each text, in the order of the texts; `numpy.asarray(embeddings)` is a matrix with a row for each.

    Attributes:
        vectors: each an `array` of 32-bit floats, all of one length, as the model gave them: of length 1 only if it says so.
        model: the model that they are from. Vectors of two models have nothing to do with each other.
        fell_back_from: the model that was asked for, where it gives no embeddings and `model` took its place; else empty.
        usage: tokens of all requests together; None where one did not say.
        cost: US dollars of all requests together; None where one did not say.
        seconds: from the call to the last vector.
        attempts: HTTP requests that it took, failed ones included.
        call_ids: the proxy's id of each request that was answered.
    """

    vectors: tuple[array[float], ...]
    model: str = ""
    fell_back_from: str = ""
    usage: Usage | None = None
    cost: float | None = None
    seconds: float = 0.0
    attempts: int = 0
    call_ids: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Show how many there are, not each."""
        instead = f", fell_back_from={self.fell_back_from!r}" if self.fell_back_from else ""
        return f"Embeddings({len(self.vectors)} × {self.dimensions}, model={self.model!r}{instead})"

    @property
    def dimensions(self) -> int:
        """Numbers in each vector; 0 where there is none."""
        return len(self.vectors[0]) if self.vectors else 0

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """What numpy reads: so it need not be installed for anything else."""
        return {
            "version": 3,
            "shape": (len(self.vectors), self.dimensions),
            "typestr": f"{'<' if sys.byteorder == 'little' else '>'}f4",
            "data": b"".join(self.vectors),
        }


@runtime_checkable
class Embedder(Protocol):
    """A model that turns texts into vectors."""

    async def embed(self, request: EmbedRequest, /) -> Embeddings:
        """Embed texts in order, one vector each; cancelling ends every request at once. A failure is a `ModelError`."""
        ...


class InputNeeded(LooopyError):
    """Raised out of a tool by `ToolContext.ask`: the call waits until somebody answers. Let it pass."""

    def __init__(self, question: InputRequired) -> None:
        super().__init__(f"waiting for an answer to {question.prompt!r}")
        self.question = question


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext(Generic[Deps]):
    """What a tool may know about the call that it serves; passed explicitly, to tools that have a parameter of this type.

    Attributes:
        task_id: the task.
        context_id: the conversation.
        call_id: this call.
        tool_name: the tool's name.
        iteration: which model call of the task asked for it, from 1.
        deps: what `AgentLoop(deps=…)` or `execute(deps=…)` was given.
        inputs: answers that came for the task's questions, by input id.
        emit: send progress or an artifact; returns at once, works from any thread, and does nothing once the call is over.
        cancelled: whether the call was cancelled or timed out. Async tools are interrupted; a tool in a thread cannot be, and should
            look here between steps.
    """

    task_id: str
    context_id: str
    call_id: str
    tool_name: str
    iteration: int
    deps: Deps
    inputs: Mapping[str, JSON] = field(default_factory=dict[str, Any])
    emit: Callable[[ToolProgress | ArtifactUpdate], None] = field(repr=False)
    cancelled: Callable[[], bool] = field(repr=False)

    def progress(self, progress: float | None = None, note: str = "", data: JSON = None) -> None:
        """Say how far the call is: `progress` from 0 to 1, a note for people, and data as JSON."""
        self.emit(
            ToolProgress(
                call_id=self.call_id, tool_name=self.tool_name, progress=progress, note=note, data=data
            )
        )

    def ask(
        self,
        prompt: str,
        *,
        input_type: Literal["confirmation", "clarification", "selection", "data"] = "clarification",
        schema: dict[str, JSON] | None = None,
        options: Sequence[str] = (),
        name: str = "",
    ) -> JSON:
        """The answer to a question that somebody outside must answer.

        The first time there is none: the call ends here, the task waits (`input-required`), and `AgentLoop.resume` runs the tool again with
        its original arguments; then this returns the answer. So do nothing that must not happen twice before asking.

        Args:
            prompt: the question.
            input_type: what kind of answer is wanted.
            schema: a JSON schema for it.
            options: what to choose from.
            name: tells the questions of one call apart when it asks several.

        Raises:
            InputNeeded: there is no answer yet; let it pass through.
        """
        input_id = f"{self.call_id}:{name}" if name else self.call_id
        if input_id in self.inputs:
            return self.inputs[input_id]
        raise InputNeeded(
            InputRequired(
                input_id=input_id,
                call_id=self.call_id,
                tool_name=self.tool_name,
                prompt=prompt,
                input_type=input_type,
                schema=schema,
                options=tuple(options),
            )
        )


@runtime_checkable
class ToolProvider(Protocol):
    """A set of tools.

    `call` is cold: each subscription runs the tool once. It emits any progress and artifacts, and last `ToolComplete` or `InputRequired`
    (ids may be left out), then completes. A tool's failure is a `ToolComplete` with an error, or `on_error`: the loop makes the same of both.
    Disposing cancels the tool.
    """

    def tools(self, state: LoopState, /) -> Sequence[ToolDefinition] | Awaitable[Sequence[ToolDefinition]]:
        """The tools that there are for a task in this state."""
        ...

    def call(self, call: ToolCall, context: ToolContext[Any], /) -> Observable[ToolEvent]:
        """Run one of them."""
        ...


@runtime_checkable
class StateStore(Protocol):
    """Keeps task states; what it has kept survives as long as it does."""

    async def save(self, state: LoopState, /, *, after: int) -> None:
        """Keep the state of `state.task_id`, if what is stored is the state that it was made from; in one step, so that only one of two succeeds.

        Args:
            state: the new state; `state.saved` is the number of its checkpoint.
            after: the number of the checkpoint that must be stored now: that of the state it was made from, 0 where none may be.

        Raises:
            StateConflict: another checkpoint is stored.
        """
        ...

    async def load(self, task_id: str, /) -> LoopState | None:
        """The state kept for a task; None when there is none."""
        ...

    async def delete(self, task_id: str, /) -> None:
        """Forget a task; nothing happens when it is unknown."""
        ...


@runtime_checkable
class ArtifactStore(Protocol):
    """Keeps artifacts by context and artifact id."""

    async def save(self, update: ArtifactUpdate, /) -> None:
        """Apply an update: replace the artifact's parts, or add to them."""
        ...

    async def load(self, context_id: str, artifact_id: str, /) -> ArtifactUpdate | None:
        """The whole artifact as one update; None when there is none."""
        ...

    async def list(self, context_id: str, /) -> Sequence[str]:
        """The ids of a context's artifacts, oldest first."""
        ...


@runtime_checkable
class AnswerStore(Protocol):
    """Keeps models' answers for a while, as bytes; what it loses costs another call, no more. Each method may be an `async def`."""

    def get(self, key: str, /) -> bytes | Awaitable[bytes | None] | None:
        """What is kept under a key; None when there is nothing, or its time is over."""
        ...

    def put(self, key: str, value: bytes, /, *, seconds: float) -> Awaitable[None] | None:
        """Keep a value for so long, in place of what was there."""
        ...
