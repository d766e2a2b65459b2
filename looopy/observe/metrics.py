"""Metrics of runs: a fold of each run's events into OpenTelemetry instruments.

The names, units, buckets and attributes are those of the GenAI semantic conventions, https://github.com/open-telemetry/semantic-conventions-genai;
what they have no name for begins with `looopy.`. Only OpenTelemetry's API is used: where the numbers go is the meter's business.

Every attribute has few values, whatever users and models write: no task, no conversation, no user, and no name of a tool that is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.metadata import version
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

from opentelemetry.metrics import MeterProvider, get_meter

from looopy.events import (
    Event,
    Failure,
    InputReceived,
    InputRequired,
    LLMCall,
    LLMResponse,
    LLMRetry,
    StatusUpdate,
    Task,
    TaskState,
    ToolComplete,
    ToolStart,
)
from looopy.observe.outcomes import CANCELED, duration, elapsed, outcome
from looopy.observe.reasons import kind

Attributes: TypeAlias = dict[str, str | int]

CALL_SECONDS = tuple(0.01 * 2**power for power in range(14))
"""The standard buckets of a model call, its first piece, and a tool call: 0.01, 0.02, 0.04, … 81.92 s."""

RUN_SECONDS = tuple(0.1 * 2**power for power in range(13))
"""The standard buckets of an agent's invocation: 0.1, 0.2, 0.4, … 409.6 s."""

TOKENS = tuple(4**power for power in range(14))
"""The standard buckets of tokens: 1, 4, 16, … 67,108,864."""

CALLS = tuple(2**power for power in range(8))
"""The standard buckets of calls in an invocation: 1, 2, 4, … 128."""

_SETS = 1024  # of attributes of each kind, that are remembered
_TORN_DOWN = Failure(type=CANCELED, message="")
_UNEXPLAINED = Failure(type="_OTHER", message="")  # OpenTelemetry's word for an error without a class


class Histogram(Protocol):
    """What is recorded into, as OpenTelemetry's histograms are."""

    def record(self, amount: float, attributes: Attributes) -> object:
        """Record an amount."""
        ...


class Counter(Protocol):
    """What is added to, as OpenTelemetry's counters are."""

    def add(self, amount: float, attributes: Attributes) -> object:
        """Add an amount."""
        ...


class Meter(Protocol):
    """What makes the instruments: one of OpenTelemetry's meters, or `LightMeters`."""

    def create_histogram(
        self, name: str, unit: str, description: str, *, explicit_bucket_boundaries_advisory: Sequence[float]
    ) -> Histogram:
        """Make a histogram with these buckets."""
        ...

    def create_counter(self, name: str, unit: str, description: str) -> Counter:
        """Make a counter of what only grows."""
        ...

    def create_up_down_counter(self, name: str, unit: str, description: str) -> Counter:
        """Make a counter of what grows and shrinks."""
        ...


class Instruments:
    """The instruments, made once; `run` gives what feeds them with the events of one run.

    Args:
        meters: where the numbers go: a meter provider, whose meter `looopy` is taken, or a meter; None for OpenTelemetry's global provider.
    """

    def __init__(self, meters: MeterProvider | Meter | None = None) -> None:
        if meters is None or isinstance(meters, MeterProvider):
            meter: Meter = get_meter("looopy", version("looopy"), meters)
        else:
            meter = meters
        self.call_duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "How long model calls take.",
            explicit_bucket_boundaries_advisory=CALL_SECONDS,
        )
        self.first_chunk = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            "How long model calls take until their first piece.",
            explicit_bucket_boundaries_advisory=CALL_SECONDS,
        )
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Tokens that model calls read and write.",
            explicit_bucket_boundaries_advisory=TOKENS,
        )
        self.tool_duration = meter.create_histogram(
            "gen_ai.execute_tool.duration",
            "s",
            "How long tool calls take, by outcome.",
            explicit_bucket_boundaries_advisory=CALL_SECONDS,
        )
        self.run_duration = meter.create_histogram(
            "gen_ai.invoke_agent.duration",
            "s",
            "How long runs take, by outcome.",
            explicit_bucket_boundaries_advisory=RUN_SECONDS,
        )
        self.model_calls = meter.create_histogram(
            "gen_ai.invoke_agent.inference_calls",
            "{inference_call}",
            "Model calls in a run.",
            explicit_bucket_boundaries_advisory=CALLS,
        )
        self.tool_calls = meter.create_histogram(
            "gen_ai.invoke_agent.tool_calls",
            "{tool_call}",
            "Tool calls in a run.",
            explicit_bucket_boundaries_advisory=CALLS,
        )
        self.retries = meter.create_counter(
            "looopy.llm.retries", "{retry}", "Requests to a model that failed and were followed by another."
        )
        self.active = meter.create_up_down_counter("looopy.runs.active", "{run}", "Runs that are under way.")
        self.cost = meter.create_counter("looopy.cost", "{USD}", "What model calls cost, as far as is known.")

    def run(self, *, agent: str, provider: str, address: str = "", port: int = 0) -> RunMeter:
        """What measures one run.

        Args:
            agent: `gen_ai.agent.name`.
            provider: `gen_ai.provider.name`: one of the conventions' well-known names, or another.
            address: `server.address` of the model; empty where there is none.
            port: `server.port`; told only with an address.
        """
        return RunMeter(self, agent=agent, provider=provider, address=address, port=port)


class RunMeter:
    """One run's numbers: give it each event, and call `end` when the stream is torn down, whether or not it came to its end."""

    __slots__ = (
        "_agent",
        "_asked",
        "_began",
        "_model",
        "_model_calls",
        "_of_agent",
        "_on",
        "_provider",
        "_server",
        "_started",
        "_tool_calls",
    )

    def __init__(
        self, instruments: Instruments, *, agent: str, provider: str, address: str, port: int
    ) -> None:
        self._on = instruments
        self._agent = agent
        self._of_agent = _of_agent(agent)
        self._provider = provider
        self._server = (address, port)
        self._began: datetime | None = None  # None also after the end
        self._asked: datetime | None = None  # when the request that is under way was made
        self._model = ""
        self._started: dict[str, datetime] = {}
        self._model_calls = 0
        self._tool_calls = 0

    def on_event(self, event: Event) -> None:
        """Fold one event in. Pieces change nothing: what they add up to comes again as a whole."""
        fold = self._FOLDS.get(type(event))
        if fold is not None:
            fold(self, event)

    def end(self, when: datetime | None = None) -> None:
        """The stream was torn down, now or then: a run that had not ended counts as canceled. Later calls do nothing."""
        self._over(when or datetime.now(UTC), "canceled", _TORN_DOWN)

    # -- the run

    def _begin(self, event: Event) -> None:
        if self._began is None:
            self._began = event.timestamp
            self._on.active.add(1, self._of_agent)

    def _status(self, event: StatusUpdate) -> None:
        if event.final:
            self._over(event.timestamp, event.status.state, event.error)
        else:
            self._begin(event)

    def _over(self, when: datetime, state: TaskState, error: Failure | None) -> None:
        began, self._began = self._began, None
        if began is None:
            return
        self._unanswered(when, error or _UNEXPLAINED)
        on = self._on
        on.active.add(-1, self._of_agent)
        on.run_duration.record(
            elapsed(began, when), _of_run(self._agent, state, "" if error is None else kind(error))
        )
        on.model_calls.record(self._model_calls, self._of_agent)
        on.tool_calls.record(self._tool_calls, self._of_agent)

    # -- its model calls, request by request

    def _ask(self, event: LLMCall) -> None:
        self._unanswered(event.timestamp, _UNEXPLAINED)
        self._asked, self._model = event.timestamp, event.model

    def _answered(self, event: LLMResponse) -> None:
        asked, on, usage = self._asked, self._on, event.usage
        if asked is None:
            return
        told = _of_answer(self._agent, self._provider, self._server, self._model, event.model)
        if usage is not None:
            on.tokens.record(usage.input_tokens, told.read)
            on.tokens.record(usage.output_tokens, told.written)
        if event.cost is not None:
            on.cost.add(event.cost, told.spent)
        if event.first_token is not None:
            on.first_chunk.record(event.first_token, told.call)
        if event.finish_reason != "interrupted":  # else what comes next says why
            self._over_after(duration(asked, event), told.call)

    def _unanswered(self, when: datetime, error: Failure) -> None:
        """A request that was not answered ends with what came instead."""
        asked, self._asked = self._asked, None
        if asked is not None and asked <= when:  # else it was still waiting to be made
            self._over_after(elapsed(asked, when), self._failed(self._model, error).call)

    def _again(self, event: LLMRetry) -> None:
        self._unanswered(event.timestamp, event.error)
        self._on.retries.add(1, self._failed(event.model or self._model, event.error).retry)
        self._asked = event.timestamp + timedelta(seconds=event.seconds)
        self._model = event.next_model or self._model

    def _over_after(self, seconds: float, attributes: Attributes) -> None:
        self._asked = None
        self._model_calls += 1
        self._on.call_duration.record(seconds, attributes)

    def _failed(self, model: str, error: Failure) -> _OfFailure:
        return _of_failure(self._agent, self._provider, self._server, model, kind(error))

    # -- its tool calls

    def _begin_tool(self, event: ToolStart) -> None:
        self._started[event.call_id] = event.timestamp
        self._tool_calls += 1

    def _end_tool(self, event: ToolComplete) -> None:
        started = self._started.pop(event.call_id, None)
        if started is None:  # it was never taken up: the run ended before
            return
        error, name = event.error, event.tool_name
        if error is not None and error.type == "UnknownTool":  # models make names up without end
            name = "_unknown"
        told = _of_tool(self._agent, name, outcome(error), "" if error is None else kind(error))
        self._on.tool_duration.record(duration(started, event), told)

    def _waits(self, event: InputRequired) -> None:
        started = self._started.pop(event.call_id, None)
        if started is not None:
            told = _of_tool(self._agent, event.tool_name, "input-required", "")
            self._on.tool_duration.record(elapsed(started, event.timestamp), told)

    _FOLDS: ClassVar[Mapping[type, Callable[[Any, Any], None]]] = {
        Task: _begin,
        InputReceived: _begin,
        StatusUpdate: _status,
        LLMCall: _ask,
        LLMRetry: _again,
        LLMResponse: _answered,
        ToolStart: _begin_tool,
        ToolComplete: _end_tool,
        InputRequired: _waits,
    }


# ------------------------------------------------------------------------------------------------------------- attributes
# The same mapping each time: it is found faster than one that is equal.


class _OfAnswer(NamedTuple):
    """The attributes of what an answered request is measured by."""

    call: Attributes
    read: Attributes
    written: Attributes
    spent: Attributes


@lru_cache(_SETS)
def _of_answer(agent: str, provider: str, server: tuple[str, int], model: str, answered_by: str) -> _OfAnswer:
    call = _of_request(provider, server, model)
    if answered_by:
        call["gen_ai.response.model"] = answered_by
    return _OfAnswer(
        call,
        {**call, "gen_ai.token.type": "input"},
        {**call, "gen_ai.token.type": "output"},
        {**call, **_of_agent(agent)},
    )


class _OfFailure(NamedTuple):
    """The attributes of what a failed request is measured by."""

    call: Attributes
    retry: Attributes


@lru_cache(_SETS)
def _of_failure(agent: str, provider: str, server: tuple[str, int], model: str, error: str) -> _OfFailure:
    call = {**_of_request(provider, server, model), "error.type": error}
    return _OfFailure(call, {**call, **_of_agent(agent)})


def _of_request(provider: str, server: tuple[str, int], model: str) -> Attributes:
    address, port = server
    told: Attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": provider}
    if address:
        told |= {"server.address": address, "server.port": port}
    if model:
        told["gen_ai.request.model"] = model
    return told


@lru_cache(_SETS)
def _of_agent(agent: str) -> Attributes:
    return {"gen_ai.agent.name": agent}


@lru_cache(_SETS)
def _of_run(agent: str, ended: str, error: str) -> Attributes:
    return _of("invoke_agent", agent, {}, ended, error)


@lru_cache(_SETS)
def _of_tool(agent: str, tool: str, ended: str, error: str) -> Attributes:
    return _of("execute_tool", agent, {"gen_ai.tool.name": tool}, ended, error)


def _of(operation: str, agent: str, more: Attributes, ended: str, error: str) -> Attributes:
    told: Attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.agent.name": agent,
        **more,
        "looopy.outcome": ended,
    }
    return told | {"error.type": error} if error else told
