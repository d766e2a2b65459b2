"""Scores on traces, and where a trace can be looked at: what a program tells Langfuse and asks it, beside the spans."""

from __future__ import annotations

import math
import re
import uuid
from datetime import UTC, datetime
from typing import Literal, Protocol, TypeAlias

from looopy.errors import ConfigurationError
from looopy.messages import JSON
from looopy.observe.langfuse.account import Account
from looopy.observe.langfuse.outbox import Reply, outbox
from looopy.observe.switches import switched_off

DataType: TypeAlias = Literal["NUMERIC", "BOOLEAN", "CATEGORICAL", "TEXT"]


class Traced(Protocol):
    """A run, its result, or whatever else knows its trace."""

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        ...


def score(
    of: Traced | str,
    name: str,
    value: float | str,
    *,
    comment: str = "",
    data_type: DataType | None = None,
    span_id: str = "",
    score_id: str = "",
    timestamp: datetime | None = None,
    account: Account | None = None,
) -> Reply[str]:
    """Score a run in Langfuse: `score(result, "helpful", True)` in the handler of a thumbs-up.

    It returns at once and sends in the background, so it may be called on an event loop; the program does not end before it is sent.
    `await score(…)`, or `score(…).result()` without a loop, is the score's id, or raises what went wrong. A failure that nobody waits for is
    logged. With `LANGFUSE_TRACING_ENABLED=false` nothing is sent.

    Args:
        of: a run, its result, or a trace id of 32 hex digits.
        name: what is scored, for example "helpful".
        value: a bool, a number, or text.
        comment: why.
        data_type: what the value is; left out, a bool is BOOLEAN, a number NUMERIC and text CATEGORICAL. TEXT is free text of up to 500
            characters.
        span_id: 16 hex digits of one span, to score that; left out, the score is of the whole trace.
        score_id: an id of yours; sent again with the same id and timestamp, a score is replaced.
        timestamp: when it was scored; now, when left out.
        account: left out, the account of the `LANGFUSE_*` variables.

    Raises:
        ConfigurationError: an argument cannot work, or no account is known.
    """
    trace_id = _hex("of", getattr(of, "trace_id", of), 32)
    body: dict[str, JSON] = {
        "id": score_id or uuid.uuid4().hex,
        "traceId": trace_id,
        "name": name,
        **_typed(value, data_type),
        # Langfuse refuses a time that does not say its zone.
        "timestamp": (timestamp or datetime.now(UTC)).astimezone(UTC).isoformat(),
    }
    if not name.strip():
        raise ConfigurationError(
            "a score has a name: say what is scored, for example 'helpful'", argument="name"
        )
    if span_id:
        body["observationId"] = _hex("span_id", span_id, 16)
    if comment:
        body["comment"] = comment
    what = f"the score {name!r} of trace {trace_id}"
    known = _account(account)
    if known is None:
        return Reply[str].of(body["id"])
    if known.environment:
        body["environment"] = known.environment
    return outbox(known).request(what, "POST", "/api/public/scores", body, read=lambda _: body["id"])


def trace_url(of: Traced | str, *, account: Account | None = None) -> Reply[str]:
    """Where a run can be looked at in Langfuse.

    `await trace_url(result)`, or `trace_url(result).result()` where no event loop runs. The first call asks the server which project the keys are for; from then on the answer is there at once. With
    `LANGFUSE_TRACING_ENABLED=false` it is empty.

    Args:
        of: a run, its result, or a trace id of 32 hex digits.
        account: left out, the account of the `LANGFUSE_*` variables.

    Raises:
        ConfigurationError: that is no trace id, or no account is known.
    """
    trace_id = _hex("of", getattr(of, "trace_id", of), 32)
    known = _account(account)
    if known is None:
        return Reply[str].of("")

    def url(project: str) -> str:
        _projects[known] = project
        return f"{known.base_url}/project/{project}/traces/{trace_id}"

    if known in _projects:
        return Reply[str].of(url(_projects[known]))
    return outbox(known).request(
        f"the address of trace {trace_id}",
        "GET",
        "/api/public/projects",
        read=lambda answer: url(str(answer["data"][0]["id"])),
    )


_projects: dict[Account, str] = {}
"""The project that an account's keys are for, once it was asked: it never changes."""


def _account(given: Account | None) -> Account | None:
    """The account to speak to; None where nothing shall be sent."""
    if given is not None:
        return given
    account = Account.from_environment()
    if account is None and not switched_off():
        raise ConfigurationError(
            "no Langfuse account is known: set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY (and LANGFUSE_BASE_URL, unless it is "
            "cloud.langfuse.com), or pass account=Account(…)",
            argument="LANGFUSE_PUBLIC_KEY",
        )
    return account


def _hex(argument: str, given: object, digits: int) -> str:
    if not (isinstance(given, str) and re.fullmatch(rf"[0-9a-f]{{{digits}}}", given)):
        what = (
            "a run, its result, or 32 hex digits, such as result.trace_id"
            if digits == 32
            else "16 hex digits, such as a span's id as trace.format_span_id() gives it"
        )
        raise ConfigurationError(f"{argument}={given!r}: it takes {what}", argument=argument)
    return given


def _typed(value: object, data_type: str | None) -> dict[str, JSON]:
    """The value as Langfuse takes it, and what it is."""
    match value, data_type:
        case bool(), None | "BOOLEAN":
            return {"value": int(value), "dataType": "BOOLEAN"}
        case 0 | 1, "BOOLEAN":
            return {"value": value, "dataType": "BOOLEAN"}
        case bool(), _:
            pass
        case int() | float(), None | "NUMERIC" if math.isfinite(value):
            return {"value": value, "dataType": "NUMERIC"}
        case str(), None | "CATEGORICAL" if value.strip():
            return {"value": value, "dataType": "CATEGORICAL"}
        case str(), "TEXT" if 1 <= len(value) <= 500:
            return {"value": value, "dataType": "TEXT"}
        case _:
            pass
    raise ConfigurationError(
        f"a score of value {value!r} and data_type {data_type!r}: BOOLEAN takes a bool, NUMERIC a finite number, CATEGORICAL a text, and TEXT "
        "a text of 1 to 500 characters",
        argument="value",
    )
