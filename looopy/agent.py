"""`AgentLoop`: what an agent is made of, and the three ways to set it to work.

Frozen configuration; one object serves many runs at once. `execute` starts a task, `resume` carries one on, `session` keeps a conversation.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

from looopy.arguments import (
    Prompt,
    check_answered,
    fits,
    history_of,
    message_of,
    plain_values,
    provider_of,
    system_prompt_of,
    tags_of,
    text_of,
    tools_of,
)
from looopy.errors import ConfigurationError, NotResumable, StoreFailed, words
from looopy.events import Event, Failure, InputReceived, Status, StatusUpdate, Task, ToolComplete
from looopy.frozen import changed
from looopy.loop import Execution
from looopy.messages import JSON, Message
from looopy.output import Output
from looopy.ports import ArtifactStore, LLMProvider, LLMRequest, StateStore, ToolProvider
from looopy.run import Run
from looopy.setup import Limits, Setup, SystemPrompt
from looopy.state import LoopState, advance
from looopy.watcher import Caller, watcher

if TYPE_CHECKING:
    from typing_extensions import TypeForm

X = TypeVar("X")


@dataclass(frozen=True, kw_only=True)
class AgentLoop:
    """An agent: a model, its tools and its limits.

    Attributes:
        llm_provider: a provider; or a model's name, which stands for `LiteLLMProvider` at `LITELLM_URL`; or "stand-in" for the built-in
            stand-in model, which needs no key and says what it is (with LOOOPY_STAND_IN=1 in the environment, a name means it too).
        agent_id: its name in events, logs and traces.
        tools: functions, plain or made with `@tool`.
        tool_providers: whole sets of tools.
        system_prompt: the instructions: text; a prompt from a store, as Langfuse's `get_prompt` gives it, or `ManagedPrompt.of(prompt, **variables)`;
            or a function of the state, sync or async, that gives one of these.
        task_state_store: keeps the state after every step, so that `resume` works; None: nothing outlives the process.
        artifact_store: keeps what tools emit as `artifact-update`, before it is shown.
        max_iterations: model calls a task may make.
        limits: what else it may use.
        max_parallel_tools: tool calls of one answer that run at the same time.
        max_result_chars: a tool's result is cut to this many characters, with a mark.
        on_tool_error: "model": a tool that raises is a result that the model reads; "raise": it ends the task with `ToolFailed`.
        deps: handed to tools as `ToolContext.deps`.

    Raises:
        ConfigurationError: an argument cannot work; the message says which and the mend.
    """

    llm_provider: LLMProvider | str
    agent_id: str = "agent"
    tools: Sequence[Callable[..., Any]] = ()
    tool_providers: Sequence[ToolProvider] = ()
    system_prompt: SystemPrompt = None
    task_state_store: StateStore | None = None
    artifact_store: ArtifactStore | None = None
    max_iterations: int = 20
    limits: Limits = field(default_factory=Limits)
    max_parallel_tools: int = 8
    max_result_chars: int = 100_000
    on_tool_error: Literal["model", "raise"] = "model"
    deps: Any = field(default=None, repr=False)
    _setup: Setup = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("max_iterations", "max_parallel_tools", "max_result_chars"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ConfigurationError(
                    f"AgentLoop({name}={getattr(self, name)!r}): must be at least 1", argument=name
                )
        if self.on_tool_error not in ("model", "raise"):
            raise ConfigurationError(
                f"AgentLoop(on_tool_error={self.on_tool_error!r}): must be 'model' or 'raise'",
                argument="on_tool_error",
            )
        limits = cast("object", self.limits)
        if not isinstance(limits, Limits):
            raise ConfigurationError(
                f"AgentLoop(limits={limits!r}): write limits=Limits(…)", argument="limits"
            )
        for provider in self.tool_providers:
            fits("tool_providers", provider, "tools", "call", mend="functions go into tools=[…]")
        if self.task_state_store is not None:
            fits("task_state_store", self.task_state_store, "save", "load", mend="pass a StateStore")
        if self.artifact_store is not None:
            fits("artifact_store", self.artifact_store, "save", "load", mend="pass an ArtifactStore")
        setup = Setup(
            llm_provider=provider_of(self.llm_provider),
            tool_providers=(*tools_of(self.tools), *self.tool_providers),
            system_prompt=system_prompt_of(self.system_prompt),
            task_state_store=self.task_state_store,
            artifact_store=self.artifact_store,
            max_iterations=self.max_iterations,
            max_parallel_tools=self.max_parallel_tools,
            max_result_chars=self.max_result_chars,
            limits=self.limits,
            on_tool_error=self.on_tool_error,
            deps=self.deps,
        )
        object.__setattr__(self, "_setup", setup)

    @overload
    def execute(
        self,
        prompt: Prompt,
        *,
        context_id: str = "",
        task_id: str = "",
        session_id: str = "",
        history: Sequence[Message] = (),
        user_id: str = "",
        tags: Sequence[str] = (),
        metadata: Mapping[str, JSON] | None = None,
        deps: Any = None,
    ) -> Run: ...

    @overload
    def execute(
        self,
        prompt: Prompt,
        *,
        output_type: TypeForm[X] | Output[X],
        context_id: str = "",
        task_id: str = "",
        session_id: str = "",
        history: Sequence[Message] = (),
        user_id: str = "",
        tags: Sequence[str] = (),
        metadata: Mapping[str, JSON] | None = None,
        deps: Any = None,
    ) -> Run[X]: ...

    def execute(
        self,
        prompt: Prompt,
        *,
        output_type: Any = str,
        context_id: str = "",
        task_id: str = "",
        session_id: str = "",
        history: Sequence[Message] = (),
        user_id: str = "",
        tags: Sequence[str] = (),
        metadata: Mapping[str, JSON] | None = None,
        deps: Any = None,
    ) -> Run[Any]:
        """Start a task; nothing happens before the run has a subscriber.

        Args:
            prompt: what is asked.
            output_type: what `result.output` shall be: a pydantic model, dataclass, TypedDict, union, list, enum, literal or number; or an
                `Output`, which also says how the model is asked and how often. An answer that does not fit is told to the model, which
                answers again; the last that does not ends the task with `OutputInvalid`.
            context_id: the conversation that it belongs to; a new one when left out.
            task_id: the task's id; a new one when left out.
            session_id: groups model calls in the proxy's logs and in Langfuse; the task id when left out.
            history: messages before the prompt.
            user_id: on whose behalf.
            tags: labels for logs and traces.
            metadata: shown on the `task` event, as JSON.
            deps: for this run, instead of the agent's own.

        Raises:
            ConfigurationError: the prompt is empty, the history has something else than messages, an id or a tag is no text, something in the prompt or in the
                metadata has no JSON form, or the output type has no JSON schema.
        """
        message, output = message_of(prompt), Output.of(output_type)
        messages = history_of(history)
        check_answered((*messages, message))
        state = LoopState(
            task_id=text_of("task_id", task_id) or uuid.uuid4().hex,
            context_id=text_of("context_id", context_id) or uuid.uuid4().hex,
            agent_id=self.agent_id,
            messages=messages,
            session_id=text_of("session_id", session_id),
            user_id=text_of("user_id", user_id),
            tags=tags_of(tags),
        )
        opens = Task(
            prompt=message, agent_id=self.agent_id, metadata=plain_values(dict(metadata or {}), "metadata")
        )
        caller = Caller.here()
        return Run(
            lambda: self._execution(state, [opens], caller, deps, output),
            task_id=state.task_id,
            context_id=state.context_id,
            trace_id=caller.trace_id,
        )

    @overload
    def resume(
        self, task: str | LoopState | None, *, inputs: Mapping[str, JSON] | None = None, deps: Any = None
    ) -> Run: ...

    @overload
    def resume(
        self,
        task: str | LoopState | None,
        *,
        output_type: TypeForm[X] | Output[X],
        inputs: Mapping[str, JSON] | None = None,
        deps: Any = None,
    ) -> Run[X]: ...

    def resume(
        self,
        task: str | LoopState | None,
        *,
        output_type: Any = str,
        inputs: Mapping[str, JSON] | None = None,
        deps: Any = None,
    ) -> Run[Any]:
        """Carry a task on: answer what it waits for, or go on where a process stopped.

        Args:
            task: the id of a stored task, or the state that a run ended in (`run.state`), which needs no store.
            output_type: as for `execute`; it is no part of the state, so pass it again.
            inputs: answers by `input_id` of the `input-required` events; those left out go on waiting.
            deps: for this run, instead of the agent's own.

        Returns:
            The task's next stream; its `seq` goes on. Where there is nothing to resume it has no events and ends with an error:
            `NotResumable` (the task is unknown or over, or an answer is to nothing that it asks) or `StoreFailed`.

        Raises:
            ConfigurationError: an id was given and the agent has no `task_state_store`, the run of the state has not begun, or an input
                has no JSON form.
        """
        answers: dict[str, JSON] = plain_values(dict(inputs or {}), "inputs")
        output = Output.of(output_type)
        if task is None:
            raise ConfigurationError(
                "resume(None): pass a task's id, or the state of a run that has begun (before, run.state is None)",
                argument="task",
            )
        if isinstance(task, str) and self.task_state_store is None:
            raise ConfigurationError(
                "there is no store to load the task from: give the agent a task_state_store, or resume the run's own state with resume(run.state)",
                argument="task_state_store",
            )
        caller = Caller.here()

        async def execute() -> Execution:
            state = _resumable(await self._stored(task) if isinstance(task, str) else task, answers)
            received = [InputReceived(input_id=key, value=value) for key, value in answers.items()]
            return self._execution(state, received, caller, deps, output)

        known = ("", task) if isinstance(task, str) else (task.context_id, task.task_id)
        return Run(execute, task_id=known[1], context_id=known[0], trace_id=caller.trace_id)

    def session(self, context_id: str = "", *, history: Sequence[Message] = ()) -> Session:
        """A conversation of many turns.

        Args:
            context_id: its id; a new one when left out.
            history: messages before the first turn.
        """
        return Session(self, context_id or uuid.uuid4().hex, history_of(history))

    async def _stored(self, task_id: str) -> LoopState:
        store = cast("StateStore", self.task_state_store)
        try:
            state = await store.load(task_id)
        except Exception as error:
            name = type(store).__name__
            raise StoreFailed(
                f"task {task_id!r} could not be loaded from {name}: {words(error)}", store=name
            ) from error
        if state is None:
            raise NotResumable(f"there is no stored task {task_id!r}", task_id=task_id)
        return state

    def _execution(
        self,
        state: LoopState,
        opening: Sequence[Event],
        caller: Caller,
        deps: Any,
        output: Output[Any] | None,
    ) -> Execution:
        request = LLMRequest(
            messages=(),
            session_id=state.session_id or state.task_id,
            trace_id=caller.trace_id,
            parent_span_id=caller.span_id,
            sampled=caller.sampled,
            trace_name=self.agent_id,
            user_id=state.user_id,
            tags=state.tags,
        )
        deps = self.deps if deps is None else deps
        watching = watcher()
        watched = None if watching is None else watching.watch(self._setup, state, caller)
        plugs: Mapping[str, Any] = {} if watched is None else watched.plugs
        setup = changed(self._setup, request=request, deps=deps, output=output, **plugs)
        working = StatusUpdate(status=Status(state="working", timestamp=datetime.now(UTC)))
        return Execution(setup, state, opening=(*opening, working), watched=watched)


def _resumable(state: LoopState, answers: Mapping[str, JSON]) -> LoopState:
    """The state, if it can go on with these answers."""
    if state.status.state in ("completed", "failed", "canceled", "rejected"):
        over = f"task {state.task_id!r} is {state.status.state}: start a new one with execute(…, history=…)"
        raise NotResumable(over, task_id=state.task_id, state=state.status.state)
    asked = {question.input_id for question in state.waiting}
    if unknown := answers.keys() - asked:
        what = f"task {state.task_id!r} does not ask for {sorted(unknown)}; it waits for {sorted(asked) or 'nothing'}"
        raise NotResumable(what, task_id=state.task_id, state=state.status.state)
    return state


class Session:
    """A conversation: each `send` is a task that begins with the messages of those before.

    Attributes:
        context_id: the id that all of its tasks share.
        messages: the conversation so far, after the newest turn that is over.
    """

    def __init__(self, agent: AgentLoop, context_id: str, history: tuple[Message, ...]) -> None:
        self.context_id = context_id
        self._agent = agent
        self._history = history
        self._before: Run[Any] | None = None
        self._newest: Run[Any] | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far."""
        run = self._begun
        if run is None or run.state is None or not run.done:
            return self._history
        return _closed(run.state).messages

    @overload
    def send(  # pyright: ignore[reportOverlappingOverload]  # the other one's options hold no output type
        self, prompt: Prompt, *, output_type: TypeForm[X] | Output[X], **options: Any
    ) -> Run[X]: ...

    @overload
    def send(self, prompt: Prompt, **options: Any) -> Run: ...

    def send(self, prompt: Prompt, **options: Any) -> Run[Any]:
        """The next turn; options are those of `AgentLoop.execute`.

        A turn that was cancelled or failed stays in the conversation with what had been said, and one that waits for an answer is left
        unanswered (`resume` answers it): the history is always one that a model can go on from.

        Raises:
            ConfigurationError: the turn before is not over, or the prompt is empty.
        """
        self._settled()
        self._history = self.messages
        options = {"session_id": self.context_id, **options}
        return self._next(
            self._agent.execute(prompt, context_id=self.context_id, history=self._history, **options)
        )

    @overload
    def resume(self, *, inputs: Mapping[str, JSON] | None = None, deps: Any = None) -> Run: ...

    @overload
    def resume(
        self,
        *,
        output_type: TypeForm[X] | Output[X],
        inputs: Mapping[str, JSON] | None = None,
        deps: Any = None,
    ) -> Run[X]: ...

    def resume(
        self, *, output_type: Any = str, inputs: Mapping[str, JSON] | None = None, deps: Any = None
    ) -> Run[Any]:
        """Go on with a turn that waits for answers, as `AgentLoop.resume` does.

        Args:
            output_type: as for `AgentLoop.resume`.
            inputs: the answers, by input id.
            deps: for this run, instead of the agent's own.

        Raises:
            ConfigurationError: no turn waits.
        """
        state = self._settled()
        if state is None or not state.waiting:
            raise ConfigurationError(
                f"session {self.context_id!r} has no turn that waits for an answer: go on with send(…)",
                argument="inputs",
            )
        return self._next(self._agent.resume(state, output_type=output_type, inputs=inputs, deps=deps))

    def _next(self, run: Run[Any]) -> Run[Any]:
        self._before, self._newest = self._begun, run
        return run

    @property
    def _begun(self) -> Run[Any] | None:
        """The newest run that began: one that nobody started, or that could not be resumed, changes nothing."""
        return self._newest if self._newest is not None and self._newest.state is not None else self._before

    def _settled(self) -> LoopState | None:
        """The state that the newest turn ended in; None before there is one."""
        run = self._begun
        if run is not None and not run.done:
            raise ConfigurationError(
                f"session {self.context_id!r} is still working on the turn before: await it or cancel it first",
                argument="prompt",
            )
        return run.state if run is not None else None


def _closed(state: LoopState) -> LoopState:
    """The state with an answer to every call: a model cannot go on from less."""
    for call in state.pending:
        left = Failure(type="Unanswered", message="not answered: the conversation went on without it")
        state = advance(state, ToolComplete(call_id=call.id, tool_name=call.name, error=left))
    return state
