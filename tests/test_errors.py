"""The exceptions: what they say, what they carry, and that no credential is in them."""

from __future__ import annotations

import copy
import pickle
import re
from inspect import isclass

import pytest

from looopy import errors
from looopy.errors import (
    BudgetExceeded,
    BufferOverflow,
    ConfigurationError,
    ExtractionFailed,
    LangfuseFailed,
    LimitExceeded,
    LooopyError,
    MissingExtra,
    ModelError,
    ModelOverloaded,
    ModelTimeout,
    NotResumable,
    OutputInvalid,
    StateConflict,
    StoreFailed,
    StreamBroken,
    TaskCanceled,
    ToolFailed,
    ToolSchemaError,
    UnknownEvent,
    UnknownModel,
    UnsupportedParameter,
    WrongThread,
)
from looopy.events import InputRequired
from looopy.ports import InputNeeded

EXAMPLES: list[LooopyError] = [
    ConfigurationError("m", argument="base_url"),
    ToolSchemaError("m", tool="add", parameter="a"),
    MissingExtra("looopy.serve", needs="starlette", extra="serve"),
    WrongThread("m", argument="loop"),
    ModelError("m", model="x", url="u", status=418, call_id="c", body="b", retry_after=1.5),
    *(
        getattr(errors, name)("m", model="x", url="u", status=500, call_id="c", body="b", retry_after=2.0)
        for name in (
            "ProxyUnreachable",
            "AuthenticationFailed",
            "ModelRejected",
            "ContextTooLong",
            "ContentRefused",
            "NoEmbeddings",
            "ModelOverloaded",
            "ModelFailed",
        )
    ),
    ModelTimeout("m", clock="call", seconds=3.0, model="x", url="u", status=408),
    UnknownModel("m", model="x", url="u", status=404, offered=["a", "b"], body="b"),
    UnsupportedParameter("m", parameters=["seed"], model="x", url="u", status=400, call_id="c", body="b"),
    StreamBroken("m", events_seen=3, model="x", url="u", status=200, call_id="c", body="b"),
    LimitExceeded("m", limit="tokens", allowed=10, spent=12),
    BudgetExceeded("m", limit="cost", allowed=0.5, spent=0.51, unit="USD"),
    OutputInvalid("m", problem="p", text="t", answers=3),
    ExtractionFailed("m", text="t", mend="look"),
    ToolFailed("m", tool="add", call_id="c"),
    TaskCanceled("m", reason="why"),
    BufferOverflow("m", size=8),
    StoreFailed("m", store="Disk"),
    StateConflict(task_id="t", expected=3, found=5),
    LangfuseFailed("m", status=401),
    NotResumable("m", task_id="t", state="failed"),
    UnknownEvent("m", kind="task"),
    InputNeeded(InputRequired(input_id="i", prompt="sure?")),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_and_copying_whole(error: LooopyError) -> None:
    """A TimeoutError is an OSError, whose message was lost on the way."""
    error.result = "partial"
    error.add_note("a note")

    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
        assert again.retryable == error.retryable


def test_the_drawn_tree_has_every_error_with_attributes_that_it_has() -> None:
    here = {name for name, value in vars(errors).items() if isclass(value) and issubclass(value, LooopyError)}
    drawn = dict(re.findall(r"^[│ ]*[├└]── (\w+) +(.*)$", errors.__doc__ or "", re.MULTILINE))

    assert drawn.keys() == here - {"LooopyError"}
    assert {type(error).__name__ for error in EXAMPLES} == drawn.keys() | {"InputNeeded"}
    for error in EXAMPLES:
        said = re.findall(r"\.(\w+)", drawn.get(type(error).__name__, ""))
        assert [name for name in said if not hasattr(error, name)] == []


def test_an_error_says_whether_the_same_call_may_succeed_later() -> None:
    retryable = {type(error).__name__ for error in EXAMPLES if error.retryable}

    assert retryable == {
        "ProxyUnreachable",
        "ModelTimeout",
        "ModelOverloaded",
        "ModelFailed",
        "StreamBroken",
        "StoreFailed",
    }


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (ConfigurationError("m"), ValueError),
        (MissingExtra("a", needs="b", extra="c"), ImportError),
        (WrongThread("m"), RuntimeError),
        (ModelTimeout("m", clock="call", seconds=1), TimeoutError),
        (UnknownEvent("m"), ValueError),
    ],
)
def test_an_error_is_also_the_builtin_that_one_would_catch(
    error: LooopyError, builtin: type[Exception]
) -> None:
    assert isinstance(error, builtin)


def test_a_missing_extra_holds_the_line_that_installs_it() -> None:
    error = MissingExtra("looopy.serve", needs="starlette", extra="serve")

    assert str(error) == "looopy.serve needs starlette: pip install 'looopy[serve]'"
    assert (error.extra, error.argument) == ("serve", "serve")


def test_a_schema_error_names_the_parameter_or_the_tool() -> None:
    assert ToolSchemaError("m", tool="add", parameter="a").argument == "a"
    assert ToolSchemaError("m", tool="add").argument == "add"


def test_a_server_may_say_how_long_to_wait() -> None:
    assert ModelOverloaded("m", retry_after=2.5).retry_after == 2.5
    assert ModelOverloaded("m").retry_after is None


@pytest.mark.parametrize(
    "error",
    [
        StoreFailed("no connection to postgresql://app:hunter22@db/tasks", store="Sql"),
        ToolFailed("401 for https://app:hunter22@host/", tool="fetch", call_id="c"),
    ],
)
def test_what_a_store_or_a_tool_says_is_passed_on_without_its_credentials(error: LooopyError) -> None:
    assert "hunter22" not in str(error) + repr(error)
