"""What every `ToolProvider` must keep, as checks that anyone can run against their own.

Each check is a coroutine function that takes a factory of rigs and raises `ContractBroken`, whose message says what the loop relies on.
With pytest:

    @pytest.mark.parametrize("check", tool_provider_contract)
    async def test_my_provider_keeps_the_contract(check):
        await check(my_rig)

and by hand `await check_tool_provider(my_rig)`. No check knows what a tool does: the rig has calls to try.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, TypeAlias, cast

from reactivex import Observable

from looopy.events import (
    InputRequired,
    ToolComplete,
    ToolEvent,
    dumps,
    loads,
)
from looopy.messages import JSON, ToolCall
from looopy.ports import ToolContext, ToolDefinition, ToolProvider
from looopy.state import LoopState
from looopy.testing.contract import Watcher, collect, require, until


@dataclass(frozen=True, slots=True)
class ToolRig:
    """A tool provider, and calls that make it do certain things.

    Attributes:
        provider: the provider under test.
        works: a call that succeeds.
        result: what it gives.
        fails: a call that fails; None skips what is to be known about failures.
        hangs: a call that does not end by itself; None skips what is to be known about cancelling.
        running: how many calls are being worked on; only asked where `hangs` is given.
    """

    provider: ToolProvider
    works: ToolCall
    result: JSON
    fails: ToolCall | None = None
    hangs: ToolCall | None = None
    running: Callable[[], int] = int


ToolCheck: TypeAlias = Callable[[Callable[[], ToolRig]], Awaitable[None]]
"""A check of one part of the contract."""


async def check_tool_provider(make: Callable[[], ToolRig]) -> None:
    """Run every check of `tool_provider_contract`.

    Raises:
        ContractBroken: a check fails.
    """
    for check in tool_provider_contract:
        await check(make)


async def definitions_are_ones_a_model_takes(make: Callable[[], ToolRig]) -> None:
    """A request with one wrong definition is refused as a whole."""
    rig = make()
    definitions = await _definitions(rig.provider)
    names = [definition.name for definition in definitions]
    wrong = [name for name in names if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name)]
    require(not wrong, f"a tool's name is 1 to 64 of letters, digits, _ and -; these are not: {wrong}")
    require(len({*names}) == len(names), f"two tools have the same name: {names}")
    missing = {call.name for call in (rig.works, rig.fails, rig.hangs) if call} - {*names}
    require(not missing, f"the rig calls {missing}, and tools() offers {names}")
    for definition in definitions:
        schema = definition.parameters
        require(
            schema.get("type") == "object" and isinstance(schema.get("properties", {}), dict),
            f"the parameters of {definition.name} must be a JSON schema of type object; they are {schema}",
        )
        require(b"function" in definition.wire, "a definition must have a JSON form")


async def each_subscription_runs_the_tool_once(make: Callable[[], ToolRig]) -> None:
    """`call` is cold: a tool that ran before it was asked for, or twice, may have done harm."""
    rig = make()
    answers = _call(rig, rig.works)
    await asyncio.sleep(0)
    require(rig.running() == 0, "call() ran the tool before anybody subscribed; it must be cold")
    found = [_outcome(await collect(answers)) for _ in range(2)]
    require(found == [rig.result] * 2, f"each subscription must give {rig.result!r}; they gave {found}")


async def one_answer_comes_last(make: Callable[[], ToolRig]) -> None:
    """Every call of a model is answered exactly once; the answer must also survive a store."""
    rig = make()
    events = await collect(_call(rig, rig.works))
    answers = [event for event in events if isinstance(event, ToolComplete | InputRequired)]
    require(
        len(answers) == 1 and events[-1] is answers[0],
        f"a call must emit exactly one ToolComplete or InputRequired, last; it emitted {events}",
    )
    require(
        all(loads(dumps(event)) == event for event in events),
        f"a result must be JSON (looopy.messages.jsonable makes it so); these events do not survive: {events}",
    )


async def a_failure_is_told_in_words(make: Callable[[], ToolRig]) -> None:
    """The model reads why a tool failed: by a `ToolComplete` with an error, or by `on_error`."""
    rig = make()
    if rig.fails is None:
        return
    watcher = Watcher(_call(rig, rig.fails))
    error = await watcher.failure()
    last = watcher.events[-1] if watcher.events else None
    told = (
        str(error) if error else last.error.message if isinstance(last, ToolComplete) and last.error else ""
    )
    require(bool(told), f"a failed call must say why; it ended with {error!r} after {watcher.events}")


async def disposing_cancels_the_tool(make: Callable[[], ToolRig]) -> None:
    """Who cancels a run must not wait for its tools."""
    rig = make()
    if rig.hangs is None:
        return
    watcher = Watcher(_call(rig, rig.hangs))
    await until(lambda: rig.running() == 1, f"the call {rig.hangs.name} never ran")
    watcher.leave()
    await until(lambda: rig.running() == 0, "the tool still ran after its subscription was disposed of")
    require(not watcher.over, "nothing may be emitted after dispose")


async def concurrent_tool_calls_do_not_mix(make: Callable[[], ToolRig]) -> None:
    """A model asks for several tools at once."""
    rig = make()
    watchers = {call_id: Watcher(_call(rig, rig.works, call_id)) for call_id in ("first", "second")}
    for call_id, watcher in watchers.items():
        events = await watcher.end()
        require(
            _outcome(events) == rig.result
            and {getattr(event, "call_id", "") for event in events} <= {"", call_id},
            f"the call {call_id!r} must give {rig.result!r} under its own id, or none; it gave {events}",
        )


tool_provider_contract: Sequence[ToolCheck] = (
    definitions_are_ones_a_model_takes,
    each_subscription_runs_the_tool_once,
    one_answer_comes_last,
    a_failure_is_told_in_words,
    disposing_cancels_the_tool,
    concurrent_tool_calls_do_not_mix,
)
"""The checks of a `ToolProvider`."""


async def _definitions(provider: ToolProvider) -> Sequence[ToolDefinition]:
    offered = provider.tools(LoopState(task_id="task", context_id="context"))
    return await offered if isawaitable(offered) else offered


def _call(rig: ToolRig, call: ToolCall, call_id: str = "contract") -> Observable[ToolEvent]:
    context: ToolContext[Any] = ToolContext(
        task_id="task",
        context_id="context",
        call_id=call_id,
        tool_name=call.name,
        iteration=1,
        deps=None,
        emit=lambda _: None,
        cancelled=lambda: False,
    )
    return rig.provider.call(ToolCall(call_id, call.name, call.arguments), context)


def _outcome(events: Sequence[Any]) -> JSON:
    return cast("ToolComplete", events[-1]).result
