"""What every `LLMProvider` must keep, as checks that anyone can run against their own.

Each check is a coroutine function that takes a factory of rigs and raises `ContractBroken`, whose message says what the loop relies on.
With pytest:

    @pytest.mark.parametrize("check", llm_provider_contract)
    async def test_my_provider_keeps_the_contract(check):
        await check(my_rig)

and by hand `await check_llm_provider(my_rig)`. No check knows how a provider talks to its model: the rig does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

from reactivex import Observable

from looopy.errors import (
    AuthenticationFailed,
    ModelError,
    ModelFailed,
    ModelOverloaded,
    ModelRejected,
    StreamBroken,
)
from looopy.events import (
    ContentDelta,
    LLMEvent,
    LLMResponse,
    ThoughtDelta,
    ToolCallDelta,
)
from looopy.messages import Message, Usage, read_arguments
from looopy.ports import LLMProvider, LLMRequest, ToolDefinition
from looopy.testing.contract import Watcher, collect, require, until
from looopy.testing.script import Answer, calls, cuts, fails, says, stalls, thinks


@dataclass(frozen=True, slots=True)
class LLMRig:
    """A provider whose model is scripted.

    Attributes:
        provider: the provider under test.
        asked: how many requests reached the model so far.
        open: how many of them the model is still answering.
    """

    provider: LLMProvider
    asked: Callable[[], int]
    open: Callable[[], int]


class MakesLLMRig(Protocol):
    """Makes a rig whose model gives these answers, one a request. For a chat-completions API, `ScriptedServer` plays them."""

    def __call__(self, *answers: Answer) -> LLMRig:
        """Make one; each is used for one check."""
        ...


LLMCheck: TypeAlias = Callable[[MakesLLMRig], Awaitable[None]]
"""A check of one part of the contract."""


async def check_llm_provider(make: MakesLLMRig) -> None:
    """Run every check of `llm_provider_contract`.

    Raises:
        ContractBroken: a check fails.
    """
    for check in llm_provider_contract:
        await check(make)


async def each_subscription_is_one_request(make: MakesLLMRig) -> None:
    """`call` is cold: asking without listening would cost money, and a retry subscribes again."""
    rig = make(says("one"), says("two"))
    answers = rig.provider.call(_REQUEST)
    await asyncio.sleep(0)
    require(rig.asked() == 0, "call() asked the model before anybody subscribed; it must be cold")
    said = [(await _answer_of(answers)).message.text for _ in range(2)]
    require(
        said == ["one", "two"] and rig.asked() == 2,
        f"two subscriptions to one call() must be two requests; there were {rig.asked()}, which gave {said}",
    )


async def the_answer_comes_last_and_once(make: MakesLLMRig) -> None:
    """Deltas, one `LLMResponse`, completion: the response is what the loop folds, the rest is for those who watch."""
    events = await collect(make(thinks("hm") + says("It", " is 4.")).provider.call(_REQUEST))
    shown = [type(event).__name__ for event in events]
    require(
        [name for name in shown if name == "LLMResponse"] == shown[-1:],
        f"a call must emit deltas and last exactly one LLMResponse; it emitted {shown}",
    )
    response = cast("LLMResponse", events[-1])
    require(
        response.finish_reason == "stop" and response.message.role == "assistant" and bool(response.model),
        f"an answer needs finish_reason, an assistant's message and the model's name; it was {response}",
    )


async def events_come_without_ids(make: MakesLLMRig) -> None:
    """The loop stamps each event once; an event that is stamped or emitted twice would be copied or garbled."""
    events = await collect(make(says("It", " is 4.")).provider.call(_REQUEST))
    stamped = [event for event in events if event.seq or event.task_id or event.context_id]
    require(not stamped, f"leave seq and the ids of an event to the loop; these have some: {stamped}")
    require(
        len(set(map(id, events))) == len(events), "emit a new event object each time: the loop writes in it"
    )


async def deltas_add_up_to_the_message(make: MakesLLMRig) -> None:
    """Who shows the deltas and who reads the message must see the same."""
    answer = (
        thinks("hm, ", "adding") + says("I ", "add.") + calls("add", a=1, b="é") + calls("add", a=2, b="x")
    )
    events = await collect(make(answer).provider.call(_REQUEST))
    message = cast("LLMResponse", events[-1]).message
    text = "".join(event.delta for event in events if isinstance(event, ContentDelta))
    thought = "".join(event.delta for event in events if isinstance(event, ThoughtDelta))
    require(
        text == message.text == "I add.",
        f"the content deltas say {text!r}, the message {message.text!r}; both must be 'I add.'",
    )
    require(
        thought == message.reasoning == "hm, adding",
        f"the thought deltas say {thought!r}, the message {message.reasoning!r}; both must be 'hm, adding'",
    )
    streamed = {
        call.id: read_arguments(
            "".join(e.delta for e in events if isinstance(e, ToolCallDelta) and e.call_id == call.id)
        )[0]
        for call in message.tool_calls
    }
    whole = {call.id: call.arguments for call in message.tool_calls}
    require(
        list(whole.values()) == [{"a": 1, "b": "é"}, {"a": 2, "b": "x"}] and streamed == whole,
        f"the tool calls of the message are {whole}, and their deltas add up to {streamed}",
    )


async def an_empty_delta_is_never_shown(make: MakesLLMRig) -> None:
    """`ContentDelta` and `ThoughtDelta` are never empty, so that nobody need check."""
    events = await collect(make(calls("ping")).provider.call(_REQUEST))
    empty = [event for event in events if isinstance(event, ContentDelta | ThoughtDelta) and not event.delta]
    require(not empty, f"leave empty deltas out; there were {empty}")


async def pieces_are_shown_as_they_come(make: MakesLLMRig) -> None:
    """A user reads along: what has come is shown before the rest is there."""
    rig = make(says("Hel") + stalls())
    watcher = Watcher(rig.provider.call(_REQUEST))
    await until(lambda: bool(watcher.events), "the first piece of an answer was not shown until its end")
    watcher.leave()
    await until(lambda: not rig.open(), _LEFT_OPEN)


async def disposing_closes_the_request(make: MakesLLMRig) -> None:
    """Dispose is how a run is cancelled: a request left open goes on to cost money."""
    rig = make(says("Hel") + stalls(), stalls())
    await _left_early(rig, pieces=1)
    await _left_early(rig, pieces=0)


async def failures_are_typed(make: MakesLLMRig) -> None:
    """Retries, fallbacks and people decide by the type of an error, see `looopy.errors`."""
    for answer, wanted in (
        (fails(401), AuthenticationFailed),
        (fails(422), ModelRejected),
        (fails(429, retry_after=2), ModelOverloaded),
        (fails(500), ModelFailed),
        (cuts(), ModelError),
        (says("Hel") + cuts(), StreamBroken),
    ):
        error = await _failure_of(make(answer).provider.call(_REQUEST))
        require(
            isinstance(error, wanted),
            f"{answer.steps} must end in on_error with a {wanted.__name__}; it was {error!r}",
        )


async def call_ids_are_unique(make: MakesLLMRig) -> None:
    """An answer to a tool call finds its call by the id, in a conversation of many answers."""
    rig = make(calls("add", a=1) + calls("add", a=1), calls("add", a=1))
    responses = [await _answer_of(rig.provider.call(_REQUEST)) for _ in range(2)]
    ids = [call.id for response in responses for call in response.message.tool_calls]
    require(
        len(ids) == len({*ids} - {""}) == 3,
        f"each tool call needs an id of its own; three calls have {ids}",
    )


async def unreadable_arguments_are_a_problem_of_the_call(make: MakesLLMRig) -> None:
    """The model is told of its mistake and tries again; an error would end the task."""
    response = await _answer_of(make(calls("add", '{"a": ')).provider.call(_REQUEST))
    found = [(call.name, call.arguments, bool(call.problem)) for call in response.message.tool_calls]
    require(
        found == [("add", {}, True)],
        f"a call with broken JSON must have no arguments and a problem; name, arguments, problem were {found}",
    )


async def usage_is_passed_on(make: MakesLLMRig) -> None:
    """Limits and bills count tokens: what the model reports must arrive, and nothing is made up."""
    told = Usage(input_tokens=11, output_tokens=7, cached_tokens=3, reasoning_tokens=2)
    rig = make(says("4", usage=told), says("4"))
    found = [(await _answer_of(rig.provider.call(_REQUEST))).usage for _ in range(2)]
    require(found == [told, None], f"the model reported {told}, then nothing; the answers said {found}")


async def concurrent_calls_do_not_mix(make: MakesLLMRig) -> None:
    """One provider serves many runs at once."""
    rig = make(says("a1 ", "a2"), says("b1 ", "b2"))
    watchers = [Watcher(rig.provider.call(_REQUEST)) for _ in range(2)]
    found = sorted([_said(await watcher.end()) for watcher in watchers])
    wanted = [("a1 a2", "a1 a2"), ("b1 b2", "b1 b2")]
    require(
        found == wanted, f"two calls at once must each have their own deltas and message; they had {found}"
    )


llm_provider_contract: Sequence[LLMCheck] = (
    each_subscription_is_one_request,
    the_answer_comes_last_and_once,
    events_come_without_ids,
    deltas_add_up_to_the_message,
    an_empty_delta_is_never_shown,
    pieces_are_shown_as_they_come,
    disposing_closes_the_request,
    failures_are_typed,
    call_ids_are_unique,
    unreadable_arguments_are_a_problem_of_the_call,
    usage_is_passed_on,
    concurrent_calls_do_not_mix,
)
"""The checks of an `LLMProvider`."""


_REQUEST = LLMRequest(
    messages=(Message.user("What is 2 + 2?"),),
    tools=(
        ToolDefinition(
            name="add",
            description="Add two numbers.",
            parameters={"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}},
        ),
    ),
)
_LEFT_OPEN = "the request was left open after its subscription was disposed of"


async def _failure_of(source: Observable[LLMEvent]) -> Exception | None:
    return await Watcher(source).failure()


async def _answer_of(source: Observable[LLMEvent]) -> LLMResponse:
    return cast("LLMResponse", (await collect(source))[-1])


def _said(events: Sequence[Any]) -> tuple[str, str]:
    deltas = "".join(event.delta for event in events if isinstance(event, ContentDelta))
    return deltas, cast("LLMResponse", events[-1]).message.text


async def _left_early(rig: LLMRig, *, pieces: int) -> None:
    """Leave an answer that has stalled after some pieces."""
    watcher = Watcher(rig.provider.call(_REQUEST))
    await until(
        lambda: rig.open() == 1 and len(watcher.events) == pieces, "the request never reached the model"
    )
    watcher.leave()
    await until(lambda: not rig.open(), _LEFT_OPEN)
    require(not watcher.over and len(watcher.events) == pieces, "nothing may be emitted after dispose")
