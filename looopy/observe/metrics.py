"""Metrics of runs: a fold of each run's events into OpenTelemetry instruments.

The names, units, buckets and attributes are those of the GenAI semantic conventions, https://github.com/open-telemetry/semantic-conventions-genai;
what they have no name for begins with `looopy.`. Only OpenTelemetry's API is used: where the numbers go is the meter's business.

Every attribute has few values, whatever users and models write: no task, no conversation, no user, and no name of a tool that is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Protocol, TypeAlias

from opentelemetry.metrics import MeterProvider, get_meter

from looopy.events import (
    ContentDelta,
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
    ThoughtDelta,
    ToolCallDelta,
    ToolComplete,
    ToolProgress,
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
        "_chat",
        "_model",
        "_model_calls",
        "_on",
        "_started",
        "_tool_calls",
    )

    def __init__(
        self, instruments: Instruments, *, agent: str, provider: str, address: str, port: int
    ) -> None:
        self._on = instruments
        self._agent: Attributes = {"gen_ai.agent.name": agent}
        self._chat: Attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": provider}
        if address:
            self._chat |= {"server.address": address, "server.port": port}
        self._began: datetime | None = None  # None also after the end
        self._asked: datetime | None = None  # when the request that is under way was made
        self._model = ""
        self._started: dict[str, datetime] = {}
        self._model_calls = 0
        self._tool_calls = 0

    def on_event(self, event: Event) -> None:
        """Fold one event in. Pieces change nothing: what they add up to comes again as a whole."""
        match event:
            case ContentDelta() | ThoughtDelta() | ToolCallDelta() | ToolProgress():
                pass  # first, since there are thousands
            case LLMCall():
                self._unanswered(event.timestamp, _UNEXPLAINED)
                self._asked, self._model = event.timestamp, event.model
            case LLMRetry():
                self._again(event)
            case LLMResponse():
                self._answered(event)
            case ToolStart():
                self._started[event.call_id] = event.timestamp
                self._tool_calls += 1
            case ToolComplete() | InputRequired():
                self._tool_over(event)
            case StatusUpdate(final=True):
                self._over(event.timestamp, event.status.state, event.error)
            case Task() | InputReceived() | StatusUpdate():
                self._begin(event.timestamp)
            case _:
                pass

    def end(self) -> None:
        """The stream is torn down: a run that has not ended by then counts as canceled. Later calls do nothing."""
        self._over(datetime.now(UTC), "canceled", _TORN_DOWN)

    # -- the run

    def _begin(self, when: datetime) -> None:
        if self._began is None:
            self._began = when
            self._on.active.add(1, self._agent)

    def _over(self, when: datetime, state: TaskState, error: Failure | None) -> None:
        began, self._began = self._began, None
        if began is None:
            return
        self._unanswered(when, error or _UNEXPLAINED)
        attributes: Attributes = {
            "gen_ai.operation.name": "invoke_agent",
            **self._agent,
            "looopy.outcome": state,
        }
        if error is not None:
            attributes["error.type"] = kind(error)
        self._on.active.add(-1, self._agent)
        self._on.run_duration.record(elapsed(began, when), attributes)
        self._on.model_calls.record(self._model_calls, self._agent)
        self._on.tool_calls.record(self._tool_calls, self._agent)

    # -- its model calls, request by request

    def _answered(self, event: LLMResponse) -> None:
        asked, on = self._asked, self._on
        if asked is None:
            return
        attributes = self._request(self._model)
        if event.model:
            attributes["gen_ai.response.model"] = event.model
        if event.usage is not None:
            on.tokens.record(event.usage.input_tokens, {**attributes, "gen_ai.token.type": "input"})
            on.tokens.record(event.usage.output_tokens, {**attributes, "gen_ai.token.type": "output"})
        if event.cost is not None:
            on.cost.add(event.cost, {**attributes, **self._agent})
        if event.first_token is not None:
            on.first_chunk.record(event.first_token, attributes)
        if event.finish_reason != "interrupted":  # else what comes next says why
            self._over_after(duration(asked, event), attributes)

    def _unanswered(self, when: datetime, error: Failure) -> None:
        """A request that was not answered ends with what came instead."""
        asked, self._asked = self._asked, None
        if asked is not None and asked <= when:  # else it was still waiting to be made
            attributes = self._request(self._model)
            attributes["error.type"] = kind(error)
            self._over_after(elapsed(asked, when), attributes)

    def _again(self, event: LLMRetry) -> None:
        self._unanswered(event.timestamp, event.error)
        failed = {**self._request(event.model or self._model), **self._agent, "error.type": kind(event.error)}
        self._on.retries.add(1, failed)
        self._asked = event.timestamp + timedelta(seconds=event.seconds)
        self._model = event.next_model or self._model

    def _over_after(self, seconds: float, attributes: Attributes) -> None:
        self._asked = None
        self._model_calls += 1
        self._on.call_duration.record(seconds, attributes)

    def _request(self, model: str) -> Attributes:
        return {**self._chat, "gen_ai.request.model": model} if model else {**self._chat}

    # -- its tool calls

    def _tool_over(self, event: ToolComplete | InputRequired) -> None:
        started = self._started.pop(event.call_id, None)
        if started is None:  # it was never taken up: the run ended before
            return
        attributes: Attributes = {
            "gen_ai.operation.name": "execute_tool",
            **self._agent,
            "gen_ai.tool.name": event.tool_name,
        }
        if isinstance(event, InputRequired):
            seconds = elapsed(started, event.timestamp)
            attributes["looopy.outcome"] = "input-required"
        else:
            seconds = duration(started, event)
            attributes["looopy.outcome"] = outcome(event.error)
            if event.error is not None:
                attributes["error.type"] = kind(event.error)
                if event.error.type == "UnknownTool":  # models make names up without end
                    attributes["gen_ai.tool.name"] = "_unknown"
        self._on.tool_duration.record(seconds, attributes)
