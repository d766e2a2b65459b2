"""What spans say of the things they stand for: attributes, made of an event or a request, and of what of its content may be shown.

Pure functions. `spans.py` decides when they are said; where it can, long after the run has gone on, by the thread that sends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import reduce
from operator import add

from looopy.events import LLMResponse, LLMRetry, TaskState, ToolStart
from looopy.messages import JSON, Message, Usage
from looopy.observe import attributes as a
from looopy.observe.content import Transcript
from looopy.observe.reasons import kind
from looopy.observe.shown import names_credential, short, text, value
from looopy.ports import ToolDefinition


def metadata(given: Mapping[str, JSON]) -> a.Attributes:
    """What the caller gave along."""
    return {
        a.METADATA + short(name): _metadata(name, value) for name, value in given.items() if value is not None
    }


def _metadata(name: str, given: JSON) -> a.Value:
    """What the caller gave along: no conversation, so no hook sees it."""
    if isinstance(given, bool | int | float):
        return given
    if names_credential(name):
        return "***"
    return text(given, _METADATA) if isinstance(given, str) else value(given, _METADATA)


_METADATA = 1_024
"""Characters of one value: what is longer is no label, and filters of backends do not find it."""


def question(prompt: Message, shown: Transcript) -> a.Attributes:
    """What is asked."""
    return {a.INPUT: shown.input_messages((prompt,)), a.QUESTION: shown.line(prompt)}


def request(
    messages: Sequence[Message], tools: Sequence[ToolDefinition], shown: Transcript, legacy: bool
) -> a.Attributes:
    """The conversation that a model is sent."""
    said: a.Attributes = {a.INPUT: shown.input_messages(messages)}
    if system := shown.system_instructions(messages):
        said[a.SYSTEM] = system
    if tools:
        said[a.DEFINITIONS] = shown.tool_definitions(tools)
    if legacy:
        said["gen_ai.prompt"] = _whole(system, shown.input_messages(messages))
    return said


def _whole(system: str, messages: str) -> str:
    """A conversation with what it begins with: today these are two attributes."""
    rest = messages[1:-1]
    return f'[{{"role":"system","parts":{system}}}{rest and f",{rest}"}]' if system else messages


def whose_before(common: a.Attributes) -> a.Attributes:
    """Whose a run is, under the names of before 2025."""
    old: a.Attributes = {"langfuse.session.id": common.get(a.SESSION) or common[a.CONVERSATION]}
    return old | {"langfuse.user.id": common[a.USER]} if a.USER in common else old


def answer(event: LLMResponse, shown: Transcript | None, attempts: int, legacy: bool) -> a.Attributes:
    """What a model answered, and what it took."""
    said: a.Attributes = {a.FINISH: (event.finish_reason,)}
    if event.model:
        said[a.RESPONSE_MODEL] = short(event.model)
    if event.response_id:
        said[a.RESPONSE_ID] = short(event.response_id)
    if event.call_id:
        said[a.CALL] = short(event.call_id)
    if event.first_token is not None:
        said[a.FIRST_CHUNK] = event.first_token
        came = event.timestamp - timedelta(seconds=event.seconds - event.first_token)
        said[a.FIRST_CHUNK_AT] = came.isoformat()
    if event.usage is not None:
        said |= usage(event.usage, a.USAGE)
    if event.cost is not None:
        said[a.COST] = event.cost
    if attempts > 1:
        said[a.ATTEMPTS] = attempts
    if event.served_by:
        said[a.SERVED_BY] = short(event.served_by)
    if event.cached:
        said[a.CACHED] = True
    if shown is not None:
        said[a.OUTPUT] = shown.output_messages(event.message, event.finish_reason)
    return said | _old(event, said) if legacy else said


def _old(event: LLMResponse, said: a.Attributes) -> a.Attributes:
    """The same under the names of before 2025."""
    old: a.Attributes = {}
    if event.usage is not None:
        old["gen_ai.usage.prompt_tokens"] = event.usage.input_tokens
        old["gen_ai.usage.completion_tokens"] = event.usage.output_tokens
        old["gen_ai.usage.total_tokens"] = event.usage.total_tokens
    if a.OUTPUT in said:
        old["gen_ai.completion"] = said[a.OUTPUT]
    return old


def attempt(event: LLMRetry) -> a.Attributes:
    """A request that failed, and what was done then."""
    return {
        a.KIND: "span",
        a.LEVEL: "WARNING",  # it is not the end of the call
        a.ATTEMPT: event.attempt,
        a.ATTEMPT_MODEL: short(event.model),
        a.NEXT_MODEL: short(event.next_model),
        a.DELAY: event.seconds,
        a.ERROR: kind(event.error),
    }


def tool(event: ToolStart, shown: Transcript | None, offered: Sequence[ToolDefinition]) -> a.Attributes:
    """A tool, and what it is given."""
    said: a.Attributes = {a.TOOL_CALL: short(event.call_id)}
    if description := next((each.description for each in offered if each.name == event.tool_name), ""):
        said[a.TOOL_DESCRIPTION] = description
    if shown is not None:
        said[a.ARGUMENTS] = shown.arguments(event.arguments)
    return said


def result(result: JSON, shown: Transcript) -> a.Attributes:
    """What a tool gave back."""
    return {a.RESULT: shown.result(result)}


def ending(state: TaskState, used: Sequence[Usage], cost: float | None, iterations: int) -> a.Attributes:
    """How a run ended, and what it took in all."""
    said: a.Attributes = {a.STATUS: state, a.ITERATIONS: iterations}
    if used:
        said |= usage(reduce(add, used), a.TOTAL)
    if cost is not None:
        said[a.TOTAL_COST] = cost
    return said


def last_words(state: TaskState, answered: Message, shown: Transcript) -> a.Attributes:
    """The answer of a run, or how far it came."""
    reason = "stop" if state == "completed" else "interrupted"
    return {a.OUTPUT: shown.output_messages(answered, reason), a.ANSWER: shown.line(answered)}


def usage(used: Usage, prefix: str) -> a.Attributes:
    """Token counts under a prefix; a part of the input or the output only where there is one."""
    counts: a.Attributes = {
        prefix + "input_tokens": used.input_tokens,
        prefix + "output_tokens": used.output_tokens,
    }
    if used.cached_tokens:
        counts[prefix + "cache_read.input_tokens"] = used.cached_tokens
    if used.cache_creation_tokens:
        counts[prefix + "cache_creation.input_tokens"] = used.cache_creation_tokens
    if used.reasoning_tokens:
        counts[prefix + "reasoning.output_tokens"] = used.reasoning_tokens
    return counts


PARAMETERS: Mapping[str, str] = {
    "temperature": "gen_ai.request.temperature",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
}


def parameters(fields: Mapping[str, JSON]) -> a.Attributes:
    """The parameters of a request that the conventions have a name for."""
    said: a.Attributes = {
        name: number
        for field, name in PARAMETERS.items()
        if isinstance(number := fields.get(field), int | float) and not isinstance(number, bool)
    }
    match fields.get("response_format"):
        case {"type": "json_object" | "json_schema"}:
            said[a.OUTPUT_TYPE] = "json"
        case _:
            pass
    match fields.get("stop"):
        case str(stop):
            said[a.STOP] = (stop,)
        case [*stops]:
            said[a.STOP] = tuple(map(str, stops))
        case _:
            pass
    return said
