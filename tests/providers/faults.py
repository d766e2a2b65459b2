"""What goes wrong with requests to models: each fault as a scripted server plays it, and what a provider makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from looopy.errors import (
    AuthenticationFailed,
    ContentRefused,
    ContextTooLong,
    ModelError,
    ModelFailed,
    ModelOverloaded,
    ModelRejected,
    ModelTimeout,
    ProxyUnreachable,
    StreamBroken,
    UnknownModel,
    UnsupportedParameter,
)
from looopy.testing import Answer, calls, cuts, fails, raw, says, stalls, thinks
from looopy.testing.wire import event, sse

BUSY = b'{"error":{"message":"litellm.RateLimitError: too many requests","type":"throttling_error","param":null,"code":"429"}}'
WHOLE = sse(says("Hel", "lo"))
REFUSAL = event({"error": {"message": "litellm.APIConnectionError: it broke", "type": None, "code": "500"}})


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        answer: what the server does; None where nobody listens at the address.
        error: what a provider raises.
        passes: whether asking again may help.
        shown: the pieces that a subscriber has by then.
        wait: seconds that the server asks to wait.
    """

    answer: Answer | None
    error: type[ModelError]
    passes: bool = True
    shown: tuple[str, ...] = ()
    wait: float = 0.0


def for_good(answer: Answer, error: type[ModelError]) -> Fault:
    return Fault(answer, error, passes=False)


def busy(wait: float = 0.0, headers: Mapping[str, str] | None = None, body: bytes = BUSY) -> Fault:
    """A 429 that says in some spelling how long to wait."""
    return Fault(raw(body, status=429, headers=headers), ModelOverloaded, wait=wait)


def broken(answer: Answer, *shown: str, error: type[ModelError] = StreamBroken) -> Fault:
    return Fault(answer, error, shown=shown)


FAULTS: Mapping[str, Fault] = {
    # Nobody answers
    "refused": Fault(None, ProxyUnreachable),
    "cut before the headers": Fault(cuts(), ProxyUnreachable),
    "stall before the headers": Fault(stalls(headers=False), ModelTimeout),
    # The request is refused
    "400": for_good(fails(400), ModelRejected),
    "400 context": for_good(fails(400, "litellm.ContextWindowExceededError: too long"), ContextTooLong),
    "400 policy": for_good(fails(400, "litellm.ContentPolicyViolationError: no"), ContentRefused),
    "400 parameter": for_good(
        fails(400, "litellm.UnsupportedParamsError: gpt-5 does not support parameters: ['temperature']"),
        UnsupportedParameter,
    ),
    "400 no database": for_good(
        raw(b'{"error":{"message":"No connected db.","type":"no_db_connection","code":"400"}}', status=400),
        AuthenticationFailed,
    ),
    "401": for_good(fails(401), AuthenticationFailed),
    "403": for_good(fails(403), AuthenticationFailed),
    "404": for_good(fails(404), UnknownModel),
    "404 of a path": for_good(raw(b'{"detail":"Not Found"}', status=404), ModelRejected),
    "413": for_good(fails(413), ModelRejected),
    "422": for_good(raw(b'{"detail":[{"msg":"field required"}]}', status=422), ModelRejected),
    "429 quota": for_good(fails(429, "litellm.RateLimitError: insufficient_quota"), ModelOverloaded),
    # It is too early
    "429": busy(),
    "429 seconds": busy(0.01, {"retry-after": "0.01"}),
    "429 date": busy(0.0, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "429 of the provider": busy(0.01, {"llm_provider-retry-after": "0.01"}),
    "429 reset": busy(0.01, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "10ms"}),
    "429 in words": busy(0.01, body=BUSY.replace(b"too many requests", b"Try again in 10ms")),
    "429 for an hour": busy(3600.0, {"retry-after": "3600"}),
    # The server is broken
    "408": Fault(fails(408), ModelTimeout),
    "500": Fault(fails(500), ModelFailed),
    "500 text": Fault(raw(b"Internal Server Error", status=500), ModelFailed),
    "502 HTML": Fault(raw(b"<html><h1>502 Bad Gateway</h1></html>", status=502), ModelFailed),
    "503": Fault(fails(503), ModelOverloaded),
    "529": Fault(fails(529), ModelOverloaded),
    # A success that is none
    "empty body": Fault(raw(b""), ModelFailed),
    "HTML": Fault(raw(b"<html>Sign in to the network</html>"), ModelFailed),
    "garbage": Fault(raw(bytes(range(256)) * 4), ModelFailed),
    "JSON of something else": Fault(raw(b'{"status":"ok"}'), ModelFailed),
    "error as JSON": Fault(raw(b'{"error":{"message":"it broke","code":500}}'), ModelFailed),
    "empty answer": Fault(says(finish_reason="stop"), ModelFailed),
    "end mark alone": Fault(raw(b"data: [DONE]\n\n"), ModelFailed),
    "comments alone": Fault(raw(b": ping\n\n: ping\n\n"), ModelFailed),
    "error in the stream": Fault(raw(REFUSAL), ModelFailed),
    "cut before the first piece": Fault(raw(b": ping\n\n") + cuts(), StreamBroken),
    "stall before the first piece": Fault(stalls(), ModelTimeout),
    # The answer has begun
    "cut in mid-stream": broken(says("Hel", "lo") + cuts(), "Hel", "lo"),
    "cut in mid-event": broken(raw(WHOLE[: WHOLE.rindex(b"lo") + 1]) + cuts(), "Hel"),
    "ends in mid-event": broken(raw(WHOLE[: WHOLE.rindex(b"lo") + 1]), "Hel"),
    "ends without an end": broken(raw(WHOLE[: WHOLE.index(b"finish")].rpartition(b"data: ")[0]), "Hel", "lo"),
    "stall in mid-stream": broken(says("Hel") + stalls(), "Hel", error=ModelTimeout),
    "error in mid-stream": broken(says("Hel") + fails(500), "Hel"),
    "refusal in mid-stream": broken(says("Hel") + fails(429), "Hel"),
    "garbage in mid-stream": broken(says("Hel") + raw(b"data: {{{\n\n"), "Hel"),
    "cut in the thoughts": broken(thinks("Hm") + cuts(), "(Hm)"),
    "cut in a tool call": broken(
        raw(sse(calls("add", a=1, b=2)).partition(rb"\"b")[0]) + cuts(), "add ", 'add {"a":1,'
    ),
}
