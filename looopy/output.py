"""What an answer shall be: a type, the schema that a model is shown, and the reader of what it sends back.

`Output` turns a request into one that asks for the type, and an answer into a value of it or into what is wrong with it, in words for the model.
When to ask again is the loop's to decide; how a model is asked, `modes.py`'s.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    TypeVar,
    Union,
    assert_never,
    cast,
    get_args,
    get_origin,
)

from pydantic_core import ValidationError, from_json, to_json

from looopy import misfits
from looopy.errors import ConfigurationError, ExtractionFailed, OutputInvalid, words
from looopy.events import LLMResponse
from looopy.extract import extract_json
from looopy.messages import JSON, FinishReason, Message, ToolCall, render
from looopy.modes import Mode, mode_for
from looopy.ports import LLMProvider, LLMRequest, ToolDefinition
from looopy.strict import strict, untitled

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from typing_extensions import TypeForm

X = TypeVar("X")

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_WRAP = "result"
"""The property that holds an answer which is no object by itself: a schema for a model must be one."""

_SAID = 300
"""Characters of a wrong answer that an error shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was found in one answer.

    Attributes:
        value: what it is, as the type; None where it does not fit.
        problem: what is wrong with it, in words for the model; empty where it fits.
        said: the answer as the model wrote it.
        call: the call that gave it; None for text.
        repaired: its JSON was broken, and has been mended.
        hopeless: why asking again would not help; empty where it may.
        cause: what a validator raised that it should not.
    """

    value: Any = None
    problem: str = ""
    said: str = ""
    call: ToolCall | None = None
    repaired: bool = False
    hopeless: str = ""
    cause: Exception | None = None


class Output(Generic[X]):
    """The type that an answer shall have, and how a model is brought to it.

    Args:
        output_type: a pydantic model, dataclass, TypedDict, union, list, enum, literal or number; whatever pydantic has a JSON schema for.
        mode: "native": the provider holds the model to the schema (`response_format`); "tool": a tool whose arguments are the answer; "prompt": the
            schema in the system prompt; "auto": the best of these that the model is known for.
        retries: how many times a model is told what is wrong with its answer and asked again, in one task.
        name: the tool's name, where it is one.
        description: what the tool says of itself; the type's docstring is in the schema.

    Raises:
        ConfigurationError: the type has no JSON schema, or an argument cannot work.

    Example:
        >>> agent.execute("Read this invoice: …", output_type=Output(Invoice, mode="tool", retries=1))
    """

    __slots__ = (
        "_adapter",
        "_strict",
        "_tool",
        "_wrapped",
        "description",
        "mode",
        "name",
        "output_type",
        "retries",
        "schema",
    )

    def __init__(
        self,
        output_type: TypeForm[X],
        *,
        mode: Literal["auto"] | Mode = "auto",
        retries: int = 2,
        name: str = "final_answer",
        description: str = "Give the final answer. Call it once, when you know all of it.",
    ) -> None:
        if mode not in ("auto", "native", "tool", "prompt"):
            raise ConfigurationError(
                f"Output(mode={mode!r}): must be 'auto', 'native', 'tool' or 'prompt'", argument="mode"
            )
        count = cast("object", retries)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise ConfigurationError(f"Output(retries={retries!r}): must be 0 or more", argument="retries")
        if not _TOOL_NAME.fullmatch(name):
            raise ConfigurationError(
                f"Output(name={name!r}): the name of a tool is 1 to 64 of letters, digits, `_` and `-`",
                argument="name",
            )
        self.output_type: object = output_type
        self.mode: Literal["auto"] | Mode = mode
        self.retries = retries
        self.name = name
        self.description = description
        self._adapter, schema = _described(output_type)
        self._wrapped = schema.get("type") != "object"
        self.schema: dict[str, JSON] = _wrapped(schema) if self._wrapped else schema
        self._strict = strict(self.schema)
        self._tool = ToolDefinition(name=name, description=description, parameters=self.schema)

    def __repr__(self) -> str:
        return f"Output({_named(self.output_type)}, mode={self.mode!r}, retries={self.retries})"

    @staticmethod
    def of(output_type: Any) -> Output[Any] | None:
        """The output that a type stands for, the same each time; None for `str`, since an answer is text by itself.

        Raises:
            ConfigurationError: as the constructor.
        """
        if output_type is str or isinstance(output_type, Output):
            return cast("Output[Any] | None", None if output_type is str else output_type)
        try:
            return _known(output_type)
        except TypeError:  # unhashable: an annotation may hold a list
            return Output(output_type)

    # -------------------------------------------------------------------------------------------------------------------- to ask

    def mode_for(self, provider: LLMProvider, model: str, *, tools: bool) -> Mode | Awaitable[Mode]:
        """How a model is asked: as `mode` says, or as what is known of the model does; what the proxy knows must be awaited.

        Args:
            provider: who is asked.
            model: by which name; empty where nobody knows.
            tools: whether it is offered other tools.
        """
        if self.mode != "auto":
            return self.mode
        return mode_for(provider, model, expressible=self._strict is not None, tools=tools)

    def on(self, request: LLMRequest, mode: Mode) -> LLMRequest:
        """The request, asking for the type.

        Raises:
            ConfigurationError: another tool has the name that the answer's has.
        """
        if any(tool.name == self.name for tool in request.tools):
            raise ConfigurationError(
                f"there is a tool {self.name!r} already, and the answer is given by one: choose another with Output(…, name=…)",
                argument="output_type",
            )
        match mode:
            case "native":
                return replace(request, params={"response_format": self._response_format(), **request.params})
            case "tool":
                choice = request.tool_choice if request.tools else self.name
                return replace(request, tools=(*request.tools, self._tool), tool_choice=choice)
            case "prompt":
                return replace(request, messages=_instructed(request.messages, self._instructions()))
            case _:
                assert_never(mode)

    def _response_format(self) -> dict[str, JSON]:
        name = re.sub(r"[^a-zA-Z0-9_-]", "_", _named(self.output_type))[:64]
        schema = {"name": name, "schema": self._strict or self.schema, "strict": self._strict is not None}
        return {"type": "json_schema", "json_schema": schema}

    def _instructions(self) -> str:
        return (
            "When you know the answer, write it as one JSON object that fits this JSON schema, and nothing else, neither before nor after it:\n"
            f"{render(self.schema)}"
        )

    def again(self, judged: Judged, mode: Mode) -> str:
        """What a model is told that shall answer again."""
        if judged.call is not None:
            return f"{judged.problem}\nCall {self.name!r} again, with all of the answer."
        if mode == "tool":
            return f"{judged.problem}\nAnswer by calling the tool {self.name!r}."
        return f"{judged.problem}\n{self._instructions()}"

    # ------------------------------------------------------------------------------------------------------------------- to read

    def parted(self, calls: Sequence[ToolCall]) -> tuple[tuple[ToolCall, ...], tuple[ToolCall, ...]]:
        """The calls of tools, and those that give an answer."""
        work = tuple(call for call in calls if call.name != self.name)
        return work, tuple(call for call in calls if call.name == self.name)

    def judge(self, text: str, calls: Sequence[ToolCall], finish_reason: FinishReason) -> tuple[Judged, ...]:
        """What is in an answer: one finding for each call that gives one, or one for its text."""
        found = [self._call(call) for call in calls] or [self._text(text, cut=finish_reason == "length")]
        if why := _ENDED.get(finish_reason):
            return tuple(replace(each, hopeless=why) if each.problem else each for each in found)
        return tuple(found)

    def read(self, response: LLMResponse) -> X:
        """The value that a model answered with, to a request that was made with `on`.

        Raises:
            OutputInvalid: it does not fit the type.
        """
        _, calls = self.parted(response.tool_calls)
        judged = self.judge(response.message.text, calls, response.finish_reason)
        fitting = [each for each in judged if not each.problem]
        if not fitting:
            raise self.failure(judged[0], answers=1)
        return fitting[0].value

    def failure(self, judged: Judged, *, answers: int) -> OutputInvalid:
        """The error of an answer that is not asked for again."""
        said = judged.said if len(judged.said) <= _SAID else f"{judged.said[:_SAID]}…"
        why = f"{judged.hopeless}: " if judged.hopeless else ""
        count = "" if answers == 1 else f", the last of {answers},"
        error = OutputInvalid(
            f"{why}the answer{count} does not fit {_named(self.output_type)}: {judged.problem}\nit was: {said or 'nothing'}",
            problem=judged.problem,
            text=judged.said,
            answers=answers,
        )
        error.__cause__ = judged.cause
        return error

    def partial(self, text: str) -> JSON:
        """What there is of the answer in the beginning of its JSON; None where that is nothing.

        Args:
            text: the JSON object as far as it is written; what follows its end is not looked at.
        """
        text = _UNFINISHED.sub("", text)
        try:
            growing, settled = (from_json(text, allow_partial=mode) for mode in ("trailing-strings", True))
        except ValueError:  # prose, or broken: what is made of it in the end is said then
            return None
        if growing != settled and not self._may_grow(self._unwrapped(growing)):
            growing = settled
        return self._unwrapped(growing) or None

    def _may_grow(self, value: JSON) -> bool:
        """Whether the text at the end of a value is right as far as it goes: half a date is not."""
        try:
            self._adapter.validate_json(to_json(value))
        except ValidationError as error:
            end = _end(value)
            return all(
                each["type"].startswith("missing") or each["input"] != end
                for each in error.errors(include_url=False, include_context=False)
            )
        except Exception:  # noqa: BLE001  as in `_fit`
            return False
        return True

    def _unwrapped(self, value: JSON) -> JSON:
        return cast("dict[str, JSON]", value).get(_WRAP) if self._wrapped else value

    def _call(self, call: ToolCall) -> Judged:
        if call.problem:
            return Judged(problem=call.problem, call=call)
        wrapped = self._wrapped and call.arguments.keys() == {_WRAP}
        judged = self._fit(call.arguments[_WRAP] if wrapped else call.arguments)
        return replace(judged, call=call, said=render(call.arguments))

    def _text(self, text: str, *, cut: bool) -> Judged:
        try:
            found = extract_json(text)
        except ExtractionFailed as error:
            # A model may answer a question for a word or a number with just that.
            plain = self._fit(text.strip()) if self._wrapped and text.strip() else Judged(problem="no")
            return replace(
                plain, problem=plain.problem and f"the answer cannot be read: {error.problem}", said=text
            )
        value = found.value
        if self._wrapped and isinstance(value, dict) and cast("dict[str, JSON]", value).keys() == {_WRAP}:
            value = cast("dict[str, JSON]", value)[_WRAP]
        if cut and found.repaired:
            return Judged(problem="the answer cannot be read: it has no end", said=text)
        return replace(self._fit(value), said=text, repaired=found.repaired)

    def _fit(self, value: JSON) -> Judged:
        try:
            return Judged(value=self._adapter.validate_json(to_json(value)))
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False)
            lines = [misfits.line(each, whole="answer") for each in found]
            return Judged(problem=misfits.told("with the answer", lines))
        except Exception as error:  # noqa: BLE001  a validator is the user's code; the model cannot mend it
            what = f"a validator raised {type(error).__name__}: {words(error)}"
            return Judged(problem=what, hopeless="a validator is broken", cause=error)


_ENDED = {
    "length": "the model reached its token limit (raise max_tokens, or ask for less)",
    "content_filter": "the provider's content filter stopped the model",
}
"""Why an answer that ended so will not be better the next time."""


_UNFINISHED = re.compile(r"(?<=[:\[,\s])-?\d[\d.eE+-]*$")
"""A number that may go on."""


def _end(value: JSON) -> JSON:
    """What stands last in a value."""
    while value and isinstance(value, dict | list):
        value = cast("list[JSON]", [*value.values()] if isinstance(value, dict) else value)[-1]
    return value


@lru_cache(maxsize=256)
def _known(output_type: Any) -> Output[Any]:
    return Output(output_type)


def _described(output_type: Any) -> tuple[TypeAdapter[Any], dict[str, JSON]]:
    """What validates a value of the type, and its schema; where it refers to itself, its own definition is the root."""
    if isinstance(output_type, str):
        raise ConfigurationError(
            f"output_type={output_type!r} is a text: pass the type itself, without quotes",
            argument="output_type",
        )
    # Loaded at the first use: an agent that answers in text need not wait for all of pydantic.
    from pydantic import TypeAdapter  # noqa: PLC0415
    from pydantic.json_schema import GenerateJsonSchema  # noqa: PLC0415

    class Quiet(GenerateJsonSchema):
        ignored_warning_kinds = {"skipped-choice", "non-serializable-default", "skipped-discriminator"}  # noqa: RUF012

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(output_type)
        schema = untitled(adapter.json_schema(schema_generator=Quiet))
    except Exception as error:
        raise ConfigurationError(
            f"output_type={_named(output_type)}: it has no JSON schema ({words(error).splitlines()[0]}); pass a pydantic model, a dataclass, "
            "a TypedDict, or another type that pydantic knows, defined at the module's level",
            argument="output_type",
        ) from error
    if reference := schema.get("$ref"):
        schema = {**schema["$defs"][reference.removeprefix("#/$defs/")], "$defs": schema["$defs"]}
    return adapter, schema


def _wrapped(schema: dict[str, JSON]) -> dict[str, JSON]:
    inner = {key: value for key, value in schema.items() if key != "$defs"}
    wrapped: dict[str, JSON] = {"type": "object", "properties": {_WRAP: inner}, "required": [_WRAP]}
    return wrapped | ({"$defs": schema["$defs"]} if "$defs" in schema else {})


def _instructed(messages: Sequence[Message], text: str) -> tuple[Message, ...]:
    """The messages with this in the system prompt."""
    if messages and messages[0].role == "system":
        return (Message.system(f"{messages[0].text}\n\n{text}"), *messages[1:])
    return (Message.system(text), *messages)


def _named(output_type: object) -> str:
    """What one calls a type: `Invoice`, `Invoice | Refund`, `list[Invoice]`."""
    if get_origin(output_type) in (Union, UnionType):
        return " | ".join(map(_named, get_args(output_type)))
    if isinstance(output_type, type) and not get_args(output_type):
        return output_type.__name__
    return re.sub(r"\b(?:[a-zA-Z_]\w*\.)+", "", repr(output_type))
