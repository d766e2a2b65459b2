"""Functions whose body is a model: `@llm_function`."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import typing
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from looopy.errors import ConfigurationError, WrongThread, words
from looopy.llm.once import Asking, Options
from looopy.llm.templates import Template, shown
from looopy.messages import jsonable
from looopy.output import Output
from looopy.run import Run
from looopy.threads import running_loop
from looopy.tools.schema import place_of

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
X = TypeVar("X")
X_co = TypeVar("X_co", covariant=True)


class LLMFunction(Generic[P, R_co, X_co]):
    """A function that a model answers; made by `llm_function`, and called like the function it was."""

    __wrapped__: Callable[..., object]

    def __init__(self, function: Callable[P, R_co], asking: Asking) -> None:
        functools.update_wrapper(self, function)
        self._called = f"@llm_function {function.__qualname__} ({place_of(function)})"
        self._awaited = inspect.iscoroutinefunction(function)
        self._signature = inspect.signature(function)
        self._asking = asking
        self._template = self._read(function)
        self._rest = tuple(name for name in self._signature.parameters if name not in self._template.names)
        self._output = Output.of(self._answer_type(function)) or str

    def __repr__(self) -> str:
        return f"<llm_function {self.__wrapped__.__qualname__}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The model's answer; of an `async def` a coroutine that gives it.

        Raises:
            LooopyError: what ended it early, as `Run.result` raises it.
        """
        run = self.run(*args, **kwargs)
        if self._awaited:
            return cast("R_co", _answer(run))
        if running_loop() is not None:
            name = self.__wrapped__.__name__
            raise WrongThread(
                f"{name}() would block the event loop that runs in this thread: write it as `async def {name}` and await it"
            )
        return cast("R_co", run.result().output)

    def run(self, *args: P.args, **kwargs: P.kwargs) -> Run[X_co]:
        """The run that answers, for its usage, its cost and its events: `result = await f.run(…)`, or `f.run(…).result()`."""
        return self._asking.run(self.prompt(*args, **kwargs), self._output)

    def prompt(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """What the model is asked: the docstring with the arguments in their places, and those without a place below it.

        Raises:
            TypeError: the arguments do not fit the signature.
            ConfigurationError: an argument has no JSON form.
        """
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        text = self._template.render(**bound.arguments)
        return "\n\n".join(
            [text, *(f"{name}: {shown(jsonable(bound.arguments[name]))}" for name in self._rest)]
        )

    def _read(self, function: Callable[..., object]) -> Template:
        """The docstring as a template of the parameters."""
        parameters = list(self._signature.parameters)
        if parameters[:1] in (["self"], ["cls"]):
            raise self._wrong("is a method: write a function, and pass it what it needs of the object")
        text = inspect.getdoc(function)
        if not text or not text.strip():
            raise self._wrong("has no docstring, which is what the model is asked")
        single = re.search(rf"(?<!\{{)\{{\s*({'|'.join(parameters) or '(?!)'})\s*\}}(?!\}})", text)
        if single:
            raise self._wrong(f"has {single[0]} in its docstring: write {{{{ {single[1]} }}}}")
        template = Template(text, name=function.__qualname__)
        for name in sorted(template.names - set(parameters)):
            close = difflib.get_close_matches(name, parameters, n=1)
            meant = (
                f"did you mean {close[0]!r}?"
                if close
                else f"the parameters are: {', '.join(parameters) or 'none'}"
            )
            raise self._wrong(
                f"has {{{{ {name} }}}} in its docstring, and no parameter of that name; {meant}"
            )
        return template

    def _answer_type(self, function: Callable[..., object]) -> Any:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise self._wrong("is a generator: llm.stream gives an answer as it comes")
        if self._signature.return_annotation is inspect.Signature.empty:
            raise self._wrong(
                "does not say what it returns: write `-> str`, or the type that the answer shall have"
            )

        def only() -> None: ...

        try:
            only.__annotations__ = {"return": function.__annotations__["return"]}
            space = getattr(function, "__globals__", None)
            found = typing.get_type_hints(only, space, include_extras=True)["return"]
        except Exception as error:  # noqa: BLE001  an annotation may hold any expression
            raise self._wrong(
                f"returns a type that cannot be found ({words(error)}): define it at the module's level"
            ) from None
        if found is type(None):
            raise self._wrong("returns None: write `-> str`, or the type that the answer shall have")
        return found

    def _wrong(self, what: str) -> ConfigurationError:
        return ConfigurationError(f"{self._called} {what}", argument=self.__wrapped__.__name__)


class _Decorator(Protocol):
    """What `llm_function` is with options."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, X]], /
    ) -> LLMFunction[P, Coroutine[Any, Any, X], X]: ...

    @overload
    def __call__(self, function: Callable[P, X], /) -> LLMFunction[P, X, X]: ...


@overload
def llm_function(
    function: Callable[P, Coroutine[Any, Any, X]], /
) -> LLMFunction[P, Coroutine[Any, Any, X], X]: ...


@overload
def llm_function(function: Callable[P, X], /) -> LLMFunction[P, X, X]: ...


@overload
def llm_function(**options: Unpack[Options]) -> _Decorator: ...


def llm_function(function: Callable[..., Any] | None = None, /, **options: Unpack[Options]) -> Any:
    """A function whose docstring is the prompt, whose return annotation is the type of the answer, and whose body is the model.

    `{{ name }}` in the docstring is the parameter of that name, as in a `Template`; parameters that have no such place are written below it. A `def` blocks
    until the answer is there, an `async def` is awaited. What stands in the body is never run: the docstring alone will do, with `raise NotImplementedError` below it
    where a type checker wants something to be returned.

    Args:
        function: the function; left out where there are options.
        options: as for `complete`; its name in traces and reports is the function's, unless `agent_id` says otherwise.

    Raises:
        ConfigurationError: there is no docstring or no return annotation, the docstring names no parameter with one of its places, or an option cannot work.

    Example:
        >>> @llm_function(model="gpt-4o-mini", temperature=0)
        ... def sentiment(text: str) -> Literal["good", "bad"]:
        ...     '''What is the mood of this text?'''
    """

    def decorate(function: Callable[..., Any]) -> LLMFunction[..., Any, Any]:
        if not inspect.isfunction(function):
            raise ConfigurationError(
                f"@llm_function: a {type(function).__name__} was given; it takes a function",
                argument="function",
            )
        named = {**options, "agent_id": options.get("agent_id") or function.__name__}
        return LLMFunction(function, Asking.of("llm_function", named))

    return decorate if function is None else decorate(function)


async def _answer(run: Run[X]) -> X:
    return (await run).output
