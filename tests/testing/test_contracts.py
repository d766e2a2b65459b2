"""Our own plugs keep the contracts that third parties check theirs against, and the checks find what is broken."""

from __future__ import annotations

import asyncio
import re

import pytest
import reactivex as rx
from reactivex import operators as ops

from looopy.errors import ModelFailed
from looopy.events import ContentDelta, Failure, LLMResponse, ToolComplete
from looopy.messages import Message, ToolCall
from looopy.ports import ToolDefinition
from looopy.providers.litellm import LiteLLMProvider
from looopy.providers.transport import HTTP
from looopy.testing import (
    ContractBroken,
    LLMRig,
    ScriptedModel,
    ScriptedServer,
    ScriptedTools,
    ToolRig,
    check_llm_provider,
    check_tool_provider,
    llm_provider_contract,
    run_virtual,
    tool_provider_contract,
)
from looopy.tools.function import FunctionTools


def scripted_model(*answers):
    model = ScriptedModel(*answers)
    return LLMRig(model, asked=lambda: len(model.requests), open=lambda: model.open_calls)


def provider_of(server, url, transport):
    provider = LiteLLMProvider(url, "gpt-4o-mini", api_key=None, transport=transport)
    return LLMRig(
        provider,
        asked=lambda: len(server.requests),
        open=lambda: sum(request.outcome == "open" for request in server.requests),
    )


def litellm_provider(*answers, pieces="event"):
    server = ScriptedServer(*answers, pieces=pieces)
    return provider_of(server, "http://proxy", HTTP(server.transport()))


@pytest.mark.parametrize("check", llm_provider_contract)
async def test_the_scripted_model_keeps_the_contract(check):
    await check(scripted_model)


@pytest.mark.parametrize("check", llm_provider_contract)
async def test_the_provider_keeps_the_contract(check):
    await check(litellm_provider)


@pytest.mark.parametrize("pieces", ["burst", 1, 7])
async def test_the_provider_keeps_the_contract_however_its_bytes_are_split(pieces):
    await check_llm_provider(lambda *answers: litellm_provider(*answers, pieces=pieces))


async def test_the_provider_keeps_the_contract_over_a_real_socket():
    for check in llm_provider_contract:
        async with asyncio.timeout(5):
            served = []

            def make(*answers, served=served):
                server = ScriptedServer(*answers)
                context = server.running()
                served.append(context)
                return provider_of(server, context.__enter__(), HTTP())

            try:
                await check(make)
            finally:
                for context in served:
                    context.__exit__(None, None, None)


def test_a_contract_can_be_checked_in_virtual_time():
    run_virtual(check_llm_provider(scripted_model))
    run_virtual(check_llm_provider(litellm_provider))


def functions():
    running = 0

    async def add(a: int, b: int) -> int:
        """Add."""
        await asyncio.sleep(0)
        return a + b

    async def fail() -> None:
        """Fail."""
        raise ValueError("no such city")

    async def hang() -> None:
        """Hang."""
        nonlocal running
        running += 1
        try:
            await asyncio.Event().wait()
        finally:
            running -= 1

    return ToolRig(
        FunctionTools([add, fail, hang]),
        works=ToolCall("1", "add", {"a": 2, "b": 2}),
        result=4,
        fails=ToolCall("2", "fail"),
        hangs=ToolCall("3", "hang"),
        running=lambda: running,
    )


def scripted_tools():
    provider = ScriptedTools(add=4, fail=ValueError("no such city"), hang=rx.never())
    return ToolRig(provider, works=ToolCall("1", "add"), result=4, fails=ToolCall("2", "fail"))


@pytest.mark.parametrize("check", tool_provider_contract)
@pytest.mark.parametrize("make", [functions, scripted_tools])
async def test_our_tool_providers_keep_the_contract(check, make):
    await check(make)


async def test_a_tool_provider_that_cannot_fail_is_not_asked_to():
    await check_tool_provider(lambda: ToolRig(ScriptedTools(add=4), works=ToolCall("1", "add"), result=4))


class Spoilt:
    """A provider with one thing wrong with its streams."""

    def __init__(self, spoil, *answers):
        self.model = ScriptedModel(*answers)
        self.spoil = spoil

    def call(self, request):
        return self.spoil(self.model, request)


def wordless(event):
    return ContentDelta(delta="") if isinstance(event, ContentDelta) else event


def numbered(event):
    return type(event)(delta=event.delta, seq=1) if isinstance(event, ContentDelta) else event


def nameless(event):
    if not isinstance(event, LLMResponse):
        return event
    message = Message.assistant(tool_calls=tuple(ToolCall("", c.name) for c in event.message.tool_calls))
    return LLMResponse(message=message, model="m")


SPOILT = {
    "each_subscription_is_one_request": (
        lambda model, request: (
            model.call(request).pipe(ops.replay(), ops.ref_count())
            if model.requests.append(request)
            else model.call(request)
        ),
        "before anybody subscribed",
    ),
    "the_answer_comes_last_and_once": (
        lambda model, request: model.call(request).pipe(ops.take(2)),
        "last exactly one LLMResponse",
    ),
    "events_come_without_ids": (
        lambda model, request: model.call(request).pipe(ops.map(numbered)),
        "leave seq and the ids",
    ),
    "deltas_add_up_to_the_message": (
        lambda model, request: model.call(request).pipe(ops.map(wordless)),
        "the content deltas say ''",
    ),
    "failures_are_typed": (
        lambda model, request: model.call(request).pipe(ops.catch(rx.throw(ModelFailed("oops")))),
        "must end in on_error with a AuthenticationFailed; it was ModelFailed('oops')",
    ),
    "call_ids_are_unique": (
        lambda model, request: model.call(request).pipe(ops.map(nameless)),
        "each tool call needs an id of its own",
    ),
    "unreadable_arguments_are_a_problem_of_the_call": (
        lambda model, request: model.call(request).pipe(ops.map(nameless)),
        "must have no arguments and a problem",
    ),
    "usage_is_passed_on": (
        lambda model, request: model.call(request).pipe(ops.map(nameless)),
        "the model reported Usage",
    ),
    "concurrent_calls_do_not_mix": (
        lambda model, request: model.call(request).pipe(ops.map(wordless)),
        "their own deltas and message",
    ),
}


@pytest.mark.parametrize(("name", "spoil", "message"), [(name, *spoilt) for name, spoilt in SPOILT.items()])
async def test_a_spoilt_model_provider_is_found_out(name, spoil, message):
    def make(*answers):
        provider = Spoilt(spoil, *answers)
        return LLMRig(
            provider, asked=lambda: len(provider.model.requests), open=lambda: provider.model.open_calls
        )

    (check,) = [check for check in llm_provider_contract if check.__name__ == name]
    with pytest.raises(ContractBroken, match=re.escape(message)):
        await check(make)


def test_a_request_that_is_left_open_is_found_out():
    """In virtual time, since the check waits for five seconds."""

    def make(*answers):
        model = ScriptedModel(*answers)
        return LLMRig(model, asked=lambda: len(model.requests), open=lambda: len(model.requests))

    for check in llm_provider_contract:
        if check.__name__ in ("pieces_are_shown_as_they_come", "disposing_closes_the_request"):
            with pytest.raises(ContractBroken, match=r"left open .* within 5 s"):
                run_virtual(check(make))


class Odd:
    """A tool provider that is given as its parts."""

    def __init__(self, *events, definitions=None):
        self.events = events
        self.definitions = definitions or [ToolDefinition(name="add")]

    async def tools(self, state):
        return self.definitions

    def call(self, call, context):
        return rx.of(*self.events)


ODD = {
    "definitions_are_ones_a_model_takes": [
        (Odd(definitions=[ToolDefinition(name="a b")]), "1 to 64 of letters"),
        (Odd(definitions=[ToolDefinition(name="add"), ToolDefinition(name="add")]), "the same name"),
        (Odd(definitions=[ToolDefinition(name="sub")]), "offers \\['sub'\\]"),
        (Odd(definitions=[ToolDefinition(name="add", parameters={"type": "array"})]), "of type object"),
    ],
    "each_subscription_runs_the_tool_once": [(Odd(ToolComplete(result=5)), "must give 4; they gave")],
    "one_answer_comes_last": [
        (Odd(ToolComplete(result=4), ToolComplete(result=4)), "exactly one ToolComplete"),
        (Odd(ToolComplete(result=(4,))), "a result must be JSON"),
    ],
    "a_failure_is_told_in_words": [
        (Odd(ToolComplete(error=Failure(type="Oops", message=""))), "must say why"),
        (Odd(ToolComplete(result=4)), "must say why"),
        (Odd(), "must say why"),
    ],
    "concurrent_tool_calls_do_not_mix": [
        (Odd(ToolComplete(result=4, call_id="other")), "under its own id, or none")
    ],
}


@pytest.mark.parametrize(
    ("name", "provider", "message"), [(name, *odd) for name, odds in ODD.items() for odd in odds]
)
async def test_a_spoilt_tool_provider_is_found_out(name, provider, message):
    (check,) = [check for check in tool_provider_contract if check.__name__ == name]
    rig = ToolRig(provider, works=ToolCall("1", "add"), result=4, fails=ToolCall("2", "add"))
    with pytest.raises(ContractBroken, match=message):
        await check(lambda: rig)
