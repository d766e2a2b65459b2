"""Cache: what is kept, what an equal request is given, and how equal requests at the same time share a call."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from providers.wrapping import HI, Named, heard, proxy, story
from reactivex import Observable
from reactivex import operators as ops

from looopy import (
    AgentLoop,
    Cache,
    Fallback,
    LLMProvider,
    LLMRequest,
    LLMResponse,
    MemoryCache,
    Message,
    Retry,
    ToolDefinition,
    Usage,
)
from looopy.errors import ConfigurationError, StreamBroken
from looopy.events import ContentDelta, ContentReset, LLMEvent, LLMRetry, ThoughtDelta, ToolCallDelta
from looopy.messages import DataPart, FilePart, TextPart, ToolCall
from looopy.ports import AnswerStore
from looopy.testing import (
    LLMRig,
    ScriptedModel,
    ScriptedServer,
    calls,
    cuts,
    fails,
    llm_provider_contract,
    run_virtual,
    says,
    stalls,
    thinks,
    waits,
)
from looopy.threads import background_loop

USED = Usage(input_tokens=11, output_tokens=7)


class Listener:
    """One subscriber and what it heard."""

    def __init__(self, provider: LLMProvider, request: LLMRequest = HI) -> None:
        self.events: list[LLMEvent] = []
        self.error: Exception | None = None
        self.over = asyncio.Event()
        self.subscription = provider.call(request).subscribe(self.events.append, self._fail, self.over.set)

    def _fail(self, error: Exception) -> None:
        self.error = error
        self.over.set()

    @property
    def text(self) -> str:
        return "".join(event.delta for event in self.events if isinstance(event, ContentDelta))

    @property
    def response(self) -> LLMResponse:
        last = self.events[-1]
        assert isinstance(last, LLMResponse)
        return last


class SlowStore:
    """A store that answers by the loop's clock, or never."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.kept: dict[str, bytes] = {}
        self.gets = 0

    async def get(self, key: str, /) -> bytes | None:
        self.gets += 1
        await asyncio.sleep(self.seconds)
        return self.kept.get(key)

    async def put(self, key: str, value: bytes, /, *, seconds: float) -> None:
        await asyncio.sleep(self.seconds)
        self.kept[key] = value


def twice(
    *answers: Any, store: AnswerStore | None = None, **options: Any
) -> tuple[list[LLMEvent], list[LLMEvent], int]:
    """What two equal calls emit, one after the other, and how often the model was asked."""
    model = Named("m", *answers)
    cache = Cache(model, store or MemoryCache(), **options)

    async def main() -> list[list[LLMEvent]]:
        found = []
        for _ in range(2):
            listener = Listener(cache)
            await listener.over.wait()
            found.append(listener.events)
        return found

    first, second = run_virtual(main())
    return first, second, len(model.requests)


async def test_who_changes_what_came_out_of_the_cache_changes_it_for_nobody_else() -> None:
    cache = Cache(Named("m", calls("add", a=[1])), MemoryCache())
    for _ in range(3):
        listener = Listener(cache)
        await listener.over.wait()
        (call,) = listener.response.tool_calls
        assert call.arguments == {"a": [1]}
        call.arguments["a"].append(2)


async def test_a_long_answer_comes_out_of_the_cache_whole() -> None:
    pieces = [f"{n}:{'long ' * 2_000}" for n in range(3)]
    cache = Cache(Named("m", says(*pieces)), MemoryCache())
    heard_by = [Listener(cache) for _ in range(2)]
    await heard_by[0].over.wait()
    heard_by.append(Listener(cache))
    await heard_by[2].over.wait()
    told = [[each.delta for each in listener.events[:-1]] for listener in heard_by]
    assert told == [pieces] * 3
    assert [listener.response.cached for listener in heard_by] == [False, True, True]


# ------------------------------------------------------------------------------------------------------------ hits


def test_a_hit_is_streamed_as_the_answer_was_and_costs_nothing():
    first, second, asked = twice(
        thinks("hm") + says("It", " is ", usage=USED, cost=0.5) + calls("add", a=1) + waits(3) + says("4.")
    )

    assert asked == 1
    assert (
        first[:-1]
        == second[:-1]
        == [
            ThoughtDelta(delta="hm"),
            ContentDelta(delta="It"),
            ContentDelta(delta=" is "),
            ToolCallDelta(call_id="call_1", tool_name="add", delta='{"a":1}'),
            ContentDelta(delta="4."),
        ]
    )
    assert first[-1] == LLMResponse(
        message=Message(
            "assistant",
            "It is 4.",
            tool_calls=(ToolCall("call_1", "add", {"a": 1}),),
            reasoning="hm",
            model="m",
        ),
        finish_reason="tool_calls",
        model="m",
        usage=USED,
        cost=0.5,
    )
    assert second[-1] == replace(first[-1], cached=True, cost=0.0, attempts=0, seconds=0.0, first_token=0.0)


def test_a_long_answer_is_given_piece_by_piece_and_can_be_left_in_between():
    async def main() -> None:
        cache = Cache(ScriptedModel(says(*map(str, range(300)))), MemoryCache())
        whole = Listener(cache)
        await whole.over.wait()
        again, left = Listener(cache), Listener(cache)
        await asyncio.sleep(0)
        assert (again.text, again.over.is_set()) == ("0", False)  # others on the loop had their turn
        left.subscription.dispose()
        await again.over.wait()
        assert [event for event in again.events if isinstance(event, ContentDelta)] == whole.events[:-1]
        assert again.response == replace(whole.response, cached=True, cost=0.0, attempts=0, first_token=0.0)
        assert len(left.events) < 3

    run_virtual(main())


def test_an_answer_without_pieces_is_kept_too():
    answer = LLMResponse(message=Message.assistant("4"), model="m")
    _, second, asked = twice(rx.of(answer))

    assert (second, asked) == ([replace(answer, cached=True, cost=0.0, attempts=0, seconds=0.0)], 1)


def test_hits_are_new_events_for_each_run():
    agent = AgentLoop(llm_provider=Cache(ScriptedModel(says("4", cost=0.5)), MemoryCache()))
    first, second = [agent.execute("2 + 2?").result() for _ in range(2)]

    assert (first.output, first.cost, second.output, second.cost) == ("4", 0.5, "4", 0.0)
    assert first.task_id != second.task_id


def test_a_whole_task_is_answered_out_of_the_cache_tools_run_anew():
    ran: list[int] = []

    def add(a: int) -> int:
        """Add."""
        ran.append(a)
        return a + 1

    model = ScriptedModel(calls("add", a=1), says("2"))
    agent = AgentLoop(llm_provider=Cache(model, MemoryCache()), tools=[add])
    outputs = [agent.execute("1 + 1?", user_id=user).result().output for user in ("ann", "bob")]

    assert (outputs, ran, len(model.requests)) == (["2", "2"], [1, 1], 2)


def test_an_answer_is_kept_for_so_many_seconds():
    async def main() -> list[str]:
        cache = Cache(ScriptedModel(says("old"), says("new")), MemoryCache(), seconds=10)
        said = []
        for wait in (0, 9.9, 0.2):
            await asyncio.sleep(wait)
            said.append((await cache.call(HI)).message.text)
        return said

    assert run_virtual(main()) == ["old", "old", "new"]


def test_what_a_hit_took_is_measured_by_the_clock():
    async def main() -> tuple[float, float | None]:
        cache = Cache(ScriptedModel(waits(5) + says("4")), SlowStore(0.5))
        await cache.call(HI)
        hit = await cache.call(HI)
        return hit.seconds, hit.first_token

    assert run_virtual(main()) == (0.5, 0.5)


# ------------------------------------------------------------------------------------------------- what is not kept


@pytest.mark.parametrize(
    "answer",
    [
        says("4", finish_reason="length"),
        says("4", finish_reason="content_filter"),
        says("4", finish_reason="interrupted"),
        calls("add", '{"a": '),
        says("Hel") + cuts(),
        says("Hel") + fails(500),
        fails(500),
        fails(401),
        cuts(),
        rx.empty(),
        rx.of(ContentDelta(delta="Hel")),
        rx.of("nonsense", LLMResponse(message=Message.assistant("4"))),
    ],
)
def test_no_answer_is_kept_that_is_not_whole(answer: Any):
    _, second, asked = twice(answer, says("4"))

    assert (asked, second[0]) == (2, ContentDelta(delta="4"))


def test_an_answer_that_is_too_large_is_not_kept():
    assert twice(says("x" * 900), says("y" * 900), max_bytes=1_000)[2] == 2
    assert twice(says("x" * 900), max_bytes=5_000)[2] == 1


@pytest.mark.parametrize(
    "fault", [says("Hel") + cuts(), says("Hel") + fails(500), fails(429), fails(500), cuts()]
)
def test_a_failure_on_the_wire_is_passed_on_and_not_kept(fault: Any):
    server = ScriptedServer(fault, says("4"))
    cache = Cache(proxy(server), MemoryCache())
    _, error = heard(cache)
    events, none = heard(cache)

    assert isinstance(error, Exception)
    assert (none, events[0][1], len(server.requests)) == (None, ContentDelta(delta="4"), 2)


async def test_an_answer_that_is_left_half_way_closes_its_connection_and_is_not_kept():
    server = ScriptedServer(says("Hel") + stalls(), says("4"))
    async with server.serve():
        pass
    cache = Cache(proxy(server), MemoryCache())
    first = Listener(cache)
    await server.asked()
    first.subscription.dispose()
    await server.hung_up()

    assert (await cache.call(HI)).message.text == "4"


def test_retries_and_what_was_taken_back_are_not_replayed():
    model = Fallback(Named("a", says("It is ") + cuts()), Named("b", says("four.")), mid_stream="restart")
    cache = Cache(model, MemoryCache())

    async def main() -> list[list[LLMEvent]]:
        first = Listener(cache)
        await first.over.wait()
        second = Listener(cache)
        return [first.events, second.events]

    first, second = run_virtual(main())
    assert [type(event) for event in first] == [
        ContentDelta,
        LLMRetry,
        ContentReset,
        ContentDelta,
        LLMResponse,
    ]
    assert second[0] == ContentDelta(delta="four.")
    assert isinstance(second[1], LLMResponse)
    assert (second[1].served_by, second[1].attempts) == ("b", 0)


def test_retries_around_a_cache_count_and_a_hit_needs_none():
    cache = Cache(ScriptedModel(fails(500), says("4")), MemoryCache())
    retry = Retry(cache, jitter=lambda: 1.0)

    assert story(retry)[-1] == "0.5: = 4, attempts 2"


# -------------------------------------------------------------------------------------------------- equal requests

ADD = ToolDefinition(name="add", description="Add.", parameters={"type": "object", "properties": {}})
LIKE = LLMRequest(
    messages=(
        Message.system("Be brief."),
        Message.user((TextPart("Hi"), DataPart({"a": 1, "b": [2]}), FilePart(url="http://x/y.png"))),
        Message("assistant", "", tool_calls=(ToolCall("c", "add", {"a": 1, "b": 2}),), extra={"s": 1, "t": 2}, model="m"),
        Message.tool("3", tool_call_id="c"),
    ),
    tools=(ADD,),
    params={"seed": 7, "stop": ["x"]},
)  # fmt: skip


def key(request: LLMRequest, provider: LLMProvider | None = None) -> str:
    return Cache(provider or Named("m"), MemoryCache()).key(request)


@pytest.mark.parametrize(
    "changes",
    [
        {"session_id": "s"},
        {"trace_id": "0" * 32, "parent_span_id": "0" * 16, "sampled": False, "trace_name": "t"},
        {"user_id": "u", "tags": ("a",), "prompt_name": "p", "prompt_version": 3},
        {
            "params": {
                **LIKE.params,
                "user": "u",
                "metadata": {"a": 1},
                "litellm_session_id": "s",
                "num_retries": 0,
            }
        },
    ],
)
def test_who_asks_makes_no_difference(changes: dict[str, Any]):
    assert key(replace(LIKE, **changes)) == key(LIKE)


def changed(place: int, **changes: Any) -> dict[str, Any]:
    messages = list(LIKE.messages)
    messages[place] = replace(messages[place], **changes)
    return {"messages": tuple(messages)}


@pytest.mark.parametrize(
    "changes",
    [
        {"messages": LIKE.messages[:-1]},
        {"messages": LIKE.messages[::-1]},
        changed(0, content="Be brief!"),
        changed(0, role="user"),
        changed(1, content="Hi"),
        changed(1, content=(TextPart("Hi"), DataPart({"a": 1, "b": [3]}), FilePart(url="http://x/y.png"))),
        changed(1, content=(TextPart("Hi"), DataPart({"a": 1, "b": [2]}), FilePart(url="http://x/z.png"))),
        changed(2, tool_calls=(ToolCall("d", "add", {"a": 1, "b": 2}),)),
        changed(2, tool_calls=(ToolCall("c", "sub", {"a": 1, "b": 2}),)),
        changed(2, tool_calls=(ToolCall("c", "add", {"a": 1, "b": 2.0}),)),
        changed(2, extra={"s": 1}),
        changed(2, model="n"),
        changed(3, tool_call_id="d"),
        {"tools": ()},
        {"tools": (ADD, ADD)},
        {"tools": (replace(ADD, name="sub"),)},
        {"tools": (replace(ADD, description="Subtract."),)},
        {"tools": (replace(ADD, parameters={"type": "object"}),)},
        {"tool_choice": "required"},
        {"model": "n"},
        {"params": {"seed": 8, "stop": ["x"]}},
        {"params": {"seed": 7}},
        {"params": {**LIKE.params, "temperature": 0}},
    ],
)  # fmt: skip
def test_everything_that_a_model_reads_makes_a_difference(changes: dict[str, Any]):
    assert key(replace(LIKE, **changes)) != key(LIKE)


def test_what_the_provider_sends_makes_a_difference_also_inside_wrappers():
    server = ScriptedServer()
    keys = {
        key(HI, proxy(server)),
        key(HI, proxy(server, "gpt-4o")),
        key(HI, proxy(server, temperature=0.1)),
        key(HI, proxy(server, max_tokens=7)),
        key(HI, proxy(server, extra_params={"tools": [{"type": "web_search"}]})),
        key(HI, Fallback(proxy(server), "gpt-4o")),
        key(HI, Fallback(proxy(server), proxy(server, "gpt-4o"))),
        key(HI, Retry(proxy(server, temperature=0.2))),
    }

    assert len(keys) == 8
    assert key(HI, Retry(proxy(server))) == key(HI, proxy(server))  # asks the same


def test_a_wrapper_says_what_its_provider_says():
    server = ScriptedServer()
    cache = Cache(proxy(server), MemoryCache())
    plain = Cache(ScriptedModel(), MemoryCache())

    assert isinstance(cache, LLMProvider)
    assert (cache.model, cache.base_url, cache.parameters(HI)["max_tokens"]) == (
        "gpt-4o-mini",
        "http://proxy",
        4096,
    )
    assert (plain.model, plain.base_url, plain.parameters(HI)) == ("", "", {})


json = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=4), json, max_size=4)


def reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: reordered(inner) for name, inner in reversed(value.items())}
    return [*map(reordered, value)] if isinstance(value, list) else value


def requests_of(
    data: dict[str, Any], arguments: dict[str, Any], schema: dict[str, Any], seed: dict[str, Any]
) -> LLMRequest:
    return LLMRequest(
        messages=(
            Message.user((DataPart(data),)),
            Message("assistant", tool_calls=(ToolCall("c", "add", arguments),), extra=data),
        ),
        tools=(ToolDefinition(name="add", parameters=schema),),
        params={"seed": seed},
    )


@given(st.lists(objects, min_size=4, max_size=4))
def test_the_order_of_keys_makes_no_difference(parts: list[dict[str, Any]]):
    assert key(requests_of(*parts)) == key(requests_of(*map(reordered, parts)))


@given(st.lists(objects, min_size=4, max_size=4), st.integers(0, 3), objects)
def test_another_value_anywhere_makes_a_difference(
    parts: list[dict[str, Any]], place: int, other: dict[str, Any]
):
    changed = [*parts]
    changed[place] = other
    same = repr(reordered_fully(other)) == repr(reordered_fully(parts[place]))

    assert (key(requests_of(*changed)) == key(requests_of(*parts))) is same


def reordered_fully(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: reordered_fully(value[name]) for name in sorted(value)}
    return [*map(reordered_fully, value)] if isinstance(value, list) else value


def test_a_request_that_cannot_be_compared_is_asked_and_not_kept():
    odd = LLMRequest(messages=(Message.user("Hi"),), params={"seed": object()})
    model = ScriptedModel(says("4"), says("5"))
    cache = Cache(model, MemoryCache())

    assert [story(cache, odd)[-1] for _ in range(2)] == ["0: = 4, attempts 1", "0: = 5, attempts 1"]
    assert isinstance(heard(Cache(proxy(ScriptedServer()), MemoryCache()), odd)[1], ConfigurationError)


# ------------------------------------------------------------------------------------------------- one call for all


def test_equal_requests_at_the_same_time_share_one_call():
    async def main() -> None:
        model = ScriptedModel(
            waits(1) + thinks("hm") + says("It is ", "four.", every=1, usage=USED, cost=0.5)
        )
        cache = Cache(model, MemoryCache())
        first, second = Listener(cache), Listener(cache)
        await asyncio.sleep(2.5)
        third = Listener(cache)  # hears at once what there was
        assert third.text == "It is "
        for listener in (first, second, third):
            await listener.over.wait()
        assert len(model.requests) == 1
        assert first.text == second.text == third.text == "It is four."
        assert (first.response.cached, first.response.cost, first.response.attempts) == (False, 0.5, 1)
        assert second.response == replace(
            first.response, cached=True, cost=0.0, attempts=0, seconds=3.0, first_token=1.0
        )
        assert third.response == replace(second.response, seconds=0.5, first_token=0.0)

    run_virtual(main())


def test_runs_that_share_a_call_have_their_own_events():
    async def main() -> None:
        model = ScriptedModel(says("4", every=1))
        agent = AgentLoop(llm_provider=Cache(model, MemoryCache()))
        runs = [agent.execute("2 + 2?", task_id=name) for name in ("a", "b")]
        results = await asyncio.gather(*[asyncio.ensure_future(_collected(run)) for run in runs])
        assert len(model.requests) == 1
        for name, events in zip("ab", results, strict=True):
            assert {event.task_id for event in events} == {name}
            assert [event.seq for event in events] == list(range(1, len(events) + 1))

    run_virtual(main())


async def _collected(run: Any) -> list[Any]:
    return [event async for event in run]


def test_who_leaves_does_not_end_the_call_of_the_others_and_the_last_does():
    async def main() -> None:
        model = ScriptedModel(says("It is ", "four.", every=1, cost=0.5), stalls())
        cache = Cache(model, MemoryCache())
        first, second = Listener(cache), Listener(cache)
        await asyncio.sleep(1.5)
        first.subscription.dispose()
        await second.over.wait()
        assert (first.text, second.text, len(model.requests)) == ("It is ", "It is four.", 1)
        assert (second.response.cached, second.response.cost) == (False, 0.5)  # somebody has to pay

        other = replace(HI, model="other")
        both = [Listener(cache, other), Listener(cache, other)]
        both[0].subscription.dispose()
        both[0].subscription.dispose()
        assert model.open_calls == 1
        both[1].subscription.dispose()
        assert (model.open_calls, model.disposed, [one.events for one in both]) == (0, 1, [[], []])

    run_virtual(main())


def test_nobody_pays_for_an_answer_twice():
    async def main() -> None:
        cache = Cache(ScriptedModel(says("4", every=1, cost=0.5)), MemoryCache())
        bills: list[float | None] = []
        answered = ops.filter(lambda event: isinstance(event, LLMResponse))
        cache.call(HI).pipe(answered, ops.take(1)).subscribe(lambda event: bills.append(event.cost))
        listener = Listener(cache)
        await listener.over.wait()
        assert [*bills, listener.response.cost] == [0.5, 0.0]

    run_virtual(main())


def test_a_failure_is_each_ones_own():
    async def main() -> None:
        cache = Cache(ScriptedModel(says("Hel") + waits(1) + cuts()), MemoryCache())
        first, second = Listener(cache), Listener(cache)
        await first.over.wait()
        assert isinstance(first.error, StreamBroken)
        assert isinstance(second.error, StreamBroken)
        assert second.error is not first.error
        assert (str(second.error), second.error.events_seen, second.error.__cause__) == (
            str(first.error),
            1,
            first.error,
        )

    run_virtual(main())


class Stubborn(Exception):
    """An error that cannot be copied."""

    def __reduce__(self) -> Any:
        raise TypeError


def test_a_failure_that_cannot_be_copied_is_shared():
    async def main() -> None:
        cache = Cache(ScriptedModel(rx.throw(Stubborn())), SlowStore())
        first, second = Listener(cache), Listener(cache)
        await second.over.wait()
        assert isinstance(first.error, Stubborn)
        assert first.error is second.error

    run_virtual(main())


def test_who_raises_does_not_disturb_the_others():
    async def main() -> None:
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        cache = Cache(ScriptedModel(says("It is ", "four.", every=1)), MemoryCache())

        def broken(event: LLMEvent) -> None:
            raise LookupError("a bug")

        cache.call(HI).subscribe(broken)
        listener = Listener(cache)
        await listener.over.wait()
        assert listener.text == "It is four."
        assert [(each["message"], str(each["exception"])) for each in told] == [
            ("an observer of a looopy stream raised", "a bug")
        ]

    run_virtual(main())


def test_who_wants_but_the_beginning_leaves_the_others_alone():
    async def main() -> None:
        model = ScriptedModel(says("a", "b") + stalls())
        cache = Cache(model, MemoryCache())
        first, heard = Listener(cache), list[LLMEvent]()
        cache.call(HI).pipe(ops.take(1)).subscribe(heard.append)
        assert (heard, first.text, model.open_calls) == ([ContentDelta(delta="a")], "ab", 1)
        first.subscription.dispose()
        assert model.open_calls == 0

    run_virtual(main())


def test_who_shares_a_call_hears_of_its_retries():
    async def main() -> None:
        cache = Cache(Retry(ScriptedModel(fails(500), says("4")), jitter=lambda: 1.0), MemoryCache())
        first, second = Listener(cache), Listener(cache)
        await second.over.wait()
        assert [type(event) for event in first.events] == [LLMRetry, ContentDelta, LLMResponse]
        assert second.events[:2] == first.events[:2]
        assert (second.response.first_token, second.response.seconds) == (0.5, 0.5)

    run_virtual(main())


def test_who_is_told_to_leave_by_another_hears_no_more():
    async def main() -> None:
        cache = Cache(ScriptedModel(waits(1) + says("a", "b")), MemoryCache())
        second: list[Listener] = []
        cache.call(HI).subscribe(lambda _: second[0].subscription.dispose())
        second.append(Listener(cache))
        await asyncio.sleep(2)
        assert second[0].events == []

    run_virtual(main())


def test_a_call_is_made_in_the_context_of_the_one_who_asks_first():
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
    seen: list[str] = []

    class Looks:
        def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
            return rx.defer(lambda _: (seen.append(who.get()), rx.never())[1])

    async def main() -> None:
        for store in (MemoryCache(), SlowStore()):
            who.set(type(store).__name__)
            Cache(Looks(), store).call(HI).subscribe()
            await asyncio.sleep(5)

    run_virtual(main())
    assert seen == ["MemoryCache", "SlowStore"]


def test_threads_without_a_loop_share_a_call_too():
    release = threading.Event()
    asked: list[LLMRequest] = []

    class Blocks:
        def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
            asked.append(request)

            def subscribe(observer: Any, _: Any = None) -> Any:
                def work() -> None:
                    release.wait(5)
                    observer.on_next(ContentDelta(delta="4"))
                    observer.on_next(LLMResponse(message=Message.assistant("4")))
                    observer.on_completed()

                threading.Thread(target=work).start()
                return rx.disposable.Disposable()

            return Observable(subscribe)

    cache = Cache(Blocks(), MemoryCache())
    done, seen = threading.Barrier(3), []

    def ask() -> None:
        over, events = threading.Event(), list[LLMEvent]()
        cache.call(HI).subscribe(events.append, on_completed=over.set)
        done.wait(5)
        assert over.wait(5)
        seen.append(events)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    done.wait(5)
    release.set()
    for thread in threads:
        thread.join(5)

    assert len(asked) == 1
    assert [[type(event) for event in events] for events in seen] == [[ContentDelta, LLMResponse]] * 2


def test_a_call_that_is_left_before_it_has_begun_is_not_made():
    model, busy = ScriptedModel(), threading.Event()
    background_loop().call_soon_threadsafe(busy.wait, 5)
    Cache(model, MemoryCache()).call(
        HI
    ).subscribe().dispose()  # no loop here: it would begin on the background loop
    busy.set()
    done = threading.Event()
    background_loop().call_soon_threadsafe(done.set)
    assert done.wait(5)

    async def main() -> None:
        store = SlowStore()
        cache = Cache(model, store)
        listener = Listener(cache)
        listener.subscription.dispose()
        await asyncio.sleep(5)
        assert store.gets == 0
        listener = Listener(cache)
        await asyncio.sleep(0.5)
        listener.subscription.dispose()
        await asyncio.sleep(5)
        assert (store.gets, listener.events) == (1, [])

    run_virtual(main())
    assert model.requests == []


def test_equal_requests_share_the_look_into_a_slow_store_and_what_it_finds():
    async def main() -> None:
        store = SlowStore()
        cache = Cache(ScriptedModel(says("4")), store)
        missed = [Listener(cache), Listener(cache)]
        await missed[1].over.wait()
        found = [Listener(cache), Listener(cache)]
        await found[1].over.wait()
        assert store.gets == 2
        assert [one.response.cached for one in (*missed, *found)] == [False, True, True, True]
        assert [one.text for one in (*missed, *found)] == ["4"] * 4

    run_virtual(main())


def test_an_answer_is_kept_also_when_everybody_leaves_while_it_is_put_away():
    async def main() -> None:
        store = SlowStore()
        model = ScriptedModel(says("4"))
        cache = Cache(model, store)
        listener = Listener(cache)
        await asyncio.sleep(1.5)
        assert (listener.text, listener.over.is_set()) == ("4", False)
        listener.subscription.dispose()
        await asyncio.sleep(1)
        assert (await cache.call(HI)).cached
        assert len(model.requests) == 1

    run_virtual(main())


# ------------------------------------------------------------------------------------------------ stores that fail


class Broken:
    """A store that raises, from either method."""

    def __init__(self, *methods: str, secret: str = "") -> None:
        self.methods = methods
        self.secret = secret
        self.puts = 0

    def get(self, key: str, /) -> bytes | None:
        if "get" in self.methods:
            raise OSError(f"no route to redis://user:{self.secret}@host")
        return None

    def put(self, key: str, value: bytes, /, *, seconds: float) -> None:
        self.puts += 1
        if "put" in self.methods:
            raise OSError("the disk is full")


class BrokenLater(Broken):
    async def get(self, key: str, /) -> bytes | None:  # type: ignore[override]
        return super().get(key)

    async def put(self, key: str, value: bytes, /, *, seconds: float) -> None:  # type: ignore[override]
        super().put(key, value, seconds=seconds)


@pytest.mark.parametrize("kind", [Broken, BrokenLater])
def test_a_store_that_fails_is_as_if_there_were_none_and_is_told_once(
    kind: type[Broken], caplog: pytest.LogCaptureFixture
):
    store = kind("get", "put", secret="hunter2")
    first, second, asked = twice(says("4"), says("5"), store=store)

    assert ([first[0], second[0]], asked, store.puts) == (
        [ContentDelta(delta="4"), ContentDelta(delta="5")],
        2,
        0,
    )
    assert [(record.name, record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            "looopy.providers",
            logging.WARNING,
            f"{kind.__name__} fails; models are asked as if there were no cache: OSError: no route to redis://***@host",
        )
    ]


@pytest.mark.parametrize("kind", [Broken, BrokenLater])
def test_an_answer_that_cannot_be_put_away_is_an_answer(kind: type[Broken], caplog: pytest.LogCaptureFixture):
    store = kind("put")

    assert (twice(says("4"), says("5"), store=store)[2], store.puts) == (2, 2)
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == ["the disk is full"]


def test_a_store_that_hangs_is_not_waited_for(caplog: pytest.LogCaptureFixture):
    assert story(Cache(ScriptedModel(says("4")), SlowStore(3_600))) == ["2: 4", "2: = 4, attempts 1"]
    assert "TimeoutError" in caplog.text


@pytest.mark.parametrize(
    "spoil",
    [
        lambda value: b"",
        lambda value: value[:-9],
        lambda value: value.replace(b"llm-response", b"moon-phase"),
        lambda value: b'["a"]\n{"kind": "content-delta", "delta": "a"}',
        lambda value: b'[["a", "b"]]\n' + value.partition(b"\n")[2],
        lambda value: b"[7]\n" + value.partition(b"\n")[2],
        lambda value: b"7\n" + value.partition(b"\n")[2],
        lambda value: b"\xff" + value,
        lambda value: value.decode(),
    ],
)
def test_what_cannot_be_read_is_not_there(spoil: Callable[[bytes], Any]):
    class Spoils(SlowStore):
        async def get(self, key: str, /) -> Any:
            value = await super().get(key)
            return None if value is None else spoil(value)

    _, second, asked = twice(says("4"), says("5"), store=Spoils(0))

    assert (asked, second[0]) == (2, ContentDelta(delta="5"))


def test_text_that_cannot_be_encoded_is_mended():
    _, second, asked = twice(says("a\ud800b"))

    assert (asked, second[0]) == (1, ContentDelta(delta="a�b"))


# ----------------------------------------------------------------------------------------------- the rest of it all


@pytest.mark.parametrize("check", llm_provider_contract)
async def test_the_contract_is_kept_where_no_two_requests_are_equal(check: Any):
    class Different:
        def __init__(self, cache: Cache) -> None:
            self._cache = cache
            self._asked = 0

        def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
            def another(_: Any) -> Observable[LLMEvent]:
                self._asked += 1
                return self._cache.call(replace(request, params={"seed": self._asked}))

            return rx.defer(another)

    def make(*answers: Any) -> LLMRig:
        model = ScriptedModel(*answers)
        cache = Different(Cache(model, MemoryCache()))
        return LLMRig(cache, lambda: len(model.requests), lambda: model.open_calls)

    await check(make)


def test_a_provider_that_is_none_fails_the_call():
    class Wrong:
        def call(self, request: LLMRequest, /) -> object:
            return asyncio.sleep(0)

    _, error = heard(Cache(Wrong(), MemoryCache()))  # type: ignore[arg-type]

    assert isinstance(error, ConfigurationError)


@pytest.mark.parametrize(
    ("make", "argument", "text"),
    [
        (lambda: Cache("gpt", MemoryCache()), "provider", "is no provider"),
        (lambda: Cache(ScriptedModel(), MemoryCache), "store", "Cache: the class MemoryCache is no store; it takes an object with get"),
        (lambda: Cache(ScriptedModel(), {}), "store", "Cache: a dict is no store"),
        (lambda: Cache(ScriptedModel(), MemoryCache(), seconds=0), "seconds", r"Cache\(seconds=0\): it must be a number above 0"),
        (lambda: Cache(ScriptedModel(), MemoryCache(), seconds=float("inf")), "seconds", "above 0"),
        (lambda: Cache(ScriptedModel(), MemoryCache(), max_bytes="1"), "max_bytes", "above 0"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_at_once(make: Callable[[], Any], argument: str, text: str):
    with pytest.raises(ConfigurationError, match=text) as caught:
        make()
    assert caught.value.argument == argument


def test_a_cache_in_a_cache_needs_a_store_of_its_own():
    store = MemoryCache()
    with pytest.raises(ConfigurationError, match="another Cache with the same store"):
        Cache(Retry(Fallback(ScriptedModel(), Cache(ScriptedModel(), store))), store)

    two = Cache(Cache(ScriptedModel(says("4")), MemoryCache()), store)
    assert story(two)[-1] == "0: = 4, attempts 1"
