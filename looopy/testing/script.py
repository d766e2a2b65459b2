"""The words in which a test says what a model does: `says`, `thinks`, `calls`, `waits`, `fails`, `stalls`, `cuts`, `raw`.

Each makes an `Answer`, a value; `+` puts what follows into the same answer: `thinks("hm") + says("4")`,
`calls("add", a=1) + calls("add", a=2)`, `says("Hel") + cuts()`. An answer is one model call. Nothing here plays it: `ScriptedModel` turns
it into events, `ScriptedServer` into the bytes of a LiteLLM proxy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from pydantic_core import to_json

from looopy.errors import ConfigurationError, LooopyError
from looopy.messages import JSON, FinishReason, Usage


class ScriptOver(LooopyError, AssertionError):
    """More was asked than the script answers, or less; mend the script or the code that asks."""


@dataclass(frozen=True, slots=True)
class Say:
    """A piece of text, sent as one delta."""

    text: str


@dataclass(frozen=True, slots=True)
class Think:
    """A piece of reasoning, sent as one delta."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call; `arguments` is its JSON text, which may be broken on purpose."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing happens for so many seconds of the loop's clock."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Fail:
    """The call is refused; after pieces of an answer, by an error event in the stream."""

    status: int
    message: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Stall:
    """Nothing is sent any more, and the connection stays open; without `headers` not even a status line came."""

    headers: bool = True


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection is closed before the body's end; where the answer has nothing before this, before the status line."""


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes of the body as they are, whatever they mean."""

    body: bytes


Step: TypeAlias = Say | Think | Call | Wait | Fail | Stall | Cut | Raw
"""One thing that happens in an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model does in one call. Made by the words of this module and put together with `+`.

    Attributes:
        steps: what happens, in order.
        usage: the tokens that are reported; None reports none.
        cost: the US dollars that are reported, in the usage as the proxy does; None reports none.
        finish_reason: why it says it ended; None for "tool_calls" where it calls tools, else "stop".
        model: the model that it says answered; empty for the one that was asked for.
        status: the HTTP status; servers only.
        headers: further response headers; servers only.
    """

    steps: tuple[Step, ...] = ()
    usage: Usage | None = None
    cost: float | None = None
    finish_reason: FinishReason | None = None
    model: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def __add__(self, then: Answer) -> Answer:
        """Both in one answer, `then` after this; where both set an attribute, `then` wins."""
        if self.steps and isinstance(self.steps[-1], Fail | Stall | Cut):
            ended = type(self.steps[-1]).__name__.lower()
            raise ConfigurationError(
                f"nothing can follow {ended}s(…) in an answer: it is over there", argument="answer"
            )
        return replace(
            self,
            steps=(*self.steps, *then.steps),
            usage=self.usage if then.usage is None else then.usage,
            cost=self.cost if then.cost is None else then.cost,
            finish_reason=then.finish_reason or self.finish_reason,
            model=then.model or self.model,
            status=self.status if then.status == 200 else then.status,
            headers={**self.headers, **then.headers},
        )

    @property
    def asks(self) -> tuple[Call, ...]:
        """The tool calls of this answer, in order."""
        return tuple(step for step in self.steps if isinstance(step, Call))

    @property
    def reason(self) -> FinishReason:
        """Why the answer says it ended."""
        return self.finish_reason or ("tool_calls" if self.asks else "stop")


def says(
    *pieces: str,
    usage: Usage | None = None,
    cost: float | None = None,
    finish_reason: FinishReason | None = None,
    model: str = "",
    every: float = 0.0,
) -> Answer:
    """Text, each piece one delta.

    Without a piece it adds its keywords only, as in `calls("add", a=1) + says(cost=0.01)`.

    Args:
        pieces: the text; empty pieces are left out, since no delta is empty.
        usage: the tokens to report.
        cost: the US dollars to report.
        finish_reason: in place of "stop" or "tool_calls".
        model: the model that answered, in place of the one asked for.
        every: seconds before each piece.
    """
    said = _spread([Say(piece) for piece in pieces if piece], every)
    return Answer(said, usage=usage, cost=cost, finish_reason=finish_reason, model=model)


def thinks(*pieces: str, every: float = 0.0) -> Answer:
    """Reasoning, each piece one delta, with `every` seconds before each."""
    return Answer(_spread([Think(piece) for piece in pieces if piece], every))


def calls(tool: str, text: str | None = None, /, **arguments: JSON) -> Answer:
    """A tool call.

    Several are added: `calls("add", a=1) + calls("add", a=2)`.

    Args:
        tool: the tool's name.
        text: the arguments exactly as the model writes them, for broken or unusual JSON; instead of keywords.
        arguments: the arguments.
    """
    return Answer((Call(tool, to_json(arguments).decode() if text is None else text),))


def waits(seconds: float) -> Answer:
    """A pause, in seconds of the loop's clock; virtual where that is. Before `fails` the status waits too."""
    return Answer((Wait(seconds),))


def fails(status: int, message: str = "", *, retry_after: float | None = None) -> Answer:
    """The call fails: an HTTP error from the server, the typed error from the model; in mid-answer, an error event.

    Args:
        status: the HTTP status, 400 to 599.
        message: the text as the proxy writes it; the class name in front decides about some errors:
            `fails(400, "litellm.ContextWindowExceededError: too long")`. Empty for a usual one.
        retry_after: seconds that the caller is asked to wait.
    """
    return Answer((Fail(status, message or _USUAL.get(status, f"scripted failure {status}"), retry_after),))


def stalls(*, headers: bool = True) -> Answer:
    """Nothing comes any more, and the connection stays open.

    Alone, before the first piece; `says("Hel") + stalls()` after some.

    Args:
        headers: False where not even the response's head came.
    """
    return Answer((Stall(headers),))


def cuts() -> Answer:
    """The connection breaks.

    Alone, before the response's head; `says("Hel") + cuts()` after some pieces.
    """
    return Answer((Cut(),))


def raw(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Bytes as they are, for anything else: HTML, garbage, an error event, half an event. Servers only.

    After it nothing is added: an answer that ends in `raw` has no finish, no usage and no [DONE] of its own.
    """
    return Answer((Raw(body),), status=status, headers=headers or {})


def _spread(steps: list[Say] | list[Think], every: float) -> tuple[Step, ...]:
    if not every:
        return tuple(steps)
    return tuple(part for step in steps for part in (Wait(every), step))


_USUAL = {
    400: "litellm.BadRequestError: OpenAIException - scripted bad request",
    401: "Authentication Error, No api key passed in.",
    403: "litellm.NotFoundError: OpenAIException - scripted: not allowed",
    404: "litellm.NotFoundError: OpenAIException - scripted: not found",
    408: "litellm.Timeout: OpenAIException - scripted timeout",
    413: "litellm.BadRequestError: OpenAIException - scripted: too large",
    422: "litellm.BadRequestError: OpenAIException - scripted: unprocessable",
    429: "litellm.RateLimitError: OpenAIException - scripted: too many requests",
    500: "litellm.InternalServerError: OpenAIException - scripted failure",
    502: "litellm.BadGatewayError: OpenAIException - scripted failure",
    503: "litellm.ServiceUnavailableError: OpenAIException - scripted: no capacity",
    529: "litellm.APIError: OpenAIException - scripted: overloaded",
}
