"""What real servers were seen to send (docs/oddities.md), byte for byte over a socket, cut up in five ways: the same comes of it each time."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import pytest
from providers.oddities import PAGE, Oddity, oddities
from providers.raw import Peer, serving
from providers.wrapping import HI

from looopy import LiteLLMProvider, LLMProvider
from looopy.errors import StreamBroken
from looopy.events import ContentDelta, LLMEvent, LLMResponse, ThoughtDelta, ToolCallDelta
from looopy.messages import ToolCall
from looopy.providers.transport import HTTP, FastTransport

ODDITIES = oddities()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def at_once(body: bytes) -> Iterable[int]:
    return ()


def each_byte(body: bytes) -> Iterable[int]:
    return range(len(body))


def each_line(body: bytes) -> Iterable[int]:
    return (found.end() for found in re.finditer(rb"\n", body))


def around_each_event(body: bytes) -> Iterable[int]:
    """At the end of each event, and a byte before and behind it."""
    return (found.end() + near for found in re.finditer(rb"\r?\n\r?\n", body) for near in (-1, 0, 1))


def anywhere(body: bytes) -> Iterable[int]:
    """The same places each time."""
    return random.Random(len(body)).choices(range(len(body)), k=20)


CHUNKINGS: Mapping[str, Callable[[bytes], Iterable[int]]] = {
    cut.__name__.replace("_", " "): cut
    for cut in (at_once, each_byte, each_line, around_each_event, anywhere)
}


def cut_up(body: bytes, places: Iterable[int]) -> list[bytes]:
    ends = sorted({0, len(body), *(place for place in places if 0 < place < len(body))})
    return [body[start:end] for start, end in pairwise(ends)]


async def replayed(pieces: list[bytes]) -> list[str]:
    """What a provider makes of a body that comes in these pieces, each in a turn of the loop of its own."""

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD)
        for piece in pieces:
            await peer.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            await asyncio.sleep(0)
        await peer.send(b"0\r\n\r\n")
        await peer.hung_up()

    pool = FastTransport()
    async with serving(talk, seconds=20) as server:
        provider = LiteLLMProvider(server.url, "asked", None, transport=HTTP(pool))
        lines = await heard(provider)
        assert server.requests == [1]
        await pool.aclose()
        return lines


async def heard(provider: LLMProvider) -> list[str]:
    """The events of a call, a line each, and last the answer or the error."""
    lines, ids = list[str](), dict[str, str]()
    over: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
    provider.call(HI).subscribe(
        lambda event: lines.extend(told(event, ids)),
        lambda error: over.set_result(failed(error)),
        lambda: over.set_result(None),
    )
    end = await over
    return [*lines, *([end] if end else [])]


def told(event: LLMEvent, ids: dict[str, str]) -> list[str]:
    match event:
        case ContentDelta(delta=delta):
            return [f"says {shown(delta)}"]
        case ThoughtDelta(delta=delta):
            return [f"thinks {shown(delta)}"]
        case ToolCallDelta():
            return [f"calls {named(event.call_id, ids)} {event.tool_name} {shown(event.delta)}"]
        case LLMResponse():
            return [
                f"= {name}: {shown(value)}"
                for name, value in whole(event, ids).items()
                if value not in ("", [], {}, None)
            ]
        case _:
            return [event.kind]


def whole(response: LLMResponse, ids: dict[str, str]) -> dict[str, Any]:
    """All of an answer but what is measured, and what is the same for all of them."""
    message, usage = response.message, response.usage
    assert (message.model, response.attempts, response.cached) == ("asked", 1, False)
    counted = usage and {
        name: count
        for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
        if (count := getattr(usage, name))
    }
    return {
        "text": message.content,
        "thoughts": message.reasoning,
        "calls": [called(each, ids) for each in message.tool_calls],
        "kept for the model": dict(message.extra),
        "because": response.finish_reason,
        "tokens": counted,
        "cost": response.cost,
        "model": response.model,
        "id": response.response_id,
    }


def called(call: ToolCall, ids: dict[str, str]) -> str:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return f"{named(call.id, ids)} {call.name}({arguments})" + (
        f", but {call.problem}" if call.problem else ""
    )


def named(call_id: str, ids: dict[str, str]) -> str:
    """The id of a call; a number for one that looopy made up."""
    made = re.fullmatch(r"call_[0-9a-f]{32}", call_id)
    return ids.setdefault(call_id, f"made-{len(ids) + 1}" if made else call_id)


def shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def failed(error: Exception) -> str:
    text = re.sub(r"http://127\.0\.0\.1:\d+", "http://proxy", str(error).splitlines()[0])
    seen = f" after {error.events_seen}" if isinstance(error, StreamBroken) else ""
    return f"! {type(error).__name__}{seen}: {text}"


@pytest.mark.parametrize("chunking", CHUNKINGS)
@pytest.mark.parametrize("oddity", ODDITIES, ids=lambda oddity: oddity.name)
async def test_what_a_server_was_seen_to_send_comes_to_the_same_however_it_is_cut_up(
    oddity: Oddity, chunking: str
) -> None:
    pieces = cut_up(oddity.sent, CHUNKINGS[chunking](oddity.sent))
    assert b"".join(pieces) == oddity.sent

    assert await replayed(pieces) == oddity.heard


def test_every_entry_of_the_page_is_replayed() -> None:
    headings = re.findall(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert [oddity.name for oddity in ODDITIES] == headings
