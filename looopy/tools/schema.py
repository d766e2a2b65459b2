"""What a function takes, as a JSON schema for a model and as a reader of what the model sends back.

`Parameters.of` looks at a signature and its docstring once; `Parameters.read` then costs one pydantic validation per call. Nothing here
runs a function or knows of streams: `function.py` does.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from types import MethodType, SimpleNamespace, UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints

import docstring_parser
from pydantic import TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind
from pydantic_core import ErrorDetails

from looopy import misfits
from looopy.errors import ToolSchemaError
from looopy.messages import JSON
from looopy.ports import ToolContext
from looopy.strict import untitled

_CONTEXT = re.compile(r"(\w+\.)*ToolContext(\[.*\])?")


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of a function that is a tool.

    Attributes:
        tool: the tool's name.
        schema: a JSON schema of type object, without `title`s.
        names: what the model may give, in the function's order.
        contexts: parameters that are given the call's `ToolContext` and that the model does not see.
        positional: parameters that can be given by position only.
    """

    tool: str
    schema: dict[str, JSON]
    names: tuple[str, ...]
    contexts: tuple[str, ...]
    positional: tuple[str, ...]
    _validate: Callable[[object], dict[str, Any]] = field(repr=False)

    @classmethod
    def of(
        cls,
        function: Callable[..., object],
        *,
        tool: str,
        descriptions: Mapping[str, str],
        schema: dict[str, JSON] | None = None,
    ) -> Parameters:
        """Look at a function's signature.

        Args:
            function: any callable whose parameters have types that pydantic knows.
            tool: the tool's name.
            descriptions: texts for parameters that carry none themselves, by name.
            schema: shown to the model instead of what the signature says; the names of the arguments are then still checked, their types
                are not.

        Raises:
            ToolSchemaError: a parameter has no type, or one that has no JSON schema or cannot be found, or is `*args`.
        """
        return _Reading(function, tool, descriptions, schema).parameters()

    def read(
        self, arguments: dict[str, JSON], context: ToolContext[Any]
    ) -> tuple[list[Any], dict[str, Any]] | str:
        """What to call the function with, by position and by name; or what is wrong, field by field, in words for the model."""
        try:
            # The arguments stand in an event and in the history: a tool that changes its own must not change those.
            values = self._validate({name: _own(value) for name, value in arguments.items()})
        except ValidationError as error:
            return self._problems(error)
        for name in self.contexts:
            values[name] = context
        return [values.pop(name) for name in self.positional], values

    def _problems(self, error: ValidationError) -> str:
        found = error.errors(include_url=False, include_context=False)
        return misfits.told(f"with the arguments of {self.tool!r}", [self._problem(each) for each in found])

    def _problem(self, problem: ErrorDetails) -> str:
        if problem["type"] == "unexpected_keyword_argument":
            place = misfits.place(problem, whole="arguments")
            return f"{place}: unexpected argument; {self._instead_of(place)}"
        return misfits.line(problem, whole="arguments")

    def _instead_of(self, name: str) -> str:
        if not self.names:
            return "there are no arguments"
        close = difflib.get_close_matches(name, self.names, n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        return f"{meant}The arguments are: {', '.join(self.names)}"


def describe(function: Callable[..., object]) -> tuple[str, dict[str, str]]:
    """What a docstring says about a tool and about its parameters; Google, NumPy and reST style.

    Returns:
        The short and long description with what is returned (sections on exceptions and examples are left out), and the descriptions of
        the parameters by name. Empty without a docstring.
    """
    text = inspect.getdoc(_described(function)) or ""
    try:
        said = docstring_parser.parse(text)
    except Exception:  # noqa: BLE001  the parser also falls over its own feet: then the text is the description as it stands
        return text, {}
    between = "\n\n" if said.blank_after_short_description else "\n"
    paragraphs = [between.join(filter(None, (said.short_description, said.long_description)))]
    if said.returns and said.returns.description:
        paragraphs.append(
            f"{'Yields' if said.returns.is_generator else 'Returns'}: {said.returns.description}"
        )
    # NumPy style describes several parameters at once: `x, y : float`.
    described = {
        name.strip().lstrip("*"): each.description
        for each in said.params
        if each.description
        for name in each.arg_name.split(",")
    }
    return "\n\n".join(filter(None, paragraphs)), described


def place_of(function: Callable[..., object]) -> str:
    """Where a function is written, as "file:line"; its module, where there is no source."""
    code = getattr(_inner(function), "__code__", None)
    if code is None:
        return str(getattr(function, "__module__", None) or "an unknown place")
    return f"{code.co_filename}:{code.co_firstlineno}"


def return_type(function: Callable[..., object]) -> object:
    """The class that a function says it returns, without its parameters; None when it says none, or one that cannot be found."""
    inner = _inner(function)
    try:
        annotation = getattr(inner, "__annotations__", {}).get("return")
        hint = _resolved("return", annotation, getattr(inner, "__globals__", {}))
    except Exception:  # noqa: BLE001  an annotation may hold any expression, and this one is not needed
        return None
    return get_origin(hint) or hint


class _Schema(GenerateJsonSchema):
    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        """Say nothing: a default without a JSON form stays the function's own affair."""


class _Reading:
    """One look at one signature."""

    def __init__(
        self,
        function: Callable[..., object],
        tool: str,
        descriptions: Mapping[str, str],
        schema: dict[str, JSON] | None,
    ) -> None:
        self._function = function
        self._tool = tool
        self._descriptions = descriptions
        self._schema = schema

    def parameters(self) -> Parameters:
        if self._schema is not None and self._schema.get("type") != "object":
            raise self._error(f"schema={self._schema!r} must be a JSON schema of type object")
        given = [*self._given()]
        types = {each.name: self._type_of(each) for each in given}
        contexts = tuple(name for name, annotation in types.items() if _is_context(annotation))
        fields = [self._field(each, types[each.name]) for each in given if each.name not in contexts]
        adapter = self._adapter(fields)
        return Parameters(
            tool=self._tool,
            schema=self._schema or self._schema_of(fields, adapter),
            names=tuple(each.name for each in fields if each.kind is each.KEYWORD_ONLY),
            contexts=contexts,
            positional=tuple(each.name for each in given if each.kind is each.POSITIONAL_ONLY),
            _validate=adapter.validator.validate_python,
        )

    def _given(self) -> Iterator[inspect.Parameter]:
        try:
            signature = inspect.signature(self._function)
        except (ValueError, NameError) as error:
            raise self._error(
                f"cannot be read: {error}; wrap it in a function with typed parameters"
            ) from None
        fixed = (
            cast("partial[object]", self._function).keywords if isinstance(self._function, partial) else {}
        )
        for parameter in signature.parameters.values():
            if parameter.kind is parameter.VAR_POSITIONAL:
                name = parameter.name
                mend = f"take a list instead: `{name}: list[…]`"
                raise self._error(f"parameter '*{name}' cannot be filled from a JSON object; {mend}", name)
            if parameter.name not in fixed:
                yield parameter

    def _type_of(self, parameter: inspect.Parameter) -> Any:
        name, annotation = parameter.name, parameter.annotation
        if annotation is parameter.empty:
            if self._schema is not None or parameter.kind is parameter.VAR_KEYWORD:
                return Any
            raise self._error(
                f"parameter {name!r} has no type, so no schema can be made; {_untyped_mend(name)}", name
            )
        try:
            return _resolved(name, annotation, getattr(_inner(self._function), "__globals__", {}))
        except Exception as error:  # noqa: BLE001  an annotation may hold any expression
            if isinstance(annotation, str) and _CONTEXT.fullmatch(annotation):
                return ToolContext
            if self._schema:
                return Any
            raise self._error(
                f"parameter {name!r} has type {annotation!r}, which cannot be found ({error}); import or define what it names at the "
                "module's level, not under `if TYPE_CHECKING:` and not inside a function, or pass schema= to @tool",
                name,
            ) from None

    def _field(self, parameter: inspect.Parameter, annotation: Any) -> inspect.Parameter:
        """The parameter as a JSON object fills it: by name."""
        kind = parameter.kind if parameter.kind is parameter.VAR_KEYWORD else parameter.KEYWORD_ONLY
        return parameter.replace(kind=kind, annotation=Any if self._schema else annotation)

    def _adapter(self, fields: Sequence[inspect.Parameter]) -> TypeAdapter[dict[str, Any]]:
        try:
            return _adapter(fields)
        except Exception as error:  # noqa: BLE001  pydantic has no root for what it raises here, and types bring their own
            raise self._without_schema(fields, error) from None

    def _schema_of(self, fields: Sequence[inspect.Parameter], adapter: TypeAdapter[Any]) -> dict[str, JSON]:
        try:
            made = adapter.json_schema(schema_generator=_Schema)
        except Exception as error:  # noqa: BLE001  pydantic has no root for what it raises here, and types bring their own
            raise self._without_schema(fields, error) from None
        if any(each.kind is each.VAR_KEYWORD for each in fields):
            made.setdefault("additionalProperties", True)
        for name, schema in made["properties"].items():
            if name in self._descriptions:
                schema.setdefault("description", self._descriptions[name])
        order = ("type", "properties", "required", "additionalProperties", "$defs")
        return untitled({key: made[key] for key in order if key in made})

    def _without_schema(self, fields: Sequence[inspect.Parameter], error: Exception) -> ToolSchemaError:
        found = ((each, reason) for each in fields if (reason := _why_not(each)) is not None)
        culprit, reason = next(found, (None, error))
        # pydantic names the type and a setting of its own models; anything else that it says is news.
        known = getattr(reason, "code", None) in ("schema-for-unknown-type", "invalid-for-json-schema")
        why = "" if known else f" ({str(reason).splitlines()[0]})"
        if culprit is None:
            return self._error(f"its parameters have no JSON schema together{why}; pass schema= to @tool")
        return self._error(
            f"parameter {culprit.name!r} has type {inspect.formatannotation(culprit.annotation)!r}, which has no JSON schema{why}; "
            "annotate it with a type that pydantic knows, or pass schema= to @tool",
            culprit.name,
        )

    def _error(self, said: str, parameter: str = "") -> ToolSchemaError:
        return ToolSchemaError(
            f"tool {self._tool!r} at {place_of(self._function)}: {said}", tool=self._tool, parameter=parameter
        )


def _resolved(name: str, annotation: object, namespace: dict[str, Any]) -> Any:
    """The type that an annotation means; texts are read in the function's module, where `ToolContext` is always known."""
    known = {"ToolContext": ToolContext, **namespace}
    return get_type_hints(
        SimpleNamespace(__annotations__={name: annotation}), globalns=known, include_extras=True
    )[name]


def _is_context(annotation: object) -> bool:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_context(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return any(_is_context(each) for each in get_args(annotation))
    return annotation is ToolContext or origin is ToolContext


def _adapter(fields: Sequence[inspect.Parameter]) -> TypeAdapter[dict[str, Any]]:
    """What validates a JSON object as the arguments of a function with these parameters."""

    def collect(**values: Any) -> dict[str, Any]:
        return values

    vars(collect)["__signature__"] = inspect.Signature(fields)
    collect.__annotations__ = {each.name: each.annotation for each in fields}
    return TypeAdapter(cast("Any", collect))  # pydantic takes functions too, which its types do not say


def _why_not(parameter: inspect.Parameter) -> Exception | None:
    """Why a single parameter has no JSON schema; None when it has one."""
    try:
        _adapter([parameter]).json_schema(schema_generator=_Schema)
    except Exception as error:  # noqa: BLE001  as in `_Reading._adapter`
        return error
    return None


def _untyped_mend(name: str) -> str:
    if name in ("self", "cls"):
        return "make a tool of the bound method: tool(its_object.method)"
    return f"annotate it, for example `{name}: str`, or pass schema= to @tool"


def _inner(function: Callable[..., object]) -> Callable[..., object]:
    """The plain function behind partials, methods, decorators and objects with `__call__`: it has the code and the module."""
    while isinstance(function, partial):
        function = function.func
    function = inspect.unwrap(function)
    if isinstance(function, MethodType):
        return inspect.unwrap(function.__func__)
    if inspect.isroutine(function):
        return function
    return _inner(type(function).__call__)


def _described(function: Callable[..., object]) -> object:
    """What has the docstring: the function, or the method or class behind `__call__`."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function):
        return function
    called = type(function).__call__
    return called if called.__doc__ else type(function)


def _own(value: JSON) -> JSON:
    return deepcopy(cast("JSON", value)) if isinstance(value, dict | list) else value
