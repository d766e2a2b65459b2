"""The stand-in model: it needs no key and no network, reads the prompt, and can do one thing, arithmetic with a tool.

It is a function from a chat-completions request to an answer, served by `ScriptedServer`, so that whoever talks to it goes
through the real provider, over HTTP. It is not a language model, and says so when it is asked for anything else.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import cast

from reactivex import Observable

from looopy.events import LLMEvent
from looopy.messages import JSON, Usage
from looopy.ports import Embeddings, EmbedRequest, LLMRequest
from looopy.providers.embeddings import LiteLLMEmbedder
from looopy.providers.litellm import LiteLLMProvider
from looopy.providers.transport import HTTP
from looopy.testing.embeddings import embeds
from looopy.testing.script import Answer, calls, says
from looopy.testing.server import Received, ScriptedServer
from looopy.testing.smallest import smallest
from looopy.testing.wire import Reply

MODEL = "looopy-stand-in"
"""The name under which it answers."""

_KEPT = 100  # requests

WHO = (
    "I am looopy's stand-in model: I need no key and no network, and all I can do is arithmetic with a tool, "
    'for example "Calculate 15 * 23 + 47". For a real model set LITELLM_URL to your LiteLLM proxy.'
)


class _Server(ScriptedServer):
    """A server that may stand for years: of what it was asked it keeps no more than the newest."""

    def respond(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[Reply, Received | None]:
        del self.requests[:-_KEPT], self.paths[:-_KEPT]
        return super().respond(method, path, headers, body)


class StandInProvider(LiteLLMProvider):
    """The stand-in model as a provider: the real `LiteLLMProvider`, over an in-memory connection.

    Every answer names it: `model` is "looopy-stand-in", whatever model was asked for.
    """

    def __init__(self) -> None:
        server = _Server(otherwise=stand_in_answer, models=(MODEL,))
        super().__init__("http://stand-in", MODEL, None, transport=HTTP(server.transport()))

    def __repr__(self) -> str:
        """Show what it is."""
        return "StandInProvider()"

    def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
        """Answer, under its own name also where another model is asked for."""
        return super().call(replace(request, model=""))


class StandInEmbedder(LiteLLMEmbedder):
    """The stand-in as an embedder, in memory: texts that share words are near each other, and that is all it knows.

    Args:
        dimensions: numbers in each vector.
    """

    def __init__(self, *, dimensions: int | None = None) -> None:
        server = _Server(otherwise=embeds)
        transport = HTTP(server.transport())
        super().__init__("http://stand-in", MODEL, None, dimensions=dimensions, transport=transport)

    def __repr__(self) -> str:
        """Show what it is."""
        return "StandInEmbedder()"

    async def embed(self, request: EmbedRequest | Sequence[str], /) -> Embeddings:
        """Embed texts, under its own name also where another model is asked for."""
        request = request if isinstance(request, EmbedRequest) else EmbedRequest(request)
        return await super().embed(replace(request, model=""))


def serving_stand_in(*, every: float = 0.0) -> AbstractContextManager[str]:
    """The stand-in model on a free loopback port, served by a thread until the context is left; gives its URL.

    Args:
        every: seconds between two words, for people who watch.
    """
    return _Server(otherwise=partial(stand_in_answer, every=every), models=(MODEL,)).running()


def stand_in_answer(request: dict[str, JSON], *, every: float = 0.0) -> Answer:
    """What the stand-in model says to a chat-completions request.

    Where an answer must fit a schema, it is a small value that does. The usage that it reports is an estimate: a token for every four characters.

    Args:
        request: the request's body.
        every: seconds between two words.
    """
    messages = cast("list[dict[str, JSON]]", request.get("messages") or [])
    last = messages[-1] if messages else {}
    over = last.get("role") == "tool"
    answer = None if over else _work(_text(last), request)
    answer = answer or _typed(request)
    if answer is None:
        answer = _say(_from_results(messages) if over else _to_prompt(_text(last), request), every)
    written = "".join(
        json.dumps(getattr(step, "text", "") or getattr(step, "arguments", "")) for step in answer.steps
    )
    usage = Usage(input_tokens=_tokens(json.dumps(messages)), output_tokens=_tokens(written))
    return answer + says(usage=usage, model=MODEL)


def expressions_in(text: str) -> Iterator[str]:
    """The arithmetic in a text, in Python's spelling; digits alone are none."""
    for pattern, symbol in _SPELLINGS:
        text = pattern.sub(symbol, text)
    for run in _RUN.findall(text):
        expression = _arithmetic(run)
        if expression:
            yield expression


def _work(prompt: str, request: dict[str, JSON]) -> Answer | None:
    """The calls of a calculator that a prompt asks for; None where there is no arithmetic, or no such tool."""
    found = next(filter(None, map(_calculator, _offered(request))), None)
    expressions = list(expressions_in(prompt))
    if found is None or not expressions:
        return None
    tool, parameter = found
    answer = Answer()
    for expression in expressions:
        answer += calls(tool, **{parameter: expression})
    return answer


def _typed(request: dict[str, JSON]) -> Answer | None:
    """An answer that fits the schema which it must fit; None where there is none."""
    form: JSON = request.get("response_format") or {}
    if form.get("type") == "json_schema":
        return says(json.dumps(smallest(form["json_schema"]["schema"])))
    choice: JSON = request.get("tool_choice")
    named = cast("dict[str, dict[str, str]]", choice) if isinstance(choice, dict) else {}
    forced = named.get("function", {}).get("name", "final_answer")
    tool = next((each for each in _offered(request) if each["name"] == forced), None)
    return None if tool is None else calls(forced, json.dumps(smallest(tool["parameters"])))


def _to_prompt(prompt: str, request: dict[str, JSON]) -> str:
    shown = " and ".join(map(_pretty, expressions_in(prompt)))
    if not shown:
        return WHO
    offered = ", ".join(tool["name"] for tool in _offered(request)) or "none"
    return f"I see the arithmetic {shown}, but I work it out with a tool `calculate(expression)`, and was offered {offered}. {WHO}"


def _offered(request: dict[str, JSON]) -> list[dict[str, JSON]]:
    """The functions that it may call."""
    if request.get("tool_choice") == "none":
        return []
    return [tool["function"] for tool in cast("list[JSON]", request.get("tools") or [])]


def _calculator(function: JSON) -> tuple[str, str] | None:
    """The name and the parameter of a tool that takes an expression; None for another tool."""
    schema: dict[str, JSON] = function.get("parameters") or {}
    properties: dict[str, JSON] = schema.get("properties") or {}
    if len(properties) != 1:
        return None
    ((parameter, kind),) = properties.items()
    if function["name"] == "calculate" or (parameter == "expression" and kind.get("type") == "string"):
        return function["name"], parameter
    return None


def _from_results(messages: list[dict[str, JSON]]) -> str:
    """An answer from the newest tool results."""
    asked: dict[str, str] = {}
    for message in messages:
        for call in cast("list[JSON]", message.get("tool_calls") or []):
            arguments = json.loads(call["function"]["arguments"] or "{}")
            asked[call["id"]] = " ".join(str(value) for value in arguments.values())
    results = takewhile(lambda message: message.get("role") == "tool", reversed(messages))
    said = [_told(asked.get(message["tool_call_id"], ""), _text(message)) for message in results]
    return " ".join(reversed(said))


def _told(expression: str, result: str) -> str:
    if result.startswith("Error: "):
        return f"I could not work out {_pretty(expression)}: {result.removeprefix('Error: ').rstrip('.')}."
    return f"The result of {_pretty(expression)} is {_WHOLE.sub('', result)}."


def _arithmetic(run: str) -> str:
    """The longest end of a run of digits and signs that is an expression with an operator in it; empty for none."""
    run = run.strip(" \t.")
    while run:
        run = run.rstrip(" \t.+-*/%(")
        run = run[:-1] if run.count(")") > run.count("(") and run.endswith(")") else run
        try:
            tree = ast.parse(run, mode="eval")
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            tree = None
        if tree is None or any(isinstance(node, ast.Call | ast.Tuple) for node in ast.walk(tree)):
            run = _FIRST.sub("", run, count=1)
            continue
        return run if isinstance(tree.body, ast.BinOp) else ""
    return ""


def _pretty(expression: str) -> str:
    return expression.replace("**", "^").replace("*", "×").replace("/", "÷")


def _say(text: str, every: float) -> Answer:
    return says(*re.findall(r"\s*\S+", text), every=every)


def _text(message: dict[str, JSON]) -> str:
    content: JSON = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(str(part.get("text", "")) for part in content)


def _tokens(text: str) -> int:
    return (len(text) + 3) // 4


_WHOLE = re.compile(r"(?<=\d)\.0$")
_RUN = re.compile(r"[-(\d.][-+*/%().\d \t]{0,200}")
_FIRST = re.compile(r"[-+*/%( \t]*[\d.)]+[-+*/%) \t]*|.")
_BETWEEN = r"(?<=[\d)])\s*(?:{})\s*(?=[\d(.-])"
_SPELLINGS = [
    (re.compile(r"(?<=\d),(?=\d{3}\b)"), ""),
    (re.compile(_BETWEEN.format(r"\^|to the power of"), re.IGNORECASE), "**"),
    (re.compile(_BETWEEN.format(r"x|×|·|times|multiplied by"), re.IGNORECASE), " * "),
    (re.compile(_BETWEEN.format(r"÷|divided by"), re.IGNORECASE), " / "),
    (re.compile(_BETWEEN.format(r"plus"), re.IGNORECASE), " + "),
    (re.compile(_BETWEEN.format(r"minus|\u2212"), re.IGNORECASE), " - "),
    (re.compile("\u2212"), "-"),
]
"""How people write arithmetic, and how Python does; signs and words count only between two operands."""
