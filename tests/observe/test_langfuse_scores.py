"""Scores and addresses: sent in the background over the public API, once each, with an answer for whoever wants one."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from looopy import AgentLoop, ConfigurationError
from looopy.errors import LangfuseFailed, WrongThread
from looopy.observe.langfuse import Account, Reply, score, trace_url
from looopy.testing import ScriptedModel, says
from observe.langfuse_server import LangfuseServer

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


@pytest.fixture
def server() -> Iterator[LangfuseServer]:
    with LangfuseServer() as server:
        yield server


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """A score without what differs each time."""
    assert re.fullmatch(r"[0-9a-f]{32}", body["id"])
    assert abs(datetime.fromisoformat(body["timestamp"]) - datetime.now(UTC)) < timedelta(seconds=30)
    return {name: value for name, value in body.items() if name not in ("id", "timestamp")}


async def test_a_thumbs_up_on_an_event_loop_is_one_call_that_may_be_awaited(server: LangfuseServer) -> None:
    run = AgentLoop(llm_provider=ScriptedModel(says("Hello."))).execute("Hi")
    result = await run

    sent = await score(result, "helpful", True, account=server.account())

    assert [body["id"] for body in server.scores] == [sent]
    assert [plain(body) for body in server.scores] == [
        {"traceId": run.trace_id, "name": "helpful", "value": 1, "dataType": "BOOLEAN"}
    ]


@pytest.mark.parametrize(
    ("value", "data_type", "sent"),
    [
        (False, None, (0, "BOOLEAN")),
        (1, "BOOLEAN", (1, "BOOLEAN")),
        (7, None, (7, "NUMERIC")),
        (0.25, "NUMERIC", (0.25, "NUMERIC")),
        ("good", None, ("good", "CATEGORICAL")),
        ("long words", "TEXT", ("long words", "TEXT")),
    ],
)
def test_the_kind_of_a_score_follows_from_its_value(
    value: Any, data_type: Any, sent: tuple[Any, str], server: LangfuseServer
) -> None:
    score(TRACE, "it", value, data_type=data_type, account=server.account()).result()
    assert (server.scores[0]["value"], server.scores[0]["dataType"]) == sent


def test_everything_that_can_be_said_of_a_score_arrives(server: LangfuseServer) -> None:
    moment = datetime(2026, 5, 6, 7, tzinfo=timezone(timedelta(hours=2)))
    reply = score(
        TRACE,
        "tone",
        "kind",
        comment="as asked",
        span_id=SPAN,
        score_id="mine",
        timestamp=moment,
        account=server.account(environment="staging"),
    )
    assert reply.result() == "mine"
    assert server.scores == [
        {
            "id": "mine",
            "traceId": TRACE,
            "observationId": SPAN,
            "name": "tone",
            "value": "kind",
            "dataType": "CATEGORICAL",
            "comment": "as asked",
            "environment": "staging",
            "timestamp": "2026-05-06T05:00:00+00:00",
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "argument", "text"),
    [
        (
            {"of": "run-1"},
            "of",
            "of='run-1': it takes a run, its result, or 32 hex digits, such as result.trace_id",
        ),
        ({"of": None}, "of", "of=None: it takes a run, its result, or 32 hex digits"),
        ({"span_id": "x"}, "span_id", "it takes 16 hex digits"),
        ({"name": " "}, "name", "a score has a name"),
        ({"value": float("nan")}, "value", "NUMERIC a finite number"),
        ({"value": None}, "value", "a score of value None"),
        ({"value": ""}, "value", "CATEGORICAL a text"),
        ({"value": True, "data_type": "NUMERIC"}, "value", "value True and data_type 'NUMERIC'"),
        ({"value": 2, "data_type": "BOOLEAN"}, "value", "BOOLEAN takes a bool"),
        ({"value": "x" * 501, "data_type": "TEXT"}, "value", "1 to 500 characters"),
        ({"value": 1, "data_type": "CATEGORICAL"}, "value", "CATEGORICAL a text"),
    ],
)
def test_a_score_that_cannot_be_is_refused_at_once(arguments: Any, argument: str, text: str) -> None:
    given = {"of": TRACE, "name": "x", "value": 1} | arguments
    with pytest.raises(ConfigurationError, match=text) as caught:
        score(given.pop("of"), given.pop("name"), given.pop("value"), **given)
    assert caught.value.argument == argument


def test_the_account_of_the_environment_is_taken_and_its_lack_or_silence_is_known(
    server: LangfuseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PUBLIC_KEY", "SECRET_KEY", "BASE_URL", "TRACING_ENABLED"):
        monkeypatch.delenv(f"LANGFUSE_{name}", raising=False)
    with pytest.raises(ConfigurationError, match="no Langfuse account is known: set LANGFUSE_PUBLIC_KEY"):
        score(TRACE, "x", 1)

    account = server.account()
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", account.public_key)
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", account.secret_key)
    monkeypatch.setenv("LANGFUSE_BASE_URL", account.base_url)
    score(TRACE, "x", 1).result()
    assert len(server.scores) == 1

    monkeypatch.setenv("LANGFUSE_TRACING_ENABLED", "false")
    assert score(TRACE, "x", 1, score_id="mine").result() == "mine"
    assert trace_url(TRACE).result() == ""
    assert len(server.asked) == 1


def test_many_scores_go_over_one_connection_in_order(server: LangfuseServer) -> None:
    account = server.account()
    replies = [score(TRACE, f"{place}", place, account=account) for place in range(50)]
    for reply in replies:
        reply.result(5)
    assert [body["value"] for body in server.scores] == list(range(50))


# ------------------------------------------------------------------------------------------------------------------ where to look


async def test_the_address_of_a_trace_is_asked_for_once(server: LangfuseServer) -> None:
    @dataclass
    class Known:
        trace_id: str

    account = server.account()
    url = f"{server.url}/project/prj-1/traces/{TRACE}"
    assert await trace_url(Known(TRACE), account=account) == url
    assert await trace_url(TRACE, account=account) == url
    assert server.asked == [("GET", "/api/public/projects")]


# ---------------------------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("status", "body", "text", "retryable"),
    [
        (
            401,
            b'{"message":"no"}',
            "answered 401: the keys are not those of a project there.*LANGFUSE_BASE_URL together.*no",
            False,
        ),
        (403, b"", "answered 403: the keys may not do this", False),
        (404, b"", "there is no Langfuse API at this address", False),
        (400, b'{"message":"Invalid value"}', "the request is wrong.*Invalid value", False),
        (418, b"teapot", "answered 418: see what it says.*teapot", False),
        (302, b"", "it sends one elsewhere, so check LANGFUSE_BASE_URL", False),
        (200, b"<!DOCTYPE html>", "something that is not Langfuse's.*<!DOCTYPE html>", False),
    ],
)
async def test_what_the_server_refuses_is_said_with_the_mend_and_asked_once(
    status: int, body: bytes, text: str, retryable: bool, server: LangfuseServer
) -> None:
    server.answers(status, body)
    with pytest.raises(LangfuseFailed, match=text) as caught:
        await score(TRACE, "x", 1, account=server.account())
    assert (caught.value.status, caught.value.retryable, len(server.asked)) == (status, retryable, 1)


def test_an_answer_of_another_shape_is_not_taken_for_a_project(server: LangfuseServer) -> None:
    server.answers(200, b'{"data": []}')
    with pytest.raises(LangfuseFailed, match="something that is not Langfuse's"):
        trace_url(TRACE, account=server.account()).result()


def test_a_server_that_is_busy_is_asked_again_with_the_same_id(server: LangfuseServer) -> None:
    server.answers(503, retry_after="0")
    server.answers(429, retry_after="0")
    sent = score(TRACE, "x", 1, account=server.account()).result(5)
    assert [body["id"] for body in server.scores] == [sent]
    assert len(server.asked) == 3


def test_a_server_that_stays_broken_is_given_up(server: LangfuseServer) -> None:
    server.always = (500, {"retry-after": "0"}, b"oops sk-lf-00000000000000000000")
    reply = score(TRACE, "x", 1, account=server.account())
    with pytest.raises(
        LangfuseFailed, match=r"answered 500: it is broken or overloaded.*oops \*\*\*"
    ) as caught:
        reply.result(5)
    assert (caught.value.retryable, len(server.asked)) == (True, 3)
    assert repr(reply) == f"<Reply: the score 'x' of trace {TRACE}, failed>"


def test_where_nobody_answers_all_that_wait_fail_together_and_the_log_says_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        account = Account(
            public_key="pk-lf-1", secret_key="sk-lf-2", base_url=f"http://127.0.0.1:{taken.getsockname()[1]}"
        )
        with caplog.at_level(logging.WARNING, "looopy"):
            replies = [score(TRACE, f"{place}", place, account=account) for place in range(20)]
            for reply in replies[1:]:
                with pytest.raises(
                    LangfuseFailed,
                    match=r"no answer from Langfuse at http://127\.0\.0\.1:.*is LANGFUSE_BASE_URL right",
                ):
                    reply.result(5)
    assert f"the score '0' of trace {TRACE} failed: no answer" in caplog.text
    assert "-lf-" not in caplog.text


async def test_an_await_that_is_cut_short_does_not_take_the_score_back(server: LangfuseServer) -> None:
    reply = score(TRACE, "x", 1, account=server.account())
    waiting = asyncio.ensure_future(_awaited(reply))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await reply
    assert len(server.scores) == 1


async def _awaited(reply: Reply[str]) -> str:
    return await reply


async def test_blocking_on_a_loop_is_refused(server: LangfuseServer) -> None:
    reply = score(TRACE, "x", 1, account=server.account())
    with pytest.raises(WrongThread, match="write `await` before the call instead"):
        reply.result()
    await reply
    assert repr(reply) == f"<Reply: the score 'x' of trace {TRACE}, done>"


def test_a_reply_that_is_not_there_yet_can_be_waited_for_again() -> None:
    reply: Reply[str] = Reply("the score")
    with pytest.raises(TimeoutError):
        reply.result(timeout=0)
    assert repr(reply) == "<Reply: the score, on its way>"
    reply.settle("x")
    assert reply.result() == "x"


def test_a_line_that_is_full_takes_no_more() -> None:
    with socket.create_server(
        ("127.0.0.1", 0)
    ) as silent:  # which takes the first request, and answers nothing
        account = Account(
            public_key="pk-lf-1", secret_key="sk-lf-3", base_url=f"http://127.0.0.1:{silent.getsockname()[1]}"
        )
        replies = [score(TRACE, "x", 1, account=account) for _ in range(10_002)]
        with pytest.raises(
            LangfuseFailed, match="10,000 requests to Langfuse are waiting already: send fewer"
        ):
            replies[-1].result(0)
    with pytest.raises(LangfuseFailed, match="no answer from Langfuse"):
        replies[0].result(10)


def test_a_proxy_that_cannot_be_read_fails_the_score_and_not_the_next(
    server: LangfuseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = server.account()
    with monkeypatch.context() as patched:
        patched.setenv("HTTP_PROXY", "nonsense://x")
        with pytest.raises(LangfuseFailed, match="no HTTP client can be made for Langfuse"):
            score(TRACE, "x", 1, account=account).result(5)
    score(TRACE, "x", 1, account=account).result(5)


# ------------------------------------------------------------------------------------------------------------- exits and forks

LAST_WORDS = f"""
import os, sys
from looopy.observe.langfuse import score
score({TRACE!r}, "parent", 1).result()
if sys.argv[1] == "forks":
    if os.fork() == 0:
        score({TRACE!r}, "child", 1)
    else:
        os.wait()
else:
    score({TRACE!r}, "last", 1)
"""


@pytest.mark.parametrize(("mode", "second"), [("exits", "last"), ("forks", "child")])
def test_the_last_score_of_a_program_and_those_of_a_forked_child_arrive(
    mode: str, second: str, server: LangfuseServer
) -> None:
    account = server.account()
    variables = {
        "LANGFUSE_PUBLIC_KEY": account.public_key,
        "LANGFUSE_SECRET_KEY": account.secret_key,
        "LANGFUSE_BASE_URL": account.base_url,
    }
    subprocess.run(
        [sys.executable, "-c", LAST_WORDS, mode], env=os.environ | variables, check=True, timeout=20
    )
    assert [body["name"] for body in server.scores] == ["parent", second]
