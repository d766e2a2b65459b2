"""What goes wrong outside, over a real socket, and the exact outcome: one final status, the typed error, nothing left open or running."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from looopy import AgentLoop, Limits, LiteLLMProvider, Run
from looopy.errors import (
    AuthenticationFailed,
    ContentRefused,
    ContextTooLong,
    LimitExceeded,
    LooopyError,
    ModelError,
    ModelFailed,
    ModelOverloaded,
    ModelRejected,
    ModelTimeout,
    ProxyUnreachable,
    StreamBroken,
    TaskCanceled,
    UnknownModel,
)
from looopy.events import ContentDelta, Event, StatusUpdate
from looopy.testing import Answer, ScriptedModel, ScriptedServer, calls, cuts, fails, raw, says, stalls

KEY = "sk-thisisaverysecretkey1234567890"


async def outcome(run: Run) -> tuple[list[Event], BaseException | None]:
    """All events of a run and what awaiting it raises; checks what must always be true."""
    async with asyncio.timeout(10):
        events = [event async for event in run]
        try:
            await run
            error = None
        except Exception as raised:  # noqa: BLE001  whatever it is, it is what the caller looks at
            error = raised
    finals = [event for event in events if isinstance(event, StatusUpdate) and event.final]
    assert finals == [events[-1]]
    assert KEY not in repr(events) + repr(error) + str(getattr(error, "__dict__", ""))
    return events, error


async def ask(
    server: ScriptedServer, *, limits: Limits | None = None, **options: Any
) -> tuple[list[Event], Any]:
    """Ask over a real socket; checks that no connection is busy and no task is left afterwards."""
    tasks = asyncio.all_tasks()
    async with server.serve() as url:
        provider = LiteLLMProvider(base_url=url, model="m", api_key=KEY, **options)
        events, error = await outcome(
            AgentLoop(llm_provider=provider, limits=limits or Limits()).execute("go")
        )
        if any(request.outcome == "open" for request in server.requests):
            await server.hung_up()
        assert {task for task in asyncio.all_tasks() - tasks if "looopy.reactive" in repr(task)} == set()
        if isinstance(error, ModelError) and not isinstance(error, StreamBroken):
            assert url in str(error)
    gc.collect()
    return events, error


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (400, "litellm.BadRequestError: no such field", ModelRejected),
        (400, "litellm.ContextWindowExceededError: too long", ContextTooLong),
        (400, "litellm.ContentPolicyViolationError: no", ContentRefused),
        (401, "Authentication Error", AuthenticationFailed),
        (403, "litellm.NotFoundError: not allowed", AuthenticationFailed),
        (404, "litellm.NotFoundError: no model m", UnknownModel),
        (408, "litellm.Timeout: too slow", ModelTimeout),
        (413, "too large", ModelRejected),
        (422, "not valid", ModelRejected),
        (429, "litellm.RateLimitError: slow down", ModelOverloaded),
        (500, "litellm.InternalServerError: oops", ModelFailed),
        (502, "litellm.BadGatewayError: oops", ModelFailed),
        (503, "litellm.ServiceUnavailableError: oops", ModelOverloaded),
        (529, "litellm.APIError: overloaded", ModelOverloaded),
    ],
)
async def test_a_refused_request_fails_the_task_with_the_typed_error(
    status: int, message: str, error: type[ModelError]
) -> None:
    events, raised = await ask(ScriptedServer(fails(status, message)))

    assert type(raised) is error
    assert (raised.status, raised.model) == (status, "m")
    assert [event.kind for event in events] == ["task", "status-update", "llm-call", "status-update"]


async def test_retry_after_is_told() -> None:
    _, raised = await ask(ScriptedServer(fails(429, "slow down", retry_after=7)))
    assert raised.retry_after == 7


@pytest.mark.parametrize(
    "answer",
    [
        raw(b"<html><body>502 Bad Gateway</body></html>", status=502, headers={"content-type": "text/html"}),
        raw(b"", status=500),
        raw(b"Internal Server Error", status=500, headers={"content-type": "text/plain"}),
        raw(b"<html>a login page</html>", headers={"content-type": "text/html"}),
        raw(b"", headers={"content-type": "text/event-stream"}),
        raw(b'{"detail": "hello"}', headers={"content-type": "application/json"}),
        raw(b"data: {not json}\n\ndata: [DONE]\n\n"),
        raw(b"\x00\xff\xfe" * 1000),
        raw(b"data: [DONE]\n\n"),
    ],
)
async def test_what_is_no_completion_fails_the_task_with_a_model_error(answer: Answer) -> None:
    events, raised = await ask(ScriptedServer(answer))

    assert isinstance(raised, ModelError)
    assert isinstance(events[-1], StatusUpdate)
    assert events[-1].status.state == "failed"


async def test_a_proxy_that_is_down_is_named_with_its_address_and_the_mend() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    provider = LiteLLMProvider(base_url=f"http://127.0.0.1:{port}", model="m", api_key=KEY)

    _, raised = await outcome(AgentLoop(llm_provider=provider).execute("go"))

    assert isinstance(raised, ProxyUnreachable)
    assert f"http://127.0.0.1:{port}" in str(raised)
    assert "refused" in str(raised)


async def test_a_wrong_key_is_told_without_showing_it() -> None:
    _, raised = await ask(ScriptedServer(says("never"), api_key="sk-another"))
    assert type(raised) is AuthenticationFailed
    assert "The key came from api_key" in str(raised)


async def test_an_unknown_model_is_told_with_what_is_offered() -> None:
    server = ScriptedServer(says("never"), models=("model-a", "mm"))
    _, raised = await ask(server)
    assert type(raised) is UnknownModel
    assert raised.offered == ("model-a", "mm")


async def test_a_stall_before_the_first_token_is_a_timeout_and_hangs_up() -> None:
    for answer in (stalls(headers=False), stalls()):
        server = ScriptedServer(answer)
        _, raised = await ask(server, timeout=0.2)
        assert type(raised) is ModelTimeout
        assert "timeout" in str(raised)
        assert server.requests[0].outcome == "hung-up"


async def test_a_stall_in_mid_answer_is_ended_by_the_silence_limit_and_keeps_the_text() -> None:
    server = ScriptedServer(says("Hel", "lo") + stalls())
    _, raised = await ask(server, limits=Limits(idle_seconds=0.5))
    assert (type(raised), raised.limit, raised.result.output) == (LimitExceeded, "idle_seconds", "Hello")
    assert server.requests[0].outcome == "hung-up"


async def test_an_error_event_in_mid_stream_keeps_the_text_and_is_not_retried() -> None:
    server = ScriptedServer(says("Hel", "lo") + fails(500, "litellm.APIConnectionError: upstream broke"))
    events, raised = await ask(server)
    assert type(raised) is StreamBroken
    assert "upstream broke" in str(raised)
    assert raised.result.output == "Hello"
    assert [event.kind for event in events[-4:]] == [
        "content-delta",
        "content-delta",
        "llm-response",
        "status-update",
    ]
    assert len(server.requests) == 1


async def test_a_cut_connection_in_mid_stream_keeps_the_text() -> None:
    _, raised = await ask(ScriptedServer(says("Hel", "lo") + cuts()))
    assert type(raised) is StreamBroken
    assert raised.result.output == "Hello"


def stream() -> bytes:
    """A whole answer as the proxy sends it."""
    pieces: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"content": "Hé", "role": "assistant"}}]},
        {"choices": [{"index": 0, "delta": {"content": "llo"}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}},
    ]
    return (
        b"".join(b"data: " + json.dumps(piece, ensure_ascii=False).encode() + b"\n\n" for piece in pieces)
        + b"data: [DONE]\n\n"
    )


async def test_a_stream_cut_at_any_byte_is_the_whole_answer_or_one_typed_error() -> None:
    """Over a real socket, the connection closed after each possible number of bytes of the body."""
    body = stream()
    server = ScriptedServer(*(raw(body[:end]) for end in range(len(body) + 1)))
    async with server.serve() as url:
        agent = AgentLoop(llm_provider=LiteLLMProvider(base_url=url, model="m", api_key=KEY))
        outcomes: list[str] = []
        for _ in range(len(body) + 1):
            events, error = await outcome(agent.execute("go"))
            said = "".join(event.delta for event in events if isinstance(event, ContentDelta))
            assert "Héllo".startswith(said)
            assert error is None or isinstance(error, ModelError)
            outcomes.append("answer" if error is None else "error")
    finish = body.index(b'"finish_reason"')
    assert outcomes[-1] == "answer"
    assert set(outcomes[:finish]) == {"error"}
    assert outcomes == sorted(outcomes, reverse=True)


async def test_bytes_split_anywhere_make_the_same_events() -> None:
    def shape(events: list[Event]) -> list[tuple[str, str]]:
        return [(event.kind, getattr(event, "delta", "")) for event in events]

    answer = says("Grüße, ", "世界 ", "🌍") + calls("nope", a="ü") + says()
    whole, _ = await ask(ScriptedServer(answer, says("ok")))
    for size in (1, 2, 3, 7):
        split, _ = await ask(ScriptedServer(answer, says("ok"), pieces=size))
        assert shape(split) == shape(whole)


async def test_break_out_of_async_for_closes_the_upstream_within_a_tenth_of_a_second_while_the_run_is_held() -> (
    None
):
    server = ScriptedServer(says("Hel") + stalls())
    async with server.serve() as url:
        run = AgentLoop(llm_provider=LiteLLMProvider(base_url=url, model="m", api_key=KEY)).execute("go")
        async for event in run:
            if isinstance(event, ContentDelta):
                break
        left = time.monotonic()
        await server.hung_up()
        assert time.monotonic() - left < 0.1
        assert run.status == "canceled"


async def test_two_subscribers_and_a_late_one_see_the_same_events_from_one_bill() -> None:
    server = ScriptedServer(says("Hel", "lo"))
    async with server.serve() as url:
        run = AgentLoop(llm_provider=LiteLLMProvider(base_url=url, model="m", api_key=KEY)).execute("go")
        seen: list[list[Event]] = [[], [], []]
        run.subscribe(seen[0].append)
        run.subscribe(seen[1].append)
        async for event in run:
            if isinstance(event, ContentDelta) and not seen[2]:
                run.subscribe(seen[2].append)
        assert seen[0] == seen[1] == seen[2]
        assert len(server.requests) == 1


@pytest.mark.parametrize("seed", range(8))
async def test_a_dispose_at_any_moment_from_any_thread_ends_everything(seed: int) -> None:
    """The moment is drawn by the number of turns of the loop that pass before it."""
    chance = random.Random(seed)
    ended: list[str] = []

    async def tool() -> AsyncIterator[float]:
        try:
            for step in range(5):
                await asyncio.sleep(0)
                yield step / 5
        finally:
            ended.append("tool")

    server = ScriptedServer(
        otherwise=lambda request: calls("tool") if len(request["messages"]) < 6 else says("a", "b")
    )
    async with server.serve() as url:
        agent = AgentLoop(llm_provider=LiteLLMProvider(base_url=url, model="m", api_key=KEY), tools=[tool])
        for _ in range(25):
            run = agent.execute("go")
            subscription = run.subscribe()
            for _ in range(chance.randrange(120)):
                await asyncio.sleep(0)
            if chance.random() < 0.5:
                subscription.dispose()
            else:
                thread = threading.Thread(target=subscription.dispose)
                thread.start()
                await asyncio.to_thread(thread.join)
            events, error = await outcome(run)
            assert error is None or isinstance(error, TaskCanceled)
            asked = (
                [call.id for message in run.state.messages for call in message.tool_calls]
                if run.state
                else []
            )
            answered = (
                [message.tool_call_id for message in run.state.messages if message.role == "tool"]
                if run.state
                else []
            )
            assert answered == asked
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
        if left := sum(request.outcome == "open" for request in server.requests):
            await server.hung_up(left + sum(request.outcome == "hung-up" for request in server.requests))


async def test_a_tool_that_hangs_in_a_thread_does_not_hold_up_a_cancel() -> None:
    begun, release = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        release.wait(30)

    server = ScriptedServer(calls("hang"))
    async with server.serve() as url:
        agent = AgentLoop(llm_provider=LiteLLMProvider(base_url=url, model="m", api_key=KEY), tools=[hang])
        run = agent.execute("go").start()
        await asyncio.to_thread(begun.wait, 5)
        run.cancel()
        events, error = await outcome(run)
        release.set()
    assert isinstance(error, TaskCanceled)
    assert [event.kind for event in events[-2:]] == ["tool-complete", "status-update"]


async def test_a_gigabyte_of_text_from_a_tool_reaches_the_model_cut_with_a_mark() -> None:
    def huge() -> str:
        return "x" * 1_000_000_000

    server = ScriptedServer(calls("huge"), says("ok"))
    async with server.serve() as url:
        agent = AgentLoop(llm_provider=LiteLLMProvider(base_url=url, model="m", api_key=KEY), tools=[huge])
        await agent.execute("go")
    content = server.requests[1].body["messages"][-1]["content"]
    assert content == "x" * 100_000 + "… [cut: 100,000 of 1,000,000,000 characters shown]"


async def test_invariant_11_no_key_is_in_anything_that_a_failed_run_leaves() -> None:
    """Invariant 11, also where the server gives the key back in its error."""
    server = ScriptedServer(raw(json.dumps({"error": {"message": f"bad key {KEY}"}}).encode(), status=401))
    async with server.serve() as url:
        provider = LiteLLMProvider(base_url=url.replace("//", "//user:hunter2pass@"), model="m", api_key=KEY)
        run = AgentLoop(llm_provider=provider).execute("go")
        events, error = await outcome(run)
    assert isinstance(error, LooopyError)
    everything = f"{events!r} {error!r} {error} {provider!r} {run!r} {vars(error)!r} {error.result!r}"
    assert KEY not in everything
    assert "hunter2pass" not in everything


async def test_invariant_11_no_key_is_in_anything_that_a_cancelled_run_leaves() -> None:
    """Invariant 11, also where the key is in the reason, which is told to the calls that were open."""
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    run = AgentLoop(llm_provider=ScriptedModel(calls("hang")), tools=[hang]).execute("go").start()
    await begun.wait()
    run.cancel(f"the key {KEY} was revoked")
    events, error = await outcome(run)
    assert isinstance(error, TaskCanceled)
    assert error.reason == "the key *** was revoked"
    assert KEY not in f"{events!r} {error!r} {vars(error)!r} {error.result!r}"
