"""A chat over a websocket: many conversations at once, each with its history, "typing" while the model works, and the answer as it is written.

In place of a chat router's own model service. A client sends {"conversation": "garden", "text": "Hi"} and is sent, each with the conversation's
name, {"typing": true}, {"piece": "Hel"} …, {"message": "Hello.", "model": "…"} or {"failed": "ModelOverloaded", "again": true}, and always last
{"typing": false}. Whoever leaves takes their questions along: the model's connection closes.

Runs offline, with three people in it. `python examples/08_chat_router.py 8080` serves ws://localhost:8080/chat, with your proxy at LITELLM_URL, or with
LOOOPY_STAND_IN=1 without any model. The websockets are aiohttp's.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import BaseModel, ValidationError

from looopy import AgentLoop, LooopyError
from looopy.events import ContentDelta
from looopy.testing import Answer, ScriptedServer, fails, says


class Asked(BaseModel):
    """What a client sends."""

    conversation: str
    text: str


class Conversation:
    """A talk with its history, and whoever looks at it."""

    def __init__(self, name: str, agent: AgentLoop) -> None:
        self.watchers: set[web.WebSocketResponse] = set()
        self._name = name
        self._session = agent.session(name)
        self._turn = asyncio.Lock()

    async def answer(self, text: str) -> None:
        """Answer in turn: a conversation has one question at a time."""
        async with self._turn:
            try:
                await self._tell(typing=True)
                run = self._session.send(text)
                async for event in run:
                    if isinstance(event, ContentDelta):
                        await self._tell(piece=event.delta)
                message = (await run).messages[-1]
                await self._tell(message=message.text, model=message.model)
            except LooopyError as error:
                await self._tell(failed=type(error).__name__, again=error.retryable)
            finally:
                await self._tell(typing=False)

    async def _tell(self, **news: object) -> None:
        for watcher in tuple(self.watchers):
            with suppress(ConnectionResetError):  # gone, and its own loop will notice
                await watcher.send_json({"conversation": self._name} | news)


class Router:
    """All conversations."""

    def __init__(self, agent: AgentLoop) -> None:
        self._agent = agent
        self._conversations: dict[str, Conversation] = {}

    async def chat(self, request: web.Request) -> web.WebSocketResponse:
        """One client, for as long as it stays."""
        socket = web.WebSocketResponse(heartbeat=20)
        await socket.prepare(request)
        working: set[asyncio.Task[None]] = set()
        try:
            async with asyncio.TaskGroup() as answers:
                async for frame in socket:
                    try:
                        asked = Asked.model_validate_json(frame.data)
                    except ValidationError:
                        await socket.send_json({"failed": "send {conversation: text, text: text}"})
                        continue
                    conversation = self._conversation(asked.conversation)
                    conversation.watchers.add(socket)
                    task = answers.create_task(conversation.answer(asked.text))
                    working.add(task)
                    task.add_done_callback(working.discard)
                for task in working:
                    task.cancel()
        finally:
            for conversation in self._conversations.values():
                conversation.watchers.discard(socket)
        return socket

    def _conversation(self, name: str) -> Conversation:
        if name not in self._conversations:
            self._conversations[name] = Conversation(name, self._agent)
        return self._conversations[name]


def app() -> web.Application:
    agent = AgentLoop(
        llm_provider=os.environ.get("LOOOPY_MODEL", "gpt-4o-mini"),
        system_prompt="You are a helpful assistant.",
    )
    site = web.Application()
    site.router.add_get("/chat", Router(agent).chat)
    return site


# ------------------------------------------------------------------------------------- three people, and what they are told


async def person(client: TestClient[Any, Any], conversation: str, *questions: str) -> AsyncIterator[str]:
    """Somebody at a browser: what is on the screen after each question."""
    async with client.ws_connect("/chat") as socket:
        for question in questions:
            await socket.send_json({"conversation": conversation, "text": question})
            shown = f"[{conversation}] {question} "
            async for frame in socket:
                match frame.json():
                    case {"typing": True}:
                        shown += "… "
                    case {"piece": piece}:
                        shown += f"{piece}|"
                    case {"message": _, "model": model}:
                        shown += f" ({model})"
                    case {"failed": why}:
                        shown += f"({why})"
                    case _:
                        break
            yield shown


async def main() -> None:
    async def all_of(screen: AsyncIterator[str]) -> list[str]:
        return [line async for line in screen]

    async with TestClient(TestServer(app())) as client:
        screens = await asyncio.gather(
            all_of(person(client, "garden", "What grows in the shade?", "And in winter?")),
            all_of(person(client, "kitchen", "How long does an egg take?")),
            all_of(person(client, "cellar", "Is anybody there?")),
        )
    for screen in screens:
        print(*screen, sep="\n")


def play(body: dict[str, Any]) -> Answer:
    match body["messages"][-1]["content"]:
        case "What grows in the shade?":
            return says("Ferns", ", and ", "patience.", every=0.01)
        case "And in winter?":
            return says("The same", ", more ", "slowly.", every=0.01)
        case "How long does an egg take?":
            return says("Six ", "minutes.", every=0.01)
        case _:
            return fails(503)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        web.run_app(app(), host="localhost", port=int(sys.argv[1]), shutdown_timeout=1)
    elif "LITELLM_URL" in os.environ:
        asyncio.run(main())
    else:
        with ScriptedServer(otherwise=play).running() as os.environ["LITELLM_URL"]:
            asyncio.run(main())
