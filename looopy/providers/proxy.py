"""One LiteLLM proxy as something to send requests to: what fails is a typed error, whatever the transport says.

`transport.py` moves the bytes, `refusals.py` words the errors, `litellm.py` above asks models through it. Small looks at the proxy (which
models there are, whether it is alive) are here too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from pydantic_core import from_json

from looopy.errors import ModelError, UnknownModel
from looopy.messages import JSON
from looopy.providers import refusals
from looopy.providers.address import Address
from looopy.providers.calls import as_list, as_object, as_text
from looopy.providers.clocks import Clocks, Expired, Timeouts
from looopy.providers.refusals import Asked
from looopy.providers.transport import ConnectFailed, ConnectionBroken, ConnectTimeout, Reply, Transport

_LOOK_UP = 2.0  # seconds that finding out which models there are may take, when the one asked for is unknown
_BODY_LIMIT = 64 * 1024  # bytes of an error's body that are read
_LIST_LIMIT = 4 * 1024 * 1024  # bytes of a list of models that are read


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
        body = await _body(reply, _BODY_LIMIT)
        error = refusals.refused(asked, reply.status, reply.headers, body)
        if not isinstance(error, UnknownModel):
            return error
        try:
            async with asyncio.timeout(_LOOK_UP):
                offered = await self.models()
        except (ModelError, TimeoutError):
            return error
        return refusals.refused(asked, reply.status, reply.headers, body, offered=offered)

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
        clocks = Clocks(self._timeouts)
        try:
            with clocks:
                reply = await self.send("GET", asked, self.address.headers)
                try:
                    body = await _body(reply, _LIST_LIMIT)
                finally:
                    await reply.aclose()
        except Expired as error:
            raise refusals.timed_out(asked, error.clock, error.seconds) from None
        finally:
            clocks.stop()
        if reply.status != 200:
            raise refusals.refused(asked, reply.status, reply.headers, body)
        try:
            return from_json(body)
        except ValueError:
            raise refusals.no_answer(asked, body) from None


async def _body(reply: Reply, limit: int) -> bytes:
    """The body as far as it can be read."""
    try:
        return await reply.read(limit)
    except ConnectionBroken:
        return b""
