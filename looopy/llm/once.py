"""One question, one answer: `complete`, and the options that it shares with `stream` and `llm_function`.

An agent that lives for one task, on a provider that many calls share.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, TypeVar, Unpack, cast, overload

from looopy.agent import AgentLoop
from looopy.arguments import Prompt
from looopy.errors import ConfigurationError
from looopy.llm.chat import Chat, messages_of
from looopy.llm.defaults import provider_for
from looopy.messages import JSON, DataPart, FilePart, TextPart
from looopy.output import Output
from looopy.ports import LLMProvider, ToolDefinition, ToolProvider
from looopy.providers.tuned import Tuned
from looopy.run import Run
from looopy.setup import Limits, SystemPrompt
from looopy.tools.client import ClientTools

if TYPE_CHECKING:
    from typing_extensions import TypeForm

X = TypeVar("X")

_IN_PARAMS = "a field of the request's body goes into params={{{name!r}: …}}"
_ELSEWHERE = {
    "output_type": "complete() takes it, and an @llm_function has it as its return annotation",
    **dict.fromkeys(
        ("base_url", "api_key", "timeout"), "pass provider=LiteLLMProvider(…), whose argument it is"
    ),
}
"""Where what is no option belongs."""

AnyTool: TypeAlias = "Callable[..., Any] | ToolProvider | ToolDefinition | Mapping[str, JSON]"
"""A function; a set of tools; or what a model sees of a tool that the caller runs, as a `ToolDefinition` or in OpenAI's form."""


class Options(TypedDict, total=False):
    """How a single call is made; all of it may be left out, and None leaves out as well.

    Attributes:
        system: the instructions: text, a prompt from a store, or a function of the state.
        tools: functions that the model may call; whole `ToolProvider`s; and tools that you run, as a `ToolDefinition` or a dict in OpenAI's form: a
            call of one of these ends the call, with the status "input-required".
        model: the name as the proxy knows it, such as "gpt-4o-mini" or "anthropic/claude-opus-5-5"; left out: LOOOPY_MODEL, or the provider's
            own. "stand-in" is the model that needs no key.
        provider: who is asked; left out: the proxy at LITELLM_URL.
        temperature: 0 to 2.
        max_tokens: the longest answer, in tokens.
        top_p: above 0, to 1.
        params: further fields of the request's body, for example `{"seed": 7}`.
        agent_id: the name in events, traces and reports.
        max_iterations: model calls that it may take, with tools or an output type.
        limits: what else it may use.
        deps: handed to tools as `ToolContext.deps`.
        session_id: groups calls in the proxy's logs and in Langfuse.
        user_id: on whose behalf.
        tags: labels for logs and traces.
        metadata: shown on the `task` event, as JSON.
    """

    system: SystemPrompt
    tools: Sequence[AnyTool] | None
    model: str | None
    provider: LLMProvider | None
    temperature: float | None
    max_tokens: int | None
    top_p: float | None
    params: Mapping[str, JSON] | None
    agent_id: str | None
    max_iterations: int | None
    limits: Limits | None
    deps: Any
    session_id: str | None
    user_id: str | None
    tags: Sequence[str] | None
    metadata: Mapping[str, JSON] | None


@overload
def complete(prompt: Prompt | Chat, **options: Unpack[Options]) -> Run: ...


@overload
def complete(
    prompt: Prompt | Chat, *, output_type: TypeForm[X] | Output[X], **options: Unpack[Options]
) -> Run[X]: ...


def complete(prompt: Prompt | Chat, *, output_type: Any = str, **options: Unpack[Options]) -> Run[Any]:
    """Ask a model: `await llm.complete("Hi")`, or `llm.complete("Hi").result()` where no event loop runs. Both give a `RunResult`.

    Nothing happens before. Tools that are functions are run, and the model is asked again, until it answers.

    Args:
        prompt: what is asked: text; a `Message`; parts of one; or a conversation as a list of `Message`s or of dicts in OpenAI's chat format.
        output_type: what `.output` shall be, as for `AgentLoop.execute`; left out: text.
        options: as `Options` says; `system`, `tools`, `model`, `provider`, `temperature`, `max_tokens` and more.

    Raises:
        ConfigurationError: the prompt or an option cannot work, or there is no model or proxy.
    """
    return Asking.of("complete", options).run(prompt, output_type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The options of a call, checked for their names; `Options` says what each means."""

    system: SystemPrompt = None
    tools: Sequence[AnyTool] = ()
    model: str = ""
    provider: LLMProvider | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    params: Mapping[str, JSON] | None = None
    agent_id: str = "llm"
    max_iterations: int = 20
    limits: Limits = field(default_factory=Limits)
    deps: Any = None
    session_id: str = ""
    user_id: str = ""
    tags: Sequence[str] = ()
    metadata: Mapping[str, JSON] | None = None

    @classmethod
    def of(cls, caller: str, options: Mapping[str, Any]) -> Asking:
        """What was passed to a function of this name.

        Raises:
            TypeError: there is no such option.
        """
        for name in options.keys() - set(cls.__slots__):
            close = difflib.get_close_matches(name, cls.__slots__, n=1, cutoff=0.7)
            mend = (
                f"did you mean {close[0]!r}?" if close else _ELSEWHERE.get(name, _IN_PARAMS.format(name=name))
            )
            raise TypeError(f"{caller}() got an unexpected keyword argument {name!r}; {mend}")
        return cls(**{name: value for name, value in options.items() if value is not None})

    def run(self, prompt: Prompt | Chat, output_type: Any = str) -> Run[Any]:
        """The run that answers."""
        *history, last = _conversation(prompt)
        functions, providers = _parted(self.tools)
        agent = AgentLoop(
            llm_provider=self._asked(),
            agent_id=self.agent_id,
            tools=functions,
            tool_providers=providers,
            system_prompt=self.system,
            max_iterations=self.max_iterations,
            limits=self.limits,
            deps=self.deps,
        )
        return agent.execute(
            last,
            output_type=output_type,
            history=history,
            session_id=self.session_id,
            user_id=self.user_id,
            tags=self.tags,
            metadata=self.metadata,
        )

    def _asked(self) -> LLMProvider:
        """Who is asked, and how."""
        if isinstance(self.provider, str):
            raise ConfigurationError(
                f"provider={self.provider!r} is the name of a model: write model={self.provider!r}",
                argument="provider",
            )
        provider = self.provider or provider_for(self.model)
        model = self.model if self.provider else ""
        sampling = (self.temperature, self.max_tokens, self.top_p)
        if not (model or self.params) and sampling == (None, None, None):
            return provider
        return Tuned(
            provider,
            model=model,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            top_p=self.top_p,
            params=self.params,
        )


def _conversation(prompt: Prompt | Chat) -> Sequence[Any]:
    """The messages of a conversation; any other prompt as the only one."""
    match prompt:
        case [TextPart() | FilePart() | DataPart(), *_]:
            return (prompt,)
        case [_, *_]:
            return messages_of(cast("Chat", prompt))
        case _:
            return (prompt,)


def _parted(tools: Sequence[AnyTool]) -> tuple[list[Callable[..., Any]], list[ToolProvider]]:
    """The functions among tools, and the sets of others."""
    if callable(tools) or not isinstance(cast("object", tools), Sequence):
        raise ConfigurationError(f"tools={tools!r}: it takes a list, so write tools=[…]", argument="tools")
    functions: list[Callable[..., Any]] = []
    providers: list[ToolProvider] = []
    definitions: list[ToolDefinition | Mapping[str, JSON]] = []
    for tool in tools:
        if isinstance(tool, ToolDefinition | Mapping):
            definitions.append(cast("Mapping[str, JSON]", tool))
        elif isinstance(tool, ToolProvider) and not isinstance(tool, type):
            providers.append(tool)
        elif callable(tool):
            functions.append(tool)
        else:
            raise ConfigurationError(
                f"tools: a {type(tool).__name__} is none; pass functions, ToolProviders, ToolDefinitions, or dicts in OpenAI's form",
                argument="tools",
            )
    return functions, [*providers, *([ClientTools(definitions)] if definitions else [])]
