"""LiteLLM's library as far as looopy knows it, in front of `ScriptedServer`s: the real one takes seconds to load, and hundreds of megabytes.

What the real one does is asked in tests/proxy/test_library.py.
"""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import httpx

telemetry = True
suppress_debug_info = False
loaded_with = {name: os.environ.get(name) for name in ("LITELLM_LOCAL_MODEL_COST_MAP", "LITELLM_MODE")}
servers = {}
"""The `ScriptedServer`s that answer, by the address that they are asked at."""
asked = []
"""The keywords of each call."""
prices = {"openai/gpt-4o-mini": 0.001}
"""US dollars a token."""


class APIError(Exception):
    def __init__(self, message, status_code, headers):
        super().__init__(message)
        self.status_code = status_code
        self.litellm_response_headers = headers


async def acompletion(**keywords):
    asked.append(keywords)
    body = {
        name: value
        for name, value in keywords.items()
        if name not in ("api_key", "api_base", "max_retries", "timeout")
    }
    client = httpx.AsyncClient(transport=servers[keywords["api_base"]].transport(), timeout=None)
    request = client.build_request("POST", keywords["api_base"] + "/v1/chat/completions", json=body)
    reply = await client.send(request, stream=True)
    if reply.status_code != 200:
        error = json.loads(await reply.aread())["error"]
        raise APIError(error["message"], reply.status_code, reply.headers)
    return Stream(reply)


class Stream:
    def __init__(self, reply):
        self._hidden_params = {"litellm_call_id": "call-1"}
        self._reply = reply
        self._lines = reply.aiter_lines()

    def __aiter__(self):
        return self

    async def __anext__(self):
        async for line in self._lines:
            if line.startswith("data: {"):
                return Chunk(json.loads(line[6:]))
        raise StopAsyncIteration

    async def aclose(self):
        await self._reply.aclose()


class Chunk:
    def __init__(self, fields):
        self.fields = fields

    def model_dump(self, *, mode, exclude_none):
        return self.fields


class Usage(SimpleNamespace):
    pass


class ModelResponse(SimpleNamespace):
    pass


def completion_cost(*, completion_response, model):
    return prices[model] * completion_response.usage.total_tokens
