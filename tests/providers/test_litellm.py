"""One call is one request: cold, bounded in time, and closed at once when nobody listens any more."""

from __future__ import annotations

import asyncio
import gc
import threading
from dataclasses import replace
from typing import Any

import pytest
from providers.raw import Peer, chunked, serving
from providers.replay import CHAT, DONE, HI, URL, Reply, Wire, chunk, events, sse
from reactivex import operators as ops

from looopy.errors import ModelError, ModelFailed, ModelTimeout, ProxyUnreachable, StreamBroken
from looopy.events import ContentDelta, LLMEvent, LLMResponse
from looopy.messages import Message
from looopy.ports import LLMProvider
from looopy.providers.litellm import LiteLLMProvider, Timeouts, _answer
from looopy.testing.clock import run_virtual

HELLO = sse(chunk(role="assistant", content="Hel"), chunk(content="lo"), chunk("stop")) + DONE
TEXT = [ContentDelta(delta="Hel"), ContentDelta(delta="lo")]
ANSWER = LLMResponse(
    message=Message("assistant", "Hello", model="gpt-4o"),
    model="gpt-4o",
    response_id="chatcmpl-1",
    call_id="call-1",
    first_token=0.0,
)


def test_the_provider_is_a_plug_of_the_socket():
    assert isinstance(Wire().provider(), LLMProvider)


def test_each_subscription_is_one_request_and_nothing_happens_before():
    wire = Wire(Reply([HELLO]), Reply([HELLO]))

    async def main() -> list[list[LLMEvent]]:
        call = wire.provider().call(HI).pipe(ops.to_list())
        assert wire.requests == []
        return [await call, await call]

    assert run_virtual(main()) == [[*TEXT, ANSWER]] * 2
    assert len(wire.requests) == 2


def test_awaiting_a_call_gives_the_whole_answer():
    async def main() -> LLMEvent:
        return await Wire(Reply([HELLO])).provider().call(HI)

    assert run_virtual(main()) == ANSWER


def test_the_answer_says_how_long_it_took():
    wire = Wire(1.5, Reply([HELLO[:30], 2.0, HELLO[30:], 3_600.0]))
    assert wire.ask()[-1] == replace(ANSWER, first_token=3.5, seconds=3.75)


def test_an_answer_without_the_proxys_id_carries_ours():
    wire = Wire(Reply([HELLO], headers={"x-litellm-call-id": ""}))
    answer = wire.ask()[-1]
    assert isinstance(answer, LLMResponse)
    assert answer.call_id == wire.requests[0].headers["x-litellm-call-id"]


# ---------------------------------------------------------------------------------------------------------- clocks

TOKEN = sse(chunk(content="a"))
END = sse(chunk("stop")) + DONE


def timed_out(*replies: Any, timeout: float | Timeouts) -> tuple[ModelTimeout, float]:
    """The error of a call that takes too long, and when it came."""
    wire = Wire(*replies)

    async def main() -> tuple[ModelTimeout, float]:
        with pytest.raises(ModelTimeout) as caught:
            await wire.provider(timeout=timeout).call(HI)
        return caught.value, asyncio.get_running_loop().time()

    error, ended = run_virtual(main())
    assert all(body.closed for body in wire.bodies)
    return error, ended


@pytest.mark.parametrize(
    ("replies", "timeout", "clock", "ended"),
    [
        ([Reply([TOKEN, 59.0, TOKEN, 59.0])], 60.0, "call", 60.0),
        ([100.0, Reply()], 60, "call", 60.0),
        ([Reply([500.0], 400)], 60, "call", 60.0),
        ([100.0, Reply()], Timeouts(first_token=7), "first-token", 7.0),
        ([Reply([b": ping\n\n", 5.0, sse(chunk(role="assistant")), 5.0])], Timeouts(first_token=7), "first-token", 7.0),
        ([Reply([3.0, TOKEN, 4.0, TOKEN, 9.0])], Timeouts(between_tokens=5), "between-tokens", 12.0),
        # A proxy's keep-alive is no sign of life of the model.
        ([Reply([TOKEN, 3.0, b": ping\n\n", 3.0, b": ping\n\n", 9.0])], Timeouts(between_tokens=5), "between-tokens", 5.0),
        ([Reply([TOKEN, 3.0, TOKEN, 99.0])], Timeouts(first_token=2, between_tokens=5, call=7), "call", 7.0),
    ],
)  # fmt: skip
def test_each_clock_ends_the_call_and_closes_the_connection(
    replies: list[Any], timeout: float | Timeouts, clock: str, ended: float
):
    error, when = timed_out(*replies, timeout=timeout)
    seconds = timeout if isinstance(timeout, float | int) else getattr(timeout, clock.replace("-", "_"))
    assert (error.clock, error.seconds, when) == (clock, seconds, ended)


@pytest.mark.parametrize(
    ("timeout", "text"),
    [
        (60.0, "timeout after 60 s (call): model 'gpt-4o' at {} had not finished.\n  Give it longer: timeout=Timeouts(call=120)."),
        (Timeouts(first_token=2), "timeout after 2 s (first-token): model 'gpt-4o' at {} had said nothing.\n  Give it longer: timeout=Timeouts(first_token=4)."),
        (Timeouts(between_tokens=5), "timeout after 5 s (between-tokens): model 'gpt-4o' at {} fell silent in mid-answer.\n  Give it longer: timeout=Timeouts(between_tokens=10)."),
    ],
)  # fmt: skip
def test_the_text_of_a_timeout_names_the_clock_and_the_mend(timeout: Any, text: str):
    token = [] if getattr(timeout, "first_token", None) else [TOKEN]
    error, _ = timed_out(Reply([*token, 3_600.0]), timeout=timeout)
    assert str(error) == f"LiteLLM request {text.format(CHAT)}"


def test_a_call_that_keeps_talking_may_take_for_ever_without_a_clock_for_the_whole():
    pieces = [piece for _ in range(100) for piece in (TOKEN, 4.0)]
    wire = Wire(Reply([*pieces, END]))
    answer = wire.ask(timeout=Timeouts(between_tokens=5, call=None))[-1]
    assert isinstance(answer, LLMResponse)
    assert answer.seconds == 400.0
    assert Wire(Reply([3_600.0, HELLO])).ask(timeout=Timeouts(call=None))[-1] == replace(
        ANSWER, first_token=3_600.0, seconds=3_600.0
    )


async def slowly(provider: LiteLLMProvider, *, seconds: float) -> list[LLMEvent]:
    """The events of a call whose reader takes some seconds over each, as a gate or a full buffer makes it."""
    seen: list[LLMEvent] = []
    async for event in _answer(provider._configuration, HI):
        seen.append(event)
        await asyncio.sleep(seconds)
    return seen


def test_the_readers_own_slowness_is_not_the_models_silence():
    provider = Wire(Reply([TOKEN, 4.0, TOKEN, END])).provider(
        timeout=Timeouts(first_token=1, between_tokens=5, call=None)
    )
    assert len(run_virtual(slowly(provider, seconds=100.0))) == 3


def test_the_clock_for_the_whole_call_strikes_at_the_next_wait_of_a_slow_reader():
    provider = Wire(Reply([TOKEN, TOKEN, END])).provider(timeout=60.0)
    with pytest.raises(ModelTimeout, match="after 60 s"):
        run_virtual(slowly(provider, seconds=100.0))


def test_a_cancel_from_outside_at_the_moment_a_clock_strikes_stays_a_cancel():
    async def main() -> None:
        answer = _answer(Wire(Reply([3_600.0])).provider(timeout=60.0)._configuration, HI)
        task = asyncio.create_task(anext(answer))
        asyncio.get_running_loop().call_at(60.0, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    run_virtual(main())


# --------------------------------------------------------------------------------------------------------- leaving


async def stalling(peer: Peer) -> None:
    """Send the head and two pieces, and then nothing."""
    await peer.request()
    await peer.send(chunked(TOKEN, TOKEN)[: -len(b"0\r\n\r\n")])
    await peer.hung_up()


async def silent(peer: Peer) -> None:
    await peer.request()
    await peer.hung_up()


async def test_disposing_in_mid_answer_hangs_up_at_once():
    async with serving(stalling) as server:
        second = asyncio.Event()
        seen: list[LLMEvent] = []
        call = LiteLLMProvider(server.url, "gpt-4o", None).call(HI)
        subscription = call.subscribe(lambda event: (seen.append(event), len(seen) == 2 and second.set()))
        await second.wait()
        subscription.dispose()
        await server.peers[0].left.wait()
        assert seen == [ContentDelta(delta="a")] * 2


async def test_disposing_before_the_answer_begins_hangs_up_at_once():
    asked = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.hung_up()

    async with serving(talk) as server:
        subscription = LiteLLMProvider(server.url, "gpt-4o", None).call(HI).subscribe()
        await asked.wait()
        subscription.dispose()
        await server.peers[0].left.wait()


async def test_disposing_from_another_thread_hangs_up_too():
    async with serving(stalling) as server:
        first = asyncio.Event()
        call = LiteLLMProvider(server.url, "gpt-4o", None).call(HI)
        subscription = call.subscribe(lambda _: first.set())
        await first.wait()
        thread = threading.Thread(target=subscription.dispose)
        thread.start()
        await server.peers[0].left.wait()
        thread.join(5)


async def test_calls_one_after_the_other_use_one_connection():
    """The end of a body is read even though `[DONE]` came before it."""

    async def talk(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(chunked(HELLO))

    async with serving(talk) as server:
        provider = LiteLLMProvider(server.url, "gpt-4o", None)
        answers = [await events(provider) for _ in range(3)]
        assert [answer[:2] for answer in answers] == [TEXT] * 3
        assert server.requests == [3]


async def test_an_answer_that_is_cut_on_the_wire_is_broken():
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(TOKEN)[: -len(b"0\r\n\r\n")])

    async with serving(talk) as server:
        with pytest.raises(StreamBroken) as caught:
            await LiteLLMProvider(server.url, "gpt-4o", None).call(HI)
        assert caught.value.events_seen == 1


async def test_a_proxy_that_is_not_there_is_unreachable():
    async with serving(silent) as server:
        url = server.url
    with pytest.raises(ProxyUnreachable, match=r"connection refused"):
        await LiteLLMProvider(url, "gpt-4o", None).call(HI)


async def test_nothing_is_left_behind_by_calls_that_failed():
    before = asyncio.all_tasks()
    for replies in ([Reply([TOKEN])], [Reply(status=500)], [Reply([b"data: {oops\n\n"])]):
        wire = Wire(*replies)
        with pytest.raises(ModelError):
            await wire.provider().call(HI)
        assert all(body.closed for body in wire.bodies)
    gc.collect()
    assert asyncio.all_tasks() == before


# ---------------------------------------------------------------------------------------------- looks at the proxy


async def test_the_models_of_a_proxy_are_listed():
    wire = Wire(Reply([b'{"data": [{"id": "gpt-4o"}, {"id": "claude-s"}]}']))
    assert await wire.provider().models() == ("gpt-4o", "claude-s")
    (request,) = wire.requests
    assert (request.method, str(request.url)) == ("GET", f"{URL}/v1/models")
    assert request.headers["authorization"] == "Bearer sk-0123456789abcdef"
    assert wire.bodies[0].closed


async def test_what_a_proxy_knows_of_its_models_is_handed_on():
    known = Wire(Reply([b'{"data": []}']), Reply([b'{"detail": "Not Found"}'], 404), Reply([b"{}"], 401))
    provider = known.provider()
    assert await provider.model_group_info() == {"data": []}
    assert await provider.model_group_info() is None
    with pytest.raises(ModelError):
        await provider.model_group_info()
    assert {str(request.url) for request in known.requests} == {f"{URL}/model_group/info"}


async def test_a_proxy_is_alive_when_it_says_so():
    wire = Wire(Reply([b'"I\'m alive!"']), Reply([b"<html>"]), Reply(status=503))
    provider = wire.provider()
    assert [await provider.alive() for _ in range(3)] == [True, False, False]
    assert str(wire.requests[0].url) == f"{URL}/health/liveliness"


def test_a_look_at_a_proxy_is_bounded_too():
    async def main() -> None:
        with pytest.raises(ModelTimeout):
            await Wire(Reply([3_600.0])).provider(timeout=2).models()
        with pytest.raises(ModelFailed, match="no answer in it"):
            await Wire(Reply([b"no JSON"])).provider().models()

    run_virtual(main())


async def test_what_goes_wrong_in_a_look_at_a_proxy_names_no_model():
    wire = Wire(Reply([b"Internal Server Error"], 500), Reply([b"<html>"]))
    texts: list[str] = []
    for _ in range(2):
        with pytest.raises(ModelFailed) as caught:
            await wire.provider().models()
        texts.append(str(caught.value).partition("\n")[0])

    assert texts == [
        f"LiteLLM API error: HTTP 500 from {URL}/v1/models: Internal Server Error",
        f"LiteLLM API error: {URL}/v1/models answered HTTP 200, but with no answer in it; the body was empty",
    ]


def test_a_look_at_a_proxy_that_takes_too_long_names_no_model():
    async def main() -> None:
        with pytest.raises(ModelTimeout, match=f"after 2 s \\(call\\): {URL}/v1/models had not finished"):
            await Wire(Reply([3_600.0])).provider(timeout=2).models()

    run_virtual(main())
