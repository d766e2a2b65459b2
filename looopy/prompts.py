"""The instructions of a model: text, or a prompt that a store such as Langfuse keeps under a name and a version.

A value and what makes it; no store is known here, only what its prompts look like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

from looopy.errors import ConfigurationError, words


@runtime_checkable
class StoredPrompt(Protocol):
    """A prompt out of a prompt store: what Langfuse's `get_prompt` gives, or anything like it."""

    @property
    def name(self) -> str:
        """What the store calls it."""
        ...

    @property
    def version(self) -> int:
        """Which version it is."""
        ...

    @property
    def is_fallback(self) -> bool:
        """Whether it is a text of the caller's, used because the store could not be reached."""
        ...

    def compile(self, **variables: Any) -> Any:
        """The prompt with its variables filled in: text, or messages in OpenAI's chat format."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedPrompt:
    """Instructions, and the name and version under which a prompt store such as Langfuse keeps them.

    The model calls made with it are linked to that version, so that the store shows what each version costs and how it is scored.

    Attributes:
        text: the instructions, filled in.
        name: what the store calls them; empty for a text that no store keeps, which is linked to nothing.
        version: which version of it; None where there is no name.

    Raises:
        ConfigurationError: only one of name and version is given, or one is of another type.
    """

    text: str
    name: str = ""
    version: int | None = None

    def __post_init__(self) -> None:
        values: tuple[object, object, object] = (self.text, self.name, self.version)
        match values:
            case (str(), "", None):
                return
            case (str(), str(name), int(version)) if name and not isinstance(version, bool):
                return
            case _:
                raise ConfigurationError(
                    f"ManagedPrompt(name={self.name!r}, version={self.version!r}): it takes a text, and its name with the number of its "
                    "version, or neither of the two",
                    argument="system_prompt",
                )

    @classmethod
    def of(cls, prompt: StoredPrompt, /, **variables: Any) -> ManagedPrompt:
        """A prompt out of a store with its variables filled in: `ManagedPrompt.of(langfuse.get_prompt("support"), city="Oslo")`.

        A fallback keeps its text and loses name and version, since the store does not know it.

        Args:
            prompt: what the store gave; of a chat prompt the system messages are taken, and there must be no others.
            variables: values for the `{{variables}}` in it.

        Raises:
            ConfigurationError: that is no stored prompt, a variable is left over, or the prompt has messages that are not the system's.
        """
        if not isinstance(cast("object", prompt), StoredPrompt):
            raise ConfigurationError(
                f"ManagedPrompt.of() was given a {type(prompt).__name__}: pass what get_prompt gave, or write ManagedPrompt(text=…)",
                argument="prompt",
            )
        what = f"the prompt {prompt.name!r}, version {prompt.version!r},"
        unfilled = [name for name in getattr(prompt, "variables", ()) if name not in variables]
        if unfilled:
            values = ", ".join(f"{name}=…" for name in dict.fromkeys(unfilled))
            raise ConfigurationError(
                f"{what} has variables without a value: write ManagedPrompt.of(prompt, {values})",
                argument="system_prompt",
            )
        try:
            compiled = prompt.compile(**variables)
        except Exception as error:
            raise ConfigurationError(
                f"{what} could not be filled in: {words(error)}", argument="system_prompt"
            ) from error
        text = compiled if isinstance(compiled, str) else _system_text(compiled, what)
        if prompt.is_fallback:
            return cls(text=text)
        return cls(text=text, name=prompt.name, version=prompt.version)


def _system_text(messages: object, what: str) -> str:
    """The text of a chat prompt that is nothing but instructions."""
    texts: list[str] = []
    for message in cast("Sequence[object]", messages) if isinstance(messages, Sequence) else (messages,):
        match message:
            case {"role": "system" | "developer", "content": str(text)}:
                texts.append(text)
            case _:
                said = cast("Mapping[str, object]", message if isinstance(message, Mapping) else {})
                kind = said.get("role") or said.get("type") or type(cast("object", message)).__name__
                raise ConfigurationError(
                    f"{what} has a part of kind {kind!r}, but a system prompt is made of system messages alone: pass the conversation as "
                    "history=[Message.user(…), …] to execute(), and keep only the system messages in the store",
                    argument="system_prompt",
                )
    return "\n\n".join(texts)


Instructions: TypeAlias = str | ManagedPrompt | StoredPrompt | None
"""What a model is told to be: text, a managed prompt, or a prompt of a store that has no variables."""

_NOTHING = ManagedPrompt(text="")


def instructions(given: Instructions) -> ManagedPrompt:
    """What is said to the model, in the one form that the loop knows; with an empty text where it is nothing.

    Raises:
        ConfigurationError: it is of another kind, or a stored prompt cannot be used as it is.
    """
    match given:
        case None:
            return _NOTHING
        case str():
            return ManagedPrompt(text=given)
        case ManagedPrompt():
            return given
        case StoredPrompt():
            return ManagedPrompt.of(given)
        case _:  # pyright: ignore[reportUnnecessaryComparison]  # what a type checker would have said
            kind = type(cast("object", given)).__name__
            raise ConfigurationError(
                f"the system prompt is a {kind}: it is text, a ManagedPrompt, a prompt from Langfuse's get_prompt, or a function of the state "
                "that gives one of them",
                argument="system_prompt",
            )
