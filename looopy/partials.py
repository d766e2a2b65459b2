"""An answer of a type while it is being written: an operator from a run's events to the object as far as it has come.

A fold over deltas and nothing else; whether the whole of it fits is the loop's to say, and `result.output` its outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reactivex import Observable, abc

from looopy.errors import ConfigurationError
from looopy.events import ContentDelta, ContentReset, Event, LLMCall, ToolCallDelta
from looopy.messages import JSON
from looopy.output import Output

_STEPS = 50
"""Of a long answer, a part of what is there must be new before it is read again: else reading it would cost its length squared."""


def partials(output_type: Any, /) -> Callable[[Observable[Event]], Observable[JSON]]:
    """The answer of a run as it is written: `run.pipe(partials(Invoice)).subscribe(print)`.

    Each item is plain data, as JSON has it: an object has the properties that have come so far, a list its items, text grows. What is half
    written and wrong so far, such as the beginning of a date or of an enum's value, is left out until it is whole. Items that say nothing new
    are left out too. Where the model answers once more, it begins anew.

    Args:
        output_type: what the run was given.

    Raises:
        ConfigurationError: the type has no JSON schema, or is `str`: then the deltas are the answer.
    """
    output = Output.of(output_type)
    if output is None:
        raise ConfigurationError(
            "partials(str): an answer that is text comes in pieces by itself, as content-delta events",
            argument="output_type",
        )

    def operator(source: Observable[Event]) -> Observable[JSON]:
        def subscribe(
            observer: abc.ObserverBase[JSON], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            writing = _Writing(output, observer)
            return source.subscribe(writing.take, observer.on_error, writing.close, scheduler=scheduler)

        return Observable(subscribe)

    return operator


class _Writing:
    """One answer on its way to one observer."""

    __slots__ = ("_call", "_length", "_newest", "_observer", "_output", "_pieces", "_read")

    def __init__(self, output: Output[Any], observer: abc.ObserverBase[JSON]) -> None:
        self._output = output
        self._observer = observer
        self._newest: JSON = None
        self._begin()

    def _begin(self, call: str = "") -> None:
        self._call = call
        self._pieces: list[str] = []
        self._length = self._read = 0

    def take(self, event: Event) -> None:
        match event:
            case ContentDelta() if not self._call:
                self._add(event.delta)
            case ToolCallDelta() if event.call_id == self._call:
                self._add(event.delta)
            case ToolCallDelta() if event.tool_name == self._output.name:
                self._begin(event.call_id)
                self._add(event.delta)
            case LLMCall() | ContentReset():
                self._show_rest()
                self._begin()
            case _:
                pass

    def close(self) -> None:
        self._show_rest()
        self._observer.on_completed()

    def _add(self, delta: str) -> None:
        self._pieces.append(delta)
        self._length += len(delta)
        if self._length - self._read > self._read // _STEPS:
            self._show()

    def _show_rest(self) -> None:
        if self._length > self._read:
            self._show()

    def _show(self) -> None:
        self._pieces = ["".join(self._pieces)]
        self._read = self._length
        text = self._pieces[0]
        value = self._output.partial(text[max(0, text.find("{")) :])
        if value is not None and value != self._newest:
            self._newest = value
            self._observer.on_next(value)
