"""Python functions as tools: `@tool`, `FunctionTool`, and `FunctionTools`, the ToolProvider that holds them.

`schema.py` says what a function takes; here it is run: on the loop, or in a thread of its own so that it never blocks the loop. What a
tool does is told as events (`looopy.events.ToolEvent`) without ids; the loop above stamps them.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, Literal, ParamSpec, TypeAlias, TypeVar, cast, overload

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from looopy import reactive, threads
from looopy.errors import ConfigurationError
from looopy.events import Failure, InputRequired, ToolComplete, ToolEvent
from looopy.messages import JSON, ToolCall, jsonable
from looopy.ports import InputNeeded, ToolContext, ToolDefinition
from looopy.state import LoopState
from looopy.tools.items import items_of, shown
from looopy.tools.schema import Parameters, describe, place_of, return_type

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")

_Kind: TypeAlias = Literal["coroutine", "loop", "thread"]
"""How a function is called: awaited; on the loop, since it only makes something to wait for; or in a thread."""


_Coroutine: TypeAlias = Callable[..., Awaitable[object]]

_OVER = object()
"""No more items."""


@dataclass(frozen=True, slots=True)
class FunctionTool(Generic[P, R_co]):
    """A function that a model may call; made by `tool`. Called directly, it is the function itself.

    A tool may be a function, an `async def`, a generator of either kind, a bound method, a `functools.partial`, an object with `__call__`,
    or anything of these that returns an awaitable or an Observable. What is not async runs in a thread of its own.

    Generators and Observables show progress: each item is one `ToolProgress` at once, and the last item is the result too. A number
    from 0 to 1 is progress, a text is a note, `(0.5, "half")` is both, anything else is data. `ToolProgress` and `ArtifactUpdate` are
    shown as they are and are no result. A generator's own `return` value, if it is not None, is the result instead; so is a
    `ToolComplete`, yielded or returned.

    Attributes:
        function: what is called.
        definition: what a model sees of it.
        timeout: seconds until the call is answered with a failure of type "ToolTimeout"; None for no limit. An async tool is then cancelled; a
            thread cannot be, it is left alone and told by `ToolContext.cancelled`.
    """

    function: Callable[P, R_co]
    definition: ToolDefinition
    timeout: float | None
    _parameters: Parameters = field(repr=False)
    _kind: _Kind = field(repr=False)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function, as if it were no tool."""
        return self.function(*args, **kwargs)

    @property
    def __wrapped__(self) -> Callable[P, R_co]:
        """The function, for `inspect.signature` and `help`."""
        return self.function

    @property
    def name(self) -> str:
        """The tool's name."""
        return self.definition.name

    def call(self, call: ToolCall, context: ToolContext[Any]) -> Observable[ToolEvent]:
        """Run the tool with the arguments of a model's call.

        Cold: each subscription is one run; disposing cancels it. Wrong arguments never run the function: they are answered with a
        `ToolComplete` whose failure says for each field what is wrong. So are a timeout, a result that has no JSON form, and a
        tool that raises `asyncio.CancelledError`, `KeyboardInterrupt` or `SystemExit`, since none of them may end the loop. Any
        other exception of the function is `on_error`.

        Args:
            call: the model's call; its name is not looked at.
            context: handed to the parameters of type `ToolContext`.
        """
        if self.timeout is None:
            return self._run(call, context)
        return _within(self.timeout, lambda own: self._run(call, own), context=context, tool=self.name)

    def _run(self, call: ToolCall, context: ToolContext[Any]) -> Observable[ToolEvent]:
        if self._kind == "coroutine":
            return reactive.from_awaitable(lambda: self._awaited(call, context))
        return reactive.from_aiter(lambda: self._events(call, context))

    async def _awaited(self, call: ToolCall, context: ToolContext[Any]) -> ToolEvent:
        try:
            given = call.problem or self._parameters.read(call.arguments, context)
            if isinstance(given, str):
                return _wrong(given)
            args, kwargs = given
            return self._answer(await cast("_Coroutine", self.function)(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  a tool may raise anything, and none of it may end the loop
            return _caught(error)

    async def _events(self, call: ToolCall, context: ToolContext[Any]) -> AsyncIterator[ToolEvent]:
        begun = await self._begun(call, context)
        if not isinstance(begun, AsyncGenerator):
            yield begun
            return
        result = item = None
        async with aclosing(begun) as items:
            while True:
                # Pull and push are apart: what the tool raises is caught, and what is done with its events is not.
                try:
                    item = await anext(items, _OVER)
                    event = self._answer(result) if item is _OVER else shown(item)
                    if isinstance(event, ToolComplete | InputRequired):
                        await items.aclose()
                except BaseException as error:  # noqa: BLE001  as in `_awaited`
                    event = _caught(error)
                yield event
                if isinstance(event, ToolComplete | InputRequired):
                    return
                if event is not item:
                    result = item

    async def _begun(
        self, call: ToolCall, context: ToolContext[Any]
    ) -> ToolEvent | AsyncGenerator[object, None]:
        """The answer, or the items of a tool that shows progress."""
        try:
            given = call.problem or self._parameters.read(call.arguments, context)
            if isinstance(given, str):
                return _wrong(given)
            function = partial(cast("Callable[..., object]", self.function), *given[0], **given[1])
            value = function() if self._kind == "loop" else await threads.in_thread(function)
            if inspect.isawaitable(value) and not isinstance(value, Observable):
                value = await value
            return items_of(value, self._answer) or self._answer(value)
        except BaseException as error:  # noqa: BLE001  as in `_awaited`
            return _caught(error)

    def _answer(self, value: object) -> ToolEvent:
        if isinstance(value, ToolComplete | InputRequired):
            return value
        if inspect.iscoroutine(value):
            value.close()  # else Python warns, at another place
            said = f"the tool {self.name!r} returned a coroutine that nobody awaited; write `return await …`"
            return ToolComplete(error=Failure(type="UnserializableResult", message=said))
        try:
            return ToolComplete(result=jsonable(value))
        except TypeError as error:
            mend = "return text, numbers, lists, dicts, dataclasses or pydantic models"
            said = f"the tool {self.name!r} returned a {type(value).__name__} that has no JSON form ({error}); {mend}"
            return ToolComplete(error=Failure(type="UnserializableResult", message=said))


@overload
def tool(
    function: Callable[P, R],
    /,
    *,
    name: str = "",
    description: str = "",
    timeout: float | None = None,
    schema: dict[str, JSON] | None = None,
) -> FunctionTool[P, R]: ...


@overload
def tool(
    *,
    name: str = "",
    description: str = "",
    timeout: float | None = None,
    schema: dict[str, JSON] | None = None,
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...


def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str = "",
    description: str = "",
    timeout: float | None = None,
    schema: dict[str, JSON] | None = None,
) -> FunctionTool[P, R] | Callable[[Callable[P, R]], FunctionTool[P, R]]:
    """Make a tool of a function: `@tool`, `@tool(timeout=5)`, or `tool(its_object.method, name="find")`.

    The model is told the function's name, what its docstring says (Google, NumPy or reST style; none is needed) and its parameters by their
    types, defaults and descriptions. A parameter of type `ToolContext` is filled in for each call and not shown.

    Args:
        function: what to call; `FunctionTool` says what it may be. Of a tool, another one is made.
        name: 1 to 64 of letters, digits, `_` and `-`; the function's name when left out.
        description: instead of the docstring's; its parameters' descriptions stay.
        timeout: seconds until the call is answered with a failure that the model reads; None for no limit.
        schema: a JSON schema of type object that is shown instead of the signature's. The arguments are then checked by name only and handed
            over as they come.

    Raises:
        ToolSchemaError: the function's parameters cannot be described; the message says where and why.
        ConfigurationError: the name, the timeout or the function cannot work.
    """

    def wrap(function: Callable[P, R]) -> FunctionTool[P, R]:
        if isinstance(function, FunctionTool):
            return wrap_again(cast("FunctionTool[P, R]", function))
        return _made(
            function, name=name or _name_of(function), description=description, timeout=timeout, schema=schema
        )

    def wrap_again(made: FunctionTool[P, R]) -> FunctionTool[P, R]:
        return _made(
            made.function,
            name=name or made.name,
            description=description or made.definition.description,
            timeout=made.timeout if timeout is None else timeout,
            schema=schema,
        )

    return wrap if function is None else wrap(function)


class FunctionTools:
    """A ToolProvider of functions.

    Args:
        functions: tools made by `tool`, or plain functions, which are wrapped the same way.

    Raises:
        ConfigurationError: two of them have the same name, or one cannot be a tool.
    """

    __slots__ = ("_definitions", "_tools")

    def __init__(self, functions: Iterable[Callable[..., Any]]) -> None:
        self._tools: dict[str, FunctionTool[..., Any]] = {}
        for function in functions:
            made = (
                cast("FunctionTool[..., Any]", function)
                if isinstance(function, FunctionTool)
                else tool(function)
            )
            if (other := self._tools.setdefault(made.name, made)) is not made:
                raise ConfigurationError(
                    f"two tools are named {made.name!r}: the one at {place_of(other.function)} and the one at "
                    f"{place_of(made.function)}; give one of them another name with tool(function, name=…)",
                    argument="tools",
                )
        self._definitions = tuple(made.definition for made in self._tools.values())

    def __repr__(self) -> str:
        return f"FunctionTools({list(self._tools)})"

    def tools(self, state: LoopState, /) -> Sequence[ToolDefinition]:  # noqa: ARG002  the same tools in every state
        """The definitions of all functions, in the order given."""
        return self._definitions

    def call(self, call: ToolCall, context: ToolContext[Any], /) -> Observable[ToolEvent]:
        """Run the function that the call names; see `FunctionTool.call`."""
        made = self._tools.get(call.name)
        if made is None:
            said = f"there is no tool {call.name!r}. The tools are: {', '.join(self._tools) or 'none'}"
            return reactive.at_once((ToolComplete(error=Failure(type="UnknownTool", message=said)),))
        return made.call(call, context)


# ------------------------------------------------------------------------------------------------------------ making a tool


def _made(
    function: Callable[P, R],
    *,
    name: str,
    description: str,
    timeout: float | None,
    schema: dict[str, JSON] | None,
) -> FunctionTool[P, R]:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"a tool cannot be called {name!r} (at {place_of(function)}): models take 1 to 64 of letters, digits, '_' and '-'; "
            'say @tool(name="…")',
            argument="name",
        )
    if timeout is not None and not 0 < timeout < math.inf:
        raise ConfigurationError(
            f"tool {name!r}: timeout={timeout!r} must be a positive number of seconds, or None for no limit",
            argument="timeout",
        )
    said, descriptions = describe(function)
    parameters = Parameters.of(function, tool=name, descriptions=descriptions, schema=schema)
    definition = ToolDefinition(name=name, description=description or said, parameters=parameters.schema)
    return FunctionTool(function, definition, timeout, parameters, _kind_of(function))


def _name_of(function: object) -> str:
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, type) or not callable(function):
        raise ConfigurationError(
            f"{function!r} is no function: a tool is a function, a bound method or an object with `__call__`",
            argument="tools",
        )
    return str(getattr(function, "__name__", type(function).__name__))


def _is_plain(function: object) -> bool:
    return inspect.isroutine(function) or isinstance(function, partial)


def _kind_of(function: Callable[..., object]) -> _Kind:
    called = function if _is_plain(function) else type(function).__call__
    hint = return_type(function)
    returns = hint if isinstance(hint, type) else object
    if (
        inspect.isasyncgenfunction(called)
        or inspect.isgeneratorfunction(called)
        or issubclass(returns, Observable)
    ):
        return "loop"
    if inspect.iscoroutinefunction(called):
        return "coroutine"
    return "loop" if issubclass(returns, Awaitable) else "thread"


# ------------------------------------------------------------------------------------------------------------ running a tool


def _wrong(said: str) -> ToolComplete:
    return ToolComplete(error=Failure(type="InvalidArguments", message=said))


def _caught(error: BaseException) -> ToolEvent:
    """The event that stands for what a tool raised; raises it again when it is the caller's business."""
    if isinstance(error, InputNeeded):
        return error.question
    if isinstance(error, Exception) or (isinstance(error, asyncio.CancelledError) and _being_cancelled()):
        raise error
    said = f"the tool raised {type(error).__name__}{f': {error}' if str(error) else ''}"
    return ToolComplete(error=Failure(type=type(error).__name__, message=said))


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _within(
    seconds: float,
    run: Callable[[ToolContext[Any]], Observable[ToolEvent]],
    *,
    context: ToolContext[Any],
    tool: str,
) -> Observable[ToolEvent]:
    """What the tool emits; when it takes longer, it is disposed of, told so by its context, and a failure is the answer."""

    def subscribe(
        observer: abc.ObserverBase[ToolEvent], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        loop = threads.loop_here()
        late = threading.Event()
        running = SingleAssignmentDisposable()
        clock = SingleAssignmentDisposable()

        def expire() -> None:
            late.set()
            running.dispose()
            said = f"the tool {tool!r} did not finish within {seconds:g} s"
            observer.on_next(ToolComplete(error=Failure(type="ToolTimeout", message=said, retryable=True)))
            observer.on_completed()

        def begin() -> None:
            clock.disposable = Disposable(threads.after(seconds, expire))
            own = replace(context, cancelled=lambda: late.is_set() or context.cancelled())
            running.disposable = run(own).subscribe(observer, scheduler=scheduler)

        threads.on_loop(loop, begin)
        return Disposable(lambda: threads.on_loop(loop, CompositeDisposable(clock, running).dispose))

    return Observable(subscribe)
