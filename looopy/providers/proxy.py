"""One LiteLLM proxy as something to send requests to: what fails is a typed error, whatever the transport says.

`transport.py` moves the bytes, `refusals.py` words the errors, `litellm.py` above asks models through it. Small looks at the proxy (which
models there are, whether it is alive) are here too.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple
from uuid import uuid4

from pydantic_core import from_json

from looopy.errors import ModelError, UnknownModel
from looopy.messages import JSON
from looopy.ports import EmbedRequest, LLMRequest
from looopy.providers import refusals
from looopy.providers.address import Address
from looopy.providers.calls import as_list, as_object, as_text
from looopy.providers.clocks import Clocks, Expired, Timeouts
from looopy.providers.refusals import Asked
from looopy.providers.transport import ConnectFailed, ConnectionBroken, ConnectTimeout, Reply, Transport

_LOOK_UP = 2.0  # seconds that finding out which models there are may take, when the one asked for is unknown
_BODY_LIMIT = 64 * 1024  # bytes of an error's body that are read
_LIST_LIMIT = 4 * 1024 * 1024  # bytes of a list of models that are read
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")


class Answered(NamedTuple):
    """A success that came whole.

    Attributes:
        asked: the call, with the proxy's id of it.
        headers: of the answer, names in lower case.
        body: all of it.
    """

    asked: Asked
    headers: Mapping[str, str]
    body: bytes


class Proxy:
    """A proxy at an address.

    Args:
        address: where it is, and how it knows us.
        timeouts: `connect` and `call` hold for each request.
        transport: what sends.
    """

    __slots__ = ("_timeouts", "_transport", "address")

    def __init__(self, address: Address, timeouts: Timeouts, transport: Transport) -> None:
        self.address = address
        self._timeouts = timeouts
        self._transport = transport

    async def send(self, method: str, asked: Asked, headers: Mapping[str, str], body: bytes = b"") -> Reply:
        """Send a request; the reply may still be a refusal.

        Raises:
            ProxyUnreachable: no connection came about, or it ended before the answer began.
            ModelTimeout: none came about in time.
        """
        try:
            return await self._transport.send(
                method, asked.url, headers=headers, body=body, connect_timeout=self._timeouts.connect
            )
        except ConnectTimeout as error:
            raise refusals.timed_out(asked, "connect", error.seconds) from None
        except (ConnectFailed, ConnectionBroken) as error:
            raise refusals.unreachable(asked, error.reason) from None

    async def refusal(self, asked: Asked, reply: Reply) -> ModelError:
        """The error that a reply other than 200 stands for; for an unknown model also which ones there are."""
        try:
            body = await reply.read(_BODY_LIMIT)
        except ConnectionBroken:
            body = b""
        return await self._refusal(asked, reply, body)

    async def post(self, asked: Asked, headers: Mapping[str, str], body: bytes, *, limit: int) -> Answered:
        """Send a request and wait for the whole answer.

        Args:
            asked: the call.
            headers: of the request.
            body: of the request.
            limit: bytes of the answer that are read.

        Raises:
            ModelError: it does not come in time, does not come whole, or is a refusal.
        """
        reply, content = await self._exchange("POST", asked, headers, body, limit)
        asked = replace(asked, call_id=reply.headers.get("x-litellm-call-id") or asked.call_id)
        if reply.status != 200:
            raise await self._refusal(asked, reply, content[:_BODY_LIMIT])
        return Answered(asked, reply.headers, content)

    async def models(self) -> tuple[str, ...]:
        """The names that the proxy offers to this key."""
        listed = as_list(as_object(await self.get("/v1/models")).get("data"))
        return tuple(name for entry in listed if (name := as_text(as_object(entry).get("id"))))

    async def get(self, path: str) -> JSON:
        """The JSON at a path of the proxy.

        Raises:
            ModelError: the proxy does not answer in time, refuses, or answers with something else than JSON.
        """
        asked = Asked(model="", url=self.address.root + path, address=self.address)
        reply, body = await self._exchange("GET", asked, self.address.headers, b"", _LIST_LIMIT)
        if reply.status != 200:
            raise refusals.refused(asked, reply.status, reply.headers, body)
        try:
            return from_json(body)
        except ValueError:
            raise refusals.no_answer(asked, body) from None

    async def _exchange(
        self, method: str, asked: Asked, headers: Mapping[str, str], body: bytes, limit: int
    ) -> tuple[Reply, bytes]:
        """A reply and its body, its connection done with; of a refusal's body what can be read."""
        clocks = Clocks(self._timeouts)
        try:
            with clocks:
                reply = await self.send(method, asked, headers, body)
                try:
                    return reply, await reply.read(limit)
                except ConnectionBroken as error:
                    if reply.status == 200:
                        raise refusals.broken(asked, error.reason, events_seen=0) from None
                    return reply, b""
                finally:
                    await reply.aclose()
        except Expired as error:
            raise refusals.timed_out(asked, error.clock, error.seconds) from None
        finally:
            clocks.stop()

    async def _refusal(self, asked: Asked, reply: Reply, body: bytes) -> ModelError:
        error = refusals.refused(asked, reply.status, reply.headers, body)
        if not isinstance(error, UnknownModel):
            return error
        try:
            async with asyncio.timeout(_LOOK_UP):
                offered = await self.models()
        except (ModelError, TimeoutError):
            return error
        return refusals.refused(asked, reply.status, reply.headers, body, offered=offered)


def headers_for(request: LLMRequest | EmbedRequest) -> dict[str, str]:
    """What the head of a request says about one call: an id of its own, and the span that it is under."""
    headers = {"x-litellm-call-id": str(uuid4())}
    if _TRACE_ID.fullmatch(request.trace_id) and _SPAN_ID.fullmatch(request.parent_span_id):
        headers["traceparent"] = f"00-{request.trace_id}-{request.parent_span_id}-{request.sampled:02d}"
    return headers


def served_by(model: str, headers: Mapping[str, str]) -> str:
    """The name by which the proxy would find the model again that answered: after a fallback another than was asked for."""
    fell_back = headers.get("x-litellm-attempted-fallbacks", "0") not in ("", "0")
    return (headers.get("x-litellm-model-group") or model) if fell_back else model
