"""The chat router, seen from a real websocket: what a client is sent, in which order, and what happens when it leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, web

from examples.started import module, started
from looopy.testing import ScriptedServer, cuts, fails, says, stalls

router = module("08_chat_router")

Frame: TypeAlias = dict[str, Any]
Connect: TypeAlias = "Callable[[], Any]"

HELLO = [
    {"conversation": "hall", "typing": True},
    {"conversation": "hall", "piece": "Hel"},
    {"conversation": "hall", "piece": "lo."},
    {"conversation": "hall", "message": "Hello.", "model": "gpt-4o-mini"},
    {"conversation": "hall", "typing": False},
]


@asynccontextmanager
async def chat(model: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """The router on a port, asking a model on another; gives what opens a websocket to it."""
    async with AsyncExitStack() as stack, asyncio.timeout(10):
        monkeypatch.setenv("LITELLM_URL", await stack.enter_async_context(model.serve()))
        runner = web.AppRunner(router.app(), shutdown_timeout=1)  # as `web.run_app` does it
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        session = await stack.enter_async_context(ClientSession())
        yield lambda: session.ws_connect(f"http://127.0.0.1:{port}/chat")


async def ask(socket: ClientWebSocketResponse, text: str, conversation: str = "hall") -> None:
    await socket.send_json({"conversation": conversation, "text": text})


async def told(socket: ClientWebSocketResponse, until: Frame) -> list[Frame]:
    """What the client is sent, up to and including a frame."""
    frames: list[Frame] = []
    while not frames or frames[-1] != until:
        frames.append(await socket.receive_json())
    return frames


def off(conversation: str = "hall") -> Frame:
    return {"conversation": conversation, "typing": False}


def conversations(model: ScriptedServer) -> list[list[str]]:
    """The texts that each request had, without the system prompt."""
    return [[message["content"] for message in request.body["messages"][1:]] for request in model.requests]


def test_three_people_are_answered_at_once_and_a_failure_is_told() -> None:
    out, err = started("08_chat_router")

    assert (out.splitlines(), err) == (
        [
            "[garden] What grows in the shade? … Ferns|, and |patience.| (gpt-4o-mini)",
            "[garden] And in winter? … The same|, more |slowly.| (gpt-4o-mini)",
            "[kitchen] How long does an egg take? … Six |minutes.| (gpt-4o-mini)",
            "[cellar] Is anybody there? … (ModelOverloaded)",
        ],
        "",
    )


def test_without_a_model_the_stand_in_answers_and_says_so() -> None:
    out, err = started("08_chat_router", LOOOPY_STAND_IN="1")

    assert [line.rpartition("(")[2] for line in out.splitlines()] == ["looopy-stand-in)"] * 4
    assert "I| am| looopy's| stand-in| model:" in out
    assert err.startswith("LOOOPY_STAND_IN=1: looopy's stand-in, which is no language model, answers")


async def test_typing_goes_on_the_pieces_come_in_order_and_typing_goes_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with chat(ScriptedServer(says("Hel", "lo.")), monkeypatch) as connect, connect() as socket:
        await ask(socket, "Hi")

        assert await told(socket, off()) == HELLO


@pytest.mark.parametrize(
    ("answer", "shown", "failed"),
    [
        (fails(429), [], {"failed": "ModelOverloaded", "again": True}),
        (fails(401), [], {"failed": "AuthenticationFailed", "again": False}),
        (cuts(), [], {"failed": "ProxyUnreachable", "again": True}),
        (says("Hel") + cuts(), [{"piece": "Hel"}], {"failed": "StreamBroken", "again": True}),
    ],
    ids=["busy", "key", "down", "broken"],
)
async def test_after_a_failure_typing_is_off_and_the_conversation_goes_on(
    answer: Any, shown: list[Frame], failed: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat(ScriptedServer(answer, says("Hel", "lo.")), monkeypatch) as connect, connect() as socket:
        await ask(socket, "Hi")
        frames = await told(socket, off())
        await ask(socket, "Hi again")

        assert [*frames, *await told(socket, off())] == [
            {"conversation": "hall"} | frame
            for frame in ({"typing": True}, *shown, failed, {"typing": False}, *HELLO)
        ]


@pytest.mark.parametrize("way", ["closes", "vanishes"])
async def test_who_leaves_takes_the_question_along_and_others_see_the_typing_end(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ScriptedServer(says("Hel", "lo."), says("Once ") + stalls(), says("Hel", "lo."))
    async with chat(model, monkeypatch) as connect, connect() as asker, connect() as watcher:
        await ask(watcher, "Hi")
        await told(watcher, off())
        await ask(asker, "Tell me a story.")
        await told(asker, {"conversation": "hall", "piece": "Once "})
        await ask(watcher, "Are you there?")  # it waits for its turn
        if way == "closes":
            await asker.close()
        else:
            asker._response.connection.transport.abort()
        await model.hung_up()

        assert await told(watcher, off()) == [
            {"conversation": "hall", "typing": True},
            {"conversation": "hall", "piece": "Once "},
            {"conversation": "hall", "typing": False},
        ]
        assert await told(watcher, off()) == HELLO
    assert [request.outcome for request in model.requests] == ["answered", "hung-up", "answered"]
    assert conversations(model)[-1] == ["Hi", "Hello.", "Tell me a story.", "Once ", "Are you there?"]


async def test_a_conversation_does_not_wait_for_another_and_each_has_its_own_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(body: dict[str, Any]) -> Any:
        return says("Hm.") + stalls() if body["messages"][-1]["content"] == "Slow?" else says("Yes.")

    model = ScriptedServer(otherwise=answer)
    async with chat(model, monkeypatch) as connect, connect() as socket:
        await ask(socket, "Slow?", "one")
        await told(socket, {"conversation": "one", "piece": "Hm."})
        await ask(socket, "Quick?", "two")
        await told(socket, off("two"))
        await ask(socket, "And again?", "two")

        assert await told(socket, off("two")) == [
            {"conversation": "two", "typing": True},
            {"conversation": "two", "piece": "Yes."},
            {"conversation": "two", "message": "Yes.", "model": "gpt-4o-mini"},
            {"conversation": "two", "typing": False},
        ]
    assert conversations(model) == [["Slow?"], ["Quick?"], ["Quick?", "Yes.", "And again?"]]


async def test_questions_to_one_conversation_are_answered_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedServer(otherwise=lambda body: says("Hel", "lo."))
    async with chat(model, monkeypatch) as connect, connect() as socket:
        await ask(socket, "Hi")
        await ask(socket, "Hi again")

        assert [*await told(socket, off()), *await told(socket, off())] == [*HELLO, *HELLO]
    assert conversations(model) == [["Hi"], ["Hi", "Hello.", "Hi again"]]


async def test_who_comes_back_finds_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedServer(otherwise=lambda body: says("Hello."))
    async with chat(model, monkeypatch) as connect:
        for text in ("Hi", "It is me again"):
            async with connect() as socket:
                await ask(socket, text)
                await told(socket, off())

    assert conversations(model) == [["Hi"], ["Hi", "Hello.", "It is me again"]]


async def test_what_is_no_message_is_told_and_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chat(ScriptedServer(says("Hel", "lo.")), monkeypatch) as connect, connect() as socket:
        for nonsense in ("Hi", "[]", json.dumps({"text": "Hi"}), "{"):
            await socket.send_str(nonsense)
            assert await socket.receive_json() == {"failed": "send {conversation: text, text: text}"}
        await ask(socket, " ")
        assert await told(socket, off()) == [
            {"conversation": "hall", "typing": True},
            {"conversation": "hall", "failed": "ConfigurationError", "again": False},
            {"conversation": "hall", "typing": False},
        ]
        await ask(socket, "Hi")

        assert await told(socket, off()) == HELLO
