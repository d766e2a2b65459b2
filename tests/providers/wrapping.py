"""What the tests of wrappers share: a call in virtual time, and models that play scripts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from reactivex import Observable
from reactivex.disposable import Disposable

from looopy import LiteLLMProvider, LLMProvider, LLMRequest, Message
from looopy.events import ContentDelta, ContentReset, LLMEvent, LLMResponse, LLMRetry, ThoughtDelta
from looopy.providers.transport import HTTP
from looopy.testing import ScriptedModel, ScriptedServer, run_virtual

HI = LLMRequest(messages=(Message.user("Hi"),))


class Named(ScriptedModel):
    """A scripted model that says which it is."""

    def __init__(self, name: str, *answers: Any, **options: Any) -> None:
        super().__init__(*answers, name=name, **options)
        self.model = name


class Stubborn(Observable[LLMEvent]):
    """A source that cannot be stopped, and its provider."""

    model = "stubborn"

    def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
        return self

    def subscribe(self, *observer: Any, **options: Any) -> Any:
        self.say, self.fail, self.complete = observer
        return Disposable()


def in_the_turn_of(second: float, action: Callable[[], object]) -> None:
    """Do something on another thread, in the turn of the loop in which the timers of that second ring: too late to call them off."""

    def act() -> None:
        thread = threading.Thread(target=action)
        thread.start()
        thread.join(5)

    asyncio.get_running_loop().call_later(second - 1e-10, act)


def most() -> float:
    """No jitter: each wait is the longest that it could be."""
    return 1.0


def proxy(server: ScriptedServer, model: str = "gpt-4o-mini", **options: Any) -> LiteLLMProvider:
    """The real provider at a scripted server."""
    return LiteLLMProvider("http://proxy", model, api_key=None, transport=HTTP(server.transport()), **options)


def heard(
    provider: LLMProvider, request: LLMRequest = HI
) -> tuple[list[tuple[float, LLMEvent]], Exception | None]:
    """The events of one call and when each came, and how it failed; in virtual time."""

    async def main() -> tuple[list[tuple[float, LLMEvent]], Exception | None]:
        loop, events, over = asyncio.get_running_loop(), list[tuple[float, LLMEvent]](), asyncio.Event()
        failure: list[Exception] = []

        def fail(error: Exception) -> None:
            failure.append(error)
            over.set()

        provider.call(request).subscribe(lambda event: events.append((loop.time(), event)), fail, over.set)
        await asyncio.wait_for(over.wait(), 10_000)
        return events, failure[0] if failure else None

    return run_virtual(main())


def story(provider: LLMProvider, request: LLMRequest = HI) -> list[str]:
    """One call in words, an event a line."""
    events, error = heard(provider, request)
    return [f"{at:g}: {told(event)}" for at, event in events] + ([type(error).__name__] if error else [])


def told(event: LLMEvent) -> str:
    match event:
        case ContentDelta(delta=delta):
            return delta
        case ThoughtDelta(delta=delta):
            return f"({delta})"
        case LLMRetry():
            other = f" {event.model} → {event.next_model}" if event.model != event.next_model else ""
            return f"{event.attempt} {event.error.type}, again in {event.seconds:g}{other}"
        case ContentReset():
            return "reset"
        case LLMResponse():
            by = f" by {event.served_by}" if event.served_by else ""
            return f"= {event.message.text}, attempts {event.attempts}{by}"
        case _:
            return f"{event.tool_name} {event.delta}"


def answer(events: Sequence[tuple[float, LLMEvent]]) -> LLMResponse:
    """The last event, without what is measured."""
    last = events[-1][1]
    assert isinstance(last, LLMResponse)
    return replace(last, seconds=0.0, first_token=None, call_id="", response_id="")
